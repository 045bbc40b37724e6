package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// driver is a slirp4netns or a pasta of the host's, while it is a sandbox's network. It runs as
// the caller, in the host's namespaces, and enters those of the sandbox to make an interface
// there. It dies with the thread that started it, and slirp4netns also when life is closed.
type driver struct {
	process *userns.Child
	life    *os.File
	says    int           // its stderr; what does not fit in is lost
	stopped atomic.Bool   // its end is wanted, or told otherwise
	ended   chan struct{} // closed when it has been waited for
}

// driverPatience is how long a program may take to be ready; they take milliseconds.
const driverPatience = 10 * time.Second

// startDriver starts the program for the net namespace of the command, of which it has a pidfd,
// waits until it is ready, and tells sbx-init.
func (pa *parent) startDriver(command int) error {
	defer unix.Close(command)
	pid, err := pidOf(command)
	if err != nil {
		return err
	}
	pa.detail("the network is " + pa.p.Driver.Path)
	d := &driver{says: -1, ended: make(chan struct{})}
	pa.driver = d
	defer os.Remove(pidFile(pa.p))
	ready, err := d.start(pa.p, pa.ports, pa.child.Pid, pid)
	if err != nil {
		return err
	}
	defer ready.Close()
	go pa.watchDriver(d)
	if err := d.await(ready, pa.reports); err != nil {
		d.stopped.Store(true)
		return fmt.Errorf("%s: %w", pa.p.Network, err)
	}
	if pa.p.Network == "slirp4netns" && len(pa.ports) > 0 {
		if err := forwardPorts(pa.p.RunDir, pa.ports); err != nil {
			d.stopped.Store(true)
			return fmt.Errorf("%s: %w", pa.p.Network, err)
		}
	}
	if err := unix.Sendmsg(int(pa.reports.Fd()), []byte("x"), nil, nil, unix.MSG_NOSIGNAL); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	return nil
}

// watchDriver tells of the end of the program, which comes after that of the sandbox.
func (pa *parent) watchDriver(d *driver) {
	d.process.Wait()
	defer close(d.ended)
	if !d.stopped.Load() {
		time.Sleep(100 * time.Millisecond) // or its end is that of the sandbox
	}
	if !d.stopped.Load() && pa.command.endedFor() == nil {
		pa.warn("the sandbox has no network any more: " + pa.p.Network + " has ended" + d.lastWords())
	}
}

// errCommandEnded: the process is waited for, and its id free for others.
var errCommandEnded = errors.New("the command has ended")

// pidOf asks /proc for the process id behind a pidfd (pidfd_open(2)).
func pidOf(pidfd int) (int, error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(pidfd))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(info), "\nPid:")
	line, _, _ := strings.Cut(rest, "\n")
	switch pid, err := strconv.Atoi(strings.TrimSpace(line)); {
	case pid == -1:
		return 0, errCommandEnded
	case err != nil || pid <= 0:
		return 0, errors.New("/proc does not know the command")
	default:
		return pid, nil
	}
}

// start starts the program, and returns what can be read from when it is ready. The command's net
// namespace may be an inner user namespace's, whose root is not the caller; the program enters
// the outer one, sbx-init's.
func (d *driver) start(p *Plan, ports []Port, sbxInit, command int) (ready *os.File, err error) {
	var says [2]int
	if err := unix.Pipe2(says[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(says[1])
	d.says = says[0]
	user := fmt.Sprintf("/proc/%d/ns/user", sbxInit)
	args, files := append([]string{p.Network}, p.Driver.Args...), []int{userns.DevNull, userns.DevNull, says[1]}
	if p.Network == "pasta" {
		if ready, err = makeFIFO(pidFile(p)); err != nil {
			return nil, err
		}
		args = append(append(args, pastaPorts(ports)...), "--pid", pidFile(p), "--userns", user, "--netns", fmt.Sprintf("/proc/%d/ns/net", command))
		return closeOn(ready, d.spawn(p.Driver.Path, args, files, "/"))
	}
	ready, readyW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyW.Close()
	lifeR, life, err := os.Pipe()
	if err != nil {
		ready.Close()
		return nil, err
	}
	defer lifeR.Close()
	d.life = life
	dir := "/"
	if len(ports) > 0 {
		dir = p.RunDir
		args = append(args, "--api-socket="+apiName)
	}
	args = append(args, "--ready-fd=3", "--exit-fd=4", "--userns-path="+user, strconv.Itoa(command), "tap0")
	return closeOn(ready, d.spawn(p.Driver.Path, args, append(files, int(readyW.Fd()), int(lifeR.Fd())), dir))
}

func closeOn(f *os.File, err error) (*os.File, error) {
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *driver) spawn(path string, args []string, files []int, dir string) error {
	p := new(userns.Program)
	p.Do("die with sbx", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	p.Do("new session", unix.SYS_SETSID) // what is typed is not for it
	p.Do("change directory", unix.SYS_CHDIR, dir)
	p.Files(files)
	if err := p.Exec([]string{path}, args, nil); err != nil {
		return err
	}
	process, err := p.Spawn(0)
	if err != nil {
		return err
	}
	if err := process.Executed(); err != nil {
		process.Wait()
		unix.Close(process.PidFD)
		return fmt.Errorf("%s: %w", path, err)
	}
	d.process = process
	return nil
}

// pidFile is where pasta writes its process id when it is ready.
func pidFile(p *Plan) string { return filepath.Join(p.RunDir, "pasta.pid") }

// makeFIFO makes it such that somebody can wait. Opened for both ways it has no end of file.
func makeFIFO(path string) (*os.File, error) {
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
}

// await returns when the program is ready, or sbx-init has something to say: that it has ended.
func (d *driver) await(ready, reports *os.File) error {
	fds := []unix.PollFd{
		{Fd: int32(ready.Fd()), Events: unix.POLLIN}, {Fd: int32(d.process.PidFD), Events: unix.POLLIN}, {Fd: int32(reports.Fd()), Events: unix.POLLIN},
	}
	deadline := time.Now().Add(driverPatience)
	for {
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0:
			return fmt.Errorf("it was not ready within %v%s", driverPatience, d.lastWords())
		case fds[0].Revents&unix.POLLIN != 0, fds[2].Revents != 0:
			d.lastWords() // those of its start are none of its end
			return nil
		}
		return errors.New("it has ended at once" + d.lastWords())
	}
}

// lastWords are the last lines that the program has written, behind a colon.
func (d *driver) lastWords() string {
	text := make([]byte, 64<<10) // what a pipe holds
	n, _ := unix.Read(d.says, text)
	return wordsOf(string(text[:max(0, n)]))
}

func wordsOf(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !isChatter(line) {
			lines = append(lines, line[:min(len(line), 200)])
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + OneLine(strings.Join(lines[max(0, len(lines)-3):], "; "))
}

// isChatter: slirp4netns says so at its start, perhaps still when it is ready, and pasta where the host has no syslog.
func isChatter(line string) bool {
	return slices.ContainsFunc([]string{
		"sent tapfd=", "received tapfd=", "Starting slirp", "* ", "WARNING: Support for ", "WARNING: 127.0.0.1:* on the host is accessible", "Failed to send ",
	}, func(beginning string) bool { return strings.HasPrefix(line, beginning) })
}

// close ends the program and waits for that.
func (d *driver) close() {
	d.stopped.Store(true)
	if d.process != nil {
		unix.PidfdSendSignal(d.process.PidFD, unix.SIGKILL, nil, 0)
		<-d.ended
		unix.Close(d.process.PidFD)
	}
	d.life.Close() // nil, too
	if d.says >= 0 {
		unix.Close(d.says)
	}
}

// awaitDriver runs in sbx-init: it tells the parent which process's network the program is to
// serve, and waits until it does.
func (b *builder) awaitDriver(c *command) error {
	if err := send(b.up, report{Linked: true}, c.PidFD); err != nil {
		return err
	}
	if n, err := unix.Read(int(b.up.Fd()), make([]byte, 1)); err != nil || n == 0 {
		return errors.Join(errors.New("sbx has ended"), err)
	}
	return nil
}
