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
	"time"

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

// defaultACL lets everybody, and user 12345, do everything with what is made in a directory.
const defaultACL = "\x02\x00\x00\x00" + // acl(5), linux/posix_acl_xattr.h
	"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\x39\x30\x00\x00" +
	"\x04\x00\x07\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x07\x00\xff\xff\xff\xff"

// TestLayerTree looks at what layers become, where one entry meets another.
func TestLayerTree(t *testing.T) {
	const symlink, hardlink = tar.TypeSymlink, tar.TypeLink
	capability := map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	s := newStore(t)
	for _, test := range []struct {
		name  string
		layer []inTar
		want  string // kind, mode, owner, links, name; then who has attributes
	}{
		{"a directory after its whiteout hides the one below", []inTar{{name: ".wh.d"}, {name: "d/"}, {name: "d/new"}},
			"d 755 0:0 2 d; f 755 0:0 1 d/new; d: user.overlay.opaque"},
		{"and before it", []inTar{{name: "d/"}, {name: "d/new"}, {name: ".wh.d"}},
			"d 755 0:0 2 d; f 755 0:0 1 d/new; d: user.overlay.opaque"},
		{"a file after its whiteout, and before it", []inTar{{name: ".wh.a"}, {name: "a"}, {name: "b"}, {name: ".wh.b"}},
			"f 755 0:0 1 a; f 755 0:0 1 b"},
		{"whiteouts in what is one", []inTar{{name: ".wh.a"}, {name: "a/.wh.b"}, {name: "a/b/.wh..wh..opq"}}, "c 0 0:0 1 a"},
		{"a whiteout in a directory that only lies below", []inTar{{name: "a/b/.wh.c"}}, "d 755 0:0 3 a; d 755 0:0 2 a/b; c 0 0:0 1 a/b/c"},
		{"notes of aufs", []inTar{{name: ".wh..wh.aufs"}, {name: ".wh..wh.plnk/"}, {name: "a"}}, "f 755 0:0 1 a"},
		{"a directory twice", []inTar{{name: "d/", mode: 0o700}, {name: "d/x"}, {name: "d/", mode: 0o2775, gid: 5}, {name: "d/y"}},
			"d 2775 0:5 2 d; f 755 0:0 1 d/x; f 755 0:0 1 d/y"},
		{"a directory for a file, and a file for a directory", []inTar{{name: "a"}, {name: "a/"}, {name: "a/x"}, {name: "b/"}, {name: "b/x/"}, {name: "b/x/y"}, {name: "b"}},
			"d 755 0:0 2 a; f 755 0:0 1 a/x; f 755 0:0 1 b"},
		{"a directory changes under the one in hand", []inTar{{name: "a/"}, {name: "a/x/"}, {name: "a/x/1"}, {name: "a", kind: symlink, link: "b"}, {name: "b/x/"}, {name: "a/x/2"}},
			"l 777 0:0 1 a; d 755 0:0 3 b; d 755 0:0 2 b/x; f 755 0:0 1 b/x/2"},
		{"through links to nothing", []inTar{{name: "run", kind: symlink, link: "/var/run"}, {name: "var/"}, {name: "var/run", kind: symlink, link: "../new/run"}, {name: "run/x/y"}},
			"d 755 0:0 3 new; d 755 0:0 3 new/run; d 755 0:0 2 new/run/x; f 755 0:0 1 new/run/x/y; l 777 0:0 1 run; d 755 0:0 2 var; l 777 0:0 1 var/run"},
		{"modes and owners", []inTar{{name: "su", mode: 0o4777, uid: 3, gid: 4}, {name: "w", mode: 0o666}, {name: "none", mode: 0o1000}, {name: "p", kind: tar.TypeFifo, mode: 0o622, uid: 3},
			{name: "l", kind: symlink, link: "su", uid: 3, gid: 4}, {name: "t/", mode: 0o1777, uid: 3}},
			"l 777 3:4 1 l; f 1000 0:0 1 none; p 622 3:0 1 p; f 4777 3:4 1 su; d 1777 3:0 2 t; f 666 0:0 1 w"},
		{"a second name takes nothing from the file", []inTar{{name: "a", uid: 5, mode: 0o700, xattr: capability}, {name: "b", kind: hardlink, link: "a", uid: 5, mode: 0o700}, {name: "c/d", kind: hardlink, link: "../../b", uid: 5, mode: 0o700}},
			"f 700 5:0 3 a; f 700 5:0 3 b; d 755 0:0 2 c; f 700 5:0 3 c/d; a: security.capability; b: security.capability; c/d: security.capability"},
		{"what it says is the last word", []inTar{{name: "a", uid: 5, mode: 0o700}, {name: "b", kind: hardlink, link: "a", uid: 7, mode: 0o4755}},
			"f 4755 7:0 2 a; f 4755 7:0 2 b"},
		{"the root directory changes its group", []inTar{{name: "a"}, {name: "./", mode: 0o2755, gid: 5}, {name: "su", mode: 0o2755}, {name: "i/x"}},
			"f 755 0:0 1 a; d 2755 0:0 2 i; f 755 0:0 1 i/x; f 2755 0:0 1 su"},
		{"a link to nothing below a link", []inTar{{name: "usr/lib/"}, {name: "lib", kind: symlink, link: "usr/lib"}, {name: "usr/lib/foo", kind: symlink, link: "../share/foo"}, {name: "lib/foo/bar"}},
			"l 777 0:0 1 lib; d 755 0:0 4 usr; d 755 0:0 2 usr/lib; l 777 0:0 1 usr/lib/foo; d 755 0:0 3 usr/share; d 755 0:0 2 usr/share/foo; f 755 0:0 1 usr/share/foo/bar"},
		{"upwards out of a link", []inTar{{name: "a/b/"}, {name: "l", kind: symlink, link: "/a/b/../../../.."}, {name: "l/x"}}, "d 755 0:0 3 a; d 755 0:0 2 a/b; l 777 0:0 1 l; f 755 0:0 1 x"},
		{"the caller's default list is not the layer's", []inTar{{name: "d/"}, {name: "d/x", mode: 0o644}}, "d 755 0:0 2 d; f 644 0:0 1 d/x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := s.prepare(); err != nil {
				t.Fatal(err)
			}
			if err := unix.Setxattr(s.path("staging"), "system.posix_acl_default", []byte(defaultACL), 0); err != nil {
				t.Fatal(err)
			}
			img := put(t, s, fetchedOf(t, "localhost/x:latest", layerOf(t, test.layer...)))
			got := asRoot(t, "sh", "-ec", `cd "$1"; find . -mindepth 1 -printf '%y %m %U:%G %n %P\n' | sort -k5
				getfattr -hR -d -m - . 2>/dev/null | sed -n 's/^# file: //p; s/=.*//p' | sed 'N; s/\n/: /' | sort`, "sh", img.Layers[0])
			if got = strings.ReplaceAll(strings.TrimSpace(got), "\n", "; "); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestLayerTimes: of directories too, which change whenever something is made in them.
func TestLayerTimes(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	at := time.Unix(1_000_000_000, 123456789)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir}, {Name: "d/f", Typeflag: tar.TypeReg}, {Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "f"},
		{Name: "d/p", Typeflag: tar.TypeFifo}, {Name: "gone/", Typeflag: tar.TypeDir}, {Name: "gone", Typeflag: tar.TypeReg},
	} {
		h.ModTime, h.Mode, h.Format = at, 0o755, tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := newStore(t)
	img := put(t, s, fetchedOf(t, "localhost/x:latest", b.Bytes()))
	for _, name := range []string{"d", "d/f", "d/l", "d/p", "gone"} {
		st, err := os.Lstat(img.Layers[0] + "/" + name)
		if err != nil {
			t.Error(err)
		} else if !st.ModTime().Equal(at) {
			t.Errorf("%s: %v", name, st.ModTime())
		}
	}
}
