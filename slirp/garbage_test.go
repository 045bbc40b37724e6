//go:build !hot

package slirp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"sbx/slirp/egress"
)

// TestGarbage sends frames that are broken in every way down the link, for SBX_GARBAGE long.
// The stack neither crashes nor grows, and afterwards still answers.
func TestGarbage(t *testing.T) {
	if !inOwnNamespace(t) {
		return
	}
	c := Default(nil, true)
	t.Run("all", func(t *testing.T) { garbage(t, c) })
	// Nothing is let out, and everything is told of.
	c.Policy.Allow = []egress.Rule{{Name: "example.test"}}
	c.Log = "log"
	t.Run("nothing", func(t *testing.T) { garbage(t, c) })
}

// inOwnNamespace runs the test again in a net namespace that leads nowhere: an address with a byte changed may be
// anybody's. It returns true there.
func inOwnNamespace(t *testing.T) bool {
	const inside = "SBX_OWN_NAMESPACE"
	if os.Getenv(inside) != "" {
		return true
	}
	command := exec.Command("unshare", "--map-root-user", "--net", "sh", "-c",
		`ip link set lo up && ip route add default dev lo && ip -6 route add default dev lo && exec "$@"`,
		"sh", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=0")
	command.Env = append(os.Environ(), inside+"=1")
	out, err := command.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%s: %v", command, err)
	}
	return false
}

func garbage(t *testing.T, c Config) {
	length := time.Second
	if s := os.Getenv("SBX_GARBAGE"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if c.Log != "" {
		f, read := logFile(t)
		s.LogTo(f)
		defer func() {
			s.Close()
			if len(read()) == 0 {
				t.Error("the log is empty")
			}
		}()
	}
	if err := s.Serve(os.NewFile(uintptr(pair[1]), "link")); err != nil {
		t.Fatal(err)
	}
	answers := make(chan []byte, 1024)
	var reading sync.WaitGroup
	defer reading.Wait() // before the descriptor is another's
	defer unix.Shutdown(pair[0], unix.SHUT_RDWR)
	reading.Go(func() {
		for {
			b := make([]byte, 4096)
			n, err := unix.Read(pair[0], b)
			if err != nil || n == 0 {
				return
			}
			select {
			case answers <- b[:n]:
			default:
			}
		}
	})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	samples := frames(c)
	sent := 0
	for end := time.Now().Add(length); time.Now().Before(end); sent++ {
		unix.Write(pair[0], broken(random, samples[random.IntN(len(samples))]))
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("%d frames, %d MiB in use, refused: %+v", sent, m.HeapInuse>>20, s.Counters())
	if m.HeapInuse > 256<<20 {
		t.Errorf("%d MiB are in use", m.HeapInuse>>20)
	}
	for deadline := time.After(10 * time.Second); ; {
		unix.Write(pair[0], samples[0])
		select {
		case b := <-answers:
			if len(b) > vnetHeader+header.EthernetMinimumSize+header.IPv4MinimumSize && bytes.HasSuffix(b, []byte("still there?")) {
				return
			}
		case <-deadline:
			t.Fatal("no answer any more")
		}
	}
}

// TestFloods sends many frames of one kind each, of which every one would like something to be kept for it: a
// connection, the rest of a packet, an address. What is kept has a bound, and afterwards there is an answer.
func TestFloods(t *testing.T) {
	c := Default(nil, true)
	six := func(next uint8, from, to netip.Addr, payload []byte) []byte {
		b := make([]byte, vnetHeader+header.EthernetMinimumSize+header.IPv6MinimumSize)
		header.Ethernet(b[vnetHeader:]).Encode(&header.EthernetFields{
			SrcAddr: tcpip.LinkAddress(sandboxMAC[:]), DstAddr: tcpip.LinkAddress(stackMAC[:]), Type: header.IPv6ProtocolNumber,
		})
		header.IPv6(b[vnetHeader+header.EthernetMinimumSize:]).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(payload)), HopLimit: 255, TransportProtocol: tcpip.TransportProtocolNumber(next),
			SrcAddr: tcpip.AddrFromSlice(from.AsSlice()), DstAddr: tcpip.AddrFromSlice(to.AsSlice()),
		})
		return append(b, payload...)
	}
	own, gateway := c.IPv6.Address.Addr(), c.IPv6.Gateway
	other := func(i int) netip.Addr {
		a := own.As16()
		binary.BigEndian.PutUint32(a[12:], uint32(i)|1<<31)
		return netip.AddrFrom16(a)
	}
	icmp := func(from, to netip.Addr, message []byte) []byte {
		binary.BigEndian.PutUint16(message[2:], icmpChecksum(from.As16(), to.As16(), message))
		return six(icmpV6, from, to, message)
	}
	const packet, segment = vnetHeader + header.EthernetMinimumSize, vnetHeader + header.EthernetMinimumSize + header.IPv4MinimumSize
	c.Policy.Allow = []egress.Rule{{Name: "example.test"}}
	samples := frames(c)
	for _, test := range []struct {
		name  string
		frame func(i int) []byte
		shows func(Counters) int64 // what was dropped; nil where all are answered, or forgotten
	}{
		{"SYN", func(i int) []byte { // to the resolver, whose connections are made before they lead anywhere
			b := bytes.Clone(samples[3])
			h := header.TCP(b[segment:])
			h.SetSourcePort(uint16(i))
			h.SetDestinationPort(dnsPort)
			return b
		}, func(c Counters) int64 { return c.HalfOpen + c.Questions }},
		{"fragments", func(i int) []byte {
			b := bytes.Clone(samples[5])
			h := header.IPv4(b[packet:])
			h.SetID(uint16(i))
			h.SetChecksum(0)
			h.SetChecksum(^h.CalculateChecksum())
			return b
		}, nil},
		{"fragments of IPv6", func(i int) []byte {
			b := append([]byte{17, 0, 0, 1}, binary.BigEndian.AppendUint32(nil, uint32(i))...)
			return six(44, own, gateway, append(b, make([]byte, 1200)...))
		}, nil},
		{"headers of IPv6", func(i int) []byte { // one after the other, as many as there is room for
			var b []byte
			for range 150 {
				b = append(b, 60, 0, 1, 4, 0, 0, 0, 0)
			}
			return six(60, own, gateway, b)
		}, nil},
		{"ARP", func(i int) []byte {
			b := bytes.Clone(samples[7])
			arp := header.ARP(b[packet:])
			copy(arp.ProtocolAddressSender(), []byte{10, 0, byte(i >> 8), byte(i)})
			g := c.IPv4.Gateway.As4()
			copy(arp.ProtocolAddressTarget(), g[:])
			return b
		}, nil},
		{"neighbours", func(i int) []byte {
			g := gateway.As16()
			b := append(append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, g[:]...), 1, 1, 2, 0, byte(i>>16), byte(i>>8), byte(i), 1)
			return icmp(other(i), gateway, b)
		}, nil},
		{"advertisements", func(i int) []byte {
			a := other(i).As16()
			b := append(append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, a[:]...), 2, 1, 2, 0, byte(i>>16), byte(i>>8), byte(i), 1)
			return icmp(other(i), gateway, b)
		}, nil},
		{"routers", func(i int) []byte {
			b := append([]byte{134, 0, 0, 0, 64, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0}, 3, 4, 64, 0xc0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0)
			a := other(i).As16()
			return icmp(linkLocal(sandboxMAC), netip.MustParseAddr("ff02::1"), append(b, a[:]...))
		}, nil},
		{"groups", func(i int) []byte { // MLD
			a := netip.MustParseAddr("ff05::").As16()
			binary.BigEndian.PutUint32(a[12:], uint32(i))
			return icmp(linkLocal(sandboxMAC), netip.MustParseAddr("ff02::16"), append([]byte{131, 0, 0, 0, 0, 0, 0, 0}, a[:]...))
		}, nil},
		{"echo", func(i int) []byte { // to where no ping goes
			b := bytes.Clone(samples[1])
			binary.BigEndian.PutUint16(b[segment+4:], uint16(i))
			return b
		}, func(c Counters) int64 { return c.Denied }},
		{"datagrams", func(i int) []byte {
			b := bytes.Clone(samples[4])
			header.UDP(b[segment:]).SetSourcePort(uint16(i))
			return b
		}, func(c Counters) int64 { return c.Denied }},
		{"questions", func(i int) []byte {
			b := bytes.Clone(samples[6])
			header.UDP(b[segment:]).SetSourcePort(uint16(i))
			b[segment+header.UDPMinimumSize+5] = 0 // of which none is asked
			return b
		}, func(c Counters) int64 { return c.Questions }},
		{"segments", func(i int) []byte { // that are not what the header says
			b := bytes.Clone(samples[i%len(samples)])
			b[1] = 5
			binary.NativeEndian.PutUint16(b[4:], uint16(i%3))
			return append(b, make([]byte, 3000)...)
		}, func(c Counters) int64 { return c.Malformed }},
		{"long frames", func(i int) []byte {
			return append(bytes.Clone(samples[i%len(samples)]), make([]byte, 100000)...)
		}, func(c Counters) int64 { return c.Malformed }},
	} {
		t.Run(test.name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000})
			unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20)
			defer unix.Close(pair[0])
			s, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Serve(os.NewFile(uintptr(pair[1]), "link")); err != nil {
				t.Fatal(err)
			}
			use := func() uint64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return m.HeapInuse + m.StackInuse
			}
			before := use()
			answer := make([]byte, 1<<16)
			for i := range 20000 {
				if _, err := unix.Write(pair[0], test.frame(i)); err != nil {
					t.Fatal(err)
				}
				for range 4 { // without which nobody could write any more
					if _, _, err := unix.Recvfrom(pair[0], answer, unix.MSG_DONTWAIT); err != nil {
						break
					}
				}
			}
			if grown := int64(use()-before) >> 20; grown > 32 {
				t.Errorf("%d MiB more are in use", grown)
			}
			if n := s.Counters(); test.shows != nil && test.shows(n) == 0 {
				t.Errorf("nothing shows that something was dropped: %+v", n)
			}
			for end := time.Now().Add(10 * time.Second); ; {
				if time.Now().After(end) {
					t.Fatal("no answer any more")
				}
				unix.Write(pair[0], samples[0])
				if n, err := unix.Read(pair[0], answer); err == nil && bytes.HasSuffix(answer[:n], []byte("still there?")) {
					return
				}
			}
		})
	}
}

// broken is a frame with some bytes changed, or cut short, or longer than it says.
func broken(random *rand.Rand, frame []byte) []byte {
	b := bytes.Clone(frame)
	for range random.IntN(4) {
		b[random.IntN(len(b))] = byte(random.Uint32())
	}
	switch random.IntN(8) {
	case 0:
		b = b[:random.IntN(len(b)+1)]
	case 1:
		b = append(b, make([]byte, random.IntN(3000))...)
	}
	return b
}

// frames are whole ones: an echo request to the gateway, a SYN, a datagram, a question, ARP,
// a fragment, neighbour discovery, and a buffer of UDP_SEGMENT.
func frames(c Config) [][]byte {
	from, gateway := tcpip.AddrFromSlice(c.IPv4.Address.Addr().AsSlice()), tcpip.AddrFromSlice(c.IPv4.Gateway.AsSlice())
	resolver := tcpip.AddrFromSlice(c.IPv4.Resolver.AsSlice())
	local := tcpip.AddrFrom4([4]byte{127, 0, 0, 1}) // nothing leaves this test; but the stack does not like it
	if len(c.Policy.Allow) > 0 {
		local = tcpip.AddrFrom4([4]byte{169, 254, 1, 1}) // it cannot
	}
	frame := func(kind tcpip.NetworkProtocolNumber, packet []byte) []byte {
		b := make([]byte, vnetHeader+header.EthernetMinimumSize)
		header.Ethernet(b[vnetHeader:]).Encode(&header.EthernetFields{
			SrcAddr: tcpip.LinkAddress(sandboxMAC[:]), DstAddr: tcpip.LinkAddress(stackMAC[:]), Type: kind,
		})
		return append(b, packet...)
	}
	ip := func(protocol tcpip.TransportProtocolNumber, to tcpip.Address, flags uint8, payload []byte) []byte {
		b := make([]byte, header.IPv4MinimumSize)
		h := header.IPv4(b)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(len(b) + len(payload)), TTL: 64, Flags: flags, Protocol: uint8(protocol), SrcAddr: from, DstAddr: to})
		h.SetChecksum(^h.CalculateChecksum())
		return frame(header.IPv4ProtocolNumber, append(b, payload...))
	}
	echo := append(make([]byte, header.ICMPv4MinimumSize), "still there?"...)
	header.ICMPv4(echo).SetType(header.ICMPv4Echo)
	header.ICMPv4(echo).SetChecksum(^checksum.Checksum(echo, 0))
	syn := make([]byte, header.TCPMinimumSize)
	header.TCP(syn).Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 1000})
	datagram := append(make([]byte, header.UDPMinimumSize), "hello"...)
	header.UDP(datagram).Encode(&header.UDPFields{SrcPort: 3, DstPort: 4, Length: uint16(len(datagram))})
	question := append(make([]byte, header.UDPMinimumSize), "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01"...)
	header.UDP(question).Encode(&header.UDPFields{SrcPort: 5, DstPort: dnsPort, Length: uint16(len(question))})
	arp := make([]byte, header.ARPSize)
	header.ARP(arp).SetIPv4OverEthernet()
	header.ARP(arp).SetOp(header.ARPRequest)
	six := make([]byte, header.IPv6MinimumSize+24)
	header.IPv6(six).Encode(&header.IPv6Fields{
		PayloadLength: 24, HopLimit: 255, TransportProtocol: header.ICMPv6ProtocolNumber,
		SrcAddr: tcpip.AddrFromSlice(c.IPv6.Address.Addr().AsSlice()), DstAddr: tcpip.AddrFromSlice(c.IPv6.Gateway.AsSlice()),
	})
	six[header.IPv6MinimumSize] = byte(header.ICMPv6NeighborSolicit)
	burst := ip(header.UDPProtocolNumber, local, 0, append(bytes.Clone(datagram), make([]byte, 4000)...))
	burst[1] = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
	binary.NativeEndian.PutUint16(burst[4:], 1000)
	return [][]byte{
		ip(header.ICMPv4ProtocolNumber, gateway, 0, echo),
		ip(header.ICMPv4ProtocolNumber, local, 0, echo),
		ip(header.TCPProtocolNumber, local, 0, syn),
		ip(header.TCPProtocolNumber, resolver, 0, syn),
		ip(header.UDPProtocolNumber, local, 0, datagram),
		ip(header.UDPProtocolNumber, gateway, header.IPv4FlagMoreFragments, datagram),
		ip(header.UDPProtocolNumber, resolver, 0, question),
		frame(header.ARPProtocolNumber, arp),
		frame(header.IPv6ProtocolNumber, six),
		burst,
	}
}
