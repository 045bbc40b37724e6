package sandbox

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sbx/slirp"
)

// userDefined is the network of a sandbox that is on networks of the user's.
const userDefined = "user-defined"

// memberships makes a link to each network, eth0 and up. The way out is by the first that has one.
func (p *planner) memberships() error {
	spec := p.spec
	if spec.HostLoopback {
		return Errorf("--network: host-loopback is an option of private")
	}
	out := slices.IndexFunc(spec.Networks, func(n UserNetwork) bool { return !n.Internal })
	for i := range spec.Networks {
		n := &spec.Networks[i]
		c := slirp.Config{MTU: defaultMTU, MAC: n.MAC, Resolvers: n.Servers, Member: &slirp.Member{
			Network: n.Name, Interface: fmt.Sprint("eth", i), Names: p.names(n), Internal: n.Internal, Default: i == out, Finds: n.DNS,
		}}
		if n.MTU > 0 {
			c.MTU = n.MTU
		}
		for _, a := range n.Addresses {
			f := slirp.Family{Address: a.Address, Gateway: a.Gateway, Resolver: a.Gateway}
			if a.Gateway.Is4() {
				c.IPv4 = f
			} else {
				c.IPv6 = f
			}
		}
		if isAny(spec.DNS) {
			c.Resolvers = nil
		}
		if err := p.outward(&c); err != nil {
			return err
		}
		if i == out {
			var err error
			if c.Ports, err = p.ports(); err != nil {
				return err
			}
		}
		p.Networks = append(p.Networks, Membership{Live: n.Live, Link: c})
	}
	if out < 0 {
		if err := p.noPorts(); err != nil {
			return err
		}
		if len(spec.Allow)+len(spec.Deny) > 0 {
			return &Error{Text: "--allow, --deny: an internal network lets nothing out", Fix: "--network NAME of one that is not internal, beside it"}
		}
	}
	p.finishRules()
	asked := p.askedResolvers()
	asked[len(asked)-1].Resolves = true
	for i := range p.Networks {
		m := p.Networks[i].Link.Member
		m.Aside = m.Finds && !slices.Contains(asked, m)
	}
	return nil
}

// defaultMTU is that of most links.
const defaultMTU = 1500

func isAny(dns []string) bool { return len(dns) > 0 && !slices.Equal(dns, []string{"none"}) }

// names are those by which others find the sandbox, the first of which is that of its addresses.
func (p *planner) names(n *UserNetwork) (names []string) {
	for _, name := range slices.Concat([]string{p.Name, p.Hostname, p.host.shortID()}, n.Aliases) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// askedResolvers are the three networks at most whose resolvers are in resolv.conf, which names
// no more (resolv.conf(5)). The last one also answers for everybody else's names, of further networks
// and of the world, and is that of the way out, if there is one; the others refuse those, and whoever asks goes
// on to the next.
func (p *planner) askedResolvers() (asked []*slirp.Member) {
	last := p.Networks[0].Link.Member
	for i := range p.Networks {
		if m := p.Networks[i].Link.Member; m.Default {
			last = m
		}
	}
	for i := range p.Networks {
		if m := p.Networks[i].Link.Member; m != last && m.Finds && len(asked) < 2 {
			asked = append(asked, m)
		}
	}
	return append(asked, last)
}

// memberResolvers are their addresses.
func (p *planner) memberResolvers() (servers []string) {
	for _, m := range p.askedResolvers() {
		for i := range p.Networks {
			if c := &p.Networks[i].Link; c.Member == m {
				servers = append(servers, c.OwnFamily().Resolver.String())
			}
		}
	}
	return servers
}

// ownAddress is what the sandbox's name stands for.
func (p *planner) ownAddress() (netip.Addr, bool) {
	if links := p.links(); len(links) > 0 {
		return links[0].OwnFamily().Address.Addr(), true
	}
	return netip.Addr{}, false
}

// links are the sandbox's interfaces, in order.
func (p *Plan) links() (links []*slirp.Config) {
	if p.Link != nil {
		links = append(links, p.Link)
	}
	for i := range p.Networks {
		links = append(links, &p.Networks[i].Link)
	}
	return links
}

func (m *Membership) title() string {
	how := []string{m.Link.Member.Interface + " on " + m.Link.Member.Network}
	if m.Link.Member.Internal {
		how = append(how, "internal")
	}
	if m.Link.Member.Default {
		how = append(how, "the way out")
	}
	return strings.Join(how, ", ") + "; found as " + strings.Join(m.Link.Member.Names, ", ")
}
