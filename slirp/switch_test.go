//go:build !hot

package slirp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// testMember is a member, and the sandbox's end of its link.
type testMember struct {
	*port
	t  *testing.T
	fd int
}

func memberConfig(last byte, names ...string) Config {
	return Config{
		MTU: 1500,
		IPv4: Family{
			Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 89, 0, last}), 24),
			Gateway: netip.MustParseAddr("10.89.0.1"), Resolver: netip.MustParseAddr("10.89.0.1"),
		},
		IPv6: Family{
			Address: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 15: last}), 64),
			Gateway: netip.MustParseAddr("fd00::1"), Resolver: netip.MustParseAddr("fd00::1"),
		},
		Member: &Member{Network: "test", Interface: "eth0", Names: names, Finds: true, Default: true},
	}
}

func join(t *testing.T, w *Switch, last byte, names ...string) *testMember {
	t.Helper()
	p, err := w.join(memberConfig(last, names...))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]) })
	if err := p.connect(os.NewFile(uintptr(pair[1]), "link"), func(int) error { return nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.leave)
	go p.serve()
	return &testMember{p, t, pair[0]}
}

func (m *testMember) sends(b []byte) {
	m.t.Helper()
	if _, err := unix.Write(m.fd, b); err != nil {
		m.t.Fatal(err)
	}
}

// gets returns the next frame, with what is before it, or nil if there is none in that time.
func (m *testMember) gets(within time.Duration) []byte {
	m.t.Helper()
	ready := []unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(ready, int(within.Milliseconds())); n == 0 || err != nil {
		return nil
	}
	b := make([]byte, 1<<17)
	n, err := unix.Read(m.fd, b)
	if err != nil {
		m.t.Fatal(err)
	}
	return b[:n]
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The members of these tests: 10.89.0.2 and fd00::2 is a, 3 is b, 4 is c.
const (
	macA, macB, macC = "02010a590002", "02010a590003", "02010a590004"
	macGateway       = "02000a000202"
	all              = "ffffffffffff"
	noOffload        = "00000000000000000000"
	six2, six3       = "fd000000000000000000000000000002", "fd000000000000000000000000000003"
	six1             = "fd000000000000000000000000000001"
	local2           = "fe8000000000000000010afffe590002"
)

func ipv4Of(src, dst string) string { // UDP, of which nobody looks at more
	return "0800 4500001c00000000 40110000" + src + dst + "0009000900080000"
}

func ipv6Of(src, dst, next, rest string) string {
	return "86dd 60000000" + fmt.Sprintf("%04x", len(strings.ReplaceAll(rest, " ", ""))/2) + next + "ff" + src + dst + rest
}

func arpOf(op, mac, src, dst string) string {
	return "0806 0001080006040" + "00" + op + mac + src + "000000000000" + dst
}

func TestSwitchPasses(t *testing.T) {
	w := NewSwitch()
	a, b, c := join(t, w, 2), join(t, w, 3), join(t, w, 4)
	large := append(unhex(t, "0101 4200 a805 2200 1000"+macB+macA+ipv4Of("0a590002", "0a590003")), bytes.Repeat([]byte("x"), 65000)...)
	for name, test := range map[string]struct {
		frame []byte
		to    []*testMember
	}{
		"to one":          {unhex(t, noOffload+macB+macA+ipv4Of("0a590002", "0a590003")), []*testMember{b}},
		"a large segment": {large, []*testMember{b}},
		"to all":          {unhex(t, noOffload+all+macA+ipv4Of("0a590002", "0a5900ff")), []*testMember{b, c}},
		"multicast":       {unhex(t, noOffload+"01005e0000fb"+macA+ipv4Of("0a590002", "e00000fb")), []*testMember{b, c}},
		"IPv6":            {unhex(t, noOffload+macB+macA+ipv6Of(six2, six3, "11", "0009000900080000")), []*testMember{b}},
		"link-local":      {unhex(t, noOffload+macB+macA+ipv6Of(local2, six3, "11", "0009000900080000")), []*testMember{b}},
		"ping6":           {unhex(t, noOffload+macB+macA+ipv6Of(six2, six3, "3a", "8000000000010001")), []*testMember{b}},
		"to itself":       {unhex(t, noOffload+macA+macA+ipv4Of("0a590002", "0a590002")), nil},
		"to nobody":       {unhex(t, noOffload+"02010a590099"+macA+ipv4Of("0a590002", "0a590099")), nil},
	} {
		a.sends(test.frame)
		for _, m := range []*testMember{b, c} {
			want := slices.Contains(test.to, m)
			limit := 50 * time.Millisecond
			if want {
				limit = 10 * time.Second
			}
			if got := m.gets(limit); want && !bytes.Equal(got, test.frame) || !want && got != nil {
				t.Errorf("%s: %d bytes came of %d, wanted %v", name, len(got), len(test.frame), want)
			}
		}
	}
	if n := w.Counters(); n != (SwitchCounters{Unknown: 2}) {
		t.Errorf("%+v", n)
	}
}

// Nothing that a member could say for another, or of another, gets to anybody.
func TestSwitchDrops(t *testing.T) {
	w := NewSwitch()
	a, b := join(t, w, 2), join(t, w, 3)
	advertised := "8600000040000708 0000000000000000"
	for name, frame := range map[string]string{
		"empty":                       "",
		"short":                       macB + macA,
		"another's hardware address":  macB + macB + ipv4Of("0a590002", "0a590003"),
		"the gateway's":               macB + macGateway + ipv4Of("0a590001", "0a590003"),
		"another's address":           macB + macA + ipv4Of("0a590004", "0a590003"),
		"the gateway's address":       macB + macA + ipv4Of("0a590001", "0a590003"),
		"to all from another":         all + macA + ipv4Of("0a590004", "0a5900ff"),
		"to the gateway from another": macGateway + macA + ipv4Of("0a590003", "c0000214"),
		"cut IPv4":                    macB + macA + "0800 45",
		"another's IPv6":              macB + macA + ipv6Of(six3, six3, "11", ""),
		"another's link-local":        macB + macA + ipv6Of("fe8000000000000000010afffe590003", six3, "11", ""),
		"cut IPv6":                    macB + macA + "86dd 60",
		"ARP reply":                   macB + macA + arpOf("2", macA, "0a590004", "0a590003"),
		"ARP for another":             all + macA + arpOf("1", macA, "0a590004", "0a590003"),
		"ARP of another":              all + macA + arpOf("1", macB, "0a590002", "0a590003"),
		"cut ARP":                     all + macA + "0806 0001",
		"ARP of another kind":         all + macA + "0806 0006 0800 0604 0001 0000000000000000000000000000000000000000",
		"neighbour advertisement":     macB + macA + ipv6Of(six2, six3, "3a", "88000000 20000000"+six2),
		"router advertisement":        "333300000001" + macA + ipv6Of(local2, "ff020000000000000000000000000001", "3a", advertised),
		"the same behind options":     "333300000001" + macA + ipv6Of(local2, "ff020000000000000000000000000001", "00", "3c00010400000000 3a00010400000000"+advertised),
		"the same in a fragment":      "333300000001" + macA + ipv6Of(local2, "ff020000000000000000000000000001", "2c", "3a00000100000001"+advertised),
		"redirect":                    macB + macA + ipv6Of(local2, six3, "3a", "89000000 00000000"),
		"headers without end":         macB + macA + ipv6Of(six2, six3, "00", strings.Repeat("0000010400000000", 9)),
		"headers that are cut":        macB + macA + ipv6Of(six2, six3, "00", "3aff0104"),
		"VLAN":                        macB + macA + "8100 0001" + ipv4Of("0a590002", "0a590003"),
		"LLDP":                        macB + macA + "88cc" + strings.Repeat("00", 46),
	} {
		before := w.Counters().Spoofed
		a.sends(unhex(t, noOffload+frame))
		for end := time.Now().Add(10 * time.Second); w.Counters().Spoofed == before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not counted", name)
			}
		}
		if got := b.gets(0); got != nil {
			t.Errorf("%s: came as %x", name, got)
		}
		if got := a.gets(0); got != nil {
			t.Errorf("%s: answered with %x", name, got)
		}
	}
}

func TestSwitchAnswers(t *testing.T) {
	w := NewSwitch()
	a, b := join(t, w, 2), join(t, w, 3)
	solicit := func(src, target string) string {
		return "3333ff000003" + macA + ipv6Of(src, "ff0200000000000000000001ff000003", "3a", "87000000 00000000"+target+"0101"+macA)
	}
	advertise := func(mac, target, flags, sum string) string {
		return macA + mac + ipv6Of(target, six2, "3a", "8800"+sum+flags+"000000"+target+"0201"+mac)
	}
	for name, test := range map[string]struct{ question, answer string }{
		"a member":            {all + macA + arpOf("1", macA, "0a590002", "0a590003"), macA + macB + "0806 0001080006040002" + macB + "0a590003" + macA + "0a590002"},
		"the gateway":         {all + macA + arpOf("1", macA, "0a590002", "0a590001"), macA + macGateway + "0806 0001080006040002" + macGateway + "0a590001" + macA + "0a590002"},
		"nobody":              {all + macA + arpOf("1", macA, "0a590002", "0a590009"), ""},
		"itself":              {all + macA + arpOf("1", macA, "0a590002", "0a590002"), ""},
		"a member, IPv6":      {solicit(six2, six3), advertise(macB, six3, "60", "123c")},
		"the gateway, IPv6":   {solicit(six2, six1), advertise(macGateway, six1, "e0", "909a")},
		"nobody, IPv6":        {solicit(six2, "fd000000000000000000000000000009"), ""},
		"whether it is taken": {solicit("00000000000000000000000000000000", six2), ""},
		"for a router":        {"333300000002" + macA + ipv6Of(local2, "ff020000000000000000000000000002", "3a", "85000000 00000000"), ""},
	} {
		a.sends(unhex(t, noOffload+test.question))
		limit := 10 * time.Second
		if test.answer == "" {
			limit = 50 * time.Millisecond
		}
		got := a.gets(limit)
		if want := unhex(t, noOffload+test.answer); test.answer == "" && got != nil || test.answer != "" && !bytes.Equal(got, want) {
			t.Errorf("%s:\n%x\nwant:\n%x", name, got, want)
		}
		if got := b.gets(0); got != nil {
			t.Errorf("%s: asked of others: %x", name, got)
		}
	}
	if n := w.Counters(); n != (SwitchCounters{}) {
		t.Errorf("%+v", n)
	}
}

// A member that reads nothing loses what it is sent; the others do not notice.
func TestSwitchSlow(t *testing.T) {
	w := NewSwitch()
	a, _, c := join(t, w, 2), join(t, w, 3), join(t, w, 4)
	for range 2000 {
		for {
			_, err := unix.Write(a.fd, unhex(t, noOffload+macB+macA+ipv4Of("0a590002", "0a590003")))
			if err == nil {
				break
			}
			time.Sleep(time.Millisecond) // the switch has not read that far
		}
	}
	a.sends(unhex(t, noOffload+macC+macA+ipv4Of("0a590002", "0a590004")))
	if c.gets(10*time.Second) == nil {
		t.Error("nothing came")
	}
	if w.Counters().Lost == 0 {
		t.Error("nothing was lost")
	}
}

func TestSwitchJoin(t *testing.T) {
	w := NewSwitch()
	a := join(t, w, 2, "a", "Shared.")
	join(t, w, 3, "b", "shared")
	if _, err := w.join(memberConfig(2)); err != errTaken {
		t.Errorf("an address twice: %v", err)
	}
	if _, err := w.join(Config{}); err == nil {
		t.Error("no member")
	}
	if _, err := w.join(Config{Member: &Member{}}); err == nil {
		t.Error("no address")
	}
	if list, _ := w.addressesOf("shared"); len(list) != 4 {
		t.Errorf("%v", list)
	}
	a.leave()
	if list, _ := w.addressesOf("shared"); len(list) != 2 {
		t.Errorf("%v", list)
	}
	if _, found := w.addressesOf("a"); found {
		t.Error("a name is left behind")
	}
	for i := range maxMembers {
		c := Config{IPv4: Family{Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 90, byte(i >> 8), byte(i)}), 16)}, Member: &Member{}}
		if _, err := w.join(c); err != nil {
			return
		}
	}
	t.Error("there is no end to members")
}

// TestMemberNames asks the resolver of a network.
func TestMemberNames(t *testing.T) {
	w := NewSwitch()
	c := memberConfig(2, "a", "Web")
	join(t, w, 3, "b", "web")
	for i := range 200 {
		join(t, w, byte(i+4), "many")
	}
	if _, err := w.join(c); err != nil {
		t.Fatal(err)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.destroy()
	s.peers = w
	for _, test := range []struct {
		name     string
		kind     dnsmessage.Type
		network  string
		resolves bool
		internal bool
		want     string // code, answers, of what
	}{
		{"a.", dnsmessage.TypeA, "udp", false, false, "RCodeSuccess 1 10.89.0.2"},
		{"A.", dnsmessage.TypeAAAA, "udp", false, false, "RCodeSuccess 1 fd00::2"},
		{"a.", dnsmessage.TypeMX, "udp", false, false, "RCodeSuccess 0"},
		{"wEB.", dnsmessage.TypeA, "udp", false, false, "RCodeSuccess 2"},
		{"many.", dnsmessage.TypeA, "udp", false, false, "RCodeSuccess 0 truncated"},
		{"many.", dnsmessage.TypeA, "tcp", false, false, "RCodeSuccess 200"},
		{"2.0.89.10.in-addr.arpa.", dnsmessage.TypePTR, "udp", false, false, "RCodeSuccess 1 a."},
		{"9.9.9.89.10.in-addr.arpa.", dnsmessage.TypePTR, "udp", false, false, "RCodeRefused 0"},
		{"254.0.89.10.in-addr.arpa.", dnsmessage.TypePTR, "udp", true, false, "RCodeNameError 0"},
		{strings.Repeat("0.", 16) + "3." + strings.Repeat("0.", 15) + "ip6.arpa.", dnsmessage.TypePTR, "udp", false, false, "RCodeRefused 0"},
		{"3." + strings.Repeat("0.", 29) + "d.f.ip6.arpa.", dnsmessage.TypePTR, "udp", false, false, "RCodeSuccess 1 b."},
		{"nobody.", dnsmessage.TypeA, "udp", false, false, "RCodeRefused 0"},
		{"nobody.", dnsmessage.TypeA, "udp", true, true, "RCodeNameError 0"},
	} {
		s.config.Member.Resolves, s.config.Member.Internal = test.resolves, test.internal
		q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(test.name), Type: test.kind, Class: dnsmessage.ClassINET}}}
		question, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		answer, err := s.answer(question, test.network)
		var m dnsmessage.Message
		if err != nil || m.Unpack(answer) != nil || m.ID != 7 {
			t.Errorf("%s: %v, %x", test.name, err, answer)
			continue
		}
		got := fmt.Sprint(m.RCode, " ", len(m.Answers))
		if len(m.Answers) == 1 {
			switch b := m.Answers[0].Body.(type) {
			case *dnsmessage.AResource:
				got += " " + netip.AddrFrom4(b.A).String()
			case *dnsmessage.AAAAResource:
				got += " " + netip.AddrFrom16(b.AAAA).String()
			case *dnsmessage.PTRResource:
				got += " " + b.PTR.String()
			}
		}
		if m.Truncated {
			got += " truncated"
		}
		if got != test.want {
			t.Errorf("%s %v: %s, want %s", test.name, test.kind, got, test.want)
		}
	}
}

// Members come and go; nothing of them stays.
func TestMemberStacksEnd(t *testing.T) {
	w := NewSwitch()
	before := 0
	for i := range 30 {
		p, err := w.join(memberConfig(2))
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(p.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.attach(newGateway(p)); err != nil {
			t.Fatal(err)
		}
		s.destroy()
		p.leave()
		if i == 10 {
			time.Sleep(100 * time.Millisecond)
			before = runtime.NumGoroutine()
		}
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// FuzzSwitch: whatever one member sends, what another gets is from that one's address.
func FuzzSwitch(f *testing.F) {
	for _, s := range []string{
		macB + macA + ipv4Of("0a590002", "0a590003"), all + macA + arpOf("1", macA, "0a590002", "0a590003"),
		macB + macA + ipv6Of(six2, six3, "00", "3c00010400000000 3a000104000000008000000000010001"),
		macB + macA + ipv6Of(six2, six3, "2c", "3a000000000000018000000000010001"), macB + macA + ipv6Of(six2, six3, "33", "3a010000000000000000000080000000"),
	} {
		f.Add(unhex(f, s))
	}
	w := NewSwitch()
	a, err := w.join(memberConfig(2))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		a.pass(make([]byte, vnetHeader), frame)
		if a.judge(w.members.Load(), frame) != forward {
			return
		}
		if hex.EncodeToString(frame[6:12]) != macA {
			t.Fatalf("from another's hardware address: %x", frame)
		}
		switch kind := binary.BigEndian.Uint16(frame[12:]); kind {
		case unix.ETH_P_IP:
			if hex.EncodeToString(frame[26:30]) != "0a590002" {
				t.Fatalf("from another's address: %x", frame)
			}
		case unix.ETH_P_IPV6:
			if src := hex.EncodeToString(frame[22:38]); src != six2 && src != local2 {
				t.Fatalf("from another's address: %x", frame)
			}
			if next := frame[20]; next == icmpV6 && frame[54] >= 133 && frame[54] <= 137 {
				t.Fatalf("a message about neighbours: %x", frame)
			}
		default:
			t.Fatalf("of another kind: %x", frame)
		}
	})
}
