package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// runDir is the directory of one run, for layers that are thrown away. The parent holds
// a lock on it as long as it lives; a directory that is not locked is what a killed one
// has left behind, and the next sbx removes it.
type runDir struct {
	path string
	lock *os.File
}

// makeRunDir makes what the steps need in it, or nothing if they need nothing.
func makeRunDir(p *Plan) (*runDir, error) {
	if p.RunDir == "" {
		return nil, nil
	}
	d := &runDir{path: p.RunDir}
	for d.lock == nil {
		err := os.Mkdir(p.RunDir, 0o700)
		if errors.Is(err, fs.ErrNotExist) { // the first run of all
			err = os.MkdirAll(p.RunDir, 0o700)
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, &Error{Text: "changes to the root directory", Err: err, Fix: filepath.Dir(p.Runs) + " must be yours and writable; set XDG_DATA_HOME to a directory that is"}
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		// Another run's sweep may have come between, and taken it for garbage.
		if d.lock, err = lockDir(p.RunDir, 0); err != nil {
			return nil, fmt.Errorf("lock %s: %w", p.RunDir, err)
		}
	}
	for _, s := range p.Steps {
		for _, dir := range []string{s.Upper, s.Work} {
			if strings.HasPrefix(dir, p.RunDir+"/") {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return nil, errors.Join(err, d.remove(p.Caller))
				}
			}
		}
	}
	return d, nil
}

// lockDir opens the directory and locks it. It returns nil if it is gone by then.
func lockDir(path string, flags int) (*os.File, error) {
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|flags); err != nil {
		dir.Close()
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil || st.Nlink == 0 {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// Sweep removes what killed runs have left in data, sbx's data directory.
func Sweep(data string) error {
	return sweep(filepath.Join(data, "runs"), func() (userns.Caller, error) { return userns.FindCaller("", "") })
}

// sweep asks who the caller is if there is something to remove.
func sweep(runs string, whose func() (userns.Caller, error)) (failed error) {
	dir, err := os.Open(runs)
	if err != nil {
		return nil // the first run of all
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		path := filepath.Join(runs, name)
		lock, err := lockDir(path, unix.LOCK_NB)
		if err != nil || lock == nil {
			continue
		}
		caller, err := whose()
		if err != nil {
			lock.Close()
			return err
		}
		failed = errors.Join(failed, (&runDir{path, lock}).remove(caller))
	}
	return failed
}

// remove removes the directory and lets go of the lock. A run that changed nothing leaves
// what this process removes with a few calls. Anything else may belong to subordinate ids, be
// nested deeper than descriptors last, and was named by the command: sbx-remove does it.
func (d *runDir) remove(caller userns.Caller) error {
	defer d.lock.Close()
	d.removeEmpty()
	var st unix.Stat_t
	if unix.Fstat(int(d.lock.Fd()), &st) == nil && st.Nlink == 0 {
		return nil // and its owner may have made it again by now
	}
	if err := d.removeAsRoot(caller); err != nil {
		return fmt.Errorf("remove %s: %w", d.path, err)
	}
	return nil
}

func (d *runDir) removeAsRoot(caller userns.Caller) error {
	runtime.LockOSThread() // the stage dies with the thread that started it
	defer runtime.UnlockOSThread()
	says, stderr, err := os.Pipe()
	if err != nil {
		return err
	}
	defer says.Close()
	defer stderr.Close()
	stage := userns.Stage{Name: "sbx-remove", Flags: unix.CLONE_NEWNS, Caller: caller, Map: caller.Default(), Stdio: [3]*os.File{2: stderr}}
	child, err := stage.Start([]byte(d.path))
	if err != nil {
		return err
	}
	defer unix.Close(child.PidFD)
	stderr.Close()
	text, err := io.ReadAll(io.LimitReader(says, maxFailure))
	status, waitErr := child.Wait()
	switch {
	case err != nil || waitErr != nil:
		return errors.Join(err, waitErr)
	case status.Signaled():
		return fmt.Errorf("sbx-remove: %v", status.Signal())
	case status.ExitStatus() != 0:
		return errors.New(string(text))
	}
	return nil
}

// removeEmpty removes the directory of a run that changed nothing. What overlayfs has made in
// the work directory is of mode 0, and no command gets there.
func (d *runDir) removeEmpty() {
	if strings.HasPrefix(filepath.Base(d.path), "@") {
		unix.Unlink(d.path + "/" + aboutFile)
		unix.Rmdir(d.path)
		return
	}
	work := d.path + "/root.work/work"
	for _, dir := range []string{"", "/incompat", "/incompat/volatile"} {
		unix.Chmod(work+dir, 0o700)
	}
	unix.Unlink(work + "/incompat/volatile/dirty")
	for _, dir := range []string{work + "/incompat/volatile", work + "/incompat", work, d.path + "/root.work", d.path + "/root.upper", d.path} {
		unix.Rmdir(dir)
	}
}
