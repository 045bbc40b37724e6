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

func TestCopyAndChown(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dirs := map[string]*os.File{}
	for _, name := range []string{"from", "to"} {
		path := filepath.Join(t.TempDir(), name)
		must(os.Mkdir(path, 0o750))
		dir, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY, 0)
		must(err)
		defer dir.Close()
		dirs[name] = dir
	}
	from, to := dirs["from"], dirs["to"]
	for i := range 2500 {
		must(os.WriteFile(filepath.Join(from.Name(), strconv.Itoa(i)), nil, 0o640))
	}
	must(os.Symlink("/not/there", from.Name()+"/link"))
	all := []userns.ID{{Size: 1 << 31}}
	c := copier{ids: userns.Map{UIDs: all, GIDs: all}}
	must(c.copyTree(from, to))
	names, err := os.ReadDir(to.Name())
	must(err)
	if len(names) != 2501 {
		t.Errorf("%d of 2501 names were copied", len(names))
	}
	me := owner{uint32(os.Getuid()), uint32(os.Getgid())}
	must(chownTree(to, me))

	deep, err := os.Open(t.TempDir())
	must(err)
	defer deep.Close()
	must(os.MkdirAll(deep.Name()+strings.Repeat("/d", maxDepth+1), 0o755))
	for what, err := range map[string]error{"copy": c.copyTree(deep, to), "chown": chownTree(deep, me)} {
		if err == nil || !strings.Contains(err.Error(), "directories deep") {
			t.Errorf("%s of a deep tree: %v", what, err)
		}
	}
}

func TestCopyOwner(t *testing.T) {
	ids := []userns.ID{{Inside: 0, Outside: 999, Size: 1}, {Inside: 1, Outside: 1, Size: 998}} // nomap
	c := copier{ids: userns.Map{UIDs: ids, GIDs: ids}, root: owner{999, 999}}
	for from, want := range map[uint32]uint32{0: 999, 1: 1, 998: 998, 999: 999, 1000: 999, 65534: 999} {
		if got := c.owner(&unix.Stat_t{Uid: from, Gid: from}); got != (owner{want, want}) {
			t.Errorf("%d became %v, not %d", from, got, want)
		}
	}
}
