package sandbox

import (
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// stdioFiles are what the command gets as descriptors 0, 1 and 2 if it has no terminal of
// its own: the caller's, so that what it writes to a file or a pipe is copied by nobody.
//
// Never the caller's terminal: who holds that can read what is typed, whatever the
// descriptor is for. A pipe stands in for it, as with podman. And no directory: it leads
// to all of the host's files (CVE-2024-21626).
type stdioFiles struct {
	files  [3]*os.File
	ours   []*os.File // ends of pipes that are closed once the sandbox has its own
	copies sync.WaitGroup
}

func (pa *parent) openStdio() (*stdioFiles, error) {
	s, streams := &stdioFiles{}, [...]string{"stdin", "stdout", "stderr"}
	for fd, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if fd == 0 && !pa.p.Parent.Interactive || slices.Contains(pa.p.Parent.Detached, streams[fd]) {
			continue // /dev/null
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil, Errorf("descriptor %d is a directory: the command could reach the host's files through it", fd)
		}
		s.files[fd] = f
		switch {
		case fd == 2 && len(s.ours) > 0 && s.files[1] != nil && s.files[1] != os.Stdout && sameFile(1, 2):
			s.files[2] = s.files[1] // one pipe keeps the order of what is written to both
		case term.IsTerminal(fd):
			if err := s.relay(fd, f); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func sameFile(a, b int) bool {
	var s, t unix.Stat_t
	return unix.Fstat(a, &s) == nil && unix.Fstat(b, &t) == nil && s.Dev == t.Dev && s.Ino == t.Ino
}

// relay puts a pipe in the place of the terminal f.
func (s *stdioFiles) relay(fd int, f *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	if fd == 0 {
		s.files[0], s.ours = r, append(s.ours, r)
		go func() {
			io.Copy(w, f)
			w.Close()
		}()
		return nil
	}
	s.files[fd], s.ours = w, append(s.ours, w)
	s.copies.Go(func() {
		io.Copy(f, r)
		r.Close()
	})
	return nil
}

// handedOver closes what only the sandbox is to hold.
func (s *stdioFiles) handedOver() {
	for _, f := range s.ours {
		f.Close()
	}
}

// drain waits until all that the command wrote is on the terminal. All who could write are
// dead by now.
func (s *stdioFiles) drain() {
	done := make(chan struct{})
	go func() {
		s.copies.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second): // the terminal is stopped
	}
}
