// Package genesis begins a development program: it makes every key, the program document, the charter, the policies and a
// single-party setup of the proof system, from readable sources.
//
// Everything it makes says "development". It refuses production: there the root and the board sign elsewhere, and the proving key
// comes from a ceremony. It refuses to write into a directory that holds a program already.
package genesis

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"rawstone/collector/internal/charter"
	"rawstone/collector/internal/offering"
	"rawstone/collector/internal/policy"
	"rawstone/pkg/claim"
	"rawstone/pkg/config"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// Files of a program's directory.
const (
	ProgramFile = "program.cose"
	RootFile    = "root.pub"
	CharterFile = "charter.cose"
	OfferDir    = "offers"
	PolicyDir   = "policies"
	ClaimDir    = "claim"
	rootKeyFile = "root.key"
	receiptFile = "receipt.key"
	policyFile  = "policy.key"
	logFile     = "log.key"
)

// ValidatorFile is the file with the secret key of the validator of that name in the source.
func ValidatorFile(name string) string { return "validator-" + name + ".key" }

// Config says what to make.
type Config struct {
	// Source is the path of the program's source.
	Source string
	// Dir is where everything goes; it must not hold a program.
	Dir string
	// Now is the clock; the program's drops begin at its second.
	Now func() time.Time
}

// Init makes the program and returns its identifier.
func Init(cfg Config) (wire.Hash, error) {
	src := defaultSource()
	if err := config.LoadAs("program source", cfg.Source, &src); err != nil {
		return wire.Hash{}, err
	}
	// Every source is read before anything is written, so that a fault leaves no half of a program.
	config.Resolve(cfg.Source, &src.Charter)
	var charters charter.Source
	if err := config.LoadAs("charter source", src.Charter, &charters); err != nil {
		return wire.Hash{}, err
	}
	policies := make([]policy.Source, len(src.Policies))
	var documents []*terms.Policy
	for i := range src.Policies {
		config.Resolve(cfg.Source, &src.Policies[i])
		if err := config.LoadAs("policy source", src.Policies[i], &policies[i]); err != nil {
			return wire.Hash{}, err
		}
		documents = append(documents, policies[i].Policy(wire.Hash{}, claim.Lock{}))
	}
	if err := terms.CheckPolicies(documents); err != nil {
		return wire.Hash{}, fmt.Errorf("cannot begin program %s: %w", cfg.Source, err)
	}
	var offers *offering.Source
	if src.Offers != "" {
		config.Resolve(cfg.Source, &src.Offers)
		offers = new(offering.Source)
		if err := config.LoadAs("source of offers", src.Offers, offers); err != nil {
			return wire.Hash{}, err
		}
		if offers.FromDay != 0 {
			return wire.Hash{}, fmt.Errorf("cannot begin program %s: %s begins on day %d; leave from_day at 0 for offers of a program's first day", cfg.Source, src.Offers, offers.FromDay)
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, ProgramFile)); err == nil {
		return wire.Hash{}, fmt.Errorf("cannot begin program: %s holds one already; give another directory", cfg.Dir)
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, PolicyDir), 0o755); err != nil {
		return wire.Hash{}, fmt.Errorf("cannot begin program: %w", err)
	}
	m := &maker{dir: cfg.Dir}
	m.program(src, cfg.Now().Unix())
	m.charter(charters, src.BoardQuorum)
	m.policies(policies)
	m.offers(offers)
	return m.id, m.err
}

// maker makes one thing after another and stops at the first failure.
type maker struct {
	dir   string
	err   error
	board []*ecdsa.PrivateKey
	sign  *ecdsa.PrivateKey // policies
	id    wire.Hash
	day   uint32 // of genesis
}

func (m *maker) path(name string) string { return filepath.Join(m.dir, name) }

// key makes a P-256 key file and returns the key and its public form.
func (m *maker) key(name string) (*ecdsa.PrivateKey, wire.PublicKey) {
	if m.err != nil {
		return nil, wire.PublicKey{}
	}
	k, err := keyfile.Create(m.path(name))
	if err != nil {
		m.err = err
		return nil, wire.PublicKey{}
	}
	p, err := wire.NewPublicKey(k.Public())
	m.err = err
	return k, p
}

func (m *maker) write(name string, b []byte, err error) {
	if m.err = errors.Join(m.err, err); m.err == nil {
		m.err = os.WriteFile(m.path(name), b, 0o644)
	}
}

func (m *maker) program(src Source, now int64) {
	p := &terms.Program{
		Version: wire.Version, Name: src.Name, Environment: wire.Development,
		Timing: terms.Timing{GenesisS: now, OffsetS: src.OffsetS, DayS: src.DayS, DropS: src.DropS}, BoardQuorum: src.BoardQuorum, Quorum: src.quorum(),
	}
	root, rootPublic := m.key(rootKeyFile)
	_, receipt := m.key(receiptFile)
	signer, policy := m.key(policyFile)
	p.Receipt, p.Policy, m.sign = wire.KeySet{receipt}, wire.KeySet{policy}, signer
	for i := range src.BoardKeys {
		k, public := m.key("board-" + strconv.Itoa(i+1) + ".key")
		m.board, p.Board = append(m.board, k), append(p.Board, public)
	}
	if m.err != nil {
		return
	}
	for _, name := range src.Validators {
		p.Validators = append(p.Validators, m.validator(src.Name, name))
	}
	p.LogKey = m.log(src.Name)
	if m.err != nil {
		return
	}
	signed, err := terms.SealProgram(root, p)
	m.write(ProgramFile, signed, err)
	m.day = p.Timing.Day(p.Timing.DropTime(0))
	m.write(RootFile, []byte(hex.EncodeToString(rootPublic[:])+"\n"), nil)
	m.id = wire.ID(signed)
}

// validator makes a validator's key file. Whoever runs the validator takes the file away.
func (m *maker) validator(program, name string) terms.Validator {
	if m.err != nil {
		return terms.Validator{}
	}
	k, err := ledger.GenerateValidatorKey(program + "/" + name)
	if err != nil {
		m.err = err
		return terms.Validator{}
	}
	m.err = keyfile.Write(m.path(ValidatorFile(name)), k.Encode())
	return k.Public()
}

func (m *maker) log(name string) string {
	if m.err != nil {
		return ""
	}
	secret, public, err := tlog.GenerateKey(name + "/ledger")
	if err != nil {
		m.err = fmt.Errorf("cannot make ledger key: %w", err)
		return ""
	}
	m.err = keyfile.Write(m.path(logFile), []byte(secret+"\n"))
	return public
}

func (m *maker) charter(c charter.Source, signers uint8) {
	if m.err != nil {
		return
	}
	var quorum []crypto.Signer
	for _, k := range m.board[:signers] {
		quorum = append(quorum, k)
	}
	signed, err := terms.SealCharter(quorum, c.Charter(m.id))
	m.write(CharterFile, signed, err)
}

func (m *maker) policies(sources []policy.Source) {
	if m.err != nil {
		return
	}
	lock, err := claim.Setup(m.path(ClaimDir))
	if err != nil {
		m.err = err
		return
	}
	for _, s := range sources {
		signed, err := terms.SealPolicy(m.sign, s.Policy(m.id, lock))
		if err != nil {
			m.err = fmt.Errorf("cannot sign policy %d: %w", s.Serial, err)
			return
		}
		m.write(filepath.Join(PolicyDir, strconv.Itoa(int(s.Serial))+".cose"), signed, nil)
	}
}

// offers signs offers that begin once the notice is over: a new ledger's day is that of drop 0 until it is drawn.
func (m *maker) offers(s *offering.Source) {
	if m.err != nil || s == nil {
		return
	}
	if m.err = os.MkdirAll(m.path(OfferDir), 0o755); m.err != nil {
		return
	}
	signed, err := cultivation.SealOffers(m.sign, s.Offers(m.id, m.day+cultivation.NoticeDays))
	m.write(filepath.Join(OfferDir, strconv.Itoa(int(s.Serial))+".cose"), signed, err)
}
