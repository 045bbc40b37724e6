package sandbox

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Driver is a program of the host's that is the sandbox's network, in the place of sbx's own.
type Driver struct {
	Path     string     `json:"path"`
	Args     []string   `json:"args"`              // all but those that name the namespaces and descriptors
	Gateway  netip.Addr `json:"gateway,omitzero"`  // where the host is, if that is allowed
	Resolver netip.Addr `json:"resolver,omitzero"` // the address that the program answers names at
	Ports    []Port     `json:"ports,omitempty"`   // published; the program is told of them when the random ones are known
}

func isProgram(network string) bool { return network == "slirp4netns" || network == "pasta" }

// driver works out how the program is called that --network names. Neither of them refuses the
// host's other addresses, as sbx's own network does.
func (p *planner) driver() error {
	if !isProgram(p.Network) {
		return nil
	}
	if p.host.Program == "" {
		return &Error{Text: "--network " + p.Network + ": " + p.host.NoProgram, Fix: "the default, --network private, needs no program"}
	}
	ports, err := p.ports()
	if err != nil {
		return err
	}
	if p.Network == "pasta" {
		p.RunDir = p.host.RunDir // pasta says in a file there when it is ready
		p.Driver = p.pasta(ports)
		return nil
	}
	if i := slices.IndexFunc(ports, func(port Port) bool { return !port.Address.Is4() }); i >= 0 {
		return &Error{Text: fmt.Sprintf("--publish: %s: slirp4netns listens at IPv4 addresses only", ports[i]), Fix: "the default, --network private, listens at any"}
	}
	if p.Driver, err = p.slirp4netns(); err != nil {
		return err
	}
	if p.Driver.Ports = ports; len(ports) > 0 {
		p.RunDir = p.host.RunDir // it listens there for what it is to publish
	}
	return nil
}

// slirp4netns is called as podman calls it (slirp4netns(1)).
func (p *planner) slirp4netns() (*Driver, error) {
	c, err := p.addresses()
	if err != nil {
		return nil, err
	}
	d := &Driver{Path: p.host.Program, Gateway: c.IPv4.Gateway, Resolver: c.IPv4.Resolver, Args: []string{
		"--configure", "--enable-sandbox", "--enable-seccomp", "--mtu=" + strconv.Itoa(cmp.Or(p.spec.NetworkOptions.MTU, 65520)), "--cidr=" + c.IPv4.Address.Masked().String(),
	}}
	for _, option := range []struct {
		on   bool
		word string
	}{
		{!c.HostLoopback, "--disable-host-loopback"},
		{c.IPv6.Address.IsValid(), "--enable-ipv6"},
		{c.IPv4.Outbound != "", "--outbound-addr=" + c.IPv4.Outbound},
		{c.MAC != "", "--macaddress=" + c.MAC},
		{c.IPv6.Outbound != "", "--outbound-addr6=" + c.IPv6.Outbound},
	} {
		if option.on {
			d.Args = append(d.Args, option.word)
		}
	}
	return d, nil
}

// pasta is called as podman calls it (passt(1)), with what the user says over that. The sandbox
// has the host's own addresses then.
func (p *planner) pasta(ports []Port) *Driver {
	d := &Driver{Path: p.host.Program, Resolver: netip.AddrFrom4([4]byte{169, 254, 1, 1}), Ports: ports}
	publishes := func(protocol string) bool {
		return slices.ContainsFunc(ports, func(port Port) bool { return port.Protocol == protocol })
	}
	own := p.spec.NetworkOptions.Args
	d.Args = []string{"--config-net", "--foreground", "--quiet"}
	for _, option := range []struct{ short, long, value string }{
		{"-t", "--tcp-ports", "none"}, {"-u", "--udp-ports", "none"}, {"-T", "--tcp-ns", "none"}, {"-U", "--udp-ns", "none"},
		{"", "--dns-forward", d.Resolver.String()},
	} {
		if option.long == "--dns-forward" && len(p.spec.DNS) > 0 {
			continue // older ones take an answer of the host's resolver for one to what was forwarded
		}
		if option.long == "--tcp-ports" && publishes("tcp") || option.long == "--udp-ports" && publishes("udp") {
			continue // where there is one, there is not none
		}
		switch i := slices.IndexFunc(own, func(word string) bool { return word == option.long || word == option.short }); {
		case i < 0:
			d.Args = append(d.Args, option.long, option.value)
		case option.long == "--dns-forward":
			d.Resolver, _ = netip.ParseAddr(own[i+1])
		}
	}
	for _, option := range []string{"--map-guest-addr", "--map-host-loopback"} {
		if i := slices.Index(own, option); i >= 0 && !d.Gateway.IsValid() {
			d.Gateway, _ = netip.ParseAddr(own[i+1]) // or none
		}
	}
	if p.spec.MAC != "" {
		d.Args = append(d.Args, "--ns-mac-addr", p.spec.MAC)
	}
	mapped := slices.Index(own, "--map-gw")
	if mapped < 0 {
		d.Args = slices.Concat(d.Args, []string{"--no-map-gw"}, own)
		return d
	}
	d.Args = append(d.Args, slices.DeleteFunc(slices.Clone(own), func(word string) bool { return word == "--map-gw" })...)
	return d
}
