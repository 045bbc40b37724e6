package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// setPastaArgs reads --network pasta:ARG,ARG: arguments of pasta's own (passt(1)), of which those
// are let through that say what the network is like. Others name files, users, or other
// namespaces. A value follows its option, or a =.
func (a *runArgs) setPastaArgs(options string) error {
	words := strings.Split(options, ",")
	for len(words) > 0 {
		name, value, joined := strings.Cut(words[0], "=")
		words = words[1:]
		switch {
		case slices.Contains(pastaFlags(), name) && !joined:
			a.spec.NetworkOptions.Args = append(a.spec.NetworkOptions.Args, name)
			continue
		case !slices.Contains(pastaOptions(), name):
			return &usageError{msg: quoteArg(name) + ": not an option of pasta that sbx passes on", hint: "ports are published by -p of sbx run; what says what the network is like is passed on, no file, user or namespace"}
		case !joined && len(words) > 0:
			value, words = words[0], words[1:]
		}
		if value == "" || strings.HasPrefix(value, "-") {
			return fmt.Errorf("%s: a value must follow", name)
		}
		if name == "--dns-forward" {
			if _, err := netip.ParseAddr(value); err != nil {
				return fmt.Errorf("%s: %s: not an address", name, quoteArg(value))
			}
		}
		a.spec.NetworkOptions.Args = append(a.spec.NetworkOptions.Args, name, value)
	}
	return nil
}

// pastaFlags stand alone.
func pastaFlags() []string {
	return []string{
		"-4", "--ipv4-only", "-6", "--ipv6-only", "--map-gw", "--no-map-gw", "--no-tcp", "--no-udp", "--no-icmp", "--no-dhcp", "--no-dhcpv6",
		"--no-ndp", "--no-ra", "--dhcp-dns", "--dhcp-search", "--no-copy-addrs", "--no-copy-routes", "--host-lo-to-ns-lo", "--no-splice", "--config-net",
	}
}

// pastaOptions have a value.
func pastaOptions() []string {
	return []string{
		"-a", "--address", "-n", "--netmask", "-g", "--gateway", "-i", "--interface", "-o", "--outbound", "--outbound-if4", "--outbound-if6",
		"-m", "--mtu", "-M", "--mac-addr", "-I", "--ns-ifname", "--ns-mac-addr", "-D", "--dns", "-S", "--search", "--dns-forward", "--dns-host",
		"-t", "--tcp-ports", "-u", "--udp-ports", "-T", "--tcp-ns", "-U", "--udp-ns", "--map-host-loopback", "--map-guest-addr",
	}
}
