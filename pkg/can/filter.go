package can

// A Filter matches identifiers: id&Mask == ID&Mask, the rule of struct can_filter of linux/can.h. ID and Mask carry bit 31
// (Extended), so that a mask with it tells the formats apart and one without it does not. The zero Filter matches every
// identifier. Inverted filters (CAN_INV_FILTER) are refused: the identifiers have no bit for it.
type Filter struct{ ID, Mask ID }

// Exact matches one identifier in its own format only.
func Exact(id ID) Filter { return Filter{ID: id, Mask: Extended | MaxExtended} }

// Match reports whether the filter lets id pass.
func (f Filter) Match(id ID) bool { return (id^f.ID)&f.Mask == 0 }

// A Matcher says whether any filter of a list lets an identifier pass, at a cost that hardly grows with the list. A nil Matcher
// lets everything pass. It is safe for concurrent use.
type Matcher struct {
	standard [(MaxStandard + 1) / 64]uint64 // a bit for each identifier
	exact    map[ID]struct{}                // of extended identifiers
	wide     []Filter                       // the other filters that may match an extended identifier
}

// NewMatcher compiles filters. Nil lets everything pass, an empty list nothing.
func NewMatcher(filters []Filter) *Matcher {
	if filters == nil {
		return nil
	}
	m := &Matcher{exact: make(map[ID]struct{})}
	for _, f := range filters {
		for id := range MaxStandard + 1 {
			if f.Match(id) {
				m.standard[id/64] |= 1 << (id % 64)
			}
		}
		switch {
		case f == Exact(f.ID) && f.ID.IsExtended():
			m.exact[f.ID] = struct{}{}
		case f.Mask&Extended == 0 || f.ID.IsExtended():
			m.wide = append(m.wide, f)
		}
	}
	return m
}

// Match reports whether a valid identifier passes.
func (m *Matcher) Match(id ID) bool {
	switch {
	case m == nil:
		return true
	case id <= MaxStandard:
		return m.standard[id/64]&(1<<(id%64)) != 0
	}
	for _, f := range m.wide {
		if f.Match(id) {
			return true
		}
	}
	_, ok := m.exact[id]
	return ok
}
