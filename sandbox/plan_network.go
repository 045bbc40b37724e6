package sandbox

import (
	"net/netip"
	"slices"

	"sbx/slirp"
)

// network works out the addresses of a private network. It has IPv6 where the host has, so that
// no program tries in vain what leads nowhere.
func (p *planner) network() error {
	if p.Network != "private" {
		if p.spec.HostLoopback {
			return Errorf("--network %s: it has no option host-loopback", p.Network)
		}
		return nil
	}
	ipv6 := slices.ContainsFunc(p.host.Networks, func(n netip.Prefix) bool {
		return n.Addr().Is6() && n.Addr().IsGlobalUnicast()
	})
	c := slirp.Default(p.host.Networks, ipv6)
	c.HostLoopback = p.spec.HostLoopback
	for _, server := range p.spec.DNS {
		if a, err := netip.ParseAddr(server); err == nil { // else it is none
			c.Resolvers = append(c.Resolvers, a)
		}
	}
	p.Link = &c
	return nil
}
