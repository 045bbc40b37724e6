package cli

import (
	"strings"
	"testing"

	"sbx/sandbox"
)

func TestParsePort(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"80", "invalid IP:random -> 80/tcp"},
		{":80", "invalid IP:random -> 80/tcp"},
		{"0:80", "invalid IP:random -> 80/tcp"},
		{"8080:80", "invalid IP:8080 -> 80/tcp"},
		{"8080:80/tcp", "invalid IP:8080 -> 80/tcp"},
		{"8080:80/UDP", "invalid IP:8080 -> 80/udp"},
		{"53/udp", "invalid IP:random -> 53/udp"},
		{"127.0.0.1:8080:80", "127.0.0.1:8080 -> 80/tcp"},
		{"127.0.0.1::80", "127.0.0.1:random -> 80/tcp"},
		{"127.0.0.1:0:80", "127.0.0.1:random -> 80/tcp"},
		{"0.0.0.0:8080:80/udp", "0.0.0.0:8080 -> 80/udp"},
		{"[::1]:8080:80", "[::1]:8080 -> 80/tcp"},
		{"[::]::80/udp", "[::]:random -> 80/udp"},
		{"[::ffff:127.0.0.1]:8080:80", "127.0.0.1:8080 -> 80/tcp"},
		{"[127.0.0.1]:8080:80", "127.0.0.1:8080 -> 80/tcp"},
		{"[fe80::1%eth0]:8080:80", "[fe80::1%eth0]:8080 -> 80/tcp"},
		{"8000-8010:8000-8010", "invalid IP:8000-8010 -> 8000-8010/tcp"},
		{"8000-8010", "invalid IP:random -> 8000-8010/tcp"},
		{"127.0.0.1::8000-8010/udp", "127.0.0.1:random -> 8000-8010/udp"},
		{"1-65535:1-65535", "invalid IP:1-65535 -> 1-65535/tcp"},
		{"8080:80-80", "invalid IP:8080 -> 80/tcp"},
	} {
		p, err := parsePort(test.in)
		if err != nil || p.String() != test.want {
			t.Errorf("%s: %v, %v, want %s", test.in, p, err, test.want)
		}
	}
	for in, reason := range map[string]string{
		"":                            "not a port",
		":":                           "not a port",
		"::":                          "not an address",
		"0":                           "not a port",
		"65536":                       "not a port",
		"-1":                          "not a port",
		"+80":                         "not a port",
		"8_0":                         "not a port",
		"0x50":                        "not a port",
		" 80":                         "not a port",
		"80 ":                         "not a port",
		"8O":                          "not a port",
		"٨٠":                          "not a port",
		"80\x00":                      "not a port",
		"80\n":                        "not a port",
		"8080:":                       "not a port",
		"8080:0":                      "not a port",
		"65536:80":                    "not a port",
		"80-":                         "not a port",
		"-80":                         "not a port",
		"80-79":                       "not a port",
		"80-81-82":                    "not a port",
		"0-5:0-5":                     "not a port",
		"80-65536:80-65536":           "not a port",
		"99999999999999999999:80":     "not a port",
		"8000-8010:80":                "11 ports of this host for 1",
		"8000:80-90":                  "1 ports of this host for 11",
		"8000-8001:80-90":             "2 ports of this host for 11",
		"80/":                         "neither tcp nor udp",
		"80/icmp":                     "neither tcp nor udp",
		"80/tcp/udp":                  "neither tcp nor udp",
		"80/tcp,udp":                  "neither tcp nor udp",
		"/tcp":                        "not a port",
		"8080:80/sctp":                "not sctp",
		"localhost:8080:80":           "not an address",
		"127.0.0.1:80":                "not [[ADDRESS",
		"127.0.0.256:8080:80":         "not an address",
		"127.0.0.01:8080:80":          "not an address",
		"10.0.0.0/8:8080:80":          "neither tcp nor udp",
		":8080:80":                    "not an address",
		"1:2:3:4":                     "not [[ADDRESS",
		"::1:8080:80":                 "not [[ADDRESS",
		"[::1]":                       "not [[ADDRESS",
		"[::1]:80":                    "not [[ADDRESS",
		"[::1]8080:80":                "not [[ADDRESS",
		"[::1:8080:80":                "not [[ADDRESS",
		"[]:8080:80":                  "not an address",
		"[::1]:1:2:3":                 "not [[ADDRESS",
		"[fe80::1]:8080:80":           "goes with an interface",
		"[ff02::1]:8080:80":           "not an address of one host",
		"224.0.0.1:8080:80/udp":       "not an address of one host",
		strings.Repeat("[", 1<<16):    "not [[ADDRESS",
		strings.Repeat("8", 1<<16):    "not a port",
		strings.Repeat(":", 1<<16):    "not [[ADDRESS",
		"127.0.0.1:8080:80\x1b[2J":    "not a port",
		"127.0.0.1\x1b[2J:8080:80":    "not an address",
		"127.0.0.1:8080:80/tcp\x1b[m": "neither tcp nor udp",
	} {
		if p, err := parsePort(in); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.40q: %v, %v, want %s", in, p, err, reason)
		} else if strings.ContainsAny(err.Error(), "\x00\n\x1b") {
			t.Errorf("%.40q: the message has it as it is: %q", in, err)
		}
	}
}

// FuzzParsePort: what is accepted is within the bounds that a plan counts with.
func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"80", "[::1]:8000-8010:8000-8010/udp", "127.0.0.1::80", "1-65535", "0:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePort(s)
		if err != nil {
			return
		}
		if p.Inside == 0 || p.Count < 1 || int(p.Inside)+p.Count > 1<<16 || p.Host != 0 && int(p.Host)+p.Count > 1<<16 || p.Protocol != "tcp" && p.Protocol != "udp" || p.Address.Is4In6() {
			t.Errorf("%q is %+v", s, p)
		}
	})
}

func TestImagePorts(t *testing.T) {
	got, err := imagePorts(map[string]struct{}{"80/tcp": {}, "53/udp": {}, "8000-8010": {}, "9/sctp": {}})
	want := []sandbox.Exposed{{Protocol: "udp", First: 53, Count: 1}, {Protocol: "tcp", First: 80, Count: 1}, {Protocol: "tcp", First: 8000, Count: 11}, {Protocol: "sctp", First: 9, Count: 1}}
	if err != nil || len(got) != len(want) {
		t.Fatal(got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
	for _, hostile := range []string{"", "/tcp", "80/", "80/icmp", "0", "70000/tcp", "80-70/tcp", "$PORT", "80/tcp\n"} {
		if got, err := imagePorts(map[string]struct{}{hostile: {}}); err == nil {
			t.Errorf("%q: %+v", hostile, got)
		}
	}
}
