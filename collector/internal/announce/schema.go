package announce

import "rawstone/collector/internal/offering"

// The types here are the JSON form, which schema.json describes as a JSON Schema. Amounts are integers of milli-stones unless the name says
// otherwise; days are program days; dates are those of the program's offset; hashes and keys are in lower-case hexadecimal; lists
// are there also when they are empty. Exact decimals and fractions are strings.
type (
	// An Announcement is the yearly publication.
	Announcement struct {
		Format      string         `json:"format"`
		Year        int            `json:"year"`
		Ledger      Ledger         `json:"ledger"`
		Program     Program        `json:"program"`
		Period      Period         `json:"period"`
		State       *State         `json:"state"`
		Emission    Emission       `json:"emission"`
		Cultivation Cultivation    `json:"cultivation"`
		Rules       Rules          `json:"rules"`
		Validators  []ValidatorSet `json:"validators"`
		Charter     *Charter       `json:"charter"`
		Kinds       []Kind         `json:"kinds"`
		Policies    []Policy       `json:"policies"`
		Offers      []Offers       `json:"offers"`
	}
	// A Ledger says which entries an announcement is made from: the first Size ones, whose Merkle tree (RFC 6962) has this root.
	Ledger struct {
		Size uint64 `json:"size"`
		Root string `json:"root"`
		// Key is the note verifier of the log's checkpoints.
		Key string `json:"key"`
	}
	// A Program is what the program document fixes.
	Program struct {
		ID          string   `json:"id"`
		Name        string   `json:"name"`
		Environment string   `json:"environment"`
		Genesis     string   `json:"genesis"` // RFC 3339, UTC
		OffsetS     int64    `json:"offset_s"`
		DayS        uint32   `json:"day_s"`
		DropS       uint32   `json:"drop_s"`
		Root        string   `json:"root_key"`
		PolicyKeys  []string `json:"policy_keys"`
		BoardKeys   []string `json:"board_keys"`
		BoardQuorum uint8    `json:"board_quorum"`
		Quorum      uint8    `json:"validator_quorum"`
	}
	// Days are from one program day to another, both included; ToDay is nil when no end is known, or when it is the last day that
	// a document can name.
	Days struct {
		FromDay  uint32  `json:"from_day"`
		FromDate string  `json:"from_date"`
		ToDay    *uint32 `json:"to_day"`
		ToDate   *string `json:"to_date"`
	}
	// A Period is the year's program days, less those before genesis.
	Period struct{ Days }
	// A State is what the last block said; the announcement's is nil before the first.
	State struct {
		Drop            uint64 `json:"drop"`
		Day             uint32 `json:"day"`
		Date            string `json:"date"`
		Height          uint64 `json:"height"` // after the drop
		SupplyMilli     uint64 `json:"supply_milli"`
		CultivatedMilli uint64 `json:"cultivated_milli"`
		Boxes           uint64 `json:"boxes_opened"`
		RedeemedMilli   uint64 `json:"redeemed_milli"`
	}
	// An Amount is what the drops [FromDrop, ToDrop) may give.
	Amount struct {
		FromDrop uint64 `json:"from_drop"`
		ToDrop   uint64 `json:"to_drop"`
		// ScheduledMilli is S(to) − S(from): every drop since genesis has weight. AtMostMilli is the most that the span can issue, in
		// whole units, whatever drops before it had none. SupplyMilli is S(to), which all that was ever mined cannot exceed at the span's end.
		ScheduledMilli uint64 `json:"scheduled_milli"`
		AtMostMilli    uint64 `json:"at_most_milli"`
		SupplyMilli    uint64 `json:"supply_at_most_milli"`
	}
	// An Emission is what mileage may mine.
	Emission struct {
		TotalMilli uint64 `json:"total_supply_milli"`
		MinedMilli uint64 `json:"mined_supply_milli"`
		EraDrops   uint64 `json:"era_drops"`
		UnitMilli  uint64 `json:"unit_milli"`
		Amount
		Months []Month `json:"months"`
		Eras   []Era   `json:"eras"`
	}
	// A Month is one of the year's.
	Month struct {
		Month string `json:"month"` // 2026-01
		Days
		Amount
	}
	// An Era is the part of an emission era that lies in the year, by the numbers of drops.
	Era struct {
		Era      uint64 `json:"era"` // from 1
		FromDrop uint64 `json:"from_drop"`
		ToDrop   uint64 `json:"to_drop"`
		// DropMilli is the emission of one drop, an exact decimal.
		DropMilli      string `json:"drop_milli"`
		ScheduledMilli uint64 `json:"scheduled_milli"`
		// EndsEarliest is the date of the next era's first drop if all drops have weight; each without puts it off by one.
		EndsEarliest string `json:"ends_earliest"`
	}
	// A Cultivation is what mine boxes may give.
	Cultivation struct {
		SupplyMilli uint64 `json:"supply_milli"`
		GivenMilli  uint64 `json:"given_milli"`
		LeftMilli   uint64 `json:"left_at_most_milli"`
	}
	// Rules are constants of the program text, and what it does with them in words.
	Rules struct {
		WindowDays      uint32 `json:"window_days"`
		RedeemAfterDays uint32 `json:"redeem_after_days"`
		EquityPerMille  uint32 `json:"equity_per_mille"`
		NoticeDays      uint32 `json:"offers_notice_days"`
		OddsParts       uint32 `json:"odds_parts"`
		MaxCrystals     uint64 `json:"max_crystals"`
		Steps           []Step `json:"steps"`
	}
	// A Step is one rule in words.
	Step struct {
		ID    string `json:"id"`
		Title string `json:"title"`
		Text  string `json:"text"`
	}
	// Logged says where a document stands: the number of its entry, and the log's day by then.
	Logged struct {
		Entry uint64 `json:"entry"`
		Day   uint32 `json:"logged_day"`
		Date  string `json:"logged_date"`
	}
	// A ValidatorSet is who the validators are on some days. Serial 0 is the program's own set.
	ValidatorSet struct {
		Serial uint16 `json:"serial"`
		Days
		Logged
		Validators []Validator `json:"validators"`
	}
	// A Validator is one party.
	Validator struct {
		Name string `json:"name"`
		Key  string `json:"key"`     // Ed25519, cosignatures
		VRF  string `json:"vrf_key"` // RFC 9381
	}
	// A Charter is the last data charter in the log.
	Charter struct {
		Serial uint16 `json:"serial"`
		Logged
		Kinds            []string `json:"kinds"`
		TierRatioMilli   uint16   `json:"tier_ratio_milli"`
		Families         []string `json:"families"`
		EpsilonMicro     uint32   `json:"epsilon_micro"`
		DeltaPico        uint32   `json:"delta_pico"`
		Clip             uint32   `json:"clip"`
		YearlyDispatches uint16   `json:"yearly_dispatches"`
	}
	// A Kind says which policies of a kind are in force when, in the year.
	Kind struct {
		Kind     string    `json:"kind"`
		Segments []Segment `json:"segments"`
	}
	// A Segment is some days under one policy. Serial is nil when there is none; Stopped says that it stops the kind.
	Segment struct {
		Days
		Serial  *uint16 `json:"serial"`
		Stopped bool    `json:"stopped"`
	}
	// A Policy is one that is in force in the year, or announced for later.
	Policy struct {
		Serial uint16 `json:"serial"`
		Kind   string `json:"kind"`
		Days
		Logged
		CapKm        uint32   `json:"cap_km_per_day"`
		MinAgent     string   `json:"min_agent"`
		Stop         bool     `json:"stop"`
		Circuit      string   `json:"circuit"`
		ProvingKey   string   `json:"proving_key"`
		VerifyingKey string   `json:"verifying_key"`
		Lock         string   `json:"lock"`
		Rows         []string `json:"rows"` // in words, asked by every tier
		Tiers        []Tier   `json:"tiers"`
	}
	// A Tier is one threshold: what it credits, 0 where the kind credits none, and what it asks beyond the common rows.
	Tier struct {
		Km   uint32   `json:"km"`
		Rows []string `json:"rows"`
	}
	// Offers are those in force in the year, or announced for later.
	Offers struct {
		Serial uint16 `json:"serial"`
		Days
		Logged
		DailyCrystals uint64              `json:"daily_crystals_at_most"`
		Tasks         []offering.Task     `json:"tasks"`
		Boxes         []offering.ShownBox `json:"boxes"`
		Catalogue     []offering.Item     `json:"catalogue"`
	}
)
