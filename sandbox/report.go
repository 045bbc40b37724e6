package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What sbx-init tells the parent on descriptor 4, a SOCK_SEQPACKET: one packet that the
// command runs, with a pidfd of it and, if it has a terminal, the master's descriptor;
// then one with how it ended. Before all that, that it waits, its net namespace, and the link of
// its network. Or, at any time, one Failure, and nothing more.
type report struct {
	Awaited  string   `json:"awaited,omitempty"` // a volume that another sandbox has locked, for a while now
	Net      bool     `json:"net,omitempty"`     // with the descriptor of its net namespace, for a sandbox with a name
	Linked   bool     `json:"linked,omitempty"`  // with the descriptor of a packet socket or a tap, or for a driver a pidfd of the command,
	Note     string   `json:"note,omitempty"`    // and which of them it is, for --debug
	Started  bool     `json:"started,omitempty"`
	Warnings []string `json:"warnings,omitempty"` // with Started
	Notes    []string `json:"notes,omitempty"`    // and for --debug
	Status   *uint32  `json:"status,omitempty"`   // wait(2)
	Failure  *Failure `json:"failure,omitempty"`
}

// Failure is an error that crossed from one process to another.
type Failure struct {
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
	Exit int    `json:"exit"` // the exit status of sbx: 125, 126, 127
	// Errno is what the kernel said, where it said something.
	Errno syscall.Errno `json:"errno,omitempty"`
}

func (f *Failure) Error() string { return f.Text }

// Hint says what helps.
func (f *Failure) Hint() string { return f.Fix }

// Unwrap returns the kernel's answer, or nil.
func (f *Failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// ExitStatus is what sbx exits with.
func (f *Failure) ExitStatus() int { return f.Exit }

func failureOf(err error) *Failure {
	f := &Failure{Text: err.Error(), Exit: 125}
	if hint, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		f.Fix = hint.Hint()
	}
	if status, ok := errors.AsType[interface {
		error
		ExitStatus() int
	}](err); ok {
		f.Exit = status.ExitStatus()
	}
	errors.As(err, &f.Errno)
	return f
}

// NotFoundError says that there is no such command: exit status 127.
type NotFoundError struct {
	Name string
	// There: the file is, and what it needs is not: the interpreter behind #!, or the loader of
	// its libraries (execve(2), ENOENT).
	There bool
}

func (e *NotFoundError) Error() string {
	if e.There {
		return fmt.Sprintf("exec %q: its interpreter, or the loader of its libraries, is not in the image", e.Name)
	}
	return fmt.Sprintf("exec %q: command not found", e.Name)
}

// ExitStatus is that of shells.
func (e *NotFoundError) ExitStatus() int { return 127 }

// Hint says what was probably meant.
func (e *NotFoundError) Hint() string {
	switch {
	case e.There:
		return ""
	case strings.HasPrefix(e.Name, "-"):
		return "flags of sbx go before the image: sbx run FLAGS IMAGE COMMAND"
	case strings.Contains(e.Name, " "):
		return "that is one word, the name of a program: for a line of shell, sh -c 'LINE'"
	}
	return ""
}

// NotExecutableError says that the command is there and cannot be run: exit status 126.
type NotExecutableError struct {
	Name string
	Err  error
}

func (e *NotExecutableError) Error() string   { return fmt.Sprintf("exec %q: %v", e.Name, e.Err) }
func (e *NotExecutableError) Unwrap() error   { return e.Err }
func (e *NotExecutableError) ExitStatus() int { return 126 }

// maxFailure bounds a message: a packet has its size, and a person theirs.
const maxFailure = 16 << 10

func send(sock *os.File, r report, fds ...int) error {
	if f := r.Failure; f != nil && len(f.Text) > maxFailure {
		f.Text = f.Text[:maxFailure] + "..."
	}
	packet, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(int(sock.Fd()), packet, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("report to the parent: %w", err)
	}
	return nil
}

// errEnded says that sbx-init is gone without a word.
var errEnded = errors.New("the first process of the sandbox has ended")

func receive(sock *os.File) (report, []int, error) {
	var r report
	packet, rights := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(2*4))
	var n, rightsLen int
	var err error
	for {
		n, rightsLen, _, _, err = unix.Recvmsg(int(sock.Fd()), packet, rights, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	switch {
	case err != nil:
		return r, nil, fmt.Errorf("receive from the sandbox: %w", err)
	case n == 0:
		return r, nil, errEnded
	}
	if err := json.Unmarshal(packet[:n], &r); err != nil {
		return r, nil, fmt.Errorf("receive from the sandbox: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rightsLen])
	if err != nil {
		return r, nil, err
	}
	var fds []int
	for _, m := range messages {
		got, err := unix.ParseUnixRights(&m)
		if err != nil {
			return r, nil, err
		}
		fds = append(fds, got...)
	}
	return r, fds, nil
}
