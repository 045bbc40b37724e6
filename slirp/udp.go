//go:build !hot

package slirp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// udpIdle is how long a flow of UDP is remembered when nothing goes either way: RFC 4787
// wants two minutes at least.
const udpIdle = 2 * time.Minute

const maxDatagram = 1 << 16

// forwardUDP begins a flow with its first datagram. What is refused is answered with ICMP: port
// unreachable, by the stack; or that the rules are in the way.
func (s *Stack) forwardUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	dst := target(id)
	if s.config.resolves(dst.Addr()) && dst.Port() == dnsPort {
		if !s.askers.take() {
			return true
		}
		s.begin(r, &s.askers, func(inside *endpoint) { s.answerUDP(gonet.NewUDPConn(inside.queue, inside.ep)) })
		return true
	}
	f := s.log.begin("udp", dst)
	if !s.udps.take() {
		f.refuse(errTooMany)
		return true
	}
	if v := s.judge(f, "udp", dst); !v.Allowed {
		s.udps.give()
		s.sendUnreachable(id, prohibited, header.UDPProtocolNumber, udpHeader(id))
		return true
	}
	dst, err := s.outside(dst)
	var outside *net.UDPConn
	if err == nil {
		outside, err = s.dialUDP(dst)
	}
	if err != nil {
		s.refused(f, err)
		s.udps.give()
		return false
	}
	begun := s.begin(r, &s.udps, func(inside *endpoint) {
		defer f.end()
		inside.flow = f
		inside.way = &wayOut{outside: outside, link: s.config.MTU, dst: dst.Addr(), narrow: &s.narrow, tell: func(mtu int) {
			s.sendUnreachable(id, tooBig(mtu), header.UDPProtocolNumber, udpHeader(id))
		}}
		inside.way.begin()
		s.relayDatagrams(inside, outside, func() {
			s.sendUnreachable(id, nobodyThere, header.UDPProtocolNumber, udpHeader(id))
		})
	})
	if !begun {
		outside.Close()
		f.forget()
	}
	return true
}

// udpHeader is that of a datagram of the flow.
func udpHeader(id stack.TransportEndpointID) []byte {
	h := header.UDP(make([]byte, header.UDPMinimumSize))
	h.Encode(&header.UDPFields{SrcPort: id.RemotePort, DstPort: id.LocalPort, Length: header.UDPMinimumSize})
	return h
}

func (s *Stack) dialUDP(dst netip.AddrPort) (*net.UDPConn, error) {
	d := net.Dialer{Control: s.outbound(dst.Addr())}
	conn, err := d.DialContext(s.ctx, "udp", dst.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// begin makes the stack's side of a flow that was counted, and serves it, unless another datagram
// has been quicker.
func (s *Stack) begin(r *udp.ForwarderRequest, counted *limit, serve func(*endpoint)) bool {
	queue := new(waiter.Queue)
	ep, err := r.CreateEndpoint(queue)
	if err != nil {
		counted.give()
		return false
	}
	go func() {
		defer counted.give()
		serve(&endpoint{ep: ep, queue: queue})
	}()
	return true
}

// relayDatagrams copies both ways until the flow has been idle for its time. refused is called
// when the other end says that nobody listens there.
func (s *Stack) relayDatagrams(inside *endpoint, outside *net.UDPConn, refused func()) {
	closeBoth := sync.OnceFunc(func() { inside.ep.Close(); outside.Close() })
	defer closeBoth()
	defer context.AfterFunc(s.ctx, closeBoth)()
	idle := time.AfterFunc(s.udpIdle, closeBoth)
	defer idle.Stop()
	touch := func() { idle.Reset(s.udpIdle) }
	var both sync.WaitGroup
	both.Go(func() {
		defer closeBoth()
		inside.copyDatagramsTo(outside, touch, refused)
	})
	both.Go(func() {
		defer closeBoth()
		inside.copyDatagramsFrom(outside, touch, refused)
	})
	both.Wait()
}

// datagrams are shared by all flows: one that stands still holds none.
var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// copyDatagramsTo ends when either end is closed. A datagram that cannot go out is lost; the
// flow goes on.
func (e *endpoint) copyDatagramsTo(outside io.Writer, touch, refused func()) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	for {
		b := datagrams.Get().(*[maxDatagram]byte)
		w := tcpip.SliceWriter(b[:])
		result, readErr := e.ep.Read(&w, tcpip.ReadOptions{})
		var err error
		if readErr == nil {
			_, err = outside.Write(b[:result.Count])
			if errors.Is(err, unix.EMSGSIZE) && e.way != nil {
				e.way.tooLarge(b[:result.Count])
			}
			e.flow.addSent(result.Count)
		}
		datagrams.Put(b)
		switch readErr.(type) {
		case nil:
			touch()
		case *tcpip.ErrWouldBlock:
			<-ready
		default:
			return
		}
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			refused()
		case errors.Is(err, net.ErrClosed):
			return
		}
	}
}

// copyDatagramsFrom is the other way.
func (e *endpoint) copyDatagramsFrom(outside *net.UDPConn, touch, refused func()) {
	eachDatagram(outside, func(b []byte, err error) {
		switch err {
		case nil:
			e.ep.Write(bytes.NewReader(b), tcpip.WriteOptions{})
			e.flow.addReceived(len(b))
			touch()
		case unix.ECONNREFUSED:
			refused()
		}
	})
}

// eachDatagram calls use with each datagram that arrives, or with why none does, until conn is closed. While it
// waits it holds no buffer.
func eachDatagram(conn *net.UDPConn, use func(b []byte, err error)) {
	raw, err := conn.SyscallConn()
	for err == nil {
		err = raw.Read(func(fd uintptr) bool {
			b := datagrams.Get().(*[maxDatagram]byte)
			defer datagrams.Put(b)
			n, err := unix.Read(int(fd), b[:])
			if err == unix.EAGAIN {
				return false
			}
			use(b[:max(n, 0)], err)
			return true
		})
	}
}
