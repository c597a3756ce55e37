//go:build !linux

package socket

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"
)

var errSystem = errors.New("buses need Linux (SocketCAN, and multicast sockets bound to a group); run this on Linux")

// None is a socket that this system cannot make.
type None struct{}

// JoinGroup refuses.
func JoinGroup(netip.AddrPort, *slog.Logger) (*None, error) { return nil, errSystem }

// OpenInterface refuses.
func OpenInterface(string, []Filter, *slog.Logger) (*None, bool, error) { return nil, false, errSystem }

// Receive refuses.
func (*None) Receive([]byte) (Arrival, error) { return Arrival{}, errSystem }

// Send refuses.
func (*None) Send([]byte) error { return errSystem }

// SetReadDeadline refuses.
func (*None) SetReadDeadline(time.Time) error { return errSystem }

// SetWriteDeadline refuses.
func (*None) SetWriteDeadline(time.Time) error { return errSystem }

// Close refuses.
func (*None) Close() error { return errSystem }
