package sandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// How long a sandbox that is to be replaced may take to end when it is asked to, as with podman,
// and when it is killed.
const (
	askedToEnd = 10 * time.Second
	killedEnd  = 10 * time.Second
)

// EndRunning ends the running sandbox of that name, if there is one: it gets SIGTERM, and SIGKILL
// when it takes too long. data is sbx's data directory.
func EndRunning(data, name string, note func(string)) error {
	err := endRunning(filepath.Join(data, "runs"), name, note)
	if _, gone := errors.AsType[*goneError](err); gone {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--replace %s: %w", name, err)
	}
	return nil
}

func endRunning(runs, name string, note func(string)) error {
	r, err := findRunning(runs, name)
	if err != nil {
		return err
	}
	defer r.dir.Close()
	a, err := r.about()
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(a.Pid, 0)
	if err == nil {
		defer unix.Close(pidfd)
	}
	var net unix.Stat_t
	statErr := unix.Stat(fmt.Sprintf("/proc/%d/fd/%d", a.Pid, a.Net), &net)
	switch {
	case !r.alive(): // so that the process may be anybody's
		return r.gone()
	case err != nil, statErr != nil, net.Ino != a.Inode:
		return &Error{Text: "its process cannot be seen from here", Fix: "run sbx where that sandbox was started: in the same pid namespace"}
	}
	note("ending the sandbox that has the name " + name)
	for _, step := range []struct {
		signal unix.Signal
		time   time.Duration
	}{{unix.SIGTERM, askedToEnd}, {unix.SIGKILL, killedEnd}} {
		if err := unix.PidfdSendSignal(pidfd, step.signal, nil, 0); err != nil && err != unix.ESRCH {
			return fmt.Errorf("pidfd_send_signal: %w", err)
		}
		ended, err := waitFor(pidfd, step.time)
		if ended || err != nil {
			return err
		}
	}
	return Errorf("it has not ended")
}

// waitFor waits for the end of the process.
func waitFor(pidfd int, limit time.Duration) (ended bool, err error) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for end := time.Now().Add(limit); time.Now().Before(end); {
		n, err := unix.Poll(fds, int(time.Until(end).Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			return false, fmt.Errorf("poll: %w", err)
		}
		if n > 0 && err == nil {
			return true, nil
		}
	}
	return false, nil
}
