package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// idFile is a file of the caller's that tells something of the sandbox as long as that runs:
// --cidfile, --pidfile.
type idFile struct {
	flag string
	file *os.File
	text string // what we wrote
}

// claimCIDFile writes the id of the run into a new file. One that is there may be that of another
// sandbox, which whoever gave the name would then have in mind.
func claimCIDFile(p *Plan) (*idFile, error) {
	if p.Parent.CIDFile == "" {
		return nil, nil
	}
	f, err := os.OpenFile(p.Parent.CIDFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, &Error{Text: "--cidfile", Err: err, Fix: "another sandbox may be using it, or sbx was killed; if not so, remove it"}
	}
	if err != nil {
		return nil, fmt.Errorf("--cidfile: %w", err)
	}
	i := &idFile{flag: "--cidfile", file: f}
	if err := i.write(p.ID); err != nil {
		return nil, errors.Join(err, i.remove())
	}
	return i, nil
}

// claimPIDFile empties a file for the process id of the command, or makes one, and keeps others from it.
func claimPIDFile(p *Plan) (*idFile, error) {
	path := p.Parent.PIDFile
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err == nil {
		err = takePIDFile(f)
	}
	if err == nil {
		err = empty(f)
	}
	if err != nil {
		f.Close() // nil, too
		return nil, fmt.Errorf("--pidfile: %w", err)
	}
	return &idFile{flag: "--pidfile", file: f}, nil
}

// tellPID writes the process id of the command, as it is here. One that has ended by now has none.
func (pa *parent) tellPID(pidfd int) error {
	if pa.pidFile == nil {
		return nil
	}
	pid, err := pidOf(pidfd)
	if err == errCommandEnded {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--pidfile: %w", err)
	}
	return pa.pidFile.write(fmt.Sprint(pid))
}

func (i *idFile) write(text string) error {
	n, err := i.file.WriteString(text)
	i.text = text[:n]
	if err != nil {
		return fmt.Errorf("%s: %w", i.flag, err)
	}
	return nil
}

// CheckPIDFile refuses an existing file that holds something else than a process id.
func CheckPIDFile(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil // it is made, or opening it fails; a pipe, or a terminal
	}
	text, err := beginning(path, 64)
	if err == nil && strings.Trim(strings.TrimSpace(text), "0123456789") != "" {
		return &Error{Text: path + ": it holds something that is no process id", Fix: "--pidfile writes over a file; name another, or remove this one"}
	}
	return nil
}

// takePIDFile takes the lock on a file which a running sandbox holds, so that two do not write into one.
// A file system may have no locks.
func takePIDFile(f *os.File) error {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK {
		return &Error{Text: f.Name() + ": a running sandbox has its process id there", Fix: "each has a file of its own; it is free when that sandbox has ended"}
	}
	return CheckPIDFile(f.Name())
}

// empty is for files; there is nothing in a pipe, or at a terminal.
func empty(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = f.Truncate(0)
	}
	return err
}

// beginning reads n bytes of a file, or all.
func beginning(path string, n int64) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, n))
	return string(text), err
}

// remove removes the file, unless another has taken its name, or it holds something else by now.
func (i *idFile) remove() error {
	if i == nil {
		return nil
	}
	defer i.file.Close()
	own, err := i.file.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", i.flag, err)
	}
	there, err := os.Lstat(i.file.Name())
	if err == nil && own.Mode().IsRegular() && os.SameFile(own, there) {
		var text string
		if text, err = beginning(i.file.Name(), int64(len(i.text))+1); err == nil && text == i.text {
			err = os.Remove(i.file.Name())
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", i.flag, err)
	}
	return nil
}
