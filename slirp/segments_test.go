//go:build !hot

package slirp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// udpFrame is a datagram of IPv4, without the header before it, that has options as long as said.
func udpFrame(options int, payload []byte) []byte {
	size := header.IPv4MinimumSize + options
	b := make([]byte, header.EthernetMinimumSize+size+header.UDPMinimumSize, 1<<17)
	header.Ethernet(b).Encode(&header.EthernetFields{Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(b[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(size + header.UDPMinimumSize + len(payload)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 2, 100}), DstAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 20}),
	})
	ip.SetHeaderLength(uint8(size))
	header.UDP(b[header.EthernetMinimumSize+size:]).Encode(&header.UDPFields{SrcPort: 1, DstPort: 2, Length: uint16(header.UDPMinimumSize + len(payload))})
	return append(b, payload...)
}

func TestSplitDatagrams(t *testing.T) {
	payload := make([]byte, 5000)
	for i := range payload {
		payload[i] = byte(i * 7 % 251)
	}
	for _, options := range []int{0, 40} {
		for size, want := range map[int]int{1200: 5, 2500: 2, 5000: 1, 9000: 1, 40: 125, 39: 0, 1: 0, 0: 0} {
			frame := udpFrame(options, payload)
			var got []byte
			n := 0
			ok := splitDatagrams(size, frame, func(one []byte) {
				n++
				ip := header.IPv4(one[header.EthernetMinimumSize:])
				udp := header.UDP(ip[ip.HeaderLength():])
				if int(ip.TotalLength()) != len(ip) || !ip.IsChecksumValid() || int(udp.Length()) != len(udp) || len(udp.Payload()) > size {
					t.Errorf("size %d: datagram %d of %d bytes says %d, %d", size, n, len(one), ip.TotalLength(), udp.Length())
				}
				got = append(got, udp.Payload()...)
			})
			if ok != (want > 0) || n != want || ok && !bytes.Equal(got, payload) {
				t.Errorf("size %d: %v, %d datagrams of %d, %d bytes", size, ok, n, want, len(got))
			}
		}
	}
}

// FuzzSplitDatagrams: whatever the frame and the header before it are, what comes out are packets as long as they
// say, and no more than the kernel itself would make.
func FuzzSplitDatagrams(f *testing.F) {
	head := func(kind byte, size uint16) []byte {
		h := make([]byte, vnetHeader)
		h[1] = kind
		binary.NativeEndian.PutUint16(h[4:], size)
		return h
	}
	f.Add(append(head(5, 10), udpFrame(0, make([]byte, 100))...))
	f.Add(append(head(5|0x80, 0xffff), udpFrame(40, make([]byte, 100))...))
	f.Add(append(head(5, 1), udpFrame(0, nil)...))
	six := make([]byte, header.EthernetMinimumSize+header.IPv6MinimumSize+header.UDPMinimumSize+50)
	header.Ethernet(six).Encode(&header.EthernetFields{Type: header.IPv6ProtocolNumber})
	header.IPv6(six[header.EthernetMinimumSize:]).Encode(&header.IPv6Fields{PayloadLength: 58, TransportProtocol: header.UDPProtocolNumber})
	f.Add(append(head(5, 7), six...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < vnetHeader {
			return
		}
		size, split := udpSegments(b)
		if !split {
			return
		}
		n := 0
		splitDatagrams(size, b[vnetHeader:], func(one []byte) {
			n++
			at, ok := udpHeaderAt(one)
			if !ok || int(header.UDP(one[at:]).Length()) != len(one)-at {
				t.Fatalf("not a datagram: %x", one)
			}
		})
		if n > maxSegments {
			t.Fatalf("%d datagrams", n)
		}
	})
}
