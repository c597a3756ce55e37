package overview

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/dashboard"
	"rawstone/pkg/dp"
	"rawstone/pkg/wire"
)

func TestChart(t *testing.T) {
	few, wide := dp.Estimate{Suppressed: dp.FewReports}, dp.Estimate{Suppressed: dp.WideError}
	shown := dp.Estimate{Mean: 2, Low: 1, High: 3}
	layout := wire.Layouts()[0]
	got := chart(analytics.Family{Layout: layout, N: 12, Bins: []analytics.Bin{{Estimate: few}, {Estimate: few}}})
	if got.Suppressed != string(dp.FewReports) || got.Reports != 12 || got.Family != wire.FamilyHours {
		t.Errorf("a chart without a bin to show: %+v", got)
	}
	got = chart(analytics.Family{Layout: layout, N: 1200, Bins: []analytics.Bin{{Estimate: wide}, {Estimate: shown, Bias: -1}}})
	want := dashboard.Family{Family: wire.FamilyHours, Reports: 1200, Bins: []dashboard.Bin{
		{Suppressed: string(dp.WideError)}, {Mean: 2, Low: 1, High: 3, Bias: -1},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
