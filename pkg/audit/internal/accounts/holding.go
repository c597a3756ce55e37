package accounts

import (
	"fmt"
	"slices"

	"rawstone/pkg/account"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// A holding is what an account has, and what bounds what it may ask for.
type holding struct {
	keyed     bool
	key       wire.PublicKey // of its requests, once keyed
	activated uint32         // 0 for not yet
	cars      int            // open bindings
	milli     uint64         // drawn and won less redeemed
	crystals  cultivation.Crystals
	goods     []string // won, in order
	tasks     map[string]tally
	items     map[string]uint32 // redeemed
}

// A tally counts the crystals an account was granted for a task. A grant is of the log's day or the one before, so two days suffice.
type tally struct {
	total          uint64
	day            uint32 // the last with a grant
	today, earlier uint64 // on it, and on the day before it
}

// on returns what was granted on a day, which is at least the one before the last with a grant.
func (t tally) on(day uint32) uint64 {
	switch {
	case day == t.day:
		return t.today
	case day < t.day:
		return t.earlier
	}
	return 0
}

// with returns the tally with n more crystals on such a day.
func (t tally) with(day uint32, n uint32) tally {
	t.total += uint64(n)
	switch {
	case day < t.day:
		t.earlier += uint64(n)
	case day == t.day:
		t.today += uint64(n)
	case day-t.day == 1:
		t.day, t.today, t.earlier = day, uint64(n), t.today
	default:
		t.day, t.today, t.earlier = day, uint64(n), 0
	}
	return t
}

// A feature is a credit that proves the use of one.
type feature struct{ account, kind string }

// An occasion is what is granted for once: a task and a reference, or the credit that proves the use of a feature, whatever the task is
// called that gives crystals for it in the offers of the day.
type occasion struct {
	account, task string // no task for a credit: it is of one kind
	reference     wire.Hash
}

// holding returns an account's, for what is taken in.
func (o *Accounts) holding(account string) *holding {
	h := o.holdings[account]
	if h == nil {
		h = &holding{tasks: make(map[string]tally), items: make(map[string]uint32)}
		o.holdings[account] = h
	}
	return h
}

// of returns an account's holding for checks; the empty one changes nothing of the state.
func (o *Accounts) of(account string) *holding {
	if h := o.holdings[account]; h != nil {
		return h
	}
	return new(holding)
}

// matched checks that an opening is its entry's.
func matched(what string, have wire.Hash, blind func() (wire.Hash, error)) error {
	b, err := blind()
	if err == nil && b != have {
		err = fmt.Errorf("%s's blind is %s, its opening's is %s", what, have, b)
	}
	return err
}

// Change checks the change of an account that is the entry of that number. An account is activated once, on a day from first to last.
func (o *Accounts) Change(number uint64, c account.Change, first, last uint32) (func(), error) {
	op, ok := o.opener.Change(number)
	if !ok && o.opener.Erased(number) {
		return o.erased.entry, nil
	}
	if !ok {
		return nil, fmt.Errorf("account %w", ErrNoOpening)
	}
	if err := matched("account", c.Blind, op.Blind); err != nil {
		return nil, err
	}
	if _, ok := o.opener.Secret(op.Account); !ok {
		return nil, fmt.Errorf("account %q has no secret among the openings", op.Account)
	}
	if _, err := op.Key.Key(); err != nil {
		return nil, fmt.Errorf("account %q: %w", op.Account, err)
	}
	switch h := o.of(op.Account); {
	case op.Activated == h.activated:
	case h.activated != 0:
		return nil, fmt.Errorf("account %q is activated on day %d, should be on day %d as before", op.Account, op.Activated, h.activated)
	case op.Activated < first || op.Activated > last:
		return nil, fmt.Errorf("account %q is activated on day %d, should be from %d to %d", op.Account, op.Activated, first, last)
	}
	return func() {
		h := o.holding(op.Account)
		h.keyed, h.key, h.activated = true, op.Key, op.Activated
	}, nil
}

// Grant checks the grant that is the entry of that number. The offers are those in force on its day, nil for none.
func (o *Accounts) Grant(number uint64, g account.Grant, offers *cultivation.Offers) (func(), error) {
	op, ok := o.opener.Grant(number)
	if !ok && o.opener.Erased(number) {
		return o.erased.grant(g), nil
	}
	if !ok {
		return nil, fmt.Errorf("grant %w", ErrNoOpening)
	}
	if err := matched("grant", g.Blind, op.Blind); err != nil {
		return nil, err
	}
	h := o.of(op.Account)
	if !h.keyed {
		return nil, fmt.Errorf("grant is of account %q, which has no key", op.Account)
	}
	if offers == nil {
		return nil, fmt.Errorf("grant is of day %d, on which no offers are in force", g.Day)
	}
	task := offers.Task(op.Task)
	if task == nil {
		return nil, fmt.Errorf("grant is for task %q, which is not in offers %d, in force on day %d", op.Task, offers.Serial, g.Day)
	}
	if g.Crystals != task.Crystals {
		return nil, fmt.Errorf("grant gives %d crystals, should give %d, as offered for task %q", g.Crystals, task.Crystals, op.Task)
	}
	once := occasion{op.Account, op.Task, op.Reference}
	if task.Kind != "" {
		once.task = ""
	}
	if _, twice := o.granted[once]; twice {
		return nil, fmt.Errorf("grant for task %q and reference %s stands a second time", op.Task, op.Reference)
	}
	if task.Kind != "" && o.features[op.Reference] != (feature{op.Account, task.Kind}) {
		return nil, fmt.Errorf("grant for task %q refers to %s, which is no credit of kind %q of account %q", op.Task, op.Reference, task.Kind, op.Account)
	}
	given := h.tasks[op.Task]
	if err := task.Limit().Allow(given.on(g.Day), given.total, g.Crystals); err != nil {
		return nil, err
	}
	crystals, err := h.crystals.Grant(g.Crystals)
	if err != nil {
		return nil, err
	}
	return func() {
		h := o.holding(op.Account)
		h.crystals, h.tasks[op.Task] = crystals, given.with(g.Day, g.Crystals)
		o.granted[once] = struct{}{}
	}, nil
}

// request checks the opening of a box or redemption and returns it with its account's holding.
func (o *Accounts) request(what string, number uint64, blind wire.Hash) (account.RequestOpening, *holding, error) {
	op, ok := o.opener.Request(number)
	if !ok {
		return op, nil, fmt.Errorf("%s %w", what, ErrNoOpening)
	}
	if err := matched(what, blind, op.Blind); err != nil {
		return op, nil, err
	}
	h := o.of(op.Account)
	if !h.keyed {
		return op, nil, fmt.Errorf("%s is of account %q, which has no key", what, op.Account)
	}
	return op, h, nil
}

func (o *Accounts) isNew(what string, id wire.Hash) error {
	if _, twice := o.requests[id]; twice {
		return fmt.Errorf("%s's request %s stands a second time", what, id)
	}
	return nil
}

// Box checks the request for a mine box, which costs crystals, that is the entry of that number.
func (o *Accounts) Box(number uint64, b account.Box, program wire.Hash, cost uint32) (func(), error) {
	if o.gone(number) {
		return o.erasedBox(number, cost)
	}
	op, h, err := o.request("box", number, b.Blind)
	if err != nil {
		return nil, err
	}
	r, id, err := account.OpenBoxRequest(h.key, program, op.Account, op.Request)
	if err != nil {
		return nil, err
	}
	if r.Offers != b.Offers || r.Box != b.Box {
		return nil, fmt.Errorf("box is %q of offers %d, its request asks for %q of offers %d", b.Box, b.Offers, r.Box, r.Offers)
	}
	if b.Day > r.Until {
		return nil, fmt.Errorf("box is of day %d, its request is good until day %d", b.Day, r.Until)
	}
	if err := o.isNew("box", id); err != nil {
		return nil, err
	}
	if owner := h.cars > 0; b.Owner != owner {
		return nil, fmt.Errorf("box says owner %t, should be %t: account %q has %d cars", b.Owner, owner, op.Account, h.cars)
	}
	crystals, err := h.crystals.Spend(cost)
	if err != nil {
		return nil, err
	}
	return func() {
		h.crystals = crystals
		o.requests[id], o.boxes[number] = struct{}{}, op.Account
	}, nil
}

// Won gives what the box that is the entry of that number held to the account that asked for it. Crystals beyond the bound are lost.
func (o *Accounts) Won(number uint64, p cultivation.Prize) {
	account, known := o.boxes[number]
	if !known {
		o.erased.won(p)
		return
	}
	h := o.holding(account)
	delete(o.boxes, number)
	h.milli += p.Milli
	h.crystals = min(h.crystals+cultivation.Crystals(p.Crystals), cultivation.MaxCrystals)
	if p.Goods != "" {
		h.goods = append(h.goods, p.Goods)
	}
}

// Redemption checks the use of stones that is the entry of that number. The offers are those in force on its day, nil for none.
func (o *Accounts) Redemption(number uint64, e account.Redemption, program wire.Hash, offers *cultivation.Offers) (func(), error) {
	if o.gone(number) {
		return o.erased.redemption(e)
	}
	op, h, err := o.request("redemption", number, e.Blind)
	if err != nil {
		return nil, err
	}
	r, id, err := account.OpenRedemptionRequest(h.key, program, op.Account, op.Request)
	if err != nil {
		return nil, err
	}
	if err := o.isNew("redemption", id); err != nil {
		return nil, err
	}
	if e.Day > r.Until {
		return nil, fmt.Errorf("redemption is of day %d, its request is good until day %d", e.Day, r.Until)
	}
	if offers == nil {
		return nil, fmt.Errorf("redemption is of day %d, on which no offers are in force", e.Day)
	}
	if r.Offers != offers.Serial {
		return nil, fmt.Errorf("redemption's request is of offers %d, should be of %d, which are in force on day %d", r.Offers, offers.Serial, e.Day)
	}
	item := offers.Item(r.Item)
	switch {
	case item == nil:
		return nil, fmt.Errorf("redemption is of item %q, which is not in offers %d", r.Item, offers.Serial)
	case r.Milli != item.Milli || r.Fen != item.Fen:
		return nil, fmt.Errorf("redemption's request is at %d milli-stones and %d fen, should be at %d and %d, the price of item %q", r.Milli, r.Fen, item.Milli, item.Fen, item.ID)
	case e.Milli != item.Milli:
		return nil, fmt.Errorf("redemption uses %d milli-stones, should use %d, the price of item %q", e.Milli, item.Milli, item.ID)
	case item.Limit > 0 && h.items[item.ID] >= item.Limit:
		return nil, fmt.Errorf("redemption is of item %q, of which the account has %d, at most %d allowed", item.ID, h.items[item.ID], item.Limit)
	case !reward.Redeemable(h.activated, e.Day):
		return nil, fmt.Errorf("redemption is of day %d, should be at least %d days after the account's activation on day %d", e.Day, reward.RedeemAfterDays, h.activated)
	case e.Milli > h.milli:
		return nil, fmt.Errorf("redemption uses %d milli-stones, the account has %d", e.Milli, h.milli)
	}
	return func() {
		h.milli -= e.Milli
		h.items[item.ID]++
		o.requests[id] = struct{}{}
	}, nil
}

// Balances returns the stones, in milli-stones, of every account that has any: drawn and won less redeemed.
func (o *Accounts) Balances() map[string]uint64 {
	return positive(o, func(h *holding) uint64 { return h.milli })
}

// Crystals returns the crystals of every account that has any.
func (o *Accounts) Crystals() map[string]uint64 {
	return positive(o, func(h *holding) uint64 { return uint64(h.crystals) })
}

func positive(o *Accounts, amount func(*holding) uint64) map[string]uint64 {
	out := make(map[string]uint64)
	for account, h := range o.holdings {
		if n := amount(h); n > 0 {
			out[account] = n
		}
	}
	return out
}

// Goods returns what an account's boxes held in goods, in order.
func (o *Accounts) Goods(account string) []string { return slices.Clone(o.of(account).goods) }
