//go:build !hot

package slirp

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxPieces of a flow go out at a time.
const maxPieces = 64

// The two directions of a flow of TCP. Bytes go between the stack's own memory and the host's
// socket, through no buffer of ours but for small pieces; a flow that stands still holds none.

// stalled is how long nobody looks whether the source of a flow is still there, when there is no room
// for more of it.
const stalled = 3 * time.Second

// copyTo writes what comes from the sandbox to outside, until its FIN.
func (e *endpoint) copyTo(outside *net.TCPConn) error {
	raw, err := outside.SyscallConn()
	if err != nil {
		return err
	}
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	for {
		var failed error
		var readErr tcpip.Error
		err := raw.Write(func(fd uintptr) bool {
			if readErr, failed = e.send(int(fd)); failed == unix.EAGAIN {
				outside.SetWriteDeadline(time.Now().Add(stalled))
			}
			return failed != unix.EAGAIN
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if tcp.EndpointState(e.ep.State()) == tcp.StateError {
				return err
			}
			outside.SetWriteDeadline(time.Time{})
			continue
		}
		if err = errors.Join(err, failed); err != nil {
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

// send writes all that has come from the sandbox to a socket that does not block, as far as that
// takes it.
func (e *endpoint) send(fd int) (readErr tcpip.Error, failed error) {
	g := gathered{fd: fd}
	if g.missing, readErr = e.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); readErr != nil {
		return readErr, nil
	}
	if _, readErr = e.ep.Read(&g, tcpip.ReadOptions{Peek: true}); g.failed != nil || g.written == 0 {
		return readErr, g.failed
	}
	sent := sent(g.written)
	e.ep.Read(&sent, tcpip.ReadOptions{})
	if int64(4*g.written) >= e.ep.SocketOptions().GetReceiveBufferSize() { // the sandbox fills its window, which is half of that
		e.room.more(e, true, false)
	}
	e.flow.addSent(g.written)
	return nil, nil
}

// gathered are pieces of what a flow has received, which stay where they are until they have
// been written. The last of those that are missing has them written: after that the stack may use
// their memory again.
type gathered struct {
	fd, missing int
	pieces      [][]byte
	written     int
	failed      error
}

var errWritten = errors.New("all is written")

func (g *gathered) Write(b []byte) (int, error) {
	g.pieces = append(g.pieces, b)
	g.missing -= len(b)
	if g.missing > 0 && len(g.pieces) < maxPieces {
		return len(b), nil
	}
	g.written, g.failed = writev(g.fd, g.pieces)
	return 0, errWritten
}

// sent takes as many bytes off the queue of a flow.
type sent int

func (s *sent) Write(b []byte) (int, error) {
	n := min(len(b), int(*s))
	*s -= sent(n)
	if n < len(b) {
		return n, errWritten
	}
	return n, nil
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

// copyFrom writes what comes from outside to the sandbox, until its FIN.
func (e *endpoint) copyFrom(outside *net.TCPConn) error {
	raw, err := outside.SyscallConn()
	if err != nil {
		return err
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	e.queue.EventRegister(&entry)
	defer e.queue.EventUnregister(&entry)
	still := time.NewTimer(stalled)
	defer still.Stop()
	for {
		if err := e.settle(raw); err != nil {
			return err
		}
		var failed error
		var writeErr tcpip.Error
		ended := false
		err := raw.Read(func(fd uintptr) bool {
			from := arrived{fd: int(fd)}
			if from.n, failed = waiting(from.fd); from.n > 0 {
				var n int64
				n, writeErr = e.ep.Write(&from, tcpip.WriteOptions{})
				e.flow.addReceived(int(n))
				e.sent(int(n))
			}
			ended = from.n == 0 && failed == nil
			return failed != unix.EAGAIN
		})
		if err = errors.Join(err, failed); err != nil || ended {
			return err
		}
		switch writeErr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			if e.room.more(e, false, true) {
				continue
			}
			still.Reset(stalled)
			select {
			case <-ready:
			case <-still.C:
				if err := socketError(raw); err != nil {
					return err
				}
			}
		default:
			return errors.New(writeErr.String())
		}
	}
}

// arrived reads n bytes from a socket that has as many (tcpip.Payloader).
type arrived struct{ fd, n int }

func (a *arrived) Len() int { return a.n }

func (a *arrived) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := readv(a.fd, [][]byte{b})
	if n == 0 && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
