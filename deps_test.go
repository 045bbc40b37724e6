package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows are the imports among our own packages; every other is refused.
func arrows() map[string][]string {
	return map[string][]string{
		"sbx":                 {"sbx/sandbox/cli", "sbx/sandbox", "sbx/sandbox/image", "sbx/userns", "sbx/slirp", "sbx/fuse-overlay"}, // the table of stages
		"sbx/sandbox/cli":     {"sbx/sandbox", "sbx/sandbox/image", "sbx/sandbox/network", "sbx/sandbox/policy", "sbx/slirp/egress"},
		"sbx/sandbox":         {"sbx/userns", "sbx/slirp", "sbx/slirp/egress", "sbx/fuse-overlay", "sbx/sandbox/policy"},
		"sbx/sandbox/image":   {"sbx/userns"},
		"sbx/sandbox/network": nil,
		"sbx/sandbox/policy":  nil,
		"sbx/userns":          nil,
		"sbx/slirp":           {"sbx/slirp/egress"},
		"sbx/slirp/egress":    nil, // words and addresses in, a verdict out; flags are read with it
		"sbx/fuse-overlay":    nil,
	}
}

// doors are the modules from outside, and the one package of ours that imports each.
// The system call numbers and the types of image-spec are words, not libraries: anyone may say them.
func doors() map[string]string {
	return map[string]string{
		"github.com/spf13/pflag":                              "sbx/sandbox/cli",
		"github.com/vbauerster/mpb/v8":                        "sbx/sandbox/image",
		"go.podman.io/storage":                                "sbx/sandbox/image",
		"github.com/vbatts/tar-split":                         "sbx/sandbox/image",
		"github.com/sirupsen/logrus":                          "sbx/sandbox/image", // storage writes to it; image makes it silent
		"github.com/google/go-containerregistry":              "sbx/sandbox/image",
		"github.com/docker/docker-credential-helpers":         "sbx/sandbox/image",
		"github.com/BurntSushi/toml":                          "sbx/sandbox/image",
		"github.com/klauspost/compress":                       "sbx/sandbox/image",
		"github.com/rootless-containers/rootlesskit/v3":       "sbx/userns",
		"github.com/containernetworking/plugins":              "sbx/sandbox",
		"github.com/containernetworking/plugins/plugins/ipam": "sbx/sandbox/network", // addresses: host-local's allocator and its files
		"github.com/containernetworking/cni":                  "sbx/sandbox/network", // the type of a subnet
		"github.com/cyphar/filepath-securejoin":               "sbx/sandbox",
		"github.com/moby/profiles/seccomp":                    "sbx/sandbox/policy",
		"github.com/hanwen/go-fuse/v2":                        "sbx/fuse-overlay",
		"gvisor.dev/gvisor":                                   "sbx/slirp",
		"github.com/vishvananda/netlink":                      "sbx/slirp",
		"golang.org/x/net":                                    "sbx/slirp", // DNS messages
		"golang.org/x/sys":                                    "",
		"golang.org/x/term":                                   "", // a few ioctls
		"github.com/opencontainers/image-spec":                "",
		"github.com/opencontainers/runtime-spec":              "",
		"github.com/opencontainers/go-digest":                 "",
	}
}

// ban keeps what a package pulls in, however far away, out of it.
type ban struct {
	pkg    string // prefix of the import path
	from   string // our package that must not reach it; "" is all of sbx
	direct bool   // only our own import of it counts
	reason string
}

func bans() []ban {
	return []ban{
		{pkg: "github.com/google/gopacket", reason: "3.7 to 5.3 ms of initialisation at every process start"},
		{pkg: "github.com/gopacket/gopacket", reason: "3.7 to 5.3 ms of initialisation at every process start"},
		{pkg: "github.com/containers/gvisor-tap-vsock", reason: "brings gopacket; no filter for outgoing connections"},
		{pkg: "go.podman.io/image", reason: "43 ms of initialisation, 23 MB; image reads registries by go-containerregistry"},
		{pkg: "github.com/containers/image", reason: "43 ms of initialisation, 23 MB; image reads registries by go-containerregistry"},
		{pkg: "github.com/containers/storage", reason: "frozen; go.podman.io/storage is its present name"},
		{pkg: "github.com/spf13/cobra", reason: "registers itself at start; cli is a table of commands over pflag"},
		{pkg: "github.com/spf13/viper", reason: "configuration is a file of a few keys"},
		{pkg: "log", direct: true, reason: "errors are returned; sbx speaks by cli's messages only"},
		{pkg: "github.com/seccomp/libseccomp-golang", reason: "needs cgo; policy compiles BPF itself"},
		{pkg: "plugin", reason: "needs cgo"},
		{pkg: "C", reason: "sbx is pure Go, one static file"},
		{pkg: "io/ioutil", direct: true, reason: "deprecated; os and io have it"},
		{pkg: "net/http", from: "sbx/userns", reason: "0.3 ms at every start of a stage, for nothing"},
		{pkg: "net/http", from: "sbx/sandbox", reason: "a sandbox needs no image, so no registry; cli joins the two"},
		{pkg: "go.podman.io/storage", from: "sbx/sandbox", reason: "a sandbox needs no image; cli joins the two"},
		{pkg: "net/http", from: "sbx/sandbox/policy", reason: "policy is pure: names in, a filter out"},
		{pkg: "os/exec", from: "sbx/sandbox/policy", reason: "policy is pure: names in, a filter out"},
		{pkg: "net/http", from: "sbx/slirp/egress", reason: "egress decides, and touches nothing; each run reads its rules with it"},
	}
}

// listed is what `go list -deps -json` says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
	Module     *struct{ Path string }
}

func (p listed) ours() bool { return p.ImportPath == "sbx" || strings.HasPrefix(p.ImportPath, "sbx/") }

func listDeps(t *testing.T, file string) map[string]listed {
	t.Helper()
	f, err := os.Open(testFile(file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packages := map[string]listed{}
	for dec := json.NewDecoder(f); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

// TestDepsHot keeps the half of sbx that runs present images (main_hot.go) light: what it
// does not need was moved out of it because each process of a run paid for it.
func TestDepsHot(t *testing.T) {
	packages := listDeps(t, "deps_hot.json")
	for _, heavy := range []string{
		"net/http", "crypto/tls", "regexp", "text/template", "archive/tar", "gvisor.dev/gvisor/pkg/tcpip/stack", "github.com/hanwen/go-fuse/v2/fuse", "golang.org/x/net/dns/dnsmessage",
		"go.podman.io/storage", "github.com/opencontainers/go-digest", "github.com/klauspost/compress/zstd",
		"github.com/BurntSushi/toml", "github.com/vbauerster/mpb/v8", "github.com/json-iterator/go",
	} {
		if _, found := packages[heavy]; found {
			t.Errorf("the hot half of sbx is linked with %s", heavy)
		}
	}
	if _, found := packages["sbx/sandbox"]; !found {
		t.Error("the hot half of sbx runs no sandboxes")
	}
}

// doorOf is that of a module, or of a part of it that has one of its own.
func doorOf(pkg, module string) (door string, known bool) {
	door, known = doors()[module]
	for part, own := range doors() {
		if strings.HasPrefix(part, module+"/") && strings.HasPrefix(pkg, part+"/") {
			return own, true
		}
	}
	return door, known
}

// TestDeps holds the imports to the picture in design and HACKING.md.
func TestDeps(t *testing.T) {
	packages := listDeps(t, "deps.json")
	for _, p := range packages {
		if !p.ours() {
			continue
		}
		allowed, known := arrows()[p.ImportPath]
		if !known {
			t.Errorf("%s: a package that arrows() does not know", p.ImportPath)
		}
		for _, imp := range p.Imports {
			q := packages[imp]
			switch {
			case q.ours() && !slices.Contains(allowed, imp):
				t.Errorf("%s imports %s: only %q may be imported there", p.ImportPath, imp, allowed)
			case !q.ours() && !q.Standard && q.Module != nil:
				if door, known := doorOf(imp, q.Module.Path); !known {
					t.Errorf("%s imports %s: a module that doors() does not know", p.ImportPath, imp)
				} else if door != "" && door != p.ImportPath {
					t.Errorf("%s imports %s: that comes in through %s", p.ImportPath, imp, door)
				}
			}
		}
	}
	for _, b := range bans() {
		for _, p := range packages {
			if !p.ours() || b.from != "" && p.ImportPath != b.from {
				continue
			}
			if path := reach(packages, p.ImportPath, b); path != nil {
				t.Errorf("%s: %s", strings.Join(path, " -> "), b.reason)
			}
		}
	}
}

// reach is the shortest way from a package to a banned one, or nil.
func reach(packages map[string]listed, from string, b ban) []string {
	queue, seen := [][]string{{from}}, map[string]bool{from: true}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		for _, imp := range packages[path[len(path)-1]].Imports {
			next := append(slices.Clone(path), imp)
			if imp == b.pkg || strings.HasPrefix(imp, b.pkg+"/") && b.pkg != "log" {
				return next
			}
			// Another package of ours answers for what it imports.
			if !seen[imp] && !b.direct && (!packages[imp].ours() || b.from != "") {
				seen[imp] = true
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// TestNoEffects: nothing happens because a package is merely linked in.
func TestNoEffects(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != ".":
			return filepath.SkipDir
		case !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, "_test.go"):
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			// embed and unsafe are imported for a directive, and do nothing.
			if imp.Name != nil && imp.Name.Name == "_" && path != "embed" && path != "unsafe" {
				t.Errorf("%s: blank import of %s: name what it does, and call it", fset.Position(imp.Pos()), path)
			}
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init: every stage would pay for it; make it when asked", fset.Position(fn.Pos()))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
