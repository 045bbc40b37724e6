//go:build !hot

package slirp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"sbx/slirp/egress"
)

// hello is the first flight of a real client.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		defer far.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		tls.Client(far, &tls.Config{ServerName: name, InsecureSkipVerify: true}).HandshakeContext(ctx) // fails: nobody answers
	}()
	b := make([]byte, maxFirst)
	n, err := near.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// records cuts a handshake's message into records of so many bytes.
func records(message []byte, size int) (b []byte) {
	for len(message) > 0 {
		n := min(size, len(message))
		b = append(b, recordHandshake, 3, 1, byte(n>>8), byte(n))
		b = append(b, message[:n]...)
		message = message[n:]
	}
	return b
}

// helloOf is a ClientHello with these extensions, each a kind and a body.
func helloOf(extensions ...string) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 0x01, 1, 0)
	var all []byte
	for _, e := range extensions {
		all = append(all, e[0], e[1])
		all = binary.BigEndian.AppendUint16(all, uint16(len(e)-2))
		all = append(all, e[2:]...)
	}
	body = append(binary.BigEndian.AppendUint16(body, uint16(len(all))), all...)
	return append([]byte{clientHello, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

// sni is a server_name extension of these names.
func sni(names ...string) string {
	var list []byte
	for _, name := range names {
		list = append(list, serverName)
		list = binary.BigEndian.AppendUint16(list, uint16(len(name)))
		list = append(list, name...)
	}
	return string(append(binary.BigEndian.AppendUint16([]byte{0, serverName}, uint16(len(list))), list...))
}

func TestClientHello(t *testing.T) {
	real := hello(t, "www.example.test")
	message := real[5:]
	for n := range real {
		if name, err := nameOf(real[:n]); err != errMore {
			t.Fatalf("%d bytes of %d: %q, %v", n, len(real), name, err)
		}
	}
	plain := helloOf("\x00\x2bx", sni("example.test"), "\xfe\x0dencrypted")
	for _, good := range [][]byte{real, records(message, 1), records(message, 100), records(plain, 7), records(helloOf(sni("EXAMPLE.test.")), 1000)} {
		name, err := nameOf(good)
		if err != nil || name != "www.example.test" && name != "example.test" {
			t.Errorf("%q: %q, %v", good[:20], name, err)
		}
	}
	with := func(b []byte, at int, c byte) []byte {
		b = bytes.Clone(b)
		b[at] = c
		return b
	}
	whole := records(plain, 1<<14)
	for what, bad := range map[string][]byte{
		"no name":                       records(helloOf("\x00\x2bx"), 1000),
		"no extensions":                 records(helloOf(), 1000),
		"two extensions":                records(helloOf(sni("example.test"), sni("evil.test")), 1000),
		"two of the same":               records(helloOf(sni("example.test"), sni("example.test")), 1000),
		"two names":                     records(helloOf(sni("example.test", "evil.test")), 1000),
		"an empty name":                 records(helloOf(sni("")), 1000),
		"an empty list":                 records(helloOf(sni()), 1000),
		"another kind of name":          records(helloOf("\x00\x00\x00\x04\x01\x00\x01x"), 1000),
		"more behind the list":          records(helloOf(sni("example.test")+"x"), 1000),
		"a zero byte":                   records(helloOf(sni("example.test\x00.evil.test")), 1000),
		"an address":                    records(helloOf(sni("192.0.2.20")), 1000),
		"a list that is too short":      records(helloOf("\x00\x00\x00\x0f\x00\x00\x40example.test"), 1000),
		"another message":               records(with(plain, 0, 2), 1000),
		"another version":               with(whole, 1, 2),
		"an alert in the midst":         append(records(plain, 40)[:45], 21, 3, 1, 0, 2, 2, 40),
		"an empty record":               append([]byte{recordHandshake, 3, 1, 0, 0}, whole...),
		"a record that is too long":     with(with(whole, 3, 0x40), 4, 1),
		"a message behind":              records(append(bytes.Clone(plain), 1, 0, 0, 0), 1000),
		"a message that is too long":    records(with(plain, 1, 1), 1000),
		"a session that is too long":    records(with(plain, 4+34, 255), 1000),
		"extensions that are too short": records(with(plain, 4+34+1+4+2+1, plain[4+34+1+4+2+1]-1), 1000),
		"SSL 2":                         []byte("\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"),
	} {
		if name, err := nameOf(bad); err == nil || err == errMore {
			t.Errorf("%s: %q, %v", what, name, err)
		}
	}
	long := records(helloOf("\x00\x15"+strings.Repeat("x", maxFirst), sni("example.test")), 1<<14)
	if name, err := nameOf(long[:maxFirst]); err == nil || err == errMore {
		t.Errorf("too long: %q, %v", name, err)
	}
}

func TestHost(t *testing.T) {
	for _, test := range []struct{ request, want string }{
		{"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n", "example.test"},
		{"GET /a?b HTTP/1.0\r\nUser-Agent: x\r\nhOST:\tEXAMPLE.test.:80 \r\nX: \xff\r\n\r\nbody", "example.test"},
		{"OPTIONS * HTTP/1.1\r\nHost: example.test\r\n\r\n", "example.test"},
		{"GET http://example.test HTTP/1.1\r\nHost: example.test\r\n\r\n", "example.test"},
		{"GET HTTP://Example.test:80/x@y HTTP/1.1\r\nHost: example.test\r\n\r\n", "example.test"},
		{"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n", "example.test"},
		{"GET http://evil.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"GET http://example.test@evil.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"GET http://evil.test\\@example.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"GET http://example.test?@evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", ""},
		{"GET https://example.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"GET example.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"CONNECT evil.test:443 HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: example.test\r\nHost: evil.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: example.test\r\nHost: example.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost : example.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\n Host: example.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nX: y\r\n z\r\nHost: example.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: example.test\r\n evil.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: example.test, evil.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: example.test evil.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: example.test\x00\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: example.test:x\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: example.test:\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: 192.0.2.20\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nHost: [2001:db8::20]\r\n\r\n", ""},
		{"GET / HTTP/1.1\nHost: example.test\n\n", ""},
		{"GET / HTTP/1.1\r\nX: y\nHost: evil.test\r\nHost: example.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\r\nX: y\rHost: evil.test\r\nHost: example.test\r\n\r\n", ""},
		{"GET / HTTP/1.1\nX: HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"GET  / HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"GET / HTTP/2.0\r\nHost: example.test\r\n\r\n", ""},
		{"GET /\r\nHost: example.test\r\n\r\n", ""},
		{"\r\nGET / HTTP/1.1\r\nHost: example.test\r\n\r\n", ""},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		{"SSH-2.0-OpenSSH_9.2\r\n", ""},
		{"\x13BitTorrent protocol", ""},
		{"GET / HTTP/1.1\r\nHost: example.test\r\nX: " + strings.Repeat("x", maxFirst), ""},
	} {
		name, err := nameOf([]byte(test.request))
		if name != test.want || (err == nil) != (test.want != "") || err == errMore {
			t.Errorf("%.200q: %q, %v; want %q", test.request, name, err, test.want)
		}
		head := test.request[:max(0, strings.Index(test.request, "\r\n\r\n"))]
		for n := range head {
			if name, err := nameOf([]byte(head[:n])); err == nil || test.want != "" && err != errMore {
				t.Errorf("%q: %q, %v", head[:n], name, err)
			}
		}
	}
}

// Where only some names are denied, what has none for any reader passes, and nothing that a lenient one
// might find one in.
func TestNameless(t *testing.T) {
	for what, b := range map[string][]byte{
		"TLS without extensions":      records(helloOf(), 1000),
		"TLS without any at all":      records(append([]byte{clientHello, 0, 0, 41, 3, 3}, append(make([]byte, 33), 0, 2, 0x13, 1, 1, 0)...), 1000),
		"TLS without a name":          records(helloOf("\x00\x2bx"), 1000),
		"TLS for an address":          records(helloOf(sni("192.0.2.20")), 1000),
		"HTTP/1.0":                    []byte("GET / HTTP/1.0\r\n\r\n"),
		"HTTP without a host":         []byte("GET / HTTP/1.1\r\nHost:\r\n\r\n"),
		"HTTP for an address":         []byte("GET / HTTP/1.1\r\nHost: 192.0.2.20:80\r\n\r\n"),
		"HTTP for an IPv6 address":    []byte("GET / HTTP/1.1\r\nHost: [2001:db8::20]:80\r\n\r\n"),
		"HTTP for an address, in all": []byte("GET http://192.0.2.20/ HTTP/1.1\r\nHost: 192.0.2.20\r\n\r\n"),
		"SSH":                         []byte("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
		"SSH alone":                   []byte("SSH-2.0-x\r\n"),
		"AMQP":                        []byte("AMQP\x00\x00\x09\x01"),
		"BitTorrent":                  []byte("\x13BitTorrent protocol"),
		"SSL 2":                       []byte("\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"),
		"no record of TLS":            []byte("\x16\x00"),
	} {
		if name, err := nameOf(b); !nameless(err) {
			t.Errorf("%s: %q, %v", what, name, err)
		}
	}
	for what, b := range map[string][]byte{
		"nothing":                       nil,
		"two extensions":                records(helloOf(sni("evil.test"), sni("example.test")), 1000),
		"two names":                     records(helloOf(sni("example.test", "evil.test")), 1000),
		"more behind the list":          records(helloOf(sni("evil.test")+"x"), 1000),
		"a name with a zero byte":       records(helloOf(sni("evil.test\x00")), 1000),
		"an alert before TLS":           append([]byte{21, 3, 1, 0, 2, 1, 0}, records(helloOf(sni("evil.test")), 1000)...),
		"half a hello":                  records(helloOf(sni("evil.test")), 1000)[:40],
		"one byte of it":                {recordHandshake},
		"two hosts":                     []byte("GET / HTTP/1.1\r\nHost: example.test\r\nHost: evil.test\r\n\r\n"),
		"two hosts, one in the target":  []byte("GET http://evil.test/ HTTP/1.1\r\nHost: example.test\r\n\r\n"),
		"the host in the target alone":  []byte("GET http://evil.test/ HTTP/1.0\r\n\r\n"),
		"the host in an empty one":      []byte("GET http://evil.test/ HTTP/1.0\r\nHost:\r\n\r\n"),
		"lines that end otherwise":      []byte("GET / HTTP/1.1\nHost: evil.test\n\n"),
		"one line that ends otherwise":  []byte("GET / HTTP/1.1\r\nX: y\nHost: evil.test\r\n\r\n"),
		"an empty line before":          []byte("\r\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
		"an empty line, so far":         []byte("\r\n"),
		"a return, so far":              []byte("\r"),
		"another empty line":            []byte("\n"),
		"a space before":                []byte(" GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
		"a tab between":                 []byte("GET\t/\tHTTP/1.1\r\nHost: evil.test\r\n\r\n"),
		"a form feed between":           []byte("GET\f/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
		"two spaces between":            []byte("GET  / HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
		"no version":                    []byte("GET /\r\nHost: evil.test\r\n\r\n"),
		"another version":               []byte("GET / http/1.1\r\nHost: evil.test\r\n\r\n"),
		"HTTP/2":                        []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		"a line that goes on":           []byte("GET / HTTP/1.1\r\nHost:\r\n evil.test\r\n\r\n"),
		"a space behind the field":      []byte("GET / HTTP/1.1\r\nHost : evil.test\r\n\r\n"),
		"half a request":                []byte("GET / HTTP/1.1\r\nHost: ev"),
		"half a method":                 []byte("GE"),
		"a request that is too long":    []byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxFirst)),
		"a first line that is too long": []byte("GET /" + strings.Repeat("x", maxFirst)),
		"an address in an older form":   []byte("GET / HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n"),
		"a name with an escape":         []byte("GET / HTTP/1.1\r\nHost: %65vil.test\r\n\r\n"),
	} {
		if name, err := nameOf(b); err == nil || nameless(err) {
			t.Errorf("%s: %q, %v", what, name, err)
		}
	}
}

// longer checks what holds for any beginning of a flow: an answer does not change with what follows,
// and is a name.
func longer(t *testing.T, b []byte) {
	name, err := nameOf(b)
	if err == nil {
		if n, err := egress.Name(name); err != nil || n != name {
			t.Errorf("%q is no name: %v", name, err)
		}
	}
	for n := range min(len(b), 300) {
		short, shortErr := nameOf(b[:n])
		if errors.Is(shortErr, errMore) {
			continue
		}
		// HTTP has a body; TLS nothing.
		if shortErr == nil && (len(b) == 0 || b[0] != recordHandshake) && short != name {
			t.Errorf("%q: %q, with what follows %q, %v", b[:n], short, name, err)
		}
		if shortErr != nil && err == nil {
			t.Errorf("%q: %v, with what follows %q", b[:n], shortErr, name)
		}
	}
}

func FuzzClientHello(f *testing.F) {
	f.Add(hello(f, "example.test"))
	f.Add(records(helloOf(sni("example.test")), 3))
	f.Add(records(helloOf(sni("example.test", "b"), sni("c")), 50))
	f.Fuzz(func(t *testing.T, b []byte) { longer(t, b) })
}

func FuzzHost(f *testing.F) {
	f.Add([]byte("GET http://example.test:80/ HTTP/1.1\r\nHost: example.test:80\r\nX: y\r\n\r\nbody"))
	f.Add([]byte("POST / HTTP/1.0\r\nHost: example.test\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) { longer(t, b) })
}
