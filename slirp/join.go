//go:build !hot

package slirp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// join copies both ways until both have ended. One end's FIN becomes the other's, and so does
// a RST.
func (s *Stack) join(f *flow, client, server *net.TCPConn) {
	stop := context.AfterFunc(s.ctx, func() { client.Close(); server.Close() })
	defer stop()
	in, err := newWay(client, server, f.addReceived)
	if err == nil {
		var out *way
		if out, err = newWay(server, client, f.addSent); err == nil {
			var both sync.WaitGroup
			both.Go(func() { in.pass(out, s.floor) })
			out.pass(in, s.floor)
			both.Wait()
		}
	}
	client.Close()
	server.Close()
}

// way is one direction of a connection to a published port.
type way struct {
	from, to     *net.TCPConn
	source, sink syscall.RawConn
	passed       func(bytes int)
	ended        atomic.Bool // with a FIN

	moving sync.Mutex // what has been seen at from, and is not taken off there yet
	failed error      // what either end has told, which it does once, whoever asks; after a RST there is an end of file
}

func newWay(from, to *net.TCPConn, passed func(bytes int)) (*way, error) {
	source, err := from.SyscallConn()
	if err != nil {
		return nil, err
	}
	sink, err := to.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &way{from: from, to: to, source: source, sink: sink, passed: passed}, nil
}

func (w *way) pass(back *way, floor *floor) {
	err := w.copy(back, floor)
	if err == nil {
		err = back.told() // the way back may have had the RST that is an end of file here
	}
	if err == nil {
		w.to.CloseWrite()
		err = w.await(back)
	}
	if err != nil {
		reset(w.to)
		reset(w.from)
	}
}

// told is what either end has told on this way.
func (w *way) told() error {
	w.moving.Lock()
	defer w.moving.Unlock()
	return w.failed
}

// await returns when the way back has ended, too, or with an error when the source is not there any more, though it
// has said its last word.
func (w *way) await(back *way) error {
	w.ended.Store(true)
	if back.ended.Load() {
		back.from.SetReadDeadline(time.Unix(1, 0)) // it waits there
		return nil
	}
	var failed error
	err := w.source.Read(func(fd uintptr) bool {
		w.moving.Lock()
		defer w.moving.Unlock()
		failed = cmp.Or(w.failed, errorOf(fd))
		return failed != nil
	})
	if back.ended.Load() {
		return nil
	}
	return cmp.Or(failed, err)
}

// copy ends with the FIN of the source. A connection that stands still holds no buffer: what there is
// no room for stays where it is.
func (w *way) copy(back *way, floor *floor) error {
	for {
		if err := w.wait(); err != nil {
			return err
		}
		n, err := w.move()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.to.SetWriteDeadline(time.Time{})
			err = socketError(w.source)
		}
		if err != nil {
			return err
		}
		if floor.take(w, back) && 0 < n && n <= word {
			floor.listen(w, back)
		}
	}
}

// wait returns when there is something to read, or the end.
func (w *way) wait() error {
	var failed error
	err := w.source.Read(func(fd uintptr) bool {
		_, failed = waiting(int(fd))
		return failed != unix.EAGAIN
	})
	return errors.Join(err, failed)
}

// move passes on what is there, when there is room for some of it.
func (w *way) move() (n int, err error) {
	var failed error
	err = w.sink.Write(func(out uintptr) bool {
		if n, failed = w.moveTo(out); failed == unix.EAGAIN {
			w.to.SetWriteDeadline(time.Now().Add(stalled))
		}
		return failed != unix.EAGAIN
	})
	return n, cmp.Or(failed, err)
}

func (w *way) moveTo(out uintptr) (n int, failed error) {
	w.moving.Lock()
	defer w.moving.Unlock()
	if w.failed != nil {
		return 0, w.failed
	}
	err := w.source.Control(func(in uintptr) { n, failed = move(int(in), int(out)) })
	if n > 0 {
		w.passed(n)
	}
	failed = cmp.Or(failed, err)
	if failed != unix.EAGAIN && failed != io.EOF {
		w.failed = failed
	}
	return n, failed
}

// try passes on what is there, if there is room; spoken says that it did, over that there will be nothing more.
func (w *way) try() (spoken, over bool) {
	var n int
	var failed error
	err := w.sink.Control(func(out uintptr) { n, failed = w.moveTo(out) })
	return n > 0, err != nil || failed != nil && failed != unix.EAGAIN
}

const copySize = 256 << 10

// buffers are shared by all connections between published ports and the sandbox.
var buffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// move writes what waits at one socket to another, as much as that takes, and takes it off the first. Of nothing
// that waits it moves nothing; EAGAIN is that the other has no room.
func move(in, out int) (int, error) {
	b := buffers.Get().(*[copySize]byte)
	defer buffers.Put(b)
	n, err := peek(in, b[:])
	switch {
	case err == unix.EAGAIN:
		return 0, nil
	case err == nil && n == 0:
		return 0, io.EOF
	case err != nil:
		return 0, err
	}
	if n, err = writev(out, [][]byte{b[:n]}); err != nil {
		return 0, err
	}
	return n, discard(in, n)
}
