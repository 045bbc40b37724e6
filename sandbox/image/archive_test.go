//go:build !hot

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"sbx/sandbox/image/registrytest"
)

// file is one entry of an archive or directory of a test.
type file struct{ name, body, link string }

func tarOf(files []file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if strings.HasPrefix(f.link, "=") {
			h.Typeflag, h.Linkname = tar.TypeLink, f.link[1:]
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		w.Write([]byte(f.body))
	}
	w.Close()
	return b.Bytes()
}

func dirOf(t *testing.T, files []file) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		writeFile(t, filepath.Join(dir, f.name), f.body)
		if f.link != "" {
			os.Remove(filepath.Join(dir, f.name))
			if err := os.Symlink(f.link, filepath.Join(dir, f.name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func archiveFile(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.tar")
	writeFile(t, name, string(data))
	return name
}

func toJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// dockerSave is an archive as docker save wrote it up to version 24.
func dockerSave(images map[string]*registrytest.Image) []file {
	var files []file
	var items []dockerItem
	for _, tag := range sortedKeys(images) {
		img := images[tag]
		item := dockerItem{Config: img.ID().Encoded() + ".json", RepoTags: []string{tag}}
		files = append(files, file{name: item.Config, body: string(img.Config)})
		for i, layer := range img.Layers {
			name := fmt.Sprintf("%s%d/layer.tar", img.ID().Encoded()[:8], i)
			files = append(files, file{name: name, body: string(layer)})
			item.Layers = append(item.Layers, name)
		}
		items = append(items, item)
	}
	return append(files, file{name: "manifest.json", body: toJSON(items)})
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func layoutFiles(img *registrytest.Image, ref string) []file {
	d := img.Descriptor()
	d.Platform = nil
	if ref != "" {
		d.Annotations = map[string]string{v1.AnnotationRefName: ref}
	}
	_, index := registrytest.Index(false, d)
	files := []file{{name: "oci-layout", body: `{"imageLayoutVersion":"1.0.0"}`}, {name: "index.json", body: string(index)}}
	for _, blob := range append([][]byte{img.Manifest, img.Config}, img.Layers...) {
		files = append(files, file{name: "blobs/sha256/" + digest.FromBytes(blob).Encoded(), body: string(blob)})
	}
	return files
}

func dirFiles(img *registrytest.Image) []file {
	files := []file{{name: "version", body: "Directory Transport Version: 1.1\n"}, {name: "manifest.json", body: string(img.Manifest)}}
	for _, blob := range append([][]byte{img.Config}, img.Layers...) {
		files = append(files, file{name: digest.FromBytes(blob).Encoded(), body: string(blob)})
	}
	return files
}

func smallImage(o registrytest.Options) *registrytest.Image {
	o.Layers = [][]byte{registrytest.Noise(1, 10000), registrytest.Tar(map[string]string{"a": "b"})}
	return registrytest.NewImage(o)
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

func TestLocalSources(t *testing.T) {
	alone(t, "")
	plain, packed := smallImage(registrytest.Options{Docker: true}), smallImage(registrytest.Options{Compression: "gzip"})
	saved := tarOf(dockerSave(map[string]*registrytest.Image{"busybox:1": plain}))
	two := tarOf(dockerSave(map[string]*registrytest.Image{"quay.io/a:1": plain, "quay.io/b:2": smallImage(registrytest.Options{Docker: true, Platform: v1.Platform{OS: "linux", Architecture: "arm64"}})}))
	for name, test := range map[string]struct {
		arg   string
		id    digest.Digest
		names []string
	}{
		"docker-archive":            {"docker-archive:" + archiveFile(t, saved), plain.ID(), []string{"docker.io/library/busybox:1"}},
		"docker-archive, ref":       {"docker-archive:" + archiveFile(t, two) + ":quay.io/a:1", plain.ID(), []string{"quay.io/a:1"}},
		"docker-archive, index":     {"docker-archive:" + archiveFile(t, two) + ":@0", plain.ID(), []string{"quay.io/a:1"}},
		"docker-archive, gzip":      {"docker-archive:" + archiveFile(t, gzipped(saved)), plain.ID(), []string{"docker.io/library/busybox:1"}},
		"docker-archive, zstd":      {"docker-archive:" + archiveFile(t, zstded(saved)), plain.ID(), []string{"docker.io/library/busybox:1"}},
		"docker-archive, gz layers": {"docker-archive:" + archiveFile(t, tarOf(dockerSave(map[string]*registrytest.Image{"x": packed}))), packed.ID(), []string{"docker.io/library/x:latest"}},
		"oci-archive":               {"oci-archive:" + archiveFile(t, tarOf(layoutFiles(packed, "latest"))), packed.ID(), nil},
		"oci-archive, gzip, name":   {"oci-archive:" + archiveFile(t, gzipped(tarOf(layoutFiles(packed, "quay.io/x:1")))), packed.ID(), []string{"quay.io/x:1"}},
		"oci":                       {"oci:" + dirOf(t, layoutFiles(packed, "")), packed.ID(), nil},
		"oci, ref":                  {"oci:" + dirOf(t, layoutFiles(packed, "x:1")) + ":x:1", packed.ID(), []string{"localhost/x:1"}},
		"dir":                       {"dir:" + dirOf(t, dirFiles(packed)), packed.ID(), nil},
	} {
		s := newFakeStore(t)
		img, err := Pull(t.Context(), s, PullOptions{Image: test.arg})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := sortedKeys(s.names); img.ID != test.id.Encoded() || !slices.Equal(got, test.names) {
			t.Errorf("%s: %s as %v", name, img.ID, got)
		}
		if left := leftBlobs(t, s.dir); len(left) > 0 {
			t.Errorf("%s: left behind %v", name, left)
		}
		again, err := Pull(t.Context(), s, PullOptions{Image: test.arg})
		if err != nil || again.ID != img.ID || s.puts != 1 {
			t.Errorf("%s again: %v, %d puts", name, err, s.puts)
		}
	}
}

func TestLoad(t *testing.T) {
	alone(t, "")
	one, two := smallImage(registrytest.Options{Docker: true}), registrytest.NewImage(registrytest.Options{Docker: true, Layers: [][]byte{registrytest.Noise(9, 99)}})
	both := tarOf(dockerSave(map[string]*registrytest.Image{"a:1": one, "quay.io/b:2": two}))
	modern := append(layoutFiles(one, "1"), file{name: "manifest.json", body: toJSON([]dockerItem{{
		Config: "blobs/sha256/" + one.ID().Encoded(), RepoTags: []string{"a:1"},
		Layers: []string{"blobs/sha256/" + digest.FromBytes(one.Layers[0]).Encoded(), "blobs/sha256/" + digest.FromBytes(one.Layers[1]).Encoded()},
	}})})
	file := archiveFile(t, both)
	for name, test := range map[string]struct {
		opts  LoadOptions
		names string
	}{
		"file":           {LoadOptions{Input: file}, "docker.io/library/a:1 quay.io/b:2"},
		"transport":      {LoadOptions{Input: "docker-archive:" + file}, "docker.io/library/a:1 quay.io/b:2"},
		"transport, ref": {LoadOptions{Input: "docker-archive:" + file + ":a:1"}, "docker.io/library/a:1"},
		"stdin":          {LoadOptions{Stdin: bytes.NewReader(both)}, "docker.io/library/a:1 quay.io/b:2"},
		"stdin, gzip":    {LoadOptions{Input: "-", Stdin: bytes.NewReader(gzipped(both))}, "docker.io/library/a:1 quay.io/b:2"},
		"docker 25":      {LoadOptions{Input: archiveFile(t, tarOf(modern))}, "docker.io/library/a:1"},
		"oci-archive":    {LoadOptions{Input: archiveFile(t, tarOf(layoutFiles(one, "quay.io/c:3")))}, "quay.io/c:3"},
		"layout":         {LoadOptions{Input: dirOf(t, layoutFiles(one, "quay.io/c:3"))}, "quay.io/c:3"},
		"layout, dir":    {LoadOptions{Input: dirOf(t, dirFiles(one))}, ""},
		"oci":            {LoadOptions{Input: "oci:" + dirOf(t, layoutFiles(one, "quay.io/c:3"))}, "quay.io/c:3"},
	} {
		s := newFakeStore(t)
		images, err := Load(t.Context(), s, test.opts)
		if got := strings.Join(sortedKeys(s.names), " "); err != nil || got != test.names || len(images) == 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestLocalRefuses(t *testing.T) {
	alone(t, "")
	img := smallImage(registrytest.Options{Docker: true})
	saved := func(change func([]file) []file) string {
		return "docker-archive:" + archiveFile(t, tarOf(change(dockerSave(map[string]*registrytest.Image{"x": img}))))
	}
	oci := func(change func([]file) []file) string { return "oci:" + dirOf(t, change(layoutFiles(img, "x:1"))) }
	replace := func(i int, f file) func([]file) []file {
		return func(files []file) []file {
			if f.name == "" {
				f.name = files[i].name
			}
			files[i] = f
			return files
		}
	}
	same := func(files []file) []file { return files }
	whole := tarOf(dockerSave(map[string]*registrytest.Image{"x": img}))
	fifo := dirOf(t, layoutFiles(img, ""))
	os.Remove(filepath.Join(fifo, "index.json"))
	if err := unix.Mkfifo(filepath.Join(fifo, "index.json"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ arg, want string }{
		"missing file":          {"docker-archive:/nonesuch.tar", "/nonesuch.tar"},
		"a directory":           {"docker-archive:" + t.TempDir(), "directory"},
		"empty":                 {"docker-archive:" + archiveFile(t, nil), "empty"},
		"not a tar":             {"docker-archive:" + archiveFile(t, bytes.Repeat([]byte("no tar "), 1000)), "not a tar"},
		"not gzip":              {"docker-archive:" + archiveFile(t, []byte("\x1f\x8bnonsense")), "gzip"},
		"cut in a layer":        {"docker-archive:" + archiveFile(t, whole[:5000]), "cut short"},
		"cut gzip":              {"docker-archive:" + archiveFile(t, gzipped(whole)[:3000]), "EOF"},
		"no manifest":           {"docker-archive:" + archiveFile(t, tarOf([]file{{name: "x", body: "y"}})), "manifest.json"},
		"manifest is a link":    {saved(replace(3, file{link: "../../../etc/shadow"})), "no such regular file"},
		"manifest is rubbish":   {saved(replace(3, file{body: "{"})), "manifest.json"},
		"manifest is empty":     {saved(replace(3, file{body: "[]"})), "no image"},
		"layer links out":       {saved(replace(1, file{link: "../../../etc/passwd"})), "no such regular file"},
		"layer links to /":      {saved(replace(1, file{link: "/etc/passwd"})), "no such regular file"},
		"layer links to itself": {saved(replace(1, file{link: "layer.tar"})), "too many links"},
		"layer is xz":           {saved(replace(1, file{body: "\xfd7zXZ\x00\x00\x00"})), "layer 0: compressed with xz: a layer is gzip, zstd or a plain tar"},
		"whole is bzip2":        {"docker-archive:" + archiveFile(t, []byte("BZh91AY&SY")), "compressed with bzip2: a layer is gzip, zstd or a plain tar"},
		"layer flipped":         {saved(replace(1, file{body: string(img.Layers[0][:len(img.Layers[0])-1]) + "x"})), "digest mismatch"},
		"layer is another":      {saved(replace(1, file{body: string(img.Layers[1])})), "digest mismatch"},
		"config flipped":        {saved(replace(0, file{body: strings.Replace(string(img.Config), "amd64", "amd46", 1)})), "digest mismatch"},
		"config too big":        {saved(replace(0, file{body: strings.Repeat(" ", 5<<20)})), "larger than"},
		"bad tag":               {"docker-archive:" + archiveFile(t, tarOf(dockerSave(map[string]*registrytest.Image{"../../x": img}))), "image name"},
		"wrong ref":             {saved(same) + ":y", "no image"},
		"wrong index":           {saved(same) + ":@1", "no image"},
		"no layout":             {"oci:" + t.TempDir(), "not an OCI layout"},
		"layout version":        {oci(replace(0, file{body: `{"imageLayoutVersion":"2.0.0"}`})), "version"},
		"layout ref":            {oci(same) + ":y", "no image"},
		"index is a link":       {oci(replace(1, file{link: "/etc/passwd"})), "index.json"},
		"index is a FIFO":       {"oci:" + fifo, "not a regular file"},
		"index flipped digest":  {oci(replace(1, file{body: strings.Replace(layoutFiles(img, "")[1].body, "sha256:", "sha256:../", 1)})), "bad digest"},
		"blob is a link":        {oci(replace(4, file{link: "../../index.json"})), "blob"},
		"blob flipped":          {oci(replace(4, file{body: "x" + string(img.Layers[0][1:])})), "digest mismatch"},
		"blob longer":           {oci(replace(4, file{body: string(img.Layers[0]) + "x"})), "bytes"},
		"manifest flipped":      {oci(replace(2, file{body: string(img.Manifest) + " "})), "digest mismatch"},
		"dir, blob missing":     {"dir:" + dirOf(t, dirFiles(img)[:2]), "no such file"},
	} {
		s := newFakeStore(t)
		_, err := Pull(t.Context(), s, PullOptions{Image: test.arg})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
		if len(s.images) > 0 {
			t.Errorf("%s: stored", name)
		}
		if left := leftBlobs(t, s.dir); len(left) > 0 {
			t.Errorf("%s: left behind %v", name, left)
		}
	}
}

// Of equal layers docker save wrote one and linked the others to it.
func TestLinkedLayers(t *testing.T) {
	alone(t, "")
	layer := registrytest.Noise(5, 1000)
	img := registrytest.NewImage(registrytest.Options{Docker: true, Layers: [][]byte{layer, layer, layer}})
	files := dockerSave(map[string]*registrytest.Image{"x": img})
	files[2] = file{name: files[2].name, link: "../" + files[1].name}
	files[3] = file{name: files[3].name, link: "=" + files[1].name}
	s := newFakeStore(t)
	if _, err := Pull(t.Context(), s, PullOptions{Image: "docker-archive:" + archiveFile(t, tarOf(files))}); err != nil {
		t.Error(err)
	}
}

func TestBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("decompresses a gigabyte")
	}
	alone(t, "")
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 1200 {
		w.Write(zeros)
	}
	w.Close()
	_, err = Load(t.Context(), newFakeStore(t), LoadOptions{Input: archiveFile(t, b.Bytes())})
	wantError(t, err, "bomb")
}
