//go:build !hot

package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"sbx/sandbox/image/registrytest"
)

func TestRecord(t *testing.T) {
	created := time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC)
	full := record{libraryAt: libraryAt{"/r", "vfs"}, layers: []string{"/a", "/b:c,d"}, size: 1 << 40}
	full.config = v1.Image{Created: &created, Author: "ada", Platform: v1.Platform{Architecture: "amd64", OS: "linux", Variant: "v3", OSVersion: "1", OSFeatures: []string{"f"}}}
	full.config.RootFS = v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digestAt(1), digestAt(2)}}
	full.config.Config = v1.ImageConfig{
		User: "1:2", ExposedPorts: map[string]struct{}{"80/tcp": {}}, Env: []string{"A=1", "", "B"}, Entrypoint: []string{"/bin/sh", "-c"},
		Cmd: []string{"true"}, Volumes: map[string]struct{}{"/v": {}, "/w": {}}, WorkingDir: "/w", Labels: map[string]string{"a": "b", "c": ""}, StopSignal: "SIGTERM",
	}
	for _, want := range []record{full, {}} {
		text := want.encode()
		got, err := decodeRecord(text)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
		for n := range text { // cut short, it is an error and not a panic
			if _, err := decodeRecord(text[:n]); err == nil {
				t.Errorf("%d bytes of %d were accepted", n, len(text))
			}
		}
		for bit := range 8 * len(text) {
			text[bit/8] ^= 1 << (bit % 8)
			if _, err := decodeRecord(text); err == nil {
				t.Errorf("bit %d was flipped and believed", bit)
			}
			text[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte("\x02a"))
	f.Fuzz(func(t *testing.T, fields []byte) { decodeRecord(sealed(fields)) })
}

func TestIndexFind(t *testing.T) {
	a, b := strings.Repeat("a", 64), "abc"+strings.Repeat("b", 61)
	d1, d2 := digestAt(1).String(), digestAt(2).String()
	ix := index{strings.Join([]string{
		"sbx-index 2 x", "file 1 2 3 /with space", "image " + a + " " + d1 + "," + d2 + " localhost:5000/a:1", "image " + a + " " + d1 + "," + d2 + " docker.io/library/abc:latest",
		"image " + b + " " + d2 + " -", "short b:1 localhost:5000/a:1", ""}, "\n")}
	for name, want := range map[string]string{
		"localhost:5000/a:1": a, "localhost:5000/a@" + d2: a, a: a, "sha256:" + b: b, "aaa": a, "abc": b, "abcb": b, "b:1": a,
		"localhost:5000/a": "", "localhost:5000/b@" + d2: "", "ab": "", "": "", "-": "", "a": "", "docker.io/library/abc@" + digestAt(3).String(): "",
	} {
		e, err := ix.find(name)
		if want == "" && !errors.Is(err, ErrNotFound) || want != "" && (err != nil || e.id != want) {
			t.Errorf("%q: %v, %v; want %q", name, e, err, want)
		}
	}
	ix.text += "image " + "abc" + strings.Repeat("c", 61) + " " + d2 + " -\n"
	if _, err := ix.find("abc"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("an ambiguous id: %v", err)
	}
}

func TestShortNames(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	file := filepath.Join(t.TempDir(), "registries.conf")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", file)
	writeFile(t, file, `unqualified-search-registries = ["quay.io", "docker.io"]
[aliases]
"bb" = "docker.io/busybox"`)
	named := map[string]bool{
		"localhost/a:1": true, "quay.io/a:1": true, "quay.io/x/b:2": true, "docker.io/x/b:2": true,
		"docker.io/library/busybox:latest": true, "other.example/c:3": true, "quay.io/d@" + digestAt(1).String(): true,
	}
	got := strings.Join(shortNames(named), "")
	want := `short a:1 localhost/a:1
short bb:latest docker.io/library/busybox:latest
short busybox:latest docker.io/library/busybox:latest
short library/busybox:latest docker.io/library/busybox:latest
short x/b:2 quay.io/x/b:2
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	writeFile(t, file, `unqualified-search-registries = [`)
	if got := shortNames(named); got != nil {
		t.Errorf("from a file that cannot be read: %v", got)
	}
}

// A record that was damaged is made again, whoever meets it.
func TestDamagedRecord(t *testing.T) {
	s := newStore(t)
	img := put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "x", body: "x"})))
	record := s.path("index/" + img.ID)
	good, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, good...)
	flipped[len(flipped)-9] ^= 1
	for damage, text := range map[string][]byte{"empty": nil, "cut": good[:20], "flipped": flipped, "random": []byte("sbx-record 2\nabcdefgh")} {
		for what, meet := range map[string]func() error{
			"find":    func() error { img, err := s.Find("localhost/x:latest"); closeImage(img); return err },
			"list":    func() error { list, err := s.List(); return errors.Join(err, want(len(list), 1)) },
			"inspect": func() error { _, err := s.Inspect("localhost/x:latest"); return err },
			"tag":     func() error { return s.AddNames(img.ID, "localhost/x:latest") },
			"remove":  func() error { return third(s.Remove("localhost/x:latest", false)) },
		} {
			writeFile(t, record, string(text))
			if err := meet(); err != nil {
				t.Errorf("%s, %s: %v", damage, what, err)
			}
			if what == "remove" {
				put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "x", body: "x"})))
			}
			img, err := s.Find("localhost/x:latest")
			if err != nil {
				t.Fatal(err)
			}
			img.Lock.Close()
			if text, err := os.ReadFile(record); err != nil || string(text) != string(good) {
				t.Errorf("%s, %s: the record is %q, %v", damage, what, text, err)
			}
		}
	}
}

func want(got, want int) error {
	if got != want {
		return fmt.Errorf("%d, not %d", got, want)
	}
	return nil
}

// writePodman makes a store as podman would, with one image of one layer.
func writePodman(t *testing.T, root, name string, config []byte) (id string) {
	t.Helper()
	id = digest.FromBytes(config).Encoded()
	layer := strings.Repeat("1", 64)
	for file, text := range map[string]string{
		"overlay-images/images.json":                           toJSON([]map[string]any{{"id": id, "digest": digestAt(1), "names": []string{name}, "layer": layer}}),
		"overlay-layers/layers.json":                           toJSON([]map[string]any{{"id": layer, "diff-size": 7}}),
		"overlay-images/" + id + "/=" + base64Of("sha256:"+id): string(config),
		"overlay/" + layer + "/diff/hello":                     "hello",
	} {
		file = filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, file, text)
	}
	return id
}

func TestPodmanStore(t *testing.T) {
	s := newStore(t)
	home := os.Getenv("HOME")
	if _, err := s.Find("localhost/p:latest"); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	// It appears after the index was made, in the usual place.
	usual := home + "/.local/share/containers/storage"
	id := writePodman(t, usual, "localhost/p:latest", []byte(`{"os":"linux"}`))
	img, err := s.Find("localhost/p:latest")
	if err != nil {
		t.Fatal(err)
	}
	img.Lock.Close()
	if got, err := os.ReadFile(img.Layers[0] + "/hello"); img.ID != id || err != nil || string(got) != "hello" {
		t.Errorf("%+v: %q, %v", img, got, err)
	}
	before := fingerprint(t, usual)
	for what, err := range map[string]error{"tag": s.AddNames(id, "localhost/q:latest"), "remove": third(s.Remove("localhost/p:latest", true))} {
		if err == nil || !strings.Contains(err.Error(), "podman's store") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 1 || !list[0].ReadOnly || list[0].Size != 7 {
		t.Error(list, err)
	}
	put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "x"})))
	if fingerprint(t, usual) != before {
		t.Error("podman's store was changed")
	}
	// storage.conf moves it, and names another. Programs it names are nothing to us.
	moved, other := t.TempDir(), t.TempDir()
	writePodman(t, moved, "localhost/moved:latest", []byte(`{"os":"linux","author":"m"}`))
	writePodman(t, other, "localhost/other:latest", []byte(`{"os":"linux","author":"o"}`))
	if err := os.MkdirAll(home+"/.config/containers", 0o700); err != nil {
		t.Fatal(err)
	}
	evil := t.TempDir() + "/evil"
	writeFile(t, evil, "#!/bin/sh\ntouch "+evil+".ran\n")
	os.Chmod(evil, 0o755)
	writeFile(t, home+"/.config/containers/storage.conf", fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\n[storage.options]\nadditionalimagestores = [%q]\nmount_program = %q\n[storage.options.overlay]\nmount_program = %[3]q\n", moved, other, evil))
	for name, there := range map[string]bool{"localhost/p:latest": false, "localhost/moved:latest": true, "localhost/other:latest": true, "localhost/x:latest": true} {
		img, err := s.Find(name)
		if there != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		closeImage(img)
	}
	put(t, s, fetchedOf(t, "localhost/y:latest", layerOf(t, inTar{name: "y"})))
	if _, err := os.Stat(evil + ".ran"); err == nil {
		t.Error("a program of storage.conf was run")
	}
	// Broken in any way, it is not there, and ours is.
	for _, breakIt := range []func(){
		func() { writeFile(t, moved+"/overlay-images/images.json", "{") },
		func() {
			os.Remove(moved + "/overlay-images/images.json")
			os.Mkdir(moved+"/overlay-images/images.json", 0o700)
		},
		func() { os.Chmod(moved, 0) },
		func() { writeFile(t, home+"/.config/containers/storage.conf", "[storage\x00") },
	} {
		breakIt()
		if _, err := s.Find("localhost/moved:latest"); !errors.Is(err, ErrNotFound) {
			t.Errorf("broken: %v", err)
		}
		img, err := s.Find("localhost/x:latest")
		if err != nil {
			t.Error(err)
		}
		closeImage(img)
	}
	os.Chmod(moved, 0o700)
}

// What podman has and sbx pulls all the same becomes ours, unless it has the name already.
func TestPullPodmans(t *testing.T) {
	s := newStore(t)
	r := newRegistry(t)
	img := registrytest.NewImage(registrytest.Options{Layers: [][]byte{layerOf(t, inTar{name: "x", body: "x"})}})
	r.PutImage("x", "1", img)
	r.PutImage("x", "2", img)
	podman, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer podman.wipe(t)
	pull := func(s *Store, name string) *Image {
		t.Helper()
		img, err := Pull(t.Context(), s, options(r, name))
		if err != nil {
			t.Fatal(err)
		}
		img.Lock.Close()
		return img
	}
	pull(podman, "x:1")
	conf := filepath.Join(t.TempDir(), "storage.conf")
	writeFile(t, conf, fmt.Sprintf("[storage]\ndriver = \"overlay\"\ngraphroot = %q\n", podman.path("storage")))
	t.Setenv("CONTAINERS_STORAGE_CONF", conf)
	if img := pull(s, "x:1"); !img.ReadOnly {
		t.Error("podman's image was brought in once more, under the name that it has")
	}
	if img := pull(s, "x:2"); img.ReadOnly || img.Name != r.Host()+"/x:2" {
		t.Errorf("with another name: %+v", img)
	}
	// Now both have it. Podman's name goes on to mean it, and is not ours to take away.
	list, err := s.List()
	if err != nil || len(list) != 1 || len(list[0].Names) != 2 || list[0].ReadOnly {
		t.Errorf("%+v, %v", list, err)
	}
	if img := pull(s, "x:2"); img.ReadOnly {
		t.Error("ours is hidden by podman's")
	}
	_, _, err = s.Remove(r.Host()+"/x:1", false)
	wantError(t, err, "in podman's store only")
	if names, deleted, err := s.Remove(r.Host()+"/x:2", false); err != nil || len(names) != 1 || len(deleted) != 1 {
		t.Error(names, deleted, err)
	}
	if img, err := s.Find(r.Host() + "/x:1"); err != nil || !img.ReadOnly {
		t.Errorf("%+v, %v", img, err)
	} else {
		img.Lock.Close()
	}
}

func third[A, B, C any](_ A, _ B, c C) C { return c }

// BenchmarkFind is the price of the hot path, with a hundred images.
func BenchmarkFind(b *testing.B) {
	home := b.TempDir()
	b.Setenv("HOME", home)
	b.Setenv("XDG_DATA_HOME", "")
	s, err := Open("")
	if err != nil {
		b.Fatal(err)
	}
	var images, layers []map[string]any
	root := s.path("storage")
	for i := range 100 {
		config := fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","author":"%d","config":{"Env":["PATH=/usr/bin:/bin"],"Cmd":["/bin/sh"],"Labels":{"a":"b"}},"rootfs":{"type":"layers"}}`, i)
		id := digest.FromBytes(config).Encoded()
		layer := fmt.Sprintf("%064d", i)
		images = append(images, map[string]any{"id": id, "digest": digestAt(byte(i)), "names": []string{fmt.Sprintf("docker.io/library/image%d:latest", i)}, "layer": layer})
		layers = append(layers, map[string]any{"id": layer})
		for _, dir := range []string{"overlay-images/" + id, "overlay/" + layer + "/diff", "overlay-layers"} {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(root+"/overlay-images/"+id+"/="+base64Of("sha256:"+id), config, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for file, v := range map[string]any{"images": images, "layers": layers} {
		if err := os.WriteFile(fmt.Sprintf("%s/overlay-%s/%[2]s.json", root, file), []byte(toJSON(v)), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		img, err := s.Find("docker.io/library/image73:latest")
		if err != nil {
			b.Fatal(err)
		}
		img.Lock.Close()
	}
}
