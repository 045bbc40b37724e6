//go:build !hot

package slirp

import (
	"fmt"
	"sync/atomic"
)

// limit counts what there is of one kind, up to a maximum, or until there are no descriptors, and what was turned away.
type limit struct {
	max           int64
	each          int64        // descriptors of one
	files         *descriptors // where it gets them
	what          string
	warn          func(string) // called once for each reason
	full, without atomic.Bool  // these
	now, refusals atomic.Int64
}

func (l *limit) take() bool {
	if l.now.Add(1) > l.max {
		l.refuse(&l.full, fmt.Sprintf("%d %s at a time are the most; more are refused", l.max, l.what))
		return false
	}
	if !l.files.take(l.each) {
		l.refuse(&l.without, fmt.Sprintf("no descriptors are left for %s (ulimit -n); more are refused", l.what))
		return false
	}
	return true
}

func (l *limit) refuse(told *atomic.Bool, text string) {
	l.now.Add(-1)
	l.refusals.Add(1)
	if !told.Swap(true) {
		l.warn(text)
	}
}

func (l *limit) give() {
	l.files.give(l.each)
	l.now.Add(-1)
}
