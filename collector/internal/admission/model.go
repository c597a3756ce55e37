package admission

import (
	"context"
	"fmt"
	"strings"

	"rawstone/collector/internal/firewall"
)

// MaxModelLen bounds the name of a model in bytes.
const MaxModelLen = 32

// CheckModel checks the name of a model: letters, digits, space, dot, underscore and hyphen, no space at its ends. Empty stands for
// unknown.
func CheckModel(name string) error {
	wrong := func(c rune) bool {
		return !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune(" ._-", c))
	}
	if len(name) > MaxModelLen || strings.ContainsFunc(name, wrong) || strings.TrimSpace(name) != name {
		return fmt.Errorf("model %.40q is not 1 to %d of A-Z, a-z, 0-9, space, dot, underscore and hyphen: give the model's name, nothing about one vehicle",
			name, MaxModelLen)
	}
	return nil
}

// SetModel says of what model a vehicle is, or returns ErrNotFound. Reports that were counted before stay with the model of that time.
func (b Book) SetModel(ctx context.Context, vehicle, model string) error {
	return b.tx.ExecOne(ctx, setModel(), model, vehicle)
}

func setModel() statement {
	return statement{Name: "set vehicle's model", Roles: firewall.Admin, SQL: `UPDATE vehicles SET model = $1 WHERE id = $2`}
}
