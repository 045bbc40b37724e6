package sandbox

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"sbx/sandbox/policy"
	"sbx/slirp"
	"sbx/slirp/egress"
	"sbx/userns"
)

// network works out the addresses of a private network. It has IPv6 where the host has, so that
// no program tries in vain what leads nowhere.
func (p *planner) network() error {
	if p.Network != "private" && p.Network != userDefined && !isProgram(p.Network) {
		if err := p.noPorts(); err != nil {
			return err
		}
	}
	if p.spec.MAC != "" && p.Network != "private" && !isProgram(p.Network) {
		return &Error{Text: "--mac-address: with --network " + p.Network + " the sandbox has no interface of its own to have it", Fix: "--network private, or a network of your own"}
	}
	if joins(p.Network) {
		return p.join()
	}
	if p.Name != "" && p.has("net") {
		p.Around = &userns.Map{UIDs: slices.Clone(p.IDs.UIDs), GIDs: slices.Clone(p.IDs.GIDs)}
	}
	if p.Network == userDefined {
		return p.memberships()
	}
	if p.Network != "private" {
		if err := p.noRules(); err != nil {
			return err
		}
		return p.driver()
	}
	c, err := p.addresses()
	if err != nil {
		return err
	}
	if err := p.outward(c); err != nil {
		return err
	}
	if c.Ports, err = p.ports(); err != nil {
		return err
	}
	p.Link = c
	p.finishRules()
	return nil
}

// outward is what the user says of names and of what may leave, whatever the network.
func (p *planner) outward(c *slirp.Config) error {
	for _, server := range p.spec.DNS {
		if a, err := netip.ParseAddr(server); err == nil { // else it is none
			c.Resolvers = append(c.Resolvers, a)
		}
	}
	for _, n := range p.host.Sandboxes {
		if !slices.ContainsFunc(p.host.Networks, n.Overlaps) { // the host has come into it since
			c.Others = append(c.Others, n)
		}
	}
	c.Policy, c.Log = egress.Policy{Allow: p.spec.Allow, Deny: p.spec.Deny}, p.spec.NetLog
	return p.rules()
}

// addresses are those of the sandbox's network, with what the user says of it.
func (p *planner) addresses() (*slirp.Config, error) {
	o := &p.spec.NetworkOptions
	ipv6, err := p.hasIPv6()
	if err != nil {
		return nil, err
	}
	c := slirp.Default(p.host.Networks, ipv6)
	if o.CIDR.IsValid() {
		if i := slices.IndexFunc(p.host.Networks, o.CIDR.Overlaps); i >= 0 {
			return nil, &Error{
				Text: "--network: cidr=" + o.CIDR.String() + " overlaps " + p.host.Networks[i].Masked().String() + ", a network of this host",
				Fix:  "without cidr= one is chosen that is free",
			}
		}
		c.Within(o.CIDR)
	}
	if o.MTU > 0 {
		c.MTU = o.MTU
	}
	for i, outbound := range o.Outbound {
		if outbound != "" && !p.mayLeaveFrom(outbound) {
			return nil, Errorf("--network %s: outbound_addr: %s is no address of this host, and no interface", p.Network, outbound)
		}
		[]*slirp.Family{&c.IPv4, &c.IPv6}[i].Outbound = outbound
	}
	c.HostLoopback, c.MAC = p.spec.HostLoopback, p.spec.MAC
	return &c, nil
}

// hasIPv6: the user says so, or the host has it; and Linux wants 1280 bytes for it (RFC 8200, 5).
func (p *planner) hasIPv6() (bool, error) {
	o := &p.spec.NetworkOptions
	small := o.MTU > 0 && o.MTU < 1280
	if o.IPv6 != nil && *o.IPv6 && small {
		return false, Errorf("--network %s: IPv6 needs an mtu of at least 1280", p.Network)
	}
	ofHost := slices.ContainsFunc(p.host.Networks, func(n netip.Prefix) bool {
		return n.Addr().Is6() && n.Addr().IsGlobalUnicast()
	})
	return or(o.IPv6, ofHost) && !small, nil
}

func (p *planner) mayLeaveFrom(outbound string) bool {
	if a, err := netip.ParseAddr(outbound); err == nil {
		return slices.ContainsFunc(p.host.Networks, func(n netip.Prefix) bool { return n.Addr() == a })
	}
	return slices.Contains(p.host.Interfaces, outbound)
}

// hostAddress is the host as the sandbox reaches it, if it does.
func (p *planner) hostAddress() (a netip.Addr, ok bool) {
	switch {
	case p.Network == "host", p.host.Joined != nil && p.host.Joined.Own:
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	case p.Link != nil && p.Link.HostLoopback:
		return p.Link.IPv4.Gateway, true
	case p.Driver != nil && (p.spec.HostLoopback || p.Network == "pasta"):
		return p.Driver.Gateway, p.Driver.Gateway.IsValid()
	}
	return netip.Addr{}, false
}

// join takes the net namespace of others. The ids are those that the user namespace around it has.
func (p *planner) join() error {
	spec, found := p.spec, p.host.Joined
	if found == nil {
		return Errorf("bug in sbx: nobody has looked for --network %s", p.Network)
	}
	if err := p.noRules(); err != nil {
		return err
	}
	if container(p.Network) {
		for _, f := range []struct {
			flag  string
			given bool
		}{
			{"--dns", len(spec.DNS) > 0},
			{"--dns-search", len(spec.DNSSearch) > 0},
			{"--dns-option", len(spec.DNSOptions) > 0},
			{"--add-host", len(spec.AddHosts) > 0},
			{"--hosts-file", spec.HostsFile != ""},
		} {
			if f.given {
				return Errorf("%s: with --network %s, that is the other sandbox's", f.flag, p.Network)
			}
		}
	}
	if found.Own {
		p.note("--network " + p.Network + " is the network of the host")
		return nil
	}
	p.Join = &Join{found.Path, found.Inode}
	const overNetwork = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	if _, caps, err := policy.Caps(policy.Preset{}, spec.Security.CapAdd, nil); err == nil && caps&overNetwork != 0 {
		p.warn("--cap-add: CAP_NET_ADMIN and CAP_NET_RAW do not hold over the network of others")
	}
	if found.Around == nil {
		return nil
	}
	p.Around = found.Around
	had := userns.Size(p.IDs.UIDs)
	p.IDs = p.IDs.Within(*p.Around)
	const fix = "unshare --map-root-user --map-auto --net"
	switch has := min(userns.Size(p.IDs.UIDs), userns.Size(p.IDs.GIDs)); {
	case has == 0:
		return &Error{Text: "--network " + p.Network + ": the user namespace around it does not have your own id", Fix: "make it with: " + fix}
	case has == 1 && had > 1:
		p.warn("only one user id is mapped: the user namespace around the network has no more of yours" +
			"; files of other users belong to nobody inside, and the command cannot change to another user; to change that, make it with: " + fix)
	case has < had:
		p.note(fmt.Sprintf("%d user ids are mapped: the user namespace around the network has no more of yours", has))
	}
	return nil
}

// CheckMAC reads a hardware address that a sandbox's interface may have.
func CheckMAC(s string) (string, error) { return slirp.CheckMAC(s) }
