package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sbx/slirp"
	"sbx/userns"
)

// order is the message that sbx-init gets: the Plan, and what a Plan does not print.
type order struct {
	Plan    Plan
	Winsize *unix.Winsize // of the caller's terminal
	Slack   int           // of the caller's timers, in nanoseconds, which the command gets again
}

// reportFD is where sbx-init reports to the parent; see report.go.
const reportFD = userns.FirstFile

// keepFD is where the descriptors begin that the command is to keep.
const keepFD = reportFD + 1

// Init is the sandbox's first process, sbx-init. It is root of the outer user namespace
// and alone in a pid namespace. It builds the sandbox around the command, waits for it,
// and tells the parent how it ended. It is never seen from inside, and when it dies, by
// whatever hand, the kernel kills all that is left of the sandbox.
func Init() {
	runtime.LockOSThread()
	unix.CloseOnExec(reportFD)
	unix.Setsid() // a ^C at the caller's terminal is for sbx to pass on
	unix.Umask(0) // what is made here has the mode that the plan gives it
	up := os.NewFile(reportFD, "report")
	message, join, err := userns.ReceiveEarly()
	if err != nil {
		os.Exit(125) // the parent has died
	}
	status, err := buildAndWait(message, join, up)
	if err != nil {
		send(up, report{Failure: failureOf(err)})
		os.Exit(125)
	}
	send(up, report{Status: &status})
	os.Exit(0)
}

func buildAndWait(message []byte, join func() error, up *os.File) (uint32, error) {
	var o order
	if err := unmarshal(message, &o); err != nil {
		return 0, fmt.Errorf("read plan: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(o.Slack), 0, 0, 0); err != nil {
		return 0, fmt.Errorf("timer slack: %w", err)
	}
	b := &builder{p: &o.Plan, winsize: o.Winsize, join: join, up: up}
	hostPID := !b.p.has("pid")
	if hostPID {
		// What the command leaves becomes a child of this process, for killDescendants.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return 0, fmt.Errorf("adopt orphans: %w", err)
		}
	}
	child, err := b.build()
	if err != nil {
		return 0, err
	}
	fds := []int{child.PidFD}
	if b.terminal != nil {
		fds = append(fds, int(b.terminal.master.Fd()))
	}
	if err := send(up, report{Started: true, Warnings: b.warnings, Notes: b.notes}, fds...); err != nil {
		return 0, err
	}
	servers := watchServers(b.servers, up)
	requests, returns := b.requests, b.returns
	b.release()
	if requests != nil {
		slirp.ServeSockets(requests, child.PidFD, returns)
	}
	status, err := child.Wait()
	servers.ended()
	if hostPID {
		killDescendants()
	}
	return uint32(status), err
}

// killDescendants ends what a command in the host's pid namespace has left: with its own
// one, the kernel does that. All of it has become a child of this process by now, or does
// when what is between is dead.
func killDescendants() {
	for {
		var none unix.WaitStatus
		pid, err := unix.Wait4(-1, &none, unix.WNOHANG, nil)
		if err != nil {
			return // no children
		}
		if pid > 0 {
			continue // there may be more of the dead
		}
		for _, pid := range children("self") {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
}

// children lists those of a process of /proc.
func children(process string) (pids []int) {
	threads, _ := filepath.Glob("/proc/" + process + "/task/*/children")
	for _, file := range threads {
		text, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// builder builds one sandbox. Its fields fill up in the order of build.
type builder struct {
	p         *Plan
	join      func() error // waits for the ids of the outer user namespace
	up        *os.File     // to the parent
	src       *sources
	base      *base
	tree      tree
	who       *identity
	terminal  *terminal
	winsize   *unix.Winsize
	freshProc bool // /proc is the sandbox's own

	blankFile, blankDir *os.File // the first masks: what the others are copies of

	requests *os.File // for sockets, from sbx-net; nil without published ports
	returns  bool     // what has a client's address finds its way back; see slirp.KeepReturns

	servers []*userns.Child // sbx-overlay, of each overlay over FUSE

	warnings []string // what this host forced, as it turned out
	notes    []string // and what only --debug tells
}

// build is the table of contents of the isolation.
func (b *builder) build() (*userns.Child, error) {
	for _, part := range []struct {
		what string
		do   func() error
	}{
		{"keep the host's mounts out", b.detachPropagation},
		{"", func() (err error) { b.src, err = openSources(b.p.Steps); return err }},
		{"", b.join},
		{"", func() error { return b.src.openDenied(b.p.Steps) }},
		{"", func() (err error) { b.base, err = newBase(); return err }},
		{"build root", b.mountRoot},
		{"build root", b.earlySteps},
		{"limit namespaces", b.limitNamespaces},
	} {
		if err := part.do(); err != nil {
			return nil, within(part.what, err)
		}
	}
	return b.command()
}

func within(what string, err error) error {
	if what == "" {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// detachPropagation makes every mount of this namespace a slave: what is mounted here is
// not seen outside. The mounts of a new user namespace are slaves already
// (mount_namespaces(7)); this says so of those that were private, too.
func (b *builder) detachPropagation() error {
	return unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_SLAVE})
}

// mountRoot does the first step, and holds what it made.
func (b *builder) mountRoot() error {
	s := &b.p.Steps[0]
	var mount *os.File
	var err error
	if s.Op == opOverlay {
		mount, err = b.mountLayers(s)
	} else {
		mount, err = b.attachToBase(b.src.mounts[0])
	}
	if err != nil {
		return err
	}
	if err := setAttributes(mount, s.attributes(), unix.MS_PRIVATE, true); err != nil {
		return err
	}
	b.tree = tree{dir: mount, owner: b.root()}
	return nil
}

// mountLayers mounts the root's overlay.
func (b *builder) mountLayers(s *Step) (*os.File, error) {
	dirs := b.src.dirs[0]
	image := dirs[:len(s.Layers)]
	list, err := b.wantedPlaces()
	if err != nil {
		return nil, err
	}
	places, err := b.base.placesLayer(b.copier(), image, list)
	if err != nil {
		return nil, fmt.Errorf("make places to mount on: %w", err)
	}
	if places == nil || s.Upper == "" {
		return b.mountOverlay(s, image[0], dirs)
	}
	defer places.Close()
	return b.mountOverlay(s, image[0], append([]*os.File{places}, dirs...))
}

// attachToBase gives a mount a place, as pivot_root(2) wants it.
func (b *builder) attachToBase(mount *os.File) (*os.File, error) {
	at, err := b.base.dir("root")
	if err != nil {
		return nil, err
	}
	defer at.Close()
	return mount, attach(mount, at)
}

func (b *builder) earlySteps() error {
	for i := range b.p.Steps[1:] {
		if s := &b.p.Steps[i+1]; !s.late() {
			if err := b.apply(i+1, s); err != nil {
				return fmt.Errorf("%s %s: %w", s.Op, s.Dst, err)
			}
		}
	}
	return nil
}

func (b *builder) lateSteps() error {
	for i := range b.p.Steps {
		if s := &b.p.Steps[i]; s.late() {
			if err := b.apply(i, s); err != nil {
				return fmt.Errorf("%s %s: %w", s.Op, s.Dst, err)
			}
		}
	}
	return nil
}

// limitNamespaces forbids user namespaces below this one, except for the command's own:
// most of the kernel's attack surface lies behind them. It holds without seccomp too. The
// count is taken back only by CAP_SYS_RESOURCE over this namespace, which the command
// never has.
func (b *builder) limitNamespaces() error {
	if b.p.Nested {
		return nil
	}
	limit := "0"
	if b.p.Inner != nil {
		limit = "1"
	}
	err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte(limit), 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		// A masked /proc around us. The filter still refuses, if there is one.
		if b.p.Command.Seccomp == "unconfined" {
			b.warnings = append(b.warnings, "user namespaces inside cannot be forbidden: /proc/sys around the sandbox is read-only")
		}
		return nil
	}
	return err
}

// pivot makes the tree the root, also of the command's process, and leaves the host's
// behind, where nothing leads. It comes after all mounts: the kernel gives a new /proc only
// to who has an old one in sight (mount_too_revealing).
func (b *builder) pivot() error {
	if err := unix.Fchdir(int(b.tree.dir.Fd())); err != nil {
		return &fs.PathError{Op: "fchdir", Path: "root", Err: err}
	}
	// The old root lands on top of the new one and is taken off (pivot_root(2), NOTES).
	if err := unix.PivotRoot(".", "."); err != nil {
		return &fs.PathError{Op: "pivot_root", Path: ".", Err: err}
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return &fs.PathError{Op: "umount", Path: "the host's root", Err: err}
	}
	return os.Chdir("/")
}

// release lets go of everything: the command may run for days.
func (b *builder) release() {
	for _, f := range b.src.mounts {
		f.Close()
	}
	for _, files := range b.src.dirs {
		for _, f := range files {
			f.Close()
		}
	}
	if b.terminal != nil {
		b.terminal.close()
	}
	for _, f := range []*os.File{b.src.proc, b.blankFile, b.blankDir, b.base.tmpfs, b.tree.dir} {
		f.Close() // nil, too
	}
	for i := range b.p.Command.KeepFDs {
		unix.Close(keepFD + i)
	}
	*b = builder{}
}
