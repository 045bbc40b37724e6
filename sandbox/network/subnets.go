package network

import (
	"fmt"
	"net/netip"
	"slices"
)

// check makes sure that addresses can be leased from a subnet.
func (s *Subnet) check() error {
	p := s.Subnet
	if err := checkPrefix(p); err != nil {
		return err
	}
	if !s.member(s.Gateway) {
		return fmt.Errorf("gateway %s: not an address of a host in %s", s.Gateway, p)
	}
	r := s.leases()
	if !s.member(r.StartIP) || !s.member(r.EndIP) || r.EndIP.Less(r.StartIP) {
		return fmt.Errorf("range %s-%s: not addresses of hosts in %s", r.StartIP, r.EndIP, p)
	}
	if r.StartIP == r.EndIP && r.StartIP == s.Gateway {
		return fmt.Errorf("range %s-%s: the gateway has it all", r.StartIP, r.EndIP)
	}
	return nil
}

// checkPrefix refuses what no sandboxes can live in.
func checkPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return fmt.Errorf("not a subnet")
	case p != p.Masked():
		return &hinted{fmt.Sprintf("subnet %s: the network's own address is %s", p, p.Masked().Addr()), "write " + p.Masked().String()}
	case p.Addr().BitLen()-p.Bits() < 2:
		return fmt.Errorf("subnet %s: too small", p)
	}
	for _, never := range notForHosts() {
		if never.Overlaps(p) {
			return fmt.Errorf("subnet %s: %s is not for hosts", p, never)
		}
	}
	return nil
}

// hinted is an error, and what helps.
type hinted struct{ text, hint string }

func (e *hinted) Error() string { return e.text }
func (e *hinted) Hint() string  { return e.hint }

// notForHosts are loopback, link-local and multicast addresses, and those that mean no host at all.
func notForHosts() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("224.0.0.0/3"), netip.MustParsePrefix("::/8"), netip.MustParsePrefix("fe80::/9"), netip.MustParsePrefix("ff00::/8"),
	}
}

// member: the address is one that a host in the subnet can have.
func (s *Subnet) member(a netip.Addr) bool {
	p := s.Subnet
	return a.IsValid() && a.Zone() == "" && p.Contains(a) && a != p.Addr() && !(a.Is4() && a == Last(p))
}

// refusal is why no sandbox on the network can have the address; nil if one can.
func (n *Network) refusal(a netip.Addr) error {
	for i := range n.Subnets {
		s := &n.Subnets[i]
		var why string
		switch {
		case s.Subnet.Addr().Is4() != a.Is4():
			continue
		case a == s.Gateway:
			why = "that is the gateway"
		case s.member(a):
			return nil
		case !s.Subnet.Contains(a):
			why = fmt.Sprintf("not in %s", s.Subnet)
		case a == s.Subnet.Addr():
			why = fmt.Sprintf("that is the address of %s itself", s.Subnet)
		default:
			why = fmt.Sprintf("that is the broadcast address of %s", s.Subnet)
		}
		return &hinted{fmt.Sprintf("%s: %s", a, why), s.usable()}
	}
	family := "IPv4"
	if a.Is6() {
		family = "IPv6"
	}
	return &hinted{fmt.Sprintf("%s: the network has no %s", a, family), n.Subnets[0].usable()}
}

// usable tells of the addresses that sandboxes can have.
func (s *Subnet) usable() string {
	all := Subnet{Subnet: s.Subnet}
	r := all.leases()
	switch s.Gateway {
	case r.StartIP:
		return fmt.Sprintf("a sandbox can have one from %s to %s", r.StartIP.Next(), r.EndIP)
	case r.EndIP:
		return fmt.Sprintf("a sandbox can have one from %s to %s", r.StartIP, r.EndIP.Prev())
	}
	return fmt.Sprintf("a sandbox can have one from %s to %s, but the gateway's %s", r.StartIP, r.EndIP, s.Gateway)
}

// leases is the range, or all of the subnet. Of IPv6 that ends where a person can still read it.
func (s *Subnet) leases() Range {
	if s.LeaseRange != nil {
		return *s.LeaseRange
	}
	r := Range{StartIP: s.Subnet.Addr().Next(), EndIP: Last(s.Subnet)}
	if r.EndIP.Is4() {
		r.EndIP = r.EndIP.Prev()
	}
	return r
}

// Last is the highest address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// free returns the first /24 of 10.89.0.0/16, and the 255 networks after it, that is not taken.
func free(taken []netip.Prefix) (netip.Prefix, error) {
	for second := 89; second < 256; second++ {
		for third := range 256 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(second), byte(third)}), 24)
			if !slices.ContainsFunc(taken, p.Overlaps) {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("every subnet from 10.89.0.0/24 on is taken")
}

// local is a unique local network (RFC 4193) of those random bits.
func local(random []byte) netip.Prefix {
	b := [16]byte{0xfd}
	copy(b[1:8], random)
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// overlap returns which of the prefixes p overlaps.
func overlap(p netip.Prefix, with []netip.Prefix) (netip.Prefix, bool) {
	i := slices.IndexFunc(with, p.Overlaps)
	if i < 0 {
		return netip.Prefix{}, false
	}
	return with[i].Masked(), true
}
