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
		queue := new(waiter.Queue)
		ep, err := s.ip.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, queue)
		if err != nil {
			t.Fatal(err)
		}
		e := &endpoint{ep: idle{ep}, queue: queue, room: r, most: s.most}
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

// Small pieces are sent as long as the first of them does not wait any more.
func TestPieces(t *testing.T) {
	var p pieces
	p.sent(1 << 20)
	if p != (pieces{}) {
		t.Errorf("a large one alone: %+v", p)
	}
	p.sent(1)
	p.sent(1 << 20)
	p.sent(0)
	p.sent(smallPiece - 1)
	if want := (pieces{2, smallPiece + 1<<20}); p != want {
		t.Errorf("%+v", p)
	}
}
