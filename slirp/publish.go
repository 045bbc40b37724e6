//go:build !hot

package slirp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// published are the ports of the host's that lead into the sandbox.
type published struct {
	tcp  []tcpPort
	udp  []*udpPort
	held int64 // descriptors
}

type tcpPort struct {
	listener *net.TCPListener
	inside   uint16
}

// Publish listens at the ports of the Config, and returns those that the kernel chose, in the order
// of the Config. Nobody is answered before Accept. After an error nothing listens.
func (s *Stack) Publish() (chosen []uint16, err error) {
	defer func() {
		if err != nil {
			s.published.close()
			s.files.give(s.published.held)
			s.published = published{} // it may be tried again
		}
	}()
	for _, p := range s.config.Ports {
		for i := range p.Count {
			one := p.nth(i)
			if !s.files.take(1) {
				return nil, &PublishError{one, unix.EMFILE}
			}
			s.published.held++
			at, err := s.published.listen(one)
			if err != nil {
				return nil, &PublishError{one, err}
			}
			if one.random() {
				chosen = append(chosen, at.Port())
			}
		}
	}
	return chosen, nil
}

// listen takes one family alone, so that 0.0.0.0 and :: are two.
func (p *published) listen(port Port) (netip.AddrPort, error) {
	family := "4"
	if port.Address.Is6() {
		family = "6"
	}
	address := netip.AddrPortFrom(port.Address, port.Host).String()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	if port.Protocol == "udp" {
		conn, err := lc.ListenPacket(context.Background(), "udp"+family, address)
		if err != nil {
			return netip.AddrPort{}, err
		}
		u, err := newUDPPort(conn.(*net.UDPConn), port)
		if err != nil {
			conn.Close()
			return netip.AddrPort{}, err
		}
		p.udp = append(p.udp, u)
		return conn.LocalAddr().(*net.UDPAddr).AddrPort(), nil
	}
	l, err := lc.Listen(context.Background(), "tcp"+family, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p.tcp = append(p.tcp, tcpPort{l.(*net.TCPListener), port.Inside})
	return l.Addr().(*net.TCPAddr).AddrPort(), nil
}

func (p *published) close() {
	for _, t := range p.tcp {
		t.listener.Close()
	}
	for _, u := range p.udp {
		u.conn.Close()
	}
}

// Accept lets clients in. On requests sockets are asked for in the sandbox; see inside.go.
func (s *Stack) Accept(requests *os.File) {
	s.sockets = &socketMaker{requests: requests}
	context.AfterFunc(s.ctx, s.published.close)
	for _, t := range s.published.tcp {
		go s.acceptTCP(t)
	}
	for _, u := range s.published.udp {
		go s.acceptUDP(u)
	}
}

// acceptTCP goes on until the listener is closed. With no more descriptors it waits for some.
func (s *Stack) acceptTCP(t tcpPort) {
	for {
		client, err := t.listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(50 * time.Millisecond)
		case !s.clients.take():
			s.arriveTCP(client, t).refuse(errTooMany)
			reset(client)
		default:
			go func() {
				defer s.clients.give()
				s.serveClient(client, t)
			}()
		}
	}
}

func (s *Stack) arriveTCP(client *net.TCPConn, t tcpPort) *flow {
	return s.log.arrive("tcp", clientTCP(client), t.listener.Addr(), t.inside)
}

func clientTCP(c *net.TCPConn) netip.AddrPort { return c.RemoteAddr().(*net.TCPAddr).AddrPort() }

// serveClient connects a client to the server in the sandbox, or gives it the RST that it would
// have had from there.
func (s *Stack) serveClient(client *net.TCPConn, t tcpPort) {
	f := s.arriveTCP(client, t)
	defer f.end()
	server, err := s.dialInside(clientTCP(client), t.inside)
	if err != nil {
		f.fail(err)
		reset(client)
		return
	}
	s.join(f, client, server)
}

func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// arrival is how a client gets to a server: the address that it seems to have, and the server's.
type arrival struct{ source, server netip.AddrPort }

// arrivals are the ways in, the best first. A client of the host's loopback arrives on the
// sandbox's. One whose address means nothing in there, as it is of a family that the
// sandbox has not, or of a link, seems to be the gateway.
func (s *Stack) arrivals(client netip.AddrPort, inside uint16) (list []arrival) {
	client = netip.AddrPortFrom(client.Addr().Unmap().WithZone(""), client.Port())
	add := func(source, server netip.AddrPort) { list = append(list, arrival{source, server}) }
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, inside) }
	eth4, eth6 := at(s.config.IPv4.Address.Addr()), at(s.config.IPv6.Address.Addr())
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	switch a := client.Addr(); {
	case a.IsLoopback():
		if a.Is6() {
			add(client, at(netip.IPv6Loopback()))
			client = netip.AddrPortFrom(loopback, client.Port())
		}
		add(client, at(loopback))
		add(client, eth4)
		return list
	case a.Is4():
		add(client, eth4)
		return list
	case s.config.IPv6.used() && a.IsLinkLocalUnicast():
		add(netip.AddrPortFrom(s.config.IPv6.Gateway, 0), eth6)
	case s.config.IPv6.used():
		add(client, eth6)
	}
	add(netip.AddrPortFrom(s.config.IPv4.Gateway, 0), eth4)
	return list
}

// dialInside connects to the server, which may be of one family only.
func (s *Stack) dialInside(client netip.AddrPort, inside uint16) (server *net.TCPConn, err error) {
	for _, way := range s.arrivals(client, inside) {
		if server, err = s.sockets.dialTCP(way); err == nil {
			return server, nil
		}
	}
	return nil, err
}

// socketMaker gets sockets from ServeSockets.
type socketMaker struct {
	mu       sync.Mutex
	requests *os.File
}

// socket returns a socket in the sandbox that does not block.
func (m *socketMaker) socket(r socketRequest) (*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fd := int(m.requests.Fd())
	if err := unix.Sendmsg(fd, r.marshal(), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return nil, err
	}
	answer, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	for {
		n, rightsLen, _, _, err := unix.Recvmsg(fd, answer, rights, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.EOF
		case answer[0] != 0:
			return nil, unix.Errno(answer[0])
		}
		f, err := fileOf(rights[:rightsLen])
		if err == nil && f == nil {
			err = unix.EBADMSG
		}
		return f, err
	}
}

// dialTCP takes another port where what is left of an earlier connection has the client's.
func (m *socketMaker) dialTCP(way arrival) (*net.TCPConn, error) {
	conn, err := m.dial(way, false)
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EADDRINUSE) {
		way.source = netip.AddrPortFrom(way.source.Addr(), 0)
		conn, err = m.dial(way, false)
	}
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func (m *socketMaker) dialUDP(way arrival) (*net.UDPConn, error) {
	conn, err := m.dial(way, true)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func (m *socketMaker) dial(way arrival, datagrams bool) (net.Conn, error) {
	f, err := m.socket(socketRequest{datagrams, way.source})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := connect(f, sockaddr(way.server)); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(f)
}

// connect waits until the server has answered.
func connect(f *os.File, server unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err := f.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		// The second call tells of the end of the first: within one host, that has come mostly.
		for range 2 {
			if failed = unix.Connect(int(fd), server); failed != unix.EINPROGRESS && failed != unix.EALREADY {
				return true
			}
		}
		return false
	})
	if err == nil && failed != unix.EISCONN {
		err = failed
	}
	return err
}
