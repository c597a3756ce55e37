package dashboard

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"rawstone/collector/internal/deadletter"
	"rawstone/pkg/wire"
)

func functions() template.FuncMap {
	return template.FuncMap{
		"count":  count,
		"stones": stones,
		"share":  share,
		"bar":    bar,
		"reason": reason,
		"letter": letter,
		"title":  Title,
		"unit":   unit,
		"value":  value,
		"label":  Label,
		"short":  func(h wire.Hash) string { return h.String()[:12] },
		"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05") },
		"iso":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"stamp":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") },
		"number": func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) },
	}
}

// count groups the digits of any integer by thin spaces, as ISO 80000-1 writes them.
func count(v any) string {
	s := fmt.Sprint(v)
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "−", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return sign + s
}

// stones writes milli-stones as stones.
func stones(milli uint64) string {
	s := count(milli / 1000)
	if frac := milli % 1000; frac != 0 {
		s += strings.TrimRight(fmt.Sprintf(".%03d", frac), "0")
	}
	return s
}

// share is part of whole in per cent, with enough digits to show something for a small part.
func share(part, whole uint64) string {
	if whole == 0 {
		return "0 %"
	}
	p := 100 * float64(part) / float64(whole)
	digits := 1
	if p > 0 && p < 0.1 {
		digits = int(math.Ceil(-math.Log10(p))) + 1
	}
	return strconv.FormatFloat(p, 'f', digits, 64) + " %"
}

// A barShape is one bar of a chart with its interval, in the units of a 100 wide drawing.
type barShape struct{ Width, Low, Span float64 }

// bar scales an estimate to the largest upper end of its chart; noise below zero is drawn as zero.
func bar(f Family, b Bin) barShape {
	top := 0.0
	for _, x := range f.Bins {
		if x.Suppressed == "" {
			top = max(top, x.High)
		}
	}
	if top <= 0 {
		return barShape{}
	}
	at := func(v float64) float64 { return 100 * max(v, 0) / top }
	return barShape{Width: at(b.Mean), Low: at(b.Low), Span: at(b.High) - at(b.Low)}
}

// reason says a refusal in words.
func reason(r wire.Reason) string {
	switch r {
	case wire.ReasonMalformed:
		return "not a valid message"
	case wire.ReasonUnknownVehicle:
		return "vehicle is not registered"
	case wire.ReasonUnknownKey:
		return "ECU key is not bound to the vehicle"
	case wire.ReasonRevoked:
		return "ECU key is revoked"
	case wire.ReasonSignature:
		return "signature does not hold"
	case wire.ReasonProof:
		return "proof does not hold"
	case wire.ReasonGap:
		return "claim begins beyond the head, or lies across a sale of the car"
	case wire.ReasonStale:
		return "claim begins before the head"
	case wire.ReasonFuture:
		return "claim ends more than a day ahead"
	case wire.ReasonPolicy:
		return "no such policy in force"
	case wire.ReasonCharter:
		return "report is not under the charter in force"
	case wire.ReasonEpoch:
		return "vehicle has already reported for that day"
	case wire.ReasonBudget:
		return "vehicle's privacy budget was rolled back"
	}
	return string(r)
}

// letter says in words why a message was set aside.
func letter(r deadletter.Reason) string {
	switch r {
	case deadletter.TooLarge:
		return "longer than a submission may be"
	case deadletter.NoVehicle:
		return "on a subject that no vehicle has"
	case deadletter.Unchecked:
		return "its check failed again and again"
	case deadletter.Undecided:
		return "its decision failed again and again"
	}
	return string(r)
}

// Title names a chart.
func Title(f wire.Family) string {
	switch f {
	case wire.FamilyHours:
		return "In use by hour of the day"
	case wire.FamilySpeed:
		return "In use by speed"
	case wire.FamilyTrips:
		return "Trips by length"
	case wire.FamilyCharge:
		return "Charging by state of charge"
	case wire.FamilyFeature:
		return "Use of features"
	}
	return "Unknown"
}

// Unit is what a family's values count.
func Unit(f wire.Family) string {
	if f == wire.FamilyTrips {
		return "trips"
	}
	return "minutes"
}

// unit is what a chart's bins are.
func unit(f Family) string {
	counted := Unit(f.Family)
	switch {
	case f.Categorical:
		return "share of dispatches in which this was the most"
	case f.Measure == Share:
		return "share of all " + counted
	case f.Measure == Total:
		return counted + " of all vehicles that reported, in the whole window"
	}
	return counted + " per vehicle and dispatch, mean"
}

// value writes an estimate of a measure.
func value(m Measure, v float64) string {
	switch m {
	case Share:
		return strconv.FormatFloat(100*v, 'f', 1, 64) + " %"
	case Total:
		return count(int64(math.Round(v)))
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// Label names bin i of a family as the agent cuts its bins; the one behind the last is for none.
func Label(f wire.Family, i int) string {
	for _, l := range wire.Layouts() {
		if l.Family == f && i >= l.Len {
			return "none at all"
		}
	}
	names := []string{}
	switch f {
	case wire.FamilyHours:
		return fmt.Sprintf("%02d:00", i)
	case wire.FamilyCharge:
		return fmt.Sprintf("%d–%d %%", 10*i, 10*i+10)
	case wire.FamilySpeed:
		names = []string{"standing", "1–10 km/h", "10–30", "30–50", "50–70", "70–90", "90–110", "110–130", "130–160", "above 160"}
	case wire.FamilyTrips:
		names = []string{"under 1 km", "1–2 km", "2–5", "5–10", "10–20", "20–35", "35–50", "50–100", "100–200", "above 200"}
	case wire.FamilyFeature:
		names = []string{"driver assistance"}
	}
	if i >= len(names) {
		return fmt.Sprintf("reserved %d", i)
	}
	return names[i]
}
