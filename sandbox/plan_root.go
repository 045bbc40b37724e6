package sandbox

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLayers is how many lower directories overlayfs stacks (OVL_MAX_STACK, overlayfs.rst).
const maxLayers = 500

// planRoot puts the tree that was asked for at /.
func planRoot(p *Plan, spec *Spec, host *Host) error {
	root := &spec.Root
	p.ofImage = len(root.Layers) > 0
	switch {
	case len(root.Layers) > maxLayers:
		return Errorf("%s has %d layers: the kernel stacks at most %d", root.Label, len(root.Layers), maxLayers)
	case len(root.Layers) > 0:
		return planOverlay(p, host, Step{Dst: "/", Layers: root.Layers, Why: "image"}, "root")
	case root.Overlay:
		return planOverlay(p, host, Step{Dst: "/", Layers: []string{root.Dir}, Why: "--rootfs"}, "root")
	}
	p.step(Step{Op: opBind, Dst: "/", Src: root.Dir, NoDev: true, Why: "--rootfs"})
	return nil
}

// planOverlay adds an overlay whose changes are thrown away. They lie on disk in a
// directory of the run, which whoever finds it unlocked removes; or in memory, where
// the kernel takes no upper directory on that disk.
func planOverlay(p *Plan, host *Host, s Step, name string) error {
	s.Op, s.NoDev = opOverlay, true
	refused := host.UpperTmpfs
	if within, err := filepath.Rel(s.Layers[0], host.RunDir); refused == "" && err == nil && !strings.HasPrefix(within, "../") {
		refused = "it lies in " + s.Layers[0] // overlayfs takes no upper directory in a lower one
	}
	if refused != "" {
		s.Upper, s.Work = inMemory, inMemory
		note := "changes are kept in memory: " + filepath.Dir(host.RunDir) + " cannot hold the upper directory of an overlay: " + refused
		if len(p.Notes) == 0 || p.Notes[len(p.Notes)-1] != note {
			p.Notes = append(p.Notes, note)
		}
	} else {
		p.RunDir = host.RunDir
		s.Upper = filepath.Join(host.RunDir, name+".upper")
		s.Work = filepath.Join(host.RunDir, name+".work")
	}
	p.step(s)
	return nil
}

// inMemory stands for a directory in the sandbox's own tmpfs.
const inMemory = "tmpfs"

// planDev fills /dev: the six nodes that every program may open, what the terminal
// needs, and nothing else of the host's.
func planDev(p *Plan, spec *Spec, _ *Host) error {
	p.step(Step{Op: opTmpfs, Dst: "/dev", Mode: 0o755, Size: 64 << 10, NoSuid: true, NoExec: true, Why: "default"})
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		p.step(Step{Op: opNode, Dst: "/dev/" + name, Src: "/dev/" + name, NoSuid: true, NoExec: true, Why: "default"})
	}
	for _, d := range spec.Devices {
		p.step(Step{Op: opNode, Dst: d.Dst, Src: d.Src, NoSuid: true, NoExec: true, Why: "--device"})
	}
	for _, link := range [][2]string{
		{"/dev/fd", "/proc/self/fd"}, {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"},
		{"/dev/stderr", "/proc/self/fd/2"}, {"/dev/core", "/proc/kcore"}, {"/dev/ptmx", "pts/ptmx"},
	} {
		p.step(Step{Op: opSymlink, Dst: link[0], Src: link[1], Why: "default"})
	}
	// ptmx is 0666 as on any system; the terminals belong to who opens them.
	p.step(Step{Op: opDevpts, Dst: "/dev/pts", Mode: 0o620, NoSuid: true, NoExec: true, Why: "default"})
	return planShm(p, spec)
}

func planShm(p *Plan, spec *Spec) error {
	switch spec.IPC {
	case "none":
		return nil
	case "host":
		if spec.ShmSize != nil {
			return Errorf("--shm-size: the sandbox has the host's /dev/shm with --ipc host")
		}
		p.step(Step{Op: opBind, Dst: "/dev/shm", Src: "/dev/shm", NoSuid: true, NoDev: true, Why: "--ipc host"})
		p.step(Step{Op: opBind, Dst: "/dev/mqueue", Src: "/dev/mqueue", NoSuid: true, NoDev: true, NoExec: true, Optional: true, Why: "--ipc host"})
		return nil
	}
	size := int64(64 << 20)
	if spec.ShmSize != nil {
		size = *spec.ShmSize
	}
	p.step(Step{Op: opTmpfs, Dst: "/dev/shm", Mode: 0o1777, Size: size, NoSuid: true, NoDev: true, NoExec: true, Why: "default"})
	return nil
}

// planKernelFS mounts what the kernel makes of the sandbox's namespaces. It comes after
// the command's process is there, whose namespaces these are.
func planKernelFS(p *Plan, spec *Spec, host *Host) error {
	if p.has("pid") {
		p.step(Step{Op: opProc, Dst: "/proc", NoSuid: true, NoDev: true, NoExec: true, Options: p.procOptions(spec), Why: "default"})
	} else {
		p.step(Step{Op: opProc, Dst: "/proc", Src: "/proc", NoSuid: true, NoDev: true, NoExec: true, Why: "--pid host"})
	}
	if p.has("net") {
		p.step(Step{Op: opSysfs, Dst: "/sys", ReadOnly: p.preset.Sysfs == "ro", NoSuid: true, NoDev: true, NoExec: true, Why: "default"})
	} else {
		// A new sysfs wants a net namespace of its own.
		p.step(Step{Op: opBind, Dst: "/sys", Src: "/sys", ReadOnly: true, NoSuid: true, NoDev: true, NoExec: true, Why: "--network host"})
	}
	switch {
	case p.preset.Cgroupfs == "none":
		p.step(Step{Op: opMask, Dst: "/sys/fs/cgroup", Optional: true, Why: "policy"})
	case host.Cgroup2 && p.has("cgroup"):
		p.step(Step{Op: opCgroup, Dst: "/sys/fs/cgroup", ReadOnly: true, NoSuid: true, NoDev: true, NoExec: true, Why: "default"})
	case !host.Cgroup2 && p.has("net"):
		p.Notes = append(p.Notes, "/sys/fs/cgroup is empty: the host's is not cgroup v2")
	case !p.has("net"):
		// The bind of the host's /sys brought its cgroups along.
		p.step(Step{Op: opMask, Dst: "/sys/fs/cgroup", Optional: true, Why: "policy"})
	}
	if p.has("ipc") && spec.IPC != "none" && p.preset.Mqueue {
		p.step(Step{Op: opMqueue, Dst: "/dev/mqueue", NoSuid: true, NoDev: true, NoExec: true, Why: "default"})
	}
	return nil
}

// lateOps are the steps that need the command's process, or what those have mounted.
func (s *Step) late() bool {
	switch s.Op {
	case opProc, opSysfs, opCgroup, opMqueue, opMask, opReadOnly:
		return true
	}
	return s.Op == opBind && (s.Dst == "/sys" || strings.HasPrefix(s.Dst, "/proc/"))
}

// attributes returns the step's flags as mount_setattr(2) takes them.
func (s *Step) attributes() uint64 {
	var a uint64
	for _, f := range []struct {
		on   bool
		attr uint64
	}{
		{s.ReadOnly, unix.MOUNT_ATTR_RDONLY}, {s.NoSuid, unix.MOUNT_ATTR_NOSUID},
		{s.NoDev, unix.MOUNT_ATTR_NODEV}, {s.NoExec, unix.MOUNT_ATTR_NOEXEC},
	} {
		if f.on {
			a |= f.attr
		}
	}
	return a
}
