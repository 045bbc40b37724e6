//go:build !hot

package fuseoverlay

import (
	"sync"

	"golang.org/x/sys/unix"
)

// A descriptor is open while it is in use, and for as long after that as others do not
// need its place.
type descriptor struct {
	fd     int // while open
	open   bool
	uses   int
	pinned bool // nothing else leads to the object: it stays open
	gone   bool // to be closed after its last use
	// Among those that may be closed, the last used first.
	newer, older *descriptor
}

// descriptors bounds how many are open.
type descriptors struct {
	mu    sync.Mutex
	ring  descriptor // its older is the last used, its newer the one to be closed next
	open  int
	limit int
}

func newDescriptors(limit int) *descriptors {
	c := &descriptors{limit: limit}
	c.ring.newer, c.ring.older = &c.ring, &c.ring
	return c
}

func (d *descriptor) unlink() {
	if d.newer != nil {
		d.newer.older, d.older.newer = d.older, d.newer
		d.newer, d.older = nil, nil
	}
}

func (c *descriptors) link(d *descriptor) {
	d.newer, d.older = &c.ring, c.ring.older
	d.older.newer, c.ring.older = d, d
}

// use returns the descriptor, if it is open, to be handed back by done.
func (c *descriptors) use(d *descriptor) (fd int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !d.open {
		return -1, false
	}
	d.uses++
	d.unlink()
	return d.fd, true
}

// put makes fd that of d, unless another was quicker, and uses it.
func (c *descriptors) put(d *descriptor, fd int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.uses++
	if d.open {
		unix.Close(fd)
		d.unlink()
		return d.fd
	}
	d.fd, d.open = fd, true
	c.open++
	for c.open > c.limit && c.ring.newer != &c.ring {
		c.close(c.ring.newer)
	}
	return fd
}

func (c *descriptors) done(d *descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.uses--; d.uses > 0 || !d.open {
		return
	}
	switch {
	case d.gone:
		c.close(d)
	case !d.pinned:
		c.link(d)
	}
}

// pin keeps an open descriptor open; it says whether it is.
func (c *descriptors) pin(d *descriptor, pinned bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.pinned = pinned
	if d.open && d.uses == 0 {
		d.unlink()
		if !pinned {
			c.link(d)
		}
	}
	return d.open
}

// drop closes what will not be used any more, when nobody uses it.
func (c *descriptors) drop(d *descriptor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.gone = true
	if d.open && d.uses == 0 {
		c.close(d)
	}
}

// spare closes half of what is not in use: the process, or the machine, has run out of descriptors.
func (c *descriptors) spare() (some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := c.open / 2; n >= 0 && c.ring.newer != &c.ring; n-- {
		c.close(c.ring.newer)
		some = true
	}
	return some
}

func (c *descriptors) close(d *descriptor) {
	d.unlink()
	unix.Close(d.fd)
	d.open = false
	c.open--
}

// openat is openat(2), which makes room where there are too many open files.
func (c *descriptors) openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := retry(func() (int, error) { return unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_LARGEFILE, mode) })
		if (err == unix.EMFILE || err == unix.ENFILE) && c.spare() {
			continue
		}
		return fd, err
	}
}

// retry does again what a signal of Go's own runtime has interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}
