//go:build !hot

package fuseoverlay

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests run in a user namespace with a range of ids and a mount namespace, as an ordinary user
// may make them; and the server is a process of its own, as it will be.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == ProcessName:
		ServeStage()
	case os.Args[0] == "overlay-op":
		unix.Umask(0o022)
		fmt.Print(op{os.Args[2], os.Args[3:]}.do(os.Args[1]))
		os.Exit(0)
	case slices.ContainsFunc(os.Args, func(s string) bool { return strings.HasPrefix(s, "-test.fuzz") }):
		os.Exit(m.Run()) // its workers have descriptors that unshare would not pass on; and it mounts nothing
	case os.Getenv("FUSE_OVERLAY_INSIDE") == "":
		enter(m)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func enter(m *testing.M) {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	try := exec.Command("unshare", "--map-root-user", "--map-auto", "--mount", "true")
	if out, err := try.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "no user namespace: %v: %s", err, out)
		if os.Getenv("SBX_MUST_WORK") != "" {
			os.Exit(1)
		}
		os.Exit(0)
	}
	cmd := exec.Command("unshare", append([]string{"--map-root-user", "--map-auto", "--mount", "--", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), "FUSE_OVERLAY_INSIDE=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		if cmd.ProcessState != nil {
			os.Exit(max(cmd.ProcessState.ExitCode(), 1))
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// stack is a mounted overlay.
type stack struct {
	lower       []string // topmost first
	upper, work string
	mnt         string
	server      *exec.Cmd
	volatile    bool
}

// mount serves and mounts s, until the test ends.
func (s *stack) mount(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.unmount)
}

func (s *stack) start() error {
	device, mount, err := Mount(s.upper == "", unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return err
	}
	defer device.Close()
	defer mount.Close()
	target, err := os.Open(s.mnt)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := unix.MoveMount(int(mount.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return err
	}
	ready, told, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	s.server = exec.Command("/proc/self/exe")
	s.server.Args = Argv(len(s.lower), s.upper != "", s.volatile)
	s.server.Stderr = os.Stderr
	s.server.ExtraFiles = []*os.File{device, told}
	dirs := s.lower
	if s.upper != "" {
		dirs = slices.Concat(dirs, []string{s.upper, s.work})
	}
	for _, name := range dirs {
		dir, err := os.Open(name)
		if err != nil {
			return err
		}
		defer dir.Close()
		s.server.ExtraFiles = append(s.server.ExtraFiles, dir)
	}
	if err := s.server.Start(); err != nil {
		return err
	}
	told.Close()
	text, err := io.ReadAll(ready)
	if err == nil && string(text) != Ready {
		err = errors.New(string(text))
	}
	return err
}

func (s *stack) unmount() {
	if s.server == nil {
		return
	}
	if err := unix.Unmount(s.mnt, 0); err != nil {
		_ = unix.Unmount(s.mnt, unix.MNT_DETACH)
		_ = s.server.Process.Kill()
	}
	_ = s.server.Wait()
	s.server = nil
}

// newStack makes directories for a stack of that many lower layers.
func newStack(t testing.TB, lower int) *stack {
	t.Helper()
	top := t.TempDir()
	t.Cleanup(func() { _ = exec.Command("chmod", "-R", "u+rwX", top).Run() })
	s := &stack{upper: top + "/upper", work: top + "/work", mnt: top + "/mnt"}
	for i := range lower {
		s.lower = append(s.lower, fmt.Sprint(top, "/lower", i))
	}
	for _, dir := range append([]string{s.upper, s.work, s.mnt}, s.lower...) {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// sh runs a script in a directory.
func sh(t testing.TB, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}
