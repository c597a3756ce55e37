package seat

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/disclosure"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// BenchmarkFollow is the operator's log and four validators behind their feeds, all on this machine, until entries are durable with all five:
// bindings, and credits with their claims, of which each validator checks all rules and the snapshots' signatures. Groth16 is left out: it is
// package proof's benchmark, and on one machine four validators do it four times. Of a machine that does other things too, the CPU time tells more.
func BenchmarkFollow(b *testing.B) {
	b.Run("bindings", func(b *testing.B) {
		follow(b, func(c *court, n int) disclosure.Entry { return c.bind(fmt.Sprint("car", n)) })
	})
	const cars = 256
	b.Run("credits", func(b *testing.B) {
		follow(b, func(c *court, n int) disclosure.Entry {
			account := fmt.Sprint("car", n%cars)
			if n < cars {
				return c.bind(account)
			}
			e := c.earn(account, 1)
			m, err := wire.DecodeClaim(e.Claim)
			c.must(err)
			c.cars[account].last = m.To
			return e
		})
	})
}

func follow(b *testing.B, next func(*court, int) disclosure.Entry) {
	const entries, appended = 16 * disclosure.MaxBatch, 4 * disclosure.MaxBatch
	var took time.Duration
	var cpu int64
	for b.Loop() {
		b.StopTimer()
		c := begun(b)
		for i := range c.seats {
			c.must(c.bring(i, c.told))
		}
		from := len(c.told.entries)
		var texts [][]byte
		var list []ledger.Entry
		for n := range entries {
			e := next(c, n)
			e.Number = uint64(from + n)
			c.told.entries = append(c.told.entries, e)
			l := e.Ledger()
			text, err := l.Encode()
			c.must(err)
			texts, list = append(texts, text), append(list, l)
		}
		b.StartTimer()
		begin, used := time.Now(), cpuTime()
		group, ctx := errgroup.WithContext(context.Background())
		group.Go(func() error {
			for at := 0; at < entries; at += appended {
				if err := c.told.log.Append(ctx, uint64(from+at), texts[at:at+appended]...); err != nil {
					return err
				}
			}
			return nil
		})
		for i := range c.clients {
			group.Go(func() error {
				for at := 0; at < entries; at += disclosure.MaxBatch {
					if err := c.clients[i].Follow(ctx, list[at:at+disclosure.MaxBatch]...); err != nil {
						return err
					}
				}
				_, err := c.clients[i].Gossip(ctx) // waits until all is on disk
				return err
			})
		}
		c.must(group.Wait())
		took, cpu = took+time.Since(begin), cpu+cpuTime()-used
	}
	done := float64(b.N) * entries
	b.ReportMetric(done/took.Seconds(), "entries/s")
	b.ReportMetric(float64(cpu)/done, "cpu-µs/entry")
}

// cpuTime is what the process has used, in microseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it has no way to fail
	return (u.Utime.Sec+u.Stime.Sec)*1e6 + u.Utime.Usec + u.Stime.Usec
}
