package feed

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/role"
	"rawstone/pkg/audit"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

const (
	maxConnections  = 64
	readTimeout     = 30 * time.Second
	answerTimeout   = 2 * time.Minute
	shutdownTimeout = 5 * time.Second
)

// ServerConfig says who is served where. All is required.
type ServerConfig struct {
	// Address is IP:port; port 0 takes a free one.
	Address   string
	Identity  *peer.Identity
	Validator Validator
	Logger    *slog.Logger
}

// A Server is an address that is taken. Nobody is answered until Run.
type Server struct {
	v      Validator
	listen net.Listener
	server *http.Server
}

// Listen takes the address.
func Listen(c ServerConfig) (*Server, error) {
	if c.Identity == nil || c.Validator == nil || c.Logger == nil {
		return nil, errors.New("cannot serve feed: certificate, validator or logger is missing")
	}
	s := &Server{v: c.Validator}
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(*http.Request) (any, error){
		"GET " + pathNext: s.settler(s.next), "POST " + pathFollow: s.settler(s.follow), "POST " + pathErase: s.settler(s.erase), "POST " + pathProve: s.settler(s.prove), "POST " + pathCosign: s.settler(s.cosign),
		"GET " + pathSeen: s.gossip, "POST " + pathSeen: s.seen, "POST " + pathComplaint: s.complain,
	} {
		mux.Handle(pattern, answer(h))
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s.server = &http.Server{
		Handler: mux, TLSConfig: c.Identity.Server(role.All | role.Validator), Protocols: protocols,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: readTimeout, WriteTimeout: answerTimeout, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
	}
	listen, err := net.Listen("tcp", c.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot serve listen: %w; choose another address with the key listen", err)
	}
	s.listen = netutil.LimitListener(listen, maxConnections)
	return s, nil
}

// Addr returns the address that was taken.
func (s *Server) Addr() string { return s.listen.Addr().String() }

// Run serves until ctx ends and waits a moment for what is under way.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.server.ServeTLS(s.listen, "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("cannot serve feed: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.server.Shutdown(stop)
	if err != nil {
		err = s.server.Close()
	}
	<-served
	return err
}

// Close gives the address back; after Run it does nothing.
func (s *Server) Close() error {
	if err := s.listen.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// answer writes a message, or the sentence of a refusal.
func answer(h func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := h(r)
		var text []byte
		if err == nil && m != nil {
			text, err = codec.Encode(m)
		}
		if err != nil {
			status := http.StatusUnprocessableEntity
			if errors.Is(err, errRole) {
				status = http.StatusForbidden
			}
			http.Error(w, err.Error(), status)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(text) // the other end is gone
	})
}

var errRole = errors.New("this is for a process with the role settle")

// settler answers processes with the role settle alone, before anything of a request is read.
func (s *Server) settler(h func(*http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if _, roles, err := peer.Of(r.TLS); err != nil || !roles.Has(role.Settle) {
			return nil, errRole
		}
		return h(r)
	}
}

// read reads a body within a bound.
func read(r *http.Request, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read request: %w", err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("cannot accept request: more than %d bytes", limit)
	}
	return b, nil
}

func message(r *http.Request, limit int, m any) error {
	b, err := read(r, limit)
	if err != nil {
		return err
	}
	return codec.Decode(b, m, limit)
}

func (s *Server) next(r *http.Request) (any, error) {
	n, err := s.v.Next(r.Context())
	return next{n}, err
}

func (s *Server) follow(r *http.Request) (any, error) {
	b, err := read(r, disclosure.MaxBatchLen)
	if err != nil {
		return nil, err
	}
	entries, err := disclosure.DecodeBatch(b)
	if err != nil {
		return nil, err
	}
	return nil, s.v.Follow(r.Context(), entries...)
}

func (s *Server) erase(r *http.Request) (any, error) {
	var e erasure
	if err := message(r, maxErasure, &e); err != nil {
		return nil, err
	}
	if len(e.Numbers)%8 != 0 {
		return nil, errors.New("cannot accept erasure: a number is cut off")
	}
	numbers := make([]uint64, 0, len(e.Numbers)/8)
	for b := e.Numbers; len(b) > 0; b = b[8:] {
		numbers = append(numbers, binary.BigEndian.Uint64(b))
	}
	return nil, s.v.Erase(r.Context(), numbers)
}

func (s *Server) prove(r *http.Request) (any, error) {
	var d due
	if err := message(r, maxSmall, &d); err != nil {
		return nil, err
	}
	return s.v.Prove(r.Context(), audit.Due(d))
}

func (s *Server) cosign(r *http.Request) (any, error) {
	var d draft
	if err := message(r, maxDraft, &d); err != nil {
		return nil, err
	}
	if e := (disclosure.Entry{Type: d.Type, Leaves: d.Leaves}); d.Type == ledger.TypeLeaves {
		l, err := ledger.DecodeLeaves(d.Payload)
		if err := errors.Join(err, e.Validate()); err != nil {
			return nil, err
		}
		var leaves []reward.Leaf
		e.ErasedLeaves(func(l reward.Leaf) { leaves = append(leaves, l) })
		s.v.Told(l.Day, leaves)
	}
	return s.v.Cosign(r.Context(), d.Type, d.Payload)
}

func (s *Server) gossip(r *http.Request) (any, error) { return s.v.Gossip(r.Context()) }

func (s *Server) seen(r *http.Request) (any, error) {
	b, err := read(r, maxSmall)
	if err != nil {
		return nil, err
	}
	line, err := s.v.Seen(r.Context(), b)
	if err != nil || len(line) == 0 {
		return nil, err
	}
	return cosigned{line}, nil
}

func (s *Server) complain(r *http.Request) (any, error) {
	b, err := read(r, maxSmall)
	if err != nil {
		return nil, err
	}
	return nil, s.v.Complain(r.Context(), b)
}
