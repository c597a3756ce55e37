package claim

import (
	"strings"
	"testing"

	"rawstone/pkg/wire"
)

// A lock says production exactly when it names a ceremony's transcript.
func TestLockTranscript(t *testing.T) {
	var f Files
	for _, transcript := range []wire.Hash{{}, {1}} {
		l := f.Lock(transcript)
		if production := l.Environment == wire.Production; production != !transcript.IsZero() {
			t.Errorf("transcript %s makes a lock of %s", transcript, l.Environment)
		}
		text, err := l.encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseLock(text); err != nil || again != l {
			t.Errorf("read as %+v, %v, want %+v", again, err, l)
		}
		other := strings.NewReplacer("development", "production", "production", "development").Replace(string(text))
		if got, err := parseLock([]byte(other)); err == nil {
			t.Errorf("environment changed, and accepted as %+v", got)
		}
	}
}
