// Package trip turns samples of a few signals into trips and into the usage summary that a report is made of: minutes in use per
// hour of the day, minutes per speed band, trips per length band, charging minutes per state-of-charge band, minutes with driver
// assistance.
//
// It judges in frame time only and in integers only. A gap between samples is time that nobody saw: it is never counted. Growth of
// the distance counter that no car can drive in the time between two samples is not counted either, but noted.
//
// The summary is durable: it survives a restart, losing at most what was seen since the last write (Config.SaveEvery). It holds
// raw usage and therefore never leaves the car; package seal takes it through clip and noise.
//
// Only the families that the driver has turned on are recorded, and from that moment on: a change of consent begins an empty summary, and
// without consent nothing is kept at all.
//
// The package proves nothing: claims come from the attestation ECU's counters, not from here.
package trip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/fxamacker/cbor/v2"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/wire"
)

// The bands. A band's index is the number of its limits (wire.SpeedLimits, wire.TripLimits) that a value has reached.
const (
	numHours = 24
	numBands = 10
)

const (
	maxGap       = 10 * int64(time.Second)   // a longer silence of the speed signal is not counted
	maxChargeGap = 15 * int64(time.Minute)   // a charging car tells its state of charge more often than that
	tripEnd      = 5 * int64(time.Minute)    // a standstill of this length ends a trip
	maxSpeed     = 100                       // metres a second that no road car exceeds
	slack        = 1100                      // metres that a counter in whole kilometres may grow at once
	stateKey     = "trip/usage"              // the record's key in the store
	millisecond  = int64(time.Millisecond)   // in the unit of frame time
	minute       = int64(60_000)             // in the unit of the summary's times
	hour         = int64(3600 * time.Second) // in the unit of frame time
	day          = int64(24 * 3600 * time.Second)
)

// Usage is a summary. Times are in milliseconds.
type Usage struct {
	Hours    [numHours]int64 `cbor:"0,keyasint"` // in use, per hour of the day
	Speed    [numBands]int64 `cbor:"1,keyasint"` // in use, per speed band
	Trips    [numBands]int64 `cbor:"2,keyasint"` // number, per length band
	Charge   [numBands]int64 `cbor:"3,keyasint"` // charging, per tenth of the state of charge
	Features [numBands]int64 `cbor:"4,keyasint"` // in use with a feature engaged: 0 is driver assistance
}

// state is what is kept over a restart.
type state struct {
	Usage  Usage `cbor:"0,keyasint"`
	OnTrip bool  `cbor:"1,keyasint"`
	Metres int64 `cbor:"2,keyasint"` // of the trip under way
	Moved  int64 `cbor:"3,keyasint"` // frame time of its last movement
	// Families is the consent that the summary was recorded under.
	Families wire.Family `cbor:"4,keyasint"`
}

// Config of a Recorder. DB, Logger and Now are required.
type Config struct {
	// DB is the flash store that keeps the summary.
	DB     *badger.DB
	Logger *slog.Logger
	// Now is the host's clock; it only paces writes.
	Now func() time.Time
	// Families are what the driver has turned on; 0 records nothing.
	Families wire.Family
	// SaveEvery is the least time between two writes while driving; 0 means 10 s.
	SaveEvery time.Duration
	// UTCOffset is added to frame time for the hour of the day, within ±24 h.
	UTCOffset time.Duration
	// Metrics takes the counters; nil means none.
	Metrics prometheus.Registerer
}

// A Recorder makes the summary. It is safe for concurrent use.
type Recorder struct {
	cfg         Config
	implausible prometheus.Counter

	mu       sync.Mutex
	state    state
	saved    state
	savedAt  time.Time
	speed    int64 // last sample
	speedAt  int64 // its frame time, 0 for none
	distance int64
	distAt   int64
	charging bool
	chargeAt int64
	assist   bool
}

// Open restores the summary, or begins an empty one where the consent has changed or the record is damaged, which is said: usage is
// worth less than a car that does not start.
func Open(cfg Config) (*Recorder, error) {
	if cfg.DB == nil || cfg.Logger == nil || cfg.Now == nil {
		return nil, errors.New("cannot record trips: store, logger and clock are required")
	}
	if off := cfg.UTCOffset; off < -24*time.Hour || off > 24*time.Hour {
		return nil, fmt.Errorf("cannot record trips: an offset of %v from UTC is beyond a day", off)
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = 10 * time.Second
	}
	r := &Recorder{cfg: cfg, savedAt: cfg.Now(), implausible: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rawstone_trip_implausible_total", Help: "Steps of the distance counter that were not counted because no car drives so far in the time."})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(r.implausible); err != nil {
			return nil, fmt.Errorf("cannot record trips: %w", err)
		}
	}
	err := cfg.DB.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(stateKey))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			if err := cbor.Unmarshal(b, &r.saved); err != nil {
				cfg.Logger.Warn("usage summary is damaged and begins anew", "error", err)
				r.saved = state{Families: wire.AllFamilies + 1} // no consent: it is written over below
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("cannot restore usage summary: %w", err)
	}
	if r.state = r.saved; r.state.Families != cfg.Families {
		r.state = state{Families: cfg.Families}
		if err := r.write(); err != nil {
			return nil, fmt.Errorf("cannot begin usage summary: %w", err)
		}
	}
	return r, nil
}

// Observe takes a sample of a role at a frame time in Unix nanoseconds.
func (r *Recorder) Observe(role Role, t, v int64) {
	if r.cfg.Families == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch role {
	case Speed:
		r.observeSpeed(t, v)
	case Distance:
		r.observeDistance(t, v)
	case Charge:
		if dt := t - r.chargeAt; r.charging && r.chargeAt != 0 && dt > 0 && dt <= maxChargeGap {
			if r.on(wire.FamilyCharge) {
				r.state.Usage.Charge[min(v/100, numBands-1)] += dt / millisecond
			}
			r.save(false)
		}
		r.chargeAt = t
	case Charging:
		if on := v != 0; on != r.charging {
			r.charging, r.chargeAt = on, 0 // the time before the switch was not seen charging
		}
	case Assist:
		r.assist = v != 0
	}
}

func (r *Recorder) observeSpeed(t, v int64) {
	dt, before := t-r.speedAt, r.speed
	seen := r.speedAt != 0 && dt > 0 && dt <= maxGap
	r.speed, r.speedAt = v, t
	s := &r.state
	if s.OnTrip && (t-s.Moved > tripEnd || t < s.Moved-maxGap) {
		s.OnTrip = false
		if r.on(wire.FamilyTrips) {
			s.Usage.Trips[band(wire.TripLimits(), s.Metres)]++
		}
	}
	if v >= wire.SpeedLimits()[0] {
		if !s.OnTrip {
			s.OnTrip, s.Metres = true, 0
		}
		s.Moved = t
	}
	if s.OnTrip && seen {
		ms := dt / millisecond
		if r.on(wire.FamilyHours) {
			s.Usage.Hours[r.hourOf(t)] += ms
		}
		if r.on(wire.FamilySpeed) {
			s.Usage.Speed[band(wire.SpeedLimits(), before)] += ms
		}
		if r.on(wire.FamilyFeature) && r.assist {
			s.Usage.Features[0] += ms
		}
	}
	r.save(false)
}

func (r *Recorder) observeDistance(t, v int64) {
	growth, dt, known := v-r.distance, t-r.distAt, r.distAt != 0
	r.distance, r.distAt = v, t
	switch {
	case !known || growth == 0:
	case growth < 0 || dt <= 0 || growth > maxSpeed*dt/int64(time.Second)+slack:
		r.implausible.Inc()
	case r.state.OnTrip:
		r.state.Metres += growth
	}
}

func (r *Recorder) on(f wire.Family) bool { return r.cfg.Families&f != 0 }

func (r *Recorder) hourOf(t int64) int64 {
	return ((t+int64(r.cfg.UTCOffset))%day + day) % day / hour
}

// band returns the number of limits that v has reached.
func band(limits [numBands - 1]int64, v int64) (n int) {
	for n < len(limits) && v >= limits[n] {
		n++
	}
	return n
}

// save writes the summary when it changed and, unless forced, the last write is long enough ago. A failed write is said and tried
// again later: the car goes on. The lock is held.
func (r *Recorder) save(force bool) {
	now := r.cfg.Now()
	if r.state == r.saved || !force && now.Sub(r.savedAt) < r.cfg.SaveEvery {
		return
	}
	r.savedAt = now
	if err := r.write(); err != nil {
		r.cfg.Logger.Error("cannot save usage summary", "error", err)
	}
}

func (r *Recorder) write() error {
	b, err := cbor.Marshal(r.state)
	if err != nil {
		return err
	}
	if err := r.cfg.DB.Update(func(txn *badger.Txn) error { return txn.Set([]byte(stateKey), b) }); err != nil {
		return err
	}
	r.saved = r.state
	return nil
}

// Usage returns the summary so far, without a trip that is under way.
func (r *Recorder) Usage() Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.Usage
}

// Take returns the summary so far and a function that takes just that out of it, durably; what was seen since stays, as do the parts of
// minutes that the totals do not tell.
func (r *Recorder) Take(context.Context) (totals [wire.VectorLen]int64, consume func(context.Context) error, err error) {
	u := r.Usage()
	return u.vector(), func(context.Context) error { return r.consume(u) }, nil
}

func (r *Recorder) consume(u Usage) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Usage.subtract(u)
	if err := r.write(); err != nil {
		return fmt.Errorf("cannot save usage summary: %w", err)
	}
	return nil
}

// subtract takes the whole minutes and trips of v out of u.
func (u *Usage) subtract(v Usage) {
	for _, f := range []struct {
		from, told []int64
		unit       int64
	}{
		{u.Hours[:], v.Hours[:], minute}, {u.Speed[:], v.Speed[:], minute}, {u.Trips[:], v.Trips[:], 1},
		{u.Charge[:], v.Charge[:], minute}, {u.Features[:], v.Features[:], minute},
	} {
		for i, x := range f.told {
			f.from[i] = max(0, f.from[i]-x/f.unit*f.unit)
		}
	}
}

// Close writes what is not written yet.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == r.saved {
		return nil
	}
	if err := r.write(); err != nil {
		return fmt.Errorf("cannot save usage summary: %w", err)
	}
	return nil
}

// vector returns the summary as the values of a usage report, in the order of wire.Layouts: whole minutes, and numbers of trips.
func (u Usage) vector() (v [wire.VectorLen]int64) {
	minutes := func(ms []int64) (out []int64) {
		for _, x := range ms {
			out = append(out, x/minute)
		}
		return out
	}
	for i, values := range [][]int64{minutes(u.Hours[:]), minutes(u.Speed[:]), u.Trips[:], minutes(u.Charge[:]), minutes(u.Features[:])} {
		copy(v[wire.Layouts()[i].Offset:], values)
	}
	return v
}
