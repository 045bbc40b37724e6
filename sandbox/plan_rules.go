package sandbox

import (
	"fmt"
	"net/netip"
	"slices"

	"sbx/slirp"
	"sbx/slirp/egress"
)

// maxRules is what a message to sbx-net has room for.
const maxRules = 48 << 10

// noRules refuses what only a private network can keep.
func (p *planner) noRules() error {
	if p.spec.HostLoopback && p.Network != "slirp4netns" {
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
	if joins(p.Network) {
		return Errorf("%s: with --network %s, the network is that of others, and so are its rules", flag, p.Network)
	}
	if p.Network == "host" {
		return &Error{Text: flag + ": with the host's network nothing goes by way of sbx, which could hold it to a rule, or tell of it", Fix: "--network private"}
	}
	if isProgram(p.Network) {
		return &Error{Text: flag + ": " + p.Network + " knows no such rules, and writes no such file", Fix: "--network private"}
	}
	return &Error{Text: fmt.Sprintf("%s: with --network %s nothing goes out of the sandbox", flag, p.Network), Fix: "--network private"}
}

// rules bounds them.
func (p *planner) rules() error {
	size := 0
	for _, r := range slices.Concat(p.spec.Allow, p.spec.Deny) {
		size += len(r.String()) + 1
	}
	if size > maxRules {
		return &Error{Text: fmt.Sprintf("--allow, --deny: %d bytes of rules; %d is the most", size, maxRules), Fix: "*.example.com is one rule for all names below it, and 192.0.2.0/24 for all addresses in it"}
	}
	return nil
}

// finishRules is for what only all of the network tells.
func (p *planner) finishRules() {
	p.uselessRules()
	if !slices.ContainsFunc(slices.Concat(p.spec.Allow, p.spec.Deny), func(r egress.Rule) bool { return r.Name != "" }) {
		return
	}
	for _, c := range p.links() {
		c.Hosts = p.hostNames()
	}
}

// uselessRules warns of each --allow that lets nothing out: a list of them may be for several places,
// but whoever writes one means something.
func (p *planner) uselessRules() {
	for _, r := range p.spec.Allow {
		if why := p.useless(r); why != "" {
			p.warn("--allow " + r.String() + " lets nothing out: " + why)
		}
	}
}

func (p *planner) useless(r egress.Rule) string {
	if r.Name != "" {
		return p.uselessName(r.Name)
	}
	var own []netip.Prefix // of the sandbox's networks
	for _, c := range p.links() {
		for _, f := range []slirp.Family{c.IPv4, c.IPv6} {
			if !f.Address.IsValid() || !isWithin(r.Network, f.Address) {
				continue
			}
			if c.HostLoopback && r.Network.Contains(f.Gateway) {
				return ""
			}
			own = append(own, f.Address.Masked())
		}
	}
	inside := func(n netip.Prefix) bool { return isWithin(r.Network, n) }
	at := func(n netip.Prefix) bool { return r.Network.IsSingleIP() && r.Network.Addr() == n.Addr() }
	switch {
	case slices.ContainsFunc(p.host.Networks, at), inside(netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)), inside(netip.PrefixFrom(netip.IPv6Loopback(), 128)):
		return "this host is out of reach; " + p.wayToHost()
	case slices.ContainsFunc(slirp.Reserved(), inside):
		return "what is link-local, reserved, or the metadata of a cloud is out of reach"
	case len(own) > 0 && p.Network == userDefined:
		return own[0].String() + " is the sandbox's own network; for what is in there no rule is needed, and none holds"
	case len(own) > 0:
		return own[0].String() + " is the sandbox's own network, and nobody else is in there; " + p.wayToHost()
	case slices.ContainsFunc(p.host.Sandboxes, inside) && !slices.ContainsFunc(p.host.Networks, r.Network.Overlaps):
		return "it is in a network of yours that the sandbox is not on; --network NAME puts it there"
	}
	return ""
}

// wayToHost says what opens this host's loopback.
func (p *planner) wayToHost() string {
	const option = "--network private:host-loopback"
	if a, ok := p.hostAddress(); ok {
		return "its loopback is " + a.String() + ", for which --allow " + a.String() + " is the rule"
	}
	c := slirp.Default(p.host.Networks, false)
	if p.Link != nil {
		c = *p.Link
	}
	return "with " + option + ", --allow " + c.IPv4.Gateway.String() + " is its loopback"
}

func (p *planner) uselessName(name string) string {
	switch name {
	case "localhost", "localhost.localdomain":
		return "it is the sandbox itself, to whom no rule applies; for this host: " + p.wayToHost()
	case "host.containers.internal", "host.docker.internal":
		if _, ok := p.hostAddress(); !ok {
			return "this host is out of reach; " + p.wayToHost()
		}
	}
	return ""
}

// hostNames are the names of /etc/hosts that rules may be of: no resolver is asked for those.
func (p *planner) hostNames() (names []slirp.Host) {
	add := func(name string, a netip.Addr) {
		if name, err := egress.Name(name); err == nil {
			names = append(names, slirp.Host{Name: name, Address: a})
		}
	}
	host, reachable := p.hostAddress()
	for _, h := range p.spec.AddHosts {
		if a, err := netip.ParseAddr(h.Addr); err == nil {
			add(h.Name, a)
		} else if reachable {
			add(h.Name, host)
		}
	}
	if reachable {
		add("host.containers.internal", host)
		add("host.docker.internal", host)
	}
	return names
}

// isWithin: all of n is in network.
func isWithin(n, network netip.Prefix) bool {
	return n.Bits() >= network.Bits() && network.Contains(n.Addr())
}
