//go:build !hot

package image

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sbx/sandbox/image/registrytest"
)

func TestPrivacy(t *testing.T) {
	for addr, want := range map[string]privacy{
		"8.8.8.8": public, "2001:4860:4860::8888": public, "172.32.0.1": public, "100.128.0.1": public,
		"10.0.0.1": private, "172.16.0.1": private, "192.168.1.1": private, "100.64.0.1": private, "fd00::1": private, "fd00:ec2::254": private,
		"127.0.0.1": loopback, "127.9.9.9": loopback, "::1": loopback, "0.0.0.0": loopback, "::": loopback, "::ffff:127.0.0.1": loopback,
		"169.254.169.254": linkLocal, "::ffff:169.254.169.254": linkLocal, "fe80::1": linkLocal, "224.0.0.1": linkLocal, "255.255.255.255": linkLocal,
	} {
		if got := privacyOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// A request that no redirect led to, and that is not for the registry, asks for a token.
func TestRealm(t *testing.T) {
	for _, test := range []struct {
		registry string
		insecure bool
		realm    string
		ok       bool
	}{
		{"quay.io", false, "https://quay.io/v2/auth", true},
		{"index.docker.io", false, "https://auth.docker.io/token", true},
		{"quay.io", false, "http://quay.io/token", false},
		{"quay.io", false, "http://auth.quay.io/token", false},
		{"quay.io", false, "https://127.0.0.1/token", false},
		{"quay.io", false, "https://localhost/token", false},
		{"quay.io", false, "https://[::ffff:169.254.169.254]/latest", false},
		{"quay.io", false, "https://169.254.169.254/latest", false},
		{"quay.io", false, "https://10.1.2.3/", false},
		{"quay.io", false, "file:///etc/passwd", false},
		{"quay.io", false, "ftp://quay.io/", false},
		{"quay.io", false, "/token", false},
		{"127.0.0.1:5000", true, "http://127.0.0.1:5000/token", true},
		{"127.0.0.1:5000", true, "http://127.0.0.1:5001/token", false},
		{"127.0.0.1:5000", true, "https://127.0.0.1:5001/token", true},
		{"127.0.0.1:5000", false, "http://127.0.0.1:5000/token", false},
		{"10.0.0.1", false, "https://127.0.0.1/token", false},
	} {
		u, err := url.Parse(test.realm)
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Method: http.MethodGet, URL: u}
		if err := newTransport(test.registry, test.insecure, time.Minute, &tls.Config{}).check(r, r, 0); (err == nil) != test.ok {
			t.Errorf("%s at %s: %v", test.realm, test.registry, err)
		}
	}
}

// Whatever a registry does, its credentials stay with it.
func TestCredentialsStay(t *testing.T) {
	for name, test := range map[string]struct {
		rules func(evil string) []registrytest.Rule
		realm func(evil string) string
	}{
		"blob elsewhere": {rules: func(e string) []registrytest.Rule {
			return []registrytest.Rule{{Path: "/blobs/", Redirect: e + "/blob"}}
		}},
		"manifest elsewhere": {rules: func(e string) []registrytest.Rule {
			return []registrytest.Rule{{Path: "/manifests/", Redirect: e + "/m"}}
		}},
		"everything elsewhere": {rules: func(e string) []registrytest.Rule { return []registrytest.Rule{{Redirect: e + "/v2/"}} }},
		"token elsewhere": {rules: func(e string) []registrytest.Rule {
			return []registrytest.Rule{{Path: "/token", Redirect: e + "/token"}}
		}},
		"realm elsewhere": {realm: func(e string) string { return e + "/token" }},
		"realm is a file": {realm: func(string) string { return "file:///etc/passwd" }},
		"realm of clouds": {realm: func(string) string { return "http://169.254.169.254/latest/meta-data" }},
		"mapped address":  {realm: func(string) string { return "https://[::ffff:169.254.169.254]/" }},
	} {
		for _, kind := range []string{"basic", "bearer", "refresh"} {
			alone(t, "")
			r, evil := newRegistry(t), newRegistry(t)
			r.PutImage("x", "latest", testImage(registrytest.Options{}))
			realm := ""
			if test.realm != nil {
				realm = test.realm(evil.URL)
			}
			opts := options(r, "x")
			opts.Access.Creds = "ada:topsecret"
			switch kind {
			case "basic":
				if test.realm != nil || name == "token elsewhere" {
					continue
				}
				r.RequireBasic("ada", "topsecret")
			case "refresh":
				opts.Access.Creds = ""
				writeFile(t, runtimeAuthFile(), `{"auths":{"`+r.Host()+`":{"identitytoken":"topsecret"}}}`)
				fallthrough
			case "bearer":
				r.RequireToken("ada", "topsecret", time.Minute, realm)
			}
			if test.rules != nil {
				r.Add(test.rules(evil.URL)...)
			}
			if _, err := Pull(t.Context(), newFakeStore(t), opts); err == nil {
				t.Errorf("%s, %s: succeeded", name, kind)
			}
			for _, q := range evil.Requests() {
				if all := q.Query + q.Body; q.Header.Get("Authorization") != "" || strings.Contains(all, "topsecret") {
					t.Errorf("%s, %s: leaked %v %s", name, kind, q.Header, all)
				}
			}
			if test.realm != nil && len(evil.Requests()) > 0 {
				t.Errorf("%s, %s: went to the realm", name, kind)
			}
		}
	}
}

func TestRedirects(t *testing.T) {
	alone(t, "")
	r, cdn := newRegistry(t), newRegistry(t)
	img := testImage(registrytest.Options{})
	r.PutImage("x", "latest", img)
	cdn.PutImage("x", "latest", img)
	r.RequireToken("", "", time.Minute, "")
	r.Add(registrytest.Rule{Path: digestOf(img.Layers[0]), Redirect: cdn.URL + "/v2/x/blobs/" + digestOf(img.Layers[0])})
	if _, err := Pull(t.Context(), newFakeStore(t), options(r, "x")); err != nil {
		t.Errorf("to a store of blobs: %v", err)
	}
	for _, q := range cdn.Requests() {
		if q.Header.Get("Authorization") != "" || q.Header.Get("Referer") != "" {
			t.Errorf("sent there: %v", q.Header)
		}
	}
	for target, want := range map[string]string{
		r.URL + "/v2/x/blobs/" + digestOf(img.Layers[1]): "more than 5 redirects",
		"http://169.254.169.254/latest":                  "link-local",
		"http://[fe80::1]/":                              "link-local",
		"file:///etc/passwd":                             "refused",
		"gopher://127.0.0.1/":                            "refused",
	} {
		r.Reset()
		r.Add(registrytest.Rule{Path: digestOf(img.Layers[1]), Redirect: target})
		_, err := Pull(t.Context(), newFakeStore(t), options(r, "x"))
		wantError(t, err, want)
	}
}

// A name that looks harmless is judged by the address it leads to.
func TestDialForeign(t *testing.T) {
	alone(t, "")
	hidden := newRegistry(t)
	tr := newTransport("registry.example", false, time.Minute, &tls.Config{}) // public, as far as one can see
	for _, addr := range []string{hidden.Host(), strings.Replace(hidden.Host(), "127.0.0.1", "localhost", 1)} {
		_, err := tr.dialForeign(t.Context(), "tcp", addr)
		wantError(t, err, "loopback")
	}
	tr = newTransport("127.0.0.1:1", false, time.Minute, &tls.Config{})
	conn, err := tr.dialForeign(t.Context(), "tcp", hidden.Host())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestTokenExpiresMidPull(t *testing.T) {
	alone(t, "")
	r := newRegistry(t)
	img := testImage(registrytest.Options{})
	r.PutImage("x", "latest", img)
	r.RequireToken("ada", "pw", 50*time.Millisecond, "")
	r.Add(registrytest.Rule{Path: digestOf(img.Config), Times: 1, Delay: 80 * time.Millisecond}, registrytest.Rule{Path: digestOf(img.Layers[2]), Times: 1, Delay: 80 * time.Millisecond})
	opts := options(r, "x")
	opts.Access.Creds = "ada:pw"
	if _, err := Pull(t.Context(), newFakeStore(t), opts); err != nil {
		t.Error(err)
	}
	if n := r.Count("/token"); n < 2 {
		t.Errorf("%d tokens", n)
	}
	for _, q := range r.Requests() {
		if q.Path == "/token" && !strings.Contains(q.Query, "scope=repository%3Ax%3Apull") {
			t.Errorf("scope of the token: %s", q.Query)
		}
	}
}

func TestTLS(t *testing.T) {
	alone(t, "")
	r := registrytest.NewTLS()
	t.Cleanup(r.Close)
	r.PutImage("x", "latest", testImage(registrytest.Options{}))
	opts := options(r, "x")
	opts.Access = Access{}
	_, err := Pull(t.Context(), newFakeStore(t), opts)
	wantError(t, err, "certificate")
	if h, ok := err.(interface{ Hint() string }); ok && !strings.Contains(h.Hint(), "--cert-dir") {
		t.Errorf("hint %q", h.Hint())
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "ca.crt"), string(r.CertPEM()))
	opts.Access.CertDir = dir
	if _, err := Pull(t.Context(), newFakeStore(t), opts); err != nil {
		t.Errorf("--cert-dir: %v", err)
	}
	opts.Access.CertDir = ""
	writeFile(t, filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "containers/certs.d", r.Host(), "ca.crt"), string(r.CertPEM()))
	if _, err := Pull(t.Context(), newFakeStore(t), opts); err != nil {
		t.Errorf("certs.d: %v", err)
	}
	writeFile(t, filepath.Join(dir, "ca.crt"), "nonsense")
	opts.Access.CertDir = dir
	_, err = Pull(t.Context(), newFakeStore(t), opts)
	wantError(t, err, "no PEM certificate")
	no := false
	opts.Access = Access{TLSVerify: &no}
	if _, err := Pull(t.Context(), newFakeStore(t), opts); err != nil {
		t.Errorf("--tls-verify=false: %v", err)
	}
	r.Add(registrytest.Rule{Path: "/blobs/", Redirect: newRegistry(t).URL + "/"})
	_, err = Pull(t.Context(), newFakeStore(t), opts)
	wantError(t, err, "from https to http")
}

func TestPlainRegistryIsNotSpokenTo(t *testing.T) {
	r := newRegistry(t)
	alone(t, "[[registry]]\nlocation = \""+r.Host()+"\"\ninsecure = true\n")
	r.PutImage("x", "latest", testImage(registrytest.Options{}))
	r.RequireBasic("ada", "pw")
	yes := true
	opts := options(r, "x")
	opts.Access = Access{Creds: "ada:pw", TLSVerify: &yes}
	_, err := Pull(t.Context(), newFakeStore(t), opts)
	wantError(t, err, "registry "+r.Host())
	if n := len(r.Requests()); n > 0 {
		t.Errorf("%d requests over http", n)
	}
	opts.Access.TLSVerify = nil
	if _, err := Pull(t.Context(), newFakeStore(t), opts); err != nil {
		t.Errorf("insecure by registries.conf: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	alone(t, "")
	r := newRegistry(t)
	opts := options(r, "x")
	opts.Image = "127.0.0.1:1/x"
	start := time.Now()
	_, err := Pull(t.Context(), newFakeStore(t), opts)
	wantError(t, err, "registry 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused")
	if time.Since(start) > time.Second {
		t.Errorf("tried for %s", time.Since(start))
	}
}
