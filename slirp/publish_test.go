//go:build !hot

package slirp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// publishHere publishes a port of TCP and one of UDP of a sandbox that is this very namespace.
func publishHere(t *testing.T, inside uint16, set ...func(*Stack)) (s *Stack, tcp, udp string) {
	t.Helper()
	c := Default(nil, false)
	for _, protocol := range []string{"tcp", "udp"} {
		c.Ports = append(c.Ports, Port{Protocol: protocol, Address: loopback4, Inside: inside, Count: 1})
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	chosen, err := s.Publish()
	if err != nil {
		t.Fatal(err)
	}
	ports := Chosen(c.Ports, chosen)
	if len(ports) != 2 {
		t.Fatalf("the kernel chose %v", chosen)
	}
	for _, set := range set { // before anybody comes
		set(s)
	}
	s.Accept(serveSocketsHere(t))
	at := func(p Port) string { return netip.AddrPortFrom(p.Address, p.Host).String() }
	return s, at(ports[0]), at(ports[1])
}

// serveSocketsHere serves until the test ends.
func serveSocketsHere(t *testing.T) *os.File {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("sleep", "1000")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(command.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		ServeSockets(os.NewFile(uintptr(pair[0]), "requests"), pidfd, false)
		close(served)
	}()
	t.Cleanup(func() {
		command.Process.Kill()
		<-served
		command.Wait()
		unix.Close(pidfd)
	})
	return os.NewFile(uintptr(pair[1]), "requests")
}

// server counts what a client sends, until its FIN, and sends that back; and echoes datagrams.
func server(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				c.Write(b)
			}()
		}
	}()
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, a, err := u.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			u.WriteToUDPAddrPort(b[:n], a)
		}
	}()
	return port
}

func dial(t *testing.T, network, at string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// isReset returns nil if a client has a RST, which may come before it knows that it is connected.
func isReset(at string) error {
	c, err := net.Dial("tcp", at)
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
	}
	if errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return fmt.Errorf("no RST: %w", err)
}

// There and back, and whatever the collector of garbage does to descriptors meanwhile.
func TestPublish(t *testing.T) {
	_, tcp, udp := publishHere(t, server(t))
	sent := bytes.Repeat([]byte("published "), 100_000)
	for range 5 {
		c := dial(t, "tcp", tcp).(*net.TCPConn)
		c.Write(sent)
		c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes back of %d: %v", len(got), len(sent), err)
		}
		u := dial(t, "udp", udp)
		u.Write(sent[:9000])
		b := make([]byte, 1<<16)
		if n, err := u.Read(b); err != nil || n != 9000 {
			t.Fatalf("datagram: %d bytes: %v", n, err)
		}
		runtime.GC()
	}
}

// A client of UDP that is idle for its time is forgotten, and comes again as if it had not been there.
func TestPublishIdle(t *testing.T) {
	s, _, udp := publishHere(t, server(t), func(s *Stack) { s.udpIdle = 100 * time.Millisecond })
	c, b := dial(t, "udp", udp), make([]byte, 100)
	for range 2 {
		for range 5 { // not idle, though longer than that
			c.Write([]byte("hello"))
			if n, err := c.Read(b); err != nil || n != 5 {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if n := s.udpClients.now.Load(); n != 1 {
				t.Fatalf("%d clients", n)
			}
			time.Sleep(40 * time.Millisecond)
		}
		free := s.udpClients.files.free.Load()
		for end := time.Now().Add(10 * time.Second); s.udpClients.now.Load() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("it is still there")
			}
		}
		if now := s.udpClients.files.free.Load(); now != free+1 {
			t.Errorf("%d descriptors have become %d", free, now)
		}
	}
}

func TestPublishLimits(t *testing.T) {
	s, tcp, udp := publishHere(t, server(t), func(s *Stack) { s.clients.max, s.udpClients.max = 1, 1 })
	b := make([]byte, 100)
	first := dial(t, "udp", udp)
	first.Write([]byte("x"))
	if _, err := first.Read(b); err != nil {
		t.Fatal(err)
	}
	second := dial(t, "udp", udp)
	second.Write([]byte("x"))
	second.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := second.Read(b); err == nil {
		t.Errorf("the second client of UDP got %d bytes", n)
	}
	first.Write([]byte("x"))
	if _, err := first.Read(b); err != nil {
		t.Errorf("the first one after that: %v", err)
	}

	one := dial(t, "tcp", tcp).(*net.TCPConn)
	one.Write([]byte("x"))
	for end := time.Now().Add(10 * time.Second); s.clients.now.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the first client is not counted")
		}
	}
	if err := isReset(tcp); err != nil {
		t.Errorf("the second client of TCP: %v", err)
	}
	one.CloseWrite()
	if got, err := io.ReadAll(one); err != nil || string(got) != "x" {
		t.Errorf("the first one after that: %q, %v", got, err)
	}
	if c := s.Counters(); c.Clients != 1 || c.UDPClients != 1 {
		t.Errorf("counted %d and %d", c.Clients, c.UDPClients)
	}
}

// A client that nobody can be found for is reset, and the ports go with the Stack.
func TestPublishNobody(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s, tcp, _ := publishHere(t, l.Addr().(*net.TCPAddr).AddrPort().Port())
	if err := isReset(tcp); err != nil {
		t.Errorf("with nobody there: %v", err)
	}
	s.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", tcp)
		if errors.Is(err, unix.ECONNREFUSED) {
			break
		}
		if err == nil {
			c.Close()
		}
		if time.Now().After(end) {
			t.Fatal("the port is still there")
		}
	}
}

func TestPublishTaken(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).AddrPort().Port()
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := other.Addr().(*net.TCPAddr).AddrPort()
	other.Close()
	c := Default(nil, false)
	c.Ports = []Port{
		{Protocol: "tcp", Address: loopback4, Host: free.Port(), Inside: 80, Count: 1},
		{Protocol: "tcp", Address: loopback4, Host: taken, Inside: 80, Count: 1},
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Publish()
	if failed, ok := errors.AsType[*PublishError](err); !ok || failed.Port.Host != taken || failed.Hint() == "" || !errors.Is(err, unix.EADDRINUSE) {
		t.Fatalf("%v", err)
	}
	if c, err := net.Dial("tcp", free.String()); err == nil {
		c.Close()
		t.Error("the other port is still there")
	}
}

// Whatever comes as a request gets an answer, or a socket, and the next one its own.
func TestServeSocketsGarbage(t *testing.T) {
	m := &socketMaker{requests: serveSocketsHere(t)}
	fd := int(m.requests.Fd())
	for _, garbage := range [][]byte{{0}, {1, 2}, bytes.Repeat([]byte{7}, 60), bytes.Repeat([]byte{0}, 1000)} {
		if err := unix.Sendmsg(fd, garbage, nil, nil, 0); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 10)
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if err != nil || n != 1 || answer[0] == 0 {
			t.Errorf("%d bytes of garbage: %d bytes, %v", len(garbage), n, err)
		}
	}
	f, err := m.socket(socketRequest{source: netip.AddrPortFrom(loopback4, 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.Getsockname(int(f.Fd())); err != nil {
		t.Error(err)
	}
}

// Who a client seems to be, and where it arrives.
func TestArrivals(t *testing.T) {
	for _, test := range []struct {
		client string
		ipv6   bool
		want   string
	}{
		{"127.0.0.1:5", true, "127.0.0.1:5 > 127.0.0.1:80, 127.0.0.1:5 > 10.0.2.100:80"},
		{"[::1]:5", true, "[::1]:5 > [::1]:80, 127.0.0.1:5 > 127.0.0.1:80, 127.0.0.1:5 > 10.0.2.100:80"},
		{"192.0.2.20:5", true, "192.0.2.20:5 > 10.0.2.100:80"},
		{"[::ffff:192.0.2.20]:5", true, "192.0.2.20:5 > 10.0.2.100:80"},
		{"[2001:db8::20]:5", true, "[2001:db8::20]:5 > [fd00::100]:80, 10.0.2.2:0 > 10.0.2.100:80"},
		{"[2001:db8::20]:5", false, "10.0.2.2:0 > 10.0.2.100:80"},
		{"[fe80::1%eth0]:5", true, "[fd00::2]:0 > [fd00::100]:80, 10.0.2.2:0 > 10.0.2.100:80"},
		{"[fe80::1%eth0]:5", false, "10.0.2.2:0 > 10.0.2.100:80"},
	} {
		s := &Stack{config: Default(nil, test.ipv6)}
		got := ""
		for i, a := range s.arrivals(netip.MustParseAddrPort(test.client), 80) {
			if i > 0 {
				got += ", "
			}
			got += a.source.String() + " > " + a.server.String()
		}
		if got != test.want {
			t.Errorf("%s, IPv6 %v: %s, want %s", test.client, test.ipv6, got, test.want)
		}
	}
}

func TestPorts(t *testing.T) {
	p := func(protocol, address string, host uint16, count int) Port {
		return Port{Protocol: protocol, Address: netip.MustParseAddr(address), Host: host, Inside: 80, Count: count}
	}
	for _, test := range []struct {
		a, b Port
		want bool
	}{
		{p("tcp", "127.0.0.1", 80, 1), p("tcp", "127.0.0.1", 80, 1), true},
		{p("tcp", "127.0.0.1", 80, 1), p("udp", "127.0.0.1", 80, 1), false},
		{p("tcp", "127.0.0.1", 80, 1), p("tcp", "127.0.0.2", 80, 1), false},
		{p("tcp", "127.0.0.1", 80, 1), p("tcp", "0.0.0.0", 80, 1), true},
		{p("tcp", "::", 80, 1), p("tcp", "0.0.0.0", 80, 1), false},
		{p("tcp", "::", 80, 1), p("tcp", "::1", 80, 1), true},
		{p("tcp", "127.0.0.1", 80, 10), p("tcp", "127.0.0.1", 89, 1), true},
		{p("tcp", "127.0.0.1", 80, 10), p("tcp", "127.0.0.1", 90, 1), false},
		{p("tcp", "127.0.0.1", 65535, 1), p("tcp", "127.0.0.1", 1, 65535), true},
		{p("tcp", "127.0.0.1", 0, 1), p("tcp", "127.0.0.1", 0, 1), false},
	} {
		if test.a.Collides(test.b) != test.want || test.b.Collides(test.a) != test.want {
			t.Errorf("%v and %v: %v", test.a, test.b, !test.want)
		}
	}
	got := Chosen([]Port{p("tcp", "127.0.0.1", 0, 2), p("tcp", "127.0.0.1", 80, 1), p("udp", "::1", 0, 1)}, []uint16{41, 42, 43})
	want := []string{"127.0.0.1:41 -> 80/tcp", "127.0.0.1:42 -> 81/tcp", "[::1]:43 -> 80/udp"}
	for i := range want {
		if len(got) != len(want) || got[i].String() != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	if len(Chosen(got, nil)) != 0 || len(Chosen([]Port{p("tcp", "::1", 0, 5)}, nil)) != 0 {
		t.Error("ports that nobody chose")
	}
}

// TestPublishStalled: who is reset while the other side takes nothing does not hold a place.
func TestPublishStalled(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, tcp, _ := publishHere(t, uint16(l.Addr().(*net.TCPAddr).Port))
	for _, stuck := range []string{"server", "client"} {
		client := dial(t, "tcp", tcp).(*net.TCPConn)
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		from, to := client, server.(*net.TCPConn)
		if stuck == "client" {
			from, to = to, from
		}
		defer to.Close()
		from.SetWriteDeadline(time.Now().Add(time.Second))
		for err == nil {
			_, err = from.Write(make([]byte, 1<<20))
		}
		if n := s.clients.now.Load(); n != 1 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the %s takes nothing: %d clients, %v", stuck, n, err)
		}
		reset(from)
		for end := time.Now().Add(3 * stalled); s.clients.now.Load() != 0; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the %s takes nothing: the other's RST is not noticed", stuck)
			}
		}
	}
}
