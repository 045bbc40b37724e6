//go:build !hot

package slirp

import (
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"sbx/slirp/egress"
)

func TestDefault(t *testing.T) {
	for _, test := range []struct {
		host []netip.Prefix
		want string
	}{
		{nil, "10.0.2.100/24"},
		{[]netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("10.0.0.5/23")}, "10.0.2.100/24"},
		{[]netip.Prefix{netip.MustParsePrefix("10.0.2.15/24"), netip.MustParsePrefix("10.0.3.1/32")}, "10.0.4.100/24"},
	} {
		c := Default(test.host, false)
		if c.IPv4.Address.String() != test.want || c.IPv6.used() || !c.IPv4.Address.Contains(c.IPv4.Gateway) || !c.resolves(c.IPv4.Resolver) {
			t.Errorf("beside %v: %+v, want %s", test.host, c, test.want)
		}
	}
	taken := []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("fd00::5/64")}
	if c := Default(taken, true); c.IPv4.Address.String() != "172.30.2.100/24" || c.IPv6.Address.String() != "fd00:0:0:1::100/64" || c.IPv6.Resolver.String() != "fd00:0:0:1::3" {
		t.Errorf("beside %v: %+v", taken, c)
	}
	var within Config
	within.Within(netip.MustParsePrefix("192.168.4.0/22"))
	if f := within.IPv4; f.Address.String() != "192.168.4.100/22" || f.Gateway.String() != "192.168.4.2" || f.Resolver.String() != "192.168.4.3" {
		t.Errorf("within a network: %+v", f)
	}
	within.Within(netip.MustParsePrefix("10.9.8.128/25"))
	if f := within.IPv4; f.Address.String() != "10.9.8.228/25" || f.Gateway.String() != "10.9.8.130" {
		t.Errorf("within a network: %+v", f)
	}
	if c := Default(nil, true); len(c.families()) != 2 || !c.gateway(c.IPv6.Gateway) {
		t.Errorf("with IPv6: %+v", c)
	}
}

func TestNameservers(t *testing.T) {
	for text, want := range map[string][]string{
		"nameserver 192.0.2.1\n# nameserver 192.0.2.9\nsearch x\nnameserver\tfe80::1%eth0\n":           {"192.0.2.1:53", "[fe80::1%eth0]:53"},
		"nameserver 1.1.1.1\nnameserver x\nnameserver 2.2.2.2\nnameserver 3.3.3.3\nnameserver 4.4.4.4": {"1.1.1.1:53", "2.2.2.2:53", "3.3.3.3:53"},
		"": {"127.0.0.1:53"},
	} {
		var got []string
		for _, s := range nameservers(text) {
			got = append(got, s.String())
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// What no host may be reached by, whatever routes there are. The host's own addresses are
// tried by a script, in a host of its own.
func TestReserved(t *testing.T) {
	r := newReach()
	for _, a := range []string{
		"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254", "100.100.100.200", "224.0.0.1", "255.255.255.255", "240.0.0.1",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "fd00:ec2::254",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "::ffff:0:127.0.0.1",
		"64:ff9b:1::127.0.0.1", "64:ff9b:1:5:6:7:169.254.169.254", // of 96 bits, and 48, 56, 64
		"64:ff9b:1:7f00:0:100::", "64:ff9b:1:7f00:0:1ff:1234:5678", "64:ff9b:1:12a9:fe:a9fe::", "64:ff9b:1:1234:a9:fea9:fe00:0",
		"2001:0:7f00:1::ffff:ffff", "2001::80ff:fffe", "2001:0:c000:201:0:1:5601:5601",
		"2001:db8::5efe:127.0.0.1", "2001:db8::200:5efe:169.254.169.254", "2001:db8::300:5efe:0.0.0.0",
	} {
		if err := r.check(netip.MustParseAddr(a)); !errors.Is(err, errReserved) {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{
		"192.0.2.1", "2001:db8::1", "64:ff9b::192.0.2.1", "64:ff9b:1::192.0.2.1", "64:ff9b:1:c000:2:100::", "64:ff9b:1:fffe::192.0.2.1",
		"2002:c000:201::1", "2001:0:c000:201::3fff:fdfe", "fd00::5efe:192.0.2.1", "2001:db8::7f00:1",
	} {
		if err := r.check(netip.MustParseAddr(a)); errors.Is(err, errReserved) {
			t.Errorf("%s: %v", a, err)
		}
	}
	s := Stack{config: Config{Policy: egress.Policy{Deny: []egress.Rule{{Network: netip.MustParsePrefix("192.0.2.0/24"), Port: 80}}}}}
	for _, a := range []string{"64:ff9b::192.0.2.1", "64:ff9b:1:c000:2:100::", "2002:c000:201::1", "2001:0:c633:6401::3fff:fdfe", "fd00::5efe:192.0.2.1"} {
		if v, no := s.deniesInner("tcp", netip.AddrPortFrom(netip.MustParseAddr(a), 80)); !no || v.Rule != "192.0.2.0/24:80" {
			t.Errorf("%s: %+v", a, v)
		}
	}
}
