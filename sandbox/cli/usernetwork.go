package cli

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sbx/sandbox"
)

// networkFlags are those that say something of the user-defined networks.
type networkFlags struct {
	ip, ip6, mac string
	aliases      []string
}

// addNetwork reads NAME, NAME,NAME, or NAME:OPTION,OPTION.
func (a *runArgs) addNetwork(s string) error {
	names, options, hasOptions := strings.Cut(s, ":")
	list := strings.Split(names, ",")
	if hasOptions && len(list) > 1 {
		return fmt.Errorf("%s: options go with one network; write the flag for each", quoteArg(s))
	}
	for _, name := range list {
		switch {
		case len(list) > 1 && isMode(name):
			return &usageError{msg: fmt.Sprintf("%s: %s is not beside another network", quoteArg(s), name), hint: "only networks of your own, as sbx network create makes, go together"}
		case !isName(name) || slices.Contains([]string{"bridge", "default", "podman", "container", "ns", "slirp4netns", "pasta"}, name):
			return &usageError{
				msg:  fmt.Sprintf("%s: not private, none, host, container:NAME, ns:PATH, slirp4netns, pasta, or a network of your own", quoteArg(s)),
				hint: "sbx network create makes one",
			}
		case a.spec.Network != "":
			return alone(a.spec.Network, name)
		case slices.ContainsFunc(a.spec.Networks, func(n sandbox.UserNetwork) bool { return n.Name == name }):
			return fmt.Errorf("%s: given twice", name)
		}
		a.spec.Networks = append(a.spec.Networks, sandbox.UserNetwork{Name: name})
	}
	n := &a.spec.Networks[len(a.spec.Networks)-1]
	return eachWord(options, func(word string) error { return addMemberOption(n, word) })
}

func isMode(name string) bool {
	return slices.Contains([]string{"none", "host", "private", "bridge", "slirp4netns", "pasta"}, name)
}

// addMemberOption reads an option of --network NAME:...
func addMemberOption(n *sandbox.UserNetwork, s string) error {
	key, value, _ := strings.Cut(s, "=")
	var address string
	var err error
	switch key {
	case "alias":
		n.Aliases = append(n.Aliases, value)
		return checkHostname(value, 253)
	case "ip":
		address, err = ipv4Address(value)
	case "ip6":
		address, err = ipv6Address(value)
	case "mac":
		if n.MAC, err = sandbox.CheckMAC(value); err != nil {
			err = fmt.Errorf("%s: %w", quoteArg(value), err)
		}
		return err
	default:
		return &usageError{msg: fmt.Sprintf("%s: unknown option of network %s", quoteArg(s), n.Name), hint: "alias=NAME, ip=ADDR, ip6=ADDR, mac=ADDR"}
	}
	if err == nil {
		err = want(n, address)
	}
	return err
}

func ipv4Address(s string) (string, error) { return addressOf(s, netip.Addr.Is4, "IPv4") }
func ipv6Address(s string) (string, error) {
	return addressOf(s, func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }, "IPv6")
}

func addressOf(s string, right func(netip.Addr) bool, family string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || !right(a) {
		return "", fmt.Errorf("%s: not an %s address", quoteArg(s), family)
	}
	return a.String(), nil
}

func (a *runArgs) addNetworkAlias(s string) error {
	a.networks.aliases = append(a.networks.aliases, s)
	return checkHostname(s, 253)
}

// finishNetworks gives the flags to the networks that they are about.
func (a *runArgs) finishNetworks() error {
	f, list := &a.networks, a.spec.Networks
	for _, flag := range []struct{ name, value string }{{"--ip", f.ip}, {"--ip6", f.ip6}, {"--mac-address", f.mac}, {"--network-alias", strings.Join(f.aliases, " ")}} {
		switch {
		case flag.value == "":
		case flag.name == "--mac-address" && len(list) == 0:
			a.spec.MAC = f.mac
		case len(list) == 0:
			return &usageError{msg: flag.name + ": only a network of your own has addresses and names to choose", hint: "sbx network create NAME, then --network NAME"}
		case flag.name == "--network-alias":
			for i := range list {
				list[i].Aliases = append(list[i].Aliases, f.aliases...)
			}
		case len(list) > 1:
			return &usageError{msg: flag.name + ": there are several networks", hint: "--network NAME:" + strings.TrimSuffix(flag.name[2:], "-address") + "=" + flag.value}
		case flag.name == "--mac-address":
			list[0].MAC = f.mac
		default:
			if err := want(&list[0], flag.value); err != nil {
				return &flagError{flag.name[2:], err}
			}
		}
	}
	return nil
}

// want asks for an address, one of each family.
func want(n *sandbox.UserNetwork, address string) error {
	a := netip.MustParseAddr(address) // addressOf has seen it
	if slices.ContainsFunc(n.Wanted, func(other netip.Addr) bool { return other.Is4() == a.Is4() }) {
		return fmt.Errorf("%s: another address was asked for already", address)
	}
	n.Wanted = append(n.Wanted, a)
	return nil
}
