package sandbox

import (
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// stdioFiles are what the command gets as descriptors 0, 1 and 2 if it has no terminal of
// its own: the caller's, so that what it reads, or writes to a file, is copied by nobody.
//
// Never the caller's terminal: who holds that can read what is typed, whatever the
// descriptor is for. A pipe stands in for it, as with podman; and for what has another end
// that may go away, see output.go. And no directory: it leads to all of the host's files
// (CVE-2024-21626).
type stdioFiles struct {
	files   [3]*os.File
	ours    []*os.File // ends of pipes that are closed once the sandbox has its own
	outputs []output
}

func (pa *parent) openStdio() (s *stdioFiles, err error) {
	streams := [...]string{"stdin", "stdout", "stderr"}
	s = &stdioFiles{}
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
		case fd == 0 && term.IsTerminal(0):
			err = s.relayIn()
		case fd > 0 && (term.IsTerminal(fd) || st.Mode&unix.S_IFMT == unix.S_IFIFO || st.Mode&unix.S_IFMT == unix.S_IFSOCK):
			err = s.relayOut(fd)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func sameFile(a, b int) bool {
	var s, t unix.Stat_t
	return unix.Fstat(a, &s) == nil && unix.Fstat(b, &t) == nil && s.Dev == t.Dev && s.Ino == t.Ino
}

// relayIn puts a pipe in the place of the terminal on stdin.
func (s *stdioFiles) relayIn() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.files[0], s.ours = r, append(s.ours, r)
	go func() {
		io.Copy(w, os.Stdin)
		w.Close()
	}()
	return nil
}

// relayOut puts a pipe in the place of the caller's descriptor fd.
func (s *stdioFiles) relayOut(fd int) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 256<<10) // 1.8 GB/s where the usual 64 KiB gave 1.2
	o, err := newOutput(fd, r)
	s.files[fd], s.ours, s.outputs = w, append(s.ours, w), append(s.outputs, o)
	return err
}

// handedOver closes what only the sandbox is to hold.
func (s *stdioFiles) handedOver() {
	for _, f := range s.ours {
		f.Close()
	}
}
