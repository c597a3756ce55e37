package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
)

// TestWhose: whoever is kept out by files' modes hears whose command it is; other errors stay as they are.
func TestWhose(t *testing.T) {
	if err := whose(fmt.Errorf("cannot reach the agent: %w", fs.ErrPermission)); !errors.Is(err, fs.ErrPermission) || !strings.HasSuffix(err.Error(), "; run it as the agent's user") {
		t.Error(err)
	}
	if other := errors.New("cannot"); whose(other) != other {
		t.Error("another error is changed")
	}
}
