// Package phase names what the sealer is doing, for the driver. It decides nothing.
package phase

// A Phase says what the sealer is doing.
type Phase string

// The phases.
const (
	Starting Phase = "starting"      // waits for the ECU's snapshots
	Unruled  Phase = "without_rules" // no policy that this car can use is in force
	Idle     Phase = "idle"          // nothing to claim yet
	Keys     Phase = "awaiting_key"  // a claim waits for a proving key
	Sealing  Phase = "sealing"       // makes a claim
	Waiting  Phase = "waiting"       // a claim waits for its receipt
	Stopped  Phase = "stopped"       // claims are refused, for a reason that the status gives
)

// Remedy says what to do where claims wait for rules or keys; it is empty elsewhere.
func (p Phase) Remedy() string {
	switch p {
	case Unruled:
		return "no rules that this car can use are in force: it claims once the collector has sent some; see the policies for why others are not used"
	case Keys:
		return "a policy's proving key is still being fetched: the car claims once it is here; have it connected for a while"
	}
	return ""
}
