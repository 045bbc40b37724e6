//go:build !hot

package slirp

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// A body that is no larger is copied into memory of its size; a larger one, as the kernel makes
	// of a stream, keeps the buffer that it was read into.
	copyBody = 16 << 10
	maxBody  = buffer.MaxChunkSize // no packet of IP, with its Ethernet header but without a head, has more

	// So many frames are delivered before somebody else has the processor.
	readBatch = 16
)

// ethernet is the stack's end of a link (stack.LinkEndpoint): whole frames on a packet socket or
// a tap, each after a header that leaves segments and checksums to the kernel. One goroutine reads and
// delivers; what comes faster than that waits in the kernel, as far as there is room, and is lost
// like anywhere else.
type ethernet struct {
	link *os.File
	raw  syscall.RawConn
	fd   int
	mtu  uint32

	reading   sync.WaitGroup
	malformed atomic.Int64 // frames that are not what the header before them says

	mu         sync.Mutex
	dispatcher stack.NetworkDispatcher
}

// newEthernet takes over fd.
func newEthernet(fd, mtu int) (*ethernet, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("set non-blocking: %w", err)
	}
	link := os.NewFile(uintptr(fd), "link")
	raw, err := link.SyscallConn()
	if err != nil {
		link.Close()
		return nil, err
	}
	return &ethernet{link: link, raw: raw, fd: fd, mtu: uint32(mtu)}, nil
}

// Attach begins to read, or with nil ends it.
func (e *ethernet) Attach(d stack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case d == nil && e.dispatcher != nil:
		e.link.Close()
	case d != nil && e.dispatcher == nil:
		e.reading.Go(func() { e.read(d) })
	}
	e.dispatcher = d
}

func (e *ethernet) read(d stack.NetworkDispatcher) {
	var in frameBuffer
	deliver := func(pkt *stack.PacketBuffer) {
		d.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
		pkt.DecRef()
	}
	for i := 0; ; i++ {
		if i%readBatch == 0 {
			runtime.Gosched() // without, what is delivered piles up, and is lost
		}
		n, err := in.read(e.raw)
		switch err {
		case nil:
			if size, split := udpSegments(in.offload[:]); split {
				if !in.forStack(n) || !splitDatagrams(size, in.whole(n), func(frame []byte) { deliver(packetOf(frame)) }) {
					e.malformed.Add(1)
				}
				i = -1 // as much as many frames
			} else if pkt := in.packet(n); pkt != nil {
				deliver(pkt)
			}
		case unix.EINTR, unix.ENETDOWN: // the sandbox may take its link down, and up again
		case unix.EINVAL: // or send segments of a kind that virtio has no word for
		default:
			return
		}
	}
}

// frameBuffer is where one frame is read into: its headers for themselves, for the stack copies a
// View that has one of IP in it.
type frameBuffer struct {
	offload [vnetHeader]byte
	head    [128]byte // as much as a View of this size holds, or what follows would be moved into it
	body    *buffer.View
	joined  []byte // the last frame that had to be in one piece
}

func (b *frameBuffer) read(link syscall.RawConn) (n int, failed error) {
	if b.body == nil {
		b.body = buffer.NewViewSize(maxBody)
	}
	pieces := [][]byte{b.offload[:], b.head[:], b.body.AsSlice()}
	err := link.Read(func(fd uintptr) bool {
		n, failed = readv(int(fd), pieces)
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

// whole is the frame in one piece, until the next.
func (b *frameBuffer) whole(n int) []byte {
	n -= vnetHeader
	b.joined = append(b.joined[:0], b.head[:min(n, len(b.head))]...)
	if n > len(b.head) {
		b.joined = append(b.joined, b.body.AsSlice()[:n-len(b.head)]...)
	}
	return b.joined
}

// packet is the frame of n bytes that was read, or nil if it is none, or not for the stack.
func (b *frameBuffer) packet(n int) *stack.PacketBuffer {
	if !b.forStack(n) {
		return nil
	}
	n -= vnetHeader
	ether := header.Ethernet(b.head[:])
	frame := buffer.MakeWithData(b.head[:min(n, len(b.head))])
	switch n -= len(b.head); {
	case n <= 0:
	case n <= copyBody:
		frame.Append(buffer.NewViewWithData(b.body.AsSlice()[:n]))
	default:
		b.body.CapLength(n)
		frame.Append(b.body)
		b.body = nil
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: frame})
	pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	pkt.NetworkProtocolNumber = ether.Type()
	return pkt
}

// packetOf is a packet with a copy of frame.
func packetOf(frame []byte) *stack.PacketBuffer {
	head := min(len(frame), 128) // as with frameBuffer
	payload := buffer.MakeWithData(frame[:head])
	if head < len(frame) {
		payload.Append(buffer.NewViewWithData(frame[head:]))
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: payload})
	pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	pkt.NetworkProtocolNumber = header.Ethernet(frame).Type()
	return pkt
}

// WritePackets sends each as a frame. One that the link has no room for is lost.
func (e *ethernet) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	var iovecs [8][]byte
	for i, pkt := range pkts.AsSlice() {
		h := offload(pkt)
		frame := append(append(iovecs[:0], h[:]), pkt.AsSlices()...)
		if _, err := writev(e.fd, frame); err != nil {
			return i, tcpip.TranslateErrno(err.(unix.Errno))
		}
	}
	return pkts.Len(), nil
}

// offload is the header that says what of a frame the kernel is to do.
func offload(pkt *stack.PacketBuffer) (h [vnetHeader]byte) {
	const (
		needsChecksum = 1    // VIRTIO_NET_HDR_F_NEEDS_CSUM
		tcp4, tcp6    = 1, 4 // VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6
	)
	gso := pkt.GSOOptions
	if gso.Type == stack.GSONone {
		return h
	}
	binary.NativeEndian.PutUint16(h[2:], uint16(pkt.HeaderSize()))
	if gso.NeedsCsum {
		h[0] = needsChecksum
		binary.NativeEndian.PutUint16(h[6:], header.EthernetMinimumSize+gso.L3HdrLen)
		binary.NativeEndian.PutUint16(h[8:], gso.CsumOffset)
	}
	if pkt.Data().Size() > int(gso.MSS) {
		h[1] = tcp4
		if gso.Type == stack.GSOTCPv6 {
			h[1] = tcp6
		}
		binary.NativeEndian.PutUint16(h[4:], gso.MSS)
	}
	return h
}

// AddHeader writes the frame's own header.
func (e *ethernet) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress, DstAddr: pkt.EgressRoute.RemoteLinkAddress, Type: pkt.NetworkProtocolNumber,
	})
}

// ParseHeader: read has done that.
func (e *ethernet) ParseHeader(*stack.PacketBuffer) bool { return true }

func (e *ethernet) MTU() uint32                             { return e.mtu }
func (e *ethernet) SetMTU(uint32)                           {}
func (e *ethernet) MaxHeaderLength() uint16                 { return header.EthernetMinimumSize }
func (e *ethernet) LinkAddress() tcpip.LinkAddress          { return tcpip.LinkAddress(stackMAC[:]) }
func (e *ethernet) SetLinkAddress(tcpip.LinkAddress)        {}
func (e *ethernet) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (e *ethernet) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (e *ethernet) GSOMaxSize() uint32                      { return 1 << 16 }
func (e *ethernet) Wait()                                   { e.reading.Wait() }
func (e *ethernet) Close()                                  {}
func (e *ethernet) SetOnCloseAction(func())                 {}
func (e *ethernet) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
}

// IsAttached: somebody has what is read.
func (e *ethernet) IsAttached() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dispatcher != nil
}
