package seat

import (
	"encoding/json"
	"maps"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// A Status is what a validator says of itself.
type Status struct {
	// Name is the validator's, Cosigner its key as stock clients check cosignatures of checkpoints, Entries how many its copy holds.
	Name     string `json:"name"`
	Cosigner string `json:"cosigner"`
	Entries  uint64 `json:"entries"`
	// Checkpoint is the size of the newest checkpoint of the ledger that the copy agrees with.
	Checkpoint uint64 `json:"checkpoint"`
	// Forks are the files of evidence of a second history. Overdue are the submissions whose receipts are, Complaints counts all that wait.
	Forks      []string `json:"forks,omitempty"`
	Overdue    []string `json:"overdue,omitempty"`
	Complaints int      `json:"complaints"`
	// Rivals are validators whose copy differs, and how.
	Rivals map[string]string `json:"rivals,omitempty"`
	// Omissions counts proofs that were given and that the ledger calls withheld.
	Omissions uint64 `json:"omissions"`
	// Refusal is what was refused last.
	Refusal string `json:"refusal,omitempty"`
	// Refuses says that nothing is cosigned now, and why.
	Refuses string `json:"refuses,omitempty"`
}

// Status returns the validator's state.
func (s *Seat) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status()
	s.metrics.show(st)
	return st
}

// status is Status with the lock held.
func (s *Seat) status() Status {
	st := Status{
		Name: s.c.Key.Public().Name, Cosigner: s.cosigner, Entries: s.archive.Size(), Checkpoint: s.newest.size, Forks: s.forks, Complaints: s.complaints.Len(),
		Rivals: maps.Clone(s.rivals), Omissions: s.omissions, Refusal: s.refusal,
	}
	list, err := s.overdue()
	for _, id := range list {
		st.Overdue = append(st.Overdue, id.String())
	}
	switch {
	case len(st.Forks) > 0:
		st.Refuses = "the ledger has a second history"
	case len(st.Overdue) > 0:
		st.Refuses = "receipts are overdue"
	case err != nil:
		st.Refuses = err.Error()
	}
	return st
}

// ServeHTTP answers with the status: 200, or 503 while nothing is cosigned.
func (s *Seat) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	st := s.Status()
	w.Header().Set("Content-Type", "application/json")
	if st.Refuses != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(st) // the reader is gone
}

// metrics are the validator's.
type metrics struct {
	entries, cosigned, refused, omitted prometheus.Counter
	size, forks, overdue, open, rivals  prometheus.Gauge
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "rawstone_validator_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "rawstone_validator_" + name, Help: help})
	}
	return &metrics{
		entries:  counter("entries_total", "Entries that were checked and taken in."),
		cosigned: counter("cosigned_total", "Cosignatures given."),
		refused:  counter("refused_total", "Entries, proofs and cosignatures refused."),
		omitted:  counter("omitted_total", "Proofs that were given and that the ledger calls withheld."),
		size:     gauge("copy_entries", "Entries in the validator's copy of the ledger."),
		forks:    gauge("forks", "Pieces of evidence of a second history of the ledger."),
		overdue:  gauge("overdue_receipts", "Receipts whose credits the ledger should hold by now and does not."),
		open:     gauge("complaints", "Receipts whose credits the ledger does not hold."),
		rivals:   gauge("rivals", "Validators whose copy of the ledger differs."),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.entries, m.cosigned, m.refused, m.omitted, m.size, m.forks, m.overdue, m.open, m.rivals}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(to)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(to)
	}
}

func (m *metrics) show(s Status) {
	m.size.Set(float64(s.Entries))
	m.forks.Set(float64(len(s.Forks)))
	m.overdue.Set(float64(len(s.Overdue)))
	m.open.Set(float64(s.Complaints))
	m.rivals.Set(float64(len(s.Rivals)))
}
