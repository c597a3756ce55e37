package certificate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rawstone/pkg/durable"
)

// errReset is the problem of a car that was reset: to go on under the same device key would be the last owner's decision, not the new one's.
var errReset = errors.New("the car was reset and waits for `agent enroll` with a token of its registration: until then nothing is sent")

// lookReset looks for the file that a reset leaves, and reports whether it came or went since the last look. One that cannot be looked for
// counts as there.
func (k *Keeper) lookReset() (changed bool) {
	reset := false
	if k.cfg.Reset != "" {
		_, err := os.Lstat(k.cfg.Reset)
		reset = !errors.Is(err, fs.ErrNotExist)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	changed = reset != k.reset
	k.reset = reset
	return changed
}

func (k *Keeper) isReset() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.reset
}

// endReset removes the file that a reset left, once the chain of an enrolment is on flash.
func (k *Keeper) endReset() error {
	if k.lookReset(); !k.isReset() {
		return nil
	}
	err := os.Remove(k.cfg.Reset)
	if err == nil {
		err = durable.SyncDir(filepath.Dir(k.cfg.Reset))
	}
	k.lookReset()
	if err != nil {
		return fmt.Errorf("cannot enrol: the note of the reset stays: %w; enrol again with the same token", err)
	}
	return nil
}
