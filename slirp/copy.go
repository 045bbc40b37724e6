//go:build !hot

package slirp

import (
	"errors"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// The two directions of a flow of TCP. Bytes go between the stack's own memory and the host's
// socket, through no buffer of ours but for small pieces; a flow that stands still holds none.

// copyTo writes what comes from the sandbox to outside, until its FIN.
func (e *endpoint) copyTo(outside *net.TCPConn) error {
	raw, err := outside.SyscallConn()
	if err != nil {
		return err
	}
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	var to gatherer
	defer to.release()
	for {
		var readErr tcpip.Error
		err := raw.Write(func(fd uintptr) bool {
			to.fd, to.failed = int(fd), nil
			if to.flush() == nil {
				var result tcpip.ReadResult
				result, readErr = e.ep.Read(&to, tcpip.ReadOptions{})
				e.flow.addSent(result.Count)
				to.flush()
			}
			return to.failed != unix.EAGAIN
		})
		if err = errors.Join(err, to.failed); err != nil {
			return err
		}
		switch readErr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		case *tcpip.ErrClosedForReceive:
			return nil
		default:
			return errors.New(readErr.String())
		}
	}
}

// fill reads all that is there, as far as it fits into b: it comes in segments.
func (e *endpoint) fill(b []byte) (n int, err tcpip.Error) {
	for n < len(b) {
		rest := tcpip.SliceWriter(b[n:])
		result, err := e.ep.Read(&rest, tcpip.ReadOptions{})
		if err != nil {
			return n, err
		}
		n += result.Count
	}
	return n, nil
}

// gatherer writes to a socket that does not block: at once what is large, and small pieces
// together. The first error stays in failed.
type gatherer struct {
	fd     int
	failed error
	small  *[gatherSize]byte
	n      int
}

const gatherSize = 16 << 10

var gathered = sync.Pool{New: func() any { return new([gatherSize]byte) }}

func (g *gatherer) Write(b []byte) (int, error) {
	if g.n+len(b) > gatherSize {
		if err := g.flush(); err != nil {
			return 0, err
		}
	}
	if len(b) > gatherSize/2 {
		return g.write(b)
	}
	if g.small == nil {
		g.small = gathered.Get().(*[gatherSize]byte)
	}
	g.n += copy(g.small[g.n:], b)
	return len(b), nil
}

// flush writes the small pieces. What is left of them comes first the next time.
func (g *gatherer) flush() error {
	if g.n == 0 || g.failed != nil {
		return g.failed
	}
	n, err := g.write(g.small[:g.n])
	g.n = copy(g.small[:], g.small[n:g.n])
	if g.n == 0 {
		g.release()
	}
	return err
}

func (g *gatherer) write(b []byte) (n int, err error) {
	for n < len(b) && g.failed == nil {
		written, err := unix.Write(g.fd, b[n:])
		switch err {
		case nil:
			n += written
		case unix.EINTR:
		default:
			g.failed = err
		}
	}
	return n, g.failed
}

func (g *gatherer) release() {
	if g.small != nil {
		gathered.Put(g.small)
		g.small = nil
	}
}

// copyFrom writes what comes from outside to the sandbox, until its FIN.
func (e *endpoint) copyFrom(outside *net.TCPConn) error {
	raw, err := outside.SyscallConn()
	if err != nil {
		return err
	}
	// Urgent data is counted like any other only if it is read like any other.
	if err := raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) }); err != nil {
		return err
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	for {
		var failed error
		var writeErr tcpip.Error
		ended := false
		err := raw.Read(func(fd uintptr) bool {
			from := arrived{fd: int(fd)}
			if from.n, failed = unix.IoctlGetInt(int(fd), unix.TIOCINQ); from.n > 0 {
				var n int64
				n, writeErr = e.ep.Write(&from, tcpip.WriteOptions{})
				e.flow.addReceived(int(n))
			} else if failed == nil {
				ended, failed = atEnd(int(fd))
			}
			return failed != unix.EAGAIN
		})
		if err = errors.Join(err, failed); err != nil || ended {
			return err
		}
		switch writeErr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			<-ready
		default:
			return errors.New(writeErr.String())
		}
	}
}

// atEnd tells an end of file from nothing having come yet, EAGAIN.
func atEnd(fd int) (bool, error) {
	n, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK)
	return n == 0 && err == nil, err
}

// arrived reads n bytes from a socket that has as many (tcpip.Payloader).
type arrived struct{ fd, n int }

func (a *arrived) Len() int { return a.n }

func (a *arrived) Read(b []byte) (int, error) {
	for len(b) > 0 {
		n, err := unix.Read(a.fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.ErrUnexpectedEOF
		default:
			return n, nil
		}
	}
	return 0, nil
}
