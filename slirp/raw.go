//go:build !hot

package slirp

import (
	"errors"
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls that cannot block, since their descriptors do not, and that the Go scheduler is not told
// of: with one processor it gives that away to another thread whenever a call takes more than 20
// microseconds, and two threads wake each other up all the time.

func readv(fd int, pieces [][]byte) (int, error)  { return rawVector(unix.SYS_READV, fd, pieces) }
func writev(fd int, pieces [][]byte) (int, error) { return rawVector(unix.SYS_WRITEV, fd, pieces) }

func rawVector(call uintptr, fd int, pieces [][]byte) (int, error) {
	var few [16]unix.Iovec
	vector := few[:0]
	for _, p := range pieces {
		if len(p) > 0 {
			v := unix.Iovec{Base: &p[0]}
			v.SetLen(len(p))
			vector = append(vector, v)
		}
	}
	if len(vector) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&vector[0])), uintptr(len(vector)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// waiting is how many bytes could be read from a socket: none is the end of file, as it is when
// they are read. They are looked at, and not copied (tcp(7), MSG_TRUNC).
func waiting(fd int) (int, error) { return rawReceive(fd, nil, maxSend, unix.MSG_PEEK|unix.MSG_TRUNC) }

// peek copies what could be read from a socket, and leaves it there.
func peek(fd int, b []byte) (int, error) { return rawReceive(fd, &b[0], len(b), unix.MSG_PEEK) }

// discard takes n bytes that have been peeked at off a socket.
func discard(fd, n int) error {
	for n > 0 {
		gone, err := rawReceive(fd, nil, n, unix.MSG_TRUNC)
		if err == nil && gone == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		n -= gone
	}
	return nil
}

func rawReceive(fd int, b *byte, size, flags int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(b)), uintptr(size), uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// socketError is what has befallen a socket, like a RST, that nobody has been told of.
func socketError(c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = errorOf(fd) })
	return errors.Join(err, failed)
}

func errorOf(fd uintptr) error {
	errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return err
}
