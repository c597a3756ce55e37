// Package program reads and checks the signed documents that say what a program is, and the secret keys with which its collector signs.
//
// It refuses documents that do not belong together, keys that the documents do not name, and in production everything that was made for
// development. It writes nothing.
package program

import (
	"crypto/ecdsa"
	"crypto/x509"
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
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Program is everything that the configuration's files say of the program, checked.
type Program struct {
	*terms.Documents
	// ECUCA are those that may certify ECUs.
	ECUCA *x509.CertPool
	// Lock is that of the circuit and its keys, Verifiers are by their verifying keys.
	Lock      claim.Lock
	Verifiers map[wire.Hash]credit.Verifier

	offers, witnesses [][]byte // signed
	names             []File   // of the signed documents in the order of Genesis

	// Signing are the secret keys; zero until they are opened.
	Signing Signing
}

// A Signing holds the secret keys for receipts and the ledger's checkpoints.
type Signing struct {
	Receipt *ecdsa.PrivateKey
	Log     note.Signer
}

// Open reads and checks the program's documents, without any secret key. In production it refuses what is for development.
func Open(c *Config, environment wire.Environment) (*Program, error) {
	if err := exist(c.Documents()); err != nil {
		return nil, err
	}
	documents, err := terms.Load(terms.Files{
		Root: c.Root, Program: c.File, Charter: c.Charter, Policies: c.Policies,
	}, environment)
	if err != nil {
		return nil, err
	}
	authorities, err := ca.Pool(c.ECUCA)
	if err != nil {
		return nil, fmt.Errorf("cannot use program.ecu_ca: %w", err)
	}
	lock, err := claim.ReadLock(c.ClaimKeys)
	if err != nil {
		return nil, fmt.Errorf("cannot use program.claim_keys: %w; give the directory that `collector init` or `collector ceremony seal` wrote", err)
	}
	if environment == wire.Production && lock.Environment != wire.Production {
		return nil, fmt.Errorf("cannot use keys in %s: they are from a development setup; run the ceremony", c.ClaimKeys)
	}
	for i, p := range documents.Policies {
		if p.Lock != lock.ID() {
			return nil, fmt.Errorf("cannot use policy %s with the keys in %s: it names those of another setup; build and sign it for these, or give the keys that it names",
				c.Policies[i], c.ClaimKeys)
		}
	}
	v, err := claim.OpenVerifier(c.ClaimKeys, lock)
	if err != nil {
		return nil, err
	}
	p := &Program{Documents: documents, ECUCA: authorities, Lock: lock, Verifiers: map[wire.Hash]credit.Verifier{lock.VerifyingKey: v}, names: c.signed()}
	p.offers, err = read("offers", c.Offers, func(b []byte) error {
		_, err := cultivation.OpenOffers(p.Policy, p.ProgramID, b)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.witnesses, err = read("change of validators", c.Witnesses, func(b []byte) error {
		_, err := ledger.OpenWitness(p.Root, p.Documents.Program, p.ProgramID, b)
		return err
	})
	return p, err
}

// read reads signed documents of a kind and checks each by itself. Whether they may follow what is logged is the ledger's to say.
func read(what string, paths []string, check func([]byte) error) (out [][]byte, err error) {
	for _, path := range paths {
		b, err := terms.ReadDocument(path)
		if err != nil {
			return nil, err
		}
		if err := check(b); err != nil {
			return nil, fmt.Errorf("cannot use %s %s: %w", what, path, err)
		}
		out = append(out, b)
	}
	return out, nil
}

// Genesis is what the ledger begins with.
func (p *Program) Genesis() (list []settle.Document) {
	add := func(t ledger.Type, bodies ...[]byte) {
		for _, signed := range bodies {
			n := p.names[len(list)]
			list = append(list, settle.Document{Type: t, Body: signed, Name: n.Key + ", " + n.Path})
		}
	}
	add(ledger.TypeProgram, p.SignedProgram)
	add(ledger.TypeCharter, p.SignedCharter)
	add(ledger.TypePolicy, p.SignedPolicies...)
	add(ledger.TypeOffers, p.offers...)
	add(ledger.TypeWitness, p.witnesses...)
	return list
}

// OpenReceiptKey reads the secret key that signs receipts and checks that it is the program's.
func (p *Program) OpenReceiptKey(c *Config) (err error) {
	if err := exist(c.Secrets()[:1]); err != nil {
		return err
	}
	if p.Signing.Receipt, err = keyfile.Load(c.ReceiptKey); err != nil {
		return err
	}
	public, err := wire.NewPublicKey(p.Signing.Receipt.Public())
	if err != nil {
		return err
	}
	if !slices.Contains(p.Receipt, public) {
		return fmt.Errorf("cannot use key %s: the program does not name it for receipts; give the key that belongs to this program", c.ReceiptKey)
	}
	return nil
}

// OpenLedgerKey reads the ledger's secret key and checks that it is the program's.
func (p *Program) OpenLedgerKey(c *Config) error {
	if err := exist(c.Secrets()[1:]); err != nil {
		return err
	}
	text, err := keyfile.Read(c.LogKey)
	if err != nil {
		return err
	}
	if p.Signing.Log, err = note.NewSigner(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("cannot use key %s: %w", c.LogKey, err)
	}
	if v, err := note.NewVerifier(p.LogKey); err != nil || v.Name() != p.Signing.Log.Name() || v.KeyHash() != p.Signing.Log.KeyHash() {
		return fmt.Errorf("cannot use key %s: the program does not name it for the ledger; give the key that belongs to this program", c.LogKey)
	}
	return nil
}
