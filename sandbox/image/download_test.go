//go:build !hot

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"sbx/sandbox/image/registrytest"
)

func digestOf(b []byte) string { return digest.FromBytes(b).String() }

func mustDigest(s string) digest.Digest { return digest.Digest(s) }

func digestAt(n byte) digest.Digest { return digest.FromBytes([]byte{n}) }

func testClient(t *testing.T, r *registrytest.Registry, path string) *client {
	t.Helper()
	no := false
	c, err := newClient(endpoint{name: Name{Registry: r.Host(), Path: path, Tag: "latest"}}, Access{TLSVerify: &no}, credentials{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// oneBlob puts an image with one big layer into a new registry.
func oneBlob(t *testing.T) (r *registrytest.Registry, s *fakeStore, blob []byte) {
	t.Helper()
	alone(t, "")
	r = newRegistry(t)
	img := testImage(registrytest.Options{Layers: [][]byte{registrytest.Noise(7, 4<<20)}})
	r.PutImage("x", "latest", img)
	return r, newFakeStore(t), img.Layers[0]
}

func TestResume(t *testing.T) {
	size := int64(len(registrytest.Noise(7, 4<<20)))
	for _, at := range []int64{0, 1, size / 2, size - 1} {
		r, s, blob := oneBlob(t)
		r.Add(registrytest.Rule{Path: digestOf(blob), Times: 1, Cut: true, At: at})
		if _, err := Pull(t.Context(), s, options(r, "x")); err != nil {
			t.Errorf("cut at %d: %v", at, err)
		}
		if sent := r.Sent(digestOf(blob)); sent > size*11/10 || r.Count(digestOf(blob)) != 2 {
			t.Errorf("cut at %d: %d of %d bytes sent in %d requests", at, sent, size, r.Count(digestOf(blob)))
		}
	}
}

func TestResumeManyCuts(t *testing.T) {
	r, s, blob := oneBlob(t)
	r.Add(registrytest.Rule{Path: digestOf(blob), Times: 3, Cut: true, At: 1 << 20}) // with one retry: progress counts
	opts := options(r, "x")
	once := 1
	opts.Retry = &once
	if _, err := Pull(t.Context(), s, opts); err != nil {
		t.Error(err)
	}
}

func TestResumeAcrossInvocations(t *testing.T) {
	none := 0
	for name, test := range map[string]struct {
		rule   registrytest.Rule
		damage func(partial string) error
		factor float64 // of the size: what may be sent in all
	}{
		"plain":        {factor: 1.01},
		"no ranges":    {rule: registrytest.Rule{IgnoreRange: true}, factor: 1.51},
		"wrong range":  {rule: registrytest.Rule{WrongRange: true}, factor: 2.6}, // what was in flight of the wrong answer
		"no such part": {rule: registrytest.Rule{Status: 416, Times: 1}, factor: 1.51},
		"damaged": {damage: func(p string) error {
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("damage"), 1000)
			return err
		}, factor: 2.01},
		"too long": {damage: func(p string) error { return os.Truncate(p, 50<<20) }, factor: 1.51},
		"emptied":  {damage: func(p string) error { return os.Truncate(p, 0) }, factor: 1.51},
	} {
		t.Run(name, func(t *testing.T) {
			r, s, blob := oneBlob(t)
			r.Add(registrytest.Rule{Path: digestOf(blob), Times: 1, Cut: true, At: 2 << 20})
			opts := options(r, "x")
			opts.Retry = &none
			if _, err := Pull(t.Context(), s, opts); err == nil {
				t.Fatal("the first pull succeeded")
			}
			if len(s.images) > 0 {
				t.Fatal("an image is there")
			}
			partial := filepath.Join(s.dir, "blobs", "sha256", digest.FromBytes(blob).Encoded()+".partial")
			if info, err := os.Stat(partial); err != nil || info.Size() != 2<<20 {
				t.Fatalf("partial blob: %v, %v", info, err)
			}
			if test.damage != nil {
				if err := test.damage(partial); err != nil {
					t.Fatal(err)
				}
			}
			test.rule.Path = digestOf(blob)
			r.Add(test.rule)
			if _, err := Pull(t.Context(), s, opts); err != nil {
				t.Fatal(err)
			}
			if sent := r.Sent(digestOf(blob)); float64(sent) > test.factor*float64(len(blob)) {
				t.Errorf("%d bytes sent of a blob of %d", sent, len(blob))
			}
			if left := leftBlobs(t, s.dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestCompleteBlobIsCheckedAgain(t *testing.T) {
	r, s, blob := oneBlob(t)
	file := filepath.Join(s.dir, "blobs", "sha256", digest.FromBytes(blob).Encoded())
	writeFile(t, file, strings.Repeat("x", len(blob)))
	if _, err := Pull(t.Context(), s, options(r, "x")); err != nil {
		t.Error(err)
	}
	writeFile(t, file, string(blob))
	r.Reset()
	if _, err := Pull(t.Context(), newFakeStoreIn(s.dir), options(r, "x")); err != nil || r.Count(digestOf(blob)) > 0 {
		t.Errorf("%v, %d requests for a blob that is there", err, r.Count(digestOf(blob)))
	}
}

func newFakeStoreIn(dir string) *fakeStore {
	return &fakeStore{dir: dir, images: map[string]*Image{}, names: map[string]string{}, layers: map[string]int{}}
}

func TestFlips(t *testing.T) {
	alone(t, "")
	r := newRegistry(t)
	img := testImage(registrytest.Options{Compression: "gzip"})
	r.PutImage("x", "single", img)
	mediaType, body := registrytest.Index(false, img.Descriptor())
	index := r.PutManifest("x", "latest", mediaType, body)
	size := func(b []byte) []int64 { return []int64{0, int64(len(b) / 2), int64(len(b) - 1)} }
	for _, test := range []struct {
		ref, path string
		offsets   []int64
	}{
		{"x", "/manifests/latest", size(body)},
		{"x@" + index.String(), "/manifests/" + index.String(), size(body)},
		{"x", "/manifests/" + img.Digest().String(), size(img.Manifest)},
		{"x:single", "/manifests/single", size(img.Manifest)},
		{"x", digestOf(img.Config), size(img.Config)},
		{"x", digestOf(img.Layers[0]), size(img.Layers[0])},
		{"x", digestOf(img.Layers[1]), size(img.Layers[1])},
	} {
		for _, at := range test.offsets {
			s := newFakeStore(t)
			r.Reset()
			r.Add(registrytest.Rule{Path: test.path, Corrupt: true, At: at})
			_, err := Pull(t.Context(), s, options(r, test.ref))
			wantError(t, err, "digest mismatch")
			if len(s.images) > 0 {
				t.Errorf("%+v: stored", test)
			}
			for _, left := range leftBlobs(t, s.dir) {
				if strings.Contains(test.path, strings.TrimSuffix(left, ".partial")) {
					t.Errorf("%+v: %s is left", test, left)
				}
			}
		}
	}
}

func TestWrongSizes(t *testing.T) {
	alone(t, "")
	for name, test := range map[string]struct {
		change func(*v1.Manifest)
		want   string
	}{
		"layer shorter":  {func(m *v1.Manifest) { m.Layers[0].Size++ }, "bytes"},
		"layer longer":   {func(m *v1.Manifest) { m.Layers[0].Size-- }, "bytes"},
		"layer enormous": {func(m *v1.Manifest) { m.Layers[0].Size = 1 << 60 }, "bytes"},
		"config":         {func(m *v1.Manifest) { m.Config.Size++ }, "bytes"},
		"config too big": {func(m *v1.Manifest) { m.Config.Size = 5 << 20 }, "more than"},
	} {
		r, s := newRegistry(t), newFakeStore(t)
		r.PutImage("x", "latest", testImage(registrytest.Options{Change: func(_ *v1.Image, m *v1.Manifest) {
			if m != nil {
				test.change(m)
			}
		}}))
		_, err := Pull(t.Context(), s, options(r, "x"))
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		wantError(t, err, test.want)
	}
	// Chunked, so that only counting tells.
	r, s, blob := oneBlob(t)
	r.Add(registrytest.Rule{Path: digestOf(blob), Header: map[string]string{"Content-Length": ""}, Body: append(append([]byte{}, blob...), "more"...)})
	_, err := Pull(t.Context(), s, options(r, "x"))
	wantError(t, err, "more than the")
}

func TestRetries(t *testing.T) {
	for _, test := range []struct {
		rule registrytest.Rule
		want string // "" is success
	}{
		{registrytest.Rule{Path: "/manifests/", Status: 503, Times: 2}, ""},
		{registrytest.Rule{Path: "/manifests/", Status: 429, Times: 1, Header: map[string]string{"Retry-After": "1"}}, ""},
		{registrytest.Rule{Path: "/blobs/", Status: 500, Times: 3}, ""},
		{registrytest.Rule{Path: "/blobs/", Status: 502, Times: 40}, "502"},
		{registrytest.Rule{Path: "/manifests/", Status: 500}, "after 4 tries"},
		{registrytest.Rule{Path: "/manifests/", Status: 429, Header: map[string]string{"Retry-After": "3600"}}, "429"},
		{registrytest.Rule{Path: "/manifests/", Status: 404, Times: 1}, "is not there"},
		{registrytest.Rule{Path: "/manifests/", Status: 403, Times: 1}, "403"},
		{registrytest.Rule{Path: "/manifests/", Status: 418, Times: 1, Body: []byte(`{"errors":[{"code":"X","message":"\u001b[31mred\nline"}]}`)}, `\x1b[31mred\nline`},
		{registrytest.Rule{HTML: true}, "not a registry"},
		{registrytest.Rule{Path: "/blobs/", HTML: true}, "not a registry"},
	} {
		r, s, _ := oneBlob(t)
		r.Add(test.rule)
		_, err := Pull(t.Context(), s, options(r, "x"))
		if test.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", test.rule, err)
			}
			continue
		}
		wantError(t, err, test.want)
	}
}

func TestHang(t *testing.T) {
	for _, rule := range []registrytest.Rule{
		{Path: "/manifests/", Times: 1, Hang: true, At: 10},
		{Path: "/blobs/", Times: 1, Delay: time.Minute},
		{Path: "/blobs/", Times: 2, Hang: true, At: 1 << 20},
	} {
		r, s, _ := oneBlob(t)
		r.Add(rule)
		opts := options(r, "x")
		opts.Access.idle = 200 * time.Millisecond
		start := time.Now()
		if _, err := Pull(t.Context(), s, opts); err != nil || time.Since(start) > 5*time.Second {
			t.Errorf("%+v: %v after %s", rule, err, time.Since(start))
		}
	}
	r, s, _ := oneBlob(t)
	r.Add(registrytest.Rule{Path: "/manifests/", Hang: true})
	opts := options(r, "x")
	opts.Access.idle = 50 * time.Millisecond
	_, err := Pull(t.Context(), s, opts)
	wantError(t, err, errIdle.Error())
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	b, err := openBlobDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-8 * 24 * time.Hour)
	for name, age := range map[string]time.Time{"old.partial": old, "old": old, "held.partial": old, "new.partial": time.Now()} {
		file := filepath.Join(b.dir, "sha256", name)
		writeFile(t, file, "x")
		if err := os.Chtimes(file, age, age); err != nil {
			t.Fatal(err)
		}
	}
	held, err := lockFile(t.Context(), filepath.Join(b.dir, "sha256", "held.partial"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := b.collect(time.Now().Add(-blobAge)); err != nil {
		t.Error(err)
	}
	if got := strings.Join(leftBlobs(t, dir), " "); got != "held.partial new.partial" {
		t.Errorf("left: %s", got)
	}
}
