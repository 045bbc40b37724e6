//go:build !hot

package slirp

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A frame is read in pieces: what has its headers for itself, for the stack copies the View that
// a header of IP is in, and moves what follows into it while there is room; and bodies, none of
// them more than what one packet may have beside that.
const (
	frameHead = 128 // as much as a View of this size holds
	frameBody = buffer.MaxChunkSize - frameHead

	// A body that is no larger is copied into memory of its size; a larger one, as the kernel makes
	// of a stream, keeps the buffer that it was read into, which is not twice as large.
	copyBody = frameBody / 2
)

// frameBuffer is where one frame is read into.
type frameBuffer struct {
	offload [vnetHeader]byte
	head    [frameHead]byte
	bodies  [(longFrame + frameBody - 1) / frameBody]*buffer.View // nil where a packet has it
	joined  []byte                                                // the last frame that had to be in one piece
}

func (b *frameBuffer) read(link syscall.RawConn) (n int, failed error) {
	pieces := [2 + len(b.bodies)][]byte{b.offload[:], b.head[:]}
	for i, body := range b.bodies {
		if body == nil {
			body = buffer.NewViewSize(frameBody)
			b.bodies[i] = body
		}
		pieces[2+i] = body.AsSlice()
	}
	err := link.Read(func(fd uintptr) bool {
		n, failed = readv(int(fd), pieces[:])
		return failed != unix.EAGAIN
	})
	if err != nil {
		return 0, err
	}
	return n, failed
}

// forStack: what was read, of n bytes, is a frame, and not for somebody else.
func (b *frameBuffer) forStack(n int) bool {
	if n < vnetHeader+header.EthernetMinimumSize {
		return false
	}
	to := header.Ethernet(b.head[:]).DestinationAddress()
	return to == tcpip.LinkAddress(stackMAC[:]) || header.IsMulticastEthernetAddress(to)
}

// many: the frame that was read is as much work as many.
func (b *frameBuffer) many() bool {
	_, split := udpSegments(b.offload[:])
	return split
}

// each calls use with every packet that the frame of n bytes is: those of a program that sends
// several datagrams at once, those of a stream that IP has no length for, or one.
func (b *frameBuffer) each(n int, use func(*stack.PacketBuffer)) (ok bool) {
	if size, split := udpSegments(b.offload[:]); split {
		return splitDatagrams(size, b.whole(n-vnetHeader), func(frame []byte) { use(packetOf(frame)) })
	}
	switch n -= vnetHeader; {
	case n > frameHead+len(b.bodies)*frameBody-1: // perhaps more
		return false
	case n > header.EthernetMinimumSize+math.MaxUint16:
		return b.splitStream(n, use)
	}
	frame := buffer.MakeWithData(b.head[:min(n, frameHead)])
	n -= frameHead
	for i := 0; n > 0; i++ {
		b.append(&frame, i, 0, min(n, frameBody))
		n -= frameBody
	}
	use(packetWith(frame, header.Ethernet(b.head[:]).Type()))
	return true
}

// splitStream makes packets of IP of a frame of n bytes that is longer than any: part of a stream, as
// the kernel makes it for longFrame, which says so by a length of 0 (iph_totlen, include/linux/ip.h).
func (b *frameBuffer) splitStream(n int, use func(*stack.PacketBuffer)) (ok bool) {
	kind, ip := header.Ethernet(b.head[:]).Type(), header.IPv4(b.head[header.EthernetMinimumSize:])
	at := header.EthernetMinimumSize + int(ip.HeaderLength())
	if kind != header.IPv4ProtocolNumber || ip.TotalLength() != 0 || int(ip.HeaderLength()) < header.IPv4MinimumSize ||
		ip.More() || ip.FragmentOffset() != 0 || ip.TransportProtocol() != header.TCPProtocolNumber {
		return false
	}
	tcp := header.TCP(b.head[at:])
	headers := at + int(tcp.DataOffset())
	if int(tcp.DataOffset()) < header.TCPMinimumSize || headers > frameHead {
		return false
	}
	const first, last = header.TCPFlagCwr, header.TCPFlagFin | header.TCPFlagPsh
	flags := tcp.Flags()
	n -= frameHead
	inHead, inBody := frameHead-headers, 0
	for i := 0; n > 0; i++ {
		body := min(n, frameBody)
		n -= body
		if i > 0 {
			inHead = copy(b.head[headers:], b.bodies[i].AsSlice()[:body])
			inBody = inHead
		}
		payload := inHead + body - inBody
		these := flags
		if i > 0 {
			these &^= first
		}
		if n > 0 {
			these &^= last
		}
		tcp.SetFlags(uint8(these))
		ip.SetTotalLength(uint16(headers - header.EthernetMinimumSize + payload))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		frame := buffer.MakeWithData(b.head[:headers+inHead])
		b.append(&frame, i, inBody, body)
		use(packetWith(frame, kind))
		tcp.SetSequenceNumber(tcp.SequenceNumber() + uint32(payload))
	}
	return true
}

// append adds what lies between two places in a body to a frame.
func (b *frameBuffer) append(frame *buffer.Buffer, i, from, to int) {
	body := b.bodies[i]
	switch {
	case from == to:
	case to-from <= copyBody:
		frame.Append(buffer.NewViewWithData(body.AsSlice()[from:to]))
	default:
		body.CapLength(to)
		body.TrimFront(from)
		frame.Append(body)
		b.bodies[i] = nil
	}
}

// whole is the frame of n bytes in one piece, until the next.
func (b *frameBuffer) whole(n int) []byte {
	b.joined = append(b.joined[:0], b.head[:min(n, frameHead)]...)
	n -= frameHead
	for i := 0; n > 0; i++ {
		b.joined = append(b.joined, b.bodies[i].AsSlice()[:min(n, frameBody)]...)
		n -= frameBody
	}
	return b.joined
}

// packetOf is a packet with a copy of frame.
func packetOf(frame []byte) *stack.PacketBuffer {
	head := min(len(frame), frameHead)
	payload := buffer.MakeWithData(frame[:head])
	if head < len(frame) {
		payload.Append(buffer.NewViewWithData(frame[head:]))
	}
	return packetWith(payload, header.Ethernet(frame).Type())
}

// packetWith is the packet that a frame of a kind brings.
func packetWith(frame buffer.Buffer, kind tcpip.NetworkProtocolNumber) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: frame})
	pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	pkt.NetworkProtocolNumber = kind
	return pkt
}
