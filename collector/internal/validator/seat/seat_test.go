package seat

import (
	"testing"

	"rawstone/pkg/ledger"
)

// TestStory holds that four validators cosign what is right, also after each was started anew in the middle.
func TestStory(t *testing.T) {
	c := begun(t)
	for i := range c.seats {
		c.step()
		c.close(i)
		c.open(i)
		if n, err := c.clients[i].Next(t.Context()); err != nil || n == 0 {
			t.Fatalf("validator %d starts with %d, %v", i, n, err)
		}
	}
	c.credit("anna")
	c.until(ledger.TypeBlock, 5)
	for i := range c.seats {
		c.must(c.bring(i, c.told))
		if st := c.seats[i].Status(); st.Refuses != "" || st.Checkpoint == 0 {
			t.Errorf("validator %d: %+v", i, st)
		}
	}
	if c.replay.Report().Supply == 0 {
		t.Error("nothing was drawn")
	}
}
