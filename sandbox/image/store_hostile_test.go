//go:build !hot

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestHostileLayers puts layers into a store that try to reach a directory outside. Each
// is refused, with a message, or stays inside; the directory never changes.
func TestHostileLayers(t *testing.T) {
	s := newStore(t)
	outside := t.TempDir()
	writeFile(t, outside+"/sentinel", "untouched")
	if err := os.Chmod(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	before := fingerprint(t, outside)
	up := strings.Repeat("../", 20) + outside[1:]
	base := layerOf(t, inTar{name: "etc/"}, inTar{name: "etc/passwd", body: "root:x:0:0::/:/bin/sh\n"}, inTar{name: "d/"}, inTar{name: "d/f", body: "f"})
	const symlink, hardlink = tar.TypeSymlink, tar.TypeLink
	deep := strings.Repeat("a/", 300)
	for _, test := range []struct {
		name   string
		refuse string // in the message; "" is accepted
		layer  []inTar
	}{
		{"dotdot", "outside", []inTar{{name: "../../" + outside + "/x", body: "x"}}},
		{"many dotdots", "outside", []inTar{{name: up + "/x", body: "x"}}},
		{"dotdot within", "", []inTar{{name: "d/../x", body: "x"}}},
		{"absolute", "", []inTar{{name: outside + "/x", body: "x"}}},
		{"through an absolute symlink", "", []inTar{{name: "l", kind: symlink, link: outside}, {name: "l/x", body: "x"}}},
		{"through a relative symlink", "", []inTar{{name: "l", kind: symlink, link: up}, {name: "l/x", body: "x"}}},
		{"over a symlink", "", []inTar{{name: "l", kind: symlink, link: outside + "/sentinel"}, {name: "l", body: "x"}}},
		{"directory through a symlink", "", []inTar{{name: "l", kind: symlink, link: outside}, {name: "l/", mode: 0o700, uid: 5}}},
		{"hard link to the host", "", []inTar{{name: "etc/", mode: 0o755}, {name: "etc/passwd", body: "mine"}, {name: "h", kind: hardlink, link: "/etc/passwd"}}},
		{"hard link to a file that only the host has", "no such file", []inTar{{name: "h", kind: hardlink, link: outside + "/sentinel"}}},
		{"hard link upwards", "no such file", []inTar{{name: "h", kind: hardlink, link: "../../" + outside + "/sentinel"}}},
		{"hard link through a symlink", "no such file", []inTar{{name: "l", kind: symlink, link: outside}, {name: "h", kind: hardlink, link: "l/sentinel"}}},
		{"hard link onto a symlink", "", []inTar{{name: "l", kind: symlink, link: outside + "/sentinel"}, {name: "h", kind: hardlink, link: "l"}, {name: "h", mode: 0o666}}},
		{"root is a symlink", "root", []inTar{{name: ".", kind: symlink, link: outside}}},
		{"root is a file", "root", []inTar{{name: "."}}},
		{"whiteout of nothing", "whiteout", []inTar{{name: ".wh."}}},
		{"whiteout of itself", "whiteout", []inTar{{name: "d/.wh.."}}},
		{"whiteout upwards", "whiteout", []inTar{{name: "d/.wh..."}}},
		{"whiteout upwards, and a dot", "whiteout", []inTar{{name: ".wh.../.", body: "x"}}},
		{"whiteout upwards, there and back", "whiteout", []inTar{{name: "d/.wh.../x/..", body: "x"}}},
		{"whiteout of itself, and a dot", "whiteout", []inTar{{name: "d/.wh.././"}}},
		{"deeper by each link", "directories deep", deeper()},
		{"a link to itself", "too many levels", []inTar{{name: "l", kind: symlink, link: "l"}, {name: "l/x"}}},
		{"whiteout through a symlink", "through a symlink", []inTar{{name: "l", kind: symlink, link: outside}, {name: "l/.wh.sentinel"}}},
		{"opaque through a symlink", "through a symlink", []inTar{{name: "l", kind: symlink, link: outside}, {name: "l/.wh..wh..opq"}}},
		{"whiteout through a symlink within", "through a symlink", []inTar{{name: "bin/"}, {name: "bin/sh", body: "x"}, {name: "s", kind: symlink, link: "/bin"}, {name: "s/.wh.sh"}}},
		{"whiteout below a symlink", "through a symlink", []inTar{{name: "bin/a/"}, {name: "s", kind: symlink, link: "bin"}, {name: "s/a/.wh.b"}}},
		{"whiteout in a directory", "", []inTar{{name: "d/.wh.f"}, {name: "e/.wh..wh..opq"}}},
		{"device nodes", "", []inTar{{name: "dev/"}, {name: "dev/sda", kind: tar.TypeBlock}, {name: "dev/null", kind: tar.TypeChar}, {name: "dev/white", kind: tar.TypeChar}}},
		{"fifo for a file", "", []inTar{{name: "etc/"}, {name: "etc/passwd", kind: tar.TypeFifo}}},
		{"setuid", "", []inTar{{name: "su", body: "#!", mode: 0o4755}}},
		{"name that is not UTF-8", "", []inTar{{name: "a\xff\xfe", body: "x"}}},
		{"component too long", "component", []inTar{{name: strings.Repeat("a", 300), body: "x"}}},
		{"path too long", "path of more", []inTar{{name: strings.Repeat(strings.Repeat("a", 100)+"/", 50), body: ""}}},
		{"too deep", "components", []inTar{{name: deep}}},
		{"special directories as symlinks", "", []inTar{{name: "dev", kind: symlink, link: outside}, {name: "proc", kind: symlink, link: "/"}, {name: "sys", kind: symlink, link: "/proc/self/root"}}},
		{"file, directory, file", "", []inTar{{name: "x"}, {name: "x/"}, {name: "x"}}},
		{"a file with contents twice", "more than once", []inTar{{name: "x", body: "1"}, {name: "x", body: "2"}}},
		{"hard link, then overwritten", "more than once", []inTar{{name: "x", body: "1"}, {name: "y", kind: hardlink, link: "x"}, {name: "x", body: "2"}}},
		{"mode 0 with children", "", []inTar{{name: "z/", mode: 0o1000}, {name: "z/x", body: "x"}}},
		{"attribute too long", "attribute", []inTar{{name: "x", xattr: map[string]string{"user.a": strings.Repeat("a", 1<<16+1)}}}},
		{"no entry", "", nil},
		{"upper and lower case", "", []inTar{{name: "x", body: "1"}, {name: "X", body: "2"}}},
		{"unmapped id", "user 70000", []inTar{{name: "x", uid: 70000}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := fetchedOf(t, "localhost/hostile:latest", base, layerOf(t, test.layer...))
			img, err := s.Put(context.Background(), f)
			if err == nil {
				img.Lock.Close()
			}
			if (err == nil) != (test.refuse == "") || err != nil && !strings.Contains(strings.ToLower(err.Error()), test.refuse) {
				t.Errorf("got %v, want %q", err, test.refuse)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if after := fingerprint(t, outside); after != before {
				t.Fatalf("outside was changed:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// deeper are short paths through links, each of which leads further down than a path can.
func deeper() []inTar {
	files := []inTar{{name: "s", kind: tar.TypeSymlink, link: strings.Repeat("a/", 1900)}}
	for i := 2; i < 12; i++ {
		files = append(files, inTar{name: strings.Repeat("s/", i-1) + "s", kind: tar.TypeSymlink, link: strings.Repeat("a/", 1900)})
	}
	return append(files, inTar{name: strings.Repeat("s/", 12) + "x"})
}

// fingerprint tells of everything in a directory that a layer could change.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), st.Mtim, st.Ctim, st.Uid, st.Gid, st.Nlink)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// rawHeader is a tar header that no writer would make.
func rawHeader(name string, kind byte, size int64) []byte {
	b := make([]byte, blockSize)
	copy(b, name)
	copy(b[100:], "0000644\x00")
	copy(b[108:], "0000000\x00")
	copy(b[116:], "0000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000000\x00")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	return sum(b)
}

// sum sets the checksum.
func sum(b []byte) []byte {
	copy(b[148:], "        ")
	total := 0
	for _, c := range b {
		total += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", total))
	return b
}

// fetchedBlob is an image of one layer, given as it travels.
func fetchedBlob(t *testing.T, blob []byte, diffID digest.Digest) *Fetched {
	t.Helper()
	f := fetchedOf(t, "localhost/bomb:latest")
	file := filepath.Join(t.TempDir(), "blob")
	writeFile(t, file, string(blob))
	var config v1.Image
	config.RootFS.DiffIDs = []digest.Digest{diffID}
	f.Layers = []Layer{{Digest: digest.FromBytes(blob), DiffID: diffID, Size: int64(len(blob)), Open: func(context.Context) (*os.File, error) { return os.Open(file) }}}
	f.setConfig(t, config, v1.Manifest{})
	return f
}

// zeros are gzip members of n times 64 MiB, made once.
func zeros(t *testing.T, n int) []byte {
	t.Helper()
	var member bytes.Buffer
	w := gzip.NewWriter(&member)
	chunk := make([]byte, 1<<20)
	for range 64 {
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.Repeat(member.Bytes(), n)
}

// TestBombs puts layers into a store that want more than a machine has. They are refused
// with the limit they break, in little memory (TestMain sets a limit), and leave nothing.
func TestBombs(t *testing.T) {
	s := newStore(t)
	gnuSparse := func() []byte {
		b := rawHeader("sparse", 'S', 0)
		copy(b[257:], "ustar  \x00")
		copy(b[483:], "00000002000\x00")
		b[482] = 1
		extension := bytes.Repeat([]byte("00000000000\x0000000000001\x00"), 21)
		extension = append(extension, 1)
		extension = append(extension, make([]byte, blockSize-len(extension))...)
		return append(sum(b), bytes.Repeat(extension, 100_000)...)
	}
	paxSparse := func() []byte {
		var body []byte
		for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=x", "GNU.sparse.realsize=1099511627776"} {
			body = fmt.Appendf(body, "%d %s\n", len(r)+4, r)
		}
		b := append(rawHeader("p", tar.TypeXHeader, int64(len(body))), body...)
		b = append(b, make([]byte, blockSize-len(body))...)
		return append(b, rawHeader("x", tar.TypeReg, blockSize)...)
	}
	for _, test := range []struct {
		name, want string
		blob       func() []byte
	}{
		{"10 GiB of zeros", "1000 times", func() []byte {
			return append(gz(t, rawHeader("zeros", tar.TypeReg, 10<<30-1)), zeros(t, 160)...)
		}},
		{"old GNU sparse map", "sparse", func() []byte { return gz(t, gnuSparse()) }},
		{"PAX sparse file", "sparse", func() []byte { return gz(t, paxSparse()) }},
		{"GNU long name of 1 GiB", "extended header", func() []byte { return append(gz(t, rawHeader("x", tar.TypeGNULongName, 1<<30)), zeros(t, 16)...) }},
		{"PAX header of 1 GiB", "extended header", func() []byte { return append(gz(t, rawHeader("x", tar.TypeXHeader, 1<<30)), zeros(t, 16)...) }},
		{"headers without an entry", "before one entry", func() []byte {
			long := append(rawHeader("x", tar.TypeGNULongName, 512), bytes.Repeat([]byte("a"), 512)...)
			return gz(t, bytes.Repeat(long, 5000))
		}},
		{"much after the end", "after the end", func() []byte { return zeros(t, 4) }},
		{"truncated", "unexpected eof", func() []byte {
			b := gz(t, layerOf(t, inTar{name: "x", body: strings.Repeat("x", 10000)}))
			return b[:len(b)-20]
		}},
		{"not a tar", "invalid tar header", func() []byte { return gz(t, bytes.Repeat([]byte("hello"), 1000)) }},
		{"zstd window of 2 GiB", "window", func() []byte { return []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 1, 0, 0} }},
		{"bzip2", "compressed with bzip2: a layer is gzip, zstd or a plain tar", func() []byte { return []byte("BZh91AY&SY") }},
		{"xz", "compressed with xz: a layer is gzip, zstd or a plain tar", func() []byte { return []byte("\xfd7zXZ\x00\x00\x00") }},
		{"another layer than was promised", "the contents are sha256:", func() []byte { return gz(t, layerOf(t, inTar{name: "x"})) }},
		{"unknown kind of entry", "unknown kind", func() []byte { return gz(t, rawHeader("x", 'V', 0)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Put(context.Background(), fetchedBlob(t, test.blob(), digestAt(1)))
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			left, rerr := os.ReadDir(s.path("staging"))
			if rerr != nil || len(left) > 0 {
				t.Errorf("left in staging: %v, %v", left, rerr)
			}
		})
	}
	if list, err := s.List(); err != nil || len(list) > 0 || len(s.layers(t)) > 0 {
		t.Errorf("images: %v, %v; layers: %v", list, err, s.layers(t))
	}
}

func readLayer(layer []byte) *layerReader {
	return newLayerReader(newReadAhead(bytes.NewReader(layer)), io.Discard)
}

// TestLimits counts entries, without unpacking them.
func TestLimits(t *testing.T) {
	for kind, want := range map[byte]string{tar.TypeReg: "2000000 entries", tar.TypeDir: "500000 directories"} {
		l := readLayer(bytes.Repeat(rawHeader("x", kind, 0), 11))
		l.entries, l.dirs = maxLayerEntries-10, maxDirs-10
		if kind == tar.TypeDir {
			l.entries = 0
		}
		n := 0
		_, err := l.next()
		for ; err == nil; n++ {
			_, err = l.next()
		}
		if !strings.Contains(err.Error(), want) || n != 10 {
			t.Errorf("%c: %d, %v, want %q", kind, n, err, want)
		}
	}
	pax := layerOf(t, inTar{name: "x", xattr: map[string]string{"user.a": "b"}})
	huge := bytes.Replace(pax, []byte("30 SCHILY.xattr.user.a=b"), []byte("30 size=9999999999999999"), 1)
	huge = bytes.Replace(huge, []byte("25 SCHILY.xattr.user.a=b"), []byte("25 size=9999999999999999"), 1)
	if _, err := readLayer(huge).next(); err == nil || !strings.Contains(err.Error(), "more than 21474836480") {
		t.Errorf("a file of 10 PB: %v", err)
	}
}
