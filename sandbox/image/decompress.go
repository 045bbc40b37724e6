//go:build !hot

package image

import (
	"bufio"
	"errors"
	"io"
	"sync/atomic"
)

// decompress returns the tar in a blob, by what its first bytes say: media types lie.
func decompress(blob io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(blob, 1<<18)
	magic, err := in.Peek(magicSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return decompressor(in, compression(magic))
}

// errStopped: another layer of the image could not be unpacked.
var errStopped = errors.New("stopped")

// countingReader counts what was read, to tell how much comes out of how little.
type countingReader struct {
	r       io.Reader
	n       atomic.Int64
	stopped *atomic.Bool
}

func (c *countingReader) Read(p []byte) (int, error) {
	if c.stopped.Load() {
		return 0, errStopped
	}
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (c *countingReader) ratio(out int64) error {
	if in := c.n.Load(); out > ratioMatters && out/maxRatio > in {
		return limitf("%d bytes out of %d: more than %d times", out, in, maxRatio)
	}
	return nil
}

// readAhead reads on a goroutine of its own, some chunks ahead.
type readAhead struct {
	full, empty chan []byte
	quit        chan struct{}
	done        chan struct{}
	err         error // why full was closed
	chunk, rest []byte
}

func newReadAhead(r io.Reader) *readAhead {
	const chunks, size = 4, 1 << 18
	a := &readAhead{
		full:  make(chan []byte, chunks), // as many as there are: sending never waits
		empty: make(chan []byte, chunks),
		quit:  make(chan struct{}),
		done:  make(chan struct{}),
	}
	for range chunks {
		a.empty <- make([]byte, size)
	}
	go a.run(r)
	return a
}

func (a *readAhead) run(r io.Reader) {
	defer close(a.done)
	defer close(a.full)
	for {
		select {
		case <-a.quit:
			a.err = io.ErrClosedPipe
			return
		case b := <-a.empty:
			n, err := io.ReadFull(r, b)
			if n > 0 {
				a.full <- b[:n]
			}
			// With some bytes it may be ReadFull's own; then the next read tells.
			if err != nil && !(n > 0 && err == io.ErrUnexpectedEOF) {
				a.err = err
				return
			}
		}
	}
}

// next returns what comes next, at most max bytes of it, until it is called again.
func (a *readAhead) next(max int64) ([]byte, error) {
	for len(a.rest) == 0 {
		if a.chunk != nil {
			a.empty <- a.chunk[:cap(a.chunk)]
			a.chunk = nil
		}
		b, ok := <-a.full
		if !ok {
			return nil, a.err
		}
		a.chunk, a.rest = b, b
	}
	n := min(int64(len(a.rest)), max)
	b := a.rest[:n]
	a.rest = a.rest[n:]
	return b, nil
}

func (a *readAhead) Read(p []byte) (int, error) {
	b, err := a.next(int64(len(p)))
	return copy(p, b), err
}

// stop ends the goroutine; afterwards nothing reads from the source any more.
func (a *readAhead) stop() {
	select {
	case <-a.quit:
	default:
		close(a.quit)
	}
	<-a.done
}
