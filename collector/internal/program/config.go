package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Config is the section `program` of a configuration: it names the signed documents and the secret keys.
type Config struct {
	// Root is the file with the program root's public key: 66 hexadecimal digits. Required.
	Root string `yaml:"root"`
	// File, Charter and Policies are the signed documents. Required.
	File     string   `yaml:"file"`
	Charter  string   `yaml:"charter"`
	Policies []string `yaml:"policies"`
	// Offers are the signed offers of tasks, mine boxes and goods, Witnesses the signed changes of validators, both by rising serials. What
	// is logged once may leave the list. Default none.
	Offers    []string `yaml:"offers"`
	Witnesses []string `yaml:"witnesses"`
	// ClaimKeys is the directory of the circuit and its verifying key. Required.
	ClaimKeys string `yaml:"claim_keys"`
	// ECUCA is the file with the certificates, in PEM, of the authorities that may certify attestation ECUs' keys. Required.
	ECUCA string `yaml:"ecu_ca"`
	// ReceiptKey and LogKey are secret key files, mode 0600: for receipts, and for the ledger's checkpoints. A process needs the first with
	// the role ingest, the other with the role settle.
	ReceiptKey string `yaml:"receipt_key"`
	LogKey     string `yaml:"log_key"`
}

// A File is a path and the configuration key that holds it.
type File struct{ Key, Path string }

// Documents are what says what the program is.
func (c *Config) Documents() []File {
	out := append([]File{{"program.root", c.Root}}, c.signed()...)
	return append(out, File{"program.claim_keys", c.ClaimKeys}, File{"program.ecu_ca", c.ECUCA})
}

// signed are the signed documents, in the order in which the ledger begins with them.
func (c *Config) signed() []File {
	out := []File{{"program.file", c.File}, {"program.charter", c.Charter}}
	for _, list := range []struct {
		key   string
		paths []string
	}{{"policies", c.Policies}, {"offers", c.Offers}, {"witnesses", c.Witnesses}} {
		for i, path := range list.paths {
			out = append(out, File{fmt.Sprintf("program.%s[%d]", list.key, i), path})
		}
	}
	return out
}

// Secrets are the secret keys: for receipts, then that of the ledger.
func (c *Config) Secrets() []File {
	return []File{{"program.receipt_key", c.ReceiptKey}, {"program.log_key", c.LogKey}}
}

// exist names all paths that lead nowhere at once.
func exist(paths []File) error {
	var errs []error
	for _, n := range paths {
		if _, err := os.Stat(n.Path); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot use %s: %s does not exist; correct the path in the configuration, "+
				"or make a development program with `collector init`", n.Key, n.Path))
		}
	}
	return errors.Join(errs...)
}
