package image

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// flock is flock(2), whatever signals arrive meanwhile.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &fs.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}
