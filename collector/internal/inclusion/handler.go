package inclusion

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rawstone/collector/internal/listener"
	"rawstone/pkg/inclusion"
	"rawstone/pkg/wire"
)

const busySeconds = 5 // until somebody who finds the collector busy comes again

// ServeHTTP answers one request.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, reason := d.answer(r)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if reason == "" {
		d.requests.WithLabelValues("proven").Inc()
		h.Set("Content-Type", inclusion.ContentType)
		w.Write(body) // whoever does not read it has gone
		return
	}
	d.requests.WithLabelValues(string(reason)).Inc()
	status, detail := http.StatusNotFound, ""
	switch reason {
	case inclusion.ReasonNotYet:
		detail = "not yet: the credit is not under a cosigned block"
		h.Set("Retry-After", strconv.Itoa(int((d.cfg.Drop+time.Second-1)/time.Second)))
	case inclusion.ReasonUnknown:
		detail = "this vehicle has no accepted claim of this identifier"
	case inclusion.ReasonCertificate:
		status, detail = http.StatusForbidden, "show the client certificate of a vehicle that is enrolled with this device key and not revoked"
	case inclusion.ReasonMalformed:
		detail = "nothing is here: GET " + inclusion.Path + " and the 64 lower-case hexadecimal digits of a submission's SHA-256"
		if r.Method != http.MethodGet {
			status = http.StatusMethodNotAllowed
			h.Set("Allow", http.MethodGet)
		}
	default:
		status, detail = http.StatusServiceUnavailable, "the collector cannot look now: try again"
		h.Set("Retry-After", strconv.Itoa(busySeconds))
	}
	text, err := json.Marshal(inclusion.Problem{Title: http.StatusText(status), Status: status, Detail: detail, Reason: reason})
	if err != nil {
		panic("inclusion: " + err.Error()) // strings and a number: unreachable
	}
	h.Set("Content-Type", inclusion.ProblemType)
	w.WriteHeader(status)
	w.Write(text)
}

// answer returns the answer, or why there is none.
func (d *Desk) answer(r *http.Request) ([]byte, inclusion.Reason) {
	submission, ok := parsePath(r)
	if !ok {
		return nil, inclusion.ReasonMalformed
	}
	vehicle, key, ok := listener.Vehicle(r)
	if !ok {
		return nil, inclusion.ReasonCertificate
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-r.Context().Done():
		return nil, inclusion.ReasonBusy
	}
	err := d.admit(r.Context(), vehicle, key)
	var body []byte
	if err == nil {
		body, err = d.prove(r.Context(), vehicle, submission)
	}
	var refused refusal
	switch {
	case err == nil:
		return body, ""
	case errors.As(err, &refused):
		return nil, inclusion.Reason(refused)
	case r.Context().Err() == nil:
		d.say(err)
	}
	return nil, inclusion.ReasonBusy
}

// parsePath returns the submission that a request names. EscapedPath has one spelling for each name.
func parsePath(r *http.Request) (id wire.Hash, ok bool) {
	text, ok := strings.CutPrefix(r.URL.EscapedPath(), inclusion.Path)
	if !ok || r.Method != http.MethodGet || r.URL.RawQuery != "" || len(text) != 2*len(id) || strings.ToLower(text) != text {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil
}

// say logs that no answer could be made, at most once a minute.
func (d *Desk) say(err error) {
	now := d.cfg.Now()
	d.mu.Lock()
	again := d.said.IsZero() || now.Sub(d.said).Abs() >= sayEvery
	if again {
		d.said = now
	}
	d.mu.Unlock()
	if again {
		d.cfg.Logger.Error("cannot prove credits: vehicles try again", "error", err)
	}
}
