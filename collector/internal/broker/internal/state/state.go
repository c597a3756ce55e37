// Package state bounds what nats-server keeps on disk for MQTT: the streams it would make by itself, with limits. It makes none of them.
package state

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The bounds of the server's own MQTT state, in bytes on disk; Bytes is their sum, RetainedBytes and SessionBytes those of retained messages and of sessions.
const (
	RetainedBytes = 4 << 20  // the policies, and what vehicles retain, which nobody may subscribe to and Retain removes
	SessionBytes  = 32 << 20 // some 300 bytes each, one for each client id
	deliveryBytes = 8 << 20  // of each of the two streams to clients
	qos2Bytes     = 8 << 20  // messages whose release has not come
	Bytes         = RetainedBytes + SessionBytes + 2*deliveryBytes + qos2Bytes

	// ConsumerIdle is when the server forgets the delivery to a session that has no connection.
	ConsumerIdle = time.Hour

	// RetainedStream holds the retained messages, each under its subject after RetainedSubjects.
	RetainedStream   = "$MQTT_rmsgs"
	RetainedSubjects = "$MQTT.rmsgs."
)

// Streams returns the streams in which nats-server keeps its MQTT state, as it would make them itself (server/mqtt.go,
// mqttCreateAccountSessionManager), with bounds: it takes those that it finds. A message that does not fit is refused, without harm to
// the connection; but of the sessions the oldest goes, because a client whose session cannot be written down is not admitted.
func Streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name: RetainedStream, Subjects: []string{RetainedSubjects + ">"}, Retention: jetstream.LimitsPolicy,
			MaxMsgsPerSubject: 1, MaxBytes: RetainedBytes, Discard: jetstream.DiscardNew,
		},
		{
			Name: "$MQTT_sess", Subjects: []string{"$MQTT.sess.>"}, Retention: jetstream.LimitsPolicy,
			MaxMsgsPerSubject: 1, MaxBytes: SessionBytes, Discard: jetstream.DiscardOld,
		},
		{
			Name: "$MQTT_msgs", Subjects: []string{"$MQTT.msgs.>"}, Retention: jetstream.InterestPolicy,
			MaxBytes: deliveryBytes, Discard: jetstream.DiscardOld,
		},
		{
			Name: "$MQTT_qos2in", Subjects: []string{"$MQTT.qos2.in.>"}, Retention: jetstream.LimitsPolicy,
			MaxMsgsPerSubject: 1, DiscardNewPerSubject: true, MaxBytes: qos2Bytes, Discard: jetstream.DiscardNew,
		},
		{
			Name: "$MQTT_out", Subjects: []string{"$MQTT.out.>"}, Retention: jetstream.InterestPolicy,
			MaxBytes: deliveryBytes, Discard: jetstream.DiscardOld,
		},
	}
}
