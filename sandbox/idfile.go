package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// idFile is a file of the caller's that tells something of the sandbox as long as that runs:
// --cidfile, --pidfile.
type idFile struct {
	flag string
	file *os.File
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
	return writeIDFile("--cidfile", f, p.ID, err)
}

// tellPID writes the process id of the command, as it is here. One that has ended by now has none.
func (pa *parent) tellPID(pidfd int) error {
	if pa.p.Parent.PIDFile == "" {
		return nil
	}
	pid, err := pidOf(pidfd)
	if err == errCommandEnded {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--pidfile: %w", err)
	}
	f, err := os.OpenFile(pa.p.Parent.PIDFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	pa.pidFile, err = writeIDFile("--pidfile", f, fmt.Sprint(pid), err)
	return err
}

func writeIDFile(flag string, f *os.File, text string, err error) (*idFile, error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	i := &idFile{flag, f}
	if _, err := f.WriteString(text); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", flag, err), i.remove())
	}
	return i, nil
}

// remove removes the file, unless another has taken its name.
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
		err = os.Remove(i.file.Name())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", i.flag, err)
	}
	return nil
}
