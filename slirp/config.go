package slirp

import (
	"net/netip"
	"slices"

	"sbx/slirp/egress"
)

// Config is the network of one sandbox. The zero addresses of a family leave it out.
type Config struct {
	IPv4 Family `json:"ipv4"`
	IPv6 Family `json:"ipv6"`
	MTU  int    `json:"mtu"`           // bytes of a packet on the link
	MAC  string `json:"mac,omitempty"` // the sandbox's hardware address, as CheckMAC has it; "" is ours to choose

	HostLoopback bool         `json:"hostLoopback"` // the gateway's address is the host's loopback
	Resolvers    []netip.Addr `json:"resolvers"`    // asked in the place of those of the host's resolv.conf

	Others []netip.Prefix `json:"others,omitempty"` // networks of the caller's sandboxes: nobody of theirs is outside

	Ports []Port `json:"ports,omitempty"` // published

	Hosts []Host `json:"hosts,omitempty"` // names that no resolver is asked for, as the rules have them

	Policy egress.Policy `json:"policy,omitzero"` // what may leave
	Log    string        `json:"log,omitempty"`   // the file that tells of each flow; it comes open, with the order

	Member *Member `json:"member,omitempty"` // of a network that others are on, too
}

// Host is a name of the sandbox's /etc/hosts.
type Host struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// Family is what one family of addresses needs.
type Family struct {
	Address  netip.Prefix `json:"address"`  // the sandbox's, with the length of its network
	Gateway  netip.Addr   `json:"gateway"`  // the stack's
	Resolver netip.Addr   `json:"resolver"` // the stack's too: where it answers DNS

	Outbound string `json:"outbound,omitempty"` // address or interface of the host's that flows leave from
}

func (f Family) used() bool { return f.Address.IsValid() }

// Default is the network that users of slirp4netns know, or where the host itself is in that
// one, the next private one that it is not in. IPv6 is for a host that has it.
func Default(host []netip.Prefix, ipv6 bool) Config {
	c := Config{MTU: 1500}
	taken := func(p netip.Prefix) bool { return slices.ContainsFunc(host, p.Overlaps) }
	c.Within(choose(taken, ipv4Network))
	if ipv6 {
		network := choose(taken, ipv6Network)
		at := func(last byte) netip.Addr {
			a := network.Addr().As16()
			a[14], a[15] = 0, last
			if last == 100 {
				a[14], a[15] = 1, 0 // written in hexadecimal it is 100, too
			}
			return netip.AddrFrom16(a)
		}
		c.IPv6 = Family{Address: netip.PrefixFrom(at(100), network.Bits()), Gateway: at(2), Resolver: at(3)}
	}
	return c
}

// Within gives the sandbox's IPv4 the network that its caller has chosen.
func (c *Config) Within(network netip.Prefix) {
	at := func(last byte) netip.Addr {
		a := network.Addr().As4()
		a[3] |= last
		return netip.AddrFrom4(a)
	}
	c.IPv4 = Family{Address: netip.PrefixFrom(at(100), network.Bits()), Gateway: at(2), Resolver: at(3)}
}

// choose returns the first network that is not taken, or the last of all.
func choose(taken func(netip.Prefix) bool, nth func(int) (netip.Prefix, bool)) (network netip.Prefix) {
	for i := 0; ; i++ {
		next, ok := nth(i)
		if !ok {
			return network
		}
		if network = next; !taken(network) {
			return network
		}
	}
}

// ipv4Network lists the private networks (RFC 1918) of which one is free on most hosts.
func ipv4Network(i int) (netip.Prefix, bool) {
	const each = 253
	third := byte(2 + i%each)
	blocks := [][4]byte{{10, 0, third}, {172, 30, third}, {192, 168, third}}
	if i/each >= len(blocks) {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(netip.AddrFrom4(blocks[i/each]), 24), true
}

// ipv6Network lists some of fd00::/8.
func ipv6Network(i int) (netip.Prefix, bool) {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(i)}), 64), i < 256
}

func (c *Config) families() (used []Family) {
	for _, f := range []Family{c.IPv4, c.IPv6} {
		if f.used() {
			used = append(used, f)
		}
	}
	return used
}

// resolves: the address is one where the stack answers DNS.
func (c *Config) resolves(a netip.Addr) bool { return a == c.IPv4.Resolver || a == c.IPv6.Resolver }

// gateway: the address is the stack's own.
func (c *Config) gateway(a netip.Addr) bool { return a == c.IPv4.Gateway || a == c.IPv6.Gateway }

// OwnFamily is IPv4, or IPv6 where there is nothing else.
func (c *Config) OwnFamily() Family {
	if c.IPv4.used() {
		return c.IPv4
	}
	return c.IPv6
}
