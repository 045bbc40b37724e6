package slirp

import (
	"errors"
	"hash/fnv"
	"net"
	"net/netip"
)

// Member is what makes a Config that of a sandbox on a network that others are on, too: its frames
// go by way of a Switch.
type Member struct {
	Network   string   `json:"network"`   // its name
	Interface string   `json:"interface"` // in the sandbox
	Names     []string `json:"names"`     // by which the others find it
	Internal  bool     `json:"internal"`  // nothing leads out
	Default   bool     `json:"default"`   // it is the sandbox's way out
	Resolves  bool     `json:"resolves"`  // its resolver also answers for names that are nobody's here
	Finds     bool     `json:"finds"`     // and for those of the other members

	Aside bool `json:"aside,omitempty"` // it is not in resolv.conf: the one that Resolves asks it
}

// iface is the interface of the link, in the sandbox.
func (c *Config) iface() string {
	if c.Member == nil {
		return "eth0"
	}
	return c.Member.Interface
}

// CheckMAC reads a hardware address that one interface may have, and writes it as it is usual.
func CheckMAC(s string) (string, error) {
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil || len(mac) != 6:
		return "", errors.New("not a hardware address like 02:00:00:00:00:01")
	case mac[0]&1 != 0:
		return "", errors.New("a hardware address of many: the first byte must be even")
	case [6]byte(mac) == [6]byte{}, [6]byte(mac) == stackMAC:
		return "", errors.New("nobody can have this hardware address here")
	}
	return mac.String(), nil
}

// mac is that interface's address: the one that is asked for or, on a network, one made of the
// address that is leased. Of IPv6 it has 40 bits that all of the address goes into; should two members ever
// have the same, Switch refuses the second.
func (c *Config) mac() [6]byte {
	if mac, err := net.ParseMAC(c.MAC); err == nil && len(mac) == 6 {
		return [6]byte(mac)
	}
	if c.Member == nil {
		return sandboxMAC
	}
	if c.IPv4.used() {
		a := c.IPv4.Address.Addr().As4()
		return [6]byte{0x02, 0x01, a[0], a[1], a[2], a[3]}
	}
	hash, a := fnv.New64a(), c.IPv6.Address.Addr().As16()
	hash.Write(a[:])
	sum := hash.Sum(nil)
	return [6]byte{0x06, sum[3], sum[4], sum[5], sum[6], sum[7]}
}

// routes: the sandbox's way out.
func (c *Config) routes() bool { return c.Member == nil || c.Member.Default }

// within: the address is of the network that the sandbox is on, so it is nobody's outside.
func (c *Config) within(a netip.Addr) bool {
	return c.IPv4.used() && c.IPv4.Address.Contains(a) || c.IPv6.used() && c.IPv6.Address.Contains(a)
}

// linkLocal is the address that the kernel gives to an interface by itself (RFC 4291, appendix A).
func linkLocal(mac [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}
