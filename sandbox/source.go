package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sources holds, for each step that brings something of the host's, a mount of it that
// belongs to no tree yet, or for an overlay its directories. They are all taken before
// the first step: a mount made later may hide them, and a name may come to mean
// something else (CVE-2024-42472).
type sources struct {
	mounts map[int]*os.File   // by the step's number
	dirs   map[int][]*os.File // overlay: the layers, then upper and work if they are on disk; volume: where it lies
	proc   *os.File           // the host's /proc, for where a new one is refused; nil if it is not there
	denied []int              // the steps whose sources wait for openDenied
}

func openSources(steps []Step) (*sources, error) {
	s := &sources{mounts: map[int]*os.File{}, dirs: map[int][]*os.File{}}
	for i := range steps {
		err := s.open(i, &steps[i])
		if errors.Is(err, unix.EACCES) {
			s.denied = append(s.denied, i)
		} else if err != nil {
			return nil, sourceError(&steps[i], err)
		}
	}
	return s, nil
}

// openDenied opens what the caller's own id could not: a directory on the way may belong to
// a subordinate one, as :U leaves it. These ids are mapped now.
func (s *sources) openDenied(steps []Step) error {
	for _, i := range s.denied {
		if err := s.open(i, &steps[i]); err != nil {
			return sourceError(&steps[i], err)
		}
	}
	return nil
}

func (s *sources) open(i int, step *Step) (err error) {
	switch step.Op {
	case opBind, opNode:
		s.mounts[i], err = cloneMount(step.Src, !step.NonRecursive && step.Op == opBind)
	case opOverlay:
		s.dirs[i], err = openLayers(step)
	case opVolume:
		if dir := filepath.Dir(filepath.Dir(step.Src)); dir != inMemory {
			s.dirs[i], err = openDirs(dir)
		}
	case opProc:
		s.proc, _ = cloneMount("/proc", true)
	}
	if errors.Is(err, fs.ErrNotExist) && step.Optional {
		return nil
	}
	return err
}

func sourceError(step *Step, err error) error {
	text := fmt.Sprintf("%s %s", step.Op, step.Dst)
	switch {
	case errors.Is(err, fs.ErrNotExist) && step.Op == opNode:
		return &Error{Text: text, Err: err, Fix: "the host has no such device"}
	case errors.Is(err, unix.EINVAL) && step.NonRecursive && mountedBelow(step.Src) != "":
		return &Error{Text: text, Err: err, Fix: mountedBelow(step.Src) + " is mounted in it, and without root nobody sees what lies under a mount: leave bind-nonrecursive out"}
	case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(step.Why, "--"):
		return &Error{Text: text, Err: err, Fix: "the source of " + step.Why + " must exist; create it or drop the flag"}
	}
	return fmt.Errorf("%s: %w", text, err)
}

// mountedBelow returns a mount point in dir, "" if there is none.
func mountedBelow(dir string) string {
	info, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(info)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], strings.TrimSuffix(dir, "/")+"/") && fields[4] != dir {
			return fields[4]
		}
	}
	return ""
}

// cloneMount returns a mount of src, with the mounts below it, in no tree (open_tree(2)).
func cloneMount(src string, recursive bool) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, src, flags)
	if err != nil {
		return nil, &fs.PathError{Op: "open_tree", Path: src, Err: err}
	}
	return os.NewFile(uintptr(fd), src), nil
}

// cloneOf returns a mount of what f holds, in no tree.
func cloneOf(f *os.File) (*os.File, error) {
	fd, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, &fs.PathError{Op: "open_tree", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func openLayers(step *Step) ([]*os.File, error) {
	paths := step.Layers
	if step.Upper != "" && step.Upper != inMemory {
		paths = append(paths[:len(paths):len(paths)], step.Upper, step.Work)
	}
	return openDirs(paths...)
}

func openDirs(paths ...string) ([]*os.File, error) {
	var dirs []*os.File
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		dirs = append(dirs, os.NewFile(uintptr(fd), path))
	}
	return dirs, nil
}
