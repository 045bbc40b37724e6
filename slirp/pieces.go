//go:build !hot

package slirp

import (
	"syscall"
	"time"
)

// A small piece that waits for its acknowledgement takes many times its size, which the stack does not count. So where
// there are many, a flow that has a few leaves what comes next on the host's socket, where it becomes a larger one.
const (
	smallPiece = 2 << 10
	ownPieces  = 8
	allPieces  = ownPieces * maxTCP
)

// sent counts a piece of n bytes, if it is a small one.
func (e *endpoint) sent(n int) {
	if 0 < n && n < smallPiece {
		e.small.Add(1)
		e.room.small.Add(1)
	}
}

func (e *endpoint) crowded() bool {
	return e.small.Load() >= ownPieces && e.room.small.Load() >= allPieces
}

// settle waits, in a crowd, until none of the flow's own pieces waits, or source has an error.
func (e *endpoint) settle(source syscall.RawConn) error {
	if !e.crowded() {
		return nil
	}
	e.room.recount()
	for pause := time.Millisecond; e.crowded() && !e.acknowledged(); pause = min(2*pause, time.Second/2) {
		if err := socketError(source); err != nil {
			return err
		}
		time.Sleep(pause)
	}
	return nil
}

// acknowledged forgets the pieces of a flow of which none waits any more.
func (e *endpoint) acknowledged() bool {
	n := e.small.Load()
	if !e.sentAll() {
		return false
	}
	if e.small.CompareAndSwap(n, 0) { // else there is another since, which may wait
		e.room.small.Add(-n)
	}
	return true
}

// recount forgets those that have been acknowledged since their flow was sent the last.
func (r *room) recount() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.recounted) < sweepTime {
		return
	}
	r.recounted = time.Now()
	for e := range r.flows {
		if e.small.Load() >= ownPieces {
			e.acknowledged()
		}
	}
}
