package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/policy"
	"rawstone/collector/internal/store"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// judge has the judge of the collector in collector.yaml decide about claims of a vehicle, all in one batch, a hundred days after the
// program's begin: VEHICLE CLAIM...
func judge(args []string) error {
	ctx := context.Background()
	vehicle := args[0]
	db, err := store.Open(ctx, store.Config{Path: "state/records.db", Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		return err
	}
	defer db.Close()
	j, err := openJudge(db)
	if err != nil {
		return err
	}
	var subs []credit.Submission
	for _, path := range args[1:] {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		subs = append(subs, credit.Submission{Vehicle: vehicle, Body: b})
	}
	prepared := j.Prepare(ctx, wire.KindClaim, subs)
	return db.Update(ctx, func(tx *store.Tx) error {
		for i, p := range prepared {
			if p.Err != nil {
				return p.Err
			}
			s, repeated, err := p.Apply(ctx, tx)
			if err != nil {
				return err
			}
			fmt.Printf("%s: accepted %v %s, repeated %v, %d km\n", args[i+1], s.Accepted, s.Reason, repeated, s.Km)
		}
		return nil
	})
}

func openJudge(db *store.DB) (*credit.Judge, error) {
	program, id, err := terms.LoadProgram("program/root.pub", "program/program.cose")
	if err != nil {
		return nil, err
	}
	doc, err := policy.Read("program/policies/1.cose")
	if err != nil {
		return nil, err
	}
	lock, err := claim.ReadLock("program/claim")
	if err != nil {
		return nil, err
	}
	verifier, err := claim.OpenVerifier("program/claim", lock)
	if err != nil {
		return nil, err
	}
	receipt, err := keyfile.Load("program/receipt.key")
	if err != nil {
		return nil, err
	}
	now := time.Unix(int64(program.Timing.GenesisS)+100*int64(program.Timing.DayS), 0)
	return credit.New(credit.Config{
		DB: db, Program: id, Clock: terms.Clock{Timing: program.Timing, Now: func() time.Time { return now }},
		Policies: []*terms.Policy{doc.Policy}, Verifiers: map[wire.Hash]credit.Verifier{lock.VerifyingKey: verifier}, Receipt: receipt,
	})
}
