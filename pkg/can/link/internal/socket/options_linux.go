package socket

import (
	"encoding/binary"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
)

// oobSize holds the control messages of one datagram: a time stamp and a count of losses.
const oobSize = 64

// enlarge asks for the receive queue of receiveBuffer bytes: past the system's limit when privileged, else up to it.
func enlarge(fd int, log *slog.Logger) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) == nil {
		return
	}
	// Refused or not, the size in force is what counts; the kernel reports twice what was granted.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil && got < 2*receiveBuffer {
		log.Warn("receive queue smaller than wanted, frames may be lost under load; raise net.core.rmem_max",
			"wanted_bytes", receiveBuffer, "granted_bytes", got/2)
	}
}

// note reads the control messages of a datagram into a. A kernel that has lost nothing says nothing of losses: Lost then keeps
// its value.
func (a *Arrival) note(oob []byte) {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		switch {
		case h.Level != unix.SOL_SOCKET:
		case h.Type == unix.SCM_TIMESTAMPNS && len(data) == 16:
			// struct timespec of a 64-bit machine
			a.Time = int64(binary.NativeEndian.Uint64(data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(data[8:]))
		case h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			a.Lost = binary.NativeEndian.Uint32(data)
		}
		oob = rest
	}
}
