package spool

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/wire"
)

// A life is one run of a program that keeps and frees submissions until it is killed, and says so in lines of text:
//
//	begin               before the store is opened
//	found TEXT          what the store has to say about the past, when it has
//	holds N             a submission that it holds at its start
//	ready               the end of these
//	kept FROM TO        submissions that were acknowledged, the second number excluded
//	freeing FROM TO     some that are about to be freed
//	freed FROM TO       and are
//	log LINE            anything else
//
// What it says in one line is one write, so that a kill leaves no false line. The lives of one store in their order are one text.
const lifeEnv = "RAWSTONE_SPOOL_LIFE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lifeEnv); dir != "" {
		if err := life(dir, os.Stdout); err != nil {
			fmt.Printf("log %v\n", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if dir := os.Getenv(backlogEnv); dir != "" {
		if err := backlog(dir, os.Stdout); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// lifeBody is what submission n holds.
func lifeBody(n uint64) []byte {
	r := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), n)))
	b := make([]byte, 300+n%3000)
	r.Read(b)
	binary.BigEndian.PutUint64(b, n)
	return b
}

// life lives until it is killed.
func life(dir string, w io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	say("begin")
	logger := slog.New(slog.NewTextHandler(lines{w}, nil))
	db, finding, err := flash.OpenStore(flash.StoreConfig{Dir: filepath.Join(dir, "store"), Reserve: 1, Logger: logger})
	if err != nil {
		return err
	}
	if finding != (flash.Finding{}) {
		say("found %s", finding)
	}
	s, err := Open(Config{DB: db, Logger: logger, MaxBytes: 64 << 20})
	if err != nil {
		return err
	}
	var first, next uint64
	for i, id := range s.IDs(wire.KindClaim) {
		item, ok, err := s.Get(id)
		if err != nil || !ok {
			return fmt.Errorf("holds what it cannot read: %w", err)
		}
		n := binary.BigEndian.Uint64(item.Bytes)
		if !bytes.Equal(item.Bytes, lifeBody(n)) {
			return fmt.Errorf("submission %d is another", n)
		}
		if i == 0 {
			first = n
		}
		next = n + 1
		say("holds %d", n)
	}
	say("ready")
	for round := 0; ; round++ {
		// One by one, and in groups.
		from := next
		var items []Item
		for range []int{1, 7, 1, 30}[round%4] {
			items = append(items, Item{Kind: wire.KindClaim, Created: epoch, Due: epoch, Bytes: lifeBody(next)})
			next++
		}
		if _, _, err := s.PutAll(items...); err != nil {
			return err
		}
		say("kept %d %d", from, next)
		for next-first > 300 {
			to := first + 60
			var ids []wire.Hash
			for n := first; n < to; n++ {
				ids = append(ids, wire.ID(lifeBody(n)))
			}
			say("freeing %d %d", first, to)
			drain(w) // or the line is lost with the power, and what it says is done
			if err := s.FreeAll(ids...); err != nil {
				return err
			}
			say("freed %d %d", first, to)
			first = to
		}
	}
}

// drain waits until what was written to a terminal has left the machine; other files need none.
func drain(w io.Writer) {
	if f, ok := w.(*os.File); ok {
		unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1)
	}
}

// lines writes each line of a logger's as one of a life's.
type lines struct{ w io.Writer }

func (l lines) Write(b []byte) (int, error) {
	_, err := fmt.Fprintf(l.w, "log %s", b)
	return len(b), err
}

// toll is what judge counted.
type toll struct {
	lives, ready     int
	kept, freed      int
	unasked, strange int // held although not acknowledged; lines that are not a life's
}

// judge reads the lives of one store. An error names an acknowledged submission that is gone, a freed one that came back, or
// anything that the store or a life complained of.
func judge(r io.Reader) (toll, error) {
	var t toll
	const (
		kept = iota + 1
		freeing
		freed
	)
	state := make(map[uint64]int)
	held := make(map[uint64]bool)
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		var from, to uint64
		line := strings.TrimSuffix(scan.Text(), "\r")
		switch verb, rest, _ := strings.Cut(line, " "); verb {
		case "begin":
			t.lives++
			clear(held)
		case "found":
			return t, fmt.Errorf("life %d: the store says: %s", t.lives, rest)
		case "holds":
			if _, err := fmt.Sscanf(line, "holds %d", &from); err != nil {
				return t, err
			}
			held[from] = true
		case "ready":
			t.ready++
			for n, s := range state {
				switch {
				case s == kept && !held[n]:
					return t, fmt.Errorf("life %d: submission %d was acknowledged and is lost", t.lives, n)
				case s == freed && held[n]:
					return t, fmt.Errorf("life %d: submission %d was freed and is back", t.lives, n)
				}
				if !held[n] {
					delete(state, n)
				}
			}
			for n := range held {
				if state[n] == 0 {
					t.unasked++
				}
				state[n] = kept
			}
		case "kept", "freeing", "freed":
			if _, err := fmt.Sscanf(rest, "%d %d", &from, &to); err != nil {
				return t, err
			}
			to = min(to, from+MaxGroup)
			for n := from; n < to; n++ {
				state[n] = map[string]int{"kept": kept, "freeing": freeing, "freed": freed}[verb]
				switch verb {
				case "kept":
					t.kept++
				case "freed":
					t.freed++
				}
			}
		case "log":
			if !strings.Contains(rest, "tables that the manifest does not list") {
				return t, fmt.Errorf("life %d says: %s", t.lives, rest)
			}
			t.strange++
		default:
			return t, fmt.Errorf("life %d: %q makes no sense", t.lives, line)
		}
	}
	return t, scan.Err()
}

func TestJudge(t *testing.T) {
	good := "begin\nready\nkept 0 2\nfreeing 0 1\nfreed 0 1\nkept 2 3\nbegin\nholds 1\nholds 2\nholds 3\nready\nkept 4 5\nfreeing 1 2\nbegin\nholds 2\nholds 3\nholds 4\nready\n"
	if n, err := judge(strings.NewReader(good)); err != nil || n.kept != 4 || n.freed != 1 || n.unasked != 1 || n.ready != 3 {
		t.Errorf("%+v %v", n, err)
	}
	for _, bad := range []string{
		"begin\nready\nkept 0 2\nbegin\nholds 0\nready\n",
		"begin\nready\nkept 0 2\nfreeing 0 1\nfreed 0 1\nbegin\nholds 0\nholds 1\nready\n",
		"begin\nholds 0\nready\nbegin\nready\n",
		"begin\nfound The store is damaged\n",
		"begin\nlog submission 3 is another\n",
		"nonsense\n",
	} {
		if _, err := judge(strings.NewReader(bad)); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

// Lives that another program recorded, such as one that cuts the power of an emulated machine, as RAWSTONE_SPOOL_LIVES:READY:KEPT: at
// least READY lives got to their work, and kept at least KEPT submissions.
func TestRecordedLives(t *testing.T) {
	arg := os.Getenv("RAWSTONE_SPOOL_LIVES")
	if arg == "" {
		t.Skip("no recorded lives: RAWSTONE_SPOOL_LIVES=FILE,READY,KEPT names some")
	}
	name, counts, _ := strings.Cut(arg, ",")
	var ready, kept int
	if _, err := fmt.Sscanf(counts, "%d,%d", &ready, &kept); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := judge(f)
	if err != nil {
		t.Error(err)
	}
	if n.ready < ready || n.kept < kept {
		t.Errorf("%d lives kept %d, want %d and %d", n.ready, n.kept, ready, kept)
	}
	t.Logf("%d lives, %d submissions acknowledged, %d freed, 0 lost; %d kept and not yet acknowledged", n.ready, n.kept, n.freed, n.unasked)
}

// kills is how many lives TestKills takes.
func kills(t *testing.T) int {
	n := 10
	if text := os.Getenv("RAWSTONE_KILLS"); text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// No submission that was acknowledged is lost however often the process is killed, in whatever it does.
func TestKills(t *testing.T) {
	dir := t.TempDir()
	var text bytes.Buffer
	chance := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	n := kills(t)
	for range n {
		text.Write(kill(t, dir, chance))
	}
	// The last one is let live until it has said what it holds.
	text.Write(kill(t, dir, nil))
	sum, err := judge(bytes.NewReader(text.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if sum.lives != n+1 || sum.ready < n/4 || sum.kept == 0 {
		t.Errorf("%+v", sum)
	}
	t.Logf("%d kills, %d of them at work: %d submissions acknowledged, %d freed, 0 lost", n, sum.ready-1, sum.kept, sum.freed)
}
