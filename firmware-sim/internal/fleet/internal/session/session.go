// Package session is one vehicle's connection to a broker: MQTT 3.1.1 over TLS 1.3 with a client certificate, in a clean session that
// listens for the vehicle's receipts at QoS 0 and publishes its claims at QoS 1.
//
// It needs no goroutine of its own, so that a thousand cost little: who publishes then reads until the receipt is there. A PUBACK is read
// over, since it proves no acceptance. What a broker sends is bounded before it is read; a session after an error is good for Close alone.
package session

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"rawstone/pkg/wire"
)

const (
	// maxPacket bounds what a broker may send at once in bytes: a receipt with its topic.
	maxPacket = wire.ReceiptLen + 256
	bufLen    = 2 << 10
)

// Config says whose connection it is; every field is required.
type Config struct {
	// Address is the broker's, HOST:PORT.
	Address string
	// TLS has the roots, the server's name and the vehicle's certificate.
	TLS     *tls.Config
	Vehicle string
	// Timeout bounds the whole of Dial, and each write.
	Timeout time.Duration
}

// A Session is a connection. Its methods are called by one goroutine.
type Session struct {
	cfg  Config
	conn net.Conn
	in   *bufio.Reader
	stop func() bool
	id   uint16
}

// Dial connects and subscribes. The session ends with ctx.
func Dial(ctx context.Context, cfg Config) (*Session, error) {
	s := &Session{cfg: cfg}
	err := s.dial(ctx)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot connect to broker %s: %w", cfg.Address, err)
	}
	return s, nil
}

func (s *Session) dial(ctx context.Context) error {
	deadline := time.Now().Add(s.cfg.Timeout)
	dialer := tls.Dialer{NetDialer: &net.Dialer{Deadline: deadline}, Config: s.cfg.TLS}
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := dialer.DialContext(limited, "tcp", s.cfg.Address)
	if err != nil {
		return err
	}
	s.conn, s.in = conn, bufio.NewReaderSize(conn, bufLen)
	s.stop = context.AfterFunc(ctx, func() { conn.Close() })
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession, hello.ClientIdentifier = "MQTT", 4, true, s.cfg.Vehicle
	if err := hello.Write(conn); err != nil {
		return err
	}
	p, err := s.read()
	if err != nil {
		return err
	}
	if ack, ok := p.(*packets.ConnackPacket); !ok || ack.ReturnCode != packets.Accepted {
		return fmt.Errorf("it refuses the vehicle: %s", p)
	}
	return s.subscribe()
}

func (s *Session) subscribe() error {
	ask := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	ask.MessageID, ask.Topics, ask.Qoss = s.next(), []string{wire.Topic(s.cfg.Vehicle, wire.KindReceipt)}, []byte{0}
	if err := ask.Write(s.conn); err != nil {
		return err
	}
	for {
		p, err := s.read()
		if err != nil {
			return err
		}
		if ack, ok := p.(*packets.SubackPacket); ok {
			if len(ack.ReturnCodes) != 1 || ack.ReturnCodes[0] != 0 {
				return errors.New("it forbids the subscription to receipts")
			}
			return nil
		}
	}
}

func (s *Session) next() uint16 {
	s.id = max(s.id+1, 1)
	return s.id
}

// read returns the next packet, refusing one that is longer than any this session asks for.
func (s *Session) read() (packets.ControlPacket, error) {
	for length, n := 0, 1; ; n++ { // the length is in the bytes after the first, 7 bits each (MQTT 3.1.1 §2.2.3)
		head, err := s.in.Peek(n + 1)
		if err != nil {
			return nil, err
		}
		length |= int(head[n]&0x7f) << (7 * (n - 1))
		if length > maxPacket || n > 2 {
			return nil, errors.New("it sends a packet that nobody asked for")
		}
		if head[n] < 0x80 {
			return packets.ReadPacket(s.in)
		}
	}
}

// Publish sends a claim.
func (s *Session) Publish(claim []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.cfg.Timeout)); err != nil {
		return err
	}
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.Qos, p.MessageID, p.TopicName, p.Payload = 1, s.next(), wire.Topic(s.cfg.Vehicle, wire.KindClaim), claim
	if err := p.Write(s.conn); err != nil {
		return fmt.Errorf("cannot publish claim: %w", err)
	}
	return nil
}

// Receipt returns the next receipt as it came, until a deadline. Nothing of it is checked.
func (s *Session) Receipt(deadline time.Time) ([]byte, error) {
	if err := s.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	for {
		p, err := s.read()
		if err != nil {
			return nil, fmt.Errorf("no receipt: %w", err)
		}
		if m, ok := p.(*packets.PublishPacket); ok && m.TopicName == wire.Topic(s.cfg.Vehicle, wire.KindReceipt) {
			return m.Payload, nil
		}
	}
}

// Close says goodbye, if that is possible.
func (s *Session) Close() {
	if s.conn == nil {
		return
	}
	s.stop()
	if s.conn.SetWriteDeadline(time.Now().Add(time.Second)) == nil {
		_ = packets.NewControlPacket(packets.Disconnect).Write(s.conn)
	}
	s.conn.Close()
}
