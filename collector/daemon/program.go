package daemon

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/settle"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// maxDocument bounds a signed document in bytes.
const maxDocument = 64 << 10

// program is everything that the configuration's files say of the program, checked.
type program struct {
	*terms.Program
	id        wire.Hash
	root      wire.PublicKey
	charter   *terms.Charter
	charterID wire.Hash
	policies  []*terms.Policy
	verifiers map[wire.Hash]credit.Verifier
	// documents are what the ledger begins with: program, charter, policies.
	documents []settle.Document

	receipt   *ecdsa.PrivateKey
	log       note.Signer
	validator *ledger.ValidatorKey
}

// openProgram reads and checks the program's documents, without any secret key.
func openProgram(c *Config) (*program, error) {
	p := &program{verifiers: make(map[wire.Hash]credit.Verifier)}
	var err error
	if p.root, err = terms.LoadRoot(c.Program.Root); err != nil {
		return nil, err
	}
	signed, err := readDocument(c.Program.File)
	if err != nil {
		return nil, err
	}
	if p.Program, p.id, err = terms.OpenProgram(p.root, signed); err != nil {
		return nil, fmt.Errorf("cannot use program document %s: %w", c.Program.File, err)
	}
	if p.Environment != c.Environment {
		return nil, fmt.Errorf("cannot use program document %s: it is for %s and the configuration says %s", c.Program.File, p.Environment, c.Environment)
	}
	p.documents = append(p.documents, settle.Document{Type: ledger.TypeProgram, Body: signed})
	if signed, err = readDocument(c.Program.Charter); err != nil {
		return nil, err
	}
	if p.charter, p.charterID, err = terms.OpenCharter(p.Program, p.id, signed); err != nil {
		return nil, fmt.Errorf("cannot use charter %s: %w", c.Program.Charter, err)
	}
	p.documents = append(p.documents, settle.Document{Type: ledger.TypeCharter, Body: signed})
	lock, err := claim.ReadLock(c.Program.ClaimKeys)
	if err != nil {
		return nil, err
	}
	if c.Environment == wire.Production && lock.Environment != wire.Production {
		return nil, fmt.Errorf("cannot use keys in %s: they are from a development setup; run the ceremony", c.Program.ClaimKeys)
	}
	v, err := claim.OpenVerifier(c.Program.ClaimKeys, lock)
	if err != nil {
		return nil, err
	}
	p.verifiers[lock.VerifyingKey] = v
	for _, path := range c.Program.Policies {
		if signed, err = readDocument(path); err != nil {
			return nil, err
		}
		policy, err := terms.OpenPolicy(p.Policy, p.id, signed)
		if err != nil {
			return nil, fmt.Errorf("cannot use policy %s: %w", path, err)
		}
		if err := p.charter.Covers(policy); err != nil {
			return nil, fmt.Errorf("cannot use policy %s: %w", path, err)
		}
		p.policies = append(p.policies, policy)
		p.documents = append(p.documents, settle.Document{Type: ledger.TypePolicy, Body: signed})
	}
	return p, nil
}

// openSecrets reads the secret keys and checks that they are the program's.
func (p *program) openSecrets(c *Config) error {
	var err error
	if p.receipt, err = keyfile.Load(c.Program.ReceiptKey); err != nil {
		return err
	}
	public, err := wire.NewPublicKey(p.receipt.Public())
	if err != nil {
		return err
	}
	if !slices.Contains(p.Receipt, public) {
		return fmt.Errorf("cannot use key %s: the program does not name it for receipts", c.Program.ReceiptKey)
	}
	text, err := keyfile.Read(c.Program.LogKey)
	if err != nil {
		return err
	}
	if p.log, err = note.NewSigner(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("cannot use key %s: %w", c.Program.LogKey, err)
	}
	if text, err = keyfile.Read(c.Program.ValidatorKey); err != nil {
		return err
	}
	if p.validator, err = ledger.ParseValidatorKey(text); err != nil {
		return fmt.Errorf("cannot use key %s: %w", c.Program.ValidatorKey, err)
	}
	if len(p.Validators) != 1 || p.Validators[0] != p.validator.Public() {
		return errors.New("cannot settle: the program names other validators than the operator's own, and this version has no feed to them")
	}
	return nil
}

func readDocument(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read document: %w", err)
	}
	if info.Size() > maxDocument {
		return nil, fmt.Errorf("cannot read document %s: %d bytes, at most %d allowed", path, info.Size(), maxDocument)
	}
	return os.ReadFile(path)
}
