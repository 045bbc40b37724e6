package userns

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// RefusedError says that this host lets the caller make no user namespace, or none
// that can do anything.
type RefusedError struct {
	Cause string // what was probed
	Fix   string // what changes it, for this host
	Err   error  // what the kernel said
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("create user namespace: %v: %s", e.Err, e.Cause)
}
func (e *RefusedError) Unwrap() error { return e.Err }

// Hint says what helps.
func (e *RefusedError) Hint() string { return e.Fix }

// Try makes a user namespace, does in it what takes a capability, and returns why this host
// lets the caller do neither.
func Try(c Caller) error {
	p := new(Program)
	p.Do("make mounts private", unix.SYS_MOUNT, "none", "/", "", unix.MS_REC|unix.MS_PRIVATE, 0)
	child, err := p.Fork(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)
	if err != nil {
		return explain(err, c)
	}
	defer unix.Close(child.PidFD)
	err = child.Executed()
	if _, failed := child.Wait(); err == nil {
		err = failed
	}
	return explain(err, c)
}

// explain looks for the reason why a stage could not be started.
func explain(err error, c Caller) error {
	call, ok := errors.AsType[*CallError](err)
	if !ok || call.Name == "exec" {
		return err
	}
	refused := func(cause, fix string) error { return &RefusedError{cause, fix, err} }
	switch {
	case sysctl("user/max_user_namespaces") == "0":
		return refused("user.max_user_namespaces is 0", "as root: sysctl -w user.max_user_namespaces=15000")
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		return refused("kernel.unprivileged_userns_clone is 0", "as root: sysctl -w kernel.unprivileged_userns_clone=1")
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" && call.Name != "clone":
		return refused("AppArmor restricts unprivileged user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)", apparmorFix())
	case errors.Is(err, unix.ENOSPC):
		return refused("the limit of nested or of all user namespaces is reached", "raise user.max_user_namespaces, of the namespace around if there is one")
	case errors.Is(err, unix.EUSERS):
		return refused("user namespaces are nested 32 deep already", "run sbx further out")
	case errors.Is(err, unix.EINVAL) && !exists("/proc/self/ns/user"):
		return refused("this kernel has no user namespaces", "boot a kernel with CONFIG_USER_NS=y")
	case errors.Is(err, unix.EPERM) && chrooted():
		return refused("sbx runs in a chroot", "run sbx outside of the chroot, or enter it with pivot_root")
	case seccomp():
		return refused("a seccomp filter around sbx forbids it, as containers have by default",
			"start the container with --security-opt seccomp=unconfined (docker, podman) or a profile that allows clone, unshare, mount, pivot_root")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return refused("a security module of this host forbids it", "look for a denial in the kernel's log: journalctl -k --grep 'apparmor|avc'")
	}
	return err
}

func sysctl(name string) string {
	text, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(text))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// chrooted reports whether our root directory is not a mount point: clone(2) refuses
// CLONE_NEWUSER there.
func chrooted() bool {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(info)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == "/" {
			return false
		}
	}
	return true
}

func seccomp() bool {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if mode, ok := strings.CutPrefix(line, "Seccomp:"); ok {
			return strings.TrimSpace(mode) == "2"
		}
	}
	return false
}

// apparmorFix is the profile that Ubuntu 24.04 wants, for where this binary is.
func apparmorFix() string {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		exe = "/usr/bin/sbx"
	}
	return fmt.Sprintf("as root: printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile sbx %s flags=(unconfined) { userns, }\\n' "+
		">/etc/apparmor.d/sbx && apparmor_parser -r /etc/apparmor.d/sbx", exe)
}
