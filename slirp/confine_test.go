//go:build !hot

package slirp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestConfine runs this binary again, confined: what a network needs works, the rest does not.
func TestConfine(t *testing.T) {
	secret := os.Getenv("SBX_TEST_SECRET")
	if secret == "" {
		secret = filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestConfine$", "-test.v")
		cmd.Env = append(os.Environ(), "SBX_TEST_SECRET="+secret)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if _, err := unix.PrctlRetInt(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	// Landlock and the filter need no_new_privs in every thread: here as sbx-net has it, from exec.
	if os.Getenv("SBX_TEST_AGAIN") == "" {
		t.Fatal(unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), "SBX_TEST_AGAIN=1")))
	}
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	t.Logf("landlock %d %v", abi, errno)
	if err := confine(-1); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(resolvConf); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("resolv.conf: %v", err)
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Errorf("listen: %v", err)
	} else if c, err := net.Dial("tcp", l.Addr().String()); err != nil {
		t.Errorf("dial: %v", err)
	} else {
		c.Close()
	}
	if _, err := os.Open(secret); errno == 0 && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file of the caller's: %v", err)
	}
	if err := os.WriteFile(secret, nil, 0); errno == 0 && !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file of the caller's, to write: %v", err)
	}
	for name, err := range map[string]error{
		"exec":    unix.Exec("/bin/true", []string{"true"}, nil),
		"unshare": unix.Unshare(unix.CLONE_NEWUSER),
		"kill":    unix.Kill(os.Getppid(), 0),
	} {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fmt.Println("confined")
}
