//go:build !hot

package slirp

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// descriptors are those that flows may have, of all sandboxes of this process: RLIMIT_NOFILE, which the
// runtime has raised as far as it goes, without what links, ports, logs and questions need. So the last
// flow that there is room for is refused by us, and nothing else meets EMFILE.
type descriptors struct {
	free  atomic.Int64
	whole *descriptors // of which these are a part; nil is none
}

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

// part is what one of several sandboxes may have: half of all, whatever the others have.
func (d *descriptors) part() *descriptors {
	p := &descriptors{whole: d}
	p.free.Store(d.free.Load() / 2)
	return p
}

func (d *descriptors) take(n int64) bool {
	if d.free.Add(-n) < 0 || d.whole != nil && !d.whole.take(n) {
		d.free.Add(n)
		return false
	}
	return true
}

func (d *descriptors) give(n int64) {
	d.free.Add(n)
	if d.whole != nil {
		d.whole.give(n)
	}
}
