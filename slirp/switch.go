//go:build !hot

package slirp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxMembers is how many sandboxes may be on a network at a time.
const maxMembers = 1024

// Switch passes frames between the members of one network, as they are: segments of 64 KiB
// with the checksums left to whoever is the last, as within the kernel. Who has which
// address is known before a frame comes, so a frame from another address than its sender's is
// dropped, and no frame makes anybody believe otherwise: questions about addresses are answered here.
//
// One goroutine reads the frames of each member, and writes them to the others, or delivers them
// to that member's Stack, which is all the gateway is. A member that does not take what it
// is sent loses it, and holds up nobody.
type Switch struct {
	mu      sync.Mutex // of who changes the members
	members atomic.Pointer[members]
	floor   floor // left by each frame

	spoofed, lost, unknown atomic.Int64
}

// members is who there is at one moment. It does not change.
type members struct {
	byMAC     map[[6]byte]*port
	byAddress map[netip.Addr]*port
	byName    map[string][]*port
}

// SwitchCounters tell what a Switch has not passed on.
type SwitchCounters struct {
	Spoofed int64 // from an address that is not the sender's, or of a kind that is not passed
	Lost    int64 // had no room where they should have gone
	Unknown int64 // to nobody
}

// NewSwitch makes a switch that nobody is on.
func NewSwitch() *Switch {
	w := new(Switch)
	w.members.Store(&members{})
	return w
}

// Counters returns what has not been passed on so far.
func (w *Switch) Counters() SwitchCounters {
	return SwitchCounters{Spoofed: w.spoofed.Load(), Lost: w.lost.Load(), Unknown: w.unknown.Load()}
}

// port is a member's place on a Switch.
type port struct {
	on        *Switch
	config    Config
	mac       [6]byte
	addresses []netip.Addr // leased, and link-local
	names     []string     // lower case

	dropped atomic.Int64
	warn    func(string) // told of the first that was; nil is nobody

	link      atomic.Pointer[linkFile] // nil until the sandbox has it
	toGateway func(h, frame []byte)    // takes what is for the gateway; frame is used again afterwards
}

// linkFile is the packet socket of a member.
type linkFile struct {
	file *os.File
	raw  syscall.RawConn
}

// join makes a place for the member that c describes.
func (w *Switch) join(c Config) (*port, error) {
	if c.Member == nil {
		return nil, errors.New("not a member of a network")
	}
	p := &port{on: w, config: c, mac: c.mac()}
	for _, f := range c.families() {
		p.addresses = append(p.addresses, f.Address.Addr())
	}
	if len(p.addresses) == 0 {
		return nil, errors.New("a member without an address")
	}
	p.addresses = append(p.addresses, linkLocal(p.mac))
	for _, name := range c.Member.Names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if name != "" && !slices.Contains(p.names, name) {
			p.names = append(p.names, name)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.members.Load()
	if len(now.byMAC) >= maxMembers {
		return nil, fmt.Errorf("%d sandboxes are on it; there is no room for more", maxMembers)
	}
	if _, taken := now.byMAC[p.mac]; taken {
		return nil, errTaken
	}
	for _, a := range p.addresses {
		if _, taken := now.byAddress[a]; taken {
			return nil, errTaken
		}
	}
	w.members.Store(now.with(p))
	return p, nil
}

// published: another member has a port that p wants.
func (w *Switch) published(p *port) bool {
	for _, q := range w.members.Load().byMAC {
		for _, theirs := range q.config.Ports {
			if q != p && slices.ContainsFunc(p.config.Ports, theirs.Collides) {
				return true
			}
		}
	}
	return false
}

// errTaken: two members of one address would get each other's frames.
var errTaken = errors.New("another sandbox has that address")

// leave ends a member's place. Its socket is closed, which ends its link.
func (p *port) leave() {
	w := p.on
	w.mu.Lock()
	w.members.Store(w.members.Load().without(p))
	w.mu.Unlock()
	if link := p.link.Swap(nil); link != nil {
		link.file.Close()
	}
}

func (m *members) with(p *port) *members { return m.all(append(m.list(), p)) }
func (m *members) without(p *port) *members {
	return m.all(slices.DeleteFunc(m.list(), func(q *port) bool { return q == p }))
}

func (m *members) list() []*port {
	list := make([]*port, 0, len(m.byMAC)+1)
	for _, p := range m.byMAC {
		list = append(list, p)
	}
	return list
}

func (m *members) all(list []*port) *members {
	next := &members{map[[6]byte]*port{}, map[netip.Addr]*port{}, map[string][]*port{}}
	for _, p := range list {
		next.byMAC[p.mac] = p
		for _, a := range p.addresses {
			next.byAddress[a] = p
		}
		for _, name := range p.names {
			next.byName[name] = append(next.byName[name], p)
		}
	}
	return next
}

const (
	etherSize = 14                // bytes of an Ethernet header
	maxFrame  = etherSize + 1<<16 // a whole IPv6 packet is a little longer than 64 KiB
)

// serve reads what the member sends, until its socket is closed.
func (p *port) serve() error {
	link := p.link.Load()
	if link == nil {
		return os.ErrClosed
	}
	b := make([]byte, vnetHeader+maxFrame+64)
	pieces := [][]byte{b}
	for {
		var n int
		var failed error
		err := link.raw.Read(func(fd uintptr) bool {
			n, failed = readv(int(fd), pieces)
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil:
			return err
		case failed == nil && n >= vnetHeader:
			p.pass(b[:vnetHeader], b[vnetHeader:n])
		case failed == nil && n == 0: // neither a packet socket nor a tap has that
			return io.EOF
		case failed == nil:
		case failed == unix.EINVAL: // segments of a kind that the header has no word for
			p.on.lost.Add(1)
		case failed == unix.ENETDOWN, failed == unix.ENOBUFS: // the sandbox may take its link down, and up again
		default:
			return failed
		}
	}
}

// pass sends a frame where it is to go.
func (p *port) pass(h, frame []byte) {
	p.on.floor.leave()
	now := p.on.members.Load()
	switch p.judge(now, frame) {
	case drop:
		p.on.spoofed.Add(1)
		if p.dropped.Add(1) == 1 && p.warn != nil {
			p.warn("what the sandbox sends from another address than its own is dropped, and so is what is neither IPv4 nor IPv6")
		}
		return
	case done:
		return
	}
	dst := [6]byte(frame[:6])
	switch {
	case dst == stackMAC:
		if p.toGateway != nil {
			p.toGateway(h, frame)
		}
	case dst[0]&1 != 0: // broadcast, multicast
		for _, q := range now.byMAC {
			if q != p {
				q.send(h, frame)
			}
		}
	default:
		if q := now.byMAC[dst]; q != nil && q != p {
			q.send(h, frame)
		} else {
			p.on.unknown.Add(1)
		}
	}
}

// send writes a frame to the member, or loses it: nobody waits for room.
func (p *port) send(parts ...[]byte) error {
	link := p.link.Load()
	if link == nil {
		p.on.lost.Add(1)
		return unix.ENETDOWN
	}
	failed := error(unix.ENETDOWN)
	link.raw.Control(func(fd uintptr) {
		_, failed = writev(int(fd), parts)
	})
	if failed != nil {
		p.on.lost.Add(1)
	}
	return failed
}

// verdict is what becomes of a frame.
type verdict uint8

const (
	forward verdict = iota
	drop            // it is not what it should be
	done            // it was answered, or is nobody's business
)

// judge looks at where a frame says that it is from. Frames of IPv4 and IPv6 are passed on;
// those that ask for, or announce, who has an address are not.
func (p *port) judge(now *members, frame []byte) verdict {
	if len(frame) < etherSize || [6]byte(frame[6:12]) != p.mac {
		return drop
	}
	packet := frame[etherSize:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		return p.answerARP(now, packet)
	case unix.ETH_P_IP:
		if len(packet) < 20 || !p.config.IPv4.used() || netip.AddrFrom4([4]byte(packet[12:])) != p.config.IPv4.Address.Addr() {
			return drop
		}
		return forward
	case unix.ETH_P_IPV6:
		return p.judgeIPv6(now, packet)
	}
	return drop
}

const (
	icmpV6 = 58

	routerSolicitation    = 133
	neighbourSolicitation = 135
	redirect              = 137
)

func (p *port) judgeIPv6(now *members, packet []byte) verdict {
	if len(packet) < 40 {
		return drop
	}
	src := netip.AddrFrom16([16]byte(packet[8:]))
	if src.IsUnspecified() {
		return done // is this address anybody's? Nobody else's: it is leased (RFC 4862)
	}
	if src == linkLocal(p.mac) && !p.config.IPv6.used() {
		return done // the kernel has that address wherever it has IPv6
	}
	if src != p.config.IPv6.Address.Addr() && src != linkLocal(p.mac) {
		return drop
	}
	message, ok := icmpMessage(packet)
	switch {
	case !ok:
		return drop
	case len(message) == 0 || message[0] < routerSolicitation || message[0] > redirect:
		return forward
	case message[0] == neighbourSolicitation:
		return p.answerSolicitation(now, src, message)
	case message[0] == routerSolicitation:
		return done // there is none
	}
	return drop // what is announced is not believed, by anybody
}

// icmpMessage is the ICMP message of a packet, behind what may stand before it; none for other
// packets. A chain of headers that goes on too long, or is cut, is not ok.
func icmpMessage(packet []byte) (message []byte, ok bool) {
	next, rest := packet[6], packet[40:]
	for range 8 {
		switch next {
		case icmpV6:
			return rest, len(rest) > 0
		case 44: // a fragment; that of a neighbour's message is not accepted by Linux (RFC 6980)
			if len(rest) < 8 {
				return nil, false
			}
			if binary.BigEndian.Uint16(rest[2:])&^7 != 0 {
				return nil, true // not the first
			}
			next, rest = rest[0], rest[8:]
		case 0, 43, 60, 135, 139, 140: // options, routing, mobility, HIP, shim6
			if len(rest) < 8 || len(rest) < 8+8*int(rest[1]) {
				return nil, false
			}
			next, rest = rest[0], rest[8+8*int(rest[1]):]
		case 51: // authentication counts by four
			if len(rest) < 8 || len(rest) < 8+4*int(rest[1]) {
				return nil, false
			}
			next, rest = rest[0], rest[8+4*int(rest[1]):]
		default:
			return nil, true
		}
	}
	return nil, false
}

// whoHas is the hardware address of an address on this network.
func (p *port) whoHas(now *members, a netip.Addr) ([6]byte, bool) {
	if p.config.gateway(a) || p.config.resolves(a) {
		return stackMAC, true
	}
	if q := now.byAddress[a]; q != nil && q != p {
		return q.mac, true
	}
	return [6]byte{}, false
}

// answerARP answers a question for a hardware address (RFC 826), if it has an answer.
func (p *port) answerARP(now *members, packet []byte) verdict {
	request := [8]byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4; a reply is one that nobody has asked for
	if len(packet) < 28 || !p.config.IPv4.used() || [8]byte(packet[:8]) != request {
		return drop
	}
	sender := netip.AddrFrom4([4]byte(packet[14:]))
	if [6]byte(packet[8:]) != p.mac || sender != p.config.IPv4.Address.Addr() && !sender.IsUnspecified() {
		return drop
	}
	mac, ok := p.whoHas(now, netip.AddrFrom4([4]byte(packet[24:])))
	if !ok {
		return done
	}
	reply := make([]byte, 0, etherSize+28)
	reply = append(append(append(reply, p.mac[:]...), mac[:]...), 8, 6)
	reply = append(reply, 0, 1, 8, 0, 6, 4, 0, 2)
	reply = append(append(reply, mac[:]...), packet[24:28]...)
	reply = append(append(reply, p.mac[:]...), packet[14:18]...)
	p.send(make([]byte, vnetHeader), reply)
	return done
}

// answerSolicitation is the same for IPv6 (RFC 4861).
func (p *port) answerSolicitation(now *members, src netip.Addr, message []byte) verdict {
	if len(message) < 24 {
		return drop
	}
	target := netip.AddrFrom16([16]byte(message[8:]))
	mac, ok := p.whoHas(now, target)
	if !ok {
		return done
	}
	const solicited, override, router = 0x40, 0x20, 0x80
	flags := byte(solicited | override)
	if mac == stackMAC {
		flags |= router
	}
	icmp := make([]byte, 0, 32)
	icmp = append(icmp, 136, 0, 0, 0, flags, 0, 0, 0)
	icmp = append(append(icmp, message[8:24]...), 2, 1)
	icmp = append(icmp, mac[:]...)
	from, to := target.As16(), src.As16()
	binary.BigEndian.PutUint16(icmp[2:], icmpChecksum(from, to, icmp))
	reply := make([]byte, 0, etherSize+40+len(icmp))
	reply = append(append(append(reply, p.mac[:]...), mac[:]...), 0x86, 0xdd)
	reply = append(reply, 0x60, 0, 0, 0, 0, byte(len(icmp)), icmpV6, 255)
	reply = append(append(append(reply, from[:]...), to[:]...), icmp...)
	p.send(make([]byte, vnetHeader), reply)
	return done
}

// icmpChecksum is over a pseudo header, too (RFC 4443).
func icmpChecksum(from, to [16]byte, message []byte) uint16 {
	sum := uint32(len(message)) + icmpV6
	for _, b := range [][]byte{from[:], to[:], message} {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// addressesOf returns the members' of that name; found is false if it is nobody's.
func (w *Switch) addressesOf(name string) (addresses []netip.Addr, found bool) {
	ports := w.members.Load().byName[name]
	for _, p := range ports {
		for _, f := range p.config.families() {
			addresses = append(addresses, f.Address.Addr())
		}
	}
	return addresses, len(ports) > 0
}

// nameOf returns the first name of the member that has the address.
func (w *Switch) nameOf(a netip.Addr) (string, bool) {
	p := w.members.Load().byAddress[a]
	if p == nil || len(p.names) == 0 {
		return "", false
	}
	return p.names[0], true
}
