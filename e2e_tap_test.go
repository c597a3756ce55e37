package rawstone_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fxamacker/cbor/v2"

	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/can"
	"rawstone/pkg/wire"
)

// A tap is a proxy that keeps all that passes. It holds the keys of both ends: to the car it is the broker, to the broker the car.
type tap struct {
	l     net.Listener
	mu    sync.Mutex
	flows []*bytes.Buffer // one a direction of a connection
	left  []*bytes.Buffer // those out of the car
}

func newTap(t *testing.T) *tap {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &tap{l: l}
}

func (p *tap) addr() string { return p.l.Addr().String() }

// flow is one direction of one connection.
type flow struct {
	tap *tap
	buf *bytes.Buffer
}

func (f flow) Write(b []byte) (int, error) {
	f.tap.mu.Lock()
	defer f.tap.mu.Unlock()
	return f.buf.Write(b)
}

func (p *tap) flow(leaves bool) flow {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := flow{p, new(bytes.Buffer)}
	p.flows = append(p.flows, f.buf)
	if leaves {
		p.left = append(p.left, f.buf)
	}
	return f
}

// forward carries connections to a world's broker until the tap closes.
func (p *tap) forward(t *testing.T, w *world) {
	t.Helper()
	broker, err := tls.LoadX509KeyPair(w.path("ca/server.pem"), w.path("ca/server.key"))
	if err != nil {
		t.Fatal(err)
	}
	car, err := tls.LoadX509KeyPair(w.path("agent/identity/chain.pem"), w.path("device.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if text, err := os.ReadFile(w.path("ca/server-ca.pem")); err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatalf("no root for the broker: %v", err)
	}
	p.l = tls.NewListener(p.l, &tls.Config{Certificates: []tls.Certificate{broker}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13})
	out := &tls.Config{Certificates: []tls.Certificate{car}, RootCAs: roots, MinVersion: tls.VersionTLS13, Time: w.now}
	var conns sync.WaitGroup
	t.Cleanup(func() { p.l.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			in, err := p.l.Accept()
			if err != nil {
				return
			}
			out, err := tls.Dial("tcp", w.mqtt, out)
			if err != nil {
				in.Close() // the collector is not up yet; the agent comes again
				continue
			}
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				conns.Go(func() {
					io.Copy(way[0], io.TeeReader(way[1], p.flow(way[1] == in)))
					way[0].Close()
					way[1].Close()
				})
			}
		}
	})
}

// uttered returns every byte that left the car. What comes to it, as the policies, may hold any number.
func (p *tap) uttered() (b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.left {
		b = append(b, f.Bytes()...)
	}
	return b
}

// messages returns the payloads of the MQTT PUBLISH packets (MQTT 3.1.1 §3.3) of one kind.
func (p *tap) messages(kind wire.Kind) (out [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flows {
		for b := f.Bytes(); len(b) > 1; {
			n, used := binary.Uvarint(b[1:])
			if used <= 0 || len(b) < 1+used+int(n) {
				break
			}
			packet := b[1+used : 1+used+int(n)]
			if b[0]>>4 == 3 {
				topic := int(binary.BigEndian.Uint16(packet))
				if strings.HasSuffix(string(packet[2:2+topic]), "/"+string(kind)) {
					at := 2 + topic
					if b[0]>>1&3 > 0 {
						at += 2 // packet identifier
					}
					out = append(out, bytes.Clone(packet[at:]))
				}
			}
			b = b[1+used+int(n):]
		}
	}
	return out
}

// checkWire looks for what must never leave the car. Every message is taken apart: its numbers must be public ones, its texts known, and
// its byte strings, random by nature, must not hold a counter or a salt.
func checkWire(t *testing.T, p *tap, truth []sim.Truth, raw map[uint32]bool) {
	t.Helper()
	public := map[int64]bool{wire.Version: true, -7: true, 40: true} // version, COSE algorithm, proven tier
	for _, s := range truth {
		public[int64(s.Seq)], public[int64(s.Day)], public[int64(s.Day)+1] = true, true, true
	}
	tier, families := int64(13), int64(wire.FamilyHours|wire.FamilySpeed|wire.FamilyTrips)
	public[tier], public[families] = true, true
	var secrets [][]byte
	for _, s := range truth {
		salt := s.Opening.Salt[:]
		secrets = append(secrets, salt, []byte(hex.EncodeToString(salt)), []byte(base64.StdEncoding.EncodeToString(salt)))
		for _, c := range s.Opening.Counters {
			if c >= 1000 { // a smaller number stands anywhere by chance
				secrets = append(secrets, encodings(c)...)
			}
		}
	}
	for _, kind := range []wire.Kind{wire.KindClaim, wire.KindReport, wire.KindReceipt} {
		messages := p.messages(kind)
		if len(messages) == 0 {
			t.Fatalf("the tap saw no %s: it proves nothing", kind)
		}
		for _, m := range messages {
			if kind == wire.KindClaim && len(m) > 420 {
				t.Errorf("a claim has %d bytes, want at most 420", len(m))
			}
			walk(t, m, kind, public)
		}
	}
	seen := p.uttered()
	if len(seen) < 1000 {
		t.Fatalf("the tap saw %d bytes leave the car: it proves nothing", len(seen))
	}
	for _, s := range secrets {
		if bytes.Contains(seen, s) {
			t.Errorf("a salt or counter left the car as %x", s)
		}
	}
	for v := range raw {
		// Eight bytes and more: shorter forms of so many samples stand in random bytes by chance; numbers were looked at one by one.
		for _, form := range [][]byte{binary.BigEndian.AppendUint64(nil, uint64(v)), binary.LittleEndian.AppendUint64(nil, uint64(v)),
			binary.BigEndian.AppendUint64(nil, math.Float64bits(float64(v))), binary.BigEndian.AppendUint64(nil, math.Float64bits(float64(v)/1000))} {
			if v >= 1000 && bytes.Contains(seen, form) {
				t.Errorf("a raw sample left the car as %x", form)
			}
		}
	}
}

// encodings are the usual ones of a number.
func encodings(v uint32) [][]byte {
	be := binary.BigEndian.AppendUint32(nil, v)
	return [][]byte{
		be, binary.LittleEndian.AppendUint32(nil, v), []byte(hex.EncodeToString(be)), []byte(strconv.Itoa(int(v))),
		binary.BigEndian.AppendUint64(nil, uint64(v)), binary.LittleEndian.AppendUint64(nil, uint64(v)),
		binary.BigEndian.AppendUint64(nil, math.Float64bits(float64(v))), binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(v))),
	}
}

// walk takes a message apart, COSE envelopes included.
func walk(t *testing.T, b []byte, kind wire.Kind, public map[int64]bool) {
	t.Helper()
	var v any
	padding, err := cbor.UnmarshalFirst(b, &v)
	if err != nil {
		t.Fatalf("a %s is not CBOR: %v", kind, err)
	}
	if len(bytes.Trim(padding, "\x00")) > 0 {
		t.Errorf("the padding of a %s is %x", kind, padding)
	}
	known := []string{"CAR1"}
	sizes := []int{16, 32, 40, 64, 128, 4 * wire.VectorLen} // key ids; hashes and commitments; charges; signatures; proofs; the vector
	var visit func(any)
	visit = func(v any) {
		switch v := v.(type) {
		case uint64:
			if !public[int64(v)] {
				t.Errorf("a %s tells the number %d", kind, v)
			}
		case int64:
			if !public[v] {
				t.Errorf("a %s tells the number %d", kind, v)
			}
		case bool:
		case string:
			if !slices.Contains(known, v) {
				t.Errorf("a %s tells the text %q", kind, v)
			}
		case []byte:
			var inner any
			if !slices.Contains(sizes, len(v)) && cbor.Unmarshal(v, &inner) == nil {
				visit(inner) // a header or a payload
			} else if !slices.Contains(sizes, len(v)) {
				t.Errorf("a %s holds %d bytes of nothing known", kind, len(v))
			}
		case []any:
			for _, e := range v {
				visit(e)
			}
		case map[any]any:
			for _, e := range v {
				visit(e)
			}
		case cbor.Tag:
			visit(v.Content)
		default:
			t.Errorf("a %s holds a %T", kind, v)
		}
	}
	visit(v)
}

// samples returns every raw distance and speed of the capture, in the units of its messages.
func samples(t *testing.T, capture string) map[uint32]bool {
	t.Helper()
	r, err := can.OpenFile(capture)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw := make(map[uint32]bool)
	for f := new(can.Frame); r.Next(f) == nil; {
		bits := binary.LittleEndian.Uint64(f.Data[:8])
		switch f.ID {
		case 6:
			raw[uint32(bits>>1&(1<<22-1))] = true
		case 7:
			raw[uint32(bits>>1&(1<<20-1))] = true
		}
	}
	if len(raw) < 1000 {
		t.Fatalf("only %d different samples in the capture", len(raw))
	}
	return raw
}
