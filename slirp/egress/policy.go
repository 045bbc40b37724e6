package egress

import (
	"net/netip"
	"slices"
	"strings"
)

// Policy is what may leave one sandbox. With any rule in Allow, nothing else may; what Deny
// says goes before that.
type Policy struct {
	Allow []Rule `json:"allow,omitempty"`
	Deny  []Rule `json:"deny,omitempty"`
}

// Empty: everything may leave.
func (p *Policy) Empty() bool { return len(p.Allow)+len(p.Deny) == 0 }

// Verdict is what becomes of a flow, or of a question.
type Verdict struct {
	Allowed bool
	Rule    string // that decided; "" where none did
	Name    string // by which a flow was let out to its address, or not
	Peek    Peek
}

// Peek is what the first bytes of an allowed flow must still say.
type Peek uint8

// The kinds of flows. Named and Unnamed ones are judged again by Policy.Named.
const (
	Whole   Peek = iota // nothing
	Named               // an allowed name: it is by such a name that its address is
	Unnamed             // no denied name, if any
)

// Question judges whether a name may be looked up: if there is any port it may be used with.
func (p *Policy) Question(name string) Verdict {
	for _, r := range p.Deny {
		if r.isFor(name) && r.Port == 0 && r.Protocol == "" {
			return Verdict{Rule: r.String()}
		}
	}
	if len(p.Allow) == 0 {
		return Verdict{Allowed: true}
	}
	for _, r := range p.Allow {
		if r.isFor(name) {
			return Verdict{Allowed: true, Rule: r.String()}
		}
	}
	return Verdict{}
}

// Flow judges a flow of protocol tcp, udp or icmp to an address, which is among the answers
// for these names.
func (p *Policy) Flow(protocol string, dst netip.AddrPort, names []string) Verdict {
	if v, denied := p.DeniesAddress(protocol, dst); denied {
		return v
	}
	told := protocol == "tcp" && (dst.Port() == 80 || dst.Port() == 443) // by whom it is for
	if !told {
		for _, name := range names {
			if r, denied := p.deniesName(name, protocol, dst.Port()); denied {
				return Verdict{Rule: r.String(), Name: name}
			}
		}
	}
	if v := p.allowsAddress(protocol, dst); v.Allowed {
		if told && slices.ContainsFunc(p.Deny, func(r Rule) bool { return r.Name != "" && r.covers(protocol, dst.Port()) }) {
			v.Peek = Unnamed
		}
		return v
	}
	for _, name := range names {
		if r, ok := p.allowsName(name, protocol, dst.Port()); ok {
			v := Verdict{Allowed: true, Rule: r.String(), Name: name}
			if told {
				v.Peek = Named
			}
			return v
		}
	}
	return Verdict{}
}

// DeniesAddress judges an address by itself.
func (p *Policy) DeniesAddress(protocol string, dst netip.AddrPort) (Verdict, bool) {
	for _, r := range p.Deny {
		if r.Network.Contains(dst.Addr()) && r.covers(protocol, dst.Port()) {
			return Verdict{Rule: r.String()}, true
		}
	}
	return Verdict{}, false
}

func (p *Policy) allowsAddress(protocol string, dst netip.AddrPort) Verdict {
	if len(p.Allow) == 0 {
		return Verdict{Allowed: true}
	}
	for _, r := range p.Allow {
		if r.Network.Contains(dst.Addr()) && r.covers(protocol, dst.Port()) {
			return Verdict{Allowed: true, Rule: r.String()}
		}
	}
	return Verdict{}
}

// Named judges the name in the first bytes of a TCP flow, which is not "" unless there is none.
func (p *Policy) Named(peek Peek, name string, port uint16) Verdict {
	if r, denied := p.deniesName(name, "tcp", port); denied {
		return Verdict{Rule: r.String(), Name: name}
	}
	if peek == Unnamed {
		return Verdict{Allowed: true, Name: name}
	}
	if r, ok := p.allowsName(name, "tcp", port); ok {
		return Verdict{Allowed: true, Rule: r.String(), Name: name}
	}
	return Verdict{Name: name}
}

func (p *Policy) deniesName(name, protocol string, port uint16) (Rule, bool) {
	for _, r := range p.Deny {
		if r.isFor(name) && r.covers(protocol, port) {
			return r, true
		}
	}
	return Rule{}, false
}

// allowsName wants a rule for QUIC to say udp: what the first bytes of that are for is
// encrypted for all but the two ends.
func (p *Policy) allowsName(name, protocol string, port uint16) (Rule, bool) {
	if _, denied := p.deniesName(name, protocol, port); denied {
		return Rule{}, false
	}
	for _, r := range p.Allow {
		if r.isFor(name) && r.covers(protocol, port) && !(protocol == "udp" && port == 443 && r.Protocol == "") {
			return r, true
		}
	}
	return Rule{}, false
}

// isFor: it is a rule for this name.
func (r Rule) isFor(name string) bool {
	if base, below := strings.CutPrefix(r.Name, "*"); below { // base begins with a dot
		return len(name) > len(base) && strings.HasSuffix(name, base)
	}
	return r.Name != "" && r.Name == name
}

func (r Rule) covers(protocol string, port uint16) bool {
	return (r.Protocol == "" || r.Protocol == protocol) && (r.Port == 0 || r.Port == port)
}
