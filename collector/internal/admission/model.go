package admission

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/wire"
)

// MaxModelLen bounds the name of a model in bytes.
const MaxModelLen = 32

// CheckModel checks the name of a model: letters, digits, space, dot, underscore and hyphen, no space at its ends, and not in the form of a
// VIN, in either case. Empty stands for unknown.
func CheckModel(name string) error {
	wrong := func(c rune) bool {
		return !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.ContainsRune(" ._-", c))
	}
	if len(name) > MaxModelLen || strings.ContainsFunc(name, wrong) || strings.TrimSpace(name) != name || wire.IsVIN(strings.ToUpper(name)) {
		return fmt.Errorf("model %.40q is not 1 to %d of A-Z, a-z, 0-9, space, dot, underscore and hyphen, and no VIN: give the model's name, nothing about one vehicle",
			name, MaxModelLen)
	}
	return nil
}

// RefuseModel refuses the name of a model that is a registered vehicle's id: statistics would be those of one vehicle.
func (b Book) RefuseModel(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	_, err := b.Enrolment(ctx, name)
	if err == nil {
		return fmt.Errorf("model %q is a registered vehicle's id: give the model's name, nothing about one vehicle", name)
	} else if errors.Is(err, database.ErrNotFound) {
		return nil
	}
	return err
}

// SetModel says of what model a vehicle is, or returns ErrNotFound. Reports that were counted before stay with the model of that time.
func (b Book) SetModel(ctx context.Context, vehicle, model string) error {
	return b.tx.ExecOne(ctx, setModel(), model, vehicle)
}

func setModel() statement {
	return statement{Name: "set vehicle's model", Roles: firewall.Admin, SQL: `UPDATE vehicles SET model = $1 WHERE id = $2`}
}
