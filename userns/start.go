package userns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stage is one of sbx's own processes, as root of a user namespace of its own.
type Stage struct {
	Name   string   // argv[0]: a row of the table in main.go
	Flags  uintptr  // the namespaces it gets beside its user namespace, CLONE_NEW*
	Caller Caller   // who starts it
	Around *Around  // where, nil where the caller is
	Map    Map      // the ids of its namespace
	Env    []string // nothing is inherited
	// Slack is how late the timers of its threads may be, 0 as late as the caller's
	// (PR_SET_TIMERSLACK).
	Slack time.Duration
	// Stdio becomes descriptors 0, 1 and 2, nil is /dev/null. Descriptor 3 is the message.
	// Files, descriptors of the caller's, become 4 and up. All stay the caller's to close.
	// A stage keeps them from what it executes: they are close-on-exec there.
	Stdio [3]*os.File
	Files []int
}

// messageFD is where a stage finds its message.
const messageFD = 3

// FirstFile is the descriptor that Stage.Files[0] has in the stage.
const FirstFile = 4

// Start starts the stage and hands it the message, once its ids are mapped. The stage
// dies with the calling thread: the goroutine must be locked to it (PR_SET_PDEATHSIG).
func (s *Stage) Start(message []byte) (*Child, error) {
	return s.StartWith(func() ([]byte, error) { return message, nil })
}

// StartWith is Start with a message that is made while the stage is starting.
func (s *Stage) StartWith(message func() ([]byte, error)) (*Child, error) {
	message = sync.OnceValues(message)
	child, refused, err := s.start(sealByMount, message)
	if call, ok := errors.AsType[*CallError](refused); ok && call.kind == sealing {
		child, refused, err = s.start(sealByCopy, message)
	}
	if refused != nil {
		return nil, explain(refused, s.Caller)
	}
	return child, err
}

// start tells what the kernel refused the stage before it was sbx, and any other failure.
func (s *Stage) start(seal func(*Program) (*Result, io.Closer, error), message func() ([]byte, error)) (child *Child, refused, err error) {
	child, pw, refused := s.spawn(seal, func() { message() })
	if refused != nil {
		return nil, refused, nil
	}
	defer pw.Close()
	if refused, err = s.brief(child, pw, message); refused != nil || err != nil {
		unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0)
		child.Wait()
		unix.Close(child.PidFD)
		return nil, refused, err
	}
	return child, nil, nil
}

// spawn executes sbx as the stage. It returns the other end of the stage's descriptor 3.
func (s *Stage) spawn(seal func(*Program) (*Result, io.Closer, error), meanwhile func()) (*Child, *os.File, error) {
	p := new(Program)
	p.Do("capset", unix.SYS_CAPSET, Bytes(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}), allCaps())
	// The ids are unmapped here; capabilities are ambient, and exec keeps those (capabilities(7)).
	for c := range 64 { // also those that this kernel has and this program does not know
		p.Try("raise capability", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0)
	}
	p.Do("die with the parent", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	if s.Slack > 0 {
		p.Do("set timer slack", unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, int(s.Slack), 0, 0, 0)
	}
	exe, held, err := seal(p)
	if err != nil {
		return nil, nil, err
	}
	defer held.Close()
	pr, pw, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	defer pr.Close()
	fds := make([]int, 0, FirstFile+len(s.Files))
	for _, f := range s.Stdio {
		if f == nil {
			fds = append(fds, DevNull)
		} else {
			fds = append(fds, int(f.Fd()))
		}
	}
	fds = append(append(fds, int(pr.Fd())), s.Files...)
	exe = p.Do("dup", unix.SYS_FCNTL, exe, unix.F_DUPFD_CLOEXEC, len(fds))
	p.Files(fds)
	if err := p.execFile(exe, []string{s.Name}, s.Env); err != nil {
		pw.Close()
		return nil, nil, err
	}
	var child *Child
	if s.Around == nil {
		child, err = p.Spawn(unix.CLONE_NEWUSER | s.Flags)
	} else {
		child, err = s.gate(p, unix.CLONE_NEWUSER|s.Flags, meanwhile)
	}
	if err != nil {
		pw.Close()
		return nil, nil, err
	}
	return child, pw, nil
}

// brief maps the ids of the stage and sends it the message. One that has given up and ended
// by then is started all the same: it says why in its own way.
func (s *Stage) brief(child *Child, to io.Writer, message func() ([]byte, error)) (refused, err error) {
	var mapping mapping
	if !s.Around.between() {
		mapping = s.Map.begin(child.Pid, s.Caller)
	}
	text, err := message()
	refused = child.Executed()
	if refused == nil && err == nil {
		_, err = to.Write(append(binary.NativeEndian.AppendUint64(nil, uint64(len(text))), text...))
	}
	failed := mapping.end()
	switch {
	case refused != nil:
		return refused, nil
	case failed != nil:
		return nil, fmt.Errorf("map ids: %w", failed)
	}
	if err == nil {
		_, err = to.Write([]byte{1})
	}
	if errors.Is(err, unix.EPIPE) {
		return nil, nil
	}
	return nil, err
}

// DevNull stands for /dev/null, opened in the child, among the descriptors for Files.
const DevNull = -1

// Files makes the program give fds the descriptors from 0 up, and nothing else to what it
// executes.
func (p *Program) Files(fds []int) {
	p.ReportAbove = len(fds)
	p.Do("close on exec", unix.SYS_CLOSE_RANGE, len(fds), uint32(1<<31-1), unix.CLOSE_RANGE_CLOEXEC)
	// Two rounds: the first takes every file to where the second overwrites nothing.
	var copies []*Result
	for _, fd := range fds {
		if fd == DevNull {
			null := p.Do("open /dev/null", unix.SYS_OPENAT, unix.AT_FDCWD, "/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			copies = append(copies, p.Do("dup", unix.SYS_FCNTL, null, unix.F_DUPFD_CLOEXEC, len(fds)))
			continue
		}
		copies = append(copies, p.Do("dup", unix.SYS_FCNTL, fd, unix.F_DUPFD_CLOEXEC, len(fds)))
	}
	for i, fd := range copies {
		p.Do("dup3", unix.SYS_DUP3, fd, i, 0)
	}
}

func allCaps() []byte {
	var data [2]unix.CapUserData
	for i := range data {
		data[i] = unix.CapUserData{Effective: 1<<32 - 1, Permitted: 1<<32 - 1, Inheritable: 1<<32 - 1}
	}
	const rest = 1<<(unix.CAP_LAST_CAP-31) - 1
	data[1] = unix.CapUserData{Effective: rest, Permitted: rest, Inheritable: rest}
	return Bytes(&data)
}
