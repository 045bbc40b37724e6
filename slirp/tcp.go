//go:build !hot

package slirp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"sbx/slirp/egress"
)

// errTooMany is for the log.
const errTooMany = "too many flows at a time"

const dialTimeout = 30 * time.Second

// forwardTCP answers a SYN from the sandbox as whoever it is for does.
func (s *Stack) forwardTCP(r *tcp.ForwarderRequest) {
	dst := target(r.ID())
	if s.config.resolves(dst.Addr()) && dst.Port() == dnsPort {
		if !s.questions.take() {
			r.Complete(true)
			return
		}
		defer s.questions.give()
		if inside, err := s.accept(r); err == nil {
			s.answerTCP(inside)
			s.room.leave(inside)
		}
		return
	}
	f := s.log.begin("tcp", dst)
	defer f.end()
	if !s.tcps.take() {
		f.refuse(errTooMany)
		r.Complete(true)
		return
	}
	defer s.tcps.give()
	v := s.judge(f, "tcp", dst)
	if !v.Allowed {
		r.Complete(true) // a RST: refused at once, whatever the reason
		return
	}
	if v.Peek != egress.Whole {
		s.forwardNamed(r, f, dst, v)
		return
	}
	outside, err := s.dialTCP(dst)
	if err != nil {
		s.refused(f, err)
		r.Complete(true)
		return
	}
	inside, err := s.accept(r)
	if err != nil {
		outside.Close()
		return
	}
	defer s.room.leave(inside)
	inside.flow = f
	keepAlive(inside.ep)
	s.relay(inside, outside)
}

// forwardNamed completes the handshake first: what the flow then says decides where it goes.
func (s *Stack) forwardNamed(r *tcp.ForwarderRequest, f *flow, dst netip.AddrPort, v egress.Verdict) {
	if _, err := s.outside(dst); err != nil { // a name may lead anywhere
		s.refused(f, err)
		r.Complete(true)
		return
	}
	inside, err := s.accept(r)
	if err != nil {
		return
	}
	defer s.room.leave(inside)
	inside.flow = f
	stop := context.AfterFunc(s.ctx, inside.ep.Abort)
	outside, first, err := s.dialNamed(f, inside, dst, v)
	stop()
	if err == nil {
		f.addSent(len(first))
		_, err = outside.Write(first)
	}
	if err != nil {
		s.refused(f, err)
		inside.ep.Abort()
		inside.ep.Close()
		if outside != nil {
			outside.Close()
		}
		return
	}
	keepAlive(inside.ep)
	s.relay(inside, outside)
}

// dialTCP connects to dst, or to the host's loopback where the gateway stands for that.
func (s *Stack) dialTCP(dst netip.AddrPort) (*net.TCPConn, error) {
	dst, err := s.outside(dst)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout, Control: s.outbound(dst.Addr())}
	conn, err := d.DialContext(s.ctx, "tcp", dst.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// outside is what the host calls dst, if the sandbox may go there.
func (s *Stack) outside(dst netip.AddrPort) (netip.AddrPort, error) {
	if !s.config.gateway(dst.Addr()) {
		return dst, s.reachable(dst.Addr())
	}
	switch {
	case !s.config.HostLoopback:
		return dst, errReserved
	case dst.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dst.Port()), nil
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), dst.Port()), nil
}

// reachable returns nil if a, not one of the stack's own addresses, may be dialled.
func (s *Stack) reachable(a netip.Addr) error {
	if m := s.config.Member; m != nil && m.Internal || s.config.within(a) { // there is nobody else in a private one
		return errReserved
	}
	if slices.ContainsFunc(s.config.Others, func(n netip.Prefix) bool { return n.Contains(a) }) {
		return fmt.Errorf("%s is in another network of sandboxes: %w", a, errReserved)
	}
	return s.reach.check(a)
}

// endpoint is the stack's side of a TCP connection, whose other side is in the sandbox.
type endpoint struct {
	ep    tcpip.Endpoint
	queue *waiter.Queue
	flow  *flow   // of the log
	way   *wayOut // of a flow of UDP, from the sandbox

	room      *room // of a flow of TCP,
	may, most share
	small     atomic.Int64 // pieces that it has been sent since it had acknowledged all
}

// accept completes the handshake. The caller has room forget the endpoint.
func (s *Stack) accept(r *tcp.ForwarderRequest) (*endpoint, error) {
	queue := new(waiter.Queue)
	ep, err := r.CreateEndpoint(queue)
	r.Complete(err != nil)
	if err != nil {
		return nil, errors.New(err.String())
	}
	e := &endpoint{ep: ep, queue: queue, room: s.room, most: s.most}
	s.room.enter(e)
	return e, nil
}

// keepAlive finds out, like the host's side, when nobody is there any more.
func keepAlive(ep tcpip.Endpoint) {
	idle, interval := tcpip.KeepaliveIdleOption(time.Minute), tcpip.KeepaliveIntervalOption(15*time.Second)
	ep.SetSockOpt(&idle)
	ep.SetSockOpt(&interval)
	ep.SocketOptions().SetKeepAlive(true)
}

// relay copies both ways until both have ended. One end's FIN becomes the other's, and so
// does a RST.
func (s *Stack) relay(inside *endpoint, outside *net.TCPConn) {
	stop := context.AfterFunc(s.ctx, func() { inside.ep.Abort(); outside.Close() })
	defer stop()
	var both sync.WaitGroup
	back := make(chan struct{}) // closed when the other way has ended
	both.Go(func() {
		err := inside.copyTo(outside)
		if err == nil {
			outside.CloseWrite()
			err = inside.await(back)
		}
		if err != nil {
			outside.SetLinger(0)
			outside.Close()
			inside.ep.Abort()
		}
	})
	err := inside.copyFrom(outside)
	close(back) // first: what ends from now on is no reset
	if err != nil {
		inside.ep.Abort()
		outside.SetLinger(0)
		outside.Close()
	} else {
		inside.ep.Shutdown(tcpip.ShutdownWrite)
	}
	both.Wait()
	outside.Close()
	inside.farewell(s.ctx)
	inside.ep.Close()
}

// await returns when back is closed, or with an error when the sandbox is not there any more, though it has said
// its last word.
func (e *endpoint) await(back <-chan struct{}) error {
	entry, hangup := waiter.NewChannelEntry(waiter.EventErr | waiter.EventHUp)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	for {
		state := tcp.EndpointState(e.ep.State())
		select {
		case <-back:
			return nil
		default:
		}
		if state == tcp.StateError || state == tcp.StateClose {
			return unix.ECONNRESET
		}
		select {
		case <-back:
			return nil
		case <-hangup:
		}
	}
}
