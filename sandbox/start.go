package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unsafe"

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
		return nil, err
	}
	return c.Child, nil
}

// start forks the command's process.
func (b *builder) start() (*command, error) {
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
		return nil, err
	}
	defer readyW.Close()
	defer proceedR.Close()

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
	child, err := p.Fork(flags)
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

// become appends all that turns the forked process into the command. From the ids on,
// the order matters: what needs a capability comes before it is dropped.
func (b *builder) become(p *userns.Program, who *identity) error {
	c := &b.p.Command
	p.Do("leave the host's directory", unix.SYS_CHDIR, "/")
	p.Do("setsid", unix.SYS_SETSID)
	if b.terminal != nil && !c.Init {
		b.terminal.takeOver(p)
	}
	for _, l := range c.Limits {
		pair := [2]uint64{uint64(l.Soft), uint64(l.Hard)} // -1 is RLIM_INFINITY
		p.Do("set limit "+l.Name, unix.SYS_PRLIMIT64, 0, limitNames()[l.Name], userns.Bytes(&pair), 0)
	}
	// In the finished root, where no link that the image made can lead out of it; a link
	// of /proc would lead anywhere (CVE-2024-21626).
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	dir := p.Do("working directory "+c.Workdir, unix.SYS_OPENAT2, unix.AT_FDCWD, c.Workdir, userns.Bytes(&how), int(unsafe.Sizeof(how)))
	p.Do("working directory "+c.Workdir, unix.SYS_FCHDIR, dir)
	if b.p.Inner != nil {
		// A copy of the mount namespace in another user namespace: every mount in it is locked.
		p.Do("unshare the inner mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	}
	b.labels(p)
	for cap := range 64 { // also those that this kernel has and this program does not know
		if c.Caps&(1<<cap) == 0 {
			p.Try("drop capability", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, cap, 0, 0, 0)
		}
	}
	if !c.NoNewPrivs {
		b.seccomp(p) // needs CAP_SYS_ADMIN, as long as it is there
	}
	b.setIDs(p, who)
	p.Do("die with sbx-init", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	p.Do("umask", unix.SYS_UMASK, uint32(c.Umask))
	b.keepFDs(p)
	if c.NoNewPrivs {
		p.Do("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		b.seccomp(p)
	}
	if c.Init {
		// Last, so that what stays behind as the first process is no more than the command is.
		p.Reap()
		p.Do("die with init", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
		p.Do("setsid", unix.SYS_SETSID)
		if b.terminal != nil {
			b.terminal.takeOver(p)
		}
	}
	env := slices.Concat(c.Env, []string(c.SecretEnv))
	if c.HomeFromPasswd {
		env = append(env, "HOME="+who.Home)
	}
	if err := p.Exec(candidates(c.Args[0], env), c.Args, env); err != nil {
		return &NotExecutableError{Name: c.Args[0], Err: err}
	}
	return nil
}

// labels sets what the security modules of the host are to call the command.
func (b *builder) labels(p *userns.Program) {
	for _, l := range []struct{ file, prefix, label string }{
		{"/proc/self/attr/apparmor/exec", "exec ", b.p.Command.AppArmor},
		{"/proc/self/attr/exec", "", b.p.Command.Label},
	} {
		if l.label != "" {
			text := l.prefix + l.label
			fd := p.Do("security label", unix.SYS_OPENAT, unix.AT_FDCWD, l.file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			p.Do("security label "+text, unix.SYS_WRITE, fd, text, len(text))
		}
	}
}

// setIDs makes the process the user, with what capabilities that user has.
func (b *builder) setIDs(p *userns.Program, who *identity) {
	c := &b.p.Command
	if !c.KeepGroups {
		set := p.Do
		if len(who.Groups) == 0 {
			// Refused where a single id is mapped: setgroups(2) was given up for that. The
			// caller's groups then stay, as "nogroup"; user_namespaces(7) leaves no choice.
			set = p.Try
		}
		groups := append([]uint32{who.GID}, who.Groups...) // as initgroups(3) has it
		set("setgroups", unix.SYS_SETGROUPS, len(groups), groups)
	}
	if c.NoRoot {
		const noRoot = 1<<0 | 1<<1 // SECBIT_NOROOT and its lock (capabilities(7))
		p.Do("securebits", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, noRoot)
	}
	p.Do("setresgid", unix.SYS_SETRESGID, who.GID, who.GID, who.GID)
	caps, inheritable := uint64(c.Caps), uint64(0)
	if who.UID != 0 || c.NoRoot { // exec leaves the ambient ones alone
		caps, inheritable = uint64(c.Ambient), uint64(c.Ambient)
	}
	if who.UID != 0 {
		p.Do("keep capabilities", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	}
	p.Do("setresuid", unix.SYS_SETRESUID, who.UID, who.UID, who.UID)
	p.Try("clear ambient capabilities", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	var data [2]unix.CapUserData
	for i := range data {
		data[i] = unix.CapUserData{Effective: uint32(caps >> (32 * i)), Permitted: uint32(caps >> (32 * i)), Inheritable: uint32(inheritable >> (32 * i))}
	}
	p.Do("capset", unix.SYS_CAPSET, userns.Bytes(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}), userns.Bytes(&data))
	for cap := range unix.CAP_LAST_CAP + 1 {
		if inheritable&(1<<cap) != 0 {
			p.Do("raise capability", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, cap, 0, 0)
		}
	}
}

// keepFDs gives the descriptors that the command keeps their own numbers back, and
// closes all others at exec.
func (b *builder) keepFDs(p *userns.Program) {
	keep := b.p.Command.KeepFDs
	p.Do("close on exec", unix.SYS_CLOSE_RANGE, 3, uint32(1<<31-1), unix.CLOSE_RANGE_CLOEXEC)
	if len(keep) == 0 {
		return
	}
	p.ReportAbove = keep[len(keep)-1] + 1
	var high []*userns.Result
	for i := range keep {
		high = append(high, p.Do("dup", unix.SYS_FCNTL, keepFD+i, unix.F_DUPFD_CLOEXEC, max(p.ReportAbove, keepFD+len(keep))))
	}
	for i, fd := range keep {
		p.Do("dup3", unix.SYS_DUP3, high[i], fd, 0)
	}
}

func (b *builder) seccomp(p *userns.Program) {
	for _, filter := range b.p.Command.Filters {
		// struct sock_fprog: a count, and the instructions.
		prog := struct {
			n    uint16
			code uintptr
		}{uint16(filter.Len()), uintptr(unsafe.Pointer(unsafe.SliceData(filter.Code)))}
		p.Keep(filter.Code)
		p.Do("load the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, int(filter.Flags), userns.Bytes(&prog))
	}
}

// candidates are the files that name may mean, in order (execvp(3)).
func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	search := defaultPath
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			search = value
		}
	}
	var files []string
	for dir := range strings.SplitSeq(search, ":") {
		if dir == "" {
			dir = "."
		}
		files = append(files, path.Join(dir, name))
		if dir == "." {
			files[len(files)-1] = "./" + name
		}
	}
	return files
}

// finish does what needs the command's process to be there, and lets it go on.
func (b *builder) finish(c *command) error {
	defer c.ready.Close()
	defer c.proceed.Close()
	if n, _ := c.ready.Read(make([]byte, 1)); n == 0 {
		return b.explain(c.Executed())
	}
	for _, part := range []struct {
		what string
		do   func() error
	}{
		{"mount /proc", b.bindProc},
		{"enter the inner user namespace", func() error { return b.mapInner(c) }},
		{"set hostname", b.setHostname},
		{"bring up the loopback interface", b.loopbackUp},
		{"", b.allowPing},
		{"", b.setSysctls},
		{"build root", b.lateSteps},
		{"change root", b.pivot},
	} {
		if err := part.do(); err != nil {
			return within(part.what, err)
		}
	}
	if _, err := c.proceed.Write([]byte("x")); err != nil {
		return b.explain(c.Executed())
	}
	return b.explain(c.Executed())
}

// bindProc puts the /proc around us where there is no new one.
func (b *builder) bindProc() error {
	if b.freshProc {
		return nil
	}
	if b.src.proc == nil {
		return errors.New("there is none around the sandbox")
	}
	target, err := b.tree.kernelDirectory("/proc")
	if err != nil {
		return err
	}
	defer target.Close()
	if err := setAttributes(b.src.proc, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, unix.MS_PRIVATE, true); err != nil {
		return err
	}
	return attach(b.src.proc, target)
}

// mapInner writes the id maps of the inner user namespace, and joins the namespaces that
// it owns with this thread: they are set up from here.
func (b *builder) mapInner(c *command) error {
	if b.p.Inner == nil {
		return nil
	}
	pid, err := b.pidIn(c)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		file string
		ids  []userns.ID
	}{{"uid_map", b.p.Inner.UIDs}, {"gid_map", b.p.Inner.GIDs}} {
		f, err := b.tree.openFlags("/proc/"+pid+"/"+m.file, unix.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(userns.Text(m.ids))
		f.Close()
		if err != nil {
			return err
		}
	}
	if join := b.innerNamespaces(); join != 0 { // with the cgroup namespace: its file system is mounted from here
		if err := unix.Setns(c.PidFD, join); err != nil {
			return &fs.PathError{Op: "setns", Path: "the command's namespaces", Err: err}
		}
	}
	return nil
}

// pidIn returns the command's process id in the /proc of the tree: it is the first of a
// new one's; the one around knows it as it knows this process's descriptors.
func (b *builder) pidIn(c *command) (string, error) {
	if b.freshProc {
		return "1", nil
	}
	info, err := b.tree.read("/proc/self/fdinfo/" + strconv.Itoa(c.PidFD))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(info), "\nPid:")
	line, _, _ := strings.Cut(rest, "\n")
	pid := strings.TrimSpace(line)
	if n, err := strconv.Atoi(pid); err != nil || n <= 0 {
		return "", errors.New("the /proc around the sandbox does not know the command")
	}
	return pid, nil
}

// setHostname leaves the name as it is where a container's filter, as podman's, keeps
// sethostname for itself: everything else may still work in there.
func (b *builder) setHostname() error {
	if !b.p.has("uts") {
		return nil
	}
	err := unix.Sethostname([]byte(b.p.Hostname))
	if err == unix.EPERM {
		b.warnings = append(b.warnings, "the host name stays that of the container around, whose filter refuses to set one; --uts host asks for none")
		return nil
	}
	return err
}

// loopbackUp brings up lo: it is all the network that a sandbox without one has.
func (b *builder) loopbackUp() error {
	if !b.p.has("net") {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// allowPing lets the sandbox's groups open ICMP sockets, as podman does: in a new net
// namespace nobody may (icmp(7)). Without IPv4, or where /proc/sys is read-only, ping wants
// CAP_NET_RAW.
func (b *builder) allowPing() error {
	if !b.p.has("net") {
		return nil
	}
	f, err := b.tree.openFlags("/proc/sys/net/ipv4/ping_group_range", unix.O_WRONLY|unix.O_TRUNC, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, 0, lastGroup(b.p.IDs.GIDs))
	return err
}

// lastGroup is the id that stands for the highest one outside, where the kernel compares
// them; 0 if 0 itself does.
func lastGroup(ids []userns.ID) (last uint32) {
	highest, _ := userns.Outside(ids, 0)
	for _, id := range ids {
		if end := id.Outside + id.Size - 1; end > highest {
			last, highest = id.Inside+id.Size-1, end
		}
	}
	return last
}

// setSysctls writes /proc/sys, where it is this thread's namespaces that count.
func (b *builder) setSysctls() error {
	for _, kv := range b.p.Sysctls {
		f, err := b.tree.openFlags("/proc/sys/"+strings.ReplaceAll(kv.Key, ".", "/"), unix.O_WRONLY|unix.O_TRUNC, 0)
		if err != nil {
			return fmt.Errorf("--sysctl %s: %w", kv.Key, err)
		}
		_, err = f.WriteString(kv.Value)
		f.Close()
		if err != nil {
			return fmt.Errorf("--sysctl %s=%s: %w", kv.Key, kv.Value, err)
		}
	}
	return nil
}

// explain turns the refusal of a system call in the command's process into what a person
// and a shell expect.
func (b *builder) explain(err error) error {
	call, ok := errors.AsType[*userns.CallError](err)
	if !ok {
		return err
	}
	name := b.p.Command.Args[0]
	switch {
	case call.Name == "exec" && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)):
		return &NotFoundError{Name: name}
	case call.Name == "exec" && errors.Is(err, unix.E2BIG):
		return fmt.Errorf("exec %q: %w", name, call.Err)
	case call.Name == "exec", strings.HasPrefix(call.Name, "working directory"):
		what := call.Err
		if call.Name != "exec" {
			what = fmt.Errorf("%s: %w", call.Name, call.Err)
		}
		return &NotExecutableError{Name: name, Err: what}
	}
	return err
}
