package sandbox

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// output is what the command writes to a terminal, a pipe or a socket of the caller's; the
// parent copies it. Nothing else can tell that something was written which nobody reads.
// That ends a writer, by SIGPIPE, but a first process is spared by the kernel: it may go on
// for ever, and if it fails, that looks like any other failure of it.
//
//	sbx run IMAGE yes | head -1              141: it is ended
//	sbx run IMAGE sh -c 'exit 1' | true      1: it has written nothing
//	sbx run IMAGE python ... | head -1       python's: it ignores SIGPIPE, and is told by EPIPE
type output struct{ from, to *os.File }

func newOutput(fd int, from *os.File) (output, error) {
	// A copy: where a write to descriptor 1 or 2 fails, the Go runtime ends sbx at once.
	to, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	return output{from, os.NewFile(uintptr(to), "stdout")}, err
}

// connect copies between the command and the caller's terminals, pipes and sockets. It runs,
// and can be asked what a signal would do to it.
func (pa *parent) connect(terminal []int) error {
	if pa.stdio != nil {
		for _, o := range pa.stdio.outputs {
			pa.copies.Go(func() { pa.copy(o) })
		}
		return nil
	}
	if len(terminal) == 0 {
		return errors.New("bug in sbx: the command has no terminal")
	}
	master := os.NewFile(uintptr(terminal[0]), "terminal")
	o, err := newOutput(1, master)
	if err != nil {
		return err
	}
	pa.copies.Go(func() { pa.copy(o) })
	return pa.tty.connect(master)
}

// copy ends with the last writer, or the reader.
func (pa *parent) copy(o output) {
	text := make([]byte, 64<<10)
	for {
		n, err := o.from.Read(text)
		if err != nil {
			return
		}
		if written, err := o.to.Write(text[:n]); err != nil {
			pa.unwritten(o, n-written, err)
			return
		}
	}
}

func (pa *parent) unwritten(o output, lost int, err error) {
	switch {
	case errors.Is(err, unix.EIO): // the caller's terminal has hung up: SIGHUP says so, and nothing else
		io.Copy(io.Discard, o.from)
	case !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET):
		pa.end(&outputError{err})
	case pa.tty != nil:
		pa.end(signalEnding{unix.SIGPIPE})
	default:
		pa.breakPipe(o, lost)
	}
}

// breakPipe does what a pipe does to its writers when the reader has gone. Once it is closed, the
// kernel kills children of the first process; and what has its own answer gives that. A first
// process is told, and not killed: so where it would be, it must be found out who wrote.
func (pa *parent) breakPipe(o output, lost int) {
	before, deadly := pa.command.written(), pa.command.deadly(unix.SIGPIPE)
	switch {
	case pa.command.gone(): // asked last: of one that is gone, the others know nothing
		pa.tooLate(o, lost)
		return
	case !pa.p.has("pid") || !deadly:
		o.from.Close()
		return
	case before.alone:
		pa.end(signalEnding{unix.SIGPIPE})
		return
	}
	n, err := o.from.Read(make([]byte, 64<<10))
	after, deadly := pa.command.written(), pa.command.deadly(unix.SIGPIPE)
	switch {
	case err != nil, pa.command.gone():
		pa.tooLate(o, lost+n)
	case deadly && after.bytes != before.bytes:
		pa.end(signalEnding{unix.SIGPIPE})
	default:
		o.from.Close()
	}
}

// tooLate finds out whether a command that has ended would have been killed before, writing to
// the caller's pipe: by what that has no room for.
func (pa *parent) tooLate(o output, lost int) {
	rest, _ := io.Copy(io.Discard, o.from)
	held, _ := unix.IoctlGetInt(int(o.to.Fd()), unix.TIOCINQ)
	if lost+int(rest)+held > 64<<10 {
		pa.unread.Store(true)
	}
}

// drain waits until all that the command has written is out. None of those who wrote lives,
// so that end comes, unless the reader is stuck: whoever then ends sbx does not wait.
func (pa *parent) drain() {
	done := make(chan struct{})
	go func() {
		pa.copies.Wait()
		close(done)
	}()
	over, late := pa.command.over, (<-chan time.Time)(nil)
	if pa.command.endedFor() != nil {
		over, late = nil, time.After(time.Second)
	}
	select {
	case <-done:
	case <-over:
	case <-late:
	}
}
