package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func testCaller() caller {
	env := []string{"HOME=/home/ada", "SECRET_A=1", "SECRET_B=2=3", "EMPTY=", "http_proxy=http://p", "NO_PROXY=x", "=odd"}
	return caller{
		environ: func() []string { return env },
		lookup: func(name string) (string, bool) {
			for _, kv := range env {
				if n, v, _ := strings.Cut(kv, "="); n == name && n != "" {
					return v, true
				}
			}
			return "", false
		},
	}
}

func TestParseEnv(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []string
		ok   bool
	}{
		{"A=1", []string{"A=1"}, true},
		{"A=", []string{"A="}, true},
		{"A=b=c", []string{"A=b=c"}, true},
		{"A=*", []string{"A=*"}, true},
		{"A=two\nlines", []string{"A=two\nlines"}, true},
		{"SECRET_A", []string{"SECRET_A=1"}, true},
		{"EMPTY", []string{"EMPTY="}, true},
		{"UNSET", nil, true},
		{"SECRET_*", []string{"SECRET_A=1", "SECRET_B=2=3"}, true},
		{"NONE_*", nil, true},
		{"*", testCaller().environ()[:6], true},
		{"", nil, true},
		{"=x", nil, false},
		{"A=\x00", nil, false},
	} {
		got, err := parseEnv(test.in, testCaller())
		if (err == nil) != test.ok || !reflect.DeepEqual(got, test.want) {
			t.Errorf("-e %q: %q, %v; want %q", test.in, got, err, test.want)
		}
	}
}

func TestParseEnvFile(t *testing.T) {
	file := "# a comment\n\n  A=1\nB=\"quoted\" \nSECRET_A\nSECRET_*\r\nC=#not a comment\nD=\n"
	want := []string{"A=1", `B="quoted" `, "SECRET_A=1", "SECRET_A=1", "SECRET_B=2=3", "C=#not a comment", "D="}
	got, err := parseEnvFile([]byte(file), testCaller())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v\nwant %q", got, err, want)
	}
	for in, want := range map[string]string{
		"A=1\n=x":       "line 2: =x: no name",
		"A B=1":         "line 1",
		"A=1\nB=\x00\n": "line 2",
	} {
		if _, err := parseEnvFile([]byte(in), testCaller()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", in, err, want)
		}
	}
}

// The image's environment is weaker than all of these; among them the later wins.
func TestOrderOfEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("F=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRunArgs(testApp())
	r.caller = testCaller()
	for _, err := range []error{
		r.addSecret("id=s,env=SECRET_A,type=env,target=S"), r.addEnv("E=flag"), r.addEnvFile(file),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r.envHost = true
	r.finishEnv()
	want := append([]string{"http_proxy=http://p", "NO_PROXY=x"}, testCaller().environ()[:6]...)
	want = append(want, "F=file", "E=flag")
	if !reflect.DeepEqual(r.spec.Env, want) {
		t.Errorf("got %q\nwant %q", r.spec.Env, want)
	}
	if want := []string{"S=1"}; !reflect.DeepEqual(r.spec.SecretEnv, want) {
		t.Errorf("got %q\nwant %q", r.spec.SecretEnv, want)
	}
	r.envHost, r.httpProxy = false, new(bool)
	r.finishEnv()
	if want := []string{"F=file", "E=flag"}; !reflect.DeepEqual(r.spec.Env, want) {
		t.Errorf("got %q\nwant %q", r.spec.Env, want)
	}
}

// What proxies are handed on, and what is said of those that are not.
func TestProxies(t *testing.T) {
	for _, test := range []struct{ value, flags, want, warning string }{
		{"http://proxy.test:3128", "", "http://proxy.test:3128", ""},
		{"http://127.0.0.1:3128", "", "", "http_proxy is at 127.0.0.1:3128, this host's loopback"},
		{"http://ada:hunter2@localhost:3128/", "", "", "http_proxy is at localhost:3128, this host's loopback"},
		{"[::1]:3128", "--network pasta", "", "http_proxy is at [::1]:3128, this host's loopback"},
		{"socks5h://127.1.2.3", "--network backend", "", "http_proxy is at 127.1.2.3, this host's loopback"},
		{"localhost:3128", "--http-proxy=false", "", ""},
		{"localhost:3128", "--http-proxy", "localhost:3128", "--http-proxy: http_proxy is at localhost:3128, which is the sandbox itself inside"},
		{"localhost:3128", "--network host", "localhost:3128", ""},
		{"localhost:3128", "--network none", "localhost:3128", ""},
		{"http://localhost.test:3128", "", "http://localhost.test:3128", ""},
		{"http://proxy.test:3128/?127.0.0.1", "", "http://proxy.test:3128/?127.0.0.1", ""},
		{"http://proxy.test:3128", "--deny example.test", "", ""},
		{"http://proxy.test:3128", "--allow example.test", "", ""},
		{"http://proxy.test:3128", "--allow proxy.test --http-proxy", "http://proxy.test:3128", ""},
		{"http://proxy.test:3128", "--preset untrusted", "", ""},
		{"", "", "", ""},
	} {
		a, _, stderr := testAppIO()
		a.command = "run"
		r := newRunArgs(a)
		r.caller.lookup = func(name string) (string, bool) { return test.value, name == "http_proxy" }
		fs := newFlagSet("run")
		r.addTo(fs)
		err := parse(fs, strings.Fields(test.flags))
		if err == nil {
			err = r.finish([]string{"image"})
		}
		want := []string{"http_proxy=" + test.want}
		if test.want == "" && test.value != "" {
			want = nil
		}
		if err != nil || !reflect.DeepEqual(r.spec.Env, want) {
			t.Errorf("%+v: %q, %v", test, r.spec.Env, err)
		}
		if said := stderr.String(); !strings.Contains(said, test.warning) || (said == "") != (test.warning == "") || strings.Contains(said, "hunter2") {
			t.Errorf("%+v: %s", test, said)
		}
	}
}

func FuzzEnvFile(f *testing.F) {
	f.Add([]byte("A=1\n# x\nSECRET_*\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		env, err := parseEnvFile(data, testCaller())
		if err != nil {
			return
		}
		for _, kv := range env {
			if name, _, ok := strings.Cut(kv, "="); !ok || name == "" || strings.ContainsAny(name, " \t\n\x00") || strings.ContainsAny(kv, "\n\x00") {
				t.Errorf("%q gave %q", data, kv)
			}
		}
	})
}
