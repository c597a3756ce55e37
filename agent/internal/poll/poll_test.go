package poll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/can/obd"
)

// a vehicle answers requests; what it was asked for is written down with the time since the test began.
type vehicle struct {
	*Poller
	asked  []string
	log    bytes.Buffer
	answer func(request int) // called when asked, nil for silence
}

// drive runs a Poller in a bubble of fake time for so long.
func drive(t *testing.T, cfg Config, length time.Duration, setup func(v *vehicle)) *vehicle {
	t.Helper()
	v := &vehicle{}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		cfg.Ask = func(_ context.Context, i int) error {
			v.asked = append(v.asked, fmt.Sprintf("%v %s", time.Since(start), cfg.Requests[i].Name))
			if v.answer != nil {
				v.answer(i)
			}
			return nil
		}
		cfg.Logger = slog.New(slog.NewTextHandler(&v.log, nil))
		var err error
		if v.Poller, err = New(cfg); err != nil {
			t.Fatal(err)
		}
		setup(v)
		ctx, cancel := context.WithTimeout(t.Context(), length)
		defer cancel()
		if err := v.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("run: %v", err)
		}
		time.Sleep(10 * time.Minute) // for answers that are still under way
	})
	return v
}

func check(t *testing.T, v *vehicle, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, v.asked); d != "" {
		t.Error(d)
	}
}

var speed = []Request{{Name: "speed", Every: 2 * time.Second, Motion: true}}

func TestCadence(t *testing.T) {
	t.Parallel()
	v := drive(t, Config{Requests: []Request{{"speed", time.Second, true}, {"odometer", 2500 * time.Millisecond, true}}}, 5500*time.Millisecond, func(v *vehicle) {
		v.answer = func(i int) { v.Answered(i, 0) }
	})
	check(t, v, "0s speed", "0s odometer", "1s speed", "2s speed", "2.5s odometer", "3s speed", "4s speed", "5s speed", "5s odometer")
}

func TestSilentECU(t *testing.T) {
	t.Parallel()
	// One second of waiting each time, then 2, 4, 8, 16, 20, 20 s. The answer in the end brings back the old pace.
	n := 0
	v := drive(t, Config{Requests: speed, MaxBackoff: 20 * time.Second}, 80*time.Second, func(v *vehicle) {
		v.answer = func(i int) {
			if n++; n == 7 {
				v.Answered(i, 0)
			}
		}
	})
	check(t, v, "0s speed", "3s speed", "8s speed", "17s speed", "34s speed", "55s speed", "1m16s speed", "1m18s speed")
}

// An answer to another's question, too late or unasked for, counts.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	v := drive(t, Config{Requests: speed}, 6*time.Second, func(v *vehicle) {
		v.answer = func(i int) { v.Answered(i, 0) }
		go func() {
			time.Sleep(1500 * time.Millisecond)
			v.Answered(0, 0)
			v.Answered(7, 0)
		}()
	})
	check(t, v, "0s speed", "3.5s speed", "5.5s speed")
}

func TestRequestOutOfRange(t *testing.T) {
	t.Parallel()
	v := drive(t, Config{Requests: speed, ParkAfter: 1000 * time.Hour}, 49*time.Hour, func(v *vehicle) {
		v.answer = func(i int) { v.Answered(i, obd.RequestOutOfRange) }
	})
	check(t, v, "0s speed", "24h0m0s speed", "48h0m0s speed")
	if n := strings.Count(v.log.String(), "requestOutOfRange"); n != 1 {
		t.Errorf("said %d times: %s", n, &v.log)
	}
}

func TestResponsePending(t *testing.T) {
	t.Parallel()
	v := drive(t, Config{Requests: speed}, 13*time.Second, func(v *vehicle) {
		v.answer = func(i int) {
			go func() {
				v.Answered(i, obd.ResponsePending)
				time.Sleep(5 * time.Second)
				v.Answered(i, obd.ResponsePending)
				time.Sleep(5 * time.Second)
				v.Answered(i, 0)
			}()
		}
	})
	check(t, v, "0s speed", "12s speed")

	// One that is pending for ever is given up.
	v = drive(t, Config{Requests: speed}, 59*time.Second, func(v *vehicle) {
		v.answer = func(i int) {
			go func() {
				for range MaxPending + 1 {
					v.Answered(i, obd.ResponsePending)
					time.Sleep(5 * time.Second)
				}
			}()
		}
	})
	check(t, v, "0s speed", "52s speed")
}

func TestBusy(t *testing.T) {
	t.Parallel()
	v := drive(t, Config{Requests: speed}, 7250*time.Millisecond, func(v *vehicle) {
		v.answer = func(i int) { v.Answered(i, obd.BusyRepeatRequest) }
	})
	check(t, v, "0s speed", "250ms speed", "500ms speed", "750ms speed", "2.75s speed", "3s speed", "3.25s speed", "3.5s speed")

	v = drive(t, Config{Requests: speed}, 7*time.Second, func(v *vehicle) {
		v.answer = func(i int) { v.Answered(i, obd.ConditionsNotCorrect) }
	})
	check(t, v, "0s speed", "2s speed", "6s speed")
}

// A parked vehicle is asked for the thing that shows motion, less and less often, until it moves.
func TestParked(t *testing.T) {
	t.Parallel()
	cfg := Config{Requests: []Request{{"charge", 20 * time.Second, false}, {"speed", 40 * time.Second, true}}, ParkAfter: time.Minute, Idle: 30 * time.Second}
	v := drive(t, cfg, 3*time.Minute+40*time.Second, func(v *vehicle) {
		v.answer = func(i int) { v.Answered(i, 0) }
		go func() {
			time.Sleep(3*time.Minute + 10*time.Second)
			v.Moved()
		}()
	})
	check(t, v, "0s charge", "0s speed", "20s charge", "40s charge", "40s speed",
		"1m0s speed", "1m12s speed", "1m26.4s speed", "1m43.68s speed", "2m4.416s speed", "2m29.2992s speed", "2m59.15904s speed",
		"3m10s charge", "3m30s charge", "3m39.15904s speed")

	// Nothing is asked for that is refused, whatever it would show, until the refusal is old.
	cfg.ParkAfter, cfg.Idle, cfg.RefusedFor = time.Minute, time.Hour, 150*time.Minute
	v = drive(t, cfg, 25*time.Hour, func(v *vehicle) {
		v.answer = func(i int) {
			if i == 1 {
				v.Answered(i, obd.ServiceNotSupported)
			} else {
				v.Answered(i, 0)
			}
		}
	})
	if n := count(v.asked, "speed"); n < 7 || n > 10 {
		t.Errorf("asked %d times in 25 h for what is refused for two and a half: %v", n, v.asked)
	}
}

// Of two things that show motion a parked vehicle is asked for the one that it answers.
func TestParkedAndDeaf(t *testing.T) {
	t.Parallel()
	v := drive(t, Config{Requests: []Request{{"deaf", time.Minute, true}, {"speed", time.Minute, true}}}, 24*time.Hour, func(v *vehicle) {
		v.answer = func(i int) {
			if i == 1 {
				v.Answered(i, 0)
			}
		}
	})
	if deaf, speed := count(v.asked, "deaf"), count(v.asked, "speed"); deaf > 5 || speed < 40 {
		t.Errorf("asked for the deaf %d times, for the speed %d", deaf, speed)
	}
}

func count(asked []string, name string) (n int) {
	for _, a := range asked {
		if strings.HasSuffix(a, " "+name) {
			n++
		}
	}
	return n
}

// A car that drives keeps being asked.
func TestMoving(t *testing.T) {
	t.Parallel()
	v := drive(t, Config{Requests: []Request{{"speed", time.Minute, true}}, ParkAfter: 90 * time.Second}, 30*time.Minute+time.Second, func(v *vehicle) {
		v.answer = func(i int) { v.Answered(i, 0); v.Moved() }
	})
	if len(v.asked) != 31 {
		t.Errorf("asked %d times: %v", len(v.asked), v.asked)
	}
}

// What cannot be sent wakes nobody and is tried again soon: after 2, 4, 8 and then every 10 s.
func TestBusDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		registry := prometheus.NewRegistry()
		n := 0
		p, err := New(Config{
			Requests: speed, Logger: slog.New(slog.NewTextHandler(&log, nil)), Metrics: registry,
			Ask: func(context.Context, int) error { n++; return errors.New("no bus") },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n != 8 || strings.Count(log.String(), "no bus") != 1 {
			t.Errorf("asked %d times: %s", n, &log)
		}
		if got := testutil.ToFloat64(p.metrics.failed); got != 8 {
			t.Errorf("%v failures", got)
		}
		if got, err := testutil.GatherAndCount(registry); err != nil || got != 7 {
			t.Errorf("%d metrics, %v", got, err)
		}
	})
}

func TestNothingToAsk(t *testing.T) {
	t.Parallel()
	v := drive(t, Config{}, time.Hour, func(*vehicle) {})
	check(t, v)
}

func TestRefused(t *testing.T) {
	t.Parallel()
	ask := func(context.Context, int) error { return nil }
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "Ask is required"},
		{Config{Ask: ask, Requests: []Request{{Name: "x"}}}, "cannot poll x"},
		{Config{Ask: ask, Idle: -1}, "Idle -1ns is negative"},
	} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// Answers that nobody takes are dropped and block nobody.
func TestAnsweredDoesNotBlock(t *testing.T) {
	t.Parallel()
	p, err := New(Config{Ask: func(context.Context, int) error { return nil }, Requests: speed})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 * inbox {
		p.Answered(0, 0)
		p.Moved()
	}
}
