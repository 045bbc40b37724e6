package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// command is the process that becomes the user's command, while sbx-init still works on
// its surroundings. It was forked with all it will do laid down in a Program.
//
//	sbx-init                                    the command's process
//	fork -------------------------------------> mount /proc, of its pid namespace
//	                                            unshare the inner user namespace, if any
//	                          <---- ready ----- write a byte
//	id maps, loopback, sysctls, masks           read a byte
//	go ---------------------------------------> keyring, session, terminal, limits,
//	                                            working directory, inner mount namespace,
//	                                            capabilities, ids, seccomp, exec
type command struct {
	*userns.Child
	ready, proceed *os.File
}

// identity finds out, once, who the command runs as.
func (b *builder) identity() (*identity, error) {
	if b.who != nil {
		return b.who, nil
	}
	who, err := whoIs(b.tree, b.p.Command.User, b.p.Command.Groups, b.ids())
	if err != nil {
		return nil, err
	}
	b.who = who
	return who, nil
}

// command starts the command. Where the kernel refuses a new /proc, since the one around
// the sandbox is masked, as containers mask theirs, the one around serves.
func (b *builder) command() (*userns.Child, error) {
	c, err := b.run(b.p.has("pid"))
	if call, ok := errors.AsType[*userns.CallError](err); ok && call.Name == newProc && errors.Is(err, unix.EPERM) && b.src.proc != nil {
		b.warnings = append(b.warnings, "/proc shows the processes around the sandbox, too: the one around it is masked, so the kernel gives no new one")
		c, err = b.run(false)
	}
	return c, err
}

func (b *builder) run(freshProc bool) (*userns.Child, error) {
	b.freshProc = freshProc
	c, err := b.start()
	if err != nil {
		return nil, err
	}
	if err := b.finish(c); err != nil {
		unix.PidfdSendSignal(c.PidFD, unix.SIGKILL, nil, 0)
		c.Wait()
		unix.Close(c.PidFD)
		return nil, err
	}
	return c.Child, nil
}

// sharesMemory: the command's process needs no copy of this one's memory, for it executes
// something soon. With --init it stays what it is.
func (b *builder) sharesMemory() bool { return !b.p.Command.Init }

// start forks the command's process.
func (b *builder) start() (_ *command, err error) {
	who, err := b.identity()
	if err != nil {
		return nil, err
	}
	if err := b.makeWorkdir(); err != nil {
		return nil, err
	}
	if err := joinSessionKeyring(); err != nil {
		return nil, err
	}
	if n := b.p.Command.OOMScoreAdj; n != nil {
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(*n)), 0); err != nil {
			return nil, &Error{Text: "--oom-score-adj", Err: err, Fix: "without root it can only be raised"}
		}
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	proceedR, proceedW, err := os.Pipe()
	if err != nil {
		readyR.Close()
		readyW.Close()
		return nil, err
	}
	defer readyW.Close()
	defer proceedR.Close()
	defer func() {
		if err != nil {
			readyR.Close()
			proceedW.Close()
		}
	}()

	p := new(userns.Program)
	p.Do("die with sbx-init", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	if b.freshProc {
		target, err := b.tree.kernelDirectory("/proc")
		if err != nil {
			return nil, err
		}
		defer target.Close()
		b.mountProc(p, target)
	}
	if b.p.Inner != nil {
		p.Do("unshare the inner user namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER|b.innerNamespaces())
	}
	p.Do("report to sbx-init", unix.SYS_WRITE, int(readyW.Fd()), "x", 1)
	p.Await("wait for sbx-init", int(proceedR.Fd()))
	if err := b.become(p, who); err != nil {
		return nil, err
	}
	var flags uintptr
	if b.p.has("pid") {
		flags = unix.CLONE_NEWPID
	}
	fork := p.Fork
	if b.sharesMemory() {
		fork = p.Spawn
	}
	child, err := fork(flags)
	if err != nil {
		return nil, fmt.Errorf("start the command's process: %w", err)
	}
	return &command{child, readyR, proceedW}, nil
}

// innerNamespaces are those that the inner user namespace is to own, so that the
// capabilities in it hold for them. The pid namespace stays the outer one's: /proc is
// mounted by it, and thereby locked.
func (b *builder) innerNamespaces() (flags int) {
	for _, ns := range []struct {
		name string
		flag int
	}{
		{"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"cgroup", unix.CLONE_NEWCGROUP},
	} {
		if b.p.has(ns.name) {
			flags |= ns.flag
		}
	}
	return flags
}

// newProc is what the calls are named that mount /proc.
const newProc = "mount /proc"

// mountProc makes the program mount a new /proc on target.
func (b *builder) mountProc(p *userns.Program, target *os.File) {
	i := slices.IndexFunc(b.p.Steps, func(s Step) bool { return s.Op == opProc })
	s := &b.p.Steps[i]
	proc := p.Do(newProc, unix.SYS_FSOPEN, "proc", unix.FSOPEN_CLOEXEC)
	for _, option := range s.Options {
		key, value, _ := strings.Cut(option, "=")
		p.Do(newProc+" "+option, unix.SYS_FSCONFIG, proc, unix.FSCONFIG_SET_STRING, key, value, 0)
	}
	p.Do(newProc, unix.SYS_FSCONFIG, proc, unix.FSCONFIG_CMD_CREATE, 0, 0, 0)
	mount := p.Do(newProc, unix.SYS_FSMOUNT, proc, unix.FSMOUNT_CLOEXEC, s.attributes())
	p.Do(newProc, unix.SYS_MOVE_MOUNT, mount, "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// makeWorkdir makes the working directory where the image has none, as docker does.
func (b *builder) makeWorkdir() error {
	for _, kernel := range []string{"/proc", "/sys", "/dev"} { // these are not there yet
		if w := b.p.Command.Workdir; w == kernel || strings.HasPrefix(w, kernel+"/") {
			return nil
		}
	}
	if err := b.userDirectory(b.p.Command.Workdir, 0o755); err != nil {
		return &NotExecutableError{Name: b.p.Command.Args[0], Err: fmt.Errorf("working directory: %w", err)}
	}
	return nil
}

// joinSessionKeyring leaves the caller's keys behind: session keyrings are inherited
// across user namespaces. An anonymous one cannot be joined by anyone else (keyctl(2)).
func joinSessionKeyring() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err == nil || err == unix.ENOSYS || err == unix.EPERM || err == unix.EACCES {
		return nil // no keys in this kernel, or none for anybody in here
	}
	return fmt.Errorf("new session keyring: %w", err)
}
