package drive

import (
	"encoding/binary"
	"time"

	"rawstone/pkg/can"
)

// Status is what the car is doing.
type Status uint8

// The values of the signal VehicleStatus.
const (
	Asleep Status = iota
	Driving
	Charging
)

// Identifiers of the frames, as configs/vehicles/sim.dbc names them.
const (
	OdometerID can.ID = 0x320
	MotionID   can.ID = 0x321
	BatteryID  can.ID = 0x322
)

// A Reading is what the car says about itself at one instant, in the resolution of its frames.
type Reading struct {
	// Due is when it is said, Time its frame time in Unix nanoseconds.
	Due  time.Time
	Time int64
	// OdometerM is the distance of the car's life in metres.
	OdometerM uint32
	Status    Status
	// Assisted says that driver assistance is engaged.
	Assisted bool

	speed         uint16 // 0.01 km/h
	power         int16  // 10 W
	stateOfCharge uint16 // 0.01 %
	battery       bool   // whether the battery's frame is due
}

// SpeedMH returns speed in metres an hour.
func (r *Reading) SpeedMH() int64 { return int64(r.speed) * 10 }

// PowerW returns the power taken from the battery in watts, negative while it is charged.
func (r *Reading) PowerW() int64 { return int64(r.power) * 10 }

// AppendFrames appends the frames that say the reading, laid out as configs/vehicles/sim.dbc describes.
func (r *Reading) AppendFrames(dst []can.Frame) []can.Frame {
	odometer := can.Frame{Time: r.Time, ID: OdometerID, Len: 8}
	binary.LittleEndian.PutUint32(odometer.Data[:], r.OdometerM)
	odometer.Data[4] = byte(r.Status)
	motion := can.Frame{Time: r.Time, ID: MotionID, Len: 8}
	binary.LittleEndian.PutUint16(motion.Data[:], r.speed)
	binary.LittleEndian.PutUint16(motion.Data[2:], uint16(r.power))
	motion.Data[4] = flag(r.Assisted)
	dst = append(dst, odometer, motion)
	if r.battery {
		battery := can.Frame{Time: r.Time, ID: BatteryID, Len: 8}
		binary.LittleEndian.PutUint16(battery.Data[:], r.stateOfCharge)
		battery.Data[2] = flag(r.Status == Charging)
		dst = append(dst, battery)
	}
	return dst
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}
