//go:build !hot

package image

import (
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParseName(t *testing.T) {
	sha256 := "sha256:" + strings.Repeat("0a", 32)
	sha512 := "sha512:" + strings.Repeat("0a", 64)
	for ref, want := range map[string]string{
		"busybox":                              "docker.io/library/busybox:latest",
		"busybox:1.36":                         "docker.io/library/busybox:1.36",
		"ada/tool":                             "docker.io/ada/tool:latest",
		"docker.io/busybox":                    "docker.io/library/busybox:latest",
		"index.docker.io/busybox":              "docker.io/library/busybox:latest",
		"localhost/x":                          "localhost/x:latest",
		"localhost:5000/x/y:z":                 "localhost:5000/x/y:z",
		"localhost:5000":                       "docker.io/library/localhost:5000",
		"[::1]:5000/x":                         "[::1]:5000/x:latest",
		"[fe80::1]/x":                          "[fe80::1]/x:latest",
		"Host/x":                               "Host/x:latest",
		"quay.io/a/b/c/d@" + sha256:            "quay.io/a/b/c/d@" + sha256,
		"quay.io/a:tag@" + sha512:              "quay.io/a@" + sha512,
		"b-c.d/x---y__z:T_a-g.1":               "b-c.d/x---y__z:T_a-g.1",
		"127.0.0.1:80/x":                       "127.0.0.1:80/x:latest",
		"a/" + strings.Repeat("b", 243):        "docker.io/a/" + strings.Repeat("b", 243) + ":latest",
		"x:" + strings.Repeat("t", 128):        "docker.io/library/x:" + strings.Repeat("t", 128),
		"a.example.com/" + "0/1/2/3@" + sha256: "a.example.com/0/1/2/3@" + sha256,
	} {
		n, err := ParseName(ref)
		if err != nil || n.String() != want {
			t.Errorf("%s: %v, %v; want %s", ref, n, err, want)
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	for _, ref := range []string{
		"", " ", "/", ":", "@", "x:", "x@", "x/", "/x", "x//y", "../x", "x/../y", "./x", "x/.", "X", "x/Y",
		"x y", "x\ny", "x\x00", "x:a b", "x:.a", "x:-a", "x:" + strings.Repeat("t", 129),
		"_x", "x_", "x-", "-x", "x..y", "x___y", "x._y", "x-_y", "é",
		"a.b:/x", "a.b:0/x", "a.b:65536/x", "a.b:+1/x", "a.b:x/y", "a..b/x", "-a.b/x", "a.b-/x", ".a/x",
		"[::1/x", "[::1]5000/x", "[::1]:/x", "[1.2.3.4]/x", "[fe80::1%eth0]/x", "[x]/y",
		"https://quay.io/x", "http://x", "user@host/x",
		"x@sha256:" + strings.Repeat("a", 63), "x@sha256:" + strings.Repeat("A", 64), "x@sha256:../../etc",
		"x@md5:" + strings.Repeat("a", 32), "x@sha256:" + strings.Repeat("a", 64) + "@sha256:" + strings.Repeat("a", 64),
		strings.Repeat("a", 300), "a.b/" + strings.Repeat("a/", 200) + "a",
	} {
		if n, err := ParseName(ref); err == nil {
			t.Errorf("%q: accepted as %s", ref, n)
		} else if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 400 {
			t.Errorf("%q: bad message %q", ref, err)
		}
	}
}

func TestLocalName(t *testing.T) {
	for ref, want := range map[string]string{"x": "localhost/x:latest", "a/x:1": "localhost/a/x:1", "quay.io/x": "quay.io/x:latest"} {
		if n, err := LocalName(ref); err != nil || n.String() != want {
			t.Errorf("%s: %v, %v; want %s", ref, n, err, want)
		}
	}
}

func TestNewName(t *testing.T) {
	for ref, want := range map[string]string{"x": "localhost/x:latest", "docker:27": "localhost/docker:27", "abc": "localhost/abc:latest", "quay.io/oci:1": "quay.io/oci:1"} {
		if n, err := NewName(ref); err != nil || n.String() != want {
			t.Errorf("%s: %v, %v; want %s", ref, n, err, want)
		}
	}
	hex := strings.Repeat("0", 64)
	for _, ref := range []string{"x@sha256:" + hex, "docker.io/library/x:1@sha256:" + hex, hex, "docker-archive:x", "oci:x", "dir:x", "sif:x", "docker://x", "X"} {
		if n, err := NewName(ref); err == nil {
			t.Errorf("%s: accepted as %s", ref, n)
		}
	}
}

func TestParseSource(t *testing.T) {
	for arg, want := range map[string]Source{
		"busybox":                   {Transport: "docker", Ref: "busybox"},
		"docker:27":                 {Transport: "docker", Ref: "docker:27"},
		"docker://quay.io/x":        {Transport: "docker", Ref: "quay.io/x", Full: true},
		"localhost:5000/x":          {Transport: "docker", Ref: "localhost:5000/x"},
		"docker-archive:a/b.tar":    {Transport: "docker-archive", Path: "a/b.tar"},
		"docker-archive:/b.tar:x:1": {Transport: "docker-archive", Path: "/b.tar", Ref: "x:1"},
		"oci-archive:x.tar:latest":  {Transport: "oci-archive", Path: "x.tar", Ref: "latest"},
		"oci:dir":                   {Transport: "oci", Path: "dir"},
		"oci:/dir:quay.io/x:1":      {Transport: "oci", Path: "/dir", Ref: "quay.io/x:1"},
		"dir:/a:b":                  {Transport: "dir", Path: "/a:b"},
	} {
		if got, err := ParseSource(arg); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", arg, got, err, want)
		}
	}
	for _, arg := range []string{"", "oci:", "oci::x", "dir:", "docker-archive:", "docker-daemon:x:1", "containers-storage:x", "docker://", "docker:///x", "https://x/y"} {
		if got, err := ParseSource(arg); err == nil {
			t.Errorf("%q: accepted as %+v", arg, got)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("docker.io/library/busybox:1@sha256:" + strings.Repeat("a", 64))
	f.Fuzz(func(t *testing.T, ref string) {
		n, err := ParseName(ref)
		if err != nil {
			return
		}
		again, err := ParseName(n.String())
		if err != nil || again != n {
			t.Fatalf("%q: %v is read again as %v, %v", ref, n, again, err)
		}
	})
}

// A file claims the names of its images; it cannot claim that another's digest is its own.
func TestNamesOfFiles(t *testing.T) {
	own, other := digestAt(1), digestAt(2).String()
	for ref, want := range map[string]string{
		"quay.io/x:1": "quay.io/x:1", "x:1": "localhost/x:1", "latest": "",
		"quay.io/x@" + own.String(): "quay.io/x@" + own.String(), "quay.io/x@" + other: "", "quay.io/x:1@" + other: "",
	} {
		for _, key := range []string{v1.AnnotationRefName, containerdName} {
			got := strings.Join(layoutNames(v1.Descriptor{Digest: own, Annotations: map[string]string{key: ref}}), " ")
			if key == containerdName && ref == "x:1" {
				continue // a whole name, or none
			}
			if got != want {
				t.Errorf("%s=%s: %q, want %q", key, ref, got, want)
			}
		}
	}
	if names, err := repoTags([]string{"x:1", "x@" + other}); err != nil || strings.Join(names, " ") != "docker.io/library/x:1" {
		t.Errorf("%v, %v", names, err)
	}
}
