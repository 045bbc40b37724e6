package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// Remove is the stage sbx-remove: as root of the user namespace it removes the directory
// that its message names, whoever owns what is in it.
func Remove() {
	runtime.LockOSThread()
	path, err := userns.Receive()
	if err == nil {
		err = removePath(string(path))
	}
	if err != nil {
		fmt.Fprint(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func removePath(path string) error {
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	return removeTree(parent, filepath.Base(path))
}

// removeTree removes the directory name in parent. It follows no link, and holds three
// descriptors however deep the tree is: a directory found in another one is moved to the
// top first.
func removeTree(parent *os.File, name string) error {
	top, err := openChild(parent, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	moved := 0
	for {
		names, err := top.Readdirnames(100)
		if err != nil && err != io.EOF {
			return err
		}
		if len(names) == 0 {
			break
		}
		for _, name := range names {
			if err := removeEntry(top, name, top, &moved); err != nil {
				return err
			}
		}
		if _, err := top.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR)
}

// removeEntry removes name in dir: a directory with all but the directories in it, which
// it moves to top under new names.
func removeEntry(dir *os.File, name string, top *os.File, moved *int) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return ignoreNotExist(err)
	}
	if unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR) == nil {
		return nil
	}
	for dir != top {
		*moved++
		err := unix.Renameat2(int(dir.Fd()), name, int(top.Fd()), ".sbx-remove-"+strconv.Itoa(*moved), unix.RENAME_NOREPLACE)
		if err != unix.EEXIST { // of one that was killed
			return err
		}
	}
	sub, err := openChild(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer sub.Close()
	for {
		names, err := sub.Readdirnames(1000)
		if err == io.EOF {
			return ignoreNotExist(unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR))
		}
		if err != nil {
			return err
		}
		for _, inside := range names {
			if err := removeEntry(sub, inside, top, moved); err != nil {
				return err
			}
		}
		if _, err := sub.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

func ignoreNotExist(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}
