//go:build !hot

package slirp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// So many frames are delivered before somebody else has the processor.
const readBatch = 16

// ethernet is the stack's end of a link (stack.LinkEndpoint): whole frames on a packet socket or
// a tap, each after a header that leaves segments and checksums to the kernel. One goroutine reads and
// delivers; what comes faster than that waits in the kernel, as far as there is room, and is lost
// like anywhere else.
type ethernet struct {
	link *os.File
	raw  syscall.RawConn
	fd   int
	mtu  uint32

	floor  *floor      // left by each frame
	failed func(error) // called when no frame can be read any more

	reading   sync.WaitGroup
	malformed atomic.Int64 // frames that are not what the header before them says

	mu         sync.Mutex
	dispatcher stack.NetworkDispatcher
}

// newEthernet takes over fd.
func newEthernet(fd, mtu int, floor *floor, failed func(error)) (*ethernet, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("set non-blocking: %w", err)
	}
	link := os.NewFile(uintptr(fd), "link")
	raw, err := link.SyscallConn()
	if err != nil {
		link.Close()
		return nil, err
	}
	return &ethernet{link: link, raw: raw, fd: fd, mtu: uint32(mtu), floor: floor, failed: failed}, nil
}

// Attach begins to read, or with nil ends it.
func (e *ethernet) Attach(d stack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case d == nil && e.dispatcher != nil:
		e.link.Close()
	case d != nil && e.dispatcher == nil:
		e.reading.Go(func() {
			if err := e.read(d); !errors.Is(err, os.ErrClosed) {
				e.failed(err)
			}
		})
	}
	e.dispatcher = d
}

// read returns with the link, or its failure.
func (e *ethernet) read(d stack.NetworkDispatcher) error {
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
			e.floor.leave()
			if in.forStack(n) && !in.each(n, deliver) {
				e.malformed.Add(1)
			}
			if in.many() {
				i = -1
			}
		case unix.EINTR, unix.ENETDOWN, unix.ENOBUFS: // the sandbox may take its link down, and up again
		case unix.EINVAL: // or send segments of a kind that virtio has no word for
		default:
			return err
		}
	}
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
