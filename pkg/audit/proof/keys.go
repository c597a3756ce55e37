package proof

import (
	"fmt"
	"strings"

	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Keys returns the verifiers of policies from directories that each hold the verifying key and the lock file of one setup. A policy's is the
// one whose lock it names; a key of a development setup is refused in a program for production.
func Keys(dirs ...string) (func(*terms.Program, *terms.Policy) (Verifier, error), error) {
	type opened struct {
		lock     claim.Lock
		verifier Verifier
	}
	setups := make(map[wire.Hash]opened)
	for _, dir := range dirs {
		lock, err := claim.ReadLock(dir)
		if err != nil {
			return nil, fmt.Errorf("%w; give the directory that `collector init` or `collector ceremony seal` wrote", err)
		}
		v, err := claim.OpenVerifier(dir, lock)
		if err != nil {
			return nil, err
		}
		setups[lock.ID()] = opened{lock, v}
	}
	return func(program *terms.Program, policy *terms.Policy) (Verifier, error) {
		s, ok := setups[policy.Lock]
		switch {
		case !ok || s.lock.VerifyingKey != policy.VerifyingKey:
			return nil, fmt.Errorf("no verifying key for policy %d in %s: its lock is %s, its key %s", policy.Serial, strings.Join(dirs, ", "), policy.Lock, policy.VerifyingKey)
		case program.Environment == wire.Production && s.lock.Environment != wire.Production:
			return nil, fmt.Errorf("cannot use the keys of policy %d: they are from a development setup, and the program is for production", policy.Serial)
		}
		return s.verifier, nil
	}, nil
}
