package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func spell(rows []wire.Row) (out []Row) {
	for _, r := range rows {
		s := Row{Counters: make(map[string]int32), AtLeast: r.B}
		for i, name := range wire.CounterNames() {
			if r.A[i] != 0 {
				s.Counters[name] = r.A[i]
			}
		}
		out = append(out, s)
	}
	return out
}

// WriteYAML writes the document as a source with what it asks in comments. Built again for the same program and keys, the text gives
// the same policy.
func (d *Document) WriteYAML(w io.Writer) error {
	var b strings.Builder
	p := d.Policy
	if d.Signer != nil {
		fmt.Fprintf(&b, "# Signed, it says, by key %s: `collector policy verify` checks that.\n", d.Signer)
	} else {
		b.WriteString("# Not signed.\n")
	}
	fmt.Fprintf(&b, "# program:       %s\n# circuit:       %s\n# proving key:   %s\n# verifying key: %s\n# lock:          %s\n",
		p.Program, p.Circuit, p.ProvingKey, p.VerifyingKey, p.Lock)
	fmt.Fprintf(&b, "kind: %s\nserial: %d\nfrom_day: %d\nto_day: %d\ncap_km_per_day: %d\n", p.Kind, p.Serial, p.FromDay, p.ToDay, p.CapKm)
	if p.MinAgent != "" {
		fmt.Fprintf(&b, "min_agent: %q\n", p.MinAgent)
	}
	if p.Stop {
		b.WriteString("# No claims of the kind are made on these days.\nstop: true\n")
	}
	if len(p.Rows) > 0 {
		b.WriteString("# Every tier asks:\n")
		writeRows(&b, "", p.Rows)
	}
	// A mileage tier's first row is its distance.
	if p.Kind == terms.KindMileage && !slices.ContainsFunc(p.Tiers, func(t terms.Tier) bool { return len(t.Rows) > 1 }) {
		var km []string
		for i, t := range p.Tiers {
			fmt.Fprintf(&b, "# tier %d: %s\n", i, Words(t.Rows[0]))
			km = append(km, strconv.Itoa(int(t.Km)))
		}
		fmt.Fprintf(&b, "tiers_km: [%s]\n", strings.Join(km, ", "))
	} else {
		b.WriteString("tiers:\n")
		for i, t := range p.Tiers {
			fmt.Fprintf(&b, "  # tier %d\n", i)
			rows := t.Rows
			if t.Km > 0 {
				fmt.Fprintf(&b, "  - km: %d # %s\n", t.Km, Words(rows[0]))
				rows = rows[1:]
			} else {
				b.WriteString("  -\n")
			}
			writeRows(&b, "    ", rows)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeRows(b *strings.Builder, indent string, rows []wire.Row) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "%srows:\n", indent)
	for _, r := range rows {
		var terms []string
		for i, name := range wire.CounterNames() {
			if r.A[i] != 0 {
				terms = append(terms, fmt.Sprintf("%s: %d", name, r.A[i]))
			}
		}
		fmt.Fprintf(b, "%s  # %s\n%s  - {counters: {%s}, at_least: %d}\n", indent, Words(r), indent, strings.Join(terms, ", "), r.B)
	}
}

// The JSON form spells rows as the source does, each with its words.
type (
	shown struct {
		Program      string      `json:"program"`
		Serial       uint16      `json:"serial"`
		Kind         string      `json:"kind"`
		FromDay      uint32      `json:"from_day"`
		ToDay        uint32      `json:"to_day"`
		Circuit      string      `json:"circuit"`
		ProvingKey   string      `json:"proving_key"`
		VerifyingKey string      `json:"verifying_key"`
		Lock         string      `json:"lock"`
		CapKm        uint32      `json:"cap_km_per_day"`
		MinAgent     string      `json:"min_agent,omitempty"`
		Stop         bool        `json:"stop,omitempty"`
		Rows         []shownRow  `json:"rows"`
		Tiers        []shownTier `json:"tiers"`
		// Signer is who the file says signed it.
		Signer string `json:"unverified_signer,omitempty"`
	}
	shownTier struct {
		Km   uint32     `json:"km,omitempty"`
		Rows []shownRow `json:"rows"`
	}
	shownRow struct {
		Row
		Words string `json:"words"`
	}
)

// MarshalJSON spells out everything that the document holds.
func (d *Document) MarshalJSON() ([]byte, error) {
	p := d.Policy
	s := shown{
		Program: p.Program.String(), Serial: p.Serial, Kind: p.Kind, FromDay: p.FromDay, ToDay: p.ToDay,
		Circuit: p.Circuit.String(), ProvingKey: p.ProvingKey.String(), VerifyingKey: p.VerifyingKey.String(), Lock: p.Lock.String(),
		CapKm: p.CapKm, MinAgent: p.MinAgent, Stop: p.Stop, Rows: show(p.Rows),
	}
	if d.Signer != nil {
		s.Signer = d.Signer.String()
	}
	for _, t := range p.Tiers {
		s.Tiers = append(s.Tiers, shownTier{t.Km, show(t.Rows)})
	}
	return json.Marshal(s)
}

func show(rows []wire.Row) []shownRow {
	out := make([]shownRow, 0, len(rows)) // an empty list in JSON too
	for i, r := range spell(rows) {
		out = append(out, shownRow{r, Words(rows[i])})
	}
	return out
}
