package settle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rawstone/collector/internal/outbox"
	"rawstone/collector/internal/panel"
	"rawstone/collector/internal/settle/internal/seed"
	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// minSlack bounds from below how far the clock may run ahead of the time that has passed.
const minSlack = time.Hour

// now returns the clock, and false while it is not believed, which is said once and counted.
func (s *Settler) now() (time.Time, bool) {
	now, slack := s.c.Now(), minSlack
	if p, _ := s.replay.Program(); p != nil {
		slack = max(slack, time.Duration(p.Timing.DayS)*time.Second)
	}
	ok := s.watch.Believe(now, s.c.Elapsed(), slack)
	if !ok && !s.doubted {
		s.metrics.Jumps.Inc()
		s.c.Logger.Error("clock has jumped ahead, drops wait: set it right, or start the collector anew if it is right", "drop", s.replay.Due().Drop)
	} else if ok && s.doubted {
		s.c.Logger.Info("clock is right again, drops go on")
	}
	s.doubted = !ok
	return now, ok
}

// make keeps the next cosigned entry as a draft when it is due.
func (s *Settler) make(ctx context.Context) (bool, error) {
	due := s.replay.Due()
	if due.Type == ledger.TypeProgram {
		return false, errors.New("cannot settle: the records hold no program document")
	}
	program := s.replay.Current()
	at := program.Timing.DayStart(due.Day)
	if due.Type == ledger.TypeBlock {
		at = program.Timing.DropTime(due.Drop)
	}
	if now, ok := s.now(); !ok || now.Before(at) {
		return false, nil
	}
	d := outbox.Draft{Number: s.replay.Next(), Type: due.Type}
	var err error
	switch due.Type {
	case ledger.TypeLeaves:
		d.Payload, err = s.makeLeaves(ctx, due.Day, int(program.Quorum))
	case ledger.TypeDay:
		d.Payload, err = s.makeDay(ctx, due, int(program.Quorum))
	default:
		d.Payload, err = s.makeBlock(ctx, due, int(program.Quorum))
	}
	if err != nil {
		return false, err
	}
	// A mistake is found here, before a validator has it in its memory for good.
	if err := s.replay.Check(d.Type, d.Payload); err != nil {
		return false, err
	}
	return true, s.update(ctx, func(tx *store.Tx) error { return tx.AddDraft(ctx, d) })
}

// makeLeaves commits to the day's leaves and names the validators that are there.
func (s *Settler) makeLeaves(ctx context.Context, day uint32, quorum int) ([]byte, error) {
	_, leaves, err := s.weights(ctx, day, s.replay.Next())
	if err != nil {
		return nil, err
	}
	l := &ledger.Leaves{Day: day, Count: uint64(len(leaves))}
	if l.Set, l.Weight, err = reward.SetHash(leaves); err != nil {
		return nil, err
	}
	_, reasons := ask(ctx, s, nil, func(ctx context.Context, i uint8, v Validator) (struct{}, error) {
		return struct{}{}, nil // having followed the log is the answer
	})
	for i := range reasons {
		if reasons[i] == nil {
			l.Validators = append(l.Validators, byte(i))
		}
	}
	if len(l.Validators) < quorum {
		return nil, fmt.Errorf("%w: %d of %d follow the log: %w", ErrNoQuorum, len(l.Validators), quorum, errors.Join(reasons...))
	}
	return ledger.EncodePayload(l)
}

func (s *Settler) makeDay(ctx context.Context, due audit.Due, quorum int) ([]byte, error) {
	proofs, withheld, err := s.proofs(ctx, due, quorum)
	if err != nil {
		return nil, err
	}
	d, err := s.replay.NextDay(proofs, withheld)
	if err != nil {
		return nil, err
	}
	_, _, root, err := s.order(ctx, d)
	if err != nil {
		return nil, err
	}
	d.Root = root.Hash
	return ledger.EncodePayload(d)
}

func (s *Settler) makeBlock(ctx context.Context, due audit.Due, quorum int) ([]byte, error) {
	proofs, withheld, err := s.proofs(ctx, due, quorum)
	if err != nil {
		return nil, err
	}
	b, err := s.replay.NextBlock(proofs, withheld)
	if err != nil {
		return nil, err
	}
	return ledger.EncodePayload(b)
}

// proofs asks the day's validators for their proofs on the seed that is due, and the others once too few are left when the day is over. Who
// gives none, or a false one, is out until the next day.
func (s *Settler) proofs(ctx context.Context, due audit.Due, quorum int) (proofs []ledger.Proof, withheld []byte, err error) {
	program, alpha := s.replay.Current(), s.replay.Alpha()
	end := program.Timing.DayStart(due.Day + 1)
	now, ok := s.now()
	q := seed.Query{Validators: len(program.Validators), Quorum: quorum, Over: ok && !now.Before(end)}
	q.In, q.Out = s.replay.Set()
	q.Ask = func(list []byte) ([]ledger.Proof, []error) {
		return ask(ctx, s, list, func(ctx context.Context, i uint8, v Validator) (ledger.Proof, error) {
			p, err := v.Prove(ctx, due)
			if err == nil {
				p.Validator = i
				_, err = ledger.VerifyProof(program.Validators[i], alpha, p)
			}
			return p, err
		})
	}
	a := seed.Gather(q)
	if len(a.Proofs) < quorum {
		return nil, nil, fmt.Errorf("%w: drop %d has %d proofs of %d, and validators that are out are asked from %s on: %w",
			ErrNoQuorum, due.Drop, len(a.Proofs), quorum, end.Format(time.RFC3339), a.Err)
	}
	for i, reason := range a.Missed {
		s.metrics.Withheld.Inc()
		s.c.Logger.Warn("validator is out until the next day", "validator", program.Validators[i].Name, "drop", due.Drop, "error", reason)
	}
	for _, i := range a.Back {
		s.metrics.Recovered.Inc()
		s.c.Logger.Warn("validator is back before the next day, as too few were left when the day was over", "validator", program.Validators[i].Name, "drop", due.Drop)
	}
	return a.Proofs, a.Withheld, nil
}

// waiting returns the draft, if one waits, and whether entries wait for a number.
func (s *Settler) waiting(ctx context.Context) (d outbox.Draft, found, unnumbered bool, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		if d, found, err = tx.Draft(ctx); err != nil {
			return err
		}
		unnumbered, err = tx.Unnumbered(ctx)
		return err
	})
	return d, found, unnumbered, err
}

// seal collects cosignatures for the draft and, with a quorum, gives it its number for good. With a block goes what its seed opens: both are
// on disk or none.
func (s *Settler) seal(ctx context.Context, d outbox.Draft) error {
	_, id := s.replay.Program()
	program := s.replay.Current()
	answers, reasons := ask(ctx, s, nil, func(ctx context.Context, i uint8, v Validator) (ledger.Cosignature, error) {
		c, err := v.Cosign(ctx, d.Type, d.Payload)
		if err == nil {
			c.Validator = i
			err = ledger.VerifyCosignature(program, id, d.Type, d.Payload, c)
		}
		return c, err
	})
	sealed := ledger.Sealed{Payload: d.Payload}
	for i, c := range answers {
		if reasons[i] == nil {
			sealed.Cosignatures = append(sealed.Cosignatures, c)
		}
	}
	if len(sealed.Cosignatures) < int(program.Quorum) {
		return fmt.Errorf("%w: entry %d has %d cosignatures of %d: %w", ErrNoQuorum, d.Number, len(sealed.Cosignatures), program.Quorum, errors.Join(reasons...))
	}
	body, err := sealed.Encode()
	if err != nil {
		return err
	}
	var block *ledger.Block
	if d.Type == ledger.TypeBlock {
		if block, err = ledger.DecodeBlock(d.Payload); err != nil {
			return err
		}
	}
	return s.update(ctx, func(tx *store.Tx) error {
		if err := tx.FinishDraft(ctx, d, body); err != nil || block == nil {
			return err
		}
		return tx.OpenBoxes(ctx, program, id, block, d.Number)
	})
}

// ask brings the validators of the log's day up to date and calls them at once, all of them without a list. Answers and reasons are by
// validator.
func ask[T any](ctx context.Context, s *Settler, list []byte, call func(context.Context, uint8, Validator) (T, error)) ([]T, []error) {
	var day []Validator
	for _, v := range s.replay.Current().Validators {
		one := s.c.Validators[v.Name]
		if one == nil {
			one = absent{name: v.Name}
		}
		day = append(day, one)
	}
	p := panel.Panel[Validator]{Validators: day, Patience: s.c.Patience, Entries: s.entries}
	return panel.Ask(ctx, p, s.replay.Next(), list, call)
}

// absent is a validator that is in force and not configured. Nobody is asked for anything but what it has seen before it has seen all.
type absent struct {
	Validator // none
	name      string
}

func (a absent) Next(context.Context) (uint64, error) {
	return 0, fmt.Errorf("%s is not in the list of validators that this collector asks: add it", a.name)
}
