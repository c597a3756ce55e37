package broker

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The bounds of the server's own MQTT state, in bytes on disk; stateBytes is their sum.
const (
	retainedBytes = 4 << 20  // the policies, and what vehicles retain, which nobody may subscribe to and Retain removes
	sessionBytes  = 32 << 20 // some 300 bytes each, one for each client id
	deliveryBytes = 8 << 20  // of each of the two streams to clients
	qos2Bytes     = 8 << 20  // messages whose release has not come
	stateBytes    = retainedBytes + sessionBytes + 2*deliveryBytes + qos2Bytes

	// consumerIdle is when the server forgets the delivery to a session that has no connection.
	consumerIdle = time.Hour

	retainedStream   = "$MQTT_rmsgs"
	retainedSubjects = "$MQTT.rmsgs."
)

// stateStreams returns the streams in which nats-server keeps its MQTT state, as it would make them itself (server/mqtt.go,
// mqttCreateAccountSessionManager), with bounds: it takes those that it finds. A message that does not fit is refused, without harm to
// the connection; but of the sessions the oldest goes, because a client whose session cannot be written down is not admitted.
func stateStreams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name: retainedStream, Subjects: []string{retainedSubjects + ">"}, Retention: jetstream.LimitsPolicy,
			MaxMsgsPerSubject: 1, MaxBytes: retainedBytes, Discard: jetstream.DiscardNew,
		},
		{
			Name: "$MQTT_sess", Subjects: []string{"$MQTT.sess.>"}, Retention: jetstream.LimitsPolicy,
			MaxMsgsPerSubject: 1, MaxBytes: sessionBytes, Discard: jetstream.DiscardOld,
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
