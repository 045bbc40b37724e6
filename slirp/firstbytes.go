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
	errMore     = errors.New("the flow ends before it has a name") // as far as it goes
	errTLSForm  = errors.New("a malformed TLS handshake")
	errHTTPForm = errors.New("a malformed HTTP request")
	errTwoHost  = errors.New("an HTTP request for two hosts")

	// These alone are sure to have no name, for any reader.
	errNeither      = errors.New("neither a TLS handshake nor an HTTP request")
	errNamelessTLS  = errors.New("a TLS handshake without a name")
	errNamelessHTTP = errors.New("an HTTP request without a name")
)

// nameless: the flow goes by no name. Whatever else is wrong with its beginning, there may be one.
func nameless(err error) bool {
	return err == errNeither || err == errNamelessTLS || err == errNamelessHTTP
}

// nameOf reads by which name the beginning of a TCP flow goes: the server_name of a TLS
// handshake (RFC 6066), or the Host of an HTTP request. errMore is for one that may still say
// so. It takes nothing that two readers could read differently, and guesses at nothing.
func nameOf(first []byte) (string, error) {
	if len(first) == 0 {
		return "", errMore
	}
	read, form, none := hostName, errHTTPForm, errNamelessHTTP
	if isRecord(first[0]) {
		read, form, none = helloName, errTLSForm, errNamelessTLS
	}
	name, err := read(first)
	switch {
	case err == errMore && len(first) >= maxFirst:
		return "", form
	case err != nil:
		return "", err
	case isAddress(name):
		return "", none
	}
	return egress.Name(name)
}

// isAddress: clients write one where a name would be.
func isAddress(s string) bool {
	if inside, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inside, "]")
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// TLS (RFC 8446). A record is a type, a version and a length before so many bytes; the handshake's
// messages go on from one to the next. Each has a type and a length.
const (
	recordHandshake = 22
	recordFirst     = 20 // of the types of records that there are
	recordLast      = 24
	clientHello     = 1
	maxRecord       = 1 << 14
	serverName      = 0 // an extension, and in that the type of a name
)

func isRecord(c byte) bool { return recordFirst <= c && c <= recordLast }

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

// helloName finds the name in a ClientHello, however it is cut into records. A server may overlook
// records of other types that come before.
func helloName(first []byte) (string, error) {
	switch {
	case len(first) == 1:
		return "", errMore
	case first[1] != 3:
		return "", errNeither
	}
	var message []byte
	for r := (reader{first}); ; {
		head, ok := r.take(min(5, len(r.b)))
		switch {
		case len(head) > 0 && head[0] != recordHandshake, len(head) > 1 && head[1] != 3:
			return "", errTLSForm
		case !ok || len(head) < 5:
			return "", errMore
		}
		size := int(head[3])<<8 | int(head[4])
		if size == 0 || size > maxRecord {
			return "", errTLSForm
		}
		fragment, _ := r.take(min(size, len(r.b)))
		message = append(message, fragment...)
		if len(message) > 0 && message[0] != clientHello {
			return "", errTLSForm
		}
		if len(message) >= 4 {
			length := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			switch {
			case length > maxFirst, len(message) > 4+length: // nothing may follow it before there is an answer
				return "", errTLSForm
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
	if !ok1 || !ok2 || !ok3 || !ok4 || len(suites.b) == 0 || len(methods.b) == 0 {
		return "", errTLSForm
	}
	if len(r.b) == 0 {
		return "", errNamelessTLS
	}
	extensions, ok := r.vector(2)
	if !ok || len(r.b) > 0 {
		return "", errTLSForm
	}
	var name string
	for len(extensions.b) > 0 {
		kind, ok := extensions.uint(2)
		body, ok2 := extensions.vector(2)
		if !ok || !ok2 {
			return "", errTLSForm
		}
		if kind != serverName {
			continue
		}
		list, ok1 := body.vector(2)
		nameKind, ok2 := list.uint(1)
		text, ok3 := list.vector(2)
		if !ok1 || !ok2 || !ok3 || nameKind != serverName || len(body.b)+len(list.b) > 0 || len(text.b) == 0 || name != "" {
			return "", errTLSForm
		}
		name = string(text.b)
	}
	if name == "" {
		return "", errNamelessTLS
	}
	return name, nil
}

// hostName finds the host in the head of an HTTP/1 request (RFC 9112), which must be there as a
// whole: the last line of it might be another Host.
func hostName(first []byte) (string, error) {
	if err := mayBeHTTP(first); err != nil {
		return "", err
	}
	head, _, whole := bytes.Cut(first, []byte("\r\n\r\n"))
	switch {
	case !whole && bytes.Count(first, []byte("\n")) == bytes.Count(first, []byte("\r\n")):
		return "", errMore
	case !whole:
		return "", errHTTPForm
	}
	lines := strings.Split(string(head), "\r\n")
	target, ok := requestTarget(lines[0])
	if !ok {
		return "", errHTTPForm
	}
	host, hosts := "", 0
	for _, line := range lines[1:] {
		field, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(field) || strings.ContainsAny(value, "\x00\r\n") {
			return "", errHTTPForm // also what continues the line before
		}
		if strings.EqualFold(field, "Host") {
			host, hosts = strings.Trim(value, " \t"), hosts+1
		}
	}
	switch {
	case hosts > 1:
		return "", errTwoHost
	case hosts == 0 && target == "", hosts == 1 && target == "" && host == "":
		return "", errNamelessHTTP
	}
	name, ok := withoutPort(host)
	if !ok {
		return "", errHTTPForm
	}
	if target == "" {
		return name, nil
	}
	if asked, ok := withoutPort(target); !ok || !strings.EqualFold(asked, name) {
		return "", errTwoHost
	}
	return name, nil
}

// mayBeHTTP returns nil for what a server might take for a request, however lenient it is (RFC 9112,
// 2.2 and 3): a word, some kind of white space, and then something with a slash in it, of the target
// or of the version. SSH, for example, begins with a line that is not so.
func mayBeHTTP(first []byte) error {
	line, _, ended := bytes.Cut(first, []byte("\n"))
	const space = " \t\v\f\r"
	word := len(line)
	for i, c := range line {
		if !isTokenByte(c) {
			word = i
			break
		}
	}
	switch rest := bytes.TrimSuffix(line[word:], []byte("\r")); {
	case word == 0 && (ended && len(rest) == 0 || len(line) > 0 && strings.IndexByte(space, line[0]) >= 0):
		return errHTTPForm // servers overlook empty lines
	case word == 0, word < len(line) && strings.IndexByte(space, line[word]) < 0:
		return errNeither
	case !ended:
		return errMore
	case bytes.IndexByte(rest, '/') < 0:
		return errNeither
	}
	return nil
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
	end := strings.IndexByte(authority, ']') + 1 // of an IPv6 address
	name, port, has := strings.Cut(authority[end:], ":")
	if !has {
		return authority[:end] + name, true
	}
	_, err := strconv.ParseUint(port, 10, 16)
	return authority[:end] + name, err == nil
}

// isToken: RFC 9110, 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenByte(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
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
