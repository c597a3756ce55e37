package deadletter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// newBox returns an empty box beside a queue that holds two messages at most.
func newBox(t *testing.T) (*Box, jetstream.JetStream) {
	t.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []jetstream.StreamConfig{Config(), {Name: "QUEUE", Subjects: []string{"queue.*"}, MaxMsgs: 2, Discard: jetstream.DiscardNew}} {
		if _, err := js.CreateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	b, err := Open(conn)
	if err != nil {
		t.Fatal(err)
	}
	return b, js
}

func (b *Box) put(t *testing.T, l Letter) {
	t.Helper()
	if err := b.Put(t.Context(), l); err != nil {
		t.Fatal(err)
	}
}

func (b *Box) list(t *testing.T, after uint64) []Letter {
	t.Helper()
	page, err := b.List(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func TestLettersComeBackAsTheyWere(t *testing.T) {
	b, _ := newBox(t)
	if s, err := b.Summary(t.Context()); err != nil || len(s.Letters) != 0 || !s.Oldest.IsZero() {
		t.Errorf("summary of nothing: %+v, %v", s, err)
	}
	queued := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	long := bytes.Repeat([]byte{7}, MaxBody+1)
	b.put(t, Letter{Reason: Undecided, Detail: "no\r\nNats-Msg-Id: 2\x00é", Subject: "queue.1", Queued: queued, Deliveries: 7, Body: []byte("body")})
	b.put(t, Letter{Reason: Undecided, Detail: "other words", Subject: "queue.1", Deliveries: 8, Body: []byte("body")}) // the same again
	b.put(t, Letter{Reason: TooLarge, Subject: "queue.2", Queued: queued, Deliveries: 1, Body: long})
	got := b.list(t, 0)
	want := []Letter{
		{Seq: 1, Reason: Undecided, Detail: "no  Nats-Msg-Id: 2", Subject: "queue.1", Queued: queued, Deliveries: 7, Length: 4, Body: []byte("body")},
		{Seq: 2, Reason: TooLarge, Subject: "queue.2", Queued: queued, Deliveries: 1, Length: MaxBody + 1, Body: long[:MaxBody]},
	}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Letter{}, "Time")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(got[1:], b.list(t, 1)); d != "" {
		t.Error(d)
	}
	s, err := b.Summary(t.Context())
	if d := cmp.Diff(Summary{Letters: map[Reason]uint64{Undecided: 1, TooLarge: 1}, Oldest: got[0].Time}, s); d != "" || err != nil {
		t.Error(d, err)
	}
}

// TestOneLetterForTheSameMessage: a message that is sent again makes no second letter, until the first is replayed; then it does, or it
// would be lost.
func TestOneLetterForTheSameMessage(t *testing.T) {
	b, js := newBox(t)
	l := Letter{Reason: Undecided, Subject: "queue.1", Body: []byte("same")}
	other := []Letter{
		{Reason: Unchecked, Subject: l.Subject, Body: l.Body}, {Reason: l.Reason, Subject: "queue.2", Body: l.Body},
		{Reason: l.Reason, Subject: l.Subject, Body: []byte("another")}, {Reason: TooLarge, Subject: l.Subject, Body: make([]byte, MaxBody+1)},
		{Reason: TooLarge, Subject: l.Subject, Body: make([]byte, MaxBody+2)}, // different in what is not kept
	}
	for range 3 {
		b.put(t, l)
		for _, o := range other {
			b.put(t, o)
		}
	}
	if n := len(b.list(t, 0)); n != 1+len(other) {
		t.Fatalf("%d letters, want %d", n, 1+len(other))
	}
	if err := b.Replay(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.put(t, l) // fails again, at once
	all := b.list(t, 0)
	if n := len(all); n != 1+len(other) || !bytes.Equal(all[n-1].Body, l.Body) {
		t.Errorf("%d letters after a replay that failed, want %d", n, 1+len(other))
	}
	// The server remembers no names of messages, however many come within its window.
	s, err := js.Stream(t.Context(), Stream)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.GetLastMsgForSubject(t.Context(), every); err != nil || m.Header.Get(jetstream.MsgIDHeader) != "" {
		t.Errorf("%v, %v", m, err)
	}
}

func TestReplay(t *testing.T) {
	b, js := newBox(t)
	for i := range 3 {
		b.put(t, Letter{Reason: Undecided, Subject: "queue.1", Body: fmt.Append(nil, i)})
	}
	b.put(t, Letter{Reason: TooLarge, Subject: "queue.1", Body: make([]byte, MaxBody+1)})
	b.put(t, Letter{Reason: NoVehicle, Subject: "elsewhere", Body: []byte("x")})
	b.put(t, Letter{Reason: NoVehicle, Body: []byte("x")})
	for seq, want := range map[uint64]error{2: nil, 4: ErrPart, 5: ErrSubject, 6: ErrSubject, 99: ErrNotFound} {
		if err := b.Replay(t.Context(), seq); !errors.Is(err, want) {
			t.Errorf("letter %d: %v, want %v", seq, err, want)
		}
	}
	if err := b.Replay(t.Context(), 2); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if err := b.Replay(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Replay(t.Context(), 3); err == nil { // into a full queue
		t.Error("replayed into a full queue")
	}
	queue, err := js.Stream(t.Context(), "QUEUE")
	if err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[uint64]string{1: "1", 2: "0"} {
		if m, err := queue.GetMsg(t.Context(), seq); err != nil || string(m.Data) != want || m.Subject != "queue.1" {
			t.Errorf("message %d: %+v, %v", seq, m, err)
		}
	}
	var left []uint64
	for _, l := range b.list(t, 0) {
		left = append(left, l.Seq)
	}
	if d := cmp.Diff([]uint64{3, 4, 5, 6}, left); d != "" {
		t.Error(d)
	}
}

// TestFloodOfOneReasonLeavesTheOthers: the oldest of its own go, and listing takes several pages.
func TestFloodOfOneReasonLeavesTheOthers(t *testing.T) {
	b, _ := newBox(t)
	b.put(t, Letter{Reason: Undecided, Subject: "queue.1", Body: []byte("kept")})
	body := make([]byte, MaxBody)
	const more = 3 * trimEvery
	for i := range MaxLetters + more {
		binary.BigEndian.PutUint32(body, uint32(i))
		b.put(t, Letter{Reason: TooLarge, Subject: "queue.1", Body: body})
	}
	var all []Letter
	for after := uint64(0); ; after = all[len(all)-1].Seq {
		page := b.list(t, after)
		if len(page) > MaxPage {
			t.Fatalf("a page of %d", len(page))
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
	}
	// The stream was trimmed when it took a multiple of trimEvery.
	left := MaxLetters + (1+MaxLetters+more)%trimEvery
	if len(all) != 1+left || string(all[0].Body) != "kept" || all[1].Seq != uint64(2+MaxLetters+more-left) {
		t.Errorf("%d letters, the first %d and %d", len(all), all[0].Seq, all[1].Seq)
	}
	if n := len(Reasons()) * (MaxLetters + trimEvery) * maxLetter; n > StreamBytes {
		t.Errorf("all reasons take %d bytes, want at most %d", n, StreamBytes)
	}
}
