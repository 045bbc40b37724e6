package sandbox

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// hostileTree makes a root whose links try to lead out of it, beside a directory that
// nothing may touch.
func hostileTree(t *testing.T) (tree, string) {
	t.Helper()
	top := t.TempDir()
	sentinel := filepath.Join(top, "sentinel")
	root := filepath.Join(top, "root")
	for _, dir := range []string{sentinel, root, root + "/real"} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"absolute": sentinel, "up": "../../../../../../../../" + sentinel, "loop": "loop", "dangling": "/not/there",
		"relative": "real", "self": "/proc/self/root", "cwd": "/proc/1/cwd", "file": "/nothing", "chain": "absolute/x",
	} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	t.Cleanup(func() {
		if names, err := os.ReadDir(sentinel); err != nil || len(names) > 0 {
			t.Errorf("the sentinel was touched: %v, %v", names, err)
		}
	})
	return tree{dir: dir}, root
}

func TestTreeStaysInside(t *testing.T) {
	tr, root := hostileTree(t)
	for _, dst := range []string{
		"/absolute/a", "/up/b", "/dangling/c", "/relative/d", "/self/e", "/cwd/f", "/chain/g", "/../../h", "/new/deep/er", "/absolute", "/chain",
	} {
		dir, err := tr.directory(dst, 0o755)
		if err != nil {
			t.Errorf("%s: %v", dst, err)
			continue
		}
		at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())))
		if err != nil || at != root && !strings.HasPrefix(at, root+"/") {
			t.Errorf("%s led to %s, %v", dst, at, err)
		}
		dir.Close()
	}
	for _, dst := range []string{"/absolute/x1", "/file", "/dangling/file", "/relative/file", "/etc/hosts"} {
		f, err := tr.file(dst)
		if err != nil {
			t.Errorf("%s: %v", dst, err)
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			t.Errorf("%s is no file: %o, %v", dst, st.Mode, err)
		}
		f.Close()
	}
	for _, dst := range []string{"/loop/a", "/loop"} {
		if f, err := tr.directory(dst, 0o755); err == nil {
			t.Errorf("%s: found %s", dst, f.Name())
		}
	}
}

// TestTreeRead reads what an image may have put in place of a small file.
func TestTreeRead(t *testing.T) {
	tr, root := hostileTree(t)
	if err := os.Mkdir(root+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(root+"/etc/fifo", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/etc/good", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	big, err := os.Create(root + "/etc/big")
	if err != nil {
		t.Fatal(err)
	}
	if err := big.Truncate(2 << 30); err != nil {
		t.Fatal(err)
	}
	big.Close()
	for name, want := range map[string]bool{"good": true, "missing": true, "fifo": false, "big": false} {
		if _, err := tr.read("/etc/" + name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tr.read("/loop"); err == nil {
		t.Error("a loop was read")
	}
}

func TestPlaces(t *testing.T) {
	top := t.TempDir()
	var layers []*os.File
	for _, name := range []string{"upper", "lower"} {
		if err := os.MkdirAll(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(top+"/upper/etc", 0o711))
	must(os.Mkdir(top+"/lower/etc", 0o755))
	must(os.WriteFile(top+"/lower/etc/hosts", nil, 0o644))
	must(os.Symlink("etc", top+"/upper/run"))
	must(os.Mkdir(top+"/lower/proc", 0o755))
	must(os.Mkdir(top+"/tmpfs", 0o755))
	for _, name := range []string{"upper", "lower"} {
		dir, err := os.Open(filepath.Join(top, name))
		must(err)
		defer dir.Close()
		layers = append(layers, dir)
	}
	tmpfs, err := os.Open(top + "/tmpfs")
	must(err)
	defer tmpfs.Close()
	b := &base{tmpfs: tmpfs}
	all := []userns.ID{{Size: 1 << 31}}
	const dir, file = unix.S_IFDIR | 0o755, unix.S_IFREG | 0o644
	places, err := b.placesLayer(copier{ids: userns.Map{UIDs: all, GIDs: all}}, layers, []place{
		{"/proc", dir}, {"/sys", dir}, {"/etc/hosts", file}, {"/etc/hostname", file},
		{"/run/.containerenv", file}, {"/a/b/c", dir}, {"/new/dir", dir}, {"/", dir},
	})
	must(err)
	defer places.Close()
	for name, want := range map[string]bool{
		"sys": true, "etc/hostname": true, "new/dir": true, "proc": false, "etc/hosts": false, "run": false, "a": false,
	} {
		if _, err := os.Lstat(filepath.Join(top, "tmpfs", "places1", name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st, err := os.Stat(top + "/tmpfs/places1/etc"); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("etc does not look like the image's: %v, %v", st, err)
	}
}
