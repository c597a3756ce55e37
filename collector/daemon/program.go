package daemon

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/settle"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// program is everything that the configuration's files say of the program, checked.
type program struct {
	*terms.Documents
	ecuCA     *x509.CertPool // that may certify ECUs
	lock      claim.Lock
	verifiers map[wire.Hash]credit.Verifier

	receipt   *ecdsa.PrivateKey
	log       note.Signer
	validator *ledger.ValidatorKey
}

// openProgram reads and checks the program's documents, without any secret key.
func openProgram(c *Config) (*program, error) {
	if err := exist(c.Program.documents()); err != nil {
		return nil, err
	}
	documents, err := terms.Load(terms.Files{
		Root: c.Program.Root, Program: c.Program.File, Charter: c.Program.Charter, Policies: c.Program.Policies,
	}, c.Environment)
	if err != nil {
		return nil, err
	}
	authorities, err := ca.Pool(c.Program.ECUCA)
	if err != nil {
		return nil, fmt.Errorf("cannot use program.ecu_ca: %w", err)
	}
	lock, err := claim.ReadLock(c.Program.ClaimKeys)
	if err != nil {
		return nil, fmt.Errorf("cannot use program.claim_keys: %w; give the directory that `collector init` or `collector ceremony seal` wrote", err)
	}
	if c.Environment == wire.Production && lock.Environment != wire.Production {
		return nil, fmt.Errorf("cannot use keys in %s: they are from a development setup; run the ceremony", c.Program.ClaimKeys)
	}
	for i, p := range documents.Policies {
		if p.Lock != lock.ID() {
			return nil, fmt.Errorf("cannot use policy %s with the keys in %s: it names those of another setup; build and sign it for these, or give the keys that it names",
				c.Program.Policies[i], c.Program.ClaimKeys)
		}
	}
	v, err := claim.OpenVerifier(c.Program.ClaimKeys, lock)
	if err != nil {
		return nil, err
	}
	return &program{Documents: documents, ecuCA: authorities, lock: lock, verifiers: map[wire.Hash]credit.Verifier{lock.VerifyingKey: v}}, nil
}

// genesis is what the ledger begins with.
func (p *program) genesis() []settle.Document {
	list := []settle.Document{{Type: ledger.TypeProgram, Body: p.SignedProgram}, {Type: ledger.TypeCharter, Body: p.SignedCharter}}
	for _, signed := range p.SignedPolicies {
		list = append(list, settle.Document{Type: ledger.TypePolicy, Body: signed})
	}
	return list
}

// openSecrets reads the secret keys and checks that they are the program's.
func (p *program) openSecrets(c *Config) error {
	if err := exist(c.Program.secrets()); err != nil {
		return err
	}
	var err error
	if p.receipt, err = keyfile.Load(c.Program.ReceiptKey); err != nil {
		return err
	}
	public, err := wire.NewPublicKey(p.receipt.Public())
	if err != nil {
		return err
	}
	if !slices.Contains(p.Receipt, public) {
		return fmt.Errorf("cannot use key %s: the program does not name it for receipts; give the key that belongs to this program", c.Program.ReceiptKey)
	}
	text, err := keyfile.Read(c.Program.LogKey)
	if err != nil {
		return err
	}
	if p.log, err = note.NewSigner(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("cannot use key %s: %w", c.Program.LogKey, err)
	}
	if v, err := note.NewVerifier(p.LogKey); err != nil || v.Name() != p.log.Name() || v.KeyHash() != p.log.KeyHash() {
		return fmt.Errorf("cannot use key %s: the program does not name it for the ledger; give the key that belongs to this program", c.Program.LogKey)
	}
	if text, err = keyfile.Read(c.Program.ValidatorKey); err != nil {
		return err
	}
	if p.validator, err = ledger.ParseValidatorKey(text); err != nil {
		return fmt.Errorf("cannot use key %s: %w", c.Program.ValidatorKey, err)
	}
	if !slices.Contains(p.Validators, p.validator.Public()) {
		return fmt.Errorf("cannot use key %s: the program does not name it for a validator; give the key that belongs to this program", c.Program.ValidatorKey)
	}
	if len(p.Validators) > 1 {
		return errors.New("cannot settle: the program names other validators beside the operator's own, and this version has no feed to them")
	}
	return nil
}
