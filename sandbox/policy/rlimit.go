package policy

import "strconv"

// A Limit is a number as for setrlimit(2), or one of these two.
type Limit int64

const (
	Unlimited Limit = -1
	OfHost    Limit = -2 // what the caller has
)

func (l Limit) String() string {
	switch l {
	case Unlimited:
		return "unlimited"
	case OfHost:
		return "host"
	}
	return strconv.FormatInt(int64(l), 10)
}

// MarshalJSON writes a number, "unlimited" or "host".
func (l Limit) MarshalJSON() ([]byte, error) {
	if l < 0 {
		return strconv.AppendQuote(nil, l.String()), nil
	}
	return strconv.AppendInt(nil, int64(l), 10), nil
}

// An Rlimit is one resource limit; the name is that of --ulimit.
type Rlimit struct {
	Name string `json:"name"`
	Soft Limit  `json:"soft"`
	Hard Limit  `json:"hard"`
}

// Under returns the limit's two values for a caller who has soft and hard: an
// ordinary user cannot go above hard, so nor does the preset.
func (r Rlimit) Under(soft, hard uint64) (uint64, uint64) {
	s, h := r.Soft.under(soft, hard), r.Hard.under(hard, hard)
	return min(s, h), h
}

func (l Limit) under(own, most uint64) uint64 {
	switch l {
	case Unlimited:
		return most
	case OfHost:
		return own
	}
	return min(uint64(l), most)
}
