//go:build !hot

package slirp

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// idle is connected, and has nothing waiting.
type idle struct{ tcpip.Endpoint }

func (idle) Readiness(mask waiter.EventMask) waiter.EventMask           { return mask }
func (idle) GetSockOptInt(tcpip.SockOptInt) (n int, failed tcpip.Error) { return 0, nil }

func newIdle(t *testing.T, s *Stack) idle {
	t.Helper()
	ep, err := s.ip.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, new(waiter.Queue))
	if err != nil {
		t.Fatal(err)
	}
	return idle{ep}
}

// All that flows may have is what there is, however greedy each of them is in its time; and who has nothing waiting
// gives back what others ask for.
func TestRoom(t *testing.T) {
	s, err := New(Default(nil, false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := s.room
	enter := func() *endpoint {
		e := &endpoint{ep: newIdle(t, s), room: r, most: s.most}
		r.enter(e)
		return e
	}
	granted := func() (sum int) {
		for e := range r.flows {
			options := e.ep.SocketOptions()
			if size := (share{int(options.GetReceiveBufferSize()), int(options.GetSendBufferSize())}); size != e.may {
				t.Fatalf("a flow may have %+v, and has %+v", e.may, size)
			}
			sum += e.may.size() - least.size()
		}
		return sum
	}
	r.swept = time.Now().Add(time.Hour) // nobody gives back yet
	for range maxTCP {
		e := enter()
		for r.more(e, true, true) {
		}
		if e.most.receive != maxReceive {
			t.Fatal("the window has another limit")
		}
	}
	if n := granted(); n > maxWaiting || n+r.free != maxWaiting || n < maxWaiting/2 {
		t.Errorf("%d bytes are given away, and %d left, of %d", n, r.free, maxWaiting)
	}
	last := enter()
	if r.more(last, true, false) {
		t.Error("there was something left")
	}
	r.swept = time.Time{}
	for r.more(last, true, true) {
	}
	if last.may != last.most {
		t.Errorf("nobody gave back: %+v", last.may)
	}
	if n := granted(); n+r.free != maxWaiting {
		t.Errorf("%d bytes are given away, and %d left, of %d", n, r.free, maxWaiting)
	}
	for e := range r.flows {
		r.leave(e)
		e.ep.Close()
	}
	if r.free != maxWaiting {
		t.Errorf("%d left of %d", r.free, maxWaiting)
	}
}

// All flows together have a bounded number of small pieces, whatever each has had before others came, but for the few
// that everybody may have.
func TestPieces(t *testing.T) {
	s, err := New(Default(nil, false))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := s.room
	var flows []*endpoint
	for range maxTCP {
		e := &endpoint{room: r, may: least}
		e.sent(0)
		e.sent(smallPiece)
		if e.small.Load() != 0 {
			t.Fatal("it was no small one")
		}
		for !e.crowded() {
			e.sent(1)
		}
		flows = append(flows, e)
	}
	sum := int64(0)
	for _, e := range flows {
		sum += e.small.Load()
	}
	if sum != r.small.Load() || sum > allPieces+maxTCP*ownPieces {
		t.Errorf("%d small pieces, and %d counted", sum, r.small.Load())
	}
	flows[0].ep = newIdle(t, s)
	r.flows[flows[0]] = struct{}{}
	r.recount()
	if n := flows[0].small.Load(); n != 0 || flows[1].crowded() {
		t.Errorf("%d of those that are acknowledged count", n)
	}
	for _, e := range flows {
		r.leave(e)
	}
	if n := r.small.Load(); n != 0 {
		t.Errorf("%d are left", n)
	}
}
