package sandbox

import "fmt"

// dev fills /dev: the six nodes that every program may open, what the terminal
// needs, and nothing else of the host's.
func (p *planner) dev() error {
	p.step(Step{Op: opTmpfs, Dst: "/dev", Mode: 0o755, Size: 64 << 10, NoSuid: true, NoExec: true, Why: "default"})
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		p.step(Step{Op: opNode, Dst: "/dev/" + name, Src: "/dev/" + name, NoSuid: true, NoExec: true, Why: "default"})
	}
	for _, d := range p.spec.Devices {
		if err := checkTarget(d.Dst); err != nil {
			return fmt.Errorf("--device %s: %w", d.Src, err)
		}
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
	return p.shm()
}

// shm makes /dev/shm, and with the host's ipc namespace shares what belongs to that.
func (p *planner) shm() error {
	switch p.spec.IPC {
	case "none":
		return nil
	case "host":
		if p.spec.ShmSize != nil {
			return Errorf("--shm-size: the sandbox has the host's /dev/shm with --ipc host")
		}
		p.step(Step{Op: opBind, Dst: "/dev/shm", Src: "/dev/shm", NoSuid: true, NoDev: true, Why: "--ipc"})
		p.step(Step{Op: opBind, Dst: "/dev/mqueue", Src: "/dev/mqueue", NoSuid: true, NoDev: true, NoExec: true, Optional: true, Why: "--ipc"})
		return nil
	}
	s := Step{Op: opTmpfs, Dst: "/dev/shm", Mode: 0o1777, Size: 64 << 20, NoSuid: true, NoDev: true, NoExec: true, Why: "default"}
	if size := p.spec.ShmSize; size != nil {
		s.Size, s.Why = *size, "--shm-size"
	}
	p.step(s)
	return nil
}
