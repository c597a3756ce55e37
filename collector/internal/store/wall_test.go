package store

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"rawstone/collector/internal/answer"
	"rawstone/collector/internal/database"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// denied reports whether PostgreSQL refused for want of a right, which a trigger's refusal counts as too.
func denied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}

// explain has the server check a role's rights for a statement without running it.
func explain(t *testing.T, conn *pgx.Conn, sql string) error {
	t.Helper()
	d, err := conn.Prepare(t.Context(), "", sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	_, err = conn.Exec(t.Context(), "EXPLAIN "+sql, make([]any, len(d.ParamOIDs))...)
	if err != nil && !denied(err) {
		t.Fatalf("%s: %v", sql, err)
	}
	return err
}

// TestServerGrantsEachRoleItsStatements has PostgreSQL judge each statement for each role. A role may run its own; of another's none that
// writes and none that reads what the role does not read anyway.
func TestServerGrantsEachRoleItsStatements(t *testing.T) {
	r := onPostgres(t)
	var writes []string
	for _, role := range every.Each() {
		conn := r.pg.As(t, role.Login())
		reads, refused := 0, 0
		for _, s := range statements() {
			err := explain(t, conn, s.OnPostgres())
			own := s.Roles&role != 0
			switch {
			case own && err != nil:
				t.Errorf("%s may not run its statement %q: %v", role, s.Name, err)
			case own:
			case err == nil && !strings.HasPrefix(string(s.SQL), "SELECT"):
				writes = append(writes, role.String()+": "+string(s.Name))
			case err == nil:
				reads++
			default:
				refused++
			}
		}
		if refused < 2*reads && role != Person { // who reads all that is kept of one
			t.Errorf("%s: %d statements of others refused and %d that read what the role's own do", role, refused, reads)
		}
	}
	slices.Sort(writes)
	// Triggers look at what is put into the ledger: TestRawStatements. Crystals and the pool are moved by who spends and by who opens boxes.
	want := []string{
		"account: give crystals of box", "account: put ledger entry", "account: release pool", "admin: put ledger entry", "settle: put ledger entry",
		"settle: set crystals", "settle: set pool",
	}
	if d := cmp.Diff(want, writes); d != "" {
		t.Error(d)
	}
}

// TestProcessGrantsEachRoleItsStatements opens the records for each role and tries every statement of the others.
func TestProcessGrantsEachRoleItsStatements(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		for _, role := range every.Each() {
			d := r.open(t, role)
			for _, s := range statements() {
				if s.Roles&role != 0 {
					continue
				}
				err := d.db.View(t.Context(), func(tx *database.Tx) error { return tx.Get(t.Context(), s, nil) })
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), role.String()) {
					t.Errorf("%s ran %q: %v", role, s.Name, err)
				}
				s.Roles = role // another statement than the one that is registered
				if err := d.db.View(t.Context(), func(tx *database.Tx) error { return tx.ExecOne(t.Context(), s) }); !errors.Is(err, ErrRefused) {
					t.Errorf("%s ran %q with other roles: %v", role, s.Name, err)
				}
			}
		}
	})
}

// TestRawStatements takes each role's connection, as somebody does who has stolen it.
func TestRawStatements(t *testing.T) {
	r := onPostgres(t)
	register(t, r.open(t, Admin))
	update(t, r.open(t, Ingest), func(tx *Tx) error {
		return errors.Join(tx.AddSpan(t.Context(), span(9), 1, 3, []Credit{credit(9)}),
			tx.AddSubmission(t.Context(), &Submission{ID: wire.Hash{7}, Vehicle: "V1", Kind: wire.KindClaim, Accepted: true, Receipt: []byte{1}}))
	})
	all := r.pg.As(t, "postgres")
	rows, err := all.Query(t.Context(), `SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 15 {
		t.Fatal(tables, err)
	}
	for _, role := range every.Each() {
		conn := r.pg.As(t, role.Login())
		raw := func(sql string) {
			t.Helper()
			if _, err := conn.Exec(t.Context(), sql); !denied(err) {
				t.Errorf("%s: %s: %v", role, sql, err)
			}
		}
		for _, table := range tables {
			raw("TRUNCATE " + table)
			raw("DROP TABLE " + table)
			raw("ALTER TABLE " + table + " DISABLE TRIGGER ALL")
			if (table != "draft" || role != Settle) && (table != "idempotency" || role != Account) {
				raw("DELETE FROM " + table)
			}
			if table != "goose_db_version" && table != "refusals" && table != "settled" && table != "draft" && table != "balances" {
				raw("SELECT ctid, xmin, * FROM " + table)
			}
		}
		raw(`UPDATE credits SET km = 1000000`)
		raw(`UPDATE outbox SET body = '\x00'`)
		raw(`UPDATE bindings SET account = 'A'`)
		raw(`UPDATE claims SET body = '\x00'`)
		raw(`UPDATE handovers SET cut = 0`)
		raw(`UPDATE accounts SET secret = secret`)
		raw(`UPDATE account_changes SET key = key`)
		raw(`UPDATE grants SET crystals = 9`)
		raw(`UPDATE redemptions SET milli = 1`)
		raw(`UPDATE boxes SET owner = 1`)
		if role != Settle {
			raw(`UPDATE boxes SET milli = 0, crystals = 0, goods = '', opened_drop = 1`)
		}
		if role != Account && role != Settle {
			raw(`UPDATE crystals SET amount = 9`)
			raw(`UPDATE pool SET issued = 0`)
		}
		if role == Account {
			raw(`SELECT vector FROM reports`)
			raw(`SELECT device FROM vehicles`)
			raw(`SELECT public FROM ecu_keys`)
			raw(`SELECT body FROM claims`)
		}
		raw(`CREATE TABLE mine (x int)`)
		raw(`CREATE TEMP TABLE mine (x int)`)
		raw(`CREATE TEMP TABLE vehicles (id text)`)
		raw(`CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
		var limit int
		var work, idle string
		err := conn.QueryRow(t.Context(), `SELECT rolconnlimit, current_setting('statement_timeout'), current_setting('idle_in_transaction_session_timeout')
			FROM pg_roles WHERE rolname = current_user`).Scan(&limit, &work, &idle)
		if err != nil || limit != 64 || work != "30s" || idle != "30s" {
			t.Errorf("%s: at most %d connections, %s for a statement, %s idle (%v)", role, limit, work, idle, err)
		}
		raw(`COPY accounts TO PROGRAM 'cat'`)
		raw(`SET ROLE rawstone_owner`)
		for _, other := range every.Each() {
			if other != role {
				raw(`SET ROLE ` + other.Login())
			}
		}
		if role == Statements {
			raw(`SELECT vector FROM reports`)
			raw(`SELECT device FROM vehicles`)
			raw(`SELECT id FROM vehicles`)
			raw(`SELECT body FROM claims`)
			raw(`SELECT payload FROM draft`)
			raw(`SELECT body FROM idempotency`)
			raw(`SELECT nextval('outbox_id_seq')`)
		}
		raw(`INSERT INTO erasing (account, leaves) VALUES ('A', '[]')`) // the role admin too, while a car is bound
		raw(`INSERT INTO erased_leaves (day, pseudonym, weight) VALUES (1, decode(repeat('02', 32), 'hex'), 1)`)
		raw(`INSERT INTO erasures (erasure) VALUES (7)`)
		raw(`INSERT INTO erased_entries (number, erasure) VALUES (0, 7)`)
		if role != Settle && role != Audit && role != Statements && role != Person {
			raw(`SELECT secret FROM accounts`)
			raw(`SELECT salt FROM bindings`)
		}
		if role == Ingest || role == Admin || role == Account { // blocks are the settler's
			raw(`INSERT INTO outbox (type, body) VALUES (8, '\x00')`)
			raw(`INSERT INTO outbox (type, body, number) VALUES (5, '\x00', 7)`)
			raw(`INSERT INTO outbox (type, body) VALUES (13, '\x00')`)
			raw(`INSERT INTO outbox (type, body) VALUES (15, '\x00')`)
		}
		if role == Ingest || role == Admin { // what owners ask for is not theirs, but that the operator may change an account's key
			for _, typ := range []string{"10", "11", "12", "14"} {
				if role != Admin || typ != "10" {
					raw(`INSERT INTO outbox (type, body) VALUES (` + typ + `, '\x00')`)
				}
			}
		}
	}
	for _, role := range []Role{Ingest, Account} {
		if _, err := r.pg.As(t, role.Login()).Exec(t.Context(), `INSERT INTO outbox (type, body) VALUES (4, '\x00')`); !denied(err) {
			t.Errorf("%s adds a binding: %v", role, err)
		}
	}
	if _, err := r.pg.As(t, Account.Login()).Exec(t.Context(), `INSERT INTO outbox (type, body) VALUES (5, '\x00')`); !denied(err) {
		t.Errorf("account adds a credit: %v", err)
	}
	for _, sql := range []string{
		`UPDATE vehicles SET token_hash = sha256('mine')`, `UPDATE vehicles SET token_hash = NULL`, `UPDATE vehicles SET token_expires_s = 9999999999`,
		`UPDATE vehicles SET device = decode(repeat('02', 33), 'hex')`, `UPDATE vehicles SET device = NULL`, `UPDATE vehicles SET changed = 0`,
		`UPDATE vehicles SET changed = changed + 1`, `UPDATE vehicles SET certificate_until_s = 9999999999`, `UPDATE vehicles SET revoked = 1`,
		`UPDATE vehicles SET account = 'A'`, `INSERT INTO vehicles (id, account, added_day) VALUES ('V9', 'A', 1)`,
		`CREATE OR REPLACE FUNCTION enrol_vehicle(a BYTEA, b BIGINT, c TEXT, d BYTEA) RETURNS SETOF BIGINT LANGUAGE sql AS 'SELECT 1::bigint'`,
		`ALTER FUNCTION enrol_vehicle SECURITY INVOKER`, `DROP FUNCTION renew_certificate`,
	} {
		if _, err := r.pg.As(t, Ingest.Login()).Exec(t.Context(), sql); !denied(err) {
			t.Errorf("ingest: %s: %v", sql, err)
		}
	}
	for _, role := range []Role{Settle, Web, Audit, Admin, Account, Statements, Person} {
		for _, sql := range []string{`SELECT * FROM enrol_vehicle('', 1, '', '')`, `SELECT * FROM renew_certificate(1, '', '')`} {
			if _, err := r.pg.As(t, role.Login()).Exec(t.Context(), sql); !denied(err) {
				t.Errorf("%s: %s: %v", role, sql, err)
			}
		}
	}
	if _, err := r.pg.As(t, Admin.Login()).Exec(t.Context(), `INSERT INTO outbox (type, body) VALUES (5, '\x00')`); !denied(err) {
		t.Errorf("admin adds a credit: %v", err)
	}
}

// TestWhatTheManualTakes runs what docs/operations.md has the superuser run. What is left is enough for each role.
func TestWhatTheManualTakes(t *testing.T) {
	r := onPostgres(t)
	manual, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, sql, ok := strings.Cut(string(manual), "-- connected to the database of the records\n")
	sql, _, ok2 := strings.Cut(sql, "```")
	if !ok || !ok2 {
		t.Fatal("the manual has no such SQL")
	}
	if _, err := r.pg.As(t, "postgres").Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	for _, role := range every.Each() {
		conn := r.pg.As(t, role.Login())
		for _, raw := range []string{
			`SELECT lo_create(0)`, `SELECT pg_advisory_lock_shared(1)`, `SELECT pg_try_advisory_xact_lock(1)`, `SELECT pg_advisory_lock(1380013907, 1)`,
		} {
			_, err := conn.Exec(t.Context(), raw)
			if may := role != Web && role != Audit && role != Statements && role != Person && strings.Contains(raw, "1380013907"); denied(err) == may {
				t.Errorf("%s: %s: %v", role, raw, err)
			}
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	register(t, r.open(t, Admin))
	settle := r.open(t, Settle)
	l, err := settle.Lock(t.Context(), "settler")
	if err != nil {
		t.Fatal(err)
	}
	update(t, settle, func(tx *Tx) error { return tx.NumberEntries(t.Context(), 9) })
	update(t, r.open(t, Ingest), func(tx *Tx) error { return tx.AddSpan(t.Context(), span(9), 1, 3, []Credit{credit(9)}) })
	view(t, r.open(t, Web), func(tx *Tx) error { _, err := tx.Summary(t.Context()); return err })
	if err := errors.Join(l.Release(), Migrate(t.Context(), r.pg.URL())); err != nil {
		t.Error(err)
	}
}

// TestEnrolmentFunctions calls, with ingest's stolen connection, what ingest may call with what it should not: PostgreSQL itself looks at token,
// dates, keys and revocation.
func TestEnrolmentFunctions(t *testing.T) {
	r := onPostgres(t)
	admin, ingest := r.open(t, Admin), r.open(t, Ingest)
	register(t, admin)
	now := time.Now()
	token := wire.Hash{1}
	update(t, admin, func(tx *Tx) error {
		return errors.Join(
			tx.AddVehicle(t.Context(), Vehicle{ID: "V2", Account: "A"}), tx.SetToken(t.Context(), "V2", token, now.Add(time.Hour)),
			tx.AddVehicle(t.Context(), Vehicle{ID: "V3", Account: "A"}), tx.SetToken(t.Context(), "V3", token, now.Add(-time.Second)),
			tx.AddVehicle(t.Context(), Vehicle{ID: "V4", Account: "A", Device: wire.PublicKey{2, 4}}), tx.RevokeVehicle(t.Context(), "V4"),
		)
	})
	conn := r.pg.As(t, Ingest.Login())
	// Somebody who has the connection can also choose what names mean.
	for _, sql := range []string{`SET search_path = pg_temp, public`, `SET TIME ZONE 'Pacific/Kiritimati'`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(sql string, args ...any) int64 {
		t.Helper()
		tag, err := conn.Exec(t.Context(), sql, args...)
		if err != nil {
			t.Fatal(err)
		}
		return tag.RowsAffected()
	}
	fortnight := now.Add(14 * 24 * time.Hour).Unix()
	enrol := func(key wire.PublicKey, until int64, vehicle string, token wire.Hash) int64 {
		t.Helper()
		return rows(`SELECT FROM public.enrol_vehicle($1, $2, $3, $4)`, key[:], until, vehicle, token[:])
	}
	renew := func(until int64, vehicle string, key wire.PublicKey) int64 {
		t.Helper()
		return rows(`SELECT FROM public.renew_certificate($1, $2, $3)`, until, vehicle, key[:])
	}
	key := wire.PublicKey{2, 3}
	for name, n := range map[string]int64{
		"expired token": enrol(key, fortnight, "V3", token), "wrong token": enrol(key, fortnight, "V2", wire.Hash{2}), "an ECU's key": enrol(public, fortnight, "V2", token),
		"ended certificate": enrol(key, now.Unix()-60, "V2", token), "endless certificate": enrol(key, now.Unix()+40*86400, "V2", token),
		"no token": enrol(key, fortnight, "V1", wire.Hash{}), "revoked": enrol(key, fortnight, "V4", token),
	} {
		if n != 0 {
			t.Errorf("%s: enrolled", name)
		}
	}
	if enrol(key, fortnight, "V2", token) != 1 || enrol(wire.PublicKey{2, 9}, fortnight, "V2", token) != 0 {
		t.Error("a token is not good exactly once")
	}
	if vehicles, serial, err := ingest.Changed(t.Context(), 0); err != nil || !slices.Equal(vehicles, []string{"V4", "V2"}) || serial != 2 {
		t.Errorf("changed: %v %d %v", vehicles, serial, err)
	}
	for name, n := range map[string]int64{
		"another key": renew(fortnight, "V2", device), "revoked": renew(fortnight, "V4", wire.PublicKey{2, 4}), "ended": renew(1, "V2", key),
		"endless": renew(now.Unix()+40*86400, "V2", key), "24 months late": renew(fortnight, "V1", device), // which never had one
	} {
		if n != 0 {
			t.Errorf("%s: renewed", name)
		}
	}
	if renew(fortnight+1, "V2", key) != 1 {
		t.Error("not renewed")
	}
	if vehicles, _, err := ingest.Changed(t.Context(), 0); err != nil || len(vehicles) != 2 {
		t.Errorf("a renewal changed who may connect: %v %v", vehicles, err)
	}
}

// TestAppendOnly holds for the owner and for the server's superuser, who may do everything that no trigger keeps them from.
func TestAppendOnly(t *testing.T) {
	r := onPostgres(t)
	d := r.open(t, every)
	register(t, d)
	update(t, d, func(tx *Tx) error {
		return errors.Join(
			tx.AddSpan(t.Context(), span(9), 1, 3, []Credit{credit(9)}),
			tx.AddSubmission(t.Context(), &Submission{ID: wire.Hash{7}, Vehicle: "V1", Kind: wire.KindClaim, Accepted: true, Receipt: []byte{1}}),
			tx.AddClaim(t.Context(), wire.Hash{7}, "V1", []byte("c")),
			tx.AddReport(t.Context(), Report{Vehicle: "V1", Epoch: 1, Vector: []byte{1}}),
			tx.CloseBinding(t.Context(), ledger.HandoverOpening{ECU: public.ID(), Cut: 9, Revoked: true}),
			tx.NumberEntries(t.Context(), 9), tx.MarkAppended(t.Context(), 2),
		)
	})
	estates(t, r)
	for _, login := range []string{firewall.Owner, "postgres"} {
		conn := r.pg.As(t, login)
		for _, sql := range []string{
			`UPDATE account_changes SET key = key`, `DELETE FROM account_changes`, `UPDATE grants SET crystals = 9`, `DELETE FROM grants`,
			`UPDATE redemptions SET milli = 1`, `DELETE FROM redemptions`, `DELETE FROM boxes`, `TRUNCATE boxes`, `UPDATE boxes SET account = 'A'`,
			`UPDATE boxes SET request_id = request_id`, `UPDATE boxes SET worst = 9`, `UPDATE boxes SET goods = 'x'`, `UPDATE boxes SET milli = 1`,
			`DELETE FROM pool`, `TRUNCATE pool`,
			`UPDATE credits SET km = 1000000`, `UPDATE spans SET to_day = 0`, `UPDATE claims SET body = ''`, `UPDATE reports SET epoch = 9`,
			`UPDATE handovers SET cut = 0`, `UPDATE outbox SET body = ''`, `UPDATE outbox SET type = 1`, `UPDATE outbox SET number = number + 7`,
			`UPDATE outbox SET appended = 0 WHERE number = 0`, `UPDATE outbox SET number = NULL`,
			`UPDATE bindings SET account = 'B'`, `UPDATE bindings SET first_seq = 0`, `UPDATE bindings SET first_signature = head_signature`, `UPDATE bindings SET salt = salt || '\x00'`,
			`UPDATE bindings SET closed = 0`, `UPDATE ecu_keys SET revoked = 0`, `UPDATE submissions SET receipt = ''`,
			`DELETE FROM credits`, `DELETE FROM spans`, `DELETE FROM claims`, `DELETE FROM reports`, `DELETE FROM handovers`, `DELETE FROM outbox`,
			`DELETE FROM bindings`, `DELETE FROM ecu_keys`, `DELETE FROM submissions`, `TRUNCATE credits`, `TRUNCATE outbox CASCADE`, `TRUNCATE claims`,
		} {
			if _, err := conn.Exec(t.Context(), sql); !denied(err) {
				t.Errorf("%s: %s: %v", login, sql, err)
			}
		}
	}
	if _, err := r.pg.As(t, firewall.Owner).Exec(t.Context(), `INSERT INTO outbox (type, body) VALUES (5, '\x00')`); !denied(err) {
		t.Errorf("the owner adds an entry: %v", err)
	}
}

// estates adds a row of each kind of what owners ask for, the box opened.
func estates(t *testing.T, r *rig) {
	t.Helper()
	conn := r.pg.As(t, "postgres")
	for _, sql := range []string{
		`INSERT INTO account_changes SELECT min(id), decode(repeat('01', 32), 'hex'), 'A', decode(repeat('02', 33), 'hex'), 1, 1 FROM outbox`,
		`INSERT INTO grants SELECT min(id), decode(repeat('01', 32), 'hex'), 'A', 't', decode(repeat('01', 32), 'hex'), 1, 1 FROM outbox`,
		`INSERT INTO redemptions SELECT min(id), decode(repeat('01', 32), 'hex'), 'A', 1, 1, 'i', 1, 1, '', decode(repeat('01', 32), 'hex') FROM outbox`,
		`INSERT INTO boxes (outbox_id, salt, account, day, offers, box, owner, request, request_id, cost, worst, back)
			SELECT min(id), decode(repeat('01', 32), 'hex'), 'A', 1, 1, 'b', 1, '', decode(repeat('01', 32), 'hex'), 1, 5, 5 FROM outbox`,
		`UPDATE boxes SET milli = 4, crystals = 0, goods = '', opened_drop = 1`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTextsStayTexts sends SQL through every text of every method. It comes back as it was, finds nothing, and changes nothing else.
func TestTextsStayTexts(t *testing.T) { engines(t, testTextsStayTexts) }

func testTextsStayTexts(t *testing.T, r *rig) {
	d := r.open(t, every)
	ctx := t.Context()
	register(t, d)
	evil := []string{
		`'; DROP TABLE credits; --`, `' OR '1'='1`, `" OR ""="`, `$1`, `?`, `:a`, `%s`, `\'; DELETE FROM outbox; --`, `x'||(SELECT secret FROM accounts)||'`,
		`$$; UPDATE credits SET km = 9; $$`, "`", "a\r\n;--", `';COMMIT;DROP TABLE claims;BEGIN;--`, "\u2019; DROP TABLE vehicles; --", `/*`, `"; SELECT pg_sleep(9); --`,
	}
	for i, text := range evil {
		key := wire.PublicKey{2, 100, byte(i)}
		end := uint64(50 + i)
		s := Span{ECU: key.ID(), From: birth, To: wire.Head{Seq: end}, Vehicle: text, Submission: wire.Hash{1, byte(i)}}
		c := Credit{Account: text, Vehicle: text, ECU: key.ID(), ToSeq: end, Kind: text, Km: 1, Submission: wire.Hash{1, byte(i)}}
		sub := Submission{ID: wire.Hash{1, byte(i)}, Vehicle: text, Kind: wire.Kind(text), Reason: wire.Reason(text), Receipt: []byte(text)}
		update(t, d, func(tx *Tx) error {
			errs := []error{
				tx.AddAccount(ctx, text), tx.AddVehicle(ctx, Vehicle{ID: text, Account: text, Device: wire.PublicKey{2, 101, byte(i)}}), tx.AddECU(ctx, key, []byte(text)),
				tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: text, Account: text, ECU: key, Head: birth}),
			}
			b, err := tx.OpenBinding(ctx, text)
			errs = append(errs, err, tx.AddSpan(ctx, s, b.Entry, birth.Seq, []Credit{c}), tx.AddSubmission(ctx, &sub), tx.AddClaim(ctx, sub.ID, text, []byte(text)),
				tx.AddReport(ctx, Report{Vehicle: text, Epoch: 1, Vector: []byte(text)}), tx.SetSeen(ctx, text, time.Unix(5, 0)),
				tx.CountRefusal(ctx, wire.Kind(text), wire.Reason(text)), tx.SetToken(ctx, text, wire.Hash{1}, time.Unix(9, 0)),
				tx.Settle(ctx, uint64(i), uint64(i+1), map[string]uint64{text: 7}),
				tx.Estate(estate.Rules{}).Answer(ctx, text, text, wire.Hash{1}, answer.Answer{Body: []byte(text)}, 1))
			return errors.Join(errs...)
		})
		view(t, d, func(tx *Tx) error {
			v, err := tx.Vehicle(ctx, text)
			b, err2 := tx.OpenBinding(ctx, text)
			cs, err3 := tx.SpanCredits(ctx, key.ID(), end)
			got, err4 := tx.Submission(ctx, sub.ID, text, wire.Kind(text))
			milli, err5 := tx.Balance(ctx, text)
			near, err6 := tx.Charges(ctx, Report{Vehicle: text, Epoch: 1})
			e, err7 := tx.Enrolment(ctx, text)
			_, err8 := tx.AccountSecret(ctx, text)
			if v.ID != text || v.Account != text || b.Vehicle != text || b.Account != text || len(cs) != 1 || cs[0].Kind != text || cs[0].Account != text ||
				milli != 7 || !near.Reported || e.Vehicle != text || string(got.Reason) != text || got.Vehicle != text {
				t.Errorf("%q came back as %+v %+v %+v %+v %d %+v %+v", text, v, b, cs, got, milli, near, e)
			}
			a, err9 := tx.Estate(estate.Rules{}).Remember(ctx, text, text, wire.Hash{1})
			if p, err := tx.Estate(estate.Rules{}).Profile(ctx, text); err9 != nil || err != nil || a == nil || string(a.Body) != text || p.Account != text || p.Milli != 7 || !p.Owner {
				t.Errorf("%q came back as %+v, %v and %+v, %v", text, a, err9, p, err)
			}
			_, none := tx.Vehicle(ctx, text+"x")
			_, none2 := tx.Submission(ctx, wire.Hash{}, text, wire.KindClaim)
			_, none3 := tx.AccountSecret(ctx, text+"x")
			if !errors.Is(none, ErrNotFound) || !errors.Is(none2, ErrNotFound) || !errors.Is(none3, ErrNotFound) {
				t.Errorf("%q finds something: %v, %v, %v", text, none, none2, none3)
			}
			return errors.Join(err, err2, err3, err4, err5, err6, err7, err8)
		})
	}
	view(t, d, func(tx *Tx) error {
		s, err := tx.Summary(ctx)
		if s.Credits != len(evil) || s.KmProven != int64(len(evil)) || s.Vehicles != len(evil)+1 || s.Accounts != len(evil)+1 {
			t.Errorf("afterwards there are %+v", s)
		}
		return err
	})
	for _, text := range []string{"a\x00b", "\xff"} {
		if err := d.Update(ctx, func(tx *Tx) error { return tx.AddAccount(ctx, text) }); err == nil {
			t.Errorf("text %q was accepted", text)
		}
	}
}

// TestEnginesHaveOneSchema compares tables and columns.
func TestEnginesHaveOneSchema(t *testing.T) {
	type shape map[string][]string
	collect := func(names ...string) (out shape) {
		out = make(shape)
		for _, n := range names {
			table, column, _ := strings.Cut(n, ".")
			out[table] = append(out[table], column)
		}
		for _, columns := range out {
			slices.Sort(columns)
		}
		return out
	}
	pg := onPostgres(t)
	rows, err := pg.pg.As(t, "postgres").Query(t.Context(),
		`SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'goose_db_version'`)
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/records.db"
	(&rig{path: path}).open(t, Web)
	columns := firewall.Statement{Name: "columns", Roles: Web, SQL: `SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'goose_db_version'`}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	db, err := database.Open(t.Context(), database.Config{Path: path, Role: Web, Migrations: dir, Statements: []firewall.Statement{columns}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var file []string
	err = db.View(t.Context(), func(tx *database.Tx) (err error) {
		file, err = database.List(t.Context(), tx, columns, func(s *string, scan database.Scanner) error { return scan(s) })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(collect(file...), collect(server...)); d != "" {
		t.Error(d)
	}
}
