//go:build !hot

package image

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve is a file that only takes up room. To remove an image its records are written
// once more, and the index, which a full disk would not allow (podman #13967).
const (
	reserve     = "reserve"
	reserveSize = 1 << 20
)

// refill makes the reserve, if it is not there, or whoever made it was killed over it. A disk
// without room for it has none.
func (s *Store) refill() {
	f, err := os.OpenFile(s.path(reserve), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() >= reserveSize {
		return
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, reserveSize)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.Write(make([]byte, reserveSize))
	}
	if err != nil {
		os.Remove(f.Name())
	}
}

// pressed calls f, and once more with the reserve given up if the disk is full.
func (s *Store) pressed(f func() error) error {
	err := f()
	if full(err) && os.Remove(s.path(reserve)) == nil {
		err = f()
	}
	return err
}
