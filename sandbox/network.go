package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sbx/slirp"
	"sbx/userns"
)

// network is sbx-net, the process that is the sandbox's network: what reads what the sandbox
// sends is neither the process that keeps files and ids, nor able to execute anything.
type network struct {
	process *userns.Child // nil if it is shared with others
	control *os.File
	asked   bool          // ready has been called,
	ports   []uint16      // and has returned these
	linked  atomic.Bool   // it has served the sandbox
	stopped atomic.Bool   // its end is wanted
	watched bool          // wait has been called, or is about to be
	ended   chan struct{} // closed when it has returned
	err     error         // what it returned
	last    bool          // it has something to write or to say at its end
	counts  func(string)  // takes what it has refused or dropped; nil is nobody
}

// openNetLog opens the file of --net-log, in the caller's name, before anything is there that
// would write to it. The result is nil if there is none.
func (p *Plan) openNetLog() (*os.File, error) {
	links := p.links()
	if len(links) == 0 || links[0].Log == "" {
		return nil, nil
	}
	name := links[0].Log
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o600) // a pipe is waited for by no one
	if errors.Is(err, unix.ENXIO) {
		if st, statErr := os.Stat(name); statErr == nil && st.Mode()&os.ModeNamedPipe != 0 {
			return nil, &Error{Text: "--net-log: open " + name + ": nobody reads it", Fix: "start who does first: cat " + name}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("--net-log: %w", err)
	}
	return f, nil
}

// startNetwork starts sbx-net, in the namespaces of this process. It ends with its control socket;
// without a log it dies with the calling thread, too. The log, if any, stays the caller's to close.
func startNetwork(c *slirp.Config, log *os.File, counts func(string)) (*network, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	unix.SetNonblock(pair[0], true)
	n := &network{control: os.NewFile(uintptr(pair[0]), "sbx-net"), ended: make(chan struct{}), last: log != nil || counts != nil, counts: counts}
	defer unix.Close(pair[1])
	p := new(userns.Program)
	if log == nil { // else there are lines to write
		p.Do("die with sbx", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	}
	p.Do("new session", unix.SYS_SETSID) // what is typed is not for it
	p.Do("no new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	p.Files([]int{userns.DevNull, userns.DevNull, 2, pair[1]})
	if err := p.Exec([]string{"/proc/self/exe"}, []string{"sbx-net"}, []string{"GOMAXPROCS=1"}); err != nil {
		return nil, err
	}
	if n.process, err = p.Spawn(0); err != nil {
		n.control.Close()
		return nil, err
	}
	if err := slirp.Send(n.control, slirp.Order{Config: c, Counts: counts != nil}, log); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// ready waits until sbx-net has done all that may fail, and returns the ports that it has from
// the kernel. Wait calls it, if nobody has before.
func (n *network) ready() ([]uint16, error) {
	if n.asked {
		return n.ports, nil
	}
	n.asked = true
	var r slirp.Reply
	if _, err := slirp.Receive(n.control, &r); err != nil {
		if n.process != nil {
			err = errors.Join(err, n.process.Executed())
		}
		return nil, err
	}
	if r.Failure != "" {
		return nil, &Error{Text: r.Failure, Fix: r.Fix}
	}
	n.ports = r.Ports
	return n.ports, nil
}

// wait returns when sbx-net has ended, with why, unless it was stopped. Until then it passes
// warnings on. It is called once.
func (n *network) wait(warn func(string)) error {
	defer close(n.ended)
	n.err = n.end(warn)
	return n.err
}

func (n *network) end(warn func(string)) error {
	var err, failure error
	if !n.asked {
		_, err = n.ready()
	}
	for err == nil {
		var r slirp.Reply
		if _, err = slirp.Receive(n.control, &r); err != nil {
			break
		}
		switch {
		case r.Failure != "": // the end follows
			failure = &Error{Text: r.Failure, Fix: r.Fix}
		case r.Counts != "":
			n.counts(r.Counts)
		default:
			warn(r.Warning)
		}
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("sbx-net has ended")
	}
	if n.stopped.Load() {
		return nil
	}
	return cmp.Or(failure, err)
}

// connect hands over the link and, with published ports, what sockets in the sandbox are to be
// asked for on.
func (n *network) connect(fds []int) error {
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "of the sandbox's network")
		defer f.Close()
		if err := slirp.Send(n.control, slirp.Order{Sockets: i == 1}, f); err != nil {
			<-n.ended
			return cmp.Or(n.err, err)
		}
	}
	n.linked.Store(true)
	return nil
}

// stop ends sbx-net, and close waits for that.
func (n *network) stop() {
	n.stopped.Store(true)
	switch {
	case n.last:
		n.shutdown(unix.SHUT_WR) // its own end follows, when all is written
	case n.process == nil:
		n.shutdown(unix.SHUT_RDWR)
	default:
		n.kill()
	}
}

func (n *network) kill() { unix.PidfdSendSignal(n.process.PidFD, unix.SIGKILL, nil, 0) }

// shutdown lets it end of itself.
func (n *network) shutdown(how int) {
	if raw, err := n.control.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), how) })
	}
}

// lastLines is how long sbx-net may take to tell its log of what was still open.
const lastLines = slirp.LastLines + time.Second

func (n *network) close() {
	n.stop()
	if n.last {
		n.awaitEnd(lastLines)
	}
	if n.process != nil {
		n.kill()
		n.process.Wait()
		unix.Close(n.process.PidFD)
		if n.watched {
			n.awaitEnd(lastLines) // of what it has said, which is there
		}
	}
	n.control.Close()
}

// awaitEnd waits for the end of the control socket.
func (n *network) awaitEnd(limit time.Duration) {
	if !n.watched { // the sandbox was not to be
		go n.wait(func(string) {})
	}
	select {
	case <-n.ended:
	case <-time.After(limit):
	}
}
