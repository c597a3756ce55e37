// Package obd reads and writes the messages by which a tester asks a vehicle for values: service 01 of SAE J1979 (ISO
// 15031-5), current data by parameter identifier (PID), and service 22 of ISO 14229-1, ReadDataByIdentifier (DID). It works
// on whole messages as package isotp delivers them.
//
// An answer may hold several identifiers one after another without separators, so it can be split only by who knows the
// length of each: a Sizes function, the standard table's or the caller's. A message that does not add up is refused whole.
//
// The package refuses to send anything, to know when to ask, and to write to a vehicle: it has no service that changes one.
package obd

import "fmt"

// The services asked for.
const (
	// ServiceCurrentData is service 01 of SAE J1979, "request current powertrain diagnostic data".
	ServiceCurrentData uint8 = 0x01
	// ServiceReadData is service 22 of ISO 14229-1, ReadDataByIdentifier.
	ServiceReadData uint8 = 0x22
)

const (
	positiveResponse = 0x40 // added to the service's own byte
	negativeResponse = 0x7F
)

// NRC is a negative response code (ISO 14229-1, table A.1).
type NRC uint8

// The codes that a tester acts upon; String knows the others.
const (
	GeneralReject          NRC = 0x10
	ServiceNotSupported    NRC = 0x11
	ResponseTooLong        NRC = 0x14
	BusyRepeatRequest      NRC = 0x21
	ConditionsNotCorrect   NRC = 0x22
	RequestOutOfRange      NRC = 0x31
	SecurityAccessDenied   NRC = 0x33
	ResponsePending        NRC = 0x78
	NotSupportedInSession  NRC = 0x7F
	IncorrectMessageLength NRC = 0x13
)

// Pending reports whether the real answer follows: the tester waits and does not ask again.
func (n NRC) Pending() bool { return n == ResponsePending }

// Passing reports whether the same request may succeed a little later.
func (n NRC) Passing() bool { return n == BusyRepeatRequest || n == ConditionsNotCorrect }

// String is the standard's name, or the number of a code that the standard reserves.
func (n NRC) String() string {
	switch n {
	case GeneralReject:
		return "generalReject"
	case ServiceNotSupported:
		return "serviceNotSupported"
	case 0x12:
		return "subFunctionNotSupported"
	case IncorrectMessageLength:
		return "incorrectMessageLengthOrInvalidFormat"
	case ResponseTooLong:
		return "responseTooLong"
	case BusyRepeatRequest:
		return "busyRepeatRequest"
	case ConditionsNotCorrect:
		return "conditionsNotCorrect"
	case 0x24:
		return "requestSequenceError"
	case 0x25:
		return "noResponseFromSubnetComponent"
	case 0x26:
		return "failurePreventsExecutionOfRequestedAction"
	case RequestOutOfRange:
		return "requestOutOfRange"
	case SecurityAccessDenied:
		return "securityAccessDenied"
	case 0x34:
		return "authenticationRequired"
	case 0x35:
		return "invalidKey"
	case 0x36:
		return "exceededNumberOfAttempts"
	case 0x37:
		return "requiredTimeDelayNotExpired"
	case ResponsePending:
		return "requestCorrectlyReceivedResponsePending"
	case 0x7E:
		return "subFunctionNotSupportedInActiveSession"
	case NotSupportedInSession:
		return "serviceNotSupportedInActiveSession"
	case 0x81:
		return "rpmTooHigh"
	case 0x82:
		return "rpmTooLow"
	case 0x83:
		return "engineIsRunning"
	case 0x84:
		return "engineIsNotRunning"
	case 0x88:
		return "vehicleSpeedTooHigh"
	case 0x89:
		return "vehicleSpeedTooLow"
	case 0x92:
		return "voltageTooHigh"
	case 0x93:
		return "voltageTooLow"
	}
	return fmt.Sprintf("code %02X", uint8(n))
}
