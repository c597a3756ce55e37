package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/program"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/notice"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// hear subscribes an enrolled vehicle to the policies and returns what it gets.
func (r *running) hear(t *testing.T, vehicle string, how *tls.Config) []byte {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + r.MQTT).SetTLSConfig(how).SetClientID(vehicle).SetProtocolVersion(4).SetAutoReconnect(false))
	if tok := c.Connect(); !tok.WaitTimeout(hang) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	got := make(chan []byte, 16)
	tok := c.Subscribe(wire.PolicyTopic, 0, func(_ mqtt.Client, m mqtt.Message) { got <- m.Payload() })
	if !tok.WaitTimeout(hang) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	select {
	case b := <-got:
		return b
	case <-time.After(hang):
		t.Fatalf("no policies came\n%s", r.log)
		return nil
	}
}

// agent returns a client that trusts the world's authority for servers and speaks TLS up to a version.
func (w *world) agent(t *testing.T, version uint16) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(readFile(t, w.path("ca/server-ca.pem"))) {
		t.Fatal("no authority")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MaxVersion: version}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func fetch(t *testing.T, c *http.Client, url string) (status int, body []byte, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}

// TestPoliciesAndKeysReachAgents: with nothing but the program document an agent comes by the policies and the keys that they name, from
// the first block on and again after a restart.
func TestPoliciesAndKeysReachAgents(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	_, token, err := AddVehicle(t.Context(), cfg, w.car(t, "CAR1"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var how *tls.Config
	about, id, err := terms.LoadProgram(cfg.Program.Root, cfg.Program.File)
	if err != nil {
		t.Fatal(err)
	}
	p, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := start(t, cfg)
		if how == nil {
			how = w.enrols(t, r, "CAR1", token)
		}
		n, err := notice.Decode(r.hear(t, "CAR1", how))
		if err != nil {
			t.Fatal(err)
		}
		o, err := n.Open(p.Root, about, id)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p.Policies, o.Policies); d != "" {
			t.Errorf("policies (-logged +heard):\n%s", d)
		}
		agent, blobs := w.agent(t, tls.VersionTLS13), "https://"+r.HTTPS+"/v1/blobs/"
		get := func(h wire.Hash) []byte {
			status, b, err := fetch(t, agent, blobs+h.String())
			if err != nil || status != http.StatusOK || wire.ID(b) != h {
				t.Errorf("%s: status %d, %v", h, status, err)
			}
			return b
		}
		lock, err := claim.ParseLock(get(o.Policies[0].Lock))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := claim.NewProver(get(o.Policies[0].Circuit), get(o.Policies[0].ProvingKey), lock); err != nil {
			t.Error(err)
		}
		own := &http.Client{Transport: &http.Transport{TLSClientConfig: how, DisableKeepAlives: true}}
		status, b, err := fetch(t, own, "https://"+r.HTTPS+wire.ChargePath)
		var record wire.ChargeRecord
		if err != nil || status != http.StatusOK || wire.Unmarshal(b, &record, wire.MaxChargeRecordLen) != nil || record != (wire.ChargeRecord{Version: wire.Version}) {
			t.Errorf("the charge of a car without reports: status %d, %x, %v", status, b, err)
		}
		if status, _, err := fetch(t, agent, "https://"+r.HTTPS+wire.ChargePath); err != nil || status != http.StatusForbidden {
			t.Errorf("a charge without a certificate: status %d, %v", status, err)
		}
		if status, _, err := fetch(t, agent, blobs+strings.Repeat("0", 64)); err != nil || status != http.StatusNotFound {
			t.Errorf("an unknown file: status %d, %v", status, err)
		}
		if _, _, err := fetch(t, w.agent(t, tls.VersionTLS12), blobs+lock.Circuit.String()); err == nil {
			t.Error("TLS 1.2 is spoken")
		}
		if _, _, err := fetch(t, &http.Client{Transport: &http.Transport{}}, blobs+lock.Circuit.String()); err == nil {
			t.Error("a server of an unknown authority is believed")
		}
		r.end(t)
	}
}

// TestPoliciesNameTheLock: a policy for the same keys under another lock is for another setup.
func TestPoliciesNameTheLock(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	p, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		t.Fatal(err)
	}
	if p.Policies[0].Lock != p.Lock.ID() {
		t.Fatal("the lock is another one")
	}
	w.write(t, "program/policies/1.cose", w.sign(t, func(p *terms.Policy) { p.Lock[0] ^= 1 }))
	contains(t, refuses(t, w.load(t)), "cannot use policy "+w.path("program/policies/1.cose"), w.path("program/claim"), "those of another setup")
}

// sign returns the world's first policy, changed and signed anew.
func (w *world) sign(t *testing.T, change func(*terms.Policy)) []byte {
	t.Helper()
	key, err := keyfile.Load(w.path("program/policy.key"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	p, err := terms.OpenPolicy(wire.KeySet{public}, w.id, readFile(t, w.path("program/policies/1.cose")))
	if err != nil {
		t.Fatal(err)
	}
	change(p)
	b, err := terms.SealPolicy(key, p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestServerCertificate(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	for replace, want := range map[[2]string]string{
		{"certificate: server.pem", "certificate: none.pem"}:                      w.path("none.pem"),
		{"key: server.key", "key: none.key"}:                                      w.path("none.key"),
		{"key: server.key", "key: " + other.path("server.key")}:                   "the key that belongs to it",
		{"certificate: server.pem", "certificate: server.key"}:                    "a certificate chain in PEM",
		{"certificate: server.pem", "certificate: " + other.path("server-x.pem")}: other.path("server-x.pem"),
	} {
		text := refuses(t, w.load(t, replace[0], replace[1]))
		contains(t, text, "https", want)
		if strings.Contains(text, "\n") {
			t.Errorf("more than one sentence: %s", text)
		}
	}
}
