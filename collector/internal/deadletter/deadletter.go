// Package deadletter keeps messages that the intake has given up on, with the reason, in a JetStream stream of their own, until an operator
// has them replayed or they are pushed out.
//
// The stream is bounded in bytes, in age and in letters for each reason; what is too old or too many goes, oldest first, so that a flood of
// one kind neither stops the intake nor hides the others. There is one letter for the same bytes on the same subject and of one reason,
// however often they come: whoever has no receipt sends again. A message longer than the intake takes is kept in part, and is not replayed: it
// would come back. A replayed letter leaves the stream once its message is in the queue again; after a crash in between it is in both,
// which does no harm, because a repeated submission gets its stored answer.
//
// The package judges no message. Letters name vehicles: they are for the operator's eyes, and nothing here logs them.
package deadletter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// Stream is the stream's name, for whoever makes it by the Config of this package.
	Stream = "DEAD_LETTERS"

	// MaxBody bounds what is kept of a message, in bytes. It holds every message that the intake takes.
	MaxBody = 4 << 10
	// MaxLetters bounds the letters of one reason. Some more, fewer than trimEvery, may be there until the next trimming.
	MaxLetters = 1000
	// StreamBytes bounds the stream on disk: all reasons at their bound, with headers.
	StreamBytes = 24 << 20
	// MaxPage bounds what List returns at once.
	MaxPage = 250

	maxAge     = 90 * 24 * time.Hour
	maxLetter  = MaxBody + 1<<10
	maxDetail  = 200 // bytes
	duplicates = 2 * time.Minute
	trimEvery  = 64 // letters

	// A letter's subject is prefix, reason, a dot and the name of its message, so that the stream itself keeps one of each.
	prefix = "rawstone.dead."
	every  = prefix + "*.*"

	headerSubject    = "Rawstone-Subject"
	headerDeliveries = "Rawstone-Deliveries"
	headerQueued     = "Rawstone-Queued"
	headerLength     = "Rawstone-Length"
	headerDetail     = "Rawstone-Detail"
)

// A Reason says why a message was given up.
type Reason string

// The reasons.
const (
	// TooLarge is a message longer than the intake takes.
	TooLarge Reason = "too_large"
	// NoVehicle is one on a subject that no vehicle can have.
	NoVehicle Reason = "no_vehicle"
	// Unchecked and Undecided are messages whose check, or whose decision in the database, failed again and again while others succeeded.
	Unchecked Reason = "unchecked"
	Undecided Reason = "undecided"
)

// Reasons returns all reasons.
func Reasons() []Reason { return []Reason{TooLarge, NoVehicle, Unchecked, Undecided} }

// A Letter is a message that was given up.
type Letter struct {
	// Seq is its number in the stream, from 1 and never used again; given by Put.
	Seq    uint64 `json:"seq"`
	Reason Reason `json:"reason"`
	// Detail is what failed last, in words; it may be empty.
	Detail string `json:"detail,omitempty"`
	// Subject is the one that the message came on.
	Subject string `json:"subject"`
	// Queued is when the message came, Time when it was given up.
	Queued time.Time `json:"queued"`
	Time   time.Time `json:"time"`
	// Deliveries counts how often the intake was given it.
	Deliveries uint64 `json:"deliveries"`
	// Length is the message's in bytes, of which Body holds the first MaxBody.
	Length int    `json:"length"`
	Body   []byte `json:"-"`
}

// Whole reports whether all of the message is there.
func (l *Letter) Whole() bool { return l.Length == len(l.Body) }

// A Summary is what waits for the operator.
type Summary struct {
	// Letters counts by reason; reasons without any are left out.
	Letters map[Reason]uint64
	// Oldest is when the first of them was given up; zero when there is none.
	Oldest time.Time
}

// Config returns how the stream is to be made.
func Config() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: Stream, Subjects: []string{every}, Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
		MaxBytes: StreamBytes, MaxAge: maxAge, MaxMsgsPerSubject: 1, MaxMsgSize: maxLetter, Discard: jetstream.DiscardOld,
		Duplicates: duplicates,
	}
}

// A Box is the stream. It may be used from several goroutines.
type Box struct {
	js jetstream.JetStream
}

// Open returns the box that a connection reaches. Its owner keeps the connection open.
func Open(conn *nats.Conn) (*Box, error) {
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, fmt.Errorf("cannot open dead letters: %w", err)
	}
	return &Box{js}, nil
}

// Put keeps a letter; Seq and Time are given by the stream. It is on disk when Put returns nil. While the same message is kept for the same
// reason, it is not kept again.
func (b *Box) Put(ctx context.Context, l Letter) error {
	m := nats.NewMsg(prefix + string(l.Reason) + "." + name(l))
	m.Data = l.Body[:min(len(l.Body), MaxBody)]
	m.Header.Set(headerSubject, l.Subject[:min(len(l.Subject), maxDetail)])
	m.Header.Set(headerDeliveries, strconv.FormatUint(l.Deliveries, 10))
	m.Header.Set(headerQueued, l.Queued.UTC().Format(time.RFC3339Nano))
	m.Header.Set(headerLength, strconv.Itoa(len(l.Body)))
	if l.Detail != "" {
		m.Header.Set(headerDetail, line(l.Detail))
	}
	// A message id would do for two minutes, and would drop a replayed message that fails again within them.
	ack, err := b.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(0), jetstream.WithExpectStream(Stream))
	if there := new(jetstream.APIError); errors.As(err, &there) && there.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot keep dead letter: %w", err)
	}
	if ack.Sequence%trimEvery != 0 {
		return nil
	}
	_ = b.trim(ctx) // the letter is kept, and bytes and age bound the stream until the next trimming
	return nil
}

// name names a message by all its bytes and where it came from.
func name(l Letter) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(l.Subject), l.Subject)
	h.Write(l.Body)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// trim removes the oldest letters of each reason beyond MaxLetters.
func (b *Box) trim(ctx context.Context) error {
	s, err := b.js.Stream(ctx, Stream)
	if err != nil {
		return err
	}
	for _, reason := range Reasons() {
		err = errors.Join(err, s.Purge(ctx, jetstream.WithPurgeSubject(prefix+string(reason)+".*"), jetstream.WithPurgeKeep(MaxLetters)))
	}
	return err
}

// line makes one short line of printable ASCII out of words, as a header wants it.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	return strings.TrimSpace(s[:min(len(s), maxDetail)])
}

// List returns up to MaxPage letters, in the order in which they were given up, from after a number on.
func (b *Box) List(ctx context.Context, after uint64) (page []Letter, err error) {
	s, err := b.js.Stream(ctx, Stream)
	if err != nil {
		return nil, fmt.Errorf("cannot list dead letters: %w", err)
	}
	for len(page) < MaxPage {
		m, err := s.GetMsg(ctx, after+1, jetstream.WithGetMsgSubject(every))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return page, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list dead letters: %w", err)
		}
		page, after = append(page, letter(m)), m.Sequence
	}
	return page, nil
}

func reason(subject string) Reason {
	r, _, _ := strings.Cut(strings.TrimPrefix(subject, prefix), ".")
	return Reason(r)
}

// letter reads what Put has written.
func letter(m *jetstream.RawStreamMsg) Letter {
	l := Letter{
		Seq: m.Sequence, Reason: reason(m.Subject), Time: m.Time.UTC(), Body: m.Data,
		Subject: m.Header.Get(headerSubject), Detail: m.Header.Get(headerDetail),
	}
	l.Deliveries, _ = strconv.ParseUint(m.Header.Get(headerDeliveries), 10, 64)
	l.Queued, _ = time.Parse(time.RFC3339Nano, m.Header.Get(headerQueued))
	l.Length, _ = strconv.Atoi(m.Header.Get(headerLength))
	return l
}

// Summary counts the letters.
func (b *Box) Summary(ctx context.Context) (Summary, error) {
	s, err := b.js.Stream(ctx, Stream)
	if err != nil {
		return Summary{}, fmt.Errorf("cannot count dead letters: %w", err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(every))
	if err != nil {
		return Summary{}, fmt.Errorf("cannot count dead letters: %w", err)
	}
	out := Summary{Letters: make(map[Reason]uint64)}
	for subject, n := range info.State.Subjects {
		out.Letters[reason(subject)] += n
	}
	if info.State.Msgs > 0 {
		out.Oldest = info.State.FirstTime.UTC()
	}
	return out, nil
}

// Errors of Replay.
var (
	ErrNotFound = errors.New("there is no such letter")
	ErrPart     = errors.New("it is kept in part: whoever sent it must send it in fewer bytes")
	ErrSubject  = errors.New("no queue takes its subject: let it grow old")
)

// Replay puts the letter's message back into the queue that it came from, and then removes the letter.
func (b *Box) Replay(ctx context.Context, seq uint64) error {
	if err := b.replay(ctx, seq); err != nil {
		return fmt.Errorf("cannot replay dead letter %d: %w", seq, err)
	}
	return nil
}

func (b *Box) replay(ctx context.Context, seq uint64) error {
	s, err := b.js.Stream(ctx, Stream)
	if err != nil {
		return err
	}
	m, err := s.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	l := letter(m)
	if !l.Whole() {
		return ErrPart
	}
	_, err = b.js.Publish(ctx, l.Subject, l.Body)
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrBadSubject) {
		return ErrSubject
	}
	if err != nil {
		return err
	}
	if err := s.DeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("its message is in the queue again, and the letter stays: %w", err)
	}
	return nil
}
