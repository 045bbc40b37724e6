//go:build !hot

package slirp

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// descriptors are those that flows may have, of all sandboxes of this process: RLIMIT_NOFILE, which the
// runtime has raised as far as it goes, without what links, ports, logs and questions need. So the last
// flow that there is room for is refused by us, and nothing else meets EMFILE.
type descriptors struct{ free atomic.Int64 }

// reserved is what is kept from flows, or half of what there is.
const reserved = 2*maxDNS + 256

func newDescriptors() *descriptors {
	d := new(descriptors)
	n := int64(1024)
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		n = int64(min(limit.Cur, 1<<30))
	}
	d.free.Store(max(n-reserved, n/2))
	return d
}

func (d *descriptors) take(n int64) bool {
	if d.free.Add(-n) < 0 {
		d.free.Add(n)
		return false
	}
	return true
}

func (d *descriptors) give(n int64) { d.free.Add(n) }

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
