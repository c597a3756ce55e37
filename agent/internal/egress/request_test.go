package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/blob"
	"rawstone/agent/internal/certificate"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/inclusion"
	"rawstone/agent/internal/recall"
	"rawstone/pkg/enroll"
	proof "rawstone/pkg/inclusion"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

var quiet = slog.New(slog.DiscardHandler)

// A tap is a TLS server that keeps every byte of each connection as it came out of TLS.
type tap struct {
	url  string
	tls  *tls.Config // a client's
	came chan []byte
}

// newTap serves each connection with answer, which reads what it wants.
func newTap(t *testing.T, answer func(net.Conn, io.Reader)) *tap {
	t.Helper()
	certificates := httptest.NewTLSServer(nil) // whose certificate is for 127.0.0.1
	certificates.Close()
	l := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: certificates.TLS.Certificates}))
	p := &tap{url: l.Addr().String(), tls: certificates.Client().Transport.(*http.Transport).TLSClientConfig, came: make(chan []byte, 16)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				var seen bytes.Buffer
				answer(conn, io.TeeReader(conn, &seen))
				p.came <- seen.Bytes()
			})
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return p
}

// newHTTP refuses every request, after it has been read to its end.
func newHTTP(t *testing.T) *tap {
	return newTap(t, func(conn net.Conn, r io.Reader) {
		b := bufio.NewReader(r)
		if req, err := http.ReadRequest(b); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			fmt.Fprint(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, b) // whatever follows, until the client closes
		}
	})
}

// first runs fn until the first connection has ended, and returns what came on it.
func (p *tap) first(t *testing.T, fn func(context.Context)) []byte {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { fn(ctx) })
	b := <-p.came
	cancel()
	running.Wait()
	return b
}

// request is the table of a request: its line, and headers that say nothing of the car.
func (p *tap) request(line string, more ...field) []field {
	return append([]field{
		{"request", "protocol: what is asked for", []byte(line + " HTTP/1.1"), 0},
		{"header Host", "protocol: the collector's own address", []byte(p.url), 0},
		{"header Connection", "protocol: no request can be linked to another", []byte("close"), 0},
	}, more...)
}

func walk(t *testing.T, what string, b []byte, table []field) {
	t.Helper()
	leaves, err := httpLeaves(b)
	if err == nil {
		err = check(leaves, table)
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

var noBody = field{"body", "protocol: there is none", []byte{}, 0}

// TestBlobRequest: the car asks for a file by the hash that a public policy names, and says nothing of itself.
func TestBlobRequest(t *testing.T) {
	p := newHTTP(t)
	s := must(blob.New(blob.Config{Dir: t.TempDir(), URL: "https://" + p.url, TLS: p.tls, Logger: quiet}))
	hash := wire.Hash{1, 2, 3}
	b := p.first(t, func(ctx context.Context) {
		if _, err := s.Get(ctx, hash, 100); err == nil {
			t.Error("a refused file came")
		}
	})
	walk(t, "blob request", b, p.request("GET /v1/blobs/"+hash.String(), noBody))
}

// TestInclusionRequest: the car names the claim that it sent, by its hash.
func TestInclusionRequest(t *testing.T) {
	p := newHTTP(t)
	db := must(flash.Open(flash.Config{Dir: t.TempDir(), Logger: quiet}))
	t.Cleanup(func() { db.Close() })
	a := must(archive.Open(archive.Config{DB: db, ECU: ecu, Damaged: func(err error) { t.Error(err) }}))
	key, public := newKey()
	for _, seq := range []uint64{4, 5} {
		m := message(seq, uint32(seq))
		must(a.Put(&m))
	}
	r := &wire.Receipt{Version: wire.Version, Submission: wire.ID([]byte("claim")), Vehicle: vehicle, Accepted: true, Credits: []wire.Credit{{Policy: 1, Km: 40, Effective: 5}}}
	err := a.CommitReceipt(archive.Receipt{ECU: ecu, Seq: 5, Claim: r.Submission, Signed: must(wire.SealReceipt(key, r)), Came: time.Now().Add(-time.Hour), Kinds: []string{terms.KindMileage}},
		func(st *archive.State) { st.Head = &wire.Head{Seq: 5} })
	if err != nil {
		t.Fatal(err)
	}
	c := must(inclusion.New(inclusion.Config{
		Archive: a, URL: "https://" + p.url, TLS: p.tls, Ready: func() bool { return true }, Program: &terms.Program{Receipt: wire.KeySet{public}, Timing: terms.Timing{DayS: 86400, DropS: 600}},
		Validators: func() ([]*ledger.Witness, uint32) { return nil, 0 }, Now: time.Now, Tell: func(string) {}, Logger: quiet,
	}))
	b := p.first(t, func(ctx context.Context) {
		c.Wake()
		_ = c.Run(ctx) // until it is cancelled
	})
	walk(t, "inclusion request", b, p.request("GET "+proof.Path+r.Submission.String(), noBody))
}

// open is a gate that holds nothing.
type open struct{}

func (open) Until(string, time.Time) time.Duration { return 0 }

type clean struct{}

func (clean) Compare(uint64, [32]byte) error { return nil }
func (clean) Err() error                     { return nil }

// TestChargeRequest: the request says nothing but that it is made; whose record is asked for, the certificate says.
func TestChargeRequest(t *testing.T) {
	p := newHTTP(t)
	r := must(recall.New(recall.Config{
		Ledger: clean{}, URL: "https://" + p.url, TLS: p.tls, Ready: func() bool { return true }, Hold: open{}, Now: time.Now, Changed: func() {}, Tell: func(string) {}, Logger: quiet,
	}))
	b := p.first(t, func(ctx context.Context) {
		if r.Heard() == nil {
			t.Error("heard what was not asked for")
		}
		r.Wake()
		_ = r.Run(ctx) // until it is cancelled
	})
	walk(t, "charge request", b, p.request("GET "+wire.ChargePath, noBody))
}

// csr is the table of a certification request (RFC 2986) in the DER of a CBOR byte string at /2.
func csr(public wire.PublicKey) []field {
	key := must(public.Key())
	point := append([]byte{0}, must(key.Bytes())...)
	return []field{
		{"/0.30/0.30/0.02", "protocol: version", []byte{0}, 0},
		{"/0.30/0.30/1.30/0.31/0.30/0.06", "protocol: a common name follows (2.5.4.3)", []byte{0x55, 4, 3}, 0},
		{"/0.30/0.30/1.30/0.31/0.30/1.13", "protocol: the vehicle's name, no VIN", []byte(vehicle), 0},
		{"/0.30/0.30/2.30/0.30/0.06", "protocol: an elliptic curve key (1.2.840.10045.2.1)", []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1}, 0},
		{"/0.30/0.30/2.30/0.30/1.06", "protocol: of P-256 (1.2.840.10045.3.1.7)", []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, 0},
		{"/0.30/0.30/2.30/1.03", "protocol: the device key", point, 0},
		{"/0.30/0.30/3.a0", "protocol: no attributes", []byte{}, 0},
		{"/0.30/1.30/0.06", "protocol: ECDSA with SHA-256 (1.2.840.10045.4.3.2)", []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, 0},
	}
}

// TestCertificateRequests: enrolment says the vehicle's name, device key and token; renewal the same without the token.
func TestCertificateRequests(t *testing.T) {
	p := newHTTP(t)
	device, public := newKey()
	k := must(certificate.Open(certificate.Config{
		Dir: t.TempDir(), Vehicle: vehicle, Device: device, URL: "https://" + p.url, Trust: p.tls, Now: time.Now, Logger: quiet,
	}))
	token := enroll.NewToken()
	enrolment := p.first(t, func(ctx context.Context) {
		if err := k.Enroll(ctx, token); err == nil {
			t.Error("enrolled without an answer")
		}
	})
	renewal := must(must(enroll.NewRequest(vehicle, device, "")).Encode()) // what Run makes; a car renews weeks after it has enrolled
	head, body, _ := bytes.Cut(enrolment, []byte("\r\n\r\n"))
	walk(t, "enrolment", append(bytes.Clone(head), "\r\n\r\n"...), p.request("POST "+enroll.EnrolPath, noBody,
		field{"header Content-Type", "protocol", []byte(enroll.ContentType), 0}, field{"header Content-Length", "protocol: the body's", []byte(strconv.Itoa(len(body))), 0}))
	for what, c := range map[string]struct {
		body []byte
		more []field
	}{
		"enrolment": {body, []field{{"/3", "protocol: the token of the vehicle's registration, good once", []byte(token), 0}}},
		"renewal":   {renewal, nil},
	} {
		leaves, rest, err := cborLeaves("", c.body)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%s: %d bytes behind, %v", what, len(rest), err)
		}
		der := leaves[2].value
		err = check(leaves, append([]field{
			{"/0", "protocol: version", number(enroll.Version), 0}, {"/1", "protocol: the vehicle's name, no VIN", []byte(vehicle), 0},
			{"/2", "protocol: the certification request, walked below", der, 0},
		}, c.more...))
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		inside, err := derLeaves("", der)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		signature := inside[len(inside)-1] // two integers of up to 33 bytes, which random numbers set
		if n := len(signature.value); signature.path != "/0.30/2.03" || n < 9 || n > 73 {
			t.Errorf("%s: %d bytes at %s, want the signature", what, n, signature.path)
		}
		if err := check(inside[:len(inside)-1], csr(public)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestHTTPWalkFindsMore: a header that names the program is found.
func TestHTTPWalkFindsMore(t *testing.T) {
	p := &tap{url: "127.0.0.1:1"}
	good := "GET /v1/charge HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n"
	for _, bad := range []string{
		strings.Replace(good, "\r\n\r\n", "\r\nUser-Agent: Go-http-client/1.1\r\n\r\n", 1), good + "x", strings.Replace(good, "charge", "charge?vin=1", 1),
		strings.Replace(good, "Connection: close\r\n", "", 1),
	} {
		leaves, err := httpLeaves([]byte(bad))
		if err == nil {
			err = check(leaves, p.request("GET /v1/charge", noBody))
		}
		if err == nil {
			t.Errorf("nothing found in %q", bad)
		}
	}
	walk(t, "good", []byte(good), p.request("GET /v1/charge", noBody))
}
