package pkg_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// floors is the house: each package may import what lies on floors strictly below its own. A new package gets a row here and in
// the README's map.
func floors() map[string]int {
	m := make(map[string]int)
	for floor, names := range [][]string{
		0: {
			"agent/internal/budget/internal/charge", "agent/internal/decimal", "agent/internal/seal/phase", "agent/internal/decode/near", "agent/internal/hold", "agent/internal/https", "agent/internal/odometer/motion", "agent/internal/seal/internal/metrics", "agent/internal/vss",
			"pkg/can", "pkg/can/dbc/internal/bitfield", "pkg/can/dbc/internal/lexer", "pkg/can/dbc/internal/validity", "pkg/can/link/internal/socket", "pkg/claim/internal/batch",
			"collector/internal/api/body", "collector/internal/api/limit", "collector/internal/api/problem", "collector/internal/api/spool", "collector/internal/api/token", "collector/internal/broker/internal/serverlog", "collector/internal/broker/internal/state", "collector/internal/bridge/internal/packet", "collector/internal/analytics/adjust", "collector/internal/analytics/cohort", "collector/internal/chart", "collector/internal/credit/internal/check", "collector/internal/database/postgrestest", "collector/internal/firewall", "collector/internal/ingest/internal/fault", "collector/internal/migration",
			"collector/internal/listener/internal/source", "collector/internal/postgres", "collector/internal/role", "collector/internal/sqlite", "pkg/capturetest", "firmware-sim/internal/fleet/internal/bar", "collector/internal/deadletter", "pkg/codec", "pkg/command", "pkg/config", "pkg/dp/internal/subset", "pkg/dp/internal/sums", "pkg/durable", "pkg/key", "pkg/keyfile", "pkg/ledger/duty", "pkg/tlog/remote", "pkg/terms/internal/row", "pkg/vectortest",
		},
		1: {"agent/internal/trip/internal/keyring", "agent/internal/budget/internal/anchor", "agent/internal/budget/internal/chain", "collector/internal/backup/internal/manifest", "pkg/claim/internal/file", "agent/internal/decode/capture", "agent/internal/decode/tally", "agent/internal/device", "pkg/can/dbc/internal/program", "pkg/can/isotp", "pkg/can/j1939", "pkg/can/link", "pkg/can/obd", "pkg/dp", "pkg/key/quorum", "pkg/wire"},
		2: {"collector/internal/analytics/cost", "collector/internal/analytics/tally", "agent/internal/budget/erasure", "agent/internal/budget/internal/counter", "collector/internal/api/idempotency", "collector/internal/broker/internal/connection", "collector/internal/credit/internal/segment", "collector/internal/queue", "collector/internal/session", "agent/internal/archive/internal/record", "agent/internal/blob", "firmware-sim/internal/fleet/internal/session", "agent/internal/flash/internal/witness", "agent/internal/odometer/event", "pkg/account", "pkg/attest", "pkg/can/dbc", "pkg/claim", "pkg/enroll", "pkg/reward", "pkg/terms", "pkg/tlog"},
		3: {
			"agent/internal/archive", "agent/internal/budget", "agent/internal/reset", "agent/internal/bus/internal/drive", "agent/internal/certificate", "agent/internal/dispatch", "agent/internal/flash", "agent/internal/program",
			"agent/internal/odometer/state", "agent/internal/poll", "agent/internal/resend", "agent/internal/seal/internal/window", "agent/internal/snapshot", "agent/internal/signalmap",
			"collector/internal/analytics/clipping", "collector/internal/analytics/figure", "collector/internal/api/gate", "collector/internal/admin", "collector/internal/blob", "collector/internal/ca", "collector/internal/certificate", "collector/internal/database", "collector/internal/listener", "collector/internal/envelope", "collector/internal/schema", "collector/internal/statement/internal/dayfile", "collector/internal/tiles", "collector/internal/watch", "firmware-sim/internal/fleet/internal/chain", "pkg/ceremony", "pkg/ledger", "pkg/reward/cultivation",
		},
		4: {
			"agent/internal/bus", "agent/internal/cut", "agent/internal/recall", "agent/internal/identity", "agent/internal/odometer", "agent/internal/report", "agent/internal/seal/internal/backlog", "agent/internal/seal/internal/outbox", "agent/internal/vehicle", "agent/internal/verdict",
			"collector/internal/admission", "collector/internal/charter", "collector/internal/announce/internal/record", "collector/internal/answer", "collector/internal/balance", "collector/internal/erasure", "collector/internal/estate", "collector/internal/handover", "collector/internal/history", "collector/internal/disclosure", "collector/internal/inbox", "collector/internal/opening", "collector/internal/outbox", "collector/internal/panel", "collector/internal/peer", "collector/internal/summary", "collector/internal/witness", "collector/internal/unboxing", "firmware-sim/internal/fleet/internal/roster", "pkg/audit/internal/accounts", "pkg/statement/internal/chain", "pkg/statement/internal/holding", "pkg/audit/internal/documents", "pkg/audit/internal/treasury", "pkg/inclusion", "pkg/notice", "pkg/opening",
		},
		5: {
			"firmware-sim/internal/fleet/internal/enrolment", "firmware-sim/internal/fleet/internal/player",
			"agent/internal/decode", "agent/internal/consent", "agent/internal/inclusion", "agent/internal/journal", "agent/internal/privacy", "agent/internal/reader", "agent/internal/seal", "agent/internal/spool",
			"collector/internal/api/refusal", "collector/internal/api/view", "agent/internal/rulebook", "agent/internal/status", "agent/internal/trip", "agent/internal/uplink", "collector/internal/backup/internal/dump", "collector/internal/cluster", "collector/internal/credit/internal/usage", "collector/internal/policy", "collector/internal/settle/internal/gate", "collector/internal/settle/internal/seed", "collector/internal/settle/internal/share", "collector/internal/settle/internal/metrics", "collector/internal/store", "collector/internal/validator/archive", "pkg/audit", "pkg/statement",
		},
		6: {
			"agent/internal/control", "agent/internal/driver", "agent/internal/overview", "agent/internal/setting",
			"pkg/audit/proof", "collector/internal/api/lookup", "collector/internal/analytics", "collector/internal/bridge", "collector/internal/broker", "collector/internal/bulletin", "collector/internal/charge", "collector/internal/cosigned", "collector/internal/credit", "collector/internal/dashboard", "collector/internal/enrolment", "collector/internal/feed",
			"collector/internal/evidence",
			"collector/internal/identity", "collector/internal/inclusion", "collector/internal/ingest", "collector/internal/settle", "collector/internal/statement", "collector/internal/statement/review", "collector/internal/offering", "collector/internal/simulation",
			"collector/internal/backup/internal/holding", "collector/internal/person", "collector/internal/records", "collector/internal/stones", "collector/internal/validator", "collector/internal/validator/complaint", "collector/internal/validator/forget", "collector/internal/validator/opener",
			"firmware-sim/internal/app", "firmware-sim/internal/demo", "firmware-sim/internal/drive", "firmware-sim/internal/ecu", "firmware-sim/internal/fleet", "firmware-sim/internal/replay",
		},
		// The daemons wire the rooms; the command lines start the daemons.
		7:  {"agent/daemon", "collector/internal/api", "collector/internal/announce", "collector/internal/backup", "collector/internal/evidence/auditor", "collector/internal/gallery", "collector/internal/genesis", "collector/internal/overview", "collector/internal/program", "collector/internal/registry", "collector/internal/reveal", "collector/internal/validator/seat", "firmware-sim/daemon"},
		8:  {"agent/internal/cli", "collector/internal/cli/audit", "collector/internal/cli/fleet", "collector/internal/cli/letters", "collector/internal/api/service", "collector/internal/cli/owner", "collector/internal/equity", "collector/internal/cli/rite", "collector/internal/cli/simulate", "collector/internal/cli/statistics", "collector/internal/setting", "collector/internal/validator/daemon", "firmware-sim/internal/cli"},
		9:  {"agent", "collector/daemon", "collector/internal/cli/publish", "collector/internal/cli/validator", "collector/internal/keep", "firmware-sim"},
		10: {"collector/internal/cli"},
		11: {"collector"},
	} {
		for _, n := range names {
			m[n] = floor
		}
	}
	return m
}

// sideways lists the imports that are allowed on one floor: seal takes trip's summary.
func sideways() map[string][]string {
	return map[string][]string{
		"agent/internal/seal": {"agent/internal/trip"},
	}
}

// blind lists imports that are forbidden whatever the floor: behind the privacy border only opaque sealed bytes move.
func blind() map[string][]string {
	raw := []string{
		"pkg/can", "pkg/dp", "agent/internal/archive", "agent/internal/budget", "agent/internal/bus", "agent/internal/cut", "agent/internal/odometer",
		"agent/internal/reader", "agent/internal/report", "agent/internal/rulebook", "agent/internal/seal", "agent/internal/trip", "agent/internal/vehicle", "agent/internal/vss",
		"pkg/notice", "pkg/terms",
	}
	return map[string][]string{"agent/internal/spool": raw, "agent/internal/uplink": raw}
}

type listed struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
}

func TestFloors(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles", "rawstone/...").Output()
	if err != nil {
		t.Fatalf("cannot list packages: %v", err)
	}
	floor, side, never := floors(), sideways(), blind()
	seen := make(map[string]bool)
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "rawstone/")
		if len(p.GoFiles) == 0 {
			continue // tests only
		}
		seen[name] = true
		own, ok := floor[name]
		if !ok {
			t.Errorf("%s has no floor", name)
			continue
		}
		for _, imp := range p.Imports {
			imp, ours := strings.CutPrefix(imp, "rawstone/")
			if !ours {
				continue
			}
			if floor[imp] >= own && !slices.Contains(side[name], imp) {
				t.Errorf("%s (floor %d) imports %s (floor %d)", name, own, imp, floor[imp])
			}
			for _, bad := range never[name] {
				if imp == bad || path.Dir(imp) == bad {
					t.Errorf("%s imports %s: it may move opaque bytes only", name, imp)
				}
			}
		}
	}
	for name := range floor {
		if !seen[name] {
			t.Errorf("%s has a floor and does not exist", name)
		}
	}
}

// The sizes beyond which a package or a file does more than one job.
const (
	maxPackage = 800 // lines without tests
	maxFile    = 400
)

func TestSizes(t *testing.T) {
	lines := make(map[string]int)
	root := ".."
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		n := strings.Count(string(text), "\n")
		if n >= maxFile {
			t.Errorf("%s has %d lines, want fewer than %d", name, n, maxFile)
		}
		lines[filepath.Dir(name)] += n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, n := range lines {
		if n > maxPackage {
			t.Errorf("%s has %d lines without tests, want at most %d", dir, n, maxPackage)
		}
	}
	if len(lines) < 50 {
		t.Errorf("%d packages found", len(lines))
	}
}
