package sandbox

import (
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// forwardSignals passes on what arrives at the parent. A signal before there is a command
// ends sbx, and with it all that it has started; in the first milliseconds it is the kernel
// that ends sbx, and the next one sweeps.
func forwardSignals(pa *parent) {
	c := make(chan os.Signal, 64)
	// Each one costs the Go runtime sixty microseconds: those that people and shells send
	// come first, and the others when this run has turned out to be none of the shortest.
	notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP)
	if pa.tty != nil {
		pa.tty.resize()
	}
	time.AfterFunc(100*time.Millisecond, func() { notify(c, otherSignals()...) })
	forward(c, pa)
}

// notify asks for those of the signals that are not ignored, as nohup(1) has it.
func notify(c chan<- os.Signal, signals ...os.Signal) {
	signal.Notify(c, slices.DeleteFunc(signals, signal.Ignored)...)
}

func otherSignals() []os.Signal {
	var others []os.Signal
	for n := unix.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP: // cannot be caught
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE: // ours; the runtime's; a write's
		case unix.SIGTTIN, unix.SIGTTOU: // stop sbx in the background, as they should
		case 32, 33, 34: // of C libraries: the Go runtime takes none of them
		default:
			others = append(others, n)
		}
	}
	return others
}

// again is how soon a second ^C must follow the first to mean "at once".
const again = time.Second

// forward passes signals on to the command. One that the command has no answer to, and
// that would kill any other process, ends the sandbox.
func forward(c <-chan os.Signal, pa *parent) {
	var interrupted time.Time
	for got := range c {
		sig, ok := got.(unix.Signal)
		if !ok {
			continue
		}
		switch {
		case sig == unix.SIGWINCH && pa.tty != nil:
			pa.tty.resize()
			continue
		case sig == unix.SIGTSTP:
			pa.suspend()
			continue
		case !pa.p.Parent.SigProxy && (sig != unix.SIGINT || pa.tty == nil):
			pa.end(signalEnding{sig})
			continue
		}
		if sig == unix.SIGINT {
			if time.Since(interrupted) < again {
				pa.end(signalEnding{unix.SIGINT})
				continue
			}
			interrupted = time.Now()
		}
		if !pa.command.signal(sig) && sig != unix.SIGCONT && sig != unix.SIGWINCH || !pa.p.Command.Init && pa.command.deadly(sig) {
			pa.end(signalEnding{sig})
		}
	}
}

// suspend stops the sandbox and then sbx, as ^Z stops any job, and goes on with both.
func (pa *parent) suspend() {
	pa.mu.Lock()
	defer pa.mu.Unlock()
	stopped := pa.stopAll()
	if pa.tty == nil {
		stop()
	} else {
		pa.warnOf(pa.tty.aside(stop))
	}
	stopped.release(unix.SIGCONT)
}

// processes are held by pidfds: while sbx is stopped, for days maybe, their ids may have
// become those of others.
type processes map[int]int

func (p processes) release(sig unix.Signal) {
	for _, pidfd := range p {
		unix.PidfdSendSignal(pidfd, sig, nil, 0)
		unix.Close(pidfd)
	}
}

// stopAll stops what runs in the sandbox, wherever it has put itself. None that has been told
// to can fork any more (copy_process, kernel/fork.c), so that in the end all are found.
// pa.mu is held.
func (pa *parent) stopAll() processes {
	stopped := processes{}
	if pa.child == nil {
		return stopped
	}
	for {
		known := len(stopped)
		for queue := []int{pa.child.Pid}; len(queue) > 0; queue = queue[1:] {
			for _, pid := range children(strconv.Itoa(queue[0])) {
				queue = append(queue, pid)
				if _, ok := stopped[pid]; ok {
					continue
				}
				if pidfd, err := unix.PidfdOpen(pid, 0); err == nil {
					unix.PidfdSendSignal(pidfd, unix.SIGSTOP, nil, 0)
					stopped[pid] = pidfd
				}
			}
		}
		if len(stopped) == known {
			return stopped
		}
	}
}

// stop returns when sbx has been continued. The signal is for this thread: one for the
// process could find another, and this one would still run on for a while.
func stop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
