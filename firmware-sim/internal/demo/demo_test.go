package demo

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rawstone/pkg/config"
)

func TestJourneyTellsAndCompletes(t *testing.T) {
	var out bytes.Buffer
	j := newJourney(&out, time.Now(), 2)
	say := func(source, line string) { j.line(source, []byte(line)) }
	say("agent 1", `{"level":"INFO","msg":"proof made","tier_km":40,"duration_ms":70,"claim_bytes":383}`)
	say("agent 1", `{"level":"INFO","msg":"receipt received","accepted":true,"km":40}`)
	say("agent 2", `{"level":"INFO","msg":"receipt received","accepted":true,"km":0}`)
	say("agent 2", `{"level":"INFO","msg":"receipt received","accepted":false,"reason":"gap"}`)
	say("collector", `{"level":"INFO","msg":"stones credited","milli_stones":500000,"owners":1}`)
	select {
	case <-j.complete:
		t.Fatal("complete before the second agent holds an accepted claim")
	default:
	}
	say("agent 2", `{"level":"INFO","msg":"receipt received","accepted":true,"km":5}`)
	say("collector", `{"level":"INFO","msg":"stones credited","milli_stones":0,"owners":0}`)
	select {
	case <-j.complete:
		t.Fatal("complete at a drop that issued nothing")
	default:
	}
	say("collector", `{"level":"INFO","msg":"stones credited","milli_stones":500000,"owners":2}`)
	say("collector", `{"level":"INFO","msg":"stones credited","milli_stones":500000,"owners":2}`)
	select {
	case <-j.complete:
	default:
		t.Fatal("not complete")
	}
	if got := j.creditedSoFar(); got != 1_500_000 {
		t.Errorf("%d milli-stones counted, want 1,500,000", got)
	}
	say("car 1", `{"level":"INFO","msg":"something else"}`)
	say("car 1", `{"level":"WARN","msg":"bus is gone"}`)
	say("car 1", "panic: boom")
	for _, want := range []string{"proof of at least 40 km made in 70 ms; claim of 383 bytes", "refused, gap", "report accepted", "40 km credited",
		"500.0 stones credited to 1 owners (the first, after", "bus is gone", "panic: boom"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not told:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "something else") {
		t.Error("tells what is no part of the journey")
	}
}

func TestWipeOnlyWhatItMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := wipe(dir); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := wipe(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("an earlier run's files are still there")
	}
	foreign := t.TempDir()
	precious := filepath.Join(foreign, "precious")
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := wipe(foreign); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("wiping somebody else's directory: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error("somebody else's file is gone")
	}
}

func TestProcess(t *testing.T) {
	lines := make(chan string, 10)
	p, err := start("child", func(source string, text []byte) { lines <- source + ": " + string(text) }, "sh", "-c", "trap 'echo bye >&2; exit 0' TERM; echo ready >&2; while :; do sleep 0.05; done")
	if err != nil {
		t.Fatal(err)
	}
	if got := <-lines; got != "child: ready" {
		t.Errorf("first line %q", got)
	}
	if kib, err := p.peakRSS(); err != nil || kib < 100 {
		t.Errorf("peak memory of %d KiB: %v", kib, err)
	}
	if pgid, err := syscall.Getpgid(p.cmd.Process.Pid); err != nil || pgid == syscall.Getpgrp() {
		t.Errorf("the child shares the terminal's process group: %v", err)
	}
	// Every line was handed over before the process counts as ended, so none can be waited for in vain.
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if got := <-lines; got != "child: bye" {
		t.Errorf("last line %q", got)
	}
	p, err = start("child", func(string, []byte) {}, "sh", "-c", "exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if err := <-p.done; err == nil {
		t.Error("a failed process ended well")
	}
	if _, err := start("child", nil, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("started a program that is not there")
	}
}

// TestProcessThatEndsByItself: nobody asked for the end, and so it ends the demo; stopping what has ended still tells how.
func TestProcessThatEndsByItself(t *testing.T) {
	d := &demo{journey: newJourney(io.Discard, time.Now(), 1), ended: make(chan error, 1)}
	if _, err := d.start("child", "sh", "-c", "exit 3"); err != nil {
		t.Fatal(err)
	}
	if err := <-d.ended; err == nil || !strings.Contains(err.Error(), "child ended by itself: exit status 3") {
		t.Error(err)
	}
	if err := d.stop(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
}

func TestRunSaysWhatFailed(t *testing.T) {
	if out, err := run(t.Context(), "sh", "-c", "echo done"); err != nil || out != "done" {
		t.Errorf("%q, %v", out, err)
	}
	_, err := run(t.Context(), "sh", "-c", "expr 40 + 2 >&2; echo the reason >&2; exit 1")
	if err == nil || !strings.Contains(err.Error(), "the reason") || strings.Contains(err.Error(), "42") {
		t.Errorf("failure is reported as: %v", err)
	}
}

func TestShippedPlan(t *testing.T) {
	var p Plan
	if err := config.Load("../../../configs/demo/demo.yaml", &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Cars) != 3 || p.Cars[0].Replay == nil {
		t.Errorf("%d cars, want three of which the first replays", len(p.Cars))
	}
	for _, c := range p.Cars {
		for _, f := range []string{c.Sim, c.Agent} {
			if _, err := os.Stat(filepath.Join("../../../configs/demo", f)); err != nil {
				t.Error(err)
			}
		}
	}
	bad := config.Decode("plan.yaml", []byte("state: s\ncars: [{vehicle: A}]\n"), new(Plan))
	for _, want := range []string{"program", "collector", "ledger", "dashboard", "cars[0]"} {
		if bad == nil || !strings.Contains(bad.Error(), want) {
			t.Errorf("fault of %s is not reported: %v", want, fmt.Sprint(bad))
		}
	}
}
