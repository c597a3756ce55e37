package firewall

import (
	"math/bits"
	"strings"
)

// A Role is a set of the parts that a program may play towards the database; a set of several may do what each of them may.
type Role uint16

// The roles.
const (
	// Ingest takes what vehicles send, and answers it.
	Ingest Role = 1 << iota
	// Settle numbers the ledger's entries and draws stones.
	Settle
	// Web reads what pages and bulletins show.
	Web
	// Audit reads what auditors get.
	Audit
	// Admin registers vehicles and their ECUs.
	Admin
	// Account does what owners ask for: crystals, mine boxes, redemptions. It reads neither usage reports nor keys of vehicles.
	Account
	// Statements reads what owners' statements are made of, of any account; it writes nothing, and reads neither claims and reports nor vehicles.
	Statements
	// Person reads all that is kept of a person who asks for it, of any account; it writes nothing, and no process runs with it.
	Person

	every Role = Person<<1 - 1
)

// Roles returns every single role.
func Roles() []Role { return every.Each() }

// Each returns the single roles in r.
func (r Role) Each() (out []Role) {
	for one := Ingest; one <= Person; one <<= 1 {
		if r&one != 0 {
			out = append(out, one)
		}
	}
	return out
}

// String returns the roles' names.
func (r Role) String() string {
	var names []string
	for _, one := range r.Each() {
		names = append(names, [...]string{"ingest", "settle", "web", "audit", "admin", "account", "statement", "person"}[bits.TrailingZeros16(uint16(one))])
	}
	return strings.Join(names, "_")
}

// Login returns the name with which the role logs in to PostgreSQL. Package schema makes the logins of single roles.
func (r Role) Login() string { return "rawstone_" + r.String() }

// Owner is the login that owns the tables on PostgreSQL; it migrates them and is used for nothing else.
const Owner = "rawstone_owner"
