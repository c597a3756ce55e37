package fleet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rawstone/firmware-sim/internal/fleet/internal/player"
	"rawstone/pkg/wire"
)

// Files of a fleet's directory that say what came of it.
const (
	receiptsFile = "receipts"
	resultFile   = "result.json"
	truthFile    = "truth.json"

	flushEvery = time.Second
)

// A Result says what came of one run.
type Result struct {
	Vehicles    int `json:"vehicles"`
	Days        int `json:"days"`
	Connections int `json:"connections"`
	// Rate is the claims a second asked for; 0 means flat out.
	Rate float64 `json:"rate"`
	// Accepted and Refused count this run's receipts, Earlier those that runs before it got. Repeated counts claims sent once more.
	Accepted int                 `json:"accepted"`
	Earlier  int                 `json:"earlier"`
	Refused  map[wire.Reason]int `json:"refused"`
	Repeated int                 `json:"repeated"`
	// Unanswered counts claims without a receipt, Wrong receipts that do not verify or credit something else than was proven.
	Unanswered int `json:"unanswered"`
	Wrong      int `json:"wrong"`
	// Cut counts connections that failed.
	Cut int `json:"cut"`
	// Seconds is from the first publication, once the first vehicles were connected, to the last receipt.
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"claims_per_s"`
	P50MS     float64 `json:"receipt_p50_ms"`
	P99MS     float64 `json:"receipt_p99_ms"`
	// CPUSeconds is what this process took in that time.
	CPUSeconds float64 `json:"generator_cpu_s"`

	latencies []time.Duration
	last      time.Time
	problem   error // the last one of a connection or receipt
}

// note counts an event.
func (r *Result) note(e player.Event) {
	if e.Err != nil {
		r.problem = e.Err
	}
	switch e.Outcome {
	case player.Accepted, player.Refused:
		r.latencies, r.last = append(r.latencies, e.Took), time.Now()
		if e.Outcome == player.Accepted {
			r.Accepted++
		} else {
			r.Refused[e.Reason]++
		}
	case player.Repeated:
		r.Repeated++
	case player.Cut:
		r.Cut++
	case player.Wrong:
		r.Wrong++
	}
}

// finish computes the rates.
func (r *Result) finish(began time.Time) {
	if n := len(r.latencies); n > 0 {
		slices.Sort(r.latencies)
		ms := func(at float64) float64 { return float64(r.latencies[int(at*float64(n-1))].Microseconds()) / 1000 }
		r.P50MS, r.P99MS = ms(0.5), ms(0.99)
		r.Seconds = r.last.Sub(began).Seconds()
		r.PerSecond = float64(n) / r.Seconds
	}
}

// print tells the result to people.
func (r *Result) print(w io.Writer) {
	refused := 0
	var why []string
	for _, reason := range slices.Sorted(maps.Keys(r.Refused)) {
		refused += r.Refused[reason]
		why = append(why, fmt.Sprintf("%s %d", reason, r.Refused[reason]))
	}
	fmt.Fprintf(w, "accepted %d (%d before), refused %d", r.Accepted, r.Earlier, refused)
	if refused > 0 {
		fmt.Fprintf(w, " (%s)", strings.Join(why, ", "))
	}
	fmt.Fprintf(w, ", repeated %d, unanswered %d, wrong %d; connections cut %d\n", r.Repeated, r.Unanswered, r.Wrong, r.Cut)
	fmt.Fprintf(w, "%.0f claims/s in %.1f s; receipt p50 %.0f ms, p99 %.0f ms; this process took %.1f s of CPU\n", r.PerSecond, r.Seconds, r.P50MS, r.P99MS, r.CPUSeconds)
}

// err says what is not as it must be: every claim of a fleet is good.
func (r *Result) err() error {
	switch {
	case r.Wrong > 0:
		return fmt.Errorf("%d receipts are wrong; the last one: %w", r.Wrong, r.problem)
	case len(r.Refused) > 0:
		return errors.New("good claims were refused; the reasons are above")
	case r.Unanswered > 0:
		return errors.Join(fmt.Errorf("%d claims have no receipt: run the same command again", r.Unanswered), r.problem)
	}
	return nil
}

// cpu returns the CPU time that this process has taken.
func cpu() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// A receipts file holds a line `VEHICLE KM` for each claim with an accepting receipt; those of a vehicle are in the order of its claims.
type receipts struct {
	f       *os.File
	w       *bufio.Writer
	flushed time.Time
}

// openReceipts reads what vehicles hold receipts for, in km, and opens the file for more. A last line that was cut off does not count: its
// claim is sent again.
func (r *run) openReceipts() (held [][]uint32, _ *receipts, err error) {
	f, err := os.OpenFile(r.path(receiptsFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot keep receipts: %w", err)
	}
	held, whole := make([][]uint32, r.roster.N), int64(0)
	for in := bufio.NewReader(f); ; {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("cannot read receipts: %w", err), f.Close())
		}
		i, km, ok := r.receipt(line)
		if !ok || i < r.roster.N && (len(held[i]) == r.roster.Days || km != r.roster.Km(i, len(held[i]))) {
			return nil, nil, errors.Join(fmt.Errorf("cannot read receipts: %s is spoilt: restore it or give another --dir", f.Name()), f.Close())
		}
		if i < r.roster.N {
			held[i] = append(held[i], km)
		}
		whole += int64(len(line))
	}
	if err = f.Truncate(whole); err == nil {
		_, err = f.Seek(whole, io.SeekStart)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot keep receipts: %w", err), f.Close())
	}
	return held, &receipts{f: f, w: bufio.NewWriter(f)}, nil
}

func (r *run) receipt(line string) (i int, km uint32, ok bool) {
	a, b, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	i, err := strconv.Atoi(a)
	n, err2 := strconv.ParseUint(b, 10, 32)
	return i, uint32(n), ok && err == nil && err2 == nil && i >= 0
}

// add keeps one; whoever kills this process loses those of the last second, and gets them again. close reports what failed.
func (r *receipts) add(vehicle int, km uint32) {
	fmt.Fprintf(r.w, "%d %d\n", vehicle, km)
	if time.Since(r.flushed) > flushEvery {
		_ = r.w.Flush()
		r.flushed = time.Now()
	}
}

func (r *receipts) close() error {
	if err := errors.Join(r.w.Flush(), r.f.Sync(), r.f.Close()); err != nil {
		return fmt.Errorf("cannot keep receipts: %w", err)
	}
	return nil
}

// A Truth is what a vehicle holds receipts for.
type Truth struct {
	Km     uint64 `json:"km"`
	Claims int    `json:"claims"`
}

// write writes the result and the truth.
func (r *run) write(result *Result, held [][]uint32) error {
	truth := make(map[string]Truth, r.roster.N)
	for i, all := range held {
		t := Truth{Claims: len(all)}
		for _, km := range all {
			t.Km += uint64(km)
		}
		truth[r.roster.Name(i)] = t
	}
	return errors.Join(r.roster.Keep(resultFile, result), r.roster.Keep(truthFile, truth))
}
