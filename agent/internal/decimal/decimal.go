// Package decimal holds decimal numbers of configuration files as they are written, so that they can be counted with exactly. It
// refuses exponents and more digits than any factor of a vehicle has.
package decimal

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// A Number is a decimal number as it is written, such as 0.1 or -40. Empty stands for a default.
type Number string

// UnmarshalYAML takes the number's text; whether it is one is told by Rat, with a configuration's other faults.
func (d *Number) UnmarshalYAML(text []byte) error {
	*d = Number(strings.TrimSpace(string(text)))
	return nil
}

// MaxDigits bounds the digits on either side of the point.
const MaxDigits = 15

// Rat returns the number, or what an empty one stands for.
func (d Number) Rat(empty int64) (*big.Rat, error) {
	if d == "" {
		return big.NewRat(empty, 1), nil
	}
	whole, fraction, point := strings.Cut(strings.TrimPrefix(string(d), "-"), ".")
	if !digits(whole) || point && !digits(fraction) {
		return nil, fmt.Errorf("%.40q is no decimal number such as 0.1 or -40 with at most %d digits before and after the point", string(d), MaxDigits)
	}
	r, ok := new(big.Rat).SetString(string(d))
	if !ok {
		return nil, fmt.Errorf("%.40q is no decimal number", string(d))
	}
	return r, nil
}

func digits(s string) bool {
	return len(s) > 0 && len(s) <= MaxDigits && strings.Trim(s, "0123456789") == ""
}

// Exact returns the decimal number that a factor of a DBC file or of a standard's table was written as, 0 for one that is
// not finite.
func Exact(v float64) *big.Rat {
	r, ok := new(big.Rat).SetString(strconv.FormatFloat(v, 'g', -1, 64))
	if !ok {
		return new(big.Rat)
	}
	return r
}
