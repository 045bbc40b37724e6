//go:build !hot

package slirp

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"sbx/slirp/egress"
)

func name(t testing.TB, s string) dnsmessage.Name {
	t.Helper()
	n, err := dnsmessage.NewName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ask is a question as a program sends it, with EDNS.
func ask(t testing.TB, of string, kind dnsmessage.Type) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
	b.StartQuestions()
	b.Question(dnsmessage.Question{Name: name(t, of), Type: kind, Class: dnsmessage.ClassINET})
	b.StartAdditionals()
	if err := addOPT(&b, 1232, 0, true, nil); err != nil {
		t.Fatal(err)
	}
	text, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// answerTo is an answer of these records.
func answerTo(t testing.TB, q *query, id uint16, records ...dnsmessage.Resource) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true},
		Questions: []dnsmessage.Question{q.question}, Answers: records,
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record4(t testing.TB, owner, address string, ttl uint32) dnsmessage.Resource {
	a := netip.MustParseAddr(address)
	h := dnsmessage.ResourceHeader{Name: name(t, owner), Class: dnsmessage.ClassINET, TTL: ttl}
	if a.Is4() {
		return dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}}
	}
	return dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}
}

func alias(t testing.TB, owner, to string, ttl uint32) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: name(t, owner), Class: dnsmessage.ClassINET, TTL: ttl}, Body: &dnsmessage.CNAMEResource{CNAME: name(t, to)},
	}
}

// What of an answer is let out to: the addresses of the name that was asked for, by whatever other
// names, and of no other.
func TestPinsOfAnAnswer(t *testing.T) {
	q, err := readQuery(ask(t, "WWW.Example.test.", dnsmessage.TypeA))
	if err != nil || q.name != "www.example.test" || !q.edns || q.size != 1232 || !q.dnssec {
		t.Fatalf("%+v, %v", q, err)
	}
	loop := []dnsmessage.Resource{alias(t, "www.example.test.", "a.test.", 9), alias(t, "a.test.", "www.example.test.", 9), record4(t, "a.test.", "192.0.2.1", 9)}
	other := q
	other.question.Name = name(t, "other.test.")
	long := []dnsmessage.Resource{alias(t, "www.example.test.", "xx.test.", 9)}
	for range maxAliases {
		last := strings.Repeat("x", len(long)+1)
		long = append(long, alias(t, last+".test.", last+"x.test.", 9), record4(t, last+"x.test.", "192.0.2.1", 9))
	}
	for what, test := range map[string]struct {
		answer []byte
		want   []string // nil is an answer that is none
	}{
		"the name's":         {answerTo(t, &q, 7, record4(t, "www.example.TEST.", "192.0.2.1", 9), record4(t, "www.example.test.", "192.0.2.2", 9)), []string{"192.0.2.1", "192.0.2.2"}},
		"IPv6, too":          {answerTo(t, &q, 7, record4(t, "www.example.test.", "2001:db8::1", 9)), []string{"2001:db8::1"}},
		"another's":          {answerTo(t, &q, 7, record4(t, "other.test.", "192.0.2.1", 9)), []string{}},
		"by another name":    {answerTo(t, &q, 7, record4(t, "b.test.", "192.0.2.1", 9), alias(t, "A.test.", "b.TEST.", 9), alias(t, "www.example.test.", "a.test.", 9)), []string{"192.0.2.1"}},
		"in a circle":        {answerTo(t, &q, 7, loop...), []string{"192.0.2.1"}},
		"nothing":            {answerTo(t, &q, 7), []string{}},
		"another question's": {answerTo(t, &other, 7, record4(t, "www.example.test.", "192.0.2.1", 9)), nil},
		"another id":         {answerTo(t, &q, 8, record4(t, "www.example.test.", "192.0.2.1", 9)), nil},
		"a question":         {ask(t, "www.example.test.", dnsmessage.TypeA), nil},
		"cut":                {answerTo(t, &q, 7, record4(t, "www.example.test.", "192.0.2.1", 9))[:50], nil},
	} {
		s := &Stack{pins: newPins(nil)}
		err := s.pin(&q, test.answer)
		if (err != nil) != (test.want == nil) {
			t.Errorf("%s: %v", what, err)
		}
		got := []string{}
		for _, a := range s.pins.addresses("www.example.test") {
			got = append(got, a.String())
		}
		if test.want != nil && !reflect.DeepEqual(got, test.want) || s.pins.n != len(got) {
			t.Errorf("%s: %v of %d pins, want %v", what, got, s.pins.n, test.want)
		}
	}
	s := &Stack{pins: newPins(nil)}
	s.pins.now = func() time.Time { return time.Unix(0, 0) }
	s.pin(&q, answerTo(t, &q, 7, alias(t, "www.example.test.", "a.test.", 600), record4(t, "a.test.", "192.0.2.1", 7200)))
	if end := s.pins.ends[netip.MustParseAddr("192.0.2.1")]["www.example.test"]; end != time.Unix(600, 0).Add(pinGrace) {
		t.Errorf("it holds until %s: longer than the alias", end)
	}
	s = &Stack{pins: newPins(nil)}
	s.pin(&q, answerTo(t, &q, 7, long...))
	if s.pins.n > maxAliases {
		t.Errorf("%d pins of a long chain", s.pins.n)
	}
}

func TestReadQuery(t *testing.T) {
	good := ask(t, "a.test.", dnsmessage.TypeA)
	with := func(at int, c byte) []byte {
		b := bytes.Clone(good)
		b[at] = c
		return b
	}
	for what, b := range map[string][]byte{
		"two questions": with(5, 2), "none": with(5, 0), "an answer in it": with(7, 1), "an authority in it": with(9, 1),
		"an update": with(2, 5<<3), "more than there is": with(11, 2), "cut": good[:15],
	} {
		if q, err := readQuery(b); err != errQuestion {
			t.Errorf("%s: %+v, %v", what, q, err)
		}
	}
	for what, b := range map[string][]byte{"short": good[:11], "an answer": with(2, 0x80), "empty": nil} {
		if q, err := readQuery(b); err == nil || err == errQuestion {
			t.Errorf("%s: %+v, %v", what, q, err)
		}
	}
	q, err := readQuery(good)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := q.pack()
	if err != nil || !bytes.Equal(sent, good) {
		t.Errorf("%q is sent on as %q, %v", good, sent, err)
	}
	refused, err := q.reply(dnsmessage.RCodeRefused, "sbx: no")
	if err != nil || !bytes.HasSuffix(refused, []byte("\x00\x0f\x00\x09\x00\x0fsbx: no")) || refused[3]&15 != 5 || refused[1] != 7 {
		t.Errorf("%q, %v", refused, err)
	}
}

// FuzzQuery: whatever comes, an answer can be made, and what is sent on is understood in the same way.
func FuzzQuery(f *testing.F) {
	f.Add(ask(f, "a.test.", dnsmessage.TypeA))
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	p := egress.Policy{Allow: []egress.Rule{{Name: "a.test"}}}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := readQuery(b)
		if err != nil && err != errQuestion {
			return
		}
		if _, err := q.reply(dnsmessage.RCodeRefused, "sbx: no"); err != nil {
			t.Errorf("no answer: %v", err)
		}
		if err != nil || q.name == "" {
			return
		}
		sent, err := q.pack()
		if err != nil {
			t.Fatal(err)
		}
		again, err := readQuery(sent)
		if err != nil || again.name != q.name || again.question != q.question {
			t.Errorf("%+v is sent on as %+v, %v", q, again, err)
		}
		if p.Question(q.name).Allowed && !strings.EqualFold(q.question.Name.String(), "a.test.") {
			t.Errorf("%q is let through", q.question.Name)
		}
	})
}

// FuzzAnswer: an answer pins what it has for the name, or nothing.
func FuzzAnswer(f *testing.F) {
	q, _ := readQuery(ask(f, "a.test.", dnsmessage.TypeA))
	f.Add(answerTo(f, &q, 7, alias(f, "a.test.", "b.test.", 9), record4(f, "b.test.", "192.0.2.1", 9)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Stack{pins: newPins(nil)}
		s.pin(&q, b)
		for a, names := range s.pins.ends {
			if len(names) != 1 || names["a.test"].IsZero() {
				t.Errorf("%s is pinned for %v", a, names)
			}
		}
	})
}
