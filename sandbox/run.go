package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sbx/slirp"
	"sbx/userns"
)

// parent is the user's own process, in the host's namespaces, for the time of one run.
type parent struct {
	p        *Plan
	warn     func(string) // Told's
	note     func(string)
	debug    func(string) // nil is nobody
	left     func(string)
	dir      *runDir
	name     *name // nil without one
	cidFile  *idFile
	pidFile  *idFile
	reports  *os.File
	mu       sync.Mutex    // whoever reaches for child may come late
	child    *userns.Child // sbx-init; nil again once it has been waited for
	command  commandHandle
	tty      *tty           // nil unless the command has a terminal,
	stdio    *stdioFiles    // or else these
	networks []*network     // an sbx-net for each link of the plan,
	linked   int            // of them, that have theirs
	driver   *driver        // or a program,
	ports    []Port         // which publishes these
	copies   sync.WaitGroup // of what it writes
	unread   atomic.Bool    // some of that, when the command had ended
	ended    bool           // by itself: none of its processes lives
}

// Told are whom Run tells of what happens.
type Told struct {
	Warn  func(text string)    // what only turns out while the sandbox is built or taken down
	Note  func(text string)    // what needs no action
	Debug func(text string)    // which of two ways is taken, and what a network has refused; nil is nobody
	Left  func(network string) // a user-defined network that the sandbox is not on any more, though it goes on
}

// Run runs the sandbox and returns the exit status of its command, 128 and the number if a
// signal ended it. An error with a method ExitStatus says itself what sbx exits with; any
// other is a failure of sbx, 125. Run stays on the thread it is called on, whose end is the
// sandbox's.
func Run(p *Plan, told Told) (int, error) {
	runtime.LockOSThread()
	pa := &parent{p: p, warn: told.Warn, note: told.Note, debug: told.Debug, left: told.Left, tty: newTTY(p)}
	pa.command.over = make(chan struct{})
	defer pa.close()
	if err := pa.start(); err != nil {
		return 125, err
	}
	go forwardSignals(pa) // there is time now: sbx-init is at work
	if d := time.Duration(p.Parent.Timeout); d > 0 {
		timer := time.AfterFunc(d, func() { pa.timeOut(d) })
		defer timer.Stop()
	}
	return pa.wait()
}

// start starts sbx-init and hands it the plan.
func (pa *parent) start() error {
	netLog, err := pa.p.openNetLog()
	if err != nil {
		return err
	}
	defer netLog.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	pa.reports = os.NewFile(uintptr(pair[0]), "reports")
	down := os.NewFile(uintptr(pair[1]), "report")
	defer down.Close()
	stage := userns.Stage{
		Name: "sbx-init", Flags: pa.p.cloneFlags(), Caller: pa.p.Caller, Map: pa.p.IDs,
		Env:   []string{"GOGC=off", "GOMAXPROCS=1"}, // it works for milliseconds, on one thread, then only waits
		Slack: 20 * time.Millisecond,                // and no other thread need look after it every 20 microseconds
		Files: append([]int{int(down.Fd())}, pa.p.Command.KeepFDs...),
	}
	if !pa.p.Command.Terminal {
		if pa.stdio, err = pa.openStdio(); err != nil {
			return err
		}
		defer pa.stdio.handedOver()
		stage.Stdio = pa.stdio.files
	}
	var done func()
	if stage.Around, done, err = pa.p.around(); err != nil {
		return err
	}
	defer done()
	if pa.name, err = claimName(pa.p); err != nil {
		return err
	}
	if pa.pidFile, err = claimPIDFile(pa.p); err != nil {
		return err
	}
	if pa.cidFile, err = claimCIDFile(pa.p); err != nil {
		return err
	}
	if pa.p.publishes() { // what may fail comes before sbx-init gets its message
		if err := pa.startNetworks(netLog); err != nil {
			return err
		}
	}
	if pa.p.Driver != nil {
		var chosen []uint16
		if pa.ports, chosen, err = reserve(pa.p.Driver.Ports); err != nil {
			return err
		}
		for _, port := range slirp.Chosen(pa.p.Driver.Ports, chosen) {
			pa.note("published " + port.String())
		}
	}
	if pa.child, err = stage.StartWith(pa.prepare); err != nil {
		return pa.p.joinRefused(err)
	}
	if err := pa.tellShared(stage.Around); err != nil {
		return err
	}
	if pa.networks == nil {
		if err := pa.startNetworks(netLog); err != nil {
			return err
		}
	}
	pa.watchNetworks()
	return nil
}

// startNetworks starts an sbx-net, or connects to those that there are.
func (pa *parent) startNetworks(netLog *os.File) error {
	if pa.p.Link != nil {
		n, err := startNetwork(pa.p.Link, netLog, pa.counts(""))
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		pa.networks = append(pa.networks, n)
	}
	for i := range pa.p.Networks {
		m := &pa.p.Networks[i]
		n, err := joinNetwork(m, netLog, pa.counts(" "+m.Link.Member.Network))
		if err != nil {
			return fmt.Errorf("network %s: %w", m.Link.Member.Network, err)
		}
		pa.networks = append(pa.networks, n)
	}
	if err := introduce(pa.networks, pa.p.Networks); err != nil {
		return fmt.Errorf("network: names of further ones: %w", err)
	}
	return nil
}

// counts takes what a network has refused or dropped. It is nil where nobody wants to know: an end that
// tells takes longer.
func (pa *parent) counts(name string) func(string) {
	if pa.debug == nil {
		return nil
	}
	return func(text string) { pa.debug("network" + name + ": " + text) }
}

func (pa *parent) detail(text string) {
	if pa.debug != nil {
		pa.debug(text)
	}
}

func (pa *parent) watchNetworks() {
	for i, n := range pa.networks {
		of := ""
		if pa.p.Link == nil {
			of = pa.p.Networks[i].Link.Member.Network
		}
		n.watched = true
		go pa.watchNetwork(n, of)
	}
}

// watchNetwork tells of the end of an sbx-net, which comes after that of the sandbox, and whose network
// nobody else may have.
func (pa *parent) watchNetwork(n *network, of string) {
	err := n.wait(func(text string) { pa.warn("network: " + text) })
	switch {
	case err == nil || !n.linked.Load():
	case of == "":
		pa.warn("the sandbox has no network any more: " + err.Error())
	default:
		pa.warn("the sandbox is not on network " + of + " any more: " + err.Error())
		pa.left(of)
	}
}

// tellShared tells of a network that is not the sandbox's own under its name; of one that is
// when it is there.
func (pa *parent) tellShared(o *userns.Around) error {
	if pa.name == nil || pa.p.has("net") {
		return nil
	}
	path := "/proc/self/ns/net"
	if pa.p.Join != nil {
		path = fmt.Sprintf("/proc/self/fd/%d", o.Net.Fd())
	}
	net, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--name %s: %w", pa.p.Name, err)
	}
	return pa.name.tell(pa.p, net)
}

// prepare does what sbx-init needs not wait for while it starts, and returns its message.
func (pa *parent) prepare() ([]byte, error) {
	if pa.p.publishes() {
		if err := pa.awaitPorts(); err != nil {
			return nil, err
		}
	}
	pa.warnOf(sweep(pa.p.Runs, func() (userns.Caller, error) { return pa.p.Caller, nil }))
	var err error
	if pa.dir, err = makeRunDir(pa.p); err != nil {
		return nil, err
	}
	o := order{Plan: *pa.p}
	if o.Slack, err = unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("timer slack: %w", err)
	}
	if pa.tty != nil {
		o.Winsize = pa.tty.size()
	}
	return marshal(&o), nil
}

// awaitPorts waits until sbx-net listens, and tells which ports it has where nobody else knows.
func (pa *parent) awaitPorts() error {
	for i, link := range pa.p.links() {
		chosen, err := pa.networks[i].ready()
		if err != nil {
			return err
		}
		for _, port := range slirp.Chosen(link.Ports, chosen) {
			pa.note("published " + port.String())
		}
	}
	return nil
}

// cloneFlags are the namespaces that sbx-init comes into being in. Those that an inner
// user namespace is to own are made with that one.
func (p *Plan) cloneFlags() uintptr {
	flags := uintptr(unix.CLONE_NEWNS)
	for _, ns := range []struct {
		name  string
		flag  uintptr
		inner bool
	}{
		{"pid", unix.CLONE_NEWPID, false}, {"ipc", unix.CLONE_NEWIPC, true}, {"uts", unix.CLONE_NEWUTS, true},
		{"net", unix.CLONE_NEWNET, true}, {"cgroup", unix.CLONE_NEWCGROUP, true},
	} {
		if p.has(ns.name) && !(ns.inner && p.Inner != nil) {
			flags |= ns.flag
		}
	}
	return flags
}

// wait returns when the command has ended and its output is out. Until then sbx may be asked
// to end, and has a time limit, whatever it still waits for.
func (pa *parent) wait() (int, error) {
	status, err := pa.follow()
	if pa.driver != nil {
		pa.driver.stopped.Store(true)
	}
	for _, n := range pa.networks {
		n.stop()
	}
	pa.kill()
	pa.drain()
	switch reason := pa.command.endedFor(); {
	case reason != nil:
		return reason.ExitStatus(), reason.orNil()
	case err == nil && status == 0 && pa.unread.Load():
		return signalEnding{unix.SIGPIPE}.ExitStatus(), nil
	}
	return status, err
}

// follow follows the reports of sbx-init to the end.
func (pa *parent) follow() (int, error) {
	for {
		r, fds, err := receive(pa.reports)
		switch {
		case err != nil && pa.command.endedFor() != nil:
			return 125, err
		case err != nil:
			return 125, pa.postMortem(err)
		case r.Failure != nil:
			return r.Failure.Exit, pa.explain(r.Failure)
		case r.Awaited != "":
			pa.note("waiting for another sbx that fills volume " + r.Awaited)
		case r.Linked && len(fds) > 0 && pa.p.Driver != nil:
			if err := pa.startDriver(fds[0]); err != nil {
				return 125, fmt.Errorf("network: %w", err)
			}
		case r.Net && len(fds) > 0 && pa.name != nil:
			if err := pa.name.tell(pa.p, os.NewFile(uintptr(fds[0]), "net namespace")); err != nil {
				return 125, err
			}
		case r.Linked && len(fds) > 0 && pa.linked < len(pa.networks):
			pa.detail(r.Note)
			if err := pa.networks[pa.linked].connect(fds); err != nil {
				return 125, fmt.Errorf("network: %w", err)
			}
			pa.linked++
		case r.Started && len(fds) > 0:
			pa.command.started(fds[0])
			for _, text := range r.Warnings {
				pa.warn(text)
			}
			for _, text := range r.Notes {
				pa.detail(text)
			}
			if err := pa.tellPID(fds[0]); err != nil {
				return 125, err
			}
			if err := pa.connect(fds[1:]); err != nil {
				return 125, err
			}
		case r.Status != nil:
			pa.ended = pa.p.has("pid") // else some of its processes may not be dead yet
			return exitStatus(unix.WaitStatus(*r.Status)), nil
		}
	}
}

// explain finds out why the host refused to build the sandbox, where that is not known yet.
func (pa *parent) explain(f *Failure) error {
	if f.Fix != "" || f.Exit != 125 {
		return f
	}
	return userns.Explain(f, pa.p.Caller)
}

// exitStatus is what a shell says of such an end.
func exitStatus(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// postMortem says how sbx-init ended, which should have reported it.
func (pa *parent) postMortem(err error) error {
	status, waitErr := pa.reap()
	switch {
	case !errors.Is(err, errEnded), waitErr != nil:
		return err
	case status.Signaled():
		return fmt.Errorf("%w: %v", err, status.Signal())
	}
	return fmt.Errorf("%w: exit status %d", err, status.ExitStatus())
}

// timeOut ends the sandbox; a command that the stop signal asks first may do so itself.
func (pa *parent) timeOut(d time.Duration) {
	sig := unix.Signal(pa.p.Parent.StopSignal)
	if sig != 0 && !pa.command.deadly(sig) && pa.command.signal(sig) {
		time.Sleep(time.Duration(pa.p.Parent.StopTimeout))
	}
	pa.end(&timeoutError{d})
}

// end ends the sandbox, for that reason.
func (pa *parent) end(reason ending) {
	pa.command.endFor(reason)
	if !pa.p.has("pid") {
		pa.mu.Lock()
		if pa.child != nil {
			unix.PidfdSendSignal(pa.child.PidFD, unix.SIGSTOP, nil, 0) // so that it reports no other end
		}
		pa.stopAll().release(unix.SIGKILL)
		pa.mu.Unlock()
	}
	pa.kill()
}

// kill ends sbx-init, and thereby its pid namespace, and all that is in it.
func (pa *parent) kill() {
	pa.mu.Lock()
	defer pa.mu.Unlock()
	if pa.child != nil {
		unix.PidfdSendSignal(pa.child.PidFD, unix.SIGKILL, nil, 0)
	}
}

// reap waits for sbx-init. Its process id is free for others then.
func (pa *parent) reap() (unix.WaitStatus, error) {
	pa.mu.Lock()
	defer pa.mu.Unlock()
	if pa.child == nil {
		return 0, unix.ECHILD
	}
	status, err := pa.child.Wait()
	unix.Close(pa.child.PidFD)
	pa.child = nil
	return status, err
}

// warnOf tells of an error that changes nothing for this run.
func (pa *parent) warnOf(err error) {
	if err != nil {
		pa.warn(err.Error())
	}
}

func (pa *parent) close() {
	for _, n := range pa.networks {
		n.close()
	}
	if pa.driver != nil {
		pa.driver.close()
	}
	if pa.tty != nil {
		pa.tty.restore()
	}
	// Where no process of the sandbox is left, its files can go while the kernel takes
	// the mounts down.
	if pa.ended && pa.dir != nil {
		pa.warnOf(pa.dir.remove(pa.p.Caller))
	}
	pa.reap()
	if !pa.ended && pa.dir != nil {
		pa.warnOf(pa.dir.remove(pa.p.Caller))
	}
	if pa.reports != nil {
		pa.reports.Close()
	}
	pa.warnOf(pa.cidFile.remove())
	pa.warnOf(pa.pidFile.remove())
	if pa.name != nil {
		pa.name.release()
	}
}
