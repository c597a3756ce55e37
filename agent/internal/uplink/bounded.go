package uplink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rawstone/pkg/wire"
)

// maxPacket bounds an MQTT packet from the broker in bytes: a notice or a receipt with its topic and room to spare.
const maxPacket = max(MaxNoticeLen, wire.ReceiptLen) + 1024

// bounded is a connection that follows the fixed headers of the MQTT packets it reads (MQTT 3.1.1 §2.2) and fails at one that is
// longer than maxPacket. The MQTT client allocates whatever length a header announces, up to 256 MiB.
type bounded struct {
	net.Conn
	header bool // the packet's first byte was read, its length is being read
	length int
	shift  int
	left   int // bytes of the packet's rest
}

// Read implements io.Reader.
func (c *bounded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for i := 0; i < n; {
		switch {
		case c.left > 0:
			skip := min(c.left, n-i)
			c.left -= skip
			i += skip
			continue
		case !c.header:
			c.header, c.length, c.shift = true, 0, 0
		default:
			c.length |= int(b[i]&0x7f) << c.shift
			c.shift += 7
			if c.length > maxPacket || c.shift > 28 {
				return 0, fmt.Errorf("cannot read from broker: it sends a packet of more than %d bytes", maxPacket)
			}
			if b[i]&0x80 == 0 {
				c.header, c.left = false, c.length
			}
		}
		i++
	}
	return n, err
}

// dial connects to a broker over TLS, handshake included, and bounds what it sends. It sets shook once the handshake is done.
func dial(ctx context.Context, timeout time.Duration, config *tls.Config, shook *atomic.Bool) mqtt.OpenConnectionFunc {
	return func(broker *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", broker.Host)
		if err != nil {
			return nil, err
		}
		shook.Store(true)
		return &bounded{Conn: conn}, nil
	}
}
