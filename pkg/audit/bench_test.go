package audit

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"rawstone/pkg/ledger"
)

// BenchmarkAudit replays 20,000 credits of 200 accounts and 40 blocks of four drops a day, with openings, on one core. It reports credits
// a second and blocks a second, each over the time of its own entries; what seals a day counts as its blocks'.
func BenchmarkAudit(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const accounts, credits, blocks = 200, 20_000, 40
	a := newAuthor(b, 4, 3)
	for i := range accounts {
		a.bind(fmt.Sprintf("account%d", i))
	}
	for i := range credits {
		a.credit(fmt.Sprintf("account%d", i%accounts), 40, 3)
	}
	a.until(ledger.TypeBlock, blocks)
	spent := make(map[bool]time.Duration)
	var count struct{ credits, blocks float64 }
	for b.Loop() {
		r, err := NewReplay(a.rootKey(), a.openings)
		a.must(err)
		start := time.Now()
		for i, e := range a.entries {
			a.must(r.Apply(e))
			if credit := e.Type == ledger.TypeCredit; i+1 == len(a.entries) || credit != (a.entries[i+1].Type == ledger.TypeCredit) {
				now := time.Now()
				spent[credit] += now.Sub(start)
				start = now
			}
		}
		count.credits += float64(r.Report().Credits)
		count.blocks += float64(r.Report().Blocks)
	}
	b.ReportMetric(count.credits/spent[true].Seconds(), "credits/s")
	b.ReportMetric(count.blocks/spent[false].Seconds(), "blocks/s")
}
