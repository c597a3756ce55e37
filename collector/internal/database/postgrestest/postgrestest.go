// Package postgrestest runs a PostgreSQL server for tests; as net/http/httptest it is code for tests only. It speaks TLS on
// loopback under a certificate that it makes, believes everybody there to be who they say, and forgets everything. A test that asks for one
// where there is no PostgreSQL is skipped. It imports nothing of this module.
package postgrestest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// superuser is the server's own. Tests of what a wall keeps out need somebody who stands above it.
const superuser = "postgres"

// A Server serves one test binary, and each test in it a database of its own. The zero value is a server that is yet to start; it is for
// a variable of the test's package.
type Server struct {
	once    sync.Once
	err     error
	dir     string
	port    int
	process *exec.Cmd
	serial  atomic.Int64
	users   sync.Mutex
}

// Main runs a package's tests and then stops the server, when one was started: call it from TestMain.
func (s *Server) Main(m *testing.M) int {
	code := m.Run()
	s.stop()
	return code
}

func (s *Server) stop() {
	if s.process != nil {
		_ = s.process.Process.Signal(syscall.SIGINT) // fast shutdown
		_ = s.process.Wait()
	}
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

// errNone says that there is no PostgreSQL.
var errNone = errors.New("no PostgreSQL: install the package postgresql, or set RAWSTONE_POSTGRES_BIN to the folder of initdb and postgres")

// binaries returns the folder of the newest PostgreSQL.
func binaries() (string, error) {
	if dir := os.Getenv("RAWSTONE_POSTGRES_BIN"); dir != "" {
		return dir, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	newest, dir := 0, ""
	for _, d := range found {
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(d))); err == nil && v > newest {
			newest, dir = v, d
		}
	}
	if dir == "" {
		return "", errors.Join(errNone, err)
	}
	return dir, nil
}

// A Database is one test's.
type Database struct {
	server *Server
	name   string
}

// New returns a database of the owner's, which may make logins; the owner is made when it is missing. Logins are the server's: all its
// databases share them.
func (s *Server) New(t testing.TB, owner string) *Database {
	t.Helper()
	s.once.Do(func() { s.err = s.start() })
	if errors.Is(s.err, errNone) {
		t.Skip(s.err)
	} else if s.err != nil {
		t.Fatal(s.err)
	}
	d := &Database{s, fmt.Sprintf("test%d", s.serial.Add(1))}
	s.users.Lock()
	defer s.users.Unlock()
	admin := (&Database{s, "postgres"}).As(t, superuser)
	var there bool
	if err := admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, owner).Scan(&there); err != nil {
		t.Fatal(err)
	}
	id := pgx.Identifier{owner}.Sanitize()
	if !there {
		run(t, admin, `CREATE ROLE `+id+` LOGIN CREATEROLE`)
	}
	run(t, admin, `CREATE DATABASE `+d.name+` OWNER `+id)
	run(t, d.As(t, superuser), `ALTER SCHEMA public OWNER TO `+id)
	return d
}

func run(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// Join makes a login that may do what all of some roles may, unless it is there.
func (d *Database) Join(t testing.TB, login string, roles ...string) {
	t.Helper()
	d.server.users.Lock()
	defer d.server.users.Unlock()
	admin := d.As(t, superuser)
	var there bool
	if err := admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, login).Scan(&there); err != nil {
		t.Fatal(err)
	}
	if there {
		return
	}
	run(t, admin, `CREATE ROLE `+pgx.Identifier{login}.Sanitize()+` LOGIN`)
	for _, r := range roles {
		run(t, admin, `GRANT `+pgx.Identifier{r}.Sanitize()+` TO `+pgx.Identifier{login}.Sanitize())
	}
}

// URL returns the database's address, with no login in it.
func (d *Database) URL() string {
	q := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {filepath.Join(d.server.dir, "server.pem")}}
	u := url.URL{Scheme: "postgres", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(d.server.port)), Path: d.name, RawQuery: q.Encode()}
	return u.String()
}

// As opens a bare connection as a login, superuser postgres among them, until the test ends.
func (d *Database) As(t testing.TB, login string) *pgx.Conn {
	t.Helper()
	u, err := url.Parse(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(login)
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// start makes a cluster and starts its server.
func (s *Server) start() (err error) {
	bin, err := binaries()
	if err != nil {
		return err
	}
	if s.dir, err = os.MkdirTemp("", "postgrestest"); err != nil {
		return err
	}
	as, err := s.unprivileged()
	if err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	initdb.SysProcAttr, initdb.Dir = as, s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot run initdb: %w: %s", err, out)
	}
	hba := filepath.Join(data, "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("hostssl all all 127.0.0.1/32 trust\n"), 0o600); err != nil {
		return err
	}
	s.port, err = freePort()
	if err != nil {
		return err
	}
	var log bytes.Buffer
	s.process = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(s.port))
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=" + s.dir, "ssl=on",
		"ssl_cert_file=" + filepath.Join(s.dir, "server.pem"), "ssl_key_file=" + filepath.Join(s.dir, "server.key"),
		"fsync=off", "shared_buffers=32MB", "max_connections=200",
	} {
		s.process.Args = append(s.process.Args, "-c", setting)
	}
	s.process.SysProcAttr, s.process.Dir, s.process.Stderr = as, s.dir, &log
	if err := s.process.Start(); err != nil {
		return err
	}
	return s.wait(&log)
}

// wait returns once the server answers.
func (s *Server) wait(log *bytes.Buffer) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, (&Database{s, "postgres"}).URL()+"&user="+superuser)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			s.stop()
			return fmt.Errorf("PostgreSQL does not start: %w: %s", err, log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// unprivileged writes the server's certificate and gives the folder to whom the server shall run as: PostgreSQL refuses to run as root.
// The server dies with the tests, however they end.
func (s *Server) unprivileged() (*syscall.SysProcAttr, error) {
	as := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postgrestest"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	files := map[string]*pem.Block{"server.pem": {Type: "CERTIFICATE", Bytes: cert}, "server.key": {Type: "PRIVATE KEY", Bytes: secret}}
	for name, block := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	if os.Getuid() != 0 {
		return as, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, errors.Join(errNone, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, path := range []string{s.dir, filepath.Join(s.dir, "server.pem"), filepath.Join(s.dir, "server.key")} {
		if err := os.Chown(path, uid, gid); err != nil {
			return nil, err
		}
	}
	return as, nil
}
