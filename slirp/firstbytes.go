//go:build !hot

package slirp

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"sbx/slirp/egress"
)

// maxFirst bounds what is kept of a flow until it has said by which name it goes.
const maxFirst = 32 << 10

var (
	errMore    = errors.New("the flow ends before it has a name") // as far as it goes
	errNoName  = errors.New("neither a TLS handshake nor an HTTP request with a name")
	errTLSName = errors.New("a TLS handshake without a name")
	errTwoHost = errors.New("an HTTP request for two hosts")
)

// nameOf reads by which name the beginning of a TCP flow goes: the server_name of a TLS
// handshake (RFC 6066), or the Host of an HTTP request. errMore is for one that may still say
// so. It takes nothing that two readers could read differently, and guesses at nothing.
func nameOf(first []byte) (string, error) {
	var name string
	var err error
	switch {
	case len(first) == 0:
		return "", errMore
	case first[0] == recordHandshake:
		name, err = helloName(first)
	default:
		name, err = hostName(first)
	}
	if err == errMore && len(first) >= maxFirst {
		return "", errNoName
	}
	if err != nil {
		return "", err
	}
	return egress.Name(name)
}

// TLS (RFC 8446). A record is a type, a version and a length before so many bytes; the handshake's
// messages go on from one to the next. Each has a type and a length.
const (
	recordHandshake = 22
	clientHello     = 1
	maxRecord       = 1 << 14
	serverName      = 0 // an extension, and in that the type of a name
)

// reader takes apart what a message has its lengths in.
type reader struct{ b []byte }

func (r *reader) take(n int) ([]byte, bool) {
	if n > len(r.b) {
		return nil, false
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b, true
}

// uint reads a number of so many bytes.
func (r *reader) uint(size int) (n int, ok bool) {
	b, ok := r.take(size)
	for _, c := range b {
		n = n<<8 | int(c)
	}
	return n, ok
}

// vector reads what has its length, a number of so many bytes, before it.
func (r *reader) vector(size int) (reader, bool) {
	n, ok := r.uint(size)
	if !ok {
		return reader{}, false
	}
	b, ok := r.take(n)
	return reader{b}, ok
}

// helloName finds the name in a ClientHello, however it is cut into records.
func helloName(first []byte) (string, error) {
	var message []byte
	for r := (reader{first}); ; {
		head, ok := r.take(min(5, len(r.b)))
		switch {
		case len(head) > 0 && head[0] != recordHandshake, len(head) > 1 && head[1] != 3:
			return "", errNoName
		case !ok || len(head) < 5:
			return "", errMore
		}
		size := int(head[3])<<8 | int(head[4])
		if size == 0 || size > maxRecord {
			return "", errNoName
		}
		fragment, _ := r.take(min(size, len(r.b)))
		message = append(message, fragment...)
		if len(message) > 0 && message[0] != clientHello {
			return "", errNoName
		}
		if len(message) >= 4 {
			length := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			switch {
			case length > maxFirst, len(message) > 4+length: // nothing may follow it before there is an answer
				return "", errNoName
			case len(message) == 4+length && len(fragment) == size:
				return nameInHello(message[4:])
			}
		}
		if len(fragment) < size {
			return "", errMore
		}
	}
}

func nameInHello(hello []byte) (string, error) {
	r := reader{hello}
	_, ok1 := r.take(2 + 32)    // version, random
	_, ok2 := r.vector(1)       // session
	suites, ok3 := r.vector(2)  //
	methods, ok4 := r.vector(1) // of compression
	extensions, ok5 := r.vector(2)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(suites.b) == 0 || len(methods.b) == 0 {
		return "", errNoName
	}
	if !ok5 || len(r.b) > 0 {
		return "", errTLSName
	}
	var name string
	for len(extensions.b) > 0 {
		kind, ok := extensions.uint(2)
		body, ok2 := extensions.vector(2)
		if !ok || !ok2 {
			return "", errNoName
		}
		if kind != serverName {
			continue
		}
		list, ok1 := body.vector(2)
		nameKind, ok2 := list.uint(1)
		text, ok3 := list.vector(2)
		if !ok1 || !ok2 || !ok3 || nameKind != serverName || len(body.b)+len(list.b) > 0 || len(text.b) == 0 || name != "" {
			return "", errTLSName
		}
		name = string(text.b)
	}
	if name == "" {
		return "", errTLSName
	}
	return name, nil
}

// hostName finds the host in the head of an HTTP/1 request (RFC 9112), which must be there as a
// whole: the last line of it might be another Host.
func hostName(first []byte) (string, error) {
	head, _, whole := bytes.Cut(first, []byte("\r\n\r\n"))
	if !whole && mayBeHead(first) {
		return "", errMore
	}
	if !whole {
		return "", errNoName
	}
	lines := strings.Split(string(head), "\r\n")
	target, ok := requestTarget(lines[0])
	if !ok {
		return "", errNoName
	}
	host, hosts := "", 0
	for _, line := range lines[1:] {
		field, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(field) || strings.ContainsAny(value, "\x00\r\n") {
			return "", errNoName // also what continues the line before
		}
		if strings.EqualFold(field, "Host") {
			host, hosts = strings.Trim(value, " \t"), hosts+1
		}
	}
	if hosts != 1 {
		return "", errTwoOrNone(hosts)
	}
	name, ok := withoutPort(host)
	if !ok {
		return "", errNoName
	}
	if target == "" {
		return name, nil
	}
	if asked, ok := withoutPort(target); !ok || !strings.EqualFold(asked, name) {
		return "", errTwoHost
	}
	return name, nil
}

func errTwoOrNone(hosts int) error {
	if hosts == 0 {
		return errNoName
	}
	return errTwoHost
}

// mayBeHead: it begins with a method, and its lines end as they should.
func mayBeHead(first []byte) bool {
	method, _, _ := bytes.Cut(first, []byte(" "))
	return len(method) <= 32 && isToken(string(method)) && bytes.Count(first, []byte("\n")) == bytes.Count(first, []byte("\r\n"))
}

// requestTarget is the host that a request line is for, if it says so.
func requestTarget(line string) (host string, ok bool) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return "", false
	}
	target := parts[1]
	for i := range len(target) {
		if target[i] <= ' ' || target[i] == 0x7f {
			return "", false
		}
	}
	switch {
	case parts[0] == "CONNECT":
		return target, target != ""
	case strings.HasPrefix(target, "/"), target == "*":
		return "", true
	case len(target) > 7 && strings.EqualFold(target[:7], "http://"):
		host = target[7:]
		if i := strings.IndexAny(host, `/?#\`); i >= 0 {
			host = host[:i]
		}
		return host, host != ""
	}
	return "", false
}

// withoutPort is the name in an authority of a name and perhaps a port; there is no user in it.
func withoutPort(authority string) (string, bool) {
	name, port, has := strings.Cut(authority, ":")
	if !has {
		return name, true
	}
	_, err := strconv.ParseUint(port, 10, 16)
	return name, err == nil
}

// isToken: RFC 9110, 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// nearest are the addresses of a name, that which was dialled alone if it is one of them, else
// those of its family first.
func nearest(addresses []netip.Addr, dialled netip.Addr) (sorted []netip.Addr) {
	for _, same := range []bool{true, false} {
		for _, a := range addresses {
			if a == dialled {
				return []netip.Addr{a}
			}
			if (a.Is4() == dialled.Is4()) == same {
				sorted = append(sorted, a)
			}
		}
	}
	return sorted
}
