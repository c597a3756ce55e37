// Package enrolment gets the vehicles of a roster their client certificates over HTTPS, several at once, and keeps them in a file.
//
// A vehicle enrols with its token. One whose answer was lost on the way, or whose certificate ends, has its device key and asks for another
// with that. What the collector refuses for good ends it all; the same call goes on later where it left off.
package enrolment

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rawstone/firmware-sim/internal/fleet/internal/roster"
	"rawstone/pkg/enroll"
	"rawstone/pkg/wire"
)

const (
	// enrolling is how many vehicles enrol at once: the collector works on as many.
	enrolling = 8
	// leastLife is how long a certificate must be good to be used.
	leastLife = time.Hour
	// refusedWait is the longest that the collector is believed when it asks to come later.
	refusedWait = time.Minute
)

// Config says who enrols; every field is required.
type Config struct {
	Roster *roster.Roster
	// File keeps the certificates; it is made when missing.
	File string
	// Tokens are the vehicles', by their number.
	Tokens []string
	Now    func() time.Time
	// Count is called with how many vehicles will enrol, and returns who is told of each.
	Count func(total int) (one func())
}

type desk struct {
	Config
	client *http.Client
}

// Certificates returns the certificates of all vehicles in DER, by their number: those in the file while they are good, the others from the
// collector. A vehicle whose certificate was lost on the way has its device key, and asks for another with that.
func Certificates(ctx context.Context, cfg Config) ([][]byte, error) {
	d := &desk{cfg, &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: cfg.Roster.Program.Roots, MinVersion: tls.VersionTLS13}, MaxIdleConnsPerHost: enrolling,
	}}}
	defer d.client.CloseIdleConnections()
	certificates, had, err := d.read()
	if err != nil {
		return nil, err
	}
	var due []int
	for i, der := range certificates {
		if der == nil {
			due = append(due, i)
		}
	}
	if len(due) == 0 {
		return certificates, nil
	}
	f, err := os.OpenFile(cfg.File, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot keep certificates: %w", err)
	}
	one := cfg.Count(len(due))
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(enrolling)
	for _, i := range due {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			der, err := d.certificate(ctx, i, had[i])
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			certificates[i] = der
			one()
			_, err = fmt.Fprintf(f, "%s %s\n", d.Roster.Name(i), base64.StdEncoding.EncodeToString(der))
			return err
		})
	}
	return certificates, errors.Join(g.Wait(), f.Close())
}

// read reads the certificates that are good still, and says which vehicles had any.
func (d *desk) read() (good [][]byte, had []bool, err error) {
	good, had = make([][]byte, d.Roster.N), make([]bool, d.Roster.N)
	f, err := os.Open(d.File)
	if errors.Is(err, fs.ErrNotExist) {
		return good, had, nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("cannot read certificates: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		i, ok := d.Roster.Number(name)
		if !ok {
			continue
		}
		had[i] = true
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue // cut off; the vehicle asks again
		}
		if c, err := x509.ParseCertificate(der); err == nil && c.Subject.CommonName == name && d.Now().Add(leastLife).Before(c.NotAfter) {
			good[i] = der
		}
	}
	return good, had, nil
}

// certificate gets a vehicle's certificate.
func (d *desk) certificate(ctx context.Context, i int, renew bool) ([]byte, error) {
	device, err := d.Roster.DeviceKey(i)
	if err != nil {
		return nil, err
	}
	pub, err := wire.NewPublicKey(device.Public())
	if err != nil {
		return nil, err
	}
	for {
		path, text := enroll.EnrolPath, d.Tokens[i]
		if renew {
			path, text = enroll.RenewPath, ""
		}
		der, after, err := d.ask(ctx, path, d.Roster.Name(i), device, pub, text)
		problem := new(enroll.Problem)
		switch {
		case err == nil:
			return der, nil
		case errors.As(err, &problem) && problem.Reason == enroll.ReasonToken && !renew:
			renew = true // the answer to an earlier enrolment was lost, unless the key is unknown too
			continue
		case errors.As(err, &problem) && problem.Reason == enroll.ReasonKey && renew:
			return nil, fmt.Errorf("cannot enrol vehicle %s: its token is used or expired and its key unknown: give another --dir for a new fleet", d.Roster.Name(i))
		case !errors.As(err, &problem) || problem.Reason != enroll.ReasonBusy:
			return nil, fmt.Errorf("cannot enrol vehicle %s: %w", d.Roster.Name(i), err)
		}
		timer := time.NewTimer(min(after, refusedWait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// ask posts one request. A refusal wraps *enroll.Problem, and after is how long the collector asks to be left alone.
func (d *desk) ask(ctx context.Context, path, vehicle string, device roster.Key, pub wire.PublicKey, token string) (der []byte, after time.Duration, err error) {
	request, err := enroll.NewRequest(vehicle, device, token)
	if err != nil {
		return nil, 0, err
	}
	body, err := request.Encode()
	if err != nil {
		return nil, 0, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, d.Roster.Program.HTTPS+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	post.Header.Set("Content-Type", enroll.ContentType)
	resp, err := d.client.Do(post)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, enroll.MaxLen+1))
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16)
		problem, err := enroll.DecodeProblem(text)
		if err != nil {
			return nil, 0, fmt.Errorf("the server answers %d: %w", resp.StatusCode, err)
		}
		return nil, max(time.Duration(seconds)*time.Second, time.Second), problem
	}
	answer, err := enroll.DecodeAnswer(text)
	if err != nil {
		return nil, 0, err
	}
	if _, err := answer.Leaf(vehicle, pub); err != nil {
		return nil, 0, err
	}
	return answer.Chain[0], 0, nil
}
