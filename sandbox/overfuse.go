package sandbox

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"

	fuseoverlay "sbx/fuse-overlay"
	"sbx/userns"
)

// fuseRefused says why no overlay can be served over FUSE here.
func fuseRefused() error {
	fd, err := unix.Open(fuseoverlay.Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: fuseoverlay.Device, Err: err}
	}
	unix.Close(fd)
	return nil
}

// overFUSE mounts dirs, topmost first, as an overlay that sbx-overlay serves, in sbx-init's namespaces: it
// goes when sbx-init does.
func (b *builder) overFUSE(s *Step, dirs []*os.File, upper, work *os.File) (*os.File, error) {
	device, mount, err := fuseoverlay.Mount(upper == nil, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, &Error{Text: "mount overlay over FUSE", Err: err, Fix: "in a container, that must have the device /dev/fuse"}
	}
	defer device.Close()
	// pivot_root(2) wants it in a tree.
	at, err := b.base.dir(b.base.name("overlay"))
	if err != nil {
		mount.Close()
		return nil, err
	}
	defer at.Close()
	if err := attach(mount, at); err != nil {
		mount.Close()
		return nil, err
	}
	if err := b.startServer(s, device, dirs, upper, work); err != nil {
		mount.Close()
		return nil, err
	}
	return mount, nil
}

// startServer starts the sbx-overlay of a mount, and waits until it serves.
func (b *builder) startServer(s *Step, device *os.File, dirs []*os.File, upper, work *os.File) error {
	ready, told, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	defer told.Close()
	fds := []int{userns.DevNull, userns.DevNull, userns.DevNull, int(device.Fd()), int(told.Fd())}
	for _, dir := range dirs {
		fds = append(fds, int(dir.Fd()))
	}
	if upper != nil {
		fds = append(fds, int(upper.Fd()), int(work.Fd()))
	}
	p := new(userns.Program)
	p.Do("die with sbx-init", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	p.Do("no new privileges", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	p.Do("set timer slack", unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, lateTimers, 0, 0, 0)
	p.Files(fds)
	argv := fuseoverlay.Argv(len(dirs), upper != nil, !s.Keep)
	if err := p.Exec([]string{"/proc/self/exe"}, argv, nil); err != nil {
		return err
	}
	child, err := p.Spawn(0)
	if err != nil {
		return err
	}
	b.servers = append(b.servers, child)
	told.Close()
	text, err := io.ReadAll(io.LimitReader(ready, 4096))
	if err == nil {
		err = child.Executed()
	}
	if err != nil {
		return err
	}
	switch string(text) {
	case fuseoverlay.Ready:
		return nil
	case "":
		return errors.New(fuseoverlay.ProcessName + " has ended at once")
	}
	return errors.New(string(text))
}

// lateTimers, in nanoseconds: a thread of Go's runtime would look every 20 microseconds whether
// another waits for the kernel. But others sleep for three microseconds before they take work from one another, and it
// is waited for: with the 20 ms of sbx-init, to remove 1,500 files took 2.5 s.
const lateTimers = 500_000

// servers are processes without which the sandbox's files are no more.
type servers struct {
	children []*userns.Child
	over     atomic.Bool // the sandbox is
}

// watchServers tells the parent of the end of one of them, which is the end of the sandbox: whoever asks for a file
// after that gets ENOTCONN, and would not know why.
func watchServers(children []*userns.Child, up *os.File) *servers {
	s := &servers{children: children}
	for _, child := range children {
		go func() {
			status, _ := child.Wait()
			if !s.over.Load() {
				send(up, report{Failure: failureOf(serverEnded(status))})
				os.Exit(125)
			}
		}()
	}
	return s
}

func serverEnded(status unix.WaitStatus) error {
	how := "exit status " + strconv.Itoa(status.ExitStatus())
	if status.Signaled() {
		how = "signal " + unix.SignalName(status.Signal())
	}
	return &Error{
		Text: "the sandbox has lost its files: " + fuseoverlay.ProcessName + ", which served its overlay, has ended: " + how,
		Fix:  "if nobody has killed it: was memory short? See the kernel's log",
	}
}

// ended says that the command has. It does not return if a server was quicker, for the command may have ended of
// that: whoever waits for the server tells, and exits.
func (s *servers) ended() {
	for _, child := range s.children {
		poll := []unix.PollFd{{Fd: int32(child.PidFD), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 0); n > 0 && err == nil {
			select {}
		}
	}
	s.over.Store(true)
}
