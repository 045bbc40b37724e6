package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sbx/sandbox"
)

// setNetworkOptions reads what stands behind the colon of --network MODE:OPTION,OPTION, in the
// words of slirp4netns as podman passes them on.
func (a *runArgs) setNetworkOptions(mode, options string) error {
	for option := range strings.SplitSeq(options, ",") {
		key, value, hasValue := strings.Cut(option, "=")
		if (key == "host-loopback" || key == "allow_host_loopback") && !hasValue {
			value = "true"
		}
		if err := a.setNetworkOption(mode, key, value); err != nil {
			return fmt.Errorf("%s: %w", quoteArg(option), err)
		}
	}
	return nil
}

func (a *runArgs) setNetworkOption(mode, key, value string) (err error) {
	o := &a.spec.NetworkOptions
	switch key {
	case "allow_host_loopback", "host-loopback":
		a.spec.HostLoopback, err = parseBool(value)
	case "mtu":
		o.MTU, err = strconv.Atoi(value)
		if err != nil || o.MTU < minMTU || o.MTU > maxMTU {
			return fmt.Errorf("not a number from %d to %d", minMTU, maxMTU)
		}
	case "cidr":
		o.CIDR, err = networkOf(value)
	case "mac":
		a.spec.MAC, err = sandbox.CheckMAC(value)
	case "enable_ipv6":
		var on bool
		on, err = parseBool(value)
		o.IPv6 = &on
	case "outbound_addr":
		o.Outbound[0], err = outbound(value, netip.Addr.Is4)
	case "outbound_addr6":
		o.Outbound[1], err = outbound(value, netip.Addr.Is6)
	case "port_handler": // for both of which there is the one of ours, that keeps the client's address
		if value != "rootlesskit" && value != "slirp4netns" {
			return fmt.Errorf("neither rootlesskit nor slirp4netns")
		}
	default:
		return &usageError{
			msg:  fmt.Sprintf("%s has no such option", mode),
			hint: "the options are " + strings.Join(networkOptions(), ", "),
		}
	}
	return err
}

func networkOptions() []string {
	return []string{"allow_host_loopback=BOOL", "cidr=NETWORK", "enable_ipv6=BOOL", "host-loopback", "mac=ADDR", "mtu=N", "outbound_addr=ADDR", "outbound_addr6=ADDR", "port_handler=NAME"}
}

// The first is the least that Linux takes for IPv4, the second the most that leaves room for an
// Ethernet header in 65535 bytes and is a multiple of IPv4's words.
const (
	minMTU = 68
	maxMTU = 65520
)

// networkOf reads an IPv4 network that has room for the last byte 100, as slirp4netns wants it.
func networkOf(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || !p.Addr().Is4():
		return p, fmt.Errorf("not an IPv4 network like 10.0.2.0/24")
	case p != p.Masked():
		return p, fmt.Errorf("not a network, but an address in %s", p.Masked())
	case p.Bits() < 8 || p.Bits() > 25:
		return p, fmt.Errorf("it must have from 8 to 25 bits")
	}
	a := p.Addr()
	first := a.As4()[0]
	if first == 0 || a.IsLoopback() || a.IsLinkLocalUnicast() || first >= 224 {
		return p, fmt.Errorf("a sandbox cannot have these addresses")
	}
	return p, nil
}

// outbound reads an address of the right family, or the name of an interface (dev_valid_name,
// net/core/dev.c).
func outbound(s string, family func(netip.Addr) bool) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if !family(a) {
			return "", fmt.Errorf("%s: of the other family", a)
		}
		return a.String(), nil
	}
	if s == "" || s == "." || s == ".." || len(s) > 15 || strings.ContainsAny(s, "/:") || slices.ContainsFunc([]byte(s), func(b byte) bool { return b <= ' ' || b >= 0x7f }) {
		return "", fmt.Errorf("neither an address nor the name of an interface")
	}
	return s, nil
}
