//go:build !hot

package slirp

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// floor is which connection something has come on last, of all that pass by here.
//
// While a client and a server talk, a few bytes this way, a few that way, most of the time that takes is
// for waking up whoever is to pass them on. So where nothing else comes between, who has passed on a word
// listens for the next one, both ways, and sleeps only when none comes. Others have the processor meanwhile.
type floor struct {
	has  atomic.Pointer[way]
	rest atomic.Int64 // nanoseconds of Unix time until which it does not pay to listen
}

const (
	word     = 4 << 10 // bytes at most
	patience = 100 * time.Microsecond
	words    = 32                    // after so many it is the turn of those whom nobody has looked after
	pause    = 10 * time.Millisecond // after listening in vain, which a hundredth of the time is spent on, at most
)

// take says whether it is the same connection again.
func (f *floor) take(w, back *way) bool {
	last := f.has.Swap(w)
	return last == w || last == back
}

// leave: something else has come.
func (f *floor) leave() { f.has.Store(nil) }

func (f *floor) listen(w, back *way) {
	now := time.Now()
	if now.UnixNano() < f.rest.Load() {
		return
	}
	for range words {
		for begin := now; ; {
			spoken, over := back.try()
			if !spoken && !over {
				spoken, over = w.try()
			}
			now = time.Now()
			if spoken {
				break
			}
			if over || now.Sub(begin) > patience {
				f.rest.Store(now.Add(pause).UnixNano())
				return
			}
			unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
	}
}
