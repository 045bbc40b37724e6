package sandbox

import (
	"fmt"
	"net/netip"
	"slices"

	"sbx/slirp"
	"sbx/slirp/egress"
)

// network works out the addresses of a private network. It has IPv6 where the host has, so that
// no program tries in vain what leads nowhere.
func (p *planner) network() error {
	if p.Network != "private" {
		return p.noRules()
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
	c.Policy, c.Log = egress.Policy{Allow: p.spec.Allow, Deny: p.spec.Deny}, p.spec.NetLog
	size := 0
	for _, r := range slices.Concat(p.spec.Allow, p.spec.Deny) {
		size += len(r.String()) + 1
	}
	if size > maxRules {
		return &Error{Text: fmt.Sprintf("--allow, --deny: %d bytes of rules; %d is the most", size, maxRules), Fix: "*.example.com is one rule for all names below it, and 192.0.2.0/24 for all addresses in it"}
	}
	p.Link = &c
	return nil
}

// maxRules is what a message to sbx-net has room for.
const maxRules = 48 << 10

// noRules refuses what only a private network can keep.
func (p *planner) noRules() error {
	if p.spec.HostLoopback {
		return Errorf("--network %s: it has no option host-loopback", p.Network)
	}
	var flag string
	switch {
	case len(p.spec.Allow) > 0:
		flag = "--allow"
	case len(p.spec.Deny) > 0:
		flag = "--deny"
	case p.spec.NetLog != "":
		flag = "--net-log"
	default:
		return nil
	}
	if p.Network == "host" {
		return &Error{Text: flag + ": with the host's network nothing goes by way of sbx, which could hold it to a rule, or tell of it", Fix: "--network private"}
	}
	return &Error{Text: fmt.Sprintf("%s: with --network %s nothing goes out of the sandbox", flag, p.Network), Fix: "--network private"}
}
