//go:build !hot

package slirp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// What one sandbox may have at a time. Each flow is a descriptor of the caller's process.
const (
	maxTCP     = 4096
	maxDialing = 512 // of these, not connected yet; a further SYN is dropped, and comes again
	maxUDP     = 1024
	maxPings   = 64
	maxUnnamed = 512 // of the connections; they are waited for, and may say much
	maxDNS     = 256 // questions under way, and connections to the resolver

	maxClients    = 4096 // of published ports: what comes from outside leaves the sandbox's own flows their room
	maxUDPClients = 1024
)

// Stack is the network outside of one sandbox.
type Stack struct {
	config Config
	ip     *stack.Stack
	reach  *reach
	dns    *resolver
	pins   *pins
	log    *netLog         // nil without one
	peers  *Switch         // who else is on the network; nil on one of its own
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	asides    asides // networks whose names are found here, too
	published published
	sockets   *socketMaker

	most                share // that a flow of TCP may have
	room                *room
	tcps, udps, pings   limit
	questions, askers   limit // what goes to the resolver, by TCP and by UDP
	clients, udpClients limit
	narrow              narrow
	udpIdle             time.Duration
	unnamed             limit // flows that have not said their name yet
	files               *descriptors
	link                *ethernet // nil on a Switch
	floor               *floor    // of all that pass by this process

	denied, deniedNames atomic.Int64

	warn func(string) // told once when something is refused for want of room; nil is nobody
}

const nic = 1

// silent keeps the stack's library from writing to stderr: whoever has the logger of the
// beginning, and whoever asks for one.
var silent = sync.OnceFunc(func() {
	log.SetLevel(log.Warning)
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
})

// New makes a stack; Serve connects it. It uses the net namespace of the calling process.
func New(c Config) (*Stack, error) { return newStack(c, newDescriptors()) }

// newStack is New for one of several in this process.
func newStack(c Config, files *descriptors) (*Stack, error) {
	silent()
	s := &Stack{config: c, reach: newReach(), pins: newPins(c.Hosts), floor: new(floor), files: files}
	s.most, s.room, s.udpIdle = share{maxReceive, maxSend}, newRoom(), udpIdle
	for _, l := range []struct {
		*limit
		max, each int64
		what      string
	}{
		{&s.tcps, maxTCP, 1, "connections out of the sandbox"}, {&s.udps, maxUDP, 1, "flows of UDP out of the sandbox"},
		{&s.pings, maxPings, 1, "pings without an answer"}, {&s.unnamed, maxUnnamed, 0, "connections that have not said their name yet"},
		{&s.questions, maxDNS, 0, "connections to the resolver"}, {&s.askers, maxUDP, 0, "flows of UDP to the resolver"},
		{&s.clients, maxClients, 2, "connections to published ports"}, {&s.udpClients, maxUDPClients, 1, "clients of published UDP ports"},
	} {
		l.limit.max, l.limit.each, l.limit.what, l.limit.files = l.max, l.each, l.what, files
		l.limit.warn = func(text string) {
			if s.warn != nil {
				s.warn(text)
			}
		}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.dns = newResolver(c.Resolvers)
	s.ip = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	// It is room that moderates the window; but only so is the scale chosen for the largest one.
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	// Nothing wanders about on the link, so nothing has to be waited for.
	wait := tcpip.TCPTimeWaitTimeoutOption(0)
	for _, option := range []tcpip.SettableTransportProtocolOption{
		&sack, &moderate, &wait,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: minReceive, Default: minReceive, Max: maxReceive},
		&tcpip.TCPSendBufferSizeRangeOption{Min: minSend, Default: minSend, Max: maxSend},
	} {
		if err := s.ip.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return nil, fmt.Errorf("TCP: %v", err)
		}
	}
	s.ip.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s.ip, minReceive, maxDialing, s.forwardTCP).HandlePacket)
	s.ip.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s.ip, s.forwardUDP).HandlePacket)
	s.ip.SetTransportProtocolHandler(icmp.ProtocolNumber4, s.forwardEcho)
	s.ip.SetTransportProtocolHandler(icmp.ProtocolNumber6, s.forwardEcho)
	return s, nil
}

// Serve answers on link, which Connect has made; it takes the descriptor over.
func (s *Stack) Serve(link *os.File) error {
	defer link.Close()
	fd, err := unix.FcntlInt(link.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("dup: %w", err)
	}
	if err := closeLater(fd); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if err := s.fit(fd); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	ep, err := newEthernet(fd, s.config.MTU, s.floor, s.linkFailed)
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	s.link = ep
	return s.attach(ep)
}

func (s *Stack) linkFailed(err error) {
	if s.warn != nil && s.ctx.Err() == nil {
		s.warn("nothing comes from the sandbox any more: link: " + err.Error())
	}
}

func (s *Stack) attach(ep stack.LinkEndpoint) error {
	if err := s.ip.CreateNIC(nic, ep); err != nil {
		return fmt.Errorf("link: %v", err)
	}
	return s.address()
}

// fit lets no flow have more under way than the link has room for, as far as it has a bound: what
// is lost there makes the sandbox slow down.
func (s *Stack) fit(fd int) error {
	room, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if errors.Is(err, unix.ENOTSOCK) { // a tap
		return nil
	}
	if err != nil {
		return err
	}
	s.most.receive = max(minReceive, min(maxReceive, room/4*3))
	window := tcpip.TCPReceiveBufferSizeRangeOption{Min: minReceive, Default: minReceive, Max: s.most.receive}
	if err := s.ip.SetTransportProtocolOption(tcp.ProtocolNumber, &window); err != nil {
		return fmt.Errorf("TCP: %v", err)
	}
	return nil
}

// address gives the stack its own addresses, and everybody else's: it answers for all.
func (s *Stack) address() error {
	var errs []error
	try := func(err tcpip.Error) {
		if err != nil {
			errs = append(errs, errors.New(err.String()))
		}
	}
	var routes []tcpip.Route
	for _, f := range s.config.families() {
		protocol := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
		if f.Gateway.Is6() {
			protocol = ipv6.ProtocolNumber
		}
		for _, a := range slices.Compact([]netip.Addr{f.Gateway, f.Resolver}) {
			try(s.ip.AddProtocolAddress(nic, tcpip.ProtocolAddress{
				Protocol:          protocol,
				AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(a.AsSlice()), PrefixLen: f.Address.Bits()},
			}, stack.AddressProperties{}))
		}
		if s.config.Member == nil { // else a gateway knows
			mac := s.config.mac()
			try(s.ip.AddStaticNeighbor(nic, protocol, tcpip.AddrFromSlice(f.Address.Addr().AsSlice()), tcpip.LinkAddress(mac[:])))
		}
		subnet, err := tcpip.NewSubnet(tcpip.AddrFromSlice(f.Address.Masked().Addr().AsSlice()), tcpip.MaskFromBytes(mask(f.Address)))
		errs = append(errs, err)
		routes = append(routes, tcpip.Route{Destination: subnet, NIC: nic})
	}
	s.ip.SetRouteTable(routes)
	try(s.ip.SetPromiscuousMode(nic, true))
	try(s.ip.SetSpoofing(nic, true))
	return errors.Join(errs...)
}

func mask(p netip.Prefix) []byte {
	bytes := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
	return bytes
}

// WarnTo has f told when something is refused for want of room, once for each kind, and what becomes of
// the log. It is called before LogTo and Serve.
func (s *Stack) WarnTo(f func(string)) { s.warn = f }

// LogTo writes a line to f for each flow and each question, from now on. It takes f over.
func (s *Stack) LogTo(f *os.File) { s.log = newNetLog(f, s.config.Log, s.warn) }

// Close ends every flow. It does not wait for them, but their lines are in the log then.
func (s *Stack) Close() {
	s.cancel()
	s.ip.Close()
	s.log.close()
}

// destroy is Close for a process that goes on: nothing of the stack is left, in a while.
func (s *Stack) destroy() {
	s.cancel()
	s.published.close() // whatever time the log takes
	s.files.give(s.published.held)
	s.Close()
	if m := s.sockets; m != nil {
		go func() {
			m.mu.Lock() // who waits for a socket has one, or sees the end of the sandbox
			defer m.mu.Unlock()
			m.requests.Close()
		}()
	}
	go s.ip.Wait()
}

// target is where a packet of the sandbox wants to go: the stack calls that local.
func target(id stack.TransportEndpointID) netip.AddrPort {
	a, _ := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	return netip.AddrPortFrom(a.Unmap(), id.LocalPort)
}

// protocolOf is the network protocol of an address.
func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}
