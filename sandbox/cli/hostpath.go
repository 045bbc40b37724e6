package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// hostPath makes the name of something on the host absolute. One that goes by way of our
// own descriptors would mean another file in the first process of the sandbox, which opens it.
func hostPath(s string) (string, error) {
	path, err := filepath.Abs(s)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("the current directory does not exist any more")
	}
	if err != nil {
		return "", err
	}
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if rest, ok := strings.CutPrefix(path, dir); ok {
			fd, below, _ := strings.Cut(rest, "/")
			name, err := nameOfFD(fd)
			if err != nil {
				return "", fmt.Errorf("%s: %w", quoteArg(s), err)
			}
			return filepath.Join(name, below), nil
		}
	}
	return path, nil
}

// nameOfFD returns the path that leads to what the caller has open as descriptor s.
func nameOfFD(s string) (string, error) {
	fd, err := parseFD(s)
	if err != nil {
		return "", err
	}
	if err := checkFD(fd); err != nil {
		return "", err
	}
	link := fmt.Sprintf("/proc/self/fd/%d", fd)
	name, err := os.Readlink(link)
	if err != nil {
		return "", err
	}
	open, err := os.Stat(link)
	if err != nil {
		return "", err
	}
	if named, err := os.Stat(name); err != nil || !os.SameFile(open, named) {
		return "", fmt.Errorf("%s has no name, and cannot be mounted", name)
	}
	return name, nil
}
