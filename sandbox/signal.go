package sandbox

import (
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// forwardSignals passes on what arrives at the parent. A signal before there is a command
// ends sbx, and with it all that it has started.
func forwardSignals(pa *parent) {
	c := make(chan os.Signal, 64)
	// Each one costs the Go runtime sixty microseconds: those that people and shells send
	// come first, and the others when this run has turned out to be none of the shortest.
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP)
	if pa.tty != nil {
		pa.tty.resize()
	}
	time.AfterFunc(100*time.Millisecond, func() { signal.Notify(c, otherSignals()...) })
	forward(c, pa)
}

func otherSignals() []os.Signal {
	var others []os.Signal
	for n := unix.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP: // cannot be caught
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE: // ours; the runtime's; a write's
		case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP: // of our own making
		case 32, 33: // of the C library
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

// suspend stops the command and then sbx, as ^Z stops any job, and goes on with both.
func (pa *parent) suspend() {
	if !pa.command.signal(unix.SIGSTOP) {
		return
	}
	unix.Kill(os.Getpid(), unix.SIGSTOP)
	pa.command.signal(unix.SIGCONT)
}
