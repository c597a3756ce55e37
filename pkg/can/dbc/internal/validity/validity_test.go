package validity

import (
	"math"
	"testing"
)

func TestSaysAbsent(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"SNA", "DI_GEAR_SNA", "GenSigSNA", "sna ", "N/A", "NA", "n.a.", "Not available", "NOT_AVAILABLE",
		"NotAvailable_13", "signal not available", "Unavailable", "Temporarily Unavailable", "Invalid", "Signal_Invalid", "not valid", "TqNotAvail"} {
		if !SaysAbsent(text) {
			t.Errorf("%q does not say that there is no value", text)
		}
	}
	for _, text := range []string{"", "Valid", "Available", "Invalid_Request", "ok", "Undefined", "off", "snapshot", "DNA", "0", "Fault"} {
		if SaysAbsent(text) {
			t.Errorf("%q says that there is no value", text)
		}
	}
}

func TestNotFinite(t *testing.T) {
	t.Parallel()
	for _, s := range []Signal{{Length: 64, Scale: 1}, {Length: 32, Float: true, Scale: 1}} {
		r := New(s)
		if !r.Allows(0, 0) || r.Allows(0, math.Inf(1)) || r.Allows(0, math.NaN()) {
			t.Errorf("%+v allows what is not finite, or not 0", s)
		}
	}
}
