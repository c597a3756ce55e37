package inclusion

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/inclusion"
	"rawstone/pkg/wire"
)

// maxAfter bounds how long a collector can ask to be left alone.
const maxAfter = 24 * time.Hour

// fetch asks the collector about a receipt. An error that wraps *inclusion.Problem is its refusal.
func (c *Checker) fetch(ctx context.Context, r *wire.Receipt) (body []byte, after time.Duration, err error) {
	id := r.Submission
	if r.Original != nil { // the collector need not keep one that earned nothing new
		id = *r.Original
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.URL+inclusion.Path+id.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("User-Agent", "") // which would name the program's build
	resp, err := c.client.Do(req)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err // without the address, which names the submission
		}
		return nil, 0, fmt.Errorf("cannot reach the collector: %w", err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, inclusion.MaxLen+1))
	if err != nil {
		return nil, 0, fmt.Errorf("the collector's answer broke off: %w", err)
	}
	kind := resp.Header.Get("Content-Type")
	switch {
	case len(body) > inclusion.MaxLen:
		return nil, 0, fmt.Errorf("the answer has more than %d bytes; is the network behind a login page?", inclusion.MaxLen)
	case resp.StatusCode == http.StatusOK && kind == inclusion.ContentType:
		return body, 0, nil
	case strings.HasPrefix(kind, inclusion.ProblemType):
		problem, err := inclusion.DecodeProblem(body)
		if err != nil {
			return nil, 0, fmt.Errorf("the collector answers %d: %w", resp.StatusCode, err)
		}
		after = retryAfter(resp.Header.Get("Retry-After"))
		if problem.Reason == inclusion.ReasonBusy {
			return nil, after, fmt.Errorf("%w: %s", errBusy, problem.Detail)
		}
		return nil, after, problem
	}
	return nil, 0, fmt.Errorf("the server answers %d, and not as a collector does; is the network behind a login page?", resp.StatusCode)
}

// retryAfter reads a number of seconds (RFC 9110 §10.2.3).
func retryAfter(text string) time.Duration {
	s, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(s)*time.Second, maxAfter)
}

// errBusy is an answer that says nothing about the receipt.
var errBusy = errors.New("the collector is busy")

// What became of a request, beside the reasons of a refusal.
const (
	outcomeProven     = "proven"
	outcomeFalse      = "false"
	outcomeFailed     = "failed"
	outcomeUnreadable = "unreadable" // the receipt on flash
	outcomeShort      = "short"      // fewer credits than proofs
	outcomeUndecided  = "undecided"  // under validators that the car has not heard of
)

type metrics struct {
	requests *prometheus.CounterVec
	unproven prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_agent_inclusion_requests_total", Help: "Requests for proofs that credits are in the log, by outcome.",
		}, []string{"outcome"}),
		unproven: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rawstone_agent_receipts_unproven", Help: "Receipts whose credits are not proven to be in the log, when they were last looked at.",
		}),
	}
	for _, o := range []string{outcomeProven, outcomeFalse, outcomeFailed, outcomeUnreadable, outcomeShort, outcomeUndecided, string(inclusion.ReasonNotYet), string(inclusion.ReasonUnknown)} {
		m.requests.WithLabelValues(o)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.unproven} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
