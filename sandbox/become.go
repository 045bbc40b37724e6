package sandbox

import (
	"path"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

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
	// The memory is sbx-init's, too, and closed for good: to whoever has the ids of the command,
	// which the change of ids might open it to (fs.suid_dumpable).
	closeMemory := func() { p.Do("keep the memory closed", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }
	if b.sharesMemory() {
		closeMemory()
	}
	b.setIDs(p, who)
	if b.sharesMemory() {
		closeMemory()
	}
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
