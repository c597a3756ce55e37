package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"rawstone/pkg/account"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Player lives an owner's life with the app: it registers a key, activates the account, is granted crystals for the day's tasks, opens the
// cheapest mine boxes that it can pay for, one at a time, and redeems what it can.
type player struct {
	client
	backend client
	account string
	key     *ecdsa.PrivateKey
	former  *ecdsa.PrivateKey // that key replaces, nil where the state directory holds none
	program wire.Hash
	log     *slog.Logger
	// granted is the day for which the backend granted its task, pending the opening that is waited for, 0 for none.
	granted uint32
	pending uint64
}

// Play plays all accounts until ctx is done, which is no error. What the API refuses is said and tried again later.
func Play(ctx context.Context, cfg *Config, logger *slog.Logger) error {
	program, id, err := terms.LoadProgram(cfg.Program.Root, cfg.Program.File)
	if err != nil {
		return err
	}
	if program.Environment != wire.Development {
		return errors.New("cannot play the app: the program is one of production, whose accounts are people's")
	}
	is, err := openIssuer(cfg, false)
	if err != nil {
		return err
	}
	web, err := newHTTP(cfg)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range cfg.Accounts {
		key, err := loadKey(accountFile(cfg, a), false)
		if err != nil {
			return err
		}
		former, err := loadFormer(cfg, a)
		if err != nil {
			return err
		}
		as := func(subject string) client { return client{cfg.API, web, is, subject, time.Now} }
		p := &player{client: as(a), backend: as(""), account: a, key: key, former: former, program: id, log: logger}
		group.Go(func() error {
			p.run(ctx, cfg.Every)
			return nil
		})
	}
	logger.Info("app ready", "accounts", len(cfg.Accounts))
	return group.Wait()
}

func (p *player) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := p.turn(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("the app got no further", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// turn does what can be done now.
func (p *player) turn(ctx context.Context) error {
	var me profile
	if err := p.get(ctx, "/v1/account", &me); err != nil {
		return err
	}
	if err := p.settleIn(ctx, &me); err != nil {
		return err
	}
	if err := p.earn(ctx, &me); err != nil {
		return err
	}
	if err := p.open(ctx, &me); err != nil {
		return err
	}
	return p.redeem(ctx, &me)
}

// settleIn registers the key and activates the account.
func (p *player) settleIn(ctx context.Context, me *profile) error {
	pub, err := wire.NewPublicKey(p.key.Public())
	if err != nil {
		return err
	}
	if me.Key == nil || me.Key.ID != pub.ID().String() {
		body, err := p.keyBody(pub, me)
		if err != nil {
			return err
		}
		if err := p.do(ctx, http.MethodPut, "/v1/account/key", ScopeSpend, body, me); err != nil {
			return err
		}
		p.log.Info("account key registered")
	}
	if me.Activated == nil {
		if err := p.do(ctx, http.MethodPost, "/v1/account/activation", ScopeSpend, struct{}{}, me); err != nil {
			return err
		}
		p.log.Info("account activated")
	}
	return nil
}

// keyBody asks to register the key, with the consent of the one in force where there is one.
func (p *player) keyBody(pub wire.PublicKey, me *profile) (map[string]string, error) {
	r := &account.KeyRequest{Program: p.program, Account: p.account, Nonce: nonce(), Key: pub}
	var former []byte
	if me.Key != nil {
		lost := fmt.Errorf("cannot register key: the one in force has to agree: put it into the state directory as %s, or have the program's operator register the new one with `collector account rekey`",
			filepath.Base(formerFile(&Config{}, p.account)))
		if p.former == nil {
			return nil, lost
		}
		old, err := wire.NewPublicKey(p.former.Public())
		if err != nil {
			return nil, err
		}
		if r.Replaces = old.ID(); r.Replaces.String() != me.Key.ID {
			return nil, lost
		}
		if former, err = account.SealFormer(p.former, r); err != nil {
			return nil, err
		}
	}
	signed, err := account.SealKeyRequest(p.key, r)
	if err != nil {
		return nil, err
	}
	body := signedBody(signed)
	if former != nil {
		body["former"] = base64.StdEncoding.EncodeToString(former)
	}
	return body, nil
}

// earn has the backend grant the first task, once a day, and claims what the car has proven.
func (p *player) earn(ctx context.Context, me *profile) error {
	var tasks edition[task]
	if err := p.get(ctx, "/v1/tasks", &tasks); err != nil || tasks.InForce == nil {
		return err
	}
	for _, t := range tasks.InForce.List {
		var g grant
		var err error
		switch {
		case t.Kind != "":
			err = p.do(ctx, http.MethodPost, path.Join("/v1/tasks", t.ID, "claims"), ScopeSpend, struct{}{}, &g)
		case p.granted == me.Today:
			continue
		default:
			p.granted = me.Today
			done := sha256.Sum256(fmt.Appendf(nil, "%s on program day %d", t.ID, me.Today))
			err = p.backend.do(ctx, http.MethodPost, path.Join("/v1/tasks", t.ID, "grants"), ScopeGrant,
				map[string]any{"account": p.account, "reference": hex.EncodeToString(done[:])}, &g)
		}
		var refused *Problem
		if errors.As(err, &refused) && refused.Status < 500 {
			continue // nothing to claim, or the task's limit is reached
		} else if err != nil {
			return err
		}
		me.Crystals += g.Crystals
		p.log.Info("crystals granted", "task", g.Task, "crystals", g.Crystals)
	}
	return nil
}

// open asks for the cheapest box, or looks at the one that was asked for.
func (p *player) open(ctx context.Context, me *profile) error {
	if p.pending != 0 {
		var o opening
		if err := p.get(ctx, "/v1/openings/"+strconv.FormatUint(p.pending, 10), &o); err != nil {
			return err
		}
		if o.State == "opened" && o.Prize != nil {
			p.pending = 0
			p.log.Info("mine box opened", "box", o.Box, "prize_milli_stones", o.Prize.Milli, "prize_crystals", o.Prize.Crystals, "prize_goods", o.Prize.Goods)
		}
		return nil
	}
	var boxes edition[box]
	if err := p.get(ctx, "/v1/boxes", &boxes); err != nil || boxes.InForce == nil || len(boxes.InForce.List) == 0 {
		return err
	}
	cheapest := slices.MinFunc(boxes.InForce.List, func(a, b box) int { return int(a.Cost) - int(b.Cost) })
	if cheapest.Cost > me.Crystals {
		return nil
	}
	signed, err := account.SealBoxRequest(p.key, &account.BoxRequest{
		Program: p.program, Account: p.account, Nonce: nonce(), Offers: boxes.InForce.Serial, Box: cheapest.ID, Until: me.Today + 1,
	})
	if err != nil {
		return err
	}
	var o opening
	if err := p.do(ctx, http.MethodPost, path.Join("/v1/boxes", cheapest.ID, "openings"), ScopeSpend, signedBody(signed), &o); err != nil {
		return err
	}
	p.pending = o.ID
	p.log.Info("mine box asked for", "box", cheapest.ID, "crystals", cheapest.Cost)
	return nil
}

// redeem redeems the cheapest item that the stones are enough for, once they may be used.
func (p *player) redeem(ctx context.Context, me *profile) error {
	if me.RedeemableFrom == nil || me.Today < *me.RedeemableFrom {
		return nil
	}
	var items edition[item]
	if err := p.get(ctx, "/v1/catalogue", &items); err != nil || items.InForce == nil {
		return err
	}
	list := slices.DeleteFunc(items.InForce.List, func(i item) bool { return i.Milli == 0 || i.Milli > me.Milli })
	if len(list) == 0 {
		return nil
	}
	i := slices.MinFunc(list, func(a, b item) int { return int(a.Milli) - int(b.Milli) })
	signed, err := account.SealRedemptionRequest(p.key, &account.RedemptionRequest{
		Program: p.program, Account: p.account, Nonce: nonce(), Offers: items.InForce.Serial, Item: i.ID, Milli: i.Milli, Fen: i.Fen, Until: me.Today + 1,
	})
	if err != nil {
		return err
	}
	var r redemption
	err = p.do(ctx, http.MethodPost, "/v1/redemptions", ScopeSpend, signedBody(signed), &r)
	var refused *Problem
	if errors.As(err, &refused) && refused.Status < 500 {
		return nil // the item's limit is reached
	} else if err != nil {
		return err
	}
	p.log.Info("stones redeemed", "item", r.Item, "milli_stones", r.Milli, "fen", r.Fen)
	return nil
}

func signedBody(signed []byte) map[string]string {
	return map[string]string{"request": base64.StdEncoding.EncodeToString(signed)}
}

func nonce() (n [16]byte) {
	rand.Read(n[:])
	return n
}
