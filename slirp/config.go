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
	MTU  int    `json:"mtu"` // bytes of a packet on the link

	HostLoopback bool         `json:"hostLoopback"` // the gateway's address is the host's loopback
	Resolvers    []netip.Addr `json:"resolvers"`    // asked in the place of those of the host's resolv.conf

	Policy egress.Policy `json:"policy,omitzero"` // what may leave
	Log    string        `json:"log,omitempty"`   // the file that tells of each flow; it comes open, with the order
}

// Family is what one family of addresses needs.
type Family struct {
	Address  netip.Prefix `json:"address"`  // the sandbox's, with the length of its network
	Gateway  netip.Addr   `json:"gateway"`  // the stack's
	Resolver netip.Addr   `json:"resolver"` // the stack's too: where it answers DNS
}

func (f Family) used() bool { return f.Address.IsValid() }

// Default is the network that users of slirp4netns know, or where the host itself is in that
// one, the next that it is not in. IPv6 is for a host that has it.
func Default(host []netip.Prefix, ipv6 bool) Config {
	third := byte(2)
	for ; third < 255; third++ {
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, third, 0}), 24)
		if !slices.ContainsFunc(host, network.Overlaps) {
			break
		}
	}
	at := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, third, last}) }
	c := Config{
		MTU:  1500,
		IPv4: Family{Address: netip.PrefixFrom(at(100), 24), Gateway: at(2), Resolver: at(3)},
	}
	if ipv6 {
		c.IPv6 = Family{
			Address:  netip.MustParsePrefix("fd00::100/64"),
			Gateway:  netip.MustParseAddr("fd00::2"),
			Resolver: netip.MustParseAddr("fd00::3"),
		}
	}
	return c
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
