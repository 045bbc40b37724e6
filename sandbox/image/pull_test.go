//go:build !hot

package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"sbx/sandbox/image/registrytest"
)

func TestPull(t *testing.T) {
	alone(t, "")
	for _, o := range []registrytest.Options{
		{}, {Compression: "gzip"}, {Compression: "zstd"},
		{Docker: true}, {Docker: true, Compression: "gzip"},
	} {
		r, s := newRegistry(t), newFakeStore(t)
		img := testImage(o)
		r.PutImage("lib/x", "1", img)
		opts := options(r, "lib/x:1")
		var out bytes.Buffer
		opts.Out = &out
		got, err := Pull(t.Context(), s, opts)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if got.ID != img.ID().Encoded() || got.Digest != img.Digest() || s.names[opts.Image] != got.ID {
			t.Errorf("got %+v, names %v", got, s.names)
		}
		lines := strings.Split(out.String(), "\n")
		if lines[0] != "Trying to pull "+opts.Image+"..." || strings.Count(out.String(), "Copying blob ") != 3 ||
			!strings.Contains(out.String(), "Copying blob "+string(img.Digest().Encoded()[:0])) || !strings.HasPrefix(lines[len(lines)-2], "Writing manifest") {
			t.Errorf("output:\n%s", &out)
		}
		if left := leftBlobs(t, s.dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		before := r.Count("/blobs/")
		if _, err := Pull(t.Context(), s, opts); err != nil || s.puts != 1 {
			t.Errorf("again: %v, %d puts", err, s.puts)
		}
		if n := r.Count("/blobs/") - before; n != 0 { // the manifest says that all of it is here
			t.Errorf("pulled again: %d blobs", n)
		}
	}
}

func TestPullOnlyMissingLayers(t *testing.T) {
	alone(t, "")
	r, s := newRegistry(t), newFakeStore(t)
	base := registrytest.Noise(1, 1<<20)
	one := testImage(registrytest.Options{Layers: [][]byte{base, registrytest.Noise(2, 1000)}})
	two := testImage(registrytest.Options{Layers: [][]byte{base, registrytest.Noise(3, 1000), registrytest.Noise(3, 1000)}})
	r.PutImage("x", "one", one)
	r.PutImage("x", "two", two)
	for _, tag := range []string{"one", "two"} {
		if _, err := Pull(t.Context(), s, options(r, "x:"+tag)); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range slices.Concat(one.Layers, two.Layers) {
		if n := r.Count(digestOf(l)); n != 1 {
			t.Errorf("%s was asked for %d times", digestOf(l), n)
		}
	}
}

func TestPullPolicies(t *testing.T) {
	alone(t, "")
	r, s := newRegistry(t), newFakeStore(t)
	old := testImage(registrytest.Options{Layers: [][]byte{registrytest.Noise(1, 100)}})
	fresh := testImage(registrytest.Options{Layers: [][]byte{registrytest.Noise(2, 100)}})
	opts := options(r, "x")

	opts.Policy = PullNever
	_, err := Pull(t.Context(), s, opts)
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("never, absent: %v", err)
	}
	r.PutImage("x", "latest", old)
	for _, step := range []struct {
		policy PullPolicy
		put    *registrytest.Image
		down   bool
		want   *registrytest.Image
	}{
		{PullMissing, nil, false, old},
		{PullMissing, fresh, false, old},
		{PullNever, nil, false, old},
		{PullNewer, nil, true, old},
		{PullNewer, nil, false, fresh},
		{PullAlways, old, false, old},
		{PullAlways, nil, true, nil},
	} {
		if step.put != nil {
			r.PutImage("x", "latest", step.put)
		}
		r.Reset()
		if step.down {
			r.Add(registrytest.Rule{Status: 503})
		}
		opts.Policy = step.policy
		img, err := Pull(t.Context(), s, opts)
		if step.want == nil {
			wantError(t, err, "503")
			continue
		}
		if err != nil || img.ID != step.want.ID().Encoded() {
			t.Errorf("%+v: %v, %v", step.policy, img, err)
		}
		if asked := r.Count("/v2/") > 0; asked != (step.policy == PullAlways || step.policy == PullNewer || step.put == nil && step.policy == PullMissing) {
			t.Errorf("%s: asked the registry: %v", step.policy, asked)
		}
	}
}

func TestPullShortName(t *testing.T) {
	r := newRegistry(t)
	r.PutImage("sbxtest", "latest", testImage(registrytest.Options{}))
	alone(t, `unqualified-search-registries = ["127.0.0.1:1", "`+r.Host()+`"]
[[registry]]
location = "`+r.Host()+`"
insecure = true
`)
	s := newFakeStore(t)
	opts := PullOptions{Image: "sbxtest", Policy: PullMissing}
	img, err := Pull(t.Context(), s, opts)
	if err != nil {
		t.Fatal(err)
	}
	r.Reset()
	again, err := Pull(t.Context(), s, opts)
	if err != nil || again.ID != img.ID || r.Count("") > 0 {
		t.Errorf("%v, %v, %d requests", again, err, r.Count(""))
	}
	opts.Image = img.ID
	if again, err = Pull(t.Context(), s, opts); err != nil || again.ID != img.ID {
		t.Errorf("by id: %v, %v", again, err)
	}
	opts.Image = strings.Repeat("ab", 32)
	_, err = Pull(t.Context(), s, opts)
	wantError(t, err, "looks like an image id")
}

func TestPullMirrors(t *testing.T) {
	primary, mirror := newRegistry(t), newRegistry(t)
	img := testImage(registrytest.Options{})
	primary.PutImage("org/x", "latest", img)
	alone(t, `[[registry]]
prefix = "example.test/org"
location = "`+primary.Host()+`/org"
insecure = true
[[registry.mirror]]
location = "`+mirror.Host()+`/copy"
insecure = true
[[registry]]
prefix = "example.test/secret"
blocked = true
`)
	s := newFakeStore(t)
	opts := PullOptions{Image: "example.test/org/x", Policy: PullAlways}
	if _, err := Pull(t.Context(), s, opts); err != nil {
		t.Fatal(err)
	}
	if mirror.Count("/manifests/") != 1 || primary.Count("/manifests/") != 1 {
		t.Errorf("mirror %d, primary %d", mirror.Count(""), primary.Count(""))
	}
	if s.names["example.test/org/x:latest"] == "" {
		t.Errorf("names %v", s.names)
	}
	primary.Reset()
	mirror.PutImage("copy/x", "latest", img)
	if _, err := Pull(t.Context(), newFakeStore(t), opts); err != nil || primary.Count("") > 0 {
		t.Errorf("%v; primary was asked %d times", err, primary.Count(""))
	}
	opts.Image = "example.test/secret/x"
	_, err := Pull(t.Context(), s, opts)
	wantError(t, err, "blocked")
	opts.Image = "example.test/org/none"
	_, err = Pull(t.Context(), s, opts)
	wantError(t, err, "mirror")
}

func TestPullPlatform(t *testing.T) {
	alone(t, "")
	r := newRegistry(t)
	images := map[string]*registrytest.Image{}
	var list []v1.Descriptor
	list = append(list, v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digestAt(1), Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}})
	for i, p := range []v1.Platform{
		{OS: "windows", Architecture: "amd64"}, {OS: "linux", Architecture: "amd64", Variant: "v3"}, {OS: "linux", Architecture: "amd64"},
		{OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "arm", Variant: "v6"}, {OS: "linux", Architecture: "arm", Variant: "v5"},
	} {
		img := testImage(registrytest.Options{Platform: p, Layers: [][]byte{registrytest.Noise(uint32(i), 50)}})
		r.PutImage("x", "", img)
		images[p.OS+"/"+p.Architecture+p.Variant] = img
		list = append(list, img.Descriptor())
	}
	mediaType, body := registrytest.Index(false, list...)
	index := r.PutManifest("x", "latest", mediaType, body)
	nestedType, nested := registrytest.Index(true, v1.Descriptor{MediaType: mediaType, Digest: index, Size: int64(len(body))})
	inner := r.PutManifest("x", "nested", nestedType, nested)
	deepType, deep := registrytest.Index(false, v1.Descriptor{MediaType: nestedType, Digest: inner, Size: int64(len(nested))})
	r.PutManifest("x", "deep", deepType, deep)
	r.PutImage("x", "single", images["linux/arm64v8"])

	for _, test := range []struct{ ref, platform, want string }{
		{"x", "linux/amd64", "linux/amd64"},
		{"x", "x86_64", "linux/amd64"},
		{"x", "linux/amd64/v3", "linux/amd64v3"},
		{"x", "linux/amd64/v2", "linux/amd64"},
		{"x", "linux/arm64", "linux/arm64v8"},
		{"x", "aarch64", "linux/arm64v8"},
		{"x", "linux/arm/v7", "linux/armv6"},
		{"x", "linux/arm", "linux/armv6"},
		{"x", "linux/arm/v5", "linux/armv5"},
		{"x", "linux/riscv64", "!no image for linux/riscv64"},
		{"x", "windows/amd64", "!for windows"},
		{"x:nested", "linux/arm64", "linux/arm64v8"},
		{"x:deep", "linux/arm64", "!nested"},
		{"x:single", "linux/amd64", "!not for linux/amd64"},
		{"x:single", "linux/arm64", "linux/arm64v8"},
		{"x@" + index.String(), "linux/arm/v6", "linux/armv6"},
	} {
		opts := options(r, test.ref)
		var err error
		if opts.Platform, err = ParsePlatform(test.platform); err != nil {
			t.Fatal(err)
		}
		s := newFakeStore(t)
		got, err := Pull(t.Context(), s, opts)
		if want, ok := strings.CutPrefix(test.want, "!"); ok {
			wantError(t, err, want)
			continue
		}
		if err != nil || got.Digest != images[test.want].Digest() {
			t.Errorf("%+v: %v, %v", test, got, err)
		}
		// The same name for another platform is not the image that is there.
		opts.Policy, opts.Platform = PullMissing, Platform{OS: "linux", Arch: "mips"}
		if _, err := Pull(t.Context(), s, opts); err == nil {
			t.Errorf("%+v: taken for mips", test)
		}
	}
}

func TestPullEightAtOnce(t *testing.T) {
	alone(t, "")
	r, s := newRegistry(t), newFakeStore(t)
	img := testImage(registrytest.Options{})
	r.PutImage("x", "latest", img)
	r.Add(registrytest.Rule{Path: "/blobs/", Delay: 20 * time.Millisecond})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := Pull(t.Context(), s, options(r, "x"))
			if err != nil || got.ID != img.ID().Encoded() {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	wg.Wait()
	for _, l := range img.Layers {
		if n := r.Count(digestOf(l)); n != 1 {
			t.Errorf("%s was asked for %d times", digestOf(l), n)
		}
	}
	if s.puts != 1 {
		t.Errorf("%d puts", s.puts)
	}
	if left, _ := os.ReadDir(filepath.Join(s.dir, "pulls")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Different images that share blobs download them once as well, while they are at it.
func TestPullSharedBlobsAtOnce(t *testing.T) {
	alone(t, "")
	r, dir := newRegistry(t), t.TempDir()
	img := testImage(registrytest.Options{})
	blob := digestOf(img.Layers[0])
	r.PutImage("x", "latest", img)
	r.Add(registrytest.Rule{Path: blob, Delay: 100 * time.Millisecond})
	desc := v1.Descriptor{Digest: mustDigest(blob), Size: int64(len(img.Layers[0]))}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			blobs, err := openBlobDir(dir)
			if err != nil {
				t.Error(err)
				return
			}
			c := testClient(t, r, "x")
			rem := newRemote(t.Context(), c, blobs, retry{}, newProgress(nil, true))
			defer rem.close()
			f, err := rem.layers([]v1.Descriptor{desc})[0](t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			f.Close()
		})
	}
	wg.Wait()
	if n := r.Count(blob); n != 1 {
		t.Errorf("asked for %d times", n)
	}
}

func TestPullCancelled(t *testing.T) {
	alone(t, "")
	for _, path := range []string{"/v2/", "/manifests/", "/blobs/"} {
		r, s := newRegistry(t), newFakeStore(t)
		r.PutImage("x", "latest", testImage(registrytest.Options{}))
		r.Add(registrytest.Rule{Path: path, Delay: time.Minute})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		start := time.Now()
		_, err := Pull(ctx, s, options(r, "x"))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
			t.Errorf("%s: %v after %s", path, err, time.Since(start))
		}
	}
}

func TestPullStoreFails(t *testing.T) {
	alone(t, "")
	r, s := newRegistry(t), newFakeStore(t)
	r.PutImage("x", "latest", testImage(registrytest.Options{}))
	s.fail = errors.New("disk on fire")
	_, err := Pull(t.Context(), s, options(r, "x"))
	wantError(t, err, "disk on fire")
}

func TestPullNever(t *testing.T) {
	alone(t, `unqualified-search-registries = ["a.example", "b.example"]`)
	s := newFakeStore(t)
	id := strings.Repeat("abc1", 16)
	s.images[id] = &Image{ID: id}
	for ref, names := range map[string]string{
		"sbxtest":      "b.example/sbxtest:latest",
		"sbxtest:2":    "localhost/sbxtest:2",
		"a.example/x":  "a.example/x:latest",
		"docker://x:3": "docker.io/library/x:3",
		id:             "",
		"sha256:" + id: "",
	} {
		s.names = map[string]string{names: id}
		img, err := Pull(t.Context(), s, PullOptions{Image: ref, Policy: PullNever})
		if err != nil || img.ID != id {
			t.Errorf("%s: %v, %v", ref, img, err)
		}
	}
	_, err := Pull(t.Context(), s, PullOptions{Image: "nonesuch", Policy: PullNever})
	if !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// The proxies of the environment are read once in a process, hence another one.
func TestProxy(t *testing.T) {
	if os.Getenv("SBX_TEST_PROXY") == "" {
		alone(t, "")
		r := newRegistry(t) // a proxy is asked with a whole URL; it answers by the path
		r.PutImage("x", "latest", testImage(registrytest.Options{}))
		cmd := exec.Command(os.Args[0], "-test.run=^TestProxy$", "-test.v")
		cmd.Env = append(os.Environ(), "SBX_TEST_PROXY=1", "HTTP_PROXY="+r.URL, "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=")
		if out, err := cmd.CombinedOutput(); err != nil || r.Count("/blobs/") == 0 {
			t.Errorf("%v, %d blobs through the proxy\n%s", err, r.Count("/blobs/"), out)
		}
		return
	}
	no := false
	opts := PullOptions{Image: "registry.invalid/x", Policy: PullAlways, Access: Access{TLSVerify: &no}}
	if _, err := Pull(t.Context(), newFakeStore(t), opts); err != nil {
		t.Error(err)
	}
}

// A mirror may have the manifest and not, or no longer, a layer.
func TestPullMirrorLacksLayer(t *testing.T) {
	mirror, r := newRegistry(t), newRegistry(t)
	alone(t, `[[registry]]
prefix = "example.test"
location = "`+r.Host()+`"
insecure = true
[[registry.mirror]]
location = "`+mirror.Host()+`"
insecure = true
`)
	img := testImage(registrytest.Options{})
	r.PutImage("x", "latest", img)
	mirror.PutImage("x", "latest", img)
	mirror.Add(registrytest.Rule{Path: digestOf(img.Layers[1]), Status: 404})
	s := newFakeStore(t)
	got, err := Pull(t.Context(), s, PullOptions{Image: "example.test/x"})
	if err != nil || got.Name != "example.test/x:latest" && s.names["example.test/x:latest"] != got.ID {
		t.Errorf("%+v, %v", got, err)
	}
	if mirror.Count("/blobs/") == 0 || r.Count("/blobs/") == 0 {
		t.Errorf("asked the mirror for %d blobs, and the registry for %d", mirror.Count("/blobs/"), r.Count("/blobs/"))
	}
}
