package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func (b *builder) tmpfs(s *Step) error {
	o, err := b.ownerOf(s)
	if err != nil {
		return err
	}
	mount, err := newMount("tmpfs", s.attributes()&^unix.MOUNT_ATTR_RDONLY, tmpfsOptions(s, o)...)
	if err != nil {
		return err
	}
	defer mount.Close()
	image, missing := b.tree.open(s.Dst)
	if missing == nil {
		image.Close()
	}
	var target *os.File
	if s.Dst == "/dev" {
		if target, err = b.tree.kernelDirectory(s.Dst); err != nil {
			err = b.noPlace(s.Dst, err)
		}
	} else {
		target, err = b.userTarget(s, true)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	if s.CopyUp && missing == nil {
		if err := b.copier().copyTree(target, mount); err != nil {
			return fmt.Errorf("copy the image's files: %w", err)
		}
		if s.Chown { // not what was copied, as with podman
			if err := o.chown(mount); err != nil {
				return err
			}
		}
	}
	if s.ReadOnly {
		if err := setAttributes(mount, unix.MOUNT_ATTR_RDONLY, 0, false); err != nil {
			return err
		}
	}
	return attach(mount, target)
}

// kernelFS mounts what belongs to the namespaces that this thread is in.
func (b *builder) kernelFS(s *Step) error {
	var mount *os.File
	var err error
	switch s.Op {
	case opSysfs:
		mount, err = newMount("sysfs", s.attributes())
	case opMqueue:
		mount, err = newMount("mqueue", s.attributes())
	case opCgroup:
		mount, err = newMount("cgroup2", s.attributes())
	}
	if err != nil {
		return b.withoutKernelFS(s, err)
	}
	defer mount.Close()
	target, err := b.tree.kernelDirectory(s.Dst)
	if err != nil {
		return err
	}
	defer target.Close()
	return attach(mount, target)
}

// withoutKernelFS goes on where a sandbox around this one has covered parts of its sysfs or
// cgroupfs: the kernel then gives nobody inside a new one (mount_too_revealing). What a
// program would look for there, it will not find.
func (b *builder) withoutKernelFS(s *Step, err error) error {
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	target, openErr := b.tree.directory(s.Dst, 0o755)
	if openErr != nil {
		return openErr
	}
	target.Close()
	b.warnings = append(b.warnings, s.Dst+" is empty: the one around the sandbox is masked, so the kernel gives no new one")
	return nil
}

func (b *builder) devpts(s *Step) error {
	options, err := devptsOptions(s, b.ids())
	if err != nil {
		return err
	}
	mount, err := newMount("devpts", s.attributes(), options...)
	if err != nil {
		return err
	}
	defer mount.Close()
	target, err := b.tree.directory(s.Dst, 0o755)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := attach(mount, target); err != nil {
		return err
	}
	if b.p.Command.Terminal && s.Dst == "/dev/pts" {
		return b.console(mount)
	}
	return nil
}

// console opens the command's terminal, gives it to the command's user, and binds it to
// /dev/console, where programs that think themselves the first of a system look for one.
func (b *builder) console(devpts *os.File) error {
	user, err := b.user()
	if err != nil {
		return err
	}
	if b.terminal, err = b.openTerminal(devpts); err != nil {
		return err
	}
	if err := unix.Fchown(int(b.terminal.slave.Fd()), int(user.uid), -1); err != nil {
		return fmt.Errorf("give the terminal to the command's user: %w", err)
	}
	mount, err := cloneOf(b.terminal.slave)
	if err != nil {
		return err
	}
	defer mount.Close()
	target, err := b.tree.file("/dev/console")
	if err != nil {
		return err
	}
	defer target.Close()
	return attach(mount, target)
}
