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

	"rawstone/collector/internal/policy"
	"rawstone/pkg/claim"
	"rawstone/pkg/config"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// Files of a program's directory.
const (
	ProgramFile   = "program.cose"
	RootFile      = "root.pub"
	CharterFile   = "charter.cose"
	PolicyDir     = "policies"
	ClaimDir      = "claim"
	rootKeyFile   = "root.key"
	receiptFile   = "receipt.key"
	policyFile    = "policy.key"
	logFile       = "log.key"
	validatorFile = "validator.key"
)

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
	var charter charterSource
	if err := config.LoadAs("charter source", src.Charter, &charter); err != nil {
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
	if _, err := os.Stat(filepath.Join(cfg.Dir, ProgramFile)); err == nil {
		return wire.Hash{}, fmt.Errorf("cannot begin program: %s holds one already; give another directory", cfg.Dir)
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, PolicyDir), 0o755); err != nil {
		return wire.Hash{}, fmt.Errorf("cannot begin program: %w", err)
	}
	m := &maker{dir: cfg.Dir}
	m.program(src, cfg.Now().Unix())
	m.charter(charter, src.BoardQuorum)
	m.policies(policies)
	return m.id, m.err
}

// maker makes one thing after another and stops at the first failure.
type maker struct {
	dir   string
	err   error
	board []*ecdsa.PrivateKey
	sign  *ecdsa.PrivateKey // policies
	id    wire.Hash
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
		Timing: terms.Timing{GenesisS: now, OffsetS: src.OffsetS, DayS: src.DayS, DropS: src.DropS}, BoardQuorum: src.BoardQuorum, Quorum: 1,
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
	p.Validators = []terms.Validator{m.validator(src.Name)}
	p.LogKey = m.log(src.Name)
	if m.err != nil {
		return
	}
	signed, err := terms.SealProgram(root, p)
	m.write(ProgramFile, signed, err)
	m.write(RootFile, []byte(hex.EncodeToString(rootPublic[:])+"\n"), nil)
	m.id = wire.ID(signed)
}

func (m *maker) validator(name string) terms.Validator {
	k, err := ledger.GenerateValidatorKey(name + "/operator")
	if err != nil {
		m.err = err
		return terms.Validator{}
	}
	m.err = keyfile.Write(m.path(validatorFile), k.Encode())
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

func (m *maker) charter(c charterSource, signers uint8) {
	if m.err != nil {
		return
	}
	doc := c.charter()
	doc.Program = m.id
	var quorum []crypto.Signer
	for _, k := range m.board[:signers] {
		quorum = append(quorum, k)
	}
	signed, err := terms.SealCharter(quorum, doc)
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
