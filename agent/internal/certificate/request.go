package certificate

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"rawstone/pkg/enroll"
)

// The bounds of what Enroll waits when it is told to.
const (
	maxAsked = 3
	maxAfter = 30 * time.Second
)

// Enroll gets the first certificate, or one in place of one that is no longer renewed, with the token of the vehicle's registration. Where
// the token is used up it may have been by this device key, whose answer was lost: then the key gets its certificate without it. An
// error that wraps *enroll.Problem is the collector's refusal. It can be repeated. Nothing else ends what a reset began.
func (k *Keeper) Enroll(ctx context.Context, token string) error {
	err := k.insist(ctx, enroll.EnrolPath, token)
	if refusal := new(enroll.Problem); errors.As(err, &refusal) && refusal.Reason == enroll.ReasonToken {
		if again := k.insist(ctx, enroll.RenewPath, ""); again == nil {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot enrol: %w", err)
	}
	if k.unsaved != nil {
		return errors.New("cannot enrol: the certificate cannot be kept; make room on flash and enrol again with the same token")
	}
	return k.endReset()
}

// insist asks again while the collector is busy and says for how little time.
func (k *Keeper) insist(ctx context.Context, path, token string) error {
	for asked := 1; ; asked++ {
		after, err := k.get(ctx, path, token)
		refusal := new(enroll.Problem)
		if !errors.As(err, &refusal) || refusal.Reason != enroll.ReasonBusy || after == 0 || after > maxAfter || asked == maxAsked {
			return err
		}
		k.sleep(ctx, after, nil)
		if ctx.Err() != nil {
			return err
		}
	}
}

// get asks for a certificate and goes by it. after is how long the collector asks to be left alone, where it refuses.
func (k *Keeper) get(ctx context.Context, path, token string) (after time.Duration, err error) {
	answer, leaf, after, err := k.ask(ctx, path, token)
	outcome := outcomeFailed
	if refusal := new(enroll.Problem); err == nil {
		outcome = outcomeTaken
		if err := k.save(answer); err != nil {
			// What keeps the car connected is not thrown away because flash is full.
			k.log.Error("client certificate is used and not on flash; it is written as soon as there is room", "error", err)
		}
		k.adopt(answer, leaf, time.Now())
		k.log.Info("client certificate taken", "until", leaf.NotAfter)
	} else if errors.As(err, &refusal) {
		outcome = outcomeRefused
	}
	k.metrics.requests.WithLabelValues(outcome).Inc()
	return after, err
}

func (k *Keeper) ask(ctx context.Context, path, token string) (_ *enroll.Answer, _ *x509.Certificate, after time.Duration, err error) {
	request, err := enroll.NewRequest(k.cfg.Vehicle, k.cfg.Device, token)
	if err != nil {
		return nil, nil, 0, err
	}
	body, err := request.Encode()
	if err != nil {
		return nil, nil, 0, err
	}
	body, after, err = k.post(ctx, path, body)
	if err != nil {
		return nil, nil, after, err
	}
	answer, err := enroll.DecodeAnswer(body)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("cannot use the collector's answer: %w", err)
	}
	leaf, err := answer.Leaf(k.cfg.Vehicle, k.key)
	if err != nil {
		return nil, nil, 0, err
	}
	if now := k.cfg.Now(); !now.Before(leaf.NotAfter) {
		return nil, nil, 0, fmt.Errorf("the new certificate ended %v ago; is the car's clock right?", now.Sub(leaf.NotAfter).Round(time.Second))
	}
	return answer, leaf, 0, nil
}

// post returns what the collector answers, at most enroll.MaxLen bytes. A refusal wraps *enroll.Problem.
func (k *Keeper) post(ctx context.Context, path string, body []byte) (_ []byte, after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.cfg.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", enroll.ContentType)
	req.Header.Set("User-Agent", "") // which would name the program's build
	resp, err := k.client.Do(req)
	if err != nil {
		return nil, 0, unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, enroll.MaxLen+1))
	if err != nil {
		return nil, 0, fmt.Errorf("the collector's answer broke off: %w", err)
	}
	switch {
	case len(answer) > enroll.MaxLen:
		return nil, 0, fmt.Errorf("the answer has more than %d bytes; is the network behind a login page?", enroll.MaxLen)
	case resp.StatusCode == http.StatusOK:
		return answer, 0, nil
	case strings.HasPrefix(resp.Header.Get("Content-Type"), enroll.ProblemType):
		problem, err := enroll.DecodeProblem(answer)
		if err != nil {
			return nil, 0, fmt.Errorf("the collector answers %d: %w", resp.StatusCode, err)
		}
		return nil, retryAfter(resp.Header.Get("Retry-After")), problem
	}
	return nil, 0, fmt.Errorf("the server answers %d, and not as a collector does; is the network behind a login page?", resp.StatusCode)
}

// retryAfter reads a number of seconds (RFC 9110 §10.2.3), of which a collector can ask for a day at most.
func retryAfter(text string) time.Duration {
	s, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(s)*time.Second, refusedWait)
}

// unreachable says why there was no answer, without the address, which the configuration holds.
func unreachable(err error) error {
	if wrapped := new(url.Error); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if invalid := new(x509.CertificateInvalidError); errors.As(err, invalid) && invalid.Reason == x509.Expired {
		return fmt.Errorf("cannot reach the collector: %w; is the car's clock right?", err)
	}
	return fmt.Errorf("cannot reach the collector: %w", err)
}

// explain tells the driver what a refusal means.
func explain(p *enroll.Problem) string {
	switch p.Reason {
	case enroll.ReasonRevoked:
		return "This vehicle is revoked: nothing is sent any more, and what waits stays in the car. Ask the manufacturer."
	case enroll.ReasonMalformed:
		return "This car's software is too old to get a new certificate: nothing can be sent once the present one ends. Have it updated."
	default:
		return "This vehicle is no longer enrolled: nothing can be sent, and what waits stays in the car. Have the workshop enrol it again."
	}
}
