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
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
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
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := Default(nil, false)
	c.HostLoopback = true
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	inside := sandbox(t, s)
	for _, stuck := range []string{"sandbox", "host"} {
		client, server := flowTo(t, inside, c.IPv4.Gateway, l)
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
		for end := time.Now().Add(3 * stalled); s.tcps.now.Load() != 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the %s takes nothing: the other's RST is not noticed", stuck)
			}
		}
	}
}

// TestHalfReset: a sandbox that has said its last word, and is reset then, does not hold a flow.
func TestHalfReset(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := Default(nil, false)
	c.HostLoopback = true
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	inside := sandbox(t, s)
	client, server := flowTo(t, inside, c.IPv4.Gateway, l)
	defer server.Close()
	server.SetDeadline(time.Now().Add(5 * time.Second))
	client.CloseWrite()
	if n, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d bytes, %v", n, err)
	}
	inside.Destroy() // a RST for each of its connections
	for end := time.Now().Add(5 * time.Second); s.tcps.now.Load() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the RST is not noticed")
		}
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("the server was not told: %v", err)
	}
}
