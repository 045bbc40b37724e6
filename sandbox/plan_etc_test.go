//go:build !hot

package sandbox

import (
	"slices"
	"testing"
)

// text is what the plan puts into the file dst.
func text(t *testing.T, spec Spec, host Host, dst string) string {
	t.Helper()
	spec.Root.Layers, spec.Args = []string{"/l"}, []string{"true"}
	p, err := NewPlan(spec, host)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(p.Steps, func(s Step) bool { return s.Dst == dst })
	if i < 0 {
		t.Fatalf("no step for %s", dst)
	}
	return p.Steps[i].Text
}

func TestResolvConf(t *testing.T) {
	host := testHost()
	host.Resolv = "# by hand\nnameserver dns.example.test\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver\noptions edns0\n"
	for _, test := range []struct {
		spec Spec
		want string
	}{
		{Spec{Network: "host"}, "nameserver 192.0.2.53\nnameserver fe80::1%eth0\noptions edns0\n"},
		{Spec{Network: "host", DNS: []string{"192.0.2.1"}}, "nameserver 192.0.2.1\noptions edns0\n"},
		{Spec{Network: "none"}, ""},
		{Spec{}, "nameserver 10.0.2.3\noptions edns0\n"},
	} {
		if got := text(t, test.spec, host, "/etc/resolv.conf"); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestHosts(t *testing.T) {
	const local = "127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain ip6-localhost ip6-loopback\n"
	add := []HostEntry{{"db", "192.0.2.7"}}
	for _, test := range []struct {
		spec Spec
		want string
	}{
		{Spec{Hostname: "box"}, local + "10.0.2.100\tbox\n"},
		{Spec{Hostname: "box", Network: "none"}, local + "127.0.0.1\tbox\n"},
		{Spec{Hostname: "box", AddHosts: add}, local + "192.0.2.7\tdb\n10.0.2.100\tbox\n"},
		{Spec{Hostname: "box", AddHosts: add, HostsFile: "f", HostsText: "192.0.2.1 db"}, local + "192.0.2.7\tdb\n10.0.2.100\tbox\n192.0.2.1 db"},
		{Spec{Hostname: "box", AddHosts: add, HostsFile: "image"}, local + "192.0.2.7\tdb\n10.0.2.100\tbox\n"},
	} {
		if got := text(t, test.spec, testHost(), "/etc/hosts"); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
