package trip

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/fxamacker/cbor/v2"

	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/trip/internal/keyring"
	"rawstone/pkg/wire"
)

// scan returns how often b is in the files below dir.
func scan(t *testing.T, dir string, b []byte) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n += bytes.Count(text, b)
	}
	return n
}

// driveFor drives for some seconds.
func driveFor(r *Recorder, seconds int) {
	at, odo := noon, int64(0)
	for range seconds {
		feed(r, &at, &odo, 20_000)
	}
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed returns the record's encrypted part as it lies in the store.
func sealed(t *testing.T, db *badger.DB) (b []byte) {
	t.Helper()
	if err := db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(recordKey))
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			rec, err := decode(v)
			b = rec.Sealed
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// usedKey returns the one key in the file.
func usedKey(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Trim(b, "\x00")
	if len(key) < 24 || len(key) > 32 {
		t.Fatalf("%d bytes of keys", len(key))
	}
	return key
}

// TestOffIsGone: Badger's files keep what was overwritten; once it is turned off, by whichever way, none of the keys that are left opens it.
func TestOffIsGone(t *testing.T) {
	for name, off := range map[string]func(*Recorder, Config) error{
		"while it runs": func(r *Recorder, _ Config) error { return errors.Join(r.SetFamilies(wire.FamilyTrips), r.Close()) },
		"at a start": func(r *Recorder, cfg Config) error {
			cfg.Families = wire.FamilyTrips
			err := r.Close()
			_, again := Open(cfg)
			return errors.Join(err, again)
		},
		"in between": func(r *Recorder, cfg Config) error {
			return errors.Join(r.Close(), Forget(cfg.DB, cfg.KeyFile, cfg.Logger, wire.FamilyTrips))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := openStore(t, dir)
			cfg := Config{DB: db, KeyFile: keyFile(db), Logger: slog.New(slog.DiscardHandler), Now: time.Now, Signals: signals(), Families: wire.FamilyHours | wire.FamilyTrips}
			r, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			driveFor(r, 100)
			if err := r.Close(); err != nil { // writes
				t.Fatal(err)
			}
			plain, old, key := mustMarshal(t, r.use), sealed(t, db), usedKey(t, cfg.KeyFile)
			if scan(t, dir, old) == 0 || scan(t, dir, key) != 1 {
				t.Fatal("the record or its key is not found: the test cannot see them")
			}
			if err := off(r, cfg); err != nil {
				t.Fatal(err)
			}
			for what := range 2 {
				if n := scan(t, dir, plain); n != 0 {
					t.Errorf("usage lies readable in %d places", n)
				}
				if scan(t, dir, old) == 0 && what == 0 {
					t.Error("Badger forgot by itself: the test is moot")
				}
				if n := scan(t, dir, key); n != 0 {
					t.Errorf("its key lies in %d places", n)
				}
				if k, err := keyring.Open(cfg.KeyFile); err != nil || k.Unsettled() {
					t.Errorf("two keys or none, %v", err)
				} else if _, err := k.Open(old); err == nil {
					t.Error("what was turned off can be decrypted")
				}
				if err := db.Close(); err != nil { // into a table
					t.Fatal(err)
				}
				db = openStore(t, dir)
				cfg.DB = db
			}
			cfg.Families = wire.AllFamilies
			if r, err = Open(cfg); err != nil || r.use.Usage.Hours != [numHours]int64{} || r.Odometer().Metres < 1900 {
				t.Errorf("%+v, %v", r.use, err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// stuck is a store whose next writes fail.
type stuck struct {
	*badger.DB
	fails bool
	done  bool // the write is there all the same
}

func (s *stuck) Update(f func(*badger.Txn) error) error {
	if !s.fails {
		return s.DB.Update(f)
	}
	if s.done {
		return errors.Join(s.DB.Update(f), errors.New("the power went"))
	}
	return errors.New("the power went")
}

// TestKeyChangeCutShort: wherever a change of key ends, the families that are on keep what they have, and the next start completes it.
func TestKeyChangeCutShort(t *testing.T) {
	for _, done := range []bool{false, true} {
		db := &stuck{DB: openStore(t, t.TempDir()), done: done}
		cfg := Config{DB: db, KeyFile: keyFile(db.DB), Logger: slog.New(slog.DiscardHandler), Now: time.Now, Signals: signals(), Families: wire.FamilyHours | wire.FamilySpeed}
		r, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		driveFor(r, 100)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		old := sealed(t, db.DB)
		db.fails = true
		if err := r.SetFamilies(wire.FamilyHours); err == nil {
			t.Fatal("no error")
		}
		db.fails = false
		cfg.Families = wire.FamilyHours
		again, err := Open(cfg)
		if err != nil || inUse(again) == 0 || again.Usage() != r.Usage() {
			t.Errorf("%+v, %v", again.Usage(), err)
		}
		if k, err := keyring.Open(cfg.KeyFile); err != nil || k.Unsettled() {
			t.Errorf("two keys, %v", err)
		} else if _, err := k.Open(old); err == nil {
			t.Error("what was turned off can be decrypted")
		}
		// The same recorder, tried again.
		if err := r.SetFamilies(wire.FamilyHours); err != nil || r.shelf.forget {
			t.Errorf("%v", err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeyLost: usage begins anew, and the distance goes on.
func TestKeyLost(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"gone": os.Remove, "short": func(path string) error { return os.Truncate(path, 100) },
		"another": func(path string) error { return os.WriteFile(path, bytes.Repeat([]byte{7}, 2*4096), 0o600) },
	} {
		db := openStore(t, t.TempDir())
		cfg := Config{DB: db}
		r := open(t, cfg)
		driveFor(r, 100)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := spoil(keyFile(db)); err != nil {
			t.Fatal(err)
		}
		again := open(t, cfg)
		if again.Usage() != (Usage{}) || again.Odometer().Metres != r.Odometer().Metres || again.Odometer().Metres == 0 {
			t.Errorf("%s: %+v, %+v", name, again.Usage(), again.Odometer())
		}
		if again = open(t, cfg); again.use.Families != wire.AllFamilies || again.shelf.forget {
			t.Errorf("%s: %+v", name, again.use)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(Config{DB: &flash.Store{}, Logger: slog.New(slog.DiscardHandler), Now: time.Now}); err == nil {
		t.Error("no key file is accepted")
	}
}
