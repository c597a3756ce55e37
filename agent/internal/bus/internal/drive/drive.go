// Package drive plays a recorded drive: the frames of a candump capture, plain or gzip, in their own timing, faster, or as fast as they
// are taken, for one or several of a car's buses.
//
// Invariants: whole frames only, in their order, with the frame time of the capture; a further round begins where the round before
// was latest. A line that cannot be read is counted and costs that line; a capture that is cut is played up to the cut. Error frames
// are counted and not handed out.
//
// The package refuses captures without a single frame.
package drive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

const (
	// minSpeed and maxSpeed bound the speed of a paced replay: at the least, a pause of maxGap lasts four days and a drive of three
	// years stays within what a time.Duration holds.
	minSpeed, maxSpeed = 0.01, 1000
	// minLoop is the least frame time that playing a drive again advances, so that a short one does not run away.
	minLoop = int64(time.Second)
	// block is how many frames are counted before others see the count, so that the count costs nothing a frame.
	block = 1024
)

// A location is what a URL says.
type location struct {
	path  string
	speed float64 // 0: as fast as possible
	loop  bool
}

// Check says what is wrong with a URL as far as that can be seen without opening it.
func Check(url string) error {
	_, err := parse(url)
	return err
}

func parse(raw string) (r location, err error) {
	const form = "give replay:///FILE?speed=1&loop=false with an absolute path"
	u, err := url.Parse(raw)
	if err != nil || u.Host != "" || u.User != nil || u.Fragment != "" || len(u.Path) < 2 {
		return r, fmt.Errorf("cannot use bus %q: it names no file; %s", raw, form)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return r, fmt.Errorf("cannot use bus %q: its options cannot be read; %s", raw, form)
	}
	r = location{path: u.Path, speed: 1}
	for key, values := range query {
		switch {
		case len(values) != 1:
			return r, fmt.Errorf("cannot use bus %q: %s stands twice; %s", raw, key, form)
		case key == "speed":
			r.speed, err = strconv.ParseFloat(values[0], 64)
			if err != nil || r.speed != 0 && !(r.speed >= minSpeed && r.speed <= maxSpeed) {
				return r, fmt.Errorf("cannot use bus %q: speed %.40q is neither 0, which is as fast as possible, nor within %v to %d", raw, values[0], minSpeed, maxSpeed)
			}
		case key == "loop":
			if r.loop, err = strconv.ParseBool(values[0]); err != nil {
				return r, fmt.Errorf("cannot use bus %q: loop is true or false, not %q", raw, values[0])
			}
		default:
			return r, fmt.Errorf("cannot use bus %q: it has no option %q; %s", raw, key, form)
		}
	}
	return r, nil
}

// A track is one of the buses that a Drive is asked for.
type track struct {
	name  string
	index uint8
	want  *can.Matcher
	seen  bool
	stats link.Stats
}

// A Drive plays one capture. Receive is for one goroutine; everything but Add is safe for concurrent use with it.
type Drive struct {
	location
	log *slog.Logger
	now func() time.Time

	// Of the goroutine in receive.
	tracks           []track
	route            []int // by the capture's index of the bus: index into tracks, -1 for none
	first            can.Frame
	unread           bool // first is yet to be played
	uncounted        int
	told             bool
	shift            int64  // added to the capture's times
	earliest, latest int64  // of this round, as recorded
	played           uint64 // handed out in this round; a round without any is the last
	pace             pace

	indexes []uint8 // of the tracks

	closed chan struct{}
	mu     sync.Mutex
	reader *can.Reader // nil after the end; replaced by receive only
	public []State     // by index into tracks
	broken uint64      // in the rounds before
}

// A State is what a Drive tells of one bus. The counters are renewed in blocks of up to a thousand frames, and before every pause.
type State struct {
	link.Stats
	// Up is false after the end.
	Up bool
	// Broken counts lines that could not be read, a cut end among them, and is told of the first bus only.
	Broken uint64
}

// Open opens the capture of replay:///FILE?speed=1&loop=false and sees that it holds a frame. Now is the host's clock, which sets the
// pace.
func Open(url string, log *slog.Logger, now func() time.Time) (*Drive, error) {
	u, err := parse(url)
	if err != nil {
		return nil, err
	}
	d := &Drive{location: u, log: log.With("capture", u.path), now: now, closed: make(chan struct{}), unread: true}
	if d.reader, err = openFile(u.path); err != nil {
		return nil, err
	}
	if err := d.reader.Next(&d.first); err != nil {
		defer d.reader.Close()
		if n, first := d.reader.Broken(); n > 0 && errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("cannot replay %s: no line is a frame of candump's log format (%s); record with `candump -L`", u.path, first)
		} else if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("cannot replay %s: it holds no frames; record with `candump -L`", u.path)
		}
		return nil, fmt.Errorf("cannot read capture %s: %w", u.path, err)
	}
	d.begin()
	return d, nil
}

// openFile opens a capture. A device or a pipe is refused: opening or reading it may never end, and there is no second round.
func openFile(path string) (*can.Reader, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open capture: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot replay %s: it is no regular file; record one with `candump -L`", path)
	}
	return can.OpenFile(path)
}

// Add asks for the frames of one more bus by its name in the capture, as far as the filters let them pass (nil: all). Frame.Bus will be
// index. Every Add comes before the first Receive.
func (d *Drive) Add(name string, index uint8, filters []can.Filter) {
	d.tracks = append(d.tracks, track{name: name, index: index, want: can.NewMatcher(filters)})
	d.indexes = append(d.indexes, index)
	d.public = append(d.public, State{Up: true})
}

// begin forgets the round before.
func (d *Drive) begin() {
	d.route, d.played = d.route[:0], 0
	d.earliest, d.latest = math.MaxInt64, math.MinInt64
}

// Receive waits until the next frame is due and writes it to f. It returns io.EOF after the last, ctx's error when ctx is done, and one
// that wraps net.ErrClosed after Close.
func (d *Drive) Receive(ctx context.Context, f *can.Frame) error {
	if d.reader == nil {
		return io.EOF
	}
	for {
		if err := ctx.Err(); err != nil {
			d.publish()
			return err
		}
		if d.unread {
			*f, d.unread = d.first, false
		} else if err := d.reader.Next(f); err != nil {
			if err := d.turn(err); err != nil {
				return err
			}
			continue
		}
		if d.uncounted++; d.uncounted >= block {
			d.publish()
		}
		if int(f.Bus) >= len(d.route) {
			d.learn()
		}
		i := d.route[f.Bus]
		if i < 0 {
			continue
		}
		d.earliest, d.latest = min(d.earliest, f.Time), max(d.latest, f.Time)
		t := &d.tracks[i]
		f.Time = d.shift + min(f.Time, math.MaxInt64-d.shift) // the file may have grown since again looked
		f.Bus = t.index
		if d.speed != 0 {
			// Also for what is then kept out, or the round would run ahead.
			if err := d.await(ctx, f.Time); err != nil {
				return err
			}
		}
		if f.Flags&can.Error != 0 {
			t.stats.ErrorFrames.Add(f)
			continue
		}
		if !t.want.Match(f.ID) {
			t.stats.Filtered++
			continue
		}
		d.played++
		t.stats.Received++
		return nil
	}
}

// learn routes the buses that the capture has named since.
func (d *Drive) learn() {
	d.route = d.route[:0]
	for _, name := range d.reader.Buses() {
		i := slices.IndexFunc(d.tracks, func(t track) bool { return t.name == name })
		if d.route = append(d.route, i); i >= 0 {
			d.tracks[i].seen = true
		}
	}
}

// turn ends a round, for the reason that the reader gave, and begins the next one or returns io.EOF.
func (d *Drive) turn(reason error) error {
	if d.isClosed() {
		return d.errClosed()
	}
	d.mu.Lock()
	n, first := d.reader.Broken()
	d.broken += uint64(n)
	names := d.reader.Buses()
	cut := !errors.Is(reason, io.EOF)
	if cut {
		d.broken++
	}
	_ = d.reader.Close() // it was only read
	d.reader = nil
	d.mu.Unlock()
	if !d.told {
		d.told = true
		d.tell(n, first, names)
		if cut {
			d.log.Error("capture cannot be read to its end, what was whole is played", "error", reason)
		}
	}
	if d.loop && d.played > 0 {
		if err := d.again(); err != nil {
			d.log.Error("capture cannot be played again", "error", err)
		}
	}
	if d.reader == nil && !d.isClosed() {
		d.log.Info("capture ended", "frames", d.played)
	}
	d.publish()
	switch {
	case d.isClosed():
		return d.errClosed()
	case d.reader == nil:
		return io.EOF
	}
	return nil
}

// tell says once what of the capture and of the configuration does not fit.
func (d *Drive) tell(broken int, first string, names []string) {
	if broken > 0 {
		d.log.Warn("capture has broken lines", "lines", broken, "first", first)
	}
	var missing []string
	for _, t := range d.tracks {
		if !t.seen {
			missing = append(missing, t.name)
		}
	}
	if len(missing) > 0 {
		d.log.Warn("buses do not occur in the capture, name them as it does", "missing", missing, "occurring", names)
	}
}

// again opens the capture for the next round.
func (d *Drive) again() error {
	step := max(d.latest-d.earliest, minLoop)
	if d.shift+step > math.MaxInt64-d.latest {
		return errors.New("frame time would pass the year 2262")
	}
	r, err := openFile(d.path)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		return r.Close()
	}
	d.reader = r
	d.shift += step
	d.begin()
	return nil
}

// publish lets others see the counters.
func (d *Drive) publish() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uncounted = 0
	for i, t := range d.tracks {
		d.public[i].Stats = t.stats
		d.public[i].Up = d.reader != nil
	}
	d.public[0].Broken = d.broken
	if d.reader != nil {
		n, _ := d.reader.Broken()
		d.public[0].Broken += uint64(n)
	}
}

// State returns the state of the bus that was added with an index.
func (d *Drive) State(index uint8) State {
	i := slices.Index(d.indexes, index)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.public[i]
	s.Up = s.Up && !d.isClosed()
	return s
}

// Close ends the drive and wakes a waiting Receive. Closing twice is an error that wraps net.ErrClosed.
func (d *Drive) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		return d.errClosed()
	}
	close(d.closed)
	if d.reader == nil {
		return nil
	}
	return d.reader.Close()
}

func (d *Drive) isClosed() bool {
	select {
	case <-d.closed:
		return true
	default:
		return false
	}
}

func (d *Drive) errClosed() error { return fmt.Errorf("cannot replay %s: %w", d.path, net.ErrClosed) }
