package obd

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	// MaxPIDs is the number of parameters that one request of service 01 may name (SAE J1979, 6.1.2).
	MaxPIDs = 6
	// MaxDIDs is the number of data identifiers that we ask for or accept in one message of service 22. ISO 14229-1 leaves the
	// number to the vehicle; three are what fits into a single frame.
	MaxDIDs = 32
)

// AppendPIDs appends the request of service 01 for one to six different PIDs.
func AppendPIDs(dst []byte, pids ...uint8) ([]byte, error) {
	if len(pids) == 0 || len(pids) > MaxPIDs {
		return dst, fmt.Errorf("cannot request %d PIDs at once: a request names 1 to %d", len(pids), MaxPIDs)
	}
	for i, pid := range pids {
		if slices.Contains(pids[:i], pid) {
			return dst, fmt.Errorf("cannot request PID %02X twice at once: name it once", pid)
		}
	}
	return append(append(dst, ServiceCurrentData), pids...), nil
}

// AppendDIDs appends the request of service 22 for one to MaxDIDs different data identifiers.
func AppendDIDs(dst []byte, dids ...uint16) ([]byte, error) {
	if len(dids) == 0 || len(dids) > MaxDIDs {
		return dst, fmt.Errorf("cannot request %d DIDs at once: a request names 1 to %d", len(dids), MaxDIDs)
	}
	for i, did := range dids {
		if slices.Contains(dids[:i], did) {
			return dst, fmt.Errorf("cannot request DID %04X twice at once: name it once", did)
		}
	}
	dst = append(dst, ServiceReadData)
	for _, did := range dids {
		dst = binary.BigEndian.AppendUint16(dst, did)
	}
	return dst, nil
}

// ParseRequest reads what AppendPIDs and AppendDIDs write: the side of the vehicle.
func ParseRequest(msg []byte) (service uint8, ids []uint16, err error) {
	if len(msg) == 0 {
		return 0, nil, fmt.Errorf("cannot read request: it is empty")
	}
	service, rest := msg[0], msg[1:]
	width, limit := 1, MaxPIDs
	switch service {
	case ServiceCurrentData:
	case ServiceReadData:
		width, limit = 2, MaxDIDs
	default:
		return service, nil, fmt.Errorf("cannot read request of service %02X: only 01 and 22 are known here", service)
	}
	if len(rest) == 0 || len(rest)%width != 0 || len(rest)/width > limit {
		return service, nil, fmt.Errorf("cannot read request of service %02X: %d bytes are not 1 to %d identifiers of %d", service, len(rest), limit, width)
	}
	for ; len(rest) > 0; rest = rest[width:] {
		id := uint16(rest[0])
		if width == 2 {
			id = binary.BigEndian.Uint16(rest)
		}
		if slices.Contains(ids, id) {
			return service, nil, fmt.Errorf("cannot read request of service %02X: it names %X twice", service, id)
		}
		ids = append(ids, id)
	}
	return service, ids, nil
}
