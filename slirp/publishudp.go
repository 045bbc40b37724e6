//go:build !hot

package slirp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// udpPort is a port of the host's that datagrams come to.
type udpPort struct {
	conn   *net.UDPConn
	raw    syscall.RawConn
	inside uint16

	mu    sync.Mutex
	flows map[udpClient]*udpFlow
}

// udpClient is who sends datagrams, and where to: answers must come from there.
type udpClient struct {
	remote netip.AddrPort
	local  netip.Addr // none where the socket has one address
	link   uint32     // of a local address that is link-local
}

// udpFlow is a client's way into the sandbox.
type udpFlow struct {
	log     *flow
	answers *udpAnswers
	idle    *time.Timer

	mu     sync.Mutex
	inside io.WriteCloser
	time   time.Duration // that it may be idle
	ways   []arrival     // that are left, should this one lead to nobody, until there is an answer
	last   []byte        // datagram, which would be lost with this way
	over   bool
}

// unanswered is how long a client's place is kept who has had no answer yet: anybody can send a datagram in
// anybody's name.
const unanswered = 30 * time.Second

// maxLast is the longest datagram that is sent again by another way.
const maxLast = 2 << 10

func newUDPPort(conn *net.UDPConn, p Port) (*udpPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if p.Address.IsUnspecified() {
		level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
		if p.Address.Is6() {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		var failed error
		err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, 1) })
		if err := errors.Join(err, failed); err != nil {
			return nil, err
		}
	}
	return &udpPort{conn: conn, raw: raw, inside: p.Inside, flows: map[udpClient]*udpFlow{}}, nil
}

// acceptUDP goes on until the socket is closed. A port that nobody sends to holds no buffer.
func (s *Stack) acceptUDP(u *udpPort) {
	control := make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
	for {
		err := u.raw.Read(func(fd uintptr) bool {
			b := datagrams.Get().(*[maxDatagram]byte)
			defer datagrams.Put(b)
			n, controlLen, _, from, err := unix.Recvmsg(int(fd), b[:], control, unix.MSG_DONTWAIT)
			if err == nil {
				s.fromClient(u, clientOf(from, control[:controlLen]), b[:n])
			}
			return err != unix.EAGAIN
		})
		if err != nil {
			return
		}
	}
}

// clientOf reads what recvmsg(2) tells of a datagram.
func clientOf(from unix.Sockaddr, control []byte) (c udpClient) {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		c.remote = netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port))
	case *unix.SockaddrInet6:
		a := netip.AddrFrom16(from.Addr)
		if from.ZoneId != 0 {
			a = a.WithZone(strconv.Itoa(int(from.ZoneId)))
		}
		c.remote = netip.AddrPortFrom(a, uint16(from.Port))
	}
	messages, _ := unix.ParseSocketControlMessage(control)
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			c.local = netip.AddrFrom4([4]byte(m.Data[4:])) // ipi_spec_dst, which is one's own even after a broadcast
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			if c.local = netip.AddrFrom16([16]byte(m.Data)); c.local.IsLinkLocalUnicast() {
				c.link = binary.NativeEndian.Uint32(m.Data[16:])
			}
		}
	}
	return c
}

// fromClient sends a datagram on. One that no flow can be had for is lost.
func (s *Stack) fromClient(u *udpPort, c udpClient, b []byte) {
	s.floor.leave()
	u.mu.Lock()
	f := u.flows[c]
	u.mu.Unlock()
	if f == nil {
		if f = s.newUDPFlow(u, c); f == nil {
			return
		}
	}
	f.touch()
	f.send(b)
}

// newUDPFlow begins a flow; it ends when it has been idle for its time, or when the sandbox says
// that nobody listens.
func (s *Stack) newUDPFlow(u *udpPort, c udpClient) *udpFlow {
	f := &udpFlow{
		log:     s.log.arrive("udp", c.remote, u.conn.LocalAddr(), u.inside),
		answers: &udpAnswers{u.conn, c.remote, c.control()},
		ways:    s.arrivals(c.remote, u.inside),
		time:    min(s.udpIdle, unanswered),
	}
	if !s.udpClients.take() {
		f.log.refuse(errTooMany)
		return nil
	}
	f.idle = time.AfterFunc(f.time, f.close)
	serve, err := s.enter(f)
	if err != nil {
		s.udpClients.give()
		f.idle.Stop()
		f.log.fail(err)
		f.log.end()
		return nil
	}
	u.mu.Lock()
	u.flows[c] = f
	u.mu.Unlock()
	stop := context.AfterFunc(s.ctx, f.close)
	go func() {
		for ; err == nil; serve, err = s.enter(f) {
			serve()
		}
		u.mu.Lock()
		delete(u.flows, c)
		u.mu.Unlock()
		stop()
		f.idle.Stop()
		f.close()
		s.udpClients.give()
		f.log.end()
	}()
	return f
}

var errNoWay = errors.New("nobody listens")

// enter takes the next way that there is. The result serves it, until it leads nowhere, or the
// flow is closed.
func (s *Stack) enter(f *udpFlow) (serve func(), err error) {
	err = errNoWay
	for {
		way, ok := f.next()
		if !ok {
			return nil, err
		}
		var inside io.WriteCloser
		if inside, serve, err = s.udpWay(f, way); err == nil {
			f.take(inside)
			return serve, nil
		}
	}
}

func (s *Stack) udpWay(f *udpFlow, way arrival) (inside io.WriteCloser, serve func(), err error) {
	if !way.source.Addr().IsLoopback() {
		e, err := s.dialStackUDP(way)
		if err != nil {
			return nil, nil, err
		}
		e.flow = f.log
		return stackDatagrams{e}, func() { e.copyDatagramsTo(f.answers, func() { f.answered(s.udpIdle) }, func() {}) }, nil
	}
	conn, err := s.sockets.dialUDP(way)
	if err != nil {
		return nil, nil, err
	}
	return conn, func() {
		eachDatagram(conn, func(b []byte, err error) {
			switch {
			case err == nil:
				f.answered(s.udpIdle)
				f.answers.Write(b)
				f.log.addSent(len(b))
			case err == unix.ECONNREFUSED:
				f.refused()
			}
		})
	}, nil
}

func (f *udpFlow) next() (way arrival, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || len(f.ways) == 0 {
		return arrival{}, false
	}
	way, f.ways = f.ways[0], f.ways[1:]
	return way, true
}

// take takes a new way in the place of the one before.
func (f *udpFlow) take(inside io.WriteCloser) {
	f.mu.Lock()
	before, over := f.inside, f.over
	f.inside = inside
	if !over && f.last != nil {
		inside.Write(f.last)
	}
	f.mu.Unlock()
	if before != nil {
		before.Close()
	}
	if over {
		inside.Close()
	}
}

// send sends a datagram, and keeps it as long as it might be sent in vain.
func (f *udpFlow) send(b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log.addReceived(len(b))
	if len(f.ways) > 0 && len(b) <= maxLast {
		f.last = append(f.last[:0], b...)
	}
	if _, err := f.inside.Write(b); errors.Is(err, unix.ECONNREFUSED) { // by what was sent before
		f.giveUp()
	}
}

// touch: the flow is not idle.
func (f *udpFlow) touch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.idle.Reset(f.time)
}

// answered: somebody listens there.
func (f *udpFlow) answered(idle time.Duration) {
	f.mu.Lock()
	f.ways, f.last, f.time = nil, nil, idle
	f.mu.Unlock()
	f.touch()
}

// refused: nobody does.
func (f *udpFlow) refused() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.giveUp()
}

// giveUp ends a way if there is another one. It does not close it: that waits for whoever reads,
// who waits for us.
func (f *udpFlow) giveUp() {
	if conn, ok := f.inside.(*net.UDPConn); ok && len(f.ways) > 0 {
		conn.SetReadDeadline(time.Unix(1, 0))
	}
}

func (f *udpFlow) close() {
	f.mu.Lock()
	f.over = true
	inside := f.inside
	f.mu.Unlock()
	if inside != nil {
		inside.Close()
	}
}

// dialStackUDP sends from the client's address by way of eth0, as if the client were beyond the
// gateway: whatever socket the server answers with, the answer finds the flow. Several servers
// may have one client, with one port.
func (s *Stack) dialStackUDP(way arrival) (*endpoint, error) {
	protocol := protocolOf(way.server.Addr())
	queue := new(waiter.Queue)
	ep, err := s.ip.NewEndpoint(udp.ProtocolNumber, protocol, queue)
	if err != nil {
		return nil, errors.New(err.String())
	}
	ep.SocketOptions().SetReuseAddress(true)
	if err = ep.Bind(fullAddress(way.source)); err == nil {
		err = ep.Connect(fullAddress(way.server))
	}
	if err != nil {
		ep.Close()
		return nil, errors.New(err.String())
	}
	return &endpoint{ep: ep, queue: queue}, nil
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

// stackDatagrams is an endpoint of which each Write is a datagram.
type stackDatagrams struct{ *endpoint }

func (d stackDatagrams) Write(b []byte) (int, error) {
	n, err := d.ep.Write(bytes.NewReader(b), tcpip.WriteOptions{})
	if err != nil {
		return 0, errors.New(err.String())
	}
	return int(n), nil
}

func (d stackDatagrams) Close() error {
	d.ep.Close()
	return nil
}

// udpAnswers sends datagrams to a client.
type udpAnswers struct {
	conn    *net.UDPConn
	to      netip.AddrPort
	control []byte
}

func (a *udpAnswers) Write(b []byte) (int, error) {
	n, _, err := a.conn.WriteMsgUDPAddrPort(b, a.control, a.to)
	return n, err
}

// control makes sendmsg(2) send from where the client has sent to.
func (c udpClient) control() []byte {
	switch {
	case !c.local.IsValid():
		return nil
	case c.local.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: c.local.As4()})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: c.local.As16(), Ifindex: c.link})
}
