// Package setting is the agent's configuration file: its keys with defaults and bounds, and what is refused.
//
// Invariants: every key has a default that is safe or must be set; all faults are reported at once, each with its line and column. What the
// driver decides, consent and cadence, is no key: a file that comes with the car is not the driver's word (package consent).
//
// The package opens nothing that it names but the vehicle map, in Check.
package setting

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/device"
	"rawstone/agent/internal/https"
	"rawstone/agent/internal/uplink"
	"rawstone/agent/internal/vehicle"
	"rawstone/pkg/config"
	"rawstone/pkg/wire"
)

// Config is the agent's configuration file. Relative paths are relative to the file.
type Config struct {
	// Environment is "production" or "development"; there is no default. Production refuses development keys and programs.
	Environment wire.Environment `yaml:"environment"`
	// Vehicle is the vehicle's id, 1 to 32 characters of A-Z and 0-9. Required.
	Vehicle string `yaml:"vehicle"`
	// StateDir holds everything that the agent keeps. Required.
	StateDir string `yaml:"state_dir"`
	// DeviceKey is the place of the vehicle's device key, which is its identity and signs usage reports: a file, or
	// tpm:///dev/tpmrm0?handle=0x81010001 for a key in a TPM 2.0 at a persistent handle. `agent enroll` makes it. Required.
	DeviceKey string `yaml:"device_key"`
	// BudgetCounter is the place of a counter in a TPM 2.0 that the privacy budget's ledger counts its charges in, tpm:///dev/tpmrm0?index=0x01810010:
	// with it the car finds by itself that the ledger was replaced by an older copy. It is made on first use and must stay. Default none.
	BudgetCounter string `yaml:"budget_counter"`
	// Program says which program the car takes part in.
	Program Program `yaml:"program"`
	// Buses are the car's buses, 1 to 16.
	Buses []Bus `yaml:"buses"`
	// VehicleMap is the file that says which frames mean what (see configs/vehicles); empty for a car that reads nothing but its
	// attestation ECU: it claims all the same, and has no usage to report. Default empty.
	VehicleMap string `yaml:"vehicle_map"`
	// Polling lets the agent ask the car's ECUs for what the map lists as requests.
	Polling Polling `yaml:"polling"`
	// Odometer says when the car's own distance is doubted.
	Odometer Odometer `yaml:"odometer"`
	// UTCOffset is added to frame time for the hour of the day in the usage summary, default 8h, within ±24h.
	UTCOffset time.Duration `yaml:"utc_offset"`
	// ECU says where the attestation ECU answers and what it signs with.
	ECU ECU `yaml:"ecu"`
	// Dispatch says when the car speaks.
	Dispatch Dispatch `yaml:"dispatch"`
	// MQTT says where the broker is.
	MQTT MQTT `yaml:"mqtt"`
	// CollectorURL is https://HOST:PORT, where the client certificate comes from and circuits and proving keys are fetched. Required.
	CollectorURL string `yaml:"collector_url"`
	// CollectorCA is the PEM file of the roots that CollectorURL and the broker are checked under; empty for the system's. Default empty.
	CollectorCA string `yaml:"collector_ca"`
	// NewsEvery is the longest time between two looks at the collector's notice of policies, default 168h, 1s to 744h.
	NewsEvery time.Duration `yaml:"news_every"`
	// Spool bounds what waits to be sent.
	Spool Spool `yaml:"spool"`
	// Status is the IP:port of the local status page, on loopback; empty for none. Default empty.
	Status string `yaml:"status"`
	// MemoryLimit is the Go runtime's soft memory limit in MiB, default 32, 16 to 1024.
	MemoryLimit int `yaml:"memory_limit_mib"`
}

// Program names the signed documents that the car pins. Policies and the keys of the proof system come from the collector.
type Program struct {
	// Root is the file with the program root's public key: 66 hexadecimal digits. Required.
	Root string `yaml:"root"`
	// File and Charter are the signed documents. Required.
	File    string `yaml:"file"`
	Charter string `yaml:"charter"`
}

// Bus is one bus.
type Bus struct {
	// Name is how the vehicle map refers to it, and what a capture calls it.
	Name string `yaml:"name"`
	// URL is socketcan://IFACE, udp://GROUP:PORT or replay:///FILE?speed=&loop= (see package bus).
	URL string `yaml:"url"`
}

// Polling is how the car's ECUs are asked.
type Polling struct {
	// Enabled turns polling on. Default false: the agent only listens.
	Enabled bool `yaml:"enabled"`
	// ParkAfter is how long the car must stand before it counts as parked, default 5m, 10s to 24h.
	ParkAfter time.Duration `yaml:"park_after"`
	// Idle is the longest time between two requests to a parked car, whose buses shall sleep; default 30m, 10s to 24h.
	Idle time.Duration `yaml:"idle"`
}

// Odometer bounds what is believed of the car's distance.
type Odometer struct {
	// MaxSpeed is the greatest speed in km/h that the car can reach, default 300, 50 to 3000.
	MaxSpeed int `yaml:"max_speed_kmh"`
	// Disagreement is the share, in thousandths of the distance between two snapshots, by which the car's own distance may differ from
	// the attested counter before the driver's journal says so; default 50, 1 to 1000.
	Disagreement int `yaml:"disagreement_permille"`
}

// ECU is the attestation ECU.
type ECU struct {
	// Bus is the name of the bus on which it answers. Required.
	Bus string `yaml:"bus"`
	// Identity is the file with the ECU's identity, read from it at the end of the line. Required.
	Identity string `yaml:"identity"`
	// AnswerWait bounds the wait for an answer to a request for snapshots, default 5s, 100ms to 1m.
	AnswerWait time.Duration `yaml:"answer_wait"`
}

// Dispatch is when the car speaks on the days of its cadence, which is the driver's to choose (agent cadence).
type Dispatch struct {
	// MaxDelay bounds the random delay before a dispatch, independent of power-on; default 6h, at most 24h and a program day. What is overdue
	// when the agent starts is held for a random time of a sixth of it on average.
	MaxDelay time.Duration `yaml:"max_delay"`
	// RetryAfter is the time before a refused claim is made anew; it doubles up to 32 times that. Default 6h, at least 1s.
	RetryAfter time.Duration `yaml:"retry_after"`
}

// MQTT is the way to the collector.
type MQTT struct {
	// URL is ssl://HOST:PORT, checked under the same roots as CollectorURL. Required.
	URL string `yaml:"url"`
	// RetryMin and RetryMax bound the back-off between two attempts; defaults 1s and 15m.
	RetryMin time.Duration `yaml:"retry_min"`
	RetryMax time.Duration `yaml:"retry_max"`
	// ReceiptWait is how long a session waits for a receipt before it sends again, default 1m, at least 1s.
	ReceiptWait time.Duration `yaml:"receipt_wait"`
}

// Spool is the store of what waits.
type Spool struct {
	// MaxKiB bounds it in KiB, default 4096, 64 to 1048576.
	MaxKiB int `yaml:"max_kib"`
}

// Defaults returns the configuration over which a file is read.
func Defaults() Config {
	return Config{
		UTCOffset:   8 * time.Hour,
		Polling:     Polling{ParkAfter: 5 * time.Minute, Idle: 30 * time.Minute},
		Odometer:    Odometer{MaxSpeed: 300, Disagreement: 50},
		ECU:         ECU{AnswerWait: 5 * time.Second},
		Dispatch:    Dispatch{MaxDelay: 6 * time.Hour, RetryAfter: 6 * time.Hour},
		MQTT:        MQTT{RetryMin: time.Second, RetryMax: 15 * time.Minute, ReceiptWait: time.Minute},
		NewsEvery:   7 * 24 * time.Hour,
		Spool:       Spool{MaxKiB: 4096},
		MemoryLimit: 32,
	}
}

// Check reads a configuration file and the vehicle map that it names, or a vehicle map alone, which is known by its key vss. The error
// joins every fault of both, each with its file, line and column.
func Check(path string) error {
	if text, err := os.ReadFile(path); err == nil && bytes.Contains(append([]byte{'\n'}, text...), []byte("\nvss:")) {
		_, err := vehicle.Load(path)
		return err
	}
	c, err := load(path)
	if c.VehicleMap == "" {
		return err
	}
	m, mapErr := vehicle.Load(c.VehicleMap)
	if err == nil && mapErr == nil {
		_, mapErr = vehicle.Compile(m, c.BusIndex, nil)
	}
	return errors.Join(err, mapErr)
}

// Load reads and checks a configuration file.
func Load(path string) (*Config, error) {
	c, err := load(path)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// BusIndex returns the index of the bus of a name, false where there is none.
func (c *Config) BusIndex(name string) (uint8, bool) {
	i := slices.IndexFunc(c.Buses, func(b Bus) bool { return b.Name == name })
	return uint8(max(i, 0)), i >= 0
}

// load returns what could be read even with faults.
func load(path string) (*Config, error) {
	c := Defaults()
	err := config.Load(path, &c)
	if device.InFile(c.DeviceKey) {
		config.Resolve(path, &c.DeviceKey)
	}
	config.Resolve(path, &c.StateDir, &c.Program.Root, &c.Program.File, &c.Program.Charter, &c.CollectorCA, &c.ECU.Identity, &c.VehicleMap)
	return &c, err
}

// Validate implements config.Config.
func (c *Config) Validate(f *config.Faults) {
	if c.Environment != wire.Development && c.Environment != wire.Production {
		f.Add("$.environment", "%q is neither development nor production", c.Environment)
	}
	if err := wire.CheckVehicle(c.Vehicle); err != nil {
		f.Add("$.vehicle", "%v", err)
	}
	for path, v := range map[string]string{
		"$.state_dir": c.StateDir, "$.program.root": c.Program.Root, "$.program.file": c.Program.File,
		"$.program.charter": c.Program.Charter, "$.ecu.identity": c.ECU.Identity,
	} {
		if v == "" {
			f.Add(path, "must be set")
		}
	}
	for path, err := range map[string]error{
		"$.device_key": device.Check(c.DeviceKey), "$.collector_url": https.CheckURL(c.CollectorURL), "$.mqtt.url": uplink.CheckURL(c.MQTT.URL),
	} {
		if err != nil {
			f.Add(path, "%v", err)
		}
	}
	if err := device.CheckCounter(c.BudgetCounter); c.BudgetCounter != "" && err != nil {
		f.Add("$.budget_counter", "%v", err)
	}
	c.validateReading(f)
	within(f, "$.polling.park_after", c.Polling.ParkAfter, 10*time.Second, 24*time.Hour)
	within(f, "$.polling.idle", c.Polling.Idle, 10*time.Second, 24*time.Hour)
	within(f, "$.odometer.max_speed_kmh", c.Odometer.MaxSpeed, 50, 3000)
	within(f, "$.odometer.disagreement_permille", c.Odometer.Disagreement, 1, 1000)
	within(f, "$.dispatch.max_delay", c.Dispatch.MaxDelay, time.Millisecond, 24*time.Hour)
	within(f, "$.utc_offset", c.UTCOffset, -24*time.Hour, 24*time.Hour)
	within(f, "$.mqtt.retry_min", c.MQTT.RetryMin, 10*time.Millisecond, c.MQTT.RetryMax)
	within(f, "$.mqtt.receipt_wait", c.MQTT.ReceiptWait, time.Second, time.Hour)
	within(f, "$.dispatch.retry_after", c.Dispatch.RetryAfter, time.Second, 7*24*time.Hour)
	within(f, "$.ecu.answer_wait", c.ECU.AnswerWait, 100*time.Millisecond, time.Minute)
	within(f, "$.news_every", c.NewsEvery, time.Second, 31*24*time.Hour)
	within(f, "$.spool.max_kib", c.Spool.MaxKiB, 64, 1<<20)
	within(f, "$.memory_limit_mib", c.MemoryLimit, 16, 1024)
	if a, err := netip.ParseAddrPort(c.Status); c.Status != "" && (err != nil || !a.Addr().IsLoopback()) {
		f.Add("$.status", "%q is not a loopback IP:port such as 127.0.0.1:8081: the status page is for the car alone", c.Status)
	}
}

// validateReading checks the buses and the ECU's bus.
func (c *Config) validateReading(f *config.Faults) {
	if n := len(c.Buses); n < 1 || n > bus.MaxBuses {
		f.Add("$.buses", "%d buses, want 1 to %d", n, bus.MaxBuses)
	}
	names := make(map[string]Bus)
	for i, b := range c.Buses {
		if _, twice := names[b.Name]; twice || b.Name == "" {
			f.Add("$.buses["+strconv.Itoa(i)+"].name", "%q is empty or stands twice", b.Name)
		}
		if err := bus.CheckURL(b.URL); err != nil {
			f.Add("$.buses["+strconv.Itoa(i)+"].url", "%v", err)
		}
		names[b.Name] = b
	}
	if _, ok := names[c.ECU.Bus]; !ok {
		f.Add("$.ecu.bus", "there is no bus %q", c.ECU.Bus)
	}
}

func within[T ~int | ~int64](f *config.Faults, path string, v, low, high T) {
	if v < low || v > high {
		f.Add(path, "%v is not within %v to %v", v, low, high)
	}
}
