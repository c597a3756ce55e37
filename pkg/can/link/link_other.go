//go:build !linux

package link

import (
	"errors"
	"log/slog"
	"net/netip"
)

var errSystem = errors.New("buses need Linux (SocketCAN, and multicast sockets bound to a group); run this on Linux")

func joinGroup(netip.AddrPort, *slog.Logger) (port, error) { return nil, errSystem }

func bindInterface(string, *slog.Logger) (port, bool, error) { return nil, false, errSystem }
