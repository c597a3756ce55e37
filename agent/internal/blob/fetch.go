package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"rawstone/pkg/durable"
	"rawstone/pkg/wire"
)

// errRotten says that a file is there and is not the one that its name says.
var errRotten = errors.New("its bytes are not the right ones")

// Load returns the file of a hash from flash, never from the network. The error wraps fs.ErrNotExist where there is none.
func (s *Store) Load(hash wire.Hash, limit int64) ([]byte, error) {
	f, err := os.Open(s.path(hash))
	if err != nil {
		return nil, fmt.Errorf("cannot read file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read file: %w", err)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("cannot use file %s: %d bytes, at most %d allowed: %w", hash, info.Size(), limit, errRotten)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("cannot read file %s: %w: %w", hash, errRotten, err)
	}
	if wire.ID(b) != hash {
		return nil, fmt.Errorf("cannot use file %s: %w", hash, errRotten)
	}
	return b, nil
}

// fetch downloads one file into its place.
func (s *Store) fetch(ctx context.Context, hash wire.Hash, limit int64) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	outcome, err := s.download(ctx, hash, limit)
	if errors.Is(err, context.DeadlineExceeded) {
		outcome, err = outcomeSlow, fmt.Errorf("the server was too slow: not done in %v", s.timeout)
	}
	s.metrics.fetches.WithLabelValues(outcome).Inc()
	return err
}

func (s *Store) download(ctx context.Context, hash wire.Hash, limit int64) (outcome string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+hash.String(), nil)
	if err != nil {
		return outcomeRefused, err
	}
	req.Header.Set("User-Agent", "") // which would name the program's build
	resp, err := s.client.Do(req)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err // without the address, which says what the caller's error says
		}
		return outcomeUnreachable, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode/100 == 3:
		return outcomeRefused, errors.New("the server points elsewhere, and no other is asked; is the network behind a login page?")
	case resp.StatusCode != http.StatusOK:
		return outcomeRefused, fmt.Errorf("the server answers %d; does it hold the keys of the program's policies?", resp.StatusCode)
	case resp.ContentLength > limit:
		return outcomeLarge, fmt.Errorf("the answer has %d bytes, at most %d allowed", resp.ContentLength, limit)
	}
	page := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	return s.store(resp.Body, hash, limit, page)
}

// store writes what body holds beside the files, bounded and hashed, and gives it its place when it is right and synced.
func (s *Store) store(body io.Reader, hash wire.Hash, limit int64, page bool) (outcome string, err error) {
	temp, err := os.CreateTemp(s.dir, "*"+tempSuffix)
	if err != nil {
		return outcomeUnkept, err
	}
	defer os.Remove(temp.Name()) // in vain once it has its place
	defer temp.Close()
	sum, in := sha256.New(), &source{r: io.LimitReader(body, limit+1)}
	n, err := io.Copy(io.MultiWriter(sum, temp), in)
	s.metrics.bytes.Add(float64(n))
	right := wire.Hash(sum.Sum(nil)) == hash
	switch {
	case in.err != nil:
		return outcomeTruncated, fmt.Errorf("the answer broke off after %d bytes: %w", n, in.err)
	case err != nil:
		return outcomeUnkept, err
	case n > limit:
		return outcomeLarge, fmt.Errorf("the answer has more than the %d bytes allowed", limit)
	case !right && page:
		return outcomeWrong, errors.New("the answer is a web page; is the network behind a login page?")
	case !right:
		return outcomeWrong, fmt.Errorf("the answer, %d bytes, is another file", n)
	}
	if err := temp.Sync(); err != nil {
		return outcomeUnkept, err
	}
	if err := os.Rename(temp.Name(), s.path(hash)); err != nil {
		return outcomeUnkept, err
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return outcomeUnkept, err
	}
	return outcomeStored, nil
}

// A source tells the errors of the network from those of the flash.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// syncDir makes a rename outlive the power.
