//go:build !hot

package slirp

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"
)

func TestPins(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	p := newPins(nil)
	p.now = func() time.Time { return now }
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	p.add("short.test", a, 0)
	p.add("long.test", a, time.Hour)
	p.add("long.test", a, 0) // a later answer shortens nothing
	p.add("long.test", b, time.Hour)
	p.add("longest.test", b, 1000*time.Hour)
	for _, test := range []struct {
		after time.Duration
		a, b  []string
	}{
		{0, []string{"long.test", "short.test"}, []string{"long.test", "longest.test"}},
		{pinLeast + pinGrace - time.Second, []string{"long.test", "short.test"}, []string{"long.test", "longest.test"}},
		{pinLeast + pinGrace, []string{"long.test"}, []string{"long.test", "longest.test"}},
		{time.Hour + pinGrace - time.Second, []string{"long.test"}, []string{"long.test", "longest.test"}},
		{time.Hour + pinGrace, nil, []string{"longest.test"}},
		{pinMost + pinGrace, nil, nil},
	} {
		now = time.Unix(1_000_000, 0).Add(test.after)
		if got := p.names(a); !reflect.DeepEqual(got, test.a) {
			t.Errorf("after %s: %v for %s, want %v", test.after, got, a, test.a)
		}
		if got := p.names(b); !reflect.DeepEqual(got, test.b) {
			t.Errorf("after %s: %v for %s, want %v", test.after, got, b, test.b)
		}
	}
	if got := p.addresses("long.test"); got != nil {
		t.Errorf("addresses that have ended: %v", got)
	}
}

// What /etc/hosts says is no matter of time, and goes first.
func TestPinsOfHosts(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	p := newPins([]Host{{"db.test", a}, {"alias.test", a}})
	p.add("db.test", b, time.Hour)
	p.add("db.test", a, time.Hour)
	p.add("www.test", a, time.Hour)
	if got := p.names(a); !reflect.DeepEqual(got, []string{"alias.test", "db.test", "www.test"}) {
		t.Errorf("%v", got)
	}
	if got := p.addresses("db.test"); !reflect.DeepEqual(got, []netip.Addr{a}) {
		t.Errorf("%v", got)
	}
}

// A flood of answers is bounded, and what holds longest stays.
func TestPinsAreBounded(t *testing.T) {
	p := newPins(nil)
	a := netip.MustParseAddr("192.0.2.1")
	p.add("keep.test", a, 2*time.Hour)
	for i := range 3 * maxPins {
		p.add(fmt.Sprintf("n%d.test", i), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), time.Hour)
	}
	n := 0
	for _, names := range p.ends {
		n += len(names)
	}
	if n != maxPins || p.n != n {
		t.Errorf("%d pins, counted %d, want %d", n, p.n, maxPins)
	}
	if got := p.addresses("keep.test"); len(got) != 1 || got[0] != a {
		t.Errorf("keep.test has %v", got)
	}
}
