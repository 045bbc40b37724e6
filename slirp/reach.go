//go:build !hot

package slirp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// reach decides what may be dialled.
type reach struct{ reserved []netip.Prefix }

func newReach() *reach { return &reach{Reserved()} }

// errReserved is why a flow is refused: whom the address belongs to.
var errReserved = errors.New("not reachable from a sandbox")

// check returns nil if dst is neither the host nor reserved. An IPv4 address within an IPv6
// one is judged as what it leads to.
func (r *reach) check(dst netip.Addr) error {
	dst = dst.Unmap().WithZone("")
	for _, p := range r.reserved {
		if p.Contains(dst) {
			return fmt.Errorf("%s: %w", dst, errReserved)
		}
	}
	for _, inner := range embedded(dst) {
		if err := r.check(inner); errors.Is(err, errReserved) { // a host that has no IPv4 itself may have a translator
			return fmt.Errorf("%s: %w", dst, err)
		}
	}
	return notLocal(dst)
}

// embedded are the IPv4 addresses that a translator or a tunnel could go on to.
func embedded(a netip.Addr) (inner []netip.Addr) {
	if a.Is4() {
		return nil
	}
	b := a.As16()
	at := func(places ...int) {
		inner = append(inner, netip.AddrFrom4([4]byte{b[places[0]], b[places[1]], b[places[2]], b[places[3]]}))
	}
	within := func(network string) bool { return netip.MustParsePrefix(network).Contains(a) }
	switch {
	case within("64:ff9b::/96"), // NAT64 (RFC 6052)
		within("::ffff:0:0:0/96"): // IPv4-translated (RFC 2765)
		at(12, 13, 14, 15)
	case within("64:ff9b:1::/48"): // NAT64 of the network's own, whose prefix has one of these lengths (RFC 8215; RFC 6052, 2.2)
		at(6, 7, 9, 10)
		at(7, 9, 10, 11)
		at(9, 10, 11, 12)
		at(12, 13, 14, 15)
		// One is right, and the others are made of the prefix, or of nothing.
		inner = slices.DeleteFunc(inner, func(a netip.Addr) bool { return a.As4()[0] == 0 || a.As4()[0] >= 224 })
	case within("2002::/16"): // 6to4 (RFC 3056)
		at(2, 3, 4, 5)
	case within("2001::/32"): // Teredo (RFC 4380): the server, and the client, upside down
		at(4, 5, 6, 7)
		inner = append(inner, netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	case b[8]&^3 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP (RFC 5214), in any network
		at(12, 13, 14, 15)
	}
	return inner
}

// notLocal asks the kernel where it would send a packet to: to this host, or away from it.
// What it says of this moment holds for an address that is added now.
func notLocal(dst netip.Addr) error {
	routes, err := netlink.RouteGet(dst.AsSlice())
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%s: %w", dst, err)
	}
	if err != nil {
		return fmt.Errorf("route to %s: %w", dst, err)
	}
	for _, route := range routes {
		if route.Type != unix.RTN_UNICAST {
			return fmt.Errorf("%s belongs to the host: %w", dst, errReserved)
		}
	}
	return nil
}
