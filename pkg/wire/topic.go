package wire

import (
	"fmt"
	"strings"
)

// MQTT topics are `rawstone/v1/{vehicle}/claim|report|receipt` and the retained `rawstone/v1/policy`.
const (
	topicPrefix = "rawstone/v1/"
	// PolicyTopic carries the retained policies.
	PolicyTopic = topicPrefix + "policy"
)

// A Kind of message is the last part of its topic.
type Kind string

// The kinds that have a topic of each vehicle.
const (
	KindClaim   Kind = "claim"
	KindReport  Kind = "report"
	KindReceipt Kind = "receipt"
)

// vinLen is the length of a VIN (ISO 3779), whose alphabet is A-Z without I, O and Q, and the digits.
const vinLen = 17

// CheckVehicle says whether id may name a vehicle: 1 to 32 characters of A-Z and 0-9. What has the form of a VIN may not: that names the car to
// everybody who ever sees it, and a name that the maker gives for Rawstone alone does the same work.
func CheckVehicle(id string) error {
	if len(id) < 1 || len(id) > 32 || !capitals(id) || IsVIN(id) {
		return errVehicleID
	}
	return nil
}

// IsVIN says whether s has the form of a VIN (ISO 3779).
func IsVIN(s string) bool { return len(s) == vinLen && capitals(s) && !strings.ContainsAny(s, "IOQ") }

func capitals(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return (c < 'A' || c > 'Z') && (c < '0' || c > '9') })
}

// Topic returns the topic of a vehicle's messages of one kind.
func Topic(vehicle string, k Kind) string { return topicPrefix + vehicle + "/" + string(k) }

// Subject returns the NATS subject of a topic: the same words with dots. A vehicle of "*" matches every vehicle.
func Subject(vehicle string, k Kind) string {
	return strings.ReplaceAll(Topic(vehicle, k), "/", ".")
}

// ParseSubject is the inverse of Subject; it refuses names that no vehicle can have.
func ParseSubject(s string) (vehicle string, k Kind, err error) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 || parts[0]+"/"+parts[1]+"/" != topicPrefix {
		return "", "", fmt.Errorf("cannot read subject %q: want rawstone.v1.VEHICLE.KIND", s)
	}
	if err := CheckVehicle(parts[2]); err != nil {
		return "", "", fmt.Errorf("cannot read subject %q: %w", s, err)
	}
	switch k = Kind(parts[3]); k {
	case KindClaim, KindReport, KindReceipt:
		return parts[2], k, nil
	}
	return "", "", fmt.Errorf("cannot read subject %q: unknown kind", s)
}
