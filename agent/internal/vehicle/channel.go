package vehicle

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"rawstone/agent/internal/signalmap"
	"rawstone/pkg/can"
	"rawstone/pkg/can/isotp"
	"rawstone/pkg/can/obd"
)

const (
	// answerWindow is how long after a request of ours a long answer may begin: well beyond P2 of ISO 14229-2, 50 ms.
	answerWindow = 2 * time.Second
	// pendingWindow is how long after "response pending" it may: P2* of ISO 14229-2, 5 s, and some.
	pendingWindow = 7 * time.Second
)

// A channel reads the answers of one ECU.
type channel struct {
	reader *Reader
	bus    uint8
	pair   signalmap.Pair
	conn   *isotp.Conn
	items  []item
	sizes  obd.Sizes // c.size, made once

	asked atomic.Int64 // index of our request that is open, plus 1
	until atomic.Int64 // Unix nanoseconds of the host's clock until which it is
}

// item is something that an answer may carry.
type item struct {
	service uint8
	id      uint16
	source  int
	request int
}

// open returns the index of our request that may still be answered.
func (c *channel) open() (request int, ok bool) {
	i := c.asked.Load()
	return int(i - 1), i > 0 && c.reader.clock().UnixNano() < c.until.Load()
}

// send puts a frame of the transport on the bus. Flow control goes out only while a request of ours is open: the long answers
// to another tester are that tester's to control.
func (c *channel) send(ctx context.Context, f *can.Frame) error {
	if c.reader.link.Send == nil {
		return nil
	}
	if _, ours := c.open(); !ours {
		return nil
	}
	f.Bus = c.bus
	return c.reader.link.Send(ctx, c.bus, f)
}

// ask sends a request, which fits a single frame.
func (c *channel) ask(ctx context.Context, i int, q *request) error {
	var msg []byte
	var err error
	if q.service == obd.ServiceCurrentData {
		msg, err = obd.AppendPIDs(nil, uint8(q.id))
	} else {
		msg, err = obd.AppendDIDs(nil, q.id)
	}
	if err != nil {
		return err
	}
	c.until.Store(c.reader.clock().Add(answerWindow).UnixNano())
	c.asked.Store(int64(i) + 1)
	if err := c.conn.Write(ctx, msg); err != nil {
		c.asked.Store(0)
		return fmt.Errorf("cannot ask for %s: %w", q.Name, err)
	}
	return nil
}

// deliver takes a whole answer.
func (c *channel) deliver(msg []byte) {
	r := c.reader
	if err := r.answer.Parse(msg, c.sizes); err != nil {
		r.refused.Add(1)
		return
	}
	switch r.answer.Kind {
	case obd.Negative:
		r.negative.Add(1)
		i, ours := c.open()
		if !ours || r.requests[i].service != r.answer.Service {
			return
		}
		if r.answer.Code.Pending() {
			c.until.Store(r.clock().Add(pendingWindow).UnixNano())
		} else {
			c.asked.Store(0)
		}
		r.answered(i, r.answer.Code)
	case obd.Positive:
		r.answers.Add(1)
		for _, record := range r.answer.Records {
			c.record(record)
		}
	}
}

// record takes one identifier's data.
func (c *channel) record(record obd.Record) {
	r, told := c.reader, -1
	for _, it := range c.items {
		if it.service != r.answer.Service || it.id != record.ID {
			continue
		}
		v := r.sources[it.source].Parameter.Decode(record.Data)
		r.put(it.source, 0, r.frame.Time, int64(v.Raw), v.Physical, v.Available)
		if told == it.request {
			continue
		}
		told = it.request
		c.asked.CompareAndSwap(int64(told)+1, 0)
		r.answered(told, 0)
	}
}

// size is the Sizes of what the map asks for: a data identifier with a layout of its own takes the rest of its answer.
func (c *channel) size(service uint8, id uint16) int {
	for _, it := range c.items {
		if it.service == service && it.id == id {
			if n := c.reader.sources[it.source].Parameter.Size; n > 0 {
				return n
			}
			return obd.Rest
		}
	}
	return obd.StandardSize(service, id)
}
