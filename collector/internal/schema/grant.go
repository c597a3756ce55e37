package schema

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"rawstone/collector/internal/firewall"
)

// grant makes the logins and gives each role what its statements need, and takes everything else.
func grant(ctx context.Context, tx pgx.Tx, list []firewall.Statement) error {
	if err := closePublic(ctx, tx); err != nil {
		return err
	}
	tables, err := columns(ctx, tx)
	if err != nil {
		return err
	}
	functions, err := callable(ctx, tx)
	if err != nil {
		return err
	}
	for _, role := range firewall.Roles() {
		commands, err := rights(list, role, tables, functions)
		if err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, role.Login()).Scan(&there); err != nil {
			return err
		}
		login := pgx.Identifier{role.Login()}.Sanitize()
		if !there {
			commands = append([]string{`CREATE ROLE ` + login + ` LOGIN NOINHERIT`}, commands...)
		}
		for _, c := range append(commands, bounds(role)...) {
			if _, err := tx.Exec(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
		}
	}
	return nil
}

// bounds returns the commands that bound what a login may keep the server at, unless a session asks for other times.
func bounds(role firewall.Role) (commands []string) {
	login := pgx.Identifier{role.Login()}.Sanitize()
	for _, setting := range []string{"statement_timeout", "idle_in_transaction_session_timeout"} {
		commands = append(commands, fmt.Sprintf("ALTER ROLE %s SET %s = '%ds'", login, setting, int(workTime.Seconds())))
	}
	return append(commands, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", login, maxConnections))
}

// closePublic takes from everybody what PostgreSQL gives everybody in a new database: temporary tables, and before version 15 tables.
func closePublic(ctx context.Context, tx pgx.Tx) error {
	var database string
	if err := tx.QueryRow(ctx, `SELECT current_database()`).Scan(&database); err != nil {
		return err
	}
	for _, c := range []string{
		`REVOKE CREATE, TEMPORARY ON DATABASE ` + pgx.Identifier{database}.Sanitize() + ` FROM PUBLIC`,
		`REVOKE CREATE ON SCHEMA public FROM PUBLIC`,
		`REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC`,
	} {
		if _, err := tx.Exec(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	// Who does not own the database or schema is only warned.
	var open bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
			WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type IN ('CREATE', 'TEMPORARY'))
		OR EXISTS (SELECT 1 FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE')`).Scan(&open)
	if err == nil && open {
		err = fmt.Errorf("everybody may make tables in the database: give the database to %s", firewall.Owner)
	}
	return err
}

// columns returns the columns of all tables, in their order.
func columns(ctx context.Context, tx pgx.Tx) (map[string][]string, error) {
	rows, err := tx.Query(ctx, `SELECT table_name::text, column_name::text FROM information_schema.columns
		WHERE table_schema = 'public' ORDER BY table_name, ordinal_position`)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]string)
	var table, column string
	_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error {
		out[table] = append(out[table], column)
		return nil
	})
	return out, err
}

// callable returns the functions that statements may call, which have names of their own.
func callable(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
		AND prorettype <> 'trigger'::regtype ORDER BY proname`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// rights returns the commands that give a role what its statements need.
func rights(list []firewall.Statement, role firewall.Role, tables map[string][]string, functions []string) ([]string, error) {
	has := make(map[string]bool) // VERB (column) ON table
	for _, s := range list {
		if s.Roles&role == 0 {
			continue
		}
		needs, err := need(s.OnPostgres(), tables, functions)
		if err != nil {
			return nil, fmt.Errorf("statement %q: %w", s.Name, err)
		}
		for _, n := range needs {
			has[n] = true
		}
	}
	login := pgx.Identifier{role.Login()}.Sanitize()
	commands := []string{
		`REVOKE ALL ON ALL TABLES IN SCHEMA public FROM ` + login,
		`REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM ` + login,
		`REVOKE ALL ON SCHEMA public FROM ` + login,
		`GRANT USAGE ON SCHEMA public TO ` + login,
		`GRANT SELECT ON goose_db_version TO ` + login,
	}
	for table, all := range tables { // a right on a column is not revoked with the table's
		if table != "goose_db_version" {
			commands = append(commands, fmt.Sprintf(`REVOKE ALL (%s) ON %s FROM %s`, strings.Join(all, ", "), table, login))
		}
	}
	var grants []string
	for n := range has {
		grants = append(grants, `GRANT `+n+` TO `+login)
	}
	slices.Sort(grants)
	return append(commands, grants...), nil
}

// words splits SQL into lower-case words, numbers and single signs.
func words(sql string) (out []string) {
	isWord := func(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '$' }
	sql = strings.ToLower(sql)
	for i := 0; i < len(sql); {
		j := i + 1
		if isWord(sql[i]) {
			for j < len(sql) && isWord(sql[j]) {
				j++
			}
		}
		if w := strings.TrimSpace(sql[i:j]); w != "" {
			out = append(out, w)
		}
		i = j
	}
	return out
}

// need returns the rights that a statement needs. It may call functions, for which it needs no more. It may write to one table, which it names first; of each table that it names it may
// read the columns that it names too, where it does more than write them.
func need(sql string, tables map[string][]string, functions []string) (out []string, err error) {
	w := words(sql)
	target := ""
	add := func(verb, column string) {
		out = append(out, fmt.Sprintf("%s (%s) ON %s", verb, column, target))
	}
	is := func(i int, want ...string) bool {
		return i+len(want) <= len(w) && slices.Equal(w[i:i+len(want)], want)
	}
	switch {
	case is(0, "select"):
	case is(0, "delete", "from") && len(w) > 2:
		out = append(out, "DELETE ON "+w[2])
	case is(0, "update") && len(w) > 3 && w[2] == "set":
		target = w[1]
		assigned(w[3:], func(c string) { add("UPDATE", c) })
	case is(0, "insert", "into") && len(w) > 3 && w[3] == "(":
		target = w[2]
		end := slices.Index(w, ")")
		if end < 0 {
			return nil, fmt.Errorf("no list of columns")
		}
		for _, c := range w[4:end] {
			if c != "," {
				add("INSERT", c)
			}
		}
		w = w[end+1:]
		for i := range w {
			if is(i, "do", "update", "set") {
				assigned(w[i+3:], func(c string) { add("UPDATE", c) })
			}
		}
		if target != "" && (slices.Contains(w, "returning") || slices.Contains(w, "conflict")) {
			w = append(w, target)
		}
	default:
		return nil, fmt.Errorf("it is none of SELECT, INSERT INTO t (…), UPDATE t SET and DELETE FROM")
	}
	for _, f := range functions {
		if slices.Contains(w, f) {
			out = append(out, "EXECUTE ON FUNCTION "+f)
		}
	}
	for table, all := range tables {
		if !slices.Contains(w, table) {
			continue
		}
		named := false
		for _, c := range all {
			if slices.Contains(w, c) {
				named = true
				out = append(out, fmt.Sprintf("SELECT (%s) ON %s", c, table))
			}
		}
		if !named { // count(*) needs any
			out = append(out, fmt.Sprintf("SELECT (%s) ON %s", all[0], table))
		}
	}
	return out, nil
}

// assigned calls fn with the columns that the list after SET assigns.
func assigned(w []string, fn func(column string)) {
	depth := 0
	for i, word := range w {
		switch word {
		case "(":
			depth++
		case ")":
			depth--
		case "where", "from", "returning":
			if depth == 0 {
				return
			}
		case "=":
			if depth == 0 && i > 0 {
				fn(w[i-1])
			}
		}
	}
}
