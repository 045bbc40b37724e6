//go:build !hot

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestOverlay stacks two layers with the kernel's overlay, as a sandbox does, and looks
// what is left of the lower one, and at owners, modes and attributes.
func TestOverlay(t *testing.T) {
	s := newStore(t)
	img := put(t, s, fetchedOf(t, "localhost/x:latest",
		layerOf(t,
			inTar{name: "gone", body: "1"}, inTar{name: "dir/"}, inTar{name: "dir/gone", body: "1"}, inTar{name: "dir/kept", body: "1"},
			inTar{name: "opaque/"}, inTar{name: "opaque/below", body: "1"}, inTar{name: "fake/"}, inTar{name: "fake/below", body: "1"},
			inTar{name: "gonedir/"}, inTar{name: "gonedir/x", body: "1"}, inTar{name: "later/"}, inTar{name: "later/below", body: "1"}),
		layerOf(t,
			inTar{name: ".wh.gone"}, inTar{name: "dir/.wh.gone"}, inTar{name: ".wh.gonedir"}, inTar{name: ".wh.never"},
			inTar{name: "opaque/"}, inTar{name: "opaque/.wh..wh..opq"}, inTar{name: "opaque/new", body: "2"},
			inTar{name: "later/"}, inTar{name: "later/new", body: "2"}, inTar{name: "later/.wh..wh..opq"},
			// An opaque directory and a whiteout that the layer has no right to make.
			inTar{name: "fake/", xattr: map[string]string{"user.overlay.opaque": "y", "user.kept": "k"}},
			inTar{name: "fake/node", kind: tar.TypeChar},
			inTar{name: "home/ada", body: "a", uid: 1000, gid: 1000, mode: 0o640},
			inTar{name: "home/nobody", body: "a", uid: 65534, gid: 65534, mode: 0o2755},
			inTar{name: "su", body: "a", mode: 0o4755},
			inTar{name: "ping", body: "a", xattr: map[string]string{
				"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
				"security.evil":       "x", "trusted.overlay.opaque": "y", "user.containers.override_stat": "0:0:0777", "user.fuseoverlayfs.opaque": "y"}},
		)))
	work := t.TempDir()
	out := asRoot(t, "sh", "-ec", fmt.Sprintf(`
		mkdir %[1]s/upper %[1]s/work %[1]s/m
		mount -t overlay -o userxattr,lowerdir=%[2]s:%[3]s,upperdir=%[1]s/upper,workdir=%[1]s/work none %[1]s/m
		cd %[1]s/m
		find . ! -type d -printf '%%P\n' | sort
		stat -c '%%n %%u:%%g %%a' home/ada home/nobody su home dir
		getfattr -d -m - fake ping 2>/dev/null | cut -d= -f1
		cd /; umount %[1]s/m; rm -rf %[1]s/work
	`, work, img.Layers[0], img.Layers[1]))
	want := strings.Join([]string{
		"dir/kept", "fake/below", "home/ada", "home/nobody", "later/new", "opaque/new", "ping", "su",
		"home/ada 1000:1000 640", "home/nobody 65534:65534 2755", "su 0:0 4755", "home 0:0 755", "dir 0:0 755",
		"# file: fake", "user.kept", "", "# file: ping", "security.capability", "", ""}, "\n")
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

// The tar of a layer can be made again from what the store keeps, byte for byte.
func TestTarSplit(t *testing.T) {
	s := newStore(t)
	plain := layerOf(t,
		inTar{name: "./"}, inTar{name: "a/"}, inTar{name: "a/empty"}, inTar{name: "a/" + strings.Repeat("long", 50), body: "long name"},
		inTar{name: "a/b", body: strings.Repeat("b", 100_000), uid: 1000}, inTar{name: "a/b2", kind: tar.TypeLink, link: "a/b"},
		inTar{name: "l", kind: tar.TypeSymlink, link: "/etc/passwd"}, inTar{name: ".wh.gone"}, inTar{name: "d", kind: tar.TypeChar},
		inTar{name: "x", body: "x", xattr: map[string]string{"user.overlay.opaque": "y"}}, inTar{name: "a/", mode: 0o700}, inTar{name: "n\xff", body: "not UTF-8"})
	var gnu bytes.Buffer
	w := tar.NewWriter(&gnu)
	for _, h := range []*tar.Header{
		{Name: strings.Repeat("g", 200), Typeflag: tar.TypeReg, Size: 3, Format: tar.FormatGNU},
		{Name: "global", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "c"}, Format: tar.FormatPAX},
		{Name: "old", Typeflag: tar.TypeReg, Size: 3, Format: tar.FormatUSTAR},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "abc")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tars := [][]byte{
		plain,
		gnu.Bytes(),
		slices.Concat(plain, make([]byte, 100_000)),                                       // padded
		slices.Concat(plain, []byte("junk after the end")),                                // and worse
		plain[:len(plain)-2*blockSize],                                                    // without an end
		slices.Concat(plain[:len(plain)-2*blockSize], plain[:0], make([]byte, blockSize)), // with half an end
		make([]byte, 2*blockSize),                                                         // empty
		{},                                                                                // not even that
	}
	for i, layer := range tars {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			f := fetchedOf(t, "localhost/x:latest", layer)
			put(t, s, f)
			made := runStage(t, libraryName, s.dir, s.dir, digest.FromBytes(layer).Encoded())
			if !bytes.Equal(made, layer) {
				t.Errorf("%d bytes were put in, %d come out, and differ", len(layer), len(made))
			}
		})
	}
}

func TestZstd(t *testing.T) {
	s := newStore(t)
	layer := layerOf(t, inTar{name: "x", body: strings.Repeat("x", 1<<20)})
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	img := put(t, s, fetchedBlob(t, e.EncodeAll(layer, nil), digest.FromBytes(layer)))
	if st, err := os.Stat(img.Layers[0] + "/x"); err != nil || st.Size() != 1<<20 {
		t.Error(st, err)
	}
	plain := put(t, s, fetchedBlob(t, layer, digest.FromBytes(layer)))
	if plain.ID != img.ID {
		t.Error("an uncompressed layer is another")
	}
}

// A layer without an entry for the root directory leaves it as the layer below has it.
func TestRootMode(t *testing.T) {
	s := newStore(t)
	img := put(t, s, fetchedOf(t, "localhost/x:latest",
		layerOf(t, inTar{name: "./", mode: 0o1711}), layerOf(t, inTar{name: "x"}), layerOf(t, inTar{name: "./", mode: 0o755})))
	for i, want := range []os.FileMode{0o755, os.ModeSticky | 0o711, os.ModeSticky | 0o711} {
		if st, err := os.Stat(img.Layers[i]); err != nil || st.Mode() != os.ModeDir|want {
			t.Errorf("layer %d: %v, %v, want %v", i, st.Mode(), err, want)
		}
	}
}

// Removing needs root of the namespace, too: a directory of somebody else's.
func TestRemoveForeign(t *testing.T) {
	s := newStore(t)
	put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "a/", mode: 0o700, uid: 1000}, inTar{name: "a/b/", mode: 0o1000, uid: 65534}, inTar{name: "a/b/c", uid: 7})))
	if _, _, err := s.Remove("localhost/x:latest", false); err != nil {
		t.Fatal(err)
	}
	if left := s.layers(t); len(left) > 0 {
		t.Error("left behind:", left)
	}
}

func TestDirectoryModes(t *testing.T) {
	s := newStore(t)
	old := unix.Umask(0)
	defer unix.Umask(old)
	put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, inTar{name: "x"})))
	for _, dir := range []string{"", "storage", "staging", "index", "run"} {
		if st, err := os.Stat(s.path(dir)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, st.Mode(), err)
		}
	}
}
