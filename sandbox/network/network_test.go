package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func create(t *testing.T, o Options) (Store, *Network) {
	t.Helper()
	s := In(t.TempDir())
	n, err := s.Create(o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, n
}

func addrs(list ...string) (as []netip.Addr) {
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func TestSubnets(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.0.0/24":      "10.1.0.1 10.1.0.1-10.1.0.254",
		"10.1.0.0/30":      "10.1.0.1 10.1.0.1-10.1.0.2",
		"fd00::/64":        "fd00::1 fd00::1-fd00::ffff:ffff:ffff:ffff",
		"10.1.0.0/31":      "too small",
		"fd00::/127":       "too small",
		"10.1.0.1/24":      "own address",
		"127.1.0.0/24":     "not for hosts",
		"0.0.0.0/0":        "not for hosts",
		"169.254.7.0/24":   "not for hosts",
		"::/0":             "not for hosts",
		"::ffff:0:0/96":    "not for hosts",
		"fe80::/64":        "not for hosts",
		"ff05::/64":        "not for hosts",
		"224.0.0.0/4":      "not for hosts",
		"255.255.255.0/24": "not for hosts",
	} {
		n := Network{Subnets: []Subnet{{Subnet: netip.MustParsePrefix(text)}}}
		err := n.choose(false, make([]byte, 7), nil, nil)
		got := fmt.Sprint(err)
		if err == nil {
			r := n.Subnets[0].leases()
			got = fmt.Sprintf("%s %s-%s", n.Subnets[0].Gateway, r.StartIP, r.EndIP)
		}
		if got != want && !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if p, err := free([]netip.Prefix{netip.MustParsePrefix("10.89.0.0/16"), netip.MustParsePrefix("10.90.0.0/23")}); err != nil || p.String() != "10.90.2.0/24" {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := free([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil {
		t.Errorf("%v is free", p)
	}
}

// Every run has another address, whoever else asks at the same time; when there is none left, an error.
func TestLeases(t *testing.T) {
	s, n := create(t, Options{Name: "x", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.1.0.0/28")}}, IPv6: true})
	var mu sync.Mutex
	var leases []*Lease
	var got []string
	var group sync.WaitGroup
	for i := range 13 { // of 16, without the network, the gateway, and all
		group.Go(func() {
			l, err := n.Lease(Member{ID: fmt.Sprint("run", i), Name: "box"}, nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			leases = append(leases, l)
			got = append(got, l.Addresses[0].String())
			if !n.Subnets[1].Subnet.Contains(l.Addresses[1].Addr()) {
				t.Errorf("%v", l.Addresses)
			}
		})
	}
	group.Wait()
	slices.Sort(got)
	if len(slices.Compact(got)) != 13 || slices.Contains(got, "10.1.0.1/28") || slices.Contains(got, "10.1.0.15/28") {
		t.Errorf("%v", got)
	}
	if _, err := n.Lease(Member{ID: "late"}, nil); err == nil || !strings.Contains(err.Error(), "no address of 10.1.0.0/28 is free") {
		t.Errorf("%v", err)
	}
	if members, err := n.Members(); err != nil || len(members) != 13 || members[0].Name != "box" {
		t.Errorf("%v, %v", members, err)
	}
	if _, used := errors.AsType[*InUseError](s.Remove(n)); !used {
		t.Error("removed in use")
	}
	for _, l := range leases {
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Remove(n); err != nil {
		t.Error(err)
	}
	if err := leases[0].Release(); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestLeaseWanted(t *testing.T) {
	_, n := create(t, Options{Name: "x", Subnets: []Subnet{{
		Subnet: netip.MustParsePrefix("10.1.0.0/24"), LeaseRange: &Range{netip.MustParseAddr("10.1.0.128"), netip.MustParseAddr("10.1.0.129")},
	}}})
	l, err := n.Lease(Member{ID: "a"}, addrs("10.1.0.7"))
	if err != nil || l.Addresses[0].String() != "10.1.0.7/24" {
		t.Fatalf("%v, %v", l, err)
	}
	for _, wanted := range []string{"10.1.0.7", "10.1.0.1", "10.1.0.0", "10.1.0.255", "10.2.0.1", "fd00::1"} {
		if _, err := n.Lease(Member{ID: "b"}, addrs(wanted)); err == nil {
			t.Errorf("%s was leased", wanted)
		}
	}
	if l, err := n.Lease(Member{ID: "b"}, nil); err != nil || l.Addresses[0].String() != "10.1.0.128/24" {
		t.Errorf("%v, %v", l, err)
	}
	if _, err := n.Lease(Member{ID: "b"}, nil); err == nil {
		t.Error("one run twice")
	}
}

// What a killed run has left is given back: the lock on its file is gone.
func TestSweep(t *testing.T) {
	_, n := create(t, Options{Name: "x", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.1.0.0/30")}}})
	l, err := n.Lease(Member{ID: "killed"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Lease(Member{ID: "other"}, nil); err == nil {
		t.Error("one address twice")
	}
	unix.Flock(int(l.lock.Fd()), unix.LOCK_UN)
	// Killed while the file was written.
	if err := os.WriteFile(filepath.Join(n.Live(), "leases", "10.1.0.2"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := n.Lease(Member{ID: "other"}, nil)
	if err != nil || again.Addresses[0] != l.Addresses[0] {
		t.Fatalf("%v, %v", again, err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(n.Live(), "leases", "[0-9]*"))
	members, _ := os.ReadDir(filepath.Join(n.Live(), "members"))
	if len(left)+len(members) != 0 {
		t.Errorf("%v, %v", left, members)
	}
}
