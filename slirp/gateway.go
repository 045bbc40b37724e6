//go:build !hot

package slirp

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// gateway is the end of a member's link that its Stack has (stack.LinkEndpoint): what the switch
// delivers there, and what goes from there to that member and nobody else.
type gateway struct {
	port       *port
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

func newGateway(p *port) *gateway {
	g := &gateway{port: p}
	p.toGateway = g.deliver
	return g
}

// deliver gives the stack a copy of a frame, which is whole: the kernel leaves checksums between
// the two ends of a veth to whoever sends further; or of the datagrams that it is.
func (g *gateway) deliver(h, frame []byte) {
	d := g.dispatcher.Load()
	if d == nil {
		return
	}
	use := func(frame []byte) {
		pkt := packetOf(frame)
		defer pkt.DecRef()
		(*d).DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
	}
	size, split := udpSegments(h)
	if !split {
		use(frame)
	} else if !splitDatagrams(size, frame, use) {
		g.port.on.spoofed.Add(1)
	}
}

// WritePackets sends each as a frame.
func (g *gateway) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	var parts [8][]byte
	for i, pkt := range pkts.AsSlice() {
		h := offload(pkt)
		if err := g.port.send(append(append(parts[:0], h[:]), pkt.AsSlices()...)...); err != nil {
			return i, tcpip.TranslateErrno(err.(unix.Errno))
		}
	}
	return pkts.Len(), nil
}

// Attach connects the stack, or with nil ends that.
func (g *gateway) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		g.dispatcher.Store(nil)
		return
	}
	g.dispatcher.Store(&d)
}

// AddHeader writes the frame's own header.
func (g *gateway) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(stackMAC[:]), DstAddr: tcpip.LinkAddress(g.port.mac[:]), Type: pkt.NetworkProtocolNumber,
	})
}

// ParseHeader: deliver has done that.
func (g *gateway) ParseHeader(*stack.PacketBuffer) bool { return true }

func (g *gateway) IsAttached() bool                        { return g.dispatcher.Load() != nil }
func (g *gateway) MTU() uint32                             { return uint32(g.port.config.MTU) }
func (g *gateway) SetMTU(uint32)                           {}
func (g *gateway) MaxHeaderLength() uint16                 { return header.EthernetMinimumSize }
func (g *gateway) LinkAddress() tcpip.LinkAddress          { return tcpip.LinkAddress(stackMAC[:]) }
func (g *gateway) SetLinkAddress(tcpip.LinkAddress)        {}
func (g *gateway) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (g *gateway) SupportedGSO() stack.SupportedGSO        { return stack.HostGSOSupported }
func (g *gateway) GSOMaxSize() uint32                      { return 1 << 16 }
func (g *gateway) Wait()                                   {}
func (g *gateway) Close()                                  {}
func (g *gateway) SetOnCloseAction(func())                 {}

// Capabilities: no hardware address is asked for, since there is but one.
func (g *gateway) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}
