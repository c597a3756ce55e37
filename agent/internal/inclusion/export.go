package inclusion

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/pkg/wire"
)

// A Summary says how receipts without a proof stand.
type Summary struct {
	// Count is how many there are, Oldest when the first of them came and AgeS its age in seconds.
	Count  int
	Oldest time.Time
	AgeS   int64
	// Overdue counts those that the collector was asked about in vain for longer than it promised, False those with a false proof.
	Overdue int
	False   int
	// Remedy says what to do, empty where there is nothing.
	Remedy string
}

// Summary returns how the receipts stand.
func (c *Checker) Summary() (s Summary, err error) {
	list, err := c.cfg.Archive.Receipts()
	for _, r := range list {
		if r.False != nil {
			s.False++
		}
		if c.overdue(r) {
			s.Overdue++
		}
	}
	if s.Count = len(list); s.Count > 0 {
		s.Oldest, s.AgeS = list[0].Came, int64(c.cfg.Now().Sub(list[0].Came)/time.Second)
	}
	if !c.cfg.Archive.State().UnprovenTold { // nobody was asked yet: the car was not connected
		s.Overdue = 0
	}
	if s.Overdue > 0 {
		s.Remedy = remedy(s.Overdue)
	} else if s.False > 0 {
		s.Remedy = "a proof of the collector's was false: save receipt and proof with `agent receipts export` and show them to the program's auditor"
	}
	return s, err
}

// listed is one receipt as the driver sees it.
type listed struct {
	// Claim is the submission's identifier, which the journal has too.
	Claim      string    `json:"submission"`
	Came       time.Time `json:"came"`
	AgeS       int64     `json:"age_s"`
	Credits    []credit  `json:"credits"`
	FalseProof bool      `json:"false_proof"`
	// Signed and Proof are the evidence, in hexadecimal; of Export alone.
	Signed string `json:"signed_receipt,omitempty"`
	Proof  string `json:"false_proof_bytes,omitempty"`
}

type credit struct {
	Policy    uint16 `json:"policy"`
	Kind      string `json:"kind,omitempty"`
	Km        uint32 `json:"km"`
	Effective uint32 `json:"effective_day"`
}

// List writes the receipts without a proof as one JSON array. It does not name the vehicle.
func (c *Checker) List(w io.Writer) error {
	list, err := c.list()
	if err != nil {
		return err
	}
	return write(w, list)
}

// Export writes what an auditor needs as one JSON document: the program's identifier, and the receipts with their bytes, which the
// collector has signed and which name the vehicle, and the false proofs.
func (c *Checker) Export(w io.Writer) error {
	receipts, err := c.cfg.Archive.Receipts()
	if err != nil {
		return err
	}
	out := struct {
		Program  string   `json:"program"`
		Receipts []listed `json:"receipts"`
	}{Program: c.cfg.ProgramID.String(), Receipts: []listed{}}
	for _, r := range receipts {
		l := c.entry(r)
		l.Signed, l.Proof = hex.EncodeToString(r.Signed), hex.EncodeToString(r.False)
		out.Receipts = append(out.Receipts, l)
	}
	return write(w, out)
}

func (c *Checker) list() ([]listed, error) {
	receipts, err := c.cfg.Archive.Receipts()
	list := []listed{}
	for _, r := range receipts {
		list = append(list, c.entry(r))
	}
	return list, err
}

func (c *Checker) entry(r archive.Receipt) listed {
	l := listed{Claim: r.Claim.String(), Came: r.Came, AgeS: int64(c.cfg.Now().Sub(r.Came) / time.Second), Credits: []credit{}, FalseProof: r.False != nil}
	receipt, err := wire.OpenReceipt(c.cfg.Program.Receipt, r.Signed)
	if err != nil {
		return l // its bytes are all that can be told
	}
	for i, k := range receipt.Credits {
		one := credit{Policy: k.Policy, Km: k.Km, Effective: k.Effective}
		if len(r.Kinds) == len(receipt.Credits) {
			one.Kind = r.Kinds[i]
		}
		l.Credits = append(l.Credits, one)
	}
	return l
}

func write(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("cannot write receipts: %w", err)
	}
	return nil
}
