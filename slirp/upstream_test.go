//go:build !hot

package slirp

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer answers by UDP with what answer makes of a question; nothing is silence.
func dnsServer(t *testing.T, answer func(question []byte) [][]byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for _, a := range answer(bytes.Clone(b[:n])) {
				conn.WriteToUDPAddrPort(a, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// testQuestion asks for the address of a name, with EDNS if room is not 0.
func testQuestion(t *testing.T, name string, room uint16) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0x1234, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	if room > 0 {
		m.Additionals = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Type: dnsmessage.TypeOPT, Class: dnsmessage.Class(room)},
			Body:   &dnsmessage.OPTResource{},
		}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reply is the question as an answer of that code, with padding behind it.
func reply(question []byte, code byte, padding int) []byte {
	a := bytes.Clone(question)
	a[2] |= 0x80
	a[3] = a[3]&0xf0 | code
	return append(a, make([]byte, padding)...)
}

func TestAskAll(t *testing.T) {
	with := func(code byte, padding int) func([]byte) [][]byte {
		return func(q []byte) [][]byte { return [][]byte{reply(q, code, padding)} }
	}
	silent := dnsServer(t, func([]byte) [][]byte { return nil })
	good := dnsServer(t, with(0, 1))
	nobody := netip.MustParseAddrPort("127.0.0.1:1")
	failing, refusing, unknown := dnsServer(t, with(2, 0)), dnsServer(t, with(5, 0)), dnsServer(t, with(3, 0))
	hostile := dnsServer(t, func(q []byte) [][]byte {
		otherID, otherName, upper, noAnswer := reply(q, 0, 2), reply(q, 0, 3), reply(q, 0, 1), bytes.Clone(q)
		otherID[0] ^= 1
		otherName[13] ^= 1
		upper = bytes.Replace(upper, []byte("eXample"), []byte("EXAMPLE"), 1)
		return [][]byte{{}, {1}, otherID, otherName, noAnswer, reply(q, 0, 0)[:14], upper}
	})
	lossy := func() netip.AddrPort {
		n := 0
		return dnsServer(t, func(q []byte) [][]byte {
			if n++; n == 1 {
				return nil
			}
			return [][]byte{reply(q, 0, 1)}
		})
	}()
	for _, test := range []struct {
		what    string
		servers []netip.AddrPort
		code    int // -1: none
		padding int
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"good", []netip.AddrPort{good}, 0, 1, 0, time.Second},
		{"silent, good", []netip.AddrPort{silent, good}, 0, 1, dnsNext, dnsNext + time.Second},
		{"a datagram lost", []netip.AddrPort{lossy}, 0, 1, dnsNext, dnsNext + time.Second},
		{"silent", []netip.AddrPort{silent}, -1, 0, dnsTimeout, 5 * time.Second},
		{"nobody there", []netip.AddrPort{nobody, nobody}, -1, 0, 0, time.Second},
		{"nobody, good", []netip.AddrPort{nobody, good}, 0, 1, 0, time.Second},
		{"failing, good", []netip.AddrPort{failing, good}, 0, 1, 0, time.Second},
		{"failing, refusing", []netip.AddrPort{failing, refusing}, 5, 0, 0, time.Second},
		{"unknown name, good", []netip.AddrPort{unknown, good}, 3, 0, 0, time.Second},
		{"answers to what was not asked, then another case", []netip.AddrPort{hostile}, 0, 1, 0, time.Second},
	} {
		t.Run(test.what, func(t *testing.T) {
			t.Parallel()
			message := testQuestion(t, "eXample.test.", 0)
			_, q, err := parseQuestion(message)
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			answer := askAll(context.Background(), test.servers, q, "udp")
			took := time.Since(begin)
			switch {
			case took < test.atLeast || took > test.atMost:
				t.Errorf("it took %v", took)
			case test.code < 0:
				if answer != nil {
					t.Errorf("an answer %x", answer)
				}
			case answer == nil:
				t.Error("no answer")
			case int(answer[3]&15) != test.code || len(answer) != len(message)+test.padding:
				t.Errorf("%x", answer)
			case !bytes.Equal(answer[:2], message[:2]):
				t.Errorf("the identifier is %x", answer[:2])
			}
		})
	}
}

func TestQuestion(t *testing.T) {
	for room, want := range map[uint16]int{0: 512, 100: 512, 1232: 1232, 65535: 65535} {
		_, q, err := parseQuestion(testQuestion(t, "a.test.", room))
		if err != nil || q.room != want {
			t.Errorf("%d: %+v %v", room, q, err)
		}
	}
	whole := testQuestion(t, "a.test.", 0)
	for n := range whole {
		if _, _, err := parseQuestion(whole[:n]); err == nil {
			t.Errorf("the first %d bytes of %d are taken for a question", n, len(whole))
		}
	}
	for _, bad := range [][]byte{
		reply(whole, 0, 0), // an answer
		append(append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0xc0, 12), 0, 1, 0, 1),                  // a name that points at itself
		append([]byte{0, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0}, whole[12:]...),                                 // of two, one
		append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{1, 'a'}, 200)...),          // without an end
		append([]byte{0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0, 1, 0, 1),                                 // of none
		append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, append(bytes.Repeat([]byte{64}, 65), 0, 1)...), // too long a label
	} {
		if _, _, err := parseQuestion(bad); err == nil {
			t.Errorf("%x is taken for a question", bad)
		}
	}
}

// An answer that is too large for the client says so, and nothing else.
func TestTruncated(t *testing.T) {
	server := dnsServer(t, func(q []byte) [][]byte { return [][]byte{reply(q, 0, 2000)} })
	for room, whole := range map[uint16]bool{0: false, 1232: false, 4096: true} {
		message := testQuestion(t, "a.test.", room)
		_, q, _ := parseQuestion(message)
		answer := askAll(context.Background(), []netip.AddrPort{server}, q, "udp")
		if len(answer) > q.room {
			answer = q.truncated(answer)
		}
		var m dnsmessage.Message
		switch {
		case whole && len(answer) != len(message)+2000:
			t.Errorf("room for %d: %d bytes", room, len(answer))
		case whole:
		case m.Unpack(answer) != nil || !m.Truncated || m.ID != 0x1234 || len(m.Questions) != 1 || len(m.Answers)+len(m.Additionals) != 0:
			t.Errorf("room for %d: %+v", room, m)
		}
	}
}
