// Package status shows, on the car's loopback, what the agent is doing: Prometheus metrics at /metrics, one JSON document for the
// driver's display at /status, every claim and report that left the car at /journal, the receipts without a proof at /receipts and /receipts/export,
// and /healthz.
//
// It reads and never changes anything: every path answers GET and HEAD only. Nothing it shows names the vehicle or tells a
// counter, a position or a usage value, but for the receipts that are exported, which the collector has signed with the vehicle's name; the
// journal tells what the submissions told. It refuses to listen anywhere but on loopback, since whoever asks is not known.
package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// headerTimeout and writeTimeout bound a slow reader, shutdownWait the answers still being written when the agent stops.
	headerTimeout = 5 * time.Second
	writeTimeout  = 30 * time.Second
	shutdownWait  = 2 * time.Second
	// maxProcLen bounds what is read of /proc/self/status in bytes.
	maxProcLen = 16 << 10
)

// A Snapshot is the agent at one moment.
type Snapshot struct {
	// State says in one word what the agent is doing.
	State string `json:"state"`
	// Reason and Remedy say why it does not go on and what the driver can do, Retry when it is tried again. There is a remedy without
	// a reason where claims wait for rules or for a proving key.
	Reason string     `json:"reason,omitempty"`
	Remedy string     `json:"remedy,omitempty"`
	Retry  *time.Time `json:"retry,omitempty"`
	// RulesHeard is when the program's rules were last heard of, and Policies are those that the car has.
	RulesHeard *time.Time `json:"rules_heard,omitempty"`
	Policies   []Policy   `json:"policies,omitempty"`
	// CertificateUntil is when the car's client certificate ends, zero where it has none: without one nothing can be sent.
	// CertificateProblem says why the last attempt at renewing it failed.
	CertificateUntil   time.Time `json:"certificate_until,omitzero"`
	CertificateProblem string    `json:"certificate_problem,omitempty"`
	// LastReceipt is when the collector last answered.
	LastReceipt *time.Time `json:"last_receipt,omitempty"`
	// Unproven are the receipts of accepted claims whose credits are not proven to be in the public ledger.
	Unproven Receipts `json:"receipts_without_proof"`
	// Snapshots counts those of the ECU that are kept with the counters in them: they go once what was claimed from them is proven.
	Snapshots int `json:"snapshots"`
	// SpoolItems and SpoolBytes are what waits for a receipt.
	SpoolItems int   `json:"spool_items"`
	SpoolBytes int64 `json:"spool_bytes"`
	// NextDue is when the first of what waits is to leave, absent where nothing waits: a car that can switch its agent on by itself does so
	// then, and what leaves is bound to no drive at all.
	NextDue *time.Time `json:"next_due,omitempty"`
	// Consent lists the families and kinds that the driver has turned on, Cadence how often the car speaks.
	Consent []string `json:"consent,omitempty"`
	Cadence string   `json:"cadence"`
	// Reports says whether usage reports are on, off, or why they are refused.
	Reports string `json:"reports"`
	// BudgetLeft is the part of the year's privacy budget that is left, 0 to 1000 thousandths.
	BudgetLeft int `json:"budget_left_milli"`
	// Frames is the number of frames read from all buses.
	Frames uint64 `json:"frames_read"`
	// Buses says of each bus whether it can be read now.
	Buses []Bus `json:"buses"`
	// Odometer is what the car found wrong with its own distance, by source and kind; empty when there was nothing.
	Odometer []Doubt `json:"odometer_doubts,omitempty"`
	// RSSBytes is the process's resident memory, 0 where the system does not tell.
	RSSBytes int64 `json:"rss_bytes"`
}

// Receipts says how receipts without a proof stand.
type Receipts struct {
	// Count is how many there are, Oldest when the first of them came and AgeS its age in seconds.
	Count  int       `json:"count"`
	Oldest time.Time `json:"oldest,omitzero"`
	AgeS   int64     `json:"oldest_age_s"`
	// Overdue counts those that the collector was asked about in vain for longer than it promised, False those with a false proof.
	Overdue int `json:"overdue"`
	False   int `json:"false_proofs"`
	// Remedy says what to do, empty where there is nothing.
	Remedy string `json:"remedy,omitempty"`
}

// A Policy is one rule under which claims are made, or not.
type Policy struct {
	Serial uint16 `json:"serial"`
	Kind   string `json:"kind"`
	// FromDay and ToDay are program days, both included.
	FromDay uint32 `json:"from_day"`
	ToDay   uint32 `json:"to_day"`
	// Unused says why it is not used today, empty where it is.
	Unused string `json:"unused,omitempty"`
}

// A Bus is one bus of the car.
type Bus struct {
	Name string `json:"name"`
	Up   bool   `json:"up"`
}

// A Doubt is one kind of event for which distance was not counted.
type Doubt struct {
	// Source names the signal, Event the kind.
	Source string `json:"source"`
	Event  string `json:"event"`
	// Meaning says in plain words what happened and what it cost.
	Meaning string `json:"meaning"`
	// Count is how often it happened, Last when it did for the last time, in frame time.
	Count uint64    `json:"count"`
	Last  time.Time `json:"last"`
}

// Config says what is shown. All fields are required.
type Config struct {
	// Snapshot returns the agent's state; RSSBytes is filled in here.
	Snapshot func() Snapshot
	// Healthy returns why the agent does not work, or nil.
	Healthy func() error
	// Journal writes the driver's journal as JSON.
	Journal func(io.Writer) error
	// Receipts writes the receipts without a proof as JSON, Export the same with their bytes.
	Receipts, Export func(io.Writer) error
	// Registry holds the metrics of all rooms and gets this one's.
	Registry *prometheus.Registry
	Logger   *slog.Logger
}

// Status answers for the agent.
type Status struct {
	cfg Config
	mux *http.ServeMux
}

// New registers the package's metrics and makes the handler.
func New(cfg Config) (*Status, error) {
	if cfg.Snapshot == nil || cfg.Healthy == nil || cfg.Journal == nil || cfg.Receipts == nil || cfg.Export == nil || cfg.Registry == nil || cfg.Logger == nil {
		return nil, errors.New("cannot make status page: no snapshot, health, journal, receipts, registry or logger given")
	}
	gauges := []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rawstone_agent_resident_bytes", Help: "Resident memory of the agent.",
		}, func() float64 { return float64(ResidentBytes()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "rawstone_agent_frames_read_total", Help: "Frames read from all buses.",
		}, func() float64 { return float64(cfg.Snapshot().Frames) }),
	}
	for _, g := range gauges {
		if err := cfg.Registry.Register(g); err != nil {
			return nil, fmt.Errorf("cannot make status page: %w", err)
		}
	}
	s := &Status{cfg: cfg, mux: http.NewServeMux()}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{}))
	s.mux.HandleFunc("GET /status", s.status)
	for path, page := range map[string]func(io.Writer) error{"/journal": cfg.Journal, "/receipts": cfg.Receipts, "/receipts/export": cfg.Export} {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { s.document(w, page) })
	}
	s.mux.HandleFunc("GET /healthz", s.health)
	return s, nil
}

// ServeHTTP answers /metrics, /status, /journal, /receipts, /receipts/export and /healthz.
func (s *Status) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A page from elsewhere whose name was made to point here (DNS rebinding) asks under that name.
	if !ownName(r.Host) {
		http.Error(w, "ask for 127.0.0.1, [::1] or localhost", http.StatusForbidden)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// ownName reports whether a Host header names this machine's loopback.
func ownName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *Status) status(w http.ResponseWriter, _ *http.Request) {
	snapshot := s.cfg.Snapshot()
	snapshot.RSSBytes = ResidentBytes()
	b, err := json.MarshalIndent(snapshot, "", "  ")
	if err != nil {
		http.Error(w, "cannot encode status", http.StatusInternalServerError)
		return
	}
	s.writeJSON(w, append(b, '\n'))
}

func (s *Status) document(w http.ResponseWriter, page func(io.Writer) error) {
	var b bytes.Buffer // what is kept is bounded; a half-written answer would pass for a whole one
	if err := page(&b); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.writeJSON(w, b.Bytes())
}

func (s *Status) writeJSON(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	s.write(w, b)
}

func (s *Status) health(w http.ResponseWriter, _ *http.Request) {
	if err := s.cfg.Healthy(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	s.write(w, []byte("ok\n"))
}

func (s *Status) write(w http.ResponseWriter, b []byte) {
	if _, err := w.Write(b); err != nil {
		s.cfg.Logger.Debug("status page not delivered", "error", err)
	}
}

// Listen opens addr, HOST:PORT, for Serve. A host that is not a loopback address is refused.
func Listen(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: want HOST:PORT: %w", addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("cannot listen on %q: the status page is for the car alone; use 127.0.0.1 or ::1", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w; choose another port", addr, err)
	}
	return l, nil
}

// Serve answers on l, which it closes, until ctx is done, which is no error.
func (s *Status) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("cannot serve status page: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-failed // Serve has returned
	if err != nil {
		return fmt.Errorf("cannot close status page: %w", err)
	}
	return nil
}

// Ask copies a page of the status server at addr, HOST:PORT, to w.
func Ask(ctx context.Context, addr, page string, w io.Writer) (err error) {
	if addr == "" {
		return errors.New("cannot ask the agent: its configuration has no status address; set the key status")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+page, nil)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w; is it running?", err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot ask the agent: it answers %s", answer.Status)
	}
	_, err = io.Copy(w, answer.Body)
	return err
}

// ResidentBytes returns the resident memory of this process (VmRSS of proc(5)), 0 where the system does not tell.
func ResidentBytes() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	b := make([]byte, maxProcLen)
	n, err := f.Read(b)
	if err != nil {
		return 0
	}
	return parseRSS(b[:n])
}

func parseRSS(b []byte) int64 {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte("VmRSS:"))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) != 2 || string(fields[1]) != "kB" {
			return 0
		}
		kb, err := strconv.ParseInt(string(fields[0]), 10, 40)
		if err != nil || kb < 0 {
			return 0
		}
		return kb << 10
	}
	return 0
}
