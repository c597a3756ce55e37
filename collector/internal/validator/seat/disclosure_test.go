package seat

import (
	"strings"
	"testing"

	"rawstone/collector/internal/disclosure"
	"rawstone/pkg/ledger"
)

// rebind returns the binding of a new car to an account that has one.
func (c *court) rebind(account string) disclosure.Entry {
	c.t.Helper()
	secret := c.cars[account].secret
	e := c.bind("second of " + account)
	o, ok := disclosure.Opened[ledger.BindingOpening](&e, ledger.TypeBinding)
	if !ok {
		c.t.Fatal("a binding has no opening")
	}
	o.Account = account
	blind, err := o.Blind()
	c.must(err)
	e.Body, e.Account, e.Secret = c.encode(ledger.Binding{Blind: blind}), account, secret[:]
	c.must(e.Open(&o))
	return e
}

// TestSecretOfLater sends a batch in which a credit's account has no secret before the entry behind it. A validator that is started again looks at
// one entry after the other: what it could not take in then it must not take in now.
func TestSecretOfLater(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	bare := c.bind("anna")
	bare.Account, bare.Secret = "", nil
	credit := c.earn("anna", 1)
	c.told.add(c, bare)
	c.told.add(c, credit)
	c.told.add(c, c.rebind("anna"))
	for i := range c.seats {
		if err := c.bring(i, c.told); err == nil || !strings.Contains(err.Error(), `credit's account "anna" has no opening`) {
			t.Errorf("validator %d: %v", i, err)
		}
		if n, err := c.clients[i].Next(t.Context()); err != nil || n != 4 {
			t.Errorf("validator %d wants %d, %v", i, n, err)
		}
	}
	c.close(2)
	c.open(2)
	if n, err := c.clients[2].Next(t.Context()); err != nil || n != 4 {
		t.Errorf("it wants %d, %v", n, err)
	}
}

// TestSecretOfOther sends secrets with entries that have none, or of accounts that theirs do not name.
func TestSecretOfOther(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.log(c.bind("anna"))
	secret := c.cars["anna"].secret[:]
	for i := range c.seats {
		c.must(c.bring(i, c.told))
	}
	good := c.earn("anna", 1)
	for i, change := range []func(*disclosure.Entry){
		func(e *disclosure.Entry) { e.Account, e.Secret = "anna", secret },
		func(e *disclosure.Entry) { *e = c.bind("ben"); e.Account = "chen" },
		func(e *disclosure.Entry) { *e = c.bind("ben"); e.Opening = nil },
		func(e *disclosure.Entry) { *e = c.rebind("anna"); e.Secret = make([]byte, 32) },
	} {
		e := good
		change(&e)
		e.Number = c.replay.Next()
		err := c.seats[0].Follow(t.Context(), e)
		if err == nil || !strings.Contains(err.Error(), []string{"is of type", "does not name", "binding has no opening", "is not the one that was disclosed"}[i]) {
			t.Errorf("lie %d: %v", i, err)
		}
	}
	c.log(c.rebind("anna"))
	c.must(c.bring(0, c.told))
}
