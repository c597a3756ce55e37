package evidence

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"rawstone/collector/internal/policy"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Explain writes what a claim says and what it does not reveal. Policies put its tiers into words; nothing is checked.
func Explain(w io.Writer, m *wire.Claim, policies []*terms.Policy) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	var t strings.Builder
	fmt.Fprintf(&t, "Claim %s, %d bytes.\n\nIt says:\n", wire.ID(b), len(b))
	between := fmt.Sprintf("%d other snapshots lie", m.To.Seq-m.From.Seq-1)
	if m.To.Seq-m.From.Seq == 2 {
		between = "1 other snapshot lies"
	}
	if from, whole := m.From.Snapshot(); whole {
		fmt.Fprintf(&t, "- ECU key %s signed snapshot %d on program day %d and snapshot %d on program day %d. At most %s between them; the span is %s.\n",
			m.ECU, from.Seq, from.Day, m.To.Seq, m.To.Day, between, days(m.To.Day-from.Day))
	} else {
		fmt.Fprintf(&t, "- ECU key %s signed snapshot %d on program day %d. The span begins with snapshot %d, which the collector has; at most %s between them.\n",
			m.ECU, m.To.Seq, m.To.Day, m.From.Seq, between)
	}
	if m.Forfeit {
		t.WriteString("- What lies between the last credited snapshot and the first one is given up.\n")
	}
	secrets := "- the value of any counter, or by how much it grew, beyond what is said above;\n"
	for _, p := range m.Proofs {
		i := slices.IndexFunc(policies, func(q *terms.Policy) bool { return q.Serial == p.Policy })
		if i < 0 {
			fmt.Fprintf(&t, "- Between the two, the counters grew as tier %d of policy %d asks; give that policy to see what it is.\n", p.Tier, p.Policy)
			continue
		}
		doc, tier := policies[i], int(p.Tier)
		if tier >= len(doc.Tiers) {
			fmt.Fprintf(&t, "- It names tier %d of policy %d, which has none such: no collector accepts it.\n", tier, p.Policy)
			continue
		}
		fmt.Fprintf(&t, "- Between the two, under policy %d (%s), tier %d:\n", doc.Serial, doc.Kind, tier)
		var asks []string
		for _, r := range slices.Concat(doc.Tiers[tier].Rows, doc.Rows) {
			asks = append(asks, policy.Words(r))
		}
		if km := doc.Tiers[tier].Km; km > 0 {
			asks = append(asks, fmt.Sprintf("worth %d km, at most %d for each day of the span", km, doc.CapKm))
			if tier+1 < len(doc.Tiers) {
				secrets += fmt.Sprintf("- the distance: it is %d km or more. An agent claims the highest tier it reaches, so it is likely below %d km;\n",
					km, doc.Tiers[tier+1].Km)
			} else {
				secrets += fmt.Sprintf("- the distance: it is %d km or more;\n", km)
			}
		}
		fmt.Fprintf(&t, "  - %s.\n", strings.Join(asks, ";\n  - "))
	}
	t.WriteString("\nIt does not reveal:\n" + secrets +
		"- where the car was and who drove it: no counter holds that;\n" +
		"- on which of these days, at what hours and how fast it was driven;\n" +
		"- the vehicle and its owner: only the registry says whose ECU key this is.\n" +
		"\nIts ECU key is the same in all claims of that ECU: whoever has several can tell that they belong together.\n")
	_, err = io.WriteString(w, t.String())
	return err
}

func days(n uint32) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}
