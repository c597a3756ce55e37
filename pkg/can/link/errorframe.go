package link

import (
	"math/bits"

	"rawstone/pkg/can"
)

// An ErrorClass says what a controller reports in an error frame (linux/can/error.h).
type ErrorClass uint8

// The classes. One frame may report several; the first ten are the bits of its identifier, in their order.
const (
	TransmitTimeout ErrorClass = iota
	LostArbitration
	// Controller is a full queue or an error counter at the warning level, or back below it.
	Controller
	Protocol
	Transceiver
	// NoAcknowledge is a frame sent that no other node acknowledged.
	NoAcknowledge
	// BusOff is a controller that has left the bus.
	BusOff
	BusError
	Restarted
	// OtherError is an error frame without a known class.
	OtherError
	// ErrorPassive is Controller with a counter at the error passive level, and then not counted as Controller.
	ErrorPassive
	NumErrorClasses
)

// String returns the name in snake case, for metrics.
func (c ErrorClass) String() string {
	names := [...]string{
		"transmit_timeout", "lost_arbitration", "controller", "protocol", "transceiver", "no_acknowledge", "bus_off", "bus_error",
		"restarted", "other", "error_passive",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return "invalid"
}

// ErrorCounts are numbers of error frames by class.
type ErrorCounts [NumErrorClasses]uint64

// Add counts the classes of an error frame.
func (n *ErrorCounts) Add(f *can.Frame) {
	const (
		classes = 1<<OtherError - 1
		passive = 0x30 // CAN_ERR_CRTL_RX_PASSIVE and CAN_ERR_CRTL_TX_PASSIVE in the second data byte
	)
	set := f.ID.Raw() & classes
	if set == 0 {
		set = 1 << OtherError
	}
	if set&(1<<Controller) != 0 && f.Data[1]&passive != 0 {
		set = set&^(1<<Controller) | 1<<ErrorPassive
	}
	for ; set != 0; set &= set - 1 {
		n[bits.TrailingZeros32(set)]++
	}
}
