package slirp

import "net/netip"

// Reserved are addresses that mean the host, or something that only the host is meant to ask.
func Reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),          // this host (RFC 1122); Linux connects to itself
		netip.MustParsePrefix("127.0.0.0/8"),        //
		netip.MustParsePrefix("169.254.0.0/16"),     // link-local; the metadata of clouds
		netip.MustParsePrefix("100.100.100.200/32"), // the same, at Alibaba
		netip.MustParsePrefix("168.63.129.16/32"),   // and at Azure
		netip.MustParsePrefix("224.0.0.0/3"),        // multicast, reserved, broadcast
		netip.MustParsePrefix("::/96"),              // unspecified, loopback, IPv4-compatible
		netip.MustParsePrefix("fe80::/10"),          // link-local
		netip.MustParsePrefix("fec0::/10"),          // site-local, as deprecated as it is routed nowhere
		netip.MustParsePrefix("fd00:ec2::/32"),      // metadata, at Amazon
		netip.MustParsePrefix("fd20:ce::/32"),       // and at Google
		netip.MustParsePrefix("ff00::/8"),           // multicast
	}
}
