package announce

import (
	"fmt"

	"rawstone/collector/internal/offering"
	"rawstone/pkg/audit"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
)

// rules says what the program text does, with the program's parameters filled in.
func rules(p *terms.Program) Rules {
	r := Rules{
		WindowDays: reward.WindowDays, RedeemAfterDays: reward.RedeemAfterDays, EquityPerMille: reward.EquityPerMille, NoticeDays: cultivation.NoticeDays,
		OddsParts: cultivation.Certain, MaxCrystals: uint64(cultivation.MaxCrystals),
	}
	step := func(id, title, format string, args ...any) {
		r.Steps = append(r.Steps, Step{id, title, fmt.Sprintf(format, args...)})
	}
	step("emission", "Emission", "A drop is due every %d seconds. An era is %s drops with weight; the first gives %s, each later one half of the one before. "+
		"S(h) is the floor of what h drops with weight have given. A drop at height h draws K units of %d milli-stones, K = ⌊(S(h+1) − S(h) + carry) / %d⌋, and carries the rest. "+
		"A drop without weight issues nothing and does not advance h. S never reaches %s.",
		p.Timing.DropS, offering.Group(reward.EraDrops), offering.Stones(reward.Emission(reward.EraDrops)), reward.Unit, reward.Unit, offering.Stones(reward.MinedSupply))
	step("weight", "Weight", "An account's weight on program day D is the sum, in kilometres, of its mileage credits that took effect on days D−%d to D−1. "+
		"A credit is the proven tier's kilometres, at most the policy's cap times the days spanned. It names the day on which it takes effect, from the ledger's own day to %d days later.",
		reward.WindowDays, audit.MaxAhead)
	step("commitment", "What is fixed before the draw", "Each day the set of pseudonyms with their weights is cosigned first. Its order follows from a seed that is made afterwards: "+
		"ascending SHA-256(\"rawstone/order/v1\" ‖ seed ‖ pseudonym), where a pseudonym is HMAC-SHA-256(account's secret, \"rawstone/pseudonym/v1\" ‖ day). The root of the Merkle-sum tree over that order is cosigned before any drop of the day.")
	step("seed", "Seed", "Each validator of the day gives the output of its verifiable random function (RFC 9381, ECVRF-EDWARDS25519-SHA512-ELL2) on \"rawstone/alpha/draw/v1\" ‖ root ‖ drop. "+
		"The seed is SHA-256(\"rawstone/seed/v1\" ‖ input ‖ each validator's number and output, ascending). At least %d validators must give theirs; one that misses the deadline is out for the rest of the day, by an entry that everybody sees. Where too few are left, drops stop until the day is over; then those that were out may give theirs again.", p.Quorum)
	step("draw", "Draw", "W is the total weight. r = seed mod W, and unit k of K falls at ⌊(r + k·W) / K⌋. An account whose weight covers [a, b) gets ⌈(b·K − r) / W⌉ − ⌈(a·K − r) / W⌉ units, within one unit of its exact share.")
	step("block", "Block", "Each drop makes one block, whether or not it has weight, chained to the one before by its hash. It is final once %d validators have cosigned it, each after replaying all rules on its own copy of the ledger.", p.Quorum)
	step("box", "Mine boxes", "A request under the account's key is logged first. The block after it fixes its place, before anybody can know the seed of the one after that, which opens it: SHA-256(\"rawstone/box/v1\" ‖ that second block's seed ‖ number of the request's entry), read as a big-endian number modulo %s, "+
		"falls into one of the published parts, laid out in the published order. The worst case of every open box is set aside from the cultivation pool of %s. Anybody may open boxes; only owners can win stones.",
		offering.Group(cultivation.Certain), offering.Stones(reward.CultivatedSupply))
	step("offers", "Notice", "Tasks, odds and catalogue are logged at least %d program days before they are in force, and stay in force until offers of a higher serial are. Validators change by an entry logged at least one program day ahead.", cultivation.NoticeDays)
	step("use", "Use", "Stones belong to an account and never expire. They may be redeemed from %d program days after the account's activation, and an equity statement splits %d.%d %% of the founding-round equity value pro rata, exact to the fen by largest remainder.",
		reward.RedeemAfterDays, reward.EquityPerMille/10, reward.EquityPerMille%10)
	return r
}
