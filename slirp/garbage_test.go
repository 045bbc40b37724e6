//go:build !hot

package slirp

import (
	"bytes"
	"math/rand/v2"
	"os"
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
	c := Default(nil, true)
	t.Run("all", func(t *testing.T) { garbage(t, c) })
	// Nothing is let out, and everything is told of.
	c.Policy.Allow = []egress.Rule{{Name: "example.test"}}
	c.Log = "log"
	t.Run("nothing", func(t *testing.T) { garbage(t, c) })
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
// a fragment, and neighbour discovery.
func frames(c Config) [][]byte {
	from, gateway := tcpip.AddrFromSlice(c.IPv4.Address.Addr().AsSlice()), tcpip.AddrFromSlice(c.IPv4.Gateway.AsSlice())
	resolver := tcpip.AddrFromSlice(c.IPv4.Resolver.AsSlice())
	local := tcpip.AddrFrom4([4]byte{127, 0, 0, 1}) // nothing leaves this test
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
	}
}
