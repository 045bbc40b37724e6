//go:build !hot

package slirp

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// What a program sends with UDP_SEGMENT (udp(7)) comes as one frame, and the header before it has
// the size of the datagrams that it is. TCP has no such boundaries: the stack takes a large segment as it is.

// maxSegments is what the kernel makes of one buffer at most (UDP_MAX_SEGMENTS, net/udp.h).
const maxSegments = 128

// udpSegments is the size of the datagrams that a frame after the header h is; 0 for what is one packet.
func udpSegments(h []byte) (size int, split bool) {
	const udp, ecn = 5, 0x80 // VIRTIO_NET_HDR_GSO_UDP_L4, _ECN
	if h[1]&^ecn != udp {
		return 0, false
	}
	return int(binary.NativeEndian.Uint16(h[4:])), true
}

// splitDatagrams calls use with a frame for each datagram of at most size bytes; the last may be shorter.
// It writes over frame. What it does not understand it does not use: nothing in the header but the size is
// believed, and the kernel has checked that only if it made it.
func splitDatagrams(size int, frame []byte, use func(frame []byte)) (ok bool) {
	at, ok := udpHeaderAt(frame)
	if !ok {
		return false
	}
	payload := frame[at+header.UDPMinimumSize:]
	if size == 0 || len(payload) == 0 || len(payload) > size*maxSegments {
		return false
	}
	headers := frame[:at+header.UDPMinimumSize]
	for len(payload) > 0 {
		n := min(size, len(payload))
		one := frame[:len(headers)+n]
		copy(one[len(headers):], payload[:n]) // which lies there or behind
		payload = payload[n:]
		resize(one, at)
		use(one)
	}
	return true
}

// udpHeaderAt is where the datagram of a frame begins, if it is one, whole.
func udpHeaderAt(frame []byte) (at int, ok bool) {
	if len(frame) < header.EthernetMinimumSize {
		return 0, false
	}
	packet := frame[header.EthernetMinimumSize:]
	switch header.Ethernet(frame).Type() {
	case header.IPv4ProtocolNumber:
		if len(packet) < header.IPv4MinimumSize {
			return 0, false
		}
		ip := header.IPv4(packet)
		at = int(ip.HeaderLength())
		if at < header.IPv4MinimumSize || ip.More() || ip.FragmentOffset() != 0 || ip.TransportProtocol() != header.UDPProtocolNumber {
			return 0, false
		}
	case header.IPv6ProtocolNumber:
		// Behind other headers the kernel makes no segments, or none that anybody sends.
		if at = header.IPv6MinimumSize; len(packet) < at || header.IPv6(packet).NextHeader() != uint8(header.UDPProtocolNumber) {
			return 0, false
		}
	default:
		return 0, false
	}
	at += header.EthernetMinimumSize
	return at, len(frame) >= at+header.UDPMinimumSize
}

// resize makes the headers of a frame, whose datagram begins at, those of what it is now. There is no checksum
// of UDP: nobody looks (stack.CapabilityRXChecksumOffload).
func resize(frame []byte, at int) {
	packet := frame[header.EthernetMinimumSize:]
	header.UDP(frame[at:]).SetLength(uint16(len(frame) - at))
	if header.Ethernet(frame).Type() == header.IPv6ProtocolNumber {
		header.IPv6(packet).SetPayloadLength(uint16(len(packet) - header.IPv6MinimumSize))
		return
	}
	ip := header.IPv4(packet)
	ip.SetTotalLength(uint16(len(packet)))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
}
