package bus

import (
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/can/link"
)

// A state is what a bus tells about itself.
type state struct {
	link.Stats
	up       bool
	reopened uint64
	broken   uint64 // lines of a recorded drive
}

// plus adds the counters of two times between an open and a close.
func plus(a, b link.Stats) link.Stats {
	a.Received += b.Received
	a.Sent += b.Sent
	a.Filtered += b.Filtered
	a.Malformed += b.Malformed
	a.Overflowed += b.Overflowed
	for i, n := range b.ErrorFrames {
		a.ErrorFrames[i] += n
	}
	return a
}

// A metric is one number of every bus.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(state) float64
}

// A collector reads the state of every bus when it is asked.
type collector struct {
	set     *Set
	metrics []metric
	errors  *prometheus.Desc
}

func (s *Set) collector() *collector {
	c := &collector{set: s, errors: prometheus.NewDesc("rawstone_bus_error_frames_total",
		"Error frames of the controller by what they report.", []string{"bus", "class"}, nil)}
	add := func(name, help string, kind prometheus.ValueType, value func(state) float64) {
		c.metrics = append(c.metrics, metric{prometheus.NewDesc("rawstone_bus_"+name, help, []string{"bus"}, nil), kind, value})
	}
	count := func(name, help string, value func(state) uint64) {
		add(name+"_total", help, prometheus.CounterValue, func(s state) float64 { return float64(value(s)) })
	}
	count("frames_received", "Frames read from the bus.", func(s state) uint64 { return s.Received })
	count("frames_sent", "Frames put on the bus.", func(s state) uint64 { return s.Sent })
	count("frames_filtered", "Frames that nothing wants, where the kernel did not keep them out.", func(s state) uint64 { return s.Filtered })
	count("malformed", "Datagrams skipped because they are no frame.", func(s state) uint64 { return s.Malformed })
	count("overflowed", "Frames that the full receive queue lost.", func(s state) uint64 { return s.Overflowed })
	count("reopened", "How often the bus was opened again.", func(s state) uint64 { return s.reopened })
	count("replay_broken_lines", "Lines of the recorded drive that could not be read, a cut end among them; counted at the first of its buses.",
		func(s state) uint64 { return s.broken })
	add("up", "1 while the bus is open, 0 while it is down and after the end of a recorded drive.", prometheus.GaugeValue, func(s state) float64 {
		if s.up {
			return 1
		}
		return 0
	})
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		out <- m.desc
	}
	out <- c.errors
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for i, b := range c.set.buses {
		s := c.set.by[i].state(uint8(i))
		for _, m := range c.metrics {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s), b.Name)
		}
		for class, n := range s.ErrorFrames {
			out <- prometheus.MustNewConstMetric(c.errors, prometheus.CounterValue, float64(n), b.Name, link.ErrorClass(class).String())
		}
	}
}
