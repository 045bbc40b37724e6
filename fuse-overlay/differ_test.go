//go:build !hot

package fuseoverlay

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A peer mounts a stack in its own way.
type peer struct {
	name  string
	mount func(t testing.TB, s *stack)
}

func kernelMount(t testing.TB, s *stack) {
	t.Helper()
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr", strings.Join(s.lower, ":"), s.upper, s.work)
	if err := unix.Mount("overlay", s.mnt, "overlay", 0, options); err != nil {
		t.Skipf("the kernel's overlay: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(s.mnt, unix.MNT_DETACH) })
}

func fuseOverlayfsMount(t testing.TB, s *stack) {
	t.Helper()
	program, err := exec.LookPath("fuse-overlayfs")
	if err != nil {
		t.Skip("no fuse-overlayfs")
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(s.lower, ":"), s.upper, s.work)
	if out, err := exec.Command(program, "-o", options, s.mnt).CombinedOutput(); err != nil {
		t.Fatalf("fuse-overlayfs: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(s.mnt, unix.MNT_DETACH) })
}

func peers() []peer {
	return []peer{
		{"kernel", kernelMount},
		{"ours", func(t testing.TB, s *stack) { s.mount(t) }},
		{"fuse-overlayfs", fuseOverlayfsMount},
	}
}

// seed fills two lower layers with one of everything.
func seed(t testing.TB, s *stack) {
	t.Helper()
	sh(t, s.lower[1], `
		umask 022
		mkdir -p d/e/f only/below both/sub both/gone opaque/x empty mode sgid
		for i in 1 2 3 4; do echo file $i > d/f$i; echo deep $i > d/e/g$i; echo both $i > both/b$i; done
		echo under > opaque/x/hidden; echo gone > both/gone/inside
		ln -s f1 d/link; ln -s nowhere dangling; ln d/f4 d/f4-too; mkfifo pipe
		echo secret > mode/secret; chmod 600 mode/secret; echo suid > mode/suid; chmod 4755 mode/suid; chmod 2755 sgid
		chown 1000:1001 mode/secret; chown -h 1000:1001 dangling
		setfattr -n user.colour -v blue d/f2; setfattr -n user.shape -v round d/e
		printf x > big; truncate -s 1M big; printf end >> big
		touch -d 2001-02-03T04:05:06Z d/f1 d/e both
		setfacl -m u:1005:rw d/f3; mkdir acl; setfacl -d -m u:1006:rwx acl`)
	sh(t, s.lower[0], `
		umask 022
		mkdir -p both/sub opaque only
		echo above > both/b1; echo new > both/new; mknod both/b2 c 0 0; mknod both/gone c 0 0
		setfattr -n user.overlay.opaque -v y opaque; echo clear > opaque/seen
		echo file now > d; rm d; mkdir d; echo top > d/top
		touch -d 2002-02-03T04:05:06Z both/new opaque/seen`)
}

// op is one file operation; what it says is the errno, or what has been seen.
type op struct {
	name string
	args []string
}

func (o op) String() string { return o.name + " " + strings.Join(o.args, " ") }

func ops(script string) []op {
	var list []op
	for line := range strings.Lines(script) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			list = append(list, op{words[0], words[1:]})
		}
	}
	return list
}

func octal(s string) uint32 {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil {
		panic(err)
	}
	return uint32(n)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// do does it under top.
func (o op) do(top string) string {
	at := func(i int) string {
		if strings.HasPrefix(o.args[i], "LONG") { // a name of so many bytes
			return filepath.Join(top, strings.Repeat("n", number(o.args[i][4:])))
		}
		return top + "/" + o.args[i]
	}
	open := func(i, flags int, mode uint32, use func(fd int) error) error {
		fd, err := unix.Open(at(i), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, mode)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return use(fd)
	}
	write := func(text string) func(int) error {
		return func(fd int) error {
			_, err := unix.Write(fd, []byte(text))
			return err
		}
	}
	nothing := func(int) error { return nil }
	var seen string
	var err error
	switch o.name {
	case "mkdir":
		err = unix.Mkdir(at(0), octal(o.args[1]))
	case "rmdir":
		err = unix.Rmdir(at(0))
	case "unlink":
		err = unix.Unlink(at(0))
	case "create":
		err = open(0, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, octal(o.args[1]), write("created"))
	case "write": // over the beginning
		err = open(0, unix.O_CREAT|unix.O_WRONLY, 0o644, write(o.args[1]))
	case "append":
		err = open(0, unix.O_APPEND|unix.O_WRONLY, 0, write(o.args[1]))
	case "trunc":
		err = open(0, unix.O_TRUNC|unix.O_WRONLY, 0, write(o.args[1]))
	case "open":
		err = open(0, unix.O_RDONLY, 0, nothing)
	case "opendir":
		err = open(0, unix.O_RDONLY|unix.O_DIRECTORY, 0, nothing)
	case "nofollow":
		err = open(0, unix.O_RDONLY|unix.O_NOFOLLOW, 0, nothing)
	case "read":
		err = open(0, unix.O_RDONLY, 0, func(fd int) error { // a FIFO does not wait
			text := make([]byte, 2<<20)
			n, err := unix.Read(fd, text)
			seen = fmt.Sprintf("%d bytes %.8x", n, sha256.Sum256(text[:max(n, 0)]))
			return err
		})
	case "truncate":
		err = unix.Truncate(at(0), int64(number(o.args[1])))
	case "rename":
		err = unix.Rename(at(0), at(1))
	case "noreplace":
		err = unix.Renameat2(unix.AT_FDCWD, at(0), unix.AT_FDCWD, at(1), unix.RENAME_NOREPLACE)
	case "exchange":
		err = unix.Renameat2(unix.AT_FDCWD, at(0), unix.AT_FDCWD, at(1), unix.RENAME_EXCHANGE)
	case "link":
		err = unix.Linkat(unix.AT_FDCWD, at(0), unix.AT_FDCWD, at(1), 0)
	case "symlink":
		err = unix.Symlink(o.args[0], at(1))
	case "readlink":
		seen, err = os.Readlink(at(0))
	case "mkfifo":
		err = unix.Mknod(at(0), unix.S_IFIFO|octal(o.args[1]), 0)
	case "mksock":
		err = unix.Mknod(at(0), unix.S_IFSOCK|octal(o.args[1]), 0)
	case "mknull":
		err = unix.Mknod(at(0), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	case "mkwhiteout":
		err = unix.Mknod(at(0), unix.S_IFCHR, 0)
	case "chmod":
		err = unix.Chmod(at(0), octal(o.args[1]))
	case "chown":
		err = unix.Lchown(at(0), number(o.args[1]), number(o.args[2]))
	case "utimes":
		ts := unix.Timespec{Sec: int64(number(o.args[1])), Nsec: 7}
		err = unix.UtimesNanoAt(unix.AT_FDCWD, at(0), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	case "setxattr":
		err = unix.Lsetxattr(at(0), o.args[1], []byte(o.args[2]), 0)
	case "createxattr":
		err = unix.Lsetxattr(at(0), o.args[1], []byte(o.args[2]), unix.XATTR_CREATE)
	case "getxattr":
		buf := make([]byte, 4096)
		var n int
		n, err = unix.Lgetxattr(at(0), o.args[1], buf)
		seen = string(buf[:max(n, 0)])
	case "removexattr":
		err = unix.Lremovexattr(at(0), o.args[1])
	case "fallocate":
		err = open(0, unix.O_RDWR, 0, func(fd int) error {
			return unix.Fallocate(fd, uint32(number(o.args[1])), int64(number(o.args[2])), int64(number(o.args[3])))
		})
	case "tmpfile": // and gives it a name
		err = open(0, unix.O_TMPFILE|unix.O_RDWR, 0o640, func(fd int) error {
			if err := write("tmpfile")(fd); err != nil {
				return err
			}
			return unix.Linkat(unix.AT_FDCWD, fmt.Sprint("/proc/self/fd/", fd), unix.AT_FDCWD, at(1), unix.AT_SYMLINK_FOLLOW)
		})
	case "orphan": // an open file goes on when its name is gone
		err = open(0, unix.O_RDWR, 0, func(fd int) error {
			if err := unix.Unlink(at(0)); err != nil {
				return err
			}
			if _, err := unix.Pwrite(fd, []byte("orphan"), 2); err != nil {
				return err
			}
			buf := make([]byte, 16)
			n, err := unix.Pread(fd, buf, 0)
			var st unix.Stat_t
			if err == nil {
				err = unix.Fstat(fd, &st)
			}
			seen = fmt.Sprintf("%q size %d links %d", buf[:max(n, 0)], st.Size, st.Nlink)
			return err
		})
	case "stat":
		var st unix.Stat_t
		err = unix.Lstat(at(0), &st)
		seen = fmt.Sprintf("%o %d:%d size %d", st.Mode, st.Uid, st.Gid, st.Size)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			seen = fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
		}
	case "list":
		var names []os.DirEntry
		names, err = os.ReadDir(at(0))
		for _, name := range names {
			seen += name.Name() + "/" + name.Type().String()[:1] + " "
		}
	case "as": // UID OP...
		id := uint32(number(o.args[0]))
		cmd := exec.Command("/proc/self/exe", append([]string{top}, o.args[1:]...)...)
		cmd.Args[0] = "overlay-op"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprint(err, string(out))
		}
		return string(out)
	default:
		panic(o.name)
	}
	if err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) {
			return unix.ErrnoName(errno)
		}
		return err.Error()
	}
	return "ok " + seen
}

// tree describes everything that can be seen.
func tree(top string) ([]string, error) {
	var lines []string
	inodes := map[uint64]string{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(top, path)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d", name, st.Mode, st.Uid, st.Gid)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d links %d %.8x", st.Size, st.Nlink, sha256.Sum256(text))
			if st.Mtim.Sec < 1e9 {
				line += fmt.Sprintf(" at %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
			}
			if st.Nlink > 1 {
				if other, seen := inodes[st.Ino]; seen {
					line += " same as " + other
				} else {
					inodes[st.Ino] = name
				}
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		case unix.S_IFDIR:
			if st.Mtim.Sec < 1e9 {
				line += fmt.Sprintf(" at %d.%d", st.Mtim.Sec, st.Mtim.Nsec)
			}
		}
		buf := make([]byte, 4096)
		if n, err := unix.Llistxattr(path, buf); err == nil {
			names := xattrNames(buf[:n])
			slices.Sort(names)
			for _, name := range names {
				value := make([]byte, 4096)
				n, err := unix.Lgetxattr(path, name, value)
				if err != nil {
					return err
				}
				line += fmt.Sprintf(" %s=%q", name, value[:n])
			}
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

func diff(a, b []string) string {
	var out bytes.Buffer
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintln(&out, "-", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintln(&out, "+", line)
		}
	}
	return out.String()
}

// compare runs the operations on each peer, and holds ours to the kernel's answers; and then whether each reads
// what any has left on disk.
func compare(t *testing.T, list []op) {
	type result struct {
		said, after []string
	}
	results := map[string]*result{}
	for _, p := range peers() {
		t.Run(p.name, func(t *testing.T) {
			s := newStack(t, 2)
			seed(t, s)
			r := &result{}
			func() {
				p.mount(t, s)
				for _, o := range list {
					r.said = append(r.said, o.do(s.mnt))
				}
				var err error
				if r.after, err = tree(s.mnt); err != nil && p.name == "fuse-overlayfs" {
					t.Skip("it shows what is not there: ", err)
				} else if err != nil {
					t.Fatal(err)
				}
				s.unmount()
				for unix.Unmount(s.mnt, 0) == nil {
				}
			}()
			results[p.name] = r
			for _, reader := range peers() {
				t.Run("read by "+reader.name, func(t *testing.T) {
					if p.name == "fuse-overlayfs" && reader.name == "kernel" {
						t.Skip("the kernel does not know its marks")
					}
					s := &stack{lower: s.lower, upper: s.upper, work: s.work, mnt: s.mnt}
					defer func() {
						s.unmount()
						for unix.Unmount(s.mnt, 0) == nil {
						}
					}()
					reader.mount(t, s)
					after, err := tree(s.mnt)
					if d := diff(r.after, after); err == nil && d == "" {
						return
					} else if p.name == "fuse-overlayfs" || reader.name == "fuse-overlayfs" {
						t.Logf("what %s left is read otherwise by %s: %v\n%s", p.name, reader.name, err, d) // not ours to mend
					} else {
						t.Errorf("what %s left is read otherwise by %s: %v\n%s", p.name, reader.name, err, d)
					}
				})
			}
		})
	}
	kernel, ours := results["kernel"], results["ours"]
	if kernel == nil || ours == nil {
		t.Skip("nothing to compare with")
	}
	for i, o := range list {
		if i < len(kernel.said) && i < len(ours.said) && kernel.said[i] != ours.said[i] {
			t.Errorf("%d: %s: the kernel says %q, we say %q", i, o, kernel.said[i], ours.said[i])
		}
	}
	if d := diff(kernel.after, ours.after); d != "" {
		t.Errorf("trees differ, - kernel, + ours:\n%s", d)
	}
	if other := results["fuse-overlayfs"]; other != nil {
		n := 0
		for i := range list {
			if i < len(other.said) && kernel.said[i] != other.said[i] {
				n++
				t.Logf("%d: %s: the kernel says %q, fuse-overlayfs %q", i, list[i], kernel.said[i], other.said[i])
			}
		}
		t.Logf("%d operations, %d of them otherwise on fuse-overlayfs", len(list), n)
	}
}

// TestScript: each operation by itself, and those that are known to be hard.
func TestScript(t *testing.T) { compare(t, ops(script)) }

// TestRandom: operations as they come, on few names.
func TestRandom(t *testing.T) {
	for i := range uint64(4) {
		t.Run(fmt.Sprint("seed ", i), func(t *testing.T) { compare(t, random(rand.New(rand.NewPCG(i, 4)), 400)) })
	}
}

func random(r *rand.Rand, n int) []op {
	dirs := []string{".", "d", "d/e", "both", "both/sub", "opaque", "only/below", "n1", "n1/n2", "d/e/f", "empty", "both/gone"}
	names := []string{"f1", "f2", "g1", "b1", "b2", "b3", "x", "new", "sub", "e", "f", "link", "n2", "gone", "d", "both"}
	path := func() string { return filepath.Join(dirs[r.IntN(len(dirs))], names[r.IntN(len(names))]) }
	either := func() string {
		if r.IntN(4) == 0 {
			return dirs[1+r.IntN(len(dirs)-1)]
		}
		return path()
	}
	kinds := []string{
		"mkdir", "mkdir", "rmdir", "unlink", "unlink", "create", "write", "append", "trunc", "read", "truncate", "rename", "rename", "rename",
		"noreplace", "exchange", "link", "symlink", "chmod", "chown", "setxattr", "list", "stat", "orphan", "tmpfile", "mkfifo", "open", "utimes",
	}
	var list []op
	for range n {
		o := op{name: kinds[r.IntN(len(kinds))], args: []string{either()}}
		switch o.name {
		case "mkdir", "create", "mkfifo":
			o.args = append(o.args, "750")
		case "write", "append", "trunc":
			o.args = append(o.args, fmt.Sprint("text", r.IntN(1000)))
		case "truncate":
			o.args = append(o.args, fmt.Sprint(r.IntN(20)))
		case "rename", "noreplace", "exchange", "link", "tmpfile":
			o.args = append(o.args, either())
		case "symlink":
			o.args = []string{"target", o.args[0]}
		case "chmod":
			o.args = append(o.args, fmt.Sprintf("%o", 0o600+r.IntN(0o200)))
		case "chown":
			o.args = append(o.args, fmt.Sprint(r.IntN(5)), fmt.Sprint(r.IntN(5)))
		case "setxattr":
			o.args = append(o.args, "user.a", fmt.Sprint(r.IntN(5)))
		case "utimes":
			o.args = append(o.args, fmt.Sprint(1000+r.IntN(1000)))
		}
		list = append(list, o)
	}
	return list
}
