//go:build !hot

package fuseoverlay

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTogether: many do the same at once, in the same places. Nothing is held to an answer, but that there
// is one, that the server lives, and that what it has left is what the kernel's overlay finds, too.
func TestTogether(t *testing.T) {
	s := newStack(t, 2)
	seed(t, s)
	s.mount(t)
	var all sync.WaitGroup
	for i := range uint64(8) {
		all.Go(func() {
			for _, o := range random(rand.New(rand.NewPCG(i, 99)), 1500) {
				o.do(s.mnt)
			}
		})
	}
	all.Wait()
	after, err := tree(s.mnt)
	if err != nil {
		t.Fatal(err)
	}
	s.unmount()
	kernelMount(t, s)
	found, err := tree(s.mnt)
	if d := diff(after, found); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

// TestCopyUpRace: whoever writes to a file while others do, and while it is read, renamed and deleted, finds one
// file, with all of what was written.
func TestCopyUpRace(t *testing.T) {
	s := newStack(t, 1)
	for i := range 40 {
		if err := os.WriteFile(fmt.Sprint(s.lower[0], "/f", i), bytes.Repeat([]byte("."), 300<<10), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.mount(t)
	for i := range 40 {
		path := fmt.Sprint(s.mnt, "/f", i)
		var all sync.WaitGroup
		for j := range 6 {
			all.Go(func() {
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					return // it is elsewhere already
				}
				defer f.Close()
				if _, err := f.WriteAt([]byte{byte('a' + j)}, int64(j)*50000); err != nil {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if err := os.Rename(path, path+"-moved"); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			text, err := os.ReadFile(path)
			if err == nil && len(text) != 300<<10 {
				t.Errorf("%d bytes", len(text))
			}
		})
		all.Wait()
		text, err := os.ReadFile(path + "-moved")
		if err != nil || len(text) != 300<<10 {
			t.Fatalf("%d bytes: %v", len(text), err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// TestReadWhileChanging: a listing that is read while names come and go has each of those that stay, once.
func TestReadWhileChanging(t *testing.T) {
	s := newStack(t, 2)
	for i := range 3000 {
		for _, dir := range []string{s.lower[i%2], s.upper}[:1+i%2] {
			if err := os.WriteFile(fmt.Sprint(dir, "/stays", i), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.mount(t)
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprint(s.mnt, "/goes", i%50)
			_ = os.WriteFile(name, nil, 0o644)
			_ = os.Rename(name, fmt.Sprint(s.mnt, "/goes", (i+7)%50))
			_ = os.Remove(name)
		}
	})
	for range 10 {
		dir, err := os.Open(s.mnt)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for {
			names, err := dir.Readdirnames(100)
			for _, name := range names {
				seen[name]++
			}
			if err != nil {
				break
			}
		}
		dir.Close()
		for i := range 3000 {
			if n := seen[fmt.Sprint("stays", i)]; n != 1 {
				t.Fatalf("stays%d is listed %d times", i, n)
			}
		}
	}
	close(stop)
	all.Wait()
}

// TestKill: a server that is killed while it copies up leaves the old file or the new one.
func TestKill(t *testing.T) {
	s := newStack(t, 1)
	s.volatile = true
	const size = 8 << 20
	before, after := bytes.Repeat([]byte("old!"), size/4), append([]byte("new!"), bytes.Repeat([]byte("old!"), size/4-1)...)
	if err := os.WriteFile(s.lower[0]+"/f", before, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(s.lower[0]+"/f", time.Unix(1e8, 0), time.Unix(1e8, 0)); err != nil {
		t.Fatal(err)
	}
	old, whole := 0, 0
	for i := range 40 {
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			f, err := os.OpenFile(s.mnt+"/f", os.O_WRONLY, 0)
			if err == nil {
				_, err = f.Write([]byte("new!"))
				f.Close()
			}
			done <- err
		}()
		time.Sleep(time.Duration(i) * 250 * time.Microsecond)
		_ = s.server.Process.Kill()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) && !errors.Is(err, unix.EIO) {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("whoever wrote hangs when the server is dead")
		}
		_ = s.server.Wait()
		if _, err := os.ReadFile(s.mnt + "/f"); !errors.Is(err, unix.ENOTCONN) {
			t.Fatalf("a dead server answers %v", err)
		}
		s.server = nil
		if err := unix.Unmount(s.mnt, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		// What is there now is what the next one finds.
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(s.mnt + "/f")
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Lstat(s.mnt+"/f", &st); err != nil || st.Mode&0o7777 != 0o640 {
			t.Fatalf("mode %o: %v", st.Mode, err)
		}
		switch {
		case bytes.Equal(text, before):
			old++
		case bytes.Equal(text, after):
			whole++
		default:
			t.Fatalf("neither the old file nor the new one: %d bytes", len(text))
		}
		s.unmount()
		if left, _ := filepath.Glob(s.work + "/work/*"); len(left) > 0 {
			t.Fatalf("left in the work directory: %v", left)
		}
		_ = os.Remove(s.upper + "/f")
	}
	t.Logf("%d times the old file, %d times the new one", old, whole)
	if old == 0 || whole == 0 {
		t.Log("not every case was met")
	}
}

// TestForget: what the kernel has forgotten takes no descriptors, and can be found again.
func TestForget(t *testing.T) {
	s := newStack(t, 1)
	sh(t, s.lower[0], `for d in $(seq 50); do mkdir d$d; for f in $(seq 20); do echo $f > d$d/f$f; done; done`)
	s.mount(t)
	open := func() int {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.server.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	first := open()
	const look = `find . -type f -exec cat {} + | wc -l; echo x >> d1/f1; rm d2/f1`
	sh(t, s.mnt, look)
	held := open()
	// Remounted, a file system forgets all that nobody uses, as when memory is short.
	for _, flag := range []uintptr{unix.MS_RDONLY, 0} {
		if err := unix.Mount("", s.mnt, "", unix.MS_REMOUNT|flag, ""); err != nil {
			t.Skip("remount: ", err)
		}
	}
	var after int
	for range 100 {
		if after = open(); after <= first+4 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if held < first+100 || after > first+4 {
		t.Errorf("descriptors: %d at first, %d after everything was read, %d when it was forgotten", first, held, after)
	}
	sh(t, s.mnt, `echo new > d2/f1`)
	if got := sh(t, s.mnt, look); got != "1001" {
		t.Errorf("%s lines, 1001 wanted", got)
	}
}

// TestNumbers: inode numbers are those of before a file was copied up, while it is known and afterwards; so are holes.
func TestNumbers(t *testing.T) {
	s := newStack(t, 2)
	sh(t, s.lower[1], `mkdir -p d/sub; echo 1 > d/f; truncate -s 4M d/holes; printf end >> d/holes; ln -s f d/l`)
	s.mount(t)
	stat := func(name string) unix.Stat_t {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(s.mnt+"/"+name, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	names := []string{"d", "d/sub", "d/f", "d/holes"}
	before := map[string]uint64{}
	for _, name := range names {
		before[name] = stat(name).Ino
	}
	check := func(when string) {
		t.Helper()
		entries, err := os.ReadDir(s.mnt + "/d")
		if err != nil || len(entries) != 4 {
			t.Fatal(entries, err)
		}
		for _, name := range names {
			if ino := stat(name).Ino; ino != before[name] {
				t.Errorf("%s, %s has number %d, not %d", when, name, ino, before[name])
			}
		}
	}
	sh(t, s.mnt, `echo 2 >> d/f; echo 2 >> d/holes; touch d/sub/new; mv d/f d/g; mv d/g d/f`)
	check("copied up")
	if st := stat("d/holes"); st.Blocks > 64 {
		t.Errorf("holes were filled: %d blocks", st.Blocks)
	}
	s.unmount()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	check("mounted again")
}

// TestLocks: of two processes, one waits or is refused; and a lock goes with who has it.
func TestLocks(t *testing.T) {
	s := newStack(t, 1)
	sh(t, s.lower[0], `echo > f`)
	s.mount(t)
	f, err := os.OpenFile(s.mnt+"/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, s.mnt, `flock -n f echo mine || echo refused`); got != "refused" {
		t.Error(got)
	}
	if _, err := f.WriteString("copied up meanwhile"); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, s.mnt, `flock -n f echo mine || echo refused`); got != "refused" {
		t.Error("after the copy up: ", got)
	}
	lock := &unix.Flock_t{Type: unix.F_WRLCK, Len: 10}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, lock); err != nil {
		t.Fatal(err)
	}
	g, err := os.OpenFile(s.mnt+"/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := unix.FcntlFlock(g.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 5, Len: 1}); err != unix.EAGAIN {
		t.Error(err)
	}
	f.Close()
	if got := sh(t, s.mnt, `flock -n f echo mine || echo refused`); got != "mine" {
		t.Error(got)
	}
}

// TestMmap: what is written to a mapping is in the file, also in one that was below.
func TestMmap(t *testing.T) {
	s := newStack(t, 1)
	if err := os.WriteFile(s.lower[0]+"/f", make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	s.mount(t)
	f, err := os.OpenFile(s.mnt+"/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	copy(m[500000:], "mapped")
	if err := unix.Msync(m, unix.MS_SYNC); err != nil {
		t.Fatal(err)
	}
	f.Close()
	text, err := os.ReadFile(s.upper + "/f")
	if err != nil || !bytes.Equal(text, m) {
		t.Errorf("%d bytes in the upper layer, which are others: %v", len(text), err)
	}
	if text, _ := os.ReadFile(s.lower[0] + "/f"); !bytes.Equal(text, make([]byte, 1<<20)) {
		t.Error("the lower layer has changed")
	}
	if err := unix.Munmap(m); err != nil {
		t.Fatal(err)
	}
}

// TestDeep: depth is not bounded by the length of a path, nor by a stack.
func TestDeep(t *testing.T) {
	s := newStack(t, 2)
	deep := func(top, do string) string {
		t.Helper()
		return sh(t, top, `perl -e 'for (1..1500) { mkdir "directory"; chdir "directory" or die "$_: $!" } exec "sh", "-ec", shift' '`+do+`'`)
	}
	deep(s.lower[1], `echo bottom > f`)
	deep(s.lower[0], `echo above > g`)
	s.mount(t)
	if got := deep(s.mnt, `cat f g; echo changed > f; echo new > h; rm g; ls; cat f`); got != "bottom\nabove\nf\nh\nchanged" {
		t.Error(got)
	}
	sh(t, s.mnt, `rm -r directory; ls`)
}
