//go:build !hot

package slirp

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// reach decides what may be dialled.
type reach struct{ reserved []netip.Prefix }

func newReach() *reach { return &reach{never()} }

// errReserved is why a flow is refused: whom the address belongs to.
var errReserved = errors.New("not reachable from a sandbox")

// never are addresses that mean the host, or something that only the host is meant to ask.
func never() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),          // this host (RFC 1122); Linux connects to itself
		netip.MustParsePrefix("127.0.0.0/8"),        //
		netip.MustParsePrefix("169.254.0.0/16"),     // link-local; the metadata of clouds
		netip.MustParsePrefix("100.100.100.200/32"), // the same, at Alibaba
		netip.MustParsePrefix("168.63.129.16/32"),   // and at Azure
		netip.MustParsePrefix("224.0.0.0/3"),        // multicast, reserved, broadcast
		netip.MustParsePrefix("::/96"),              // unspecified, loopback, IPv4-compatible
		netip.MustParsePrefix("fe80::/10"),          // link-local
		netip.MustParsePrefix("fec0::/10"),          // site-local, as deprecated as it is routed nowhere
		netip.MustParsePrefix("fd00:ec2::/32"),      // metadata, at Amazon
		netip.MustParsePrefix("fd20:ce::/32"),       // and at Google
		netip.MustParsePrefix("ff00::/8"),           // multicast
	}
}

// check returns nil if dst is neither the host nor reserved. An IPv4 address within an IPv6
// one (RFC 4291, RFC 6052, RFC 3056) is judged as what it leads to.
func (r *reach) check(dst netip.Addr) error {
	dst = dst.Unmap().WithZone("")
	for _, p := range r.reserved {
		if p.Contains(dst) {
			return fmt.Errorf("%s: %w", dst, errReserved)
		}
	}
	if inner, ok := embedded(dst); ok {
		if err := r.check(inner); err != nil {
			return err
		}
	}
	return notLocal(dst)
}

// embedded is the IPv4 address that a translator or a tunnel would go on to.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case a.Is4():
	case netip.MustParsePrefix("64:ff9b::/96").Contains(a):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case netip.MustParsePrefix("2002::/16").Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
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
