package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/can"
)

// The layouts are struct can_frame and struct canfd_frame of linux/can.h: 4 bytes of identifier and flags, 1 of length, 1 of
// flags (CAN FD only), 2 reserved, then 8 bytes of data or 64.
const (
	sizeClassic = 16 // CAN_MTU
	sizeFD      = 72 // CANFD_MTU
	// rxSize leaves room to see that something is longer than a frame.
	rxSize = sizeFD + 8

	flagExtended = 1 << 31 // CAN_EFF_FLAG
	flagRemote   = 1 << 30 // CAN_RTR_FLAG
	flagError    = 1 << 29 // CAN_ERR_FLAG
	maskExtended = 1<<29 - 1

	fdBitRateSwitch = 0x01 // CANFD_BRS
	fdErrorState    = 0x02 // CANFD_ESI
	fdFormat        = 0x04 // CANFD_FDF
)

// decode reads one frame; fd allows CAN FD frames. It reports false for whatever is not a frame and then leaves *f undefined.
// Reserved and padding bytes are not looked at, as the kernel's are not defined. An error frame's ID is its error class
// (CAN_ERR_* of linux/can/error.h) as an extended identifier.
func decode(b []byte, order binary.ByteOrder, fd bool, f *can.Frame) bool {
	limit := 8
	switch {
	case len(b) == sizeClassic:
		*f = can.Frame{}
	case len(b) == sizeFD && fd:
		*f = can.Frame{Flags: can.FD}
		limit = can.MaxData
		if b[5]&fdBitRateSwitch != 0 {
			f.Flags |= can.BitRateSwitch
		}
		if b[5]&fdErrorState != 0 {
			f.Flags |= can.ErrorState
		}
	default:
		return false
	}
	id := order.Uint32(b)
	n := int(b[4])
	if n > limit || limit == can.MaxData && !fdLength(n) {
		return false
	}
	switch {
	case id&flagError != 0:
		if id&(flagExtended|flagRemote) != 0 || f.Flags != 0 {
			return false
		}
		f.Flags = can.Error
		f.ID = can.Extended | can.ID(id&maskExtended)
	case id&flagExtended != 0:
		f.ID = can.Extended | can.ID(id&maskExtended)
	case can.ID(id&^flagRemote) > can.MaxStandard:
		return false
	default:
		f.ID = can.ID(id &^ flagRemote)
	}
	f.Len = uint8(n)
	if id&flagRemote != 0 {
		if f.Flags != 0 {
			return false // CAN FD has no remote frames (ISO 11898-1)
		}
		f.Flags = can.Remote
		return true
	}
	copy(f.Data[:n], b[8:])
	return true
}

// encode writes f to b, which holds sizeFD bytes or, for a classic frame, sizeClassic, and returns the number of bytes.
func encode(b []byte, order binary.ByteOrder, f *can.Frame) (int, error) {
	const kinds = can.FD | can.Remote | can.Error
	switch k := f.Flags & kinds; {
	case !f.ID.Valid():
		return 0, errors.New("the identifier has more bits than its format")
	case k&(k-1) != 0 || f.Flags&can.FD == 0 && f.Flags&(can.BitRateSwitch|can.ErrorState) != 0:
		return 0, fmt.Errorf("flags %#x contradict one another", uint8(f.Flags))
	case f.Flags&can.FD != 0 && !fdLength(int(f.Len)):
		return 0, fmt.Errorf("CAN FD has no length %d; pad to 0-8, 12, 16, 20, 24, 32, 48 or 64", f.Len)
	case f.Flags&can.FD == 0 && f.Len > 8:
		return 0, fmt.Errorf("%d bytes exceed the 8 of a classic frame", f.Len)
	}
	id, size := f.ID.Raw(), sizeClassic
	switch {
	case f.Flags&can.Error != 0:
		id |= flagError
	case f.ID.IsExtended():
		id |= flagExtended
	}
	if f.Flags&can.FD != 0 {
		size = sizeFD
	}
	b = b[:size]
	clear(b)
	b[4] = f.Len
	if f.Flags&can.FD != 0 {
		b[5] = fdFormat
	}
	if f.Flags&can.BitRateSwitch != 0 {
		b[5] |= fdBitRateSwitch
	}
	if f.Flags&can.ErrorState != 0 {
		b[5] |= fdErrorState
	}
	if f.Flags&can.Remote != 0 {
		id |= flagRemote
	} else {
		copy(b[8:], f.Payload())
	}
	order.PutUint32(b, id)
	return size, nil
}

// fdLength reports whether a CAN FD frame can have n bytes (ISO 11898-1, coding of the data length code).
func fdLength(n int) bool {
	return n >= 0 && n <= 8 || slices.Contains([]int{12, 16, 20, 24, 32, 48, 64}, n)
}
