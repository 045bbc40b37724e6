package userns

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// RefusedError says what keeps the caller from something on this host, and what helps.
type RefusedError struct {
	Cause string // what was probed
	Fix   string // what changes it
	Err   error  // what the kernel said, or nil
}

func (e *RefusedError) Error() string {
	if e.Err == nil {
		return e.Cause
	}
	return e.Err.Error() + ": " + e.Cause
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
	if !exists("/proc/self/exe") {
		return &RefusedError{"no /proc is mounted", "as root: mount -t proc proc /proc", err}
	}
	if _, ok := errors.AsType[*CallError](err); !ok {
		return err
	}
	err = fmt.Errorf("create user namespace: %w", err)
	refused := func(cause, fix string) error { return &RefusedError{cause, fix, err} }
	denied := errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
	switch {
	case (denied || errors.Is(err, unix.ENOSPC)) && inSandbox():
		return refused("this is a sandbox of sbx's, which has no namespaces to give", "start the one around with: sbx run --security-opt nested=true")
	case errors.Is(err, unix.ENOSPC):
		for _, kind := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
			if name := "max_" + kind + "_namespaces"; sysctl("user/"+name) == "0" {
				return refused("user."+name+" is 0", "as root: sysctl -w user."+name+"=15000")
			}
		}
		return refused("a limit of namespaces is reached, here or in a namespace around this one", "as root, of the namespace around if there is one, raise what is used up: sysctl -a --pattern '^user.max_.*_namespaces'")
	case denied && sysctl("kernel/unprivileged_userns_clone") == "0":
		return refused("kernel.unprivileged_userns_clone is 0", "as root: sysctl -w kernel.unprivileged_userns_clone=1")
	case errors.Is(err, unix.EUSERS):
		return refused("user namespaces are nested 32 deep already", "run sbx further out")
	case errors.Is(err, unix.EINVAL) && !exists("/proc/self/ns/user"):
		return refused("this kernel has no user namespaces", "boot a kernel with CONFIG_USER_NS=y")
	case errors.Is(err, unix.EPERM) && chrooted():
		return refused("sbx runs in a chroot", "run sbx outside of the chroot, or enter it with pivot_root")
	}
	if known := Explain(err, c); known != err || !denied {
		return known
	}
	return refused("a security module of this host forbids it", "look for a denial in the kernel's log: journalctl -k --grep 'apparmor|avc'")
}

// Explain looks for what around this process forbids a part of building a sandbox that
// the kernel grants to the root of a user namespace. Where it finds nothing, err is it.
func Explain(err error, c Caller) error {
	refused := func(cause, fix string) error { return &RefusedError{cause, fix, err} }
	profile := appArmor()
	switch {
	case errors.Is(err, unix.EACCES) && strings.HasSuffix(profile, "(enforce)"):
		return refused("the AppArmor profile "+profile+" is around sbx", "start the container with --security-opt apparmor=unconfined (docker, podman)")
	case errors.Is(err, unix.EPERM) && profile == "unconfined" && !c.MayMap && sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return refused("AppArmor restricts unprivileged user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)", appArmorFix())
	case (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS)) && seccomp():
		return refused("a seccomp filter is around sbx, as containers have by default",
			"start the container with --security-opt seccomp=unconfined (docker, podman) or a profile that allows clone, unshare, mount, pivot_root")
	case errors.Is(err, unix.ENOSYS):
		return refused("this kernel lacks the call", "Linux 5.12 or later has what sbx needs")
	}
	return err
}

// inSandbox reports whether sbx made what is around: it says so in there.
func inSandbox() bool {
	text, _ := os.ReadFile("/run/.containerenv")
	return strings.HasPrefix(string(text), "engine=\"sbx\"\n")
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

// appArmor returns how AppArmor confines this process: "unconfined", "docker-default (enforce)",
// "sbx (unconfined)" for a profile such as appArmorFix; "" without AppArmor.
func appArmor() string {
	text, _ := os.ReadFile("/proc/self/attr/apparmor/current")
	return strings.TrimRight(string(text), "\n\x00")
}

// appArmorFix is the profile that Ubuntu 24.04 wants, for where this binary is.
func appArmorFix() string {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		exe = "/usr/bin/sbx"
	}
	return fmt.Sprintf("as root: printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile sbx %s flags=(unconfined) { userns, }\\n' "+
		">/etc/apparmor.d/sbx && apparmor_parser -r /etc/apparmor.d/sbx", exe)
}
