//go:build !hot

package slirp

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// pingTimeout is how long an answer is waited for.
const pingTimeout = 10 * time.Second

// forwardEcho sends an echo request on, by a socket that the host's ping_group_range lets the
// caller have (icmp(7)); without, or without an answer, there is none: it is never forged. The
// stack answers for its own addresses.
func (s *Stack) forwardEcho(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	dst := target(id).Addr()
	if s.config.gateway(dst) || s.config.resolves(dst) {
		return false
	}
	message := stack.PayloadSince(pkt.TransportHeader())
	defer message.Release()
	request := message.ToSlice()
	if !isEcho(dst, request) {
		return true
	}
	f := s.log.begin("icmp", netip.AddrPortFrom(dst, 0))
	if v := s.judge(f, "icmp", netip.AddrPortFrom(dst, 0)); !v.Allowed {
		s.refuseEcho(id, prohibited, request)
		return true
	}
	if err := s.reachable(dst); err != nil {
		s.refused(f, err)
		if errors.Is(err, errReserved) {
			s.refuseEcho(id, prohibited, request)
		} else {
			s.refuseEcho(id, noRoute, request)
		}
		return true
	}
	if !s.pings.take() {
		f.refuse(errTooMany)
		return true
	}
	from := id.RemoteAddress
	go func() {
		defer s.pings.give()
		defer f.end()
		f.addSent(len(request))
		reply, err := s.ping(dst, request)
		if err != nil {
			f.fail(err)
			return
		}
		f.addReceived(len(reply))
		s.sendICMP(dst, from, reply)
	}()
	return true
}

// refuseEcho answers an echo request with why it goes nowhere.
func (s *Stack) refuseEcho(id stack.TransportEndpointID, why unreachable, request []byte) {
	protocol := header.ICMPv6ProtocolNumber
	if target(id).Addr().Is4() {
		protocol = header.ICMPv4ProtocolNumber
	}
	s.sendUnreachable(id, why, protocol, request[:header.ICMPv4MinimumSize])
}

func isEcho(dst netip.Addr, m []byte) bool {
	if len(m) < header.ICMPv4MinimumSize {
		return false
	}
	if dst.Is4() {
		return header.ICMPv4(m).Type() == header.ICMPv4Echo
	}
	return header.ICMPv6(m).Type() == header.ICMPv6EchoRequest
}

// ping returns the answer to request, with the identifier that the sandbox gave.
func (s *Stack) ping(dst netip.Addr, request []byte) ([]byte, error) {
	f, err := pingSocket(dst, s.from(dst))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.SetDeadline(time.Now().Add(pingTimeout)); err != nil {
		return nil, err
	}
	if _, err := f.Write(request); err != nil { // the kernel puts its own identifier in
		return nil, err
	}
	reply := make([]byte, maxDatagram)
	n, err := f.Read(reply)
	if err != nil {
		return nil, err
	}
	if n < header.ICMPv4MinimumSize {
		return nil, unix.EBADMSG
	}
	copy(reply[4:6], request[4:6])
	return reply[:n], nil
}

func pingSocket(dst netip.Addr, from string) (*os.File, error) {
	family, protocol := unix.AF_INET6, unix.IPPROTO_ICMPV6
	var to unix.Sockaddr = &unix.SockaddrInet6{Addr: dst.As16()}
	if dst.Is4() {
		family, protocol = unix.AF_INET, unix.IPPROTO_ICMP
		to = &unix.SockaddrInet4{Addr: dst.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "ping")
	if from != "" {
		if err := leaveFrom(fd, from); err != nil {
			f.Close()
			return nil, err
		}
	}
	if err := unix.Connect(fd, to); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unreachable is why: the codes of both families' messages, or what the way takes.
type unreachable struct {
	v4  header.ICMPv4Code
	v6  header.ICMPv6Code
	mtu int
}

var (
	nobodyThere = unreachable{v4: header.ICMPv4PortUnreachable, v6: header.ICMPv6PortUnreachable}
	noRoute     = unreachable{v4: header.ICMPv4NetUnreachable, v6: header.ICMPv6NetworkUnreachable}
	prohibited  = unreachable{v4: header.ICMPv4AdminProhibited, v6: header.ICMPv6Prohibited} // by administration
)

// tooBig: larger than the way takes (RFC 1191, RFC 8201).
func tooBig(mtu int) unreachable {
	return unreachable{v4: header.ICMPv4FragmentationNeeded, mtu: mtu}
}

// sendUnreachable tells the sandbox that what it sends by a flow does not arrive, and why: a message
// with the beginning of the packet that was sent in vain (RFC 792, RFC 4443).
func (s *Stack) sendUnreachable(flow stack.TransportEndpointID, why unreachable, protocol tcpip.TransportProtocolNumber, start []byte) {
	from := target(flow).Addr()
	var message []byte
	if from.Is4() {
		message = make([]byte, header.ICMPv4MinimumSize+header.IPv4MinimumSize, header.ICMPv4MinimumSize+header.IPv4MinimumSize+len(start))
		h := header.ICMPv4(message)
		h.SetType(header.ICMPv4DstUnreachable)
		h.SetCode(why.v4)
		h.SetMTU(uint16(why.mtu))
		header.IPv4(message[header.ICMPv4MinimumSize:]).Encode(&header.IPv4Fields{
			TotalLength: uint16(header.IPv4MinimumSize + len(start)), TTL: 64, Protocol: uint8(protocol),
			SrcAddr: flow.RemoteAddress, DstAddr: flow.LocalAddress,
		})
	} else {
		message = make([]byte, header.ICMPv6DstUnreachableMinimumSize+header.IPv6MinimumSize, header.ICMPv6DstUnreachableMinimumSize+header.IPv6MinimumSize+len(start))
		h := header.ICMPv6(message)
		h.SetType(header.ICMPv6DstUnreachable)
		h.SetCode(why.v6)
		if why.mtu != 0 {
			h.SetType(header.ICMPv6PacketTooBig)
			h.SetMTU(uint32(why.mtu))
		}
		header.IPv6(message[header.ICMPv6DstUnreachableMinimumSize:]).Encode(&header.IPv6Fields{
			PayloadLength: uint16(len(start)), HopLimit: 64, TransportProtocol: protocol,
			SrcAddr: flow.RemoteAddress, DstAddr: flow.LocalAddress,
		})
	}
	s.sendICMP(from, flow.RemoteAddress, append(message, start...))
}

// sendICMP sends an ICMP message to the sandbox, as from.
func (s *Stack) sendICMP(from netip.Addr, to tcpip.Address, message []byte) {
	local := tcpip.AddrFromSlice(from.AsSlice())
	route, err := s.ip.FindRoute(nic, local, to, protocolOf(from), false)
	if err != nil {
		return
	}
	defer route.Release()
	protocol := header.ICMPv4ProtocolNumber
	if from.Is4() {
		h := header.ICMPv4(message)
		h.SetChecksum(0)
		h.SetChecksum(^checksum.Checksum(message, 0))
	} else {
		protocol = header.ICMPv6ProtocolNumber
		h := header.ICMPv6(message)
		h.SetChecksum(0)
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: local, Dst: to}))
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(route.MaxHeaderLength()), Payload: buffer.MakeWithData(message),
	})
	defer pkt.DecRef()
	route.WritePacket(stack.NetworkHeaderParams{Protocol: protocol, TTL: route.DefaultTTL(), TOS: stack.DefaultTOS}, pkt)
}
