// Package egress decides what may leave a sandbox: rules and a question in, a verdict out. It
// touches nothing. Who asks is package slirp, once for each flow and each name that is looked up.
package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Rule is one --allow or --deny. Exactly one of Name and Network is there.
//
//	NAME, *.NAME, ADDRESS or NETWORK/BITS, then :PORT, then /tcp, /udp or /icmp
//
// With a port, an IPv6 address stands in brackets. *.NAME is every name below NAME, and not NAME.
type Rule struct {
	Name     string       // as Name has it, perhaps after "*."
	Network  netip.Prefix // or one address
	Port     uint16       // 0 is every one, and no port at all
	Protocol string       // tcp, udp, icmp; "" is all of them
}

// Error is why a text is no rule, and what helps.
type Error struct{ text, hint string }

func (e *Error) Error() string { return e.text }

// Hint says what helps; it may be "".
func (e *Error) Hint() string { return e.hint }

var errForm = errors.New("not NAME, *.NAME, ADDRESS or NETWORK/BITS, then perhaps :PORT, then perhaps /tcp, /udp or /icmp")

// Parse reads a rule.
func Parse(s string) (Rule, error) {
	r, err := parse(s)
	if err != nil {
		return Rule{}, fmt.Errorf("%q: %w", cut(s), err)
	}
	return r, nil
}

func parse(s string) (r Rule, err error) {
	if where, _, ok := strings.Cut(s, "://"); ok && isLabel(where) {
		host, _, _ := strings.Cut(s[len(where)+3:], "/")
		return r, &Error{errForm.Error(), "the address of a page is none, but the name in it may be: " + cut(host)}
	}
	rest := s
	if i := strings.LastIndexByte(s, '/'); i >= 0 && !isNumber(s[i+1:]) && !strings.ContainsAny(s[i:], ":]") {
		rest, r.Protocol = s[:i], s[i+1:]
		if r.Protocol != "tcp" && r.Protocol != "udp" && r.Protocol != "icmp" {
			return r, errForm
		}
	}
	where, port, hasPort := rest, "", false
	inside, bracketed := strings.CutPrefix(rest, "[")
	switch _, bare := readNetwork(rest); {
	case bracketed:
		where, port, hasPort = strings.Cut(inside, "]:")
		if !hasPort {
			var closed bool
			if where, closed = strings.CutSuffix(inside, "]"); !closed {
				return r, errForm
			}
		}
		if !strings.Contains(where, ":") {
			return r, errors.New("only an IPv6 address stands in brackets")
		}
	case bare == nil: // an IPv6 address has colons, too
		if address, port, ok := mayHavePort(rest); ok {
			return r, &Error{
				"an IPv6 address, or one with a port?",
				fmt.Sprintf("write [%s] for the address, [%s]:%s for one with a port", rest, address, port),
			}
		}
	default:
		if i := strings.LastIndexByte(rest, ':'); i >= 0 {
			where, port, hasPort = rest[:i], rest[i+1:], true
		}
	}
	if hasPort {
		if r.Port, err = readPort(port); err != nil {
			return r, err
		}
		if r.Protocol == "icmp" {
			return r, errors.New("icmp has no ports")
		}
	}
	if strings.ContainsAny(where, ":/") || endsInNumber(where) || strings.Trim(where, "0123456789.-") == "" {
		r.Network, err = readNetwork(where)
		return r, err
	}
	const whole = "0.0.0.0/0 and ::/0 are all addresses; --network none lets nothing out, and without --allow and --deny there is no bound"
	if where == "*" || isWord(where) {
		return r, &Error{where + " alone is no name", whole}
	}
	base, below := strings.CutPrefix(where, "*.")
	if r.Name, err = Name(base); below && err == nil {
		r.Name = "*." + r.Name
	}
	if where == "*." {
		return r, &Error{"not a name: nothing follows the dot", "*.example.com is every name below example.com; " + whole}
	}
	if after, ok := strings.CutPrefix(where, "*"); ok && err != nil {
		if name, bad := Name(after); bad == nil {
			err = &Error{ErrName.Error(), "*." + name + " is every name below " + name}
		}
	}
	return r, err
}

// isWord: whoever writes that means no host of the name, which is written with a dot behind it.
func isWord(s string) bool {
	s = strings.ToLower(s)
	return s == "all" || s == "any" || s == "none"
}

// mayHavePort: what is an IPv6 address as it stands is one also without what is a port then.
func mayHavePort(s string) (address, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", "", false
	}
	_, notPort := readPort(s[i+1:])
	a, err := netip.ParseAddr(s[:i])
	return s[:i], s[i+1:], notPort == nil && err == nil && a.Is6()
}

func readNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, errors.New("an address with a zone means something on one link only, and is never let out to")
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, errForm
	case p.Addr().Is4In6():
		return netip.Prefix{}, errors.New("write the IPv4 network in the place of the one that is mapped into IPv6")
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("an address has more bits than its network: %s, or %s", p.Masked(), p.Addr())
	}
	return p, nil
}

func readPort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || !isNumber(s) {
		return 0, &Error{fmt.Sprintf("%q is not a port, 1 to 65535", cut(s)), portHint(s)}
	}
	return uint16(n), nil
}

func portHint(s string) string {
	switch s {
	case "*", "all", "any":
		return "without a port the rule is for all of them"
	case "http":
		return "port 80"
	case "https":
		return "port 443"
	}
	return ""
}

// String writes the rule as Parse reads it.
func (r Rule) String() string {
	text := r.Name
	if isWord(text) {
		text += "."
	}
	if r.Network.IsValid() {
		text = r.Network.String()
		if r.Network.IsSingleIP() {
			text = r.Network.Addr().String()
		}
		if _, _, unclear := mayHavePort(text); unclear || r.Port != 0 && r.Network.Addr().Is6() {
			text = "[" + text + "]"
		}
	}
	if r.Port != 0 {
		text += ":" + strconv.Itoa(int(r.Port))
	}
	if r.Protocol != "" {
		text += "/" + r.Protocol
	}
	return text
}

// Words says for a person whom the rule is for.
func (r Rule) Words() string {
	var text string
	base, below := strings.CutPrefix(r.Name, "*.")
	switch {
	case below:
		text = "every name below " + base
	case r.Name != "":
		text = r.Name
	case r.Network.IsSingleIP():
		text = r.Network.Addr().String()
	default:
		text = "every address in " + r.Network.String()
	}
	if r.Port != 0 {
		text += ", port " + strconv.Itoa(int(r.Port))
	}
	if r.Protocol != "" {
		text += ", by " + r.Protocol
	}
	return text
}

// AppendText, MarshalText and UnmarshalText carry a rule as its text.
func (r Rule) AppendText(b []byte) ([]byte, error) { return append(b, r.String()...), nil }

// MarshalText is for JSON.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText has written.
func (r *Rule) UnmarshalText(b []byte) (err error) {
	*r, err = Parse(string(b))
	return err
}

// ErrName is why a text is no name.
var ErrName = errors.New("not a name: labels of letters, digits, - and _ between dots")

var (
	errLongName  = errors.New("not a name: it has more than 253 characters")
	errLongLabel = errors.New("not a name: between two dots it has more than 63 characters")
)

// Name returns s as names are compared: in lower case, without the dot at the end. What is not
// plainly a host name is none: whatever two programs might read differently, as a zero byte, an
// escape, an address in one of its older spellings (inet_aton(3)), or a letter that some
// program maps to another. Names in other alphabets are written as DNS has them, xn--...
func Name(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	for i := range len(s) {
		if s[i] >= 0x80 {
			return "", errors.New("not ASCII; write it as DNS does, with xn-- before it")
		}
	}
	s = strings.ToLower(s)
	if s == "" || endsInNumber(s) {
		return "", ErrName
	}
	if len(s) > 253 {
		return "", errLongName
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case len(label) > 63:
			return "", errLongLabel
		case !isLabel(label):
			return "", ErrName
		}
	}
	return s, nil
}

func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// endsInNumber: programs read such a name as an IPv4 address (the URL standard, inet_aton).
func endsInNumber(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	if digits, hex := strings.CutPrefix(last, "0x"); hex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return isNumber(last)
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// cut bounds what a message repeats.
func cut(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
