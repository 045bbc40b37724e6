package egress

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// Each rule, and how it is written again; "" is a rule that is refused.
func TestParse(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a" // 253 bytes
	for _, test := range []struct{ text, want string }{
		{"example.com", "example.com"},
		{"Example.COM.", "example.com"},
		{"*.Example.com", "*.example.com"},
		{"localhost", "localhost"}, {"all.", "all."}, {"all.:80", "all.:80"}, {"*.any", "*.any"}, {"all", ""}, {"none/tcp", ""}, {"allow", "allow"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"_http._tcp.example.com", "_http._tcp.example.com"},
		{"1.example", "1.example"},
		{"example.com:443", "example.com:443"},
		{"example.com:443/tcp", "example.com:443/tcp"},
		{"example.com:0443", "example.com:443"},
		{"*.example.com/udp", "*.example.com/udp"},
		{"example.com/icmp", "example.com/icmp"},
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1/32", "192.0.2.1"},
		{"192.0.2.1:53/udp", "192.0.2.1:53/udp"},
		{"192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.2.0/24:80/tcp", "192.0.2.0/24:80/tcp"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"192.0.2.0/24/udp", "192.0.2.0/24/udp"},
		{"2001:db8::1", "2001:db8::1"},
		{"2001:DB8:0::1", "2001:db8::1"},
		{"[2001:db8::1]:443", "[2001:db8::1]:443"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"[2001:db8::1]/tcp", "2001:db8::1/tcp"},
		{"2001:db8::/32", "2001:db8::/32"},
		{"[2001:db8::/32]:53/udp", "[2001:db8::/32]:53/udp"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"::/0", "::/0"},
		{"[2001:db8::1:443]", "[2001:db8::1:443]"}, {"[2001:db8::1:443]:80", "[2001:db8::1:443]:80"}, {"2001:db8::1:443/128", "[2001:db8::1:443]"},
		{"2001:db8::1:443", ""}, {"2001:db8::1:443/tcp", ""}, {"::1:80", ""}, {"fe80::1:2:3", ""},
		{"2001:db8::1:fff", "2001:db8::1:fff"}, {"2001:db8:0:0:0:0:1:443", "[2001:db8::1:443]"}, {"2001:db8::", "2001:db8::"}, {"::1:65536/112", ""}, {"::1:0", "::1:0"},
		{long, long},
		{long + "b.c", ""},
		{"", ""}, {".", ""}, {"*", ""}, {"*.", ""}, {"*.*", ""}, {"**.example.com", ""}, {"*example.com", ""}, {"a.*.example.com", ""},
		{"example.com:*", ""}, {"*.192.0.2.1", ""}, {"*.192.0.2.0/24", ""},
		{"example..com", ""}, {".example.com", ""}, {"example.com..", ""},
		{"exa mple.com", ""}, {"example.com ", ""}, {" example.com", ""}, {"exa\x00mple.com", ""}, {"example.com\n", ""}, {"exa\tmple.com", ""},
		{"bücher.example", ""}, {"example\u3002com", ""}, {"ｅxample.com", ""}, {"\u212Aelvin.example", ""},
		{"-example.com", ""}, {"example-.com", ""}, {"exa%6dple.com", ""}, {"user@example.com", ""}, {`exa\.mple.com`, ""},
		{strings.Repeat("a", 64) + ".example", ""},
		{"https://example.com", ""}, {"example.com/", ""}, {"example.com/path", ""}, {"example.com/sctp", ""}, {"example.com/TCP", ""},
		{"example.com/80", ""}, {"example.com/tcp/tcp", ""}, {"example.com:443/tcp:80", ""}, {"example.com:80:443", ""},
		{"example.com:", ""}, {"example.com:0", ""}, {"example.com:65536", ""}, {"example.com:-1", ""}, {"example.com:+1", ""}, {"example.com:http", ""},
		{"example.com:7/icmp", ""}, {":443", ""}, {"/tcp", ""},
		{"192.0.2.1/24", ""}, {"192.0.2.0/33", ""}, {"192.0.2", ""}, {"192.0.2.256", ""}, {"192.0.2.01", ""}, {"3221225985", ""}, {"0xc0000201", ""}, {"0xc0.0.2.1", ""},
		{"192.0.2.0/024", ""}, {"192.0.2.1-9", ""}, {"::ffff:192.0.2.0/120", ""},
		{"2001:db8::1/32", ""}, {"[2001:db8::1", ""}, {"[2001:db8::1]443", ""}, {"[2001:db8::1]:", ""}, {"[192.0.2.1]:80", ""}, {"[example.com]", ""}, {"fe80::1%eth0", ""}, {"[fe80::1%eth0]:80", ""}, {"2001:db8::g", ""},
	} {
		r, err := Parse(test.text)
		switch {
		case (err == nil) != (test.want != ""):
			t.Errorf("%q: %v, %v", test.text, r, err)
		case err == nil && r.String() != test.want:
			t.Errorf("%q: %s, want %s", test.text, r, test.want)
		case err != nil && strings.ContainsAny(err.Error(), "\n\x00"):
			t.Errorf("%q: the error is not one line: %s", test.text, err)
		}
	}
}

// What helps is said, and what is long is cut.
func TestHints(t *testing.T) {
	for text, want := range map[string]string{
		"*":                             "* alone is no name; 0.0.0.0/0 and ::/0",
		"all":                           "all alone is no name; --network none lets nothing out",
		"Any:80":                        "Any alone is no name; --network none lets nothing out",
		"*example.com":                  "not a name; *.example.com is every name below example.com",
		"*.":                            "not a name: nothing follows the dot; *.example.com is every name below",
		"*..":                           "not a name; ",
		"10.0.0.0/8:*":                  "is not a port; without a port the rule",
		"example.com:https":             "is not a port; port 443",
		"*:443":                         "* alone is no name; 0.0.0.0/0 and ::/0",
		"2001:db8::1:443":               "or one with a port?; [2001:db8::1]:443 for",
		"https://example.com/a/b":       "not NAME; the name in it may be: example.com",
		"http://example.com:80":         "not NAME; the name in it may be: example.com:80",
		strings.Repeat("a.", 150) + "a": "...\": not a name: it has more than 253 characters; ",
		strings.Repeat("a", 64) + ".b":  "not a name: between two dots it has more than 63 characters; ",
		"exa mple.com":                  "not a name: labels of; ",
	} {
		_, err := Parse(text)
		got, hint := fmt.Sprint(err), ""
		if e, ok := errors.AsType[*Error](err); ok {
			hint = e.Hint()
		}
		problem, helps, _ := strings.Cut(want, "; ")
		if !strings.Contains(got, problem) || !strings.Contains(hint, helps) || len(got) > 250 || strings.Contains(hint, "*..") {
			t.Errorf("%q: %s; %s", text, got, hint)
		}
	}
}

func TestJSON(t *testing.T) {
	want := `{"allow":["*.example.com:443/tcp","[2001:db8::/32]:53"],"deny":["192.0.2.1"]}`
	var p Policy
	if err := json.Unmarshal([]byte(want), &p); err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(&p); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"allow":["exa mple"]}`), &p); err == nil {
		t.Error("a malformed rule arrives")
	}
}

// What may be read as an allowed name by one program and as another by the next is none, or another.
func TestHostileNames(t *testing.T) {
	p := policy(t, "example.test *.sub.example.test", "no.sub.example.test")
	for _, name := range []string{
		"example.test.evil.test", "evil-example.test", "evilexample.test", "xexample.test", "example.test-evil", "www.example.test",
		"sub.example.test", "evilsub.example.test", "no.sub.example.test", "NO.sub.example.test.", ".sub.example.test", "*.sub.example.test",
		"evil.test\x00.example.test", "example.test\x00.evil.test", "example.test\x00", "\x00example.test",
		"example.test\n", "example.test\r\nHost: evil.test", "example.test ", " example.test", "\texample.test", "example.test\x7f",
		"example.test..", "example..test", ".example.test", "", ".", "test", "*",
		"example.test:443", "example.test/", "example.test#", "example.test?", "user@example.test", "example.test@evil.test", "evil.test#example.test",
		`evil\.example.test`, "evil.test%00.example.test", "%65xample.test", "example.test%2eevil.test",
		"ｅxample.test", "example。test", "examp\u00adle.test", "example.test\u200b", "éxample.test", "ex\u0430mple.test", "\xff.sub.example.test",
		"xn--xample-9uf.test", "-.sub.example.test", "a-.sub.example.test", strings.Repeat("a", 64) + ".sub.example.test",
		strings.Repeat("a.", 130) + "sub.example.test",
		"192.0.2.20", "3221225985", "0xc0000214", "0300.0.2.20", "192.0.2.20.", "1.0x7f", "[::1]", "::1", "2001:db8::20",
	} {
		if n, err := Name(name); err == nil {
			if v := p.Question(n); v.Allowed {
				t.Errorf("%q may be looked up, by %s", name, v.Rule)
			}
			if v := p.Named(Named, n, 443); v.Allowed {
				t.Errorf("%q may be connected to, by %s", name, v.Rule)
			}
		}
	}
	for _, name := range []string{"example.test", "EXAMPLE.test.", "a.sub.example.test", "a.b.sub.example.test", "a.no.sub.example.test", "_x._tcp.sub.example.test"} {
		n, err := Name(name)
		if err != nil || !p.Question(n).Allowed || !p.Named(Named, n, 443).Allowed {
			t.Errorf("%q is refused: %v", name, err)
		}
	}
}

func policy(t *testing.T, allow, deny string) (p Policy) {
	t.Helper()
	read := func(text string) (rules []Rule) {
		for word := range strings.FieldsSeq(text) {
			r, err := Parse(word)
			if err != nil {
				t.Fatal(err)
			}
			rules = append(rules, r)
		}
		return rules
	}
	return Policy{read(allow), read(deny)}
}

// Each flow, and the verdict: the rule, or - for none, after ! if it is denied, ? if the first bytes must
// have an allowed name, ~ if they must not have a denied one.
func TestFlow(t *testing.T) {
	for _, test := range []struct{ allow, deny, flow, names, want string }{
		{"", "", "tcp 192.0.2.20:80", "", "-"},
		{"", "", "udp 192.0.2.20:443", "a.test", "-"},
		{"a.test", "", "tcp 192.0.2.20:22", "", "!-"},
		{"a.test", "", "tcp 192.0.2.20:22", "b.test", "!-"},
		{"a.test", "", "tcp 192.0.2.20:22", "b.test a.test", "a.test"},
		{"a.test", "", "tcp 192.0.2.20:80", "a.test", "?a.test"},
		{"a.test", "", "tcp 192.0.2.20:443", "a.test", "?a.test"},
		{"a.test", "", "tcp 192.0.2.20:443", "", "!-"},
		{"a.test", "", "udp 192.0.2.20:53", "a.test", "a.test"},
		{"a.test", "", "udp 192.0.2.20:443", "a.test", "!-"}, // QUIC
		{"a.test:443", "", "udp 192.0.2.20:443", "a.test", "!-"},
		{"a.test/udp", "", "udp 192.0.2.20:443", "a.test", "a.test/udp"},
		{"a.test a.test:443/udp", "", "udp 192.0.2.20:443", "a.test", "a.test:443/udp"},
		{"a.test/udp", "", "tcp 192.0.2.20:443", "a.test", "!-"},
		{"a.test:443", "", "tcp 192.0.2.20:80", "a.test", "!-"},
		{"a.test:8443", "", "tcp 192.0.2.20:8443", "a.test", "a.test:8443"},
		{"a.test", "", "icmp 192.0.2.20:0", "a.test", "a.test"},
		{"a.test/icmp", "", "icmp 192.0.2.20:0", "a.test", "a.test/icmp"},
		{"a.test:80 a.test/tcp", "", "icmp 192.0.2.20:0", "a.test", "!-"},
		{"*.a.test", "", "tcp 192.0.2.20:22", "a.test", "!-"},
		{"*.a.test", "", "tcp 192.0.2.20:22", "b.a.test", "*.a.test"},
		{"192.0.2.0/24", "", "tcp 192.0.2.20:443", "", "192.0.2.0/24"},
		{"192.0.2.0/24", "", "udp 192.0.2.20:443", "a.test", "192.0.2.0/24"},
		{"192.0.2.0/24", "", "tcp 192.0.3.20:443", "", "!-"},
		{"192.0.2.0/24:443/tcp", "", "tcp 192.0.2.20:80", "", "!-"},
		{"192.0.2.20:53/udp", "", "udp 192.0.2.20:53", "", "192.0.2.20:53/udp"},
		{"192.0.2.20:53/udp", "", "tcp 192.0.2.20:53", "", "!-"},
		{"2001:db8::/32", "", "tcp [2001:db8::20]:443", "", "2001:db8::/32"},
		{"2001:db8::/32", "", "tcp 192.0.2.20:443", "", "!-"},
		{"0.0.0.0/0", "", "tcp [2001:db8::20]:1", "", "!-"},
		{"192.0.2.0/24", "192.0.2.20", "tcp 192.0.2.20:1", "", "!192.0.2.20"},
		{"192.0.2.0/24", "192.0.2.20:25", "tcp 192.0.2.20:1", "", "192.0.2.0/24"},
		{"a.test", "192.0.2.0/24", "tcp 192.0.2.20:443", "a.test", "!192.0.2.0/24"},
		{"", "192.0.2.0/24", "tcp 192.0.3.20:443", "", "-"},
		{"", "a.test", "tcp 192.0.2.20:443", "", "~-"},
		{"", "a.test", "tcp 192.0.2.20:22", "", "-"},
		{"", "a.test:80", "tcp 192.0.2.20:443", "", "-"},
		{"", "a.test:22", "tcp 192.0.2.20:22", "a.test", "!a.test:22"},
		{"", "a.test:22", "tcp 192.0.2.20:22", "b.test a.test", "!a.test:22"},
		{"", "a.test:22", "tcp 192.0.2.20:23", "a.test", "-"},
		{"192.0.2.0/24", "a.test", "tcp 192.0.2.20:80", "", "~192.0.2.0/24"},
		{"*.test", "a.test:443", "tcp 192.0.2.20:443", "a.test", "!-"},
		{"*.test", "a.test:443", "tcp 192.0.2.20:443", "a.test b.test", "?*.test"},
		{"a.test", "a.test:22", "tcp 192.0.2.20:22", "a.test", "!a.test:22"},
	} {
		p := policy(t, test.allow, test.deny)
		protocol, to, _ := strings.Cut(test.flow, " ")
		v := p.Flow(protocol, netip.MustParseAddrPort(to), strings.Fields(test.names))
		got := map[Peek]string{Whole: "", Named: "?", Unnamed: "~"}[v.Peek]
		if !v.Allowed {
			got += "!"
		}
		if v.Rule == "" {
			got += "-"
		}
		if got += v.Rule; got != test.want {
			t.Errorf("--allow %q --deny %q: %s of %q: %s, want %s", test.allow, test.deny, test.flow, test.names, got, test.want)
		}
	}
}

func TestNamed(t *testing.T) {
	p := policy(t, "*.a.test b.test:80", "c.a.test d.a.test:443")
	for _, test := range []struct {
		peek Peek
		name string
		port uint16
		want bool
	}{
		{Named, "x.a.test", 443, true}, {Named, "x.a.test", 80, true}, {Named, "a.test", 443, false}, {Named, "", 443, false},
		{Named, "b.test", 80, true}, {Named, "b.test", 443, false}, {Named, "c.a.test", 80, false}, {Named, "d.a.test", 443, false}, {Named, "d.a.test", 80, true},
		{Unnamed, "", 443, true}, {Unnamed, "elsewhere.test", 443, true}, {Unnamed, "c.a.test", 443, false}, {Unnamed, "d.a.test", 443, false}, {Unnamed, "d.a.test", 80, true},
	} {
		if v := p.Named(test.peek, test.name, test.port); v.Allowed != test.want {
			t.Errorf("%v: %+v", test, v)
		}
	}
}

func TestQuestion(t *testing.T) {
	for _, test := range []struct {
		allow, deny, name, rule string
		want                    bool
	}{
		{"", "", "a.test", "", true},
		{"a.test:443/tcp", "", "a.test", "a.test:443/tcp", true},
		{"192.0.2.0/24", "", "a.test", "", false},
		{"*.test", "a.test", "a.test", "a.test", false},
		{"*.test", "a.test:443", "a.test", "*.test", true},
		{"*.test", "*.a.test", "a.test", "*.test", true},
		{"*.test", "*.a.test", "b.a.test", "*.a.test", false},
		{"", "a.test", "b.test", "", true},
	} {
		p := policy(t, test.allow, test.deny)
		if v := p.Question(test.name); v.Allowed != test.want || v.Rule != test.rule {
			t.Errorf("%+v: %+v", test, v)
		}
	}
}

// FuzzRule: what Parse takes it writes again, and means the same by it.
func FuzzRule(f *testing.F) {
	for _, seed := range []string{"example.com", "*.example.com:443/tcp", "192.0.2.0/24:80", "[2001:db8::/32]:53/udp", "::1", "0x7f.1", "a\x00b", "[::ffff:1.2.3.4]:5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Errorf("%q is %+v, and again %+v, %v", s, r, again, err)
		}
		if (r.Name == "") == !r.Network.IsValid() {
			t.Errorf("%q is %+v", s, r)
		}
		if strings.ContainsFunc(r.Name, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			t.Errorf("%q has a name %q", s, r.Name)
		}
	})
}
