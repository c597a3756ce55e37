package enrolment

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"rawstone/pkg/enroll"
)

const (
	waitSeconds = 5   // until somebody who finds the collector busy comes again
	maxDetail   = 300 // bytes
)

// An answer is what a request gets.
type answer struct {
	status  int
	reason  enroll.Reason // of a refusal
	detail  string
	body    []byte
	seconds int // until to come again
}

// ServeHTTP answers one request.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := "renew"
	if r.URL.Path == enroll.EnrolPath {
		path = "enrol"
	}
	a := d.answer(w, r)
	outcome := string(a.reason)
	if a.status == http.StatusOK {
		outcome = "granted"
	}
	d.requests.WithLabelValues(path, outcome).Inc()
	a.write(w)
}

func (d *Desk) answer(w http.ResponseWriter, r *http.Request) answer {
	switch {
	case r.URL.Path != enroll.EnrolPath && r.URL.Path != enroll.RenewPath:
		return malformed(http.StatusNotFound, "nothing is here: post to "+enroll.EnrolPath+" or "+enroll.RenewPath)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return malformed(http.StatusMethodNotAllowed, "only POST is served")
	}
	if r.URL.Path == enroll.RenewPath {
		return d.decide(w, r)
	}
	from := source(r.RemoteAddr)
	if wait := d.sources.wait(from, d.cfg.Now()); wait > 0 {
		return answer{
			status: http.StatusTooManyRequests, reason: enroll.ReasonBusy, detail: "too many requests were refused: wait before the next",
			seconds: int(wait/time.Second) + 1,
		}
	}
	a := d.decide(w, r)
	if a.reason != "" && a.reason != enroll.ReasonBusy {
		d.sources.count(from, d.cfg.Now())
	}
	return a
}

// decide reads the request and decides on it.
func (d *Desk) decide(w http.ResponseWriter, r *http.Request) answer {
	if r.Header.Get("Content-Type") != enroll.ContentType {
		return malformed(http.StatusUnsupportedMediaType, "the content type must be "+enroll.ContentType)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, enroll.MaxLen))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return malformed(http.StatusRequestEntityTooLarge, "at most "+strconv.Itoa(enroll.MaxLen)+" bytes are read")
	} else if err != nil {
		return malformed(http.StatusBadRequest, "the request ended early")
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-r.Context().Done():
		return busy()
	}
	request, err := enroll.DecodeRequest(body)
	if err != nil {
		return malformed(http.StatusBadRequest, err.Error())
	}
	enrols := r.URL.Path == enroll.EnrolPath
	if enrols != (request.Token != "") {
		return malformed(http.StatusBadRequest, "a token is for enrolment, and enrolment is for a token")
	}
	der, err := d.grant(r.Context(), request, enrols)
	var refused refusal
	if errors.As(err, &refused) {
		return refuse(enroll.Reason(refused))
	}
	if err == nil {
		var b []byte
		if b, err = issued(der); err == nil {
			return answer{status: http.StatusOK, body: b}
		}
	}
	if r.Context().Err() == nil {
		d.say(err)
	}
	return busy()
}

func malformed(status int, detail string) answer {
	return answer{status: status, reason: enroll.ReasonMalformed, detail: detail[:min(len(detail), maxDetail)]}
}

func busy() answer {
	return answer{
		status: http.StatusServiceUnavailable, reason: enroll.ReasonBusy, detail: "the collector cannot decide now: try again",
		seconds: waitSeconds,
	}
}

func refuse(reason enroll.Reason) answer {
	a := answer{status: http.StatusForbidden, reason: reason}
	switch reason {
	case enroll.ReasonToken:
		a.detail = "the token is not good for this vehicle, was used, or has expired: have a new one made with `collector vehicle token`"
	case enroll.ReasonKey:
		a.detail = "the vehicle has not enrolled with this device key: enrol with a new token from `collector vehicle token`"
	case enroll.ReasonTaken:
		a.status, a.detail = http.StatusConflict, "the device key is that of another vehicle or of an ECU: make a new device key"
	case enroll.ReasonRevoked:
		a.detail = "the vehicle is revoked"
	case enroll.ReasonLate:
		a.detail = "the last certificate ended too long ago: enrol with a new token from `collector vehicle token`"
	case enroll.ReasonBusy:
		a.status, a.detail, a.seconds = http.StatusTooManyRequests, "the vehicle has just got a certificate: wait before the next", int(renewEvery/time.Second)
	}
	return a
}

// write sends the answer; whoever does not read it has gone.
func (a answer) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if a.status == http.StatusOK {
		h.Set("Content-Type", enroll.ContentType)
		w.Write(a.body)
		return
	}
	if a.seconds > 0 {
		h.Set("Retry-After", strconv.Itoa(a.seconds))
	}
	body, err := json.Marshal(enroll.Problem{Title: http.StatusText(a.status), Status: a.status, Detail: a.detail, Reason: a.reason})
	if err != nil {
		panic("enrolment: " + err.Error()) // strings and a number: unreachable
	}
	h.Set("Content-Type", enroll.ProblemType)
	w.WriteHeader(a.status)
	w.Write(body)
}

// say logs that no decision could be made, at most once a minute.
func (d *Desk) say(err error) {
	now := d.cfg.Now()
	d.mu.Lock()
	again := d.said.IsZero() || now.Sub(d.said).Abs() >= sayEvery
	if again {
		d.said = now
	}
	d.mu.Unlock()
	if again {
		d.cfg.Logger.Error("cannot decide on requests for certificates: vehicles try again", "error", err)
	}
}
