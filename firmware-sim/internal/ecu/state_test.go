package ecu

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

func TestDamagedStateIsRefused(t *testing.T) {
	r := newRig(t)
	r.drive(t, 500)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.dir, stateFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(r.config())
		if err == nil || !strings.Contains(err.Error(), "make a new ECU") {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(after, b) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	for i := 0; i < len(good); i += 7 {
		b := bytes.Clone(good)
		b[i] ^= 1
		refused("flipped bit", b)
	}
	refused("empty", nil)
	refused("cut", good[:len(good)-1])
	refused("longer", append(bytes.Clone(good), 0))
	refused("too long", make([]byte, maxStateLen+1))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(r.config()); err == nil || !strings.Contains(err.Error(), "key but no state") {
		t.Errorf("missing state: %v", err)
	}
	if _, err := Create(r.config()); err == nil {
		t.Error("made a new ECU over a key whose state is lost")
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r.open(t)
	if got := r.Counters()[wire.OdometerM]; got != 500 {
		t.Errorf("restored state has %d m, want 500", got)
	}
}

func FuzzReadState(f *testing.F) {
	dir := f.TempDir()
	r := &rig{dir: filepath.Join(dir, "ecu"), now: time.Unix(6000, 0)}
	if _, err := Create(r.config()); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(r.dir, stateFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[32:])
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		s, err := decodeState(payload)
		if err != nil {
			return
		}
		again, err := codec.Encode(s)
		if err != nil || !bytes.Equal(again, payload) {
			t.Errorf("accepted a state that encodes differently: %v", err)
		}
	})
}
