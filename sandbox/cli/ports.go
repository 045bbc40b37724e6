package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"sbx/sandbox"
)

// publish reads --publish [[ADDRESS:][PORT]:]PORT[/PROTOCOL], where a PORT may be a range of them.
func (a *runArgs) publish(s string) error {
	if s == "" {
		return &usageError{msg: quoteArg(s) + ": no port", hint: "-p 8080:80 leads from port 8080 of this host to 80 of the sandbox; -P publishes what the image exposes"}
	}
	return eachWord(s, a.publishOne)
}

func (a *runArgs) publishOne(s string) error {
	p, err := parsePort(s)
	if err != nil {
		return err
	}
	a.spec.Ports = append(a.spec.Ports, p)
	return nil
}

func parsePort(s string) (p sandbox.Port, err error) {
	rest, protocol, hasProtocol := strings.Cut(s, "/")
	p.Protocol = "tcp"
	if hasProtocol {
		p.Protocol = strings.ToLower(protocol)
	}
	if p.Protocol == "sctp" {
		return p, &usageError{msg: quoteArg(s) + ": only tcp and udp ports are published, not sctp"}
	}
	if p.Protocol != "tcp" && p.Protocol != "udp" {
		return p, fmt.Errorf("%s: %s is neither tcp nor udp", quoteArg(s), quoteArg(protocol))
	}
	address, host, inside, err := cutPort(s, rest)
	if err != nil {
		return p, err
	}
	if address != nil {
		if *address == "localhost" {
			return p, &usageError{msg: quoteArg(s) + ": localhost: not an address", hint: "127.0.0.1 is, and what is meant without an address"}
		}
		if *address == "*" {
			return p, &usageError{msg: quoteArg(s) + ": *: not an address", hint: "0.0.0.0 is all of IPv4, [::] all of IPv6"}
		}
		if p.Address, err = parseListen(*address); err != nil {
			return p, fmt.Errorf("%s: %w", quoteArg(s), err)
		}
	}
	if p.Inside, p.Count, err = portRange(inside); err != nil {
		return p, fmt.Errorf("%s: %w", quoteArg(s), err)
	}
	if host == "" || host == "0" {
		return p, nil
	}
	first, count, err := portRange(host)
	switch {
	case err != nil:
		return p, fmt.Errorf("%s: %w", quoteArg(s), err)
	case count != p.Count:
		return p, &usageError{msg: fmt.Sprintf("%s: %d ports of this host for %d of the sandbox", quoteArg(s), count, p.Count), hint: "both ranges are of one length"}
	}
	p.Host = first
	return p, nil
}

// cutPort cuts [[ADDRESS:][PORT]:]PORT at the colons. address is nil if there is none.
func cutPort(whole, s string) (address *string, host, inside string, err error) {
	malformed := &usageError{msg: quoteArg(whole) + ": not [[ADDRESS:][PORT]:]PORT[/tcp|udp]"}
	var at string
	hasAddress := strings.HasPrefix(s, "[")
	if hasAddress {
		var ok bool
		if at, s, ok = strings.Cut(s[1:], "]:"); !ok {
			return nil, "", "", malformed
		}
	} else if strings.Count(s, ":") == 2 {
		hasAddress = true
		at, s, _ = strings.Cut(s, ":")
	}
	host, inside, ok := strings.Cut(s, ":")
	switch {
	case strings.Contains(inside, ":"):
		malformed.hint = "an IPv6 address is in brackets: [::1]:8080:80"
		return nil, "", "", malformed
	case !ok && hasAddress:
		malformed.hint = "with an address there are two colons more; without a port between them a free one is chosen"
		return nil, "", "", malformed
	case !ok:
		return nil, "", host, nil
	case hasAddress:
		return &at, host, inside, nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		malformed.hint = host + "::" + inside + " is at that address, at a port that is chosen"
		return nil, "", "", malformed
	}
	return nil, host, inside, nil
}

// parseListen reads an address that a host may listen at.
func parseListen(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	a = a.Unmap()
	switch {
	case err != nil:
		return a, fmt.Errorf("%s: not an address", quoteArg(s))
	case a.IsMulticast():
		return a, fmt.Errorf("%s: not an address of one host", s)
	case a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "":
		return a, fmt.Errorf("%s: a link-local address goes with an interface: %s%%eth0", s, s)
	}
	return a, nil
}

// portRange reads FIRST or FIRST-LAST.
func portRange(s string) (first uint16, count int, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || a > b {
		return 0, 0, fmt.Errorf("%s: not a port, 1 to 65535, or a range of them", quoteArg(s))
	}
	return uint16(a), int(b-a) + 1, nil
}

// expose reads --expose PORT[-PORT][/PROTOCOL]. It is a note for --publish-all.
func (a *runArgs) expose(s string) error {
	e, err := parseExposed(s)
	if err != nil {
		return err
	}
	a.spec.Expose = append(a.spec.Expose, e)
	return nil
}

func parseExposed(s string) (e sandbox.Exposed, err error) {
	ports, protocol, hasProtocol := strings.Cut(s, "/")
	e.Protocol = "tcp"
	if hasProtocol {
		e.Protocol = strings.ToLower(protocol)
	}
	if e.First, e.Count, err = portRange(ports); err != nil || e.Protocol != "tcp" && e.Protocol != "udp" && e.Protocol != "sctp" {
		return e, fmt.Errorf("%s: not PORT[-PORT][/tcp|udp|sctp]", quoteArg(s))
	}
	return e, nil
}
