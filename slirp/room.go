//go:build !hot

package slirp

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// What flows of TCP may have waiting in the stack, from the sandbox and to it. Each has a little of its own, and what
// makes it fast comes out of what is there for all: so they never have more, in whatever order they
// begin, and fill what they have. The link is short: more than maxReceive and maxSend makes nothing faster.
const (
	minReceive = 8 << 10
	minSend    = 4 << 10
	maxReceive = 1 << 20
	maxSend    = 512 << 10
	maxWaiting = 32 << 20 // of all flows together, beyond that

	sweepTime = time.Second
)

// room is what is left of maxWaiting, and who has some.
type room struct {
	small atomic.Int64 // pieces, of all flows

	mu    sync.Mutex
	free  int
	flows map[*endpoint]struct{}
	swept time.Time

	recounted time.Time
}

func newRoom() *room { return &room{free: maxWaiting, flows: map[*endpoint]struct{}{}} }

// share is what a flow may have waiting.
type share struct{ receive, send int }

var least = share{minReceive, minSend}

func (b share) size() int { return b.receive + b.send }

// enter gives a flow what is everybody's, and if there is much left, some more.
func (r *room) enter(e *endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flows[e] = struct{}{}
	now := least
	if r.free > maxWaiting/2 {
		now = share{min(e.most.receive, 8*minReceive), min(e.most.send, 8*minSend)}
	}
	r.set(e, now)
}

func (r *room) leave(e *endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free += e.may.size() - least.size()
	r.small.Add(-e.small.Load())
	delete(r.flows, e)
}

// set is called with the lock held. Where a flow has more waiting than it may have now, nothing is added.
func (r *room) set(e *endpoint, to share) {
	from := e.may
	if from == (share{}) {
		from = least
	}
	r.free -= to.size() - from.size()
	if to.receive != e.may.receive {
		e.ep.SocketOptions().SetReceiveBufferSize(int64(to.receive), true)
	}
	if to.send != e.may.send {
		e.ep.SocketOptions().SetSendBufferSize(int64(to.send), true)
	}
	e.may = to
}

// more is called when a flow has filled what it may have: it returns whether it may have more now.
func (r *room) more(e *endpoint, receive, send bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if send && e.ep.SocketOptions().GetSendBufferSize() != int64(e.may.send) {
		e.ep.SocketOptions().SetSendBufferSize(int64(e.may.send), true) // see waits
		return true
	}
	to := e.may
	if receive {
		to.receive = min(4*to.receive, e.most.receive)
	}
	if send {
		to.send = min(4*to.send, e.most.send)
	}
	if to == e.may {
		return false
	}
	if to.size()-e.may.size() > r.free && time.Since(r.swept) >= sweepTime {
		r.sweep(e)
	}
	if to.size()-e.may.size() > r.free {
		return false
	}
	r.set(e, to)
	return true
}

// sweep takes back what flows have that have nothing waiting.
func (r *room) sweep(but *endpoint) {
	r.swept = time.Now()
	for e := range r.flows {
		if e == but || e.may == least {
			continue
		}
		if n, err := e.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err != nil || n == 0 && e.sentAll() {
			r.set(e, least)
		}
	}
}

// sentAll: the sandbox has acknowledged whatever it was sent. The stack says only whether there is room in
// a buffer, so it has one of a byte for a moment. Who finds no room just then is woken up at its end; and if
// the stack keeps that size, because it has just looked, then it wakes up who waits, too, and more sees it.
func (e *endpoint) sentAll() bool {
	options := e.ep.SocketOptions()
	size := options.GetSendBufferSize()
	options.SetSendBufferSize(1, false)
	defer options.SetSendBufferSize(size, true)
	return e.ep.Readiness(waiter.WritableEvents)&waiter.WritableEvents != 0
}

const farewellTime = time.Minute

// farewell waits until the sandbox has acknowledged all, and the end: until then there may be something waiting
// that somebody must count. One that does not is cut off.
func (e *endpoint) farewell(ctx context.Context) {
	deadline := time.Now().Add(farewellTime)
	for pause := time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		switch tcp.EndpointState(e.ep.State()) {
		case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck, tcp.StateCloseWait:
		default:
			return
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			e.ep.Abort()
			return
		}
		time.Sleep(pause)
	}
}
