package person

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	answered "rawstone/collector/internal/answer"
	"rawstone/collector/internal/database/postgrestest"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

const (
	anna, ben   = "anna-0123456789abcdef", "ben-0123456789abcdef"
	shared, own = "SHARED-CAR-0001", "ANNAS-CAR-0002"
)

// A rig is records in which anna had two cars, of which ben bought one.
type rig struct {
	t    *testing.T
	path string
	pg   *postgrestest.Database
	db   map[store.Role]*store.DB
	keys map[string]wire.PublicKey // of ECUs, by cars
	n    byte
}

func engines(t *testing.T, test func(*rig)) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			r := &rig{t: t, path: filepath.Join(t.TempDir(), "records.db"), db: make(map[store.Role]*store.DB), keys: map[string]wire.PublicKey{shared: {2, 1}, own: {2, 2}}}
			if engine == "postgres" {
				r.pg = server.New(t, firewall.Owner)
				r.must(store.Migrate(t.Context(), r.pg.URL()))
			}
			for _, role := range []store.Role{store.Admin, store.Ingest, store.Settle, store.Person, store.Account} {
				c := store.Config{Path: r.path, Role: role}
				if r.pg != nil {
					c = store.Config{URL: r.pg.URL(), Role: role}
				}
				d, err := store.Open(t.Context(), c)
				r.must(err)
				r.db[role] = d
			}
			t.Cleanup(r.close)
			r.live()
			test(r)
		})
	}
}

func (r *rig) close() {
	for role, d := range r.db {
		r.must(d.Close())
		delete(r.db, role)
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) as(role store.Role, fn func(tx *store.Tx) error) {
	r.t.Helper()
	r.must(r.db[role].Update(r.t.Context(), fn))
}

func (r *rig) config() Config { return Config{Reader: r.db[store.Person], Writer: r.db[store.Admin]} }

// number has the ledger take what waits, and a block over it.
func (r *rig) number() {
	r.as(store.Settle, func(tx *store.Tx) error {
		if _, err := tx.AddEntry(r.t.Context(), ledger.TypeBlock, []byte{1}); err != nil {
			return err
		}
		return tx.NumberEntries(r.t.Context(), 1000)
	})
}

// drive has a car claim up to a snapshot on a day, and report.
func (r *rig) drive(account, car string, seq uint64, day uint32) {
	r.n++
	id := wire.Hash{r.n, 0xcc}
	r.as(store.Ingest, func(tx *store.Tx) error {
		ctx := r.t.Context()
		ecu := r.keys[car].ID()
		all, err := tx.KeyBindings(ctx, ecu)
		if err != nil {
			return err
		}
		b := all[len(all)-1]
		s := store.Span{ECU: ecu, From: b.Head, To: wire.Head{Seq: seq, Day: day}, Vehicle: car, Submission: id}
		return errors.Join(
			tx.AddSpan(ctx, s, b.Entry, b.Head.Seq, []store.Credit{{Account: account, Vehicle: car, ECU: ecu, ToSeq: seq, Policy: 1, Kind: terms.KindMileage, Km: 40, Effective: day + 1, Submission: id}}),
			tx.AddSubmission(ctx, &store.Submission{ID: id, Vehicle: car, Kind: wire.KindClaim, Accepted: true, Km: 40, Day: day, Receipt: []byte(account + " claimed")}),
			tx.AddClaim(ctx, id, car, []byte("claim of "+account)),
			tx.AddSubmission(ctx, &store.Submission{ID: wire.Hash{r.n, 0xdd}, Vehicle: car, Kind: wire.KindReport, Accepted: true, Day: day, Receipt: []byte(account + " reported")}),
			tx.AddReport(ctx, store.Report{Vehicle: car, Epoch: day, Families: 1, Vector: make([]byte, 4*wire.VectorLen), Submission: wire.Hash{r.n, 0xdd}}),
			tx.AddSubmission(ctx, &store.Submission{ID: wire.Hash{r.n, 0xee}, Vehicle: car, Kind: wire.KindClaim, Reason: wire.ReasonStale, Day: day, Receipt: []byte(account + " refused")}))
	})
}

// live is what happens: anna drives both cars, sells one to ben on day 20, who drives it; each asks for something.
func (r *rig) live() {
	ctx := r.t.Context()
	r.as(store.Admin, func(tx *store.Tx) error {
		errs := []error{tx.AddAccount(ctx, anna), tx.AddAccount(ctx, ben)}
		for car, key := range r.keys {
			errs = append(errs, tx.AddVehicle(ctx, store.Vehicle{ID: car, Account: anna, Device: wire.PublicKey{3, key[1]}}), tx.AddECU(ctx, key, []byte("certificate")),
				tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: car, Account: anna, ECU: key, Head: wire.Head{Seq: 1, Day: 3}}))
		}
		return errors.Join(errs...)
	})
	r.drive(anna, shared, 5, 10)
	r.drive(anna, own, 6, 11)
	for _, id := range []string{anna, ben} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		r.must(err)
		public, err := wire.NewPublicKey(key.Public())
		r.must(err)
		r.as(store.Account, func(tx *store.Tx) error {
			e := tx.Estate(estate.Rules{Program: &terms.Program{Timing: terms.Timing{GenesisS: 100, DayS: 40, DropS: 10}}})
			_, err := e.Change(ctx, id, &public, false)
			return errors.Join(err, e.Answer(ctx, "app", id, wire.Hash{1}, answered.Answer{Status: 200, Body: []byte(`{"id":"` + id + `"}`)}, 10))
		})
	}
	r.as(store.Admin, func(tx *store.Tx) error {
		o := r.keys[shared]
		return errors.Join(tx.CloseBinding(ctx, ledger.HandoverOpening{ECU: o.ID(), Cut: 7}),
			tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: shared, Account: ben, ECU: o, Head: wire.Head{Seq: 7, Day: 20}}), tx.SetOwner(ctx, shared, ben))
	})
	r.drive(ben, shared, 9, 25)
	r.as(store.Settle, func(tx *store.Tx) error { return tx.Settle(ctx, 0, 1, map[string]uint64{anna: 500, ben: 1000}) })
}

// release takes the ECU out of anna's own car, which may not connect any more.
func (r *rig) release() {
	r.as(store.Admin, func(tx *store.Tx) error {
		o := r.keys[own]
		return errors.Join(tx.CloseBinding(r.t.Context(), ledger.HandoverOpening{ECU: o.ID(), Cut: 8}), tx.RevokeVehicle(r.t.Context(), own))
	})
}

func (r *rig) export(account string) string {
	r.t.Helper()
	var b bytes.Buffer
	r.must(Export(r.t.Context(), r.config(), account, &b))
	return b.String()
}

// TestExport looks into an export for all that its person did, and for nothing of another's.
func TestExport(t *testing.T) {
	engines(t, func(r *rig) {
		r.number()
		for id, other := range map[string]string{anna: ben, ben: anna} {
			text := r.export(id)
			r.must(json.Unmarshal([]byte(text), &map[string]any{}))
			for _, s := range []string{"claimed", "reported", "refused"} {
				if !strings.Contains(text, hex.EncodeToString([]byte(id+" "+s))) || strings.Contains(text, hex.EncodeToString([]byte(other+" "+s))) {
					t.Errorf("export of %s: what was %s is missing, or another's is there", id, s)
				}
			}
			for _, s := range []string{other, hex.EncodeToString([]byte("claim of " + other))} {
				if strings.Contains(text, s) {
					t.Errorf("export of %s says %s", id, s)
				}
			}
			if !strings.Contains(text, hex.EncodeToString([]byte("claim of "+id))) || !strings.Contains(text, `{\"id\":\"`+id) || strings.Count(text, `"weight_km"`) < 30 || strings.Contains(text, `"number": null`) {
				t.Errorf("export of %s lacks something: %s", id, text)
			}
		}
		if err := Export(t.Context(), r.config(), "nobody", new(bytes.Buffer)); !errors.Is(err, ErrNoAccount) {
			t.Error(err)
		}
	})
}

// TestErase erases anna: what is in the way is said first; then everything of hers is gone, in rows and in bytes, and everything of ben's, who has one
// of her cars, is what it was.
func TestErase(t *testing.T) {
	engines(t, func(r *rig) {
		refused := func(want string) {
			t.Helper()
			if _, err := Erase(t.Context(), r.config(), anna); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		refused(own + " is bound to it")
		r.as(store.Admin, func(tx *store.Tx) error {
			o := r.keys[own]
			return tx.CloseBinding(t.Context(), ledger.HandoverOpening{ECU: o.ID(), Cut: 8})
		})
		refused(own + " may still connect")
		r.as(store.Admin, func(tx *store.Tx) error { return tx.RevokeVehicle(t.Context(), own) })
		refused("7 of its entries or mine boxes wait")
		r.as(store.Settle, func(tx *store.Tx) error {
			id, err := tx.AddEntry(t.Context(), ledger.TypeCredit, []byte{1})
			return errors.Join(err, tx.SetAside(t.Context(), id, `credit is account "`+anna+`"'s`))
		})
		r.number()
		var secret [32]byte
		r.must(r.db[store.Person].View(t.Context(), func(tx *store.Tx) (err error) {
			secret, err = tx.AccountSecret(t.Context(), anna)
			return err
		}))
		before := r.export(ben)
		e, err := Erase(t.Context(), r.config(), anna)
		if err != nil || e.Entries != 7 {
			t.Fatalf("%d entries are erased, %v", e.Entries, err)
		}
		// Beside the day from which on the car may report: what anna's time was has been forgotten.
		before = strings.Replace(before, `"added_day": 0,`, `"added_day": 20,`, 1)
		if after := r.export(ben); after != before || !strings.Contains(after, `"added_day": 20,`) {
			t.Errorf("ben's export was %s, is %s", before, after)
		}
		if _, err := Erase(t.Context(), r.config(), anna); !errors.Is(err, ErrNoAccount) {
			t.Error(err)
		}
		// Brokers hear of every later change: numbers of changes do not come again.
		_, serial, err := r.db[store.Ingest].Changed(t.Context(), 0)
		r.must(err)
		if serial < 2 {
			t.Errorf("the last change of who may connect has number %d, an earlier one had 1", serial)
		}
		// The key earns nothing a second time: it may be bound from its cut on.
		r.must(r.db[store.Admin].View(t.Context(), func(tx *store.Tx) error {
			k, s := r.keys[own].ID(), r.keys[shared].ID()
			cut, err := tx.ErasedCut(t.Context(), k[:])
			none, err2 := tx.ErasedCut(t.Context(), s[:])
			if cut != 8 || none != 0 {
				t.Errorf("the cuts are %d and %d", cut, none)
			}
			return errors.Join(err, err2)
		}))
		r.must(r.db[store.Settle].View(t.Context(), func(tx *store.Tx) error {
			keys, err := tx.ErasedKeys(t.Context())
			if len(keys) != 1 || keys[0].Mark != ledger.KeyMark(r.keys[own].ID()) || keys[0].Cut != 8 || keys[0].Since == 0 || keys[0].Revoked {
				t.Errorf("auditors are given keys %+v", keys)
			}
			return err
		}))
		r.gone(secret)
	})
}

// gone looks for anna in everything that is kept.
func (r *rig) gone(secret [32]byte) {
	marks := map[string][]byte{"account": []byte(anna), "car": []byte(own), "secret": secret[:], "claim": []byte("claim of anna")}
	if r.pg != nil {
		conn := r.pg.As(r.t, "postgres")
		rows, err := conn.Query(r.t.Context(), `SELECT table_name::text, column_name::text FROM information_schema.columns c WHERE table_schema = 'public'
			AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = 'public')`)
		r.must(err)
		type column struct{ Table, Name string }
		all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
		r.must(err)
		for _, c := range all {
			for what, mark := range marks {
				var n int
				// Bytes read as hexadecimal text.
				sql := fmt.Sprintf(`SELECT count(*) FROM %s WHERE position($1 IN %s::text) > 0 OR position($2 IN %s::text) > 0`, c.Table, c.Name, c.Name)
				r.must(conn.QueryRow(r.t.Context(), sql, hex.EncodeToString(mark), strings.ToValidUTF8(strings.ReplaceAll(string(mark), "\x00", "?"), "?")).Scan(&n))
				if n > 0 {
					r.t.Errorf("the %s is still in %s.%s", what, c.Table, c.Name)
				}
			}
		}
		return
	}
	r.close()
	for _, end := range []string{"", "-wal"} {
		b, err := os.ReadFile(r.path + end)
		if err != nil && end == "" {
			r.t.Fatal(err)
		}
		for what, mark := range marks {
			if bytes.Contains(b, mark) {
				r.t.Errorf("the %s is still in the bytes of records.db%s", what, end)
			}
		}
	}
}

// TestErasedEarnsMeanwhile has leaves that are not all that the account earned.
func TestErasedEarnsMeanwhile(t *testing.T) {
	engines(t, func(r *rig) {
		r.release()
		r.number()
		err := r.db[store.Admin].Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Erase(t.Context(), anna, nil)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "should be 2400") {
			t.Error(err)
		}
		if !strings.Contains(r.export(anna), "claim") {
			t.Error("what was refused was done")
		}
	})
}
