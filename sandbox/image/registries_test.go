//go:build !hot

package image

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeRegistries makes a registries.conf and drop-ins of it, in order, and reads them.
func writeRegistries(t *testing.T, main string, dropIns ...string) (*Registries, error) {
	t.Helper()
	dir := t.TempDir()
	paths := registriesPaths{main: []string{filepath.Join(dir, "none"), filepath.Join(dir, "registries.conf")}, dropIns: []string{dir + "/d", dir + "/nonesuch"}}
	if main != "" {
		writeFile(t, paths.main[1], main)
	}
	for i, text := range dropIns {
		writeFile(t, filepath.Join(dir, "d", string(rune('a'+i))+".conf"), text)
	}
	writeFile(t, filepath.Join(dir, "d", "ignored.txt"), "no [ toml")
	return loadRegistries(paths)
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEndpoints(t *testing.T) {
	r, err := writeRegistries(t, `
[[registry]]
prefix = "example.com/foo"
location = "internal.example.net/bar"
insecure = true
[[registry.mirror]]
location = "mirror0.local/mirror-for-foo"
[[registry.mirror]]
location = "mirror1.local:5000/foo"
insecure = true
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "mirror2.local/foo"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "example.com/foo/private"
blocked = true

[[registry]]
prefix = "*.wild.org"
[[registry.mirror]]
location = "mirror.wild/all"

[[registry]]
prefix = "one.wild.org"
location = "one.example"

[[registry]]
prefix = "*.moved.org"
location = "new.org/old"

[[registry]]
location = "registry.com"
mirror-by-digest-only = true
[[registry.mirror]]
location = "mirror.registry.com"
`)
	if err != nil {
		t.Fatal(err)
	}
	pinned := "@sha256:" + strings.Repeat("a", 64)
	for ref, want := range map[string]string{
		"example.com/foo/x:1":         "mirror0.local/mirror-for-foo/x:1 mirror2.local/foo/x:1 internal.example.net/bar/x:1!",
		"example.com/foo/x" + pinned:  "mirror0.local/mirror-for-foo/x" + pinned + " mirror1.local:5000/foo/x" + pinned + "! internal.example.net/bar/x" + pinned + "!",
		"example.com/foo:2":           "mirror0.local/mirror-for-foo:2 mirror2.local/foo:2 internal.example.net/bar:2!",
		"example.com/foobar:1":        "example.com/foobar:1",
		"example.com:5000/foo:1":      "example.com:5000/foo:1",
		"example.com/foo/private:1":   "blocked",
		"example.com/foo/private/y:1": "blocked",
		"a.b.wild.org/x:1":            "mirror.wild/all/x:1 a.b.wild.org/x:1",
		"one.wild.org/x:1":            "one.example/x:1",
		"wild.org/x:1":                "wild.org/x:1",
		"a.moved.org/x/y:1":           "new.org/old/x/y:1",
		"registry.com/x:1":            "registry.com/x:1",
		"registry.com/x" + pinned:     "mirror.registry.com/x" + pinned + " registry.com/x" + pinned,
		"docker.io/library/busybox:1": "docker.io/library/busybox:1",
	} {
		n, err := ParseName(ref)
		if err != nil {
			t.Fatal(err)
		}
		list, err := r.endpoints(n)
		var got []string
		for _, e := range list {
			s := e.name.String()
			if e.insecure {
				s += "!"
			}
			got = append(got, s)
		}
		if err != nil {
			got = []string{"blocked"}
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s:\n got %s\nwant %s", ref, g, want)
		}
	}
}

func TestResolve(t *testing.T) {
	const twoHosts = `unqualified-search-registries = ["a.example", "docker.io"]
[aliases]
alpine = "quay.io/mirror/alpine"
"ns/tool" = "localhost:5000/tool"
`
	for _, test := range []struct {
		name, conf string
		dropIns    []string
		ref        string
		want       string // names, or an error if it starts with !
		note       bool
	}{
		{"no file", "", nil, "busybox", "docker.io/library/busybox:latest", true},
		{"no opinion", "# nothing\n", nil, "ada/x:1", "docker.io/ada/x:1", true},
		{"complete", "", nil, "quay.io/x", "quay.io/x:latest", false},
		{"search", twoHosts, nil, "busybox:1", "a.example/busybox:1 docker.io/library/busybox:1", false},
		{"alias", twoHosts, nil, "alpine:3", "quay.io/mirror/alpine:3", false},
		{"alias by path", twoHosts, nil, "ns/tool", "localhost:5000/tool:latest", false},
		{"alias, digest", twoHosts, nil, "alpine@sha256:" + strings.Repeat("a", 64), "quay.io/mirror/alpine@sha256:" + strings.Repeat("a", 64), false},
		{"alias erased", twoHosts, []string{`aliases = { alpine = "" }`}, "alpine", "a.example/alpine:latest docker.io/library/alpine:latest", false},
		{"last file wins", twoHosts, []string{`aliases = { alpine = "x.org/a" }`, `aliases = { alpine = "x.org/b" }`}, "alpine", "x.org/b:latest", false},
		{"search replaced", twoHosts, []string{`unqualified-search-registries = ["b.example"]`}, "x", "b.example/x:latest", false},
		{"empty list", `unqualified-search-registries = []`, nil, "x", "!empty", false},
		{"enforcing", twoHosts + "", []string{`short-name-mode = "enforcing"`}, "x", "!enforcing", false},
		{"id", "", nil, strings.Repeat("a", 64), "!image id", false},
	} {
		r, err := writeRegistries(t, test.conf, test.dropIns...)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		res, err := r.Resolve(test.ref)
		if want, ok := strings.CutPrefix(test.want, "!"); ok {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, %v; want error %q", test.name, res, err, want)
			}
			continue
		}
		var got []string
		for _, n := range res.Names {
			got = append(got, n.String())
		}
		if err != nil || strings.Join(got, " ") != test.want || (res.Note != "") != test.note {
			t.Errorf("%s: %v, note %q, %v; want %s", test.name, got, res.Note, err, test.want)
		}
	}
}

func TestCandidates(t *testing.T) {
	r, err := writeRegistries(t, `unqualified-search-registries = []`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Candidates("x"); err != nil || !slices.Equal(got, []string{"localhost/x:latest"}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRegistriesRefuses(t *testing.T) {
	for _, text := range []string{
		"unqualified-search-registries = 5",
		`unqualified-search-registries = ["https://x"]`,
		"[registries.search]\nregistries = ['docker.io']",
		`short-name-mode = "sometimes"`,
		`aliases = { "quay.io/x" = "quay.io/y" }`,
		`aliases = { "x:1" = "quay.io/y" }`,
		`aliases = { x = "y" }`,
		`aliases = { x = "quay.io/y:1" }`,
		"[[registry]]\ninsecure = true",
		"[[registry]]\nprefix = \"*.a/b\"",
		"[[registry]]\nprefix = \"a.*.b\"",
		"[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\ninsecure = true",
		"[[registry]]\nlocation = \"a.b\"\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"never\"",
		"[[registry]]\nlocation = \"a.b\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"c.d\"\npull-from-mirror = \"all\"",
	} {
		if _, err := writeRegistries(t, text); err == nil || !strings.Contains(err.Error(), "registries.conf") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestRegistriesByEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.conf")
	writeFile(t, file, `unqualified-search-registries = ["x.example"]`)
	t.Setenv("CONTAINERS_REGISTRIES_CONF", file)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	r, err := LoadRegistries()
	if err != nil || !slices.Equal(r.search, []string{"x.example"}) {
		t.Errorf("%+v, %v", r, err)
	}
}
