package sandbox

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"sbx/slirp"
)

// What one sandbox may publish: each port is a descriptor and a goroutine of sbx-net's, and each
// range a part of a message.
const (
	maxPorts      = 4096
	maxPortRanges = 256
)

func (p *Plan) publishes() bool {
	return slices.ContainsFunc(p.links(), func(c *slirp.Config) bool { return len(c.Ports) > 0 })
}

// noPorts: what is published with another network than a private one.
func (p *planner) noPorts() error {
	flag := ""
	switch {
	case len(p.spec.Ports) > 0:
		flag = "--publish"
	case p.spec.PublishAll:
		flag = "--publish-all"
	default:
		return nil
	}
	if p.Network == "host" {
		p.warn(flag + ": with the host's network the sandbox's ports are the host's already; none is published")
		return nil
	}
	if joins(p.Network) {
		return &Error{Text: fmt.Sprintf("%s: with --network %s, the ports are those of who made the network", flag, p.Network), Fix: "give the flag to that sandbox"}
	}
	if p.Network == userDefined {
		return &Error{Text: flag + ": an internal network lets nothing in", Fix: "--network NAME of one that is not internal, beside it"}
	}
	return &Error{Text: fmt.Sprintf("%s: with --network %s nothing comes into the sandbox", flag, p.Network), Fix: "--network private"}
}

// ports are what is published. Without an address it is for this host alone: who wants others to
// reach a sandbox says so.
func (p *planner) ports() ([]Port, error) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	var ports []Port
	for _, port := range p.spec.Ports {
		if !port.Address.IsValid() {
			port.Address = loopback
		}
		for _, other := range ports {
			if port.Collides(other) {
				return nil, Errorf("--publish: %s and %s are at one port of this host", other, port)
			}
		}
		ports = append(ports, port)
	}
	for _, e := range p.exposed() {
		ports = append(ports, Port{Protocol: e.Protocol, Address: loopback, Inside: e.First, Count: e.Count})
	}
	total := 0
	for _, port := range ports {
		total += port.Count
	}
	switch {
	case total > maxPorts:
		return nil, &Error{Text: fmt.Sprintf("%d published ports are too many: %d is the most", total, maxPorts), Fix: "publish those that are needed; with --network host a sandbox has all ports of this host"}
	case len(ports) > maxPortRanges:
		return nil, &Error{Text: fmt.Sprintf("%d ranges of published ports are too many: %d is the most", len(ports), maxPortRanges), Fix: "ports side by side are one range: 8000-8010:8000-8010"}
	}
	return ports, nil
}

// exposed are the ports that --publish-all publishes: those that no --publish leads to. Neighbours
// are one range.
func (p *planner) exposed() (list []Exposed) {
	if !p.spec.PublishAll {
		return nil
	}
	wanted := slices.Concat(p.spec.Image.Exposed, p.spec.Expose)
	slices.SortFunc(wanted, func(a, b Exposed) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	for _, protocol := range []string{"tcp", "udp"} {
		next := 0 // each port is looked at once, however often an image has it
		for _, e := range wanted {
			if e.Protocol != protocol {
				continue
			}
			end := int(e.First) + e.Count
			for next = max(next, int(e.First)); next < end; next++ {
				leads := func(q Port) bool { return q.Leads(protocol, uint16(next)) }
				if !slices.ContainsFunc(p.spec.Ports, leads) {
					list = appendExposed(list, protocol, next)
				}
			}
		}
	}
	if i := slices.IndexFunc(wanted, func(e Exposed) bool { return e.Protocol == "sctp" }); i >= 0 {
		p.warn(fmt.Sprintf("--publish-all: %d/sctp is not published: only tcp and udp are", wanted[i].First))
	}
	switch {
	case len(list) == 0 && len(wanted) == 0:
		p.warn("--publish-all publishes nothing: neither the image nor --expose says which ports there are")
	case len(list) == 0:
		p.note("--publish-all: no port is exposed that is not published already")
	}
	return list
}

// appendExposed appends a port that is above the last.
func appendExposed(list []Exposed, protocol string, port int) []Exposed {
	if n := len(list); n > 0 {
		last := &list[n-1]
		if last.Protocol == protocol && port == int(last.First)+last.Count {
			last.Count++
			return list
		}
	}
	return append(list, Exposed{protocol, uint16(port), 1})
}
