//go:build !hot

package slirp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// sandbox is a stack at the other end of s's link, in place of a sandbox's kernel.
func sandbox(t *testing.T, s *Stack) *stack.Stack {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(os.NewFile(uintptr(pair[1]), "link")); err != nil {
		t.Fatal(err)
	}
	end, err := fdbased.New(&fdbased.Options{
		FDs: []int{pair[0]}, MTU: uint32(s.config.MTU), EthernetHeader: true, Address: tcpip.LinkAddress(sandboxMAC[:]),
		GSOMaxSize: 1 << 15, RXChecksumOffload: true, TXChecksumOffload: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	inside := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	t.Cleanup(func() {
		inside.Destroy()
		unix.Close(pair[0])
	})
	if err := inside.CreateNIC(nic, end); err != nil {
		t.Fatal(err)
	}
	own := s.config.IPv4.Address
	if err := inside.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol:          header.IPv4ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(own.Addr().As4()), PrefixLen: own.Bits()},
	}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	inside.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4(s.config.IPv4.Gateway.As4()), NIC: nic}})
	return inside
}

// hostLoopback is a stack whose sandbox reaches this host's loopback, and what is in that sandbox's place.
func hostLoopback(t *testing.T) (s *Stack, inside *stack.Stack) {
	t.Helper()
	c := Default(nil, false)
	c.HostLoopback = true
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, sandbox(t, s)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// gone waits until there is nothing of a kind any more.
func gone(t *testing.T, l *limit, within time.Duration) (gone bool) {
	t.Helper()
	for end := time.Now().Add(within); l.now.Load() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// flowTo is a flow from inside to a listener on the host's loopback, which is at an address there.
func flowTo(t *testing.T, inside *stack.Stack, a netip.Addr, l net.Listener) (client *gonet.TCPConn, server net.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	client, err := gonet.DialContextTCP(ctx, inside, tcpip.FullAddress{
		NIC: nic, Addr: tcpip.AddrFrom4(a.As4()), Port: uint16(l.Addr().(*net.TCPAddr).Port),
	}, header.IPv4ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// TestStalled: who is reset while the other side takes nothing does not hold a flow.
func TestStalled(t *testing.T) {
	s, inside := hostLoopback(t)
	l := listen(t)
	for _, stuck := range []string{"sandbox", "host"} {
		client, server := flowTo(t, inside, s.config.IPv4.Gateway, l)
		var err error
		var from net.Conn = client
		if stuck == "sandbox" {
			from = server
		}
		from.SetWriteDeadline(time.Now().Add(time.Second))
		for err == nil {
			_, err = from.Write(make([]byte, 1<<20))
		}
		if n := s.tcps.now.Load(); n != 1 {
			t.Errorf("the %s takes nothing: %d flows, %v", stuck, n, err)
		}
		if stuck == "sandbox" {
			reset(server.(*net.TCPConn))
			defer client.Close()
		} else {
			inside.Destroy() // a RST for each of its connections
			defer server.Close()
		}
		if !gone(t, &s.tcps, 3*stalled) {
			t.Fatalf("the %s takes nothing: the other's RST is not noticed", stuck)
		}
	}
}

// TestHalfReset: a sandbox that has said its last word, and is reset then, does not hold a flow.
func TestHalfReset(t *testing.T) {
	s, inside := hostLoopback(t)
	l := listen(t)
	client, server := flowTo(t, inside, s.config.IPv4.Gateway, l)
	defer server.Close()
	server.SetDeadline(time.Now().Add(5 * time.Second))
	client.CloseWrite()
	if n, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d bytes, %v", n, err)
	}
	inside.Destroy() // a RST for each of its connections
	if !gone(t, &s.tcps, 5*time.Second) {
		t.Fatal("the RST is not noticed")
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("the server was not told: %v", err)
	}
}

// TestKeepAlive: a sandbox that answers nothing any more does not hold a flow; with the times that are
// asked for it takes minutes, so they are shorter here, and longer than the half second in which the library
// answers but once.
func TestKeepAlive(t *testing.T) {
	s, inside := hostLoopback(t)
	client, server := flowTo(t, inside, s.config.IPv4.Gateway, listen(t))
	defer client.Close()
	defer server.Close()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil { // so the flow is served
		t.Fatal(err)
	}
	s.room.mu.Lock()
	for e := range s.room.flows {
		if !e.ep.SocketOptions().GetKeepAlive() {
			t.Error("a flow has no keep-alive")
		}
		idle, interval := tcpip.KeepaliveIdleOption(600*time.Millisecond), tcpip.KeepaliveIntervalOption(600*time.Millisecond)
		e.ep.SetSockOpt(&idle)
		e.ep.SetSockOpt(&interval)
		e.ep.SetSockOptInt(tcpip.KeepaliveCountOption, 2)
		e.ep.SocketOptions().SetKeepAlive(true) // from now on
	}
	s.room.mu.Unlock()
	if time.Sleep(2500 * time.Millisecond); s.tcps.now.Load() != 1 {
		t.Fatal("a sandbox that answers has lost its flow")
	}
	inside.RemoveNIC(nic)
	if !gone(t, &s.tcps, 5*time.Second) {
		t.Error("a sandbox that does not answer keeps its flow")
	}
}

// TestUDPIdle: a flow of UDP out of the sandbox ends when nothing has come either way for its time.
func TestUDPIdle(t *testing.T) {
	c := Default(nil, false)
	c.HostLoopback = true
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.udpIdle = 300 * time.Millisecond
	inside := sandbox(t, s)
	host, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	to := tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(c.IPv4.Gateway.As4()), Port: uint16(host.LocalAddr().(*net.UDPAddr).Port)}
	client, err := gonet.DialUDP(inside, nil, &to, header.IPv4ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	begin := time.Now()
	for time.Since(begin) < 3*s.udpIdle {
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if time.Sleep(s.udpIdle / 6); s.udps.now.Load() != 1 {
			t.Fatalf("%d flows while something comes", s.udps.now.Load())
		}
	}
	if !gone(t, &s.udps, 5*time.Second) {
		t.Error("an idle flow does not end")
	}
}
