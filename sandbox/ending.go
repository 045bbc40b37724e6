package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ending is why the parent itself ended the sandbox, and what it exits with then.
type ending interface {
	error
	ExitStatus() int
	orNil() error // nil where there is nothing to say
}

type timeoutError struct{ after time.Duration }

func (e *timeoutError) Error() string   { return fmt.Sprintf("killed after the timeout of %v", e.after) }
func (e *timeoutError) ExitStatus() int { return 128 + int(unix.SIGKILL) }
func (e *timeoutError) orNil() error    { return e }

// signalEnding is a signal that would have killed the command, were it not a first process.
type signalEnding struct{ sig unix.Signal }

func (e signalEnding) Error() string   { return e.sig.String() }
func (e signalEnding) ExitStatus() int { return 128 + int(e.sig) }
func (e signalEnding) orNil() error    { return nil }

// outputError says that the caller's stdout takes no more.
type outputError struct{ err error }

func (e *outputError) Error() string   { return fmt.Sprintf("the command's output: %v", e.err) }
func (e *outputError) Unwrap() error   { return e.err }
func (e *outputError) ExitStatus() int { return 125 }
func (e *outputError) orNil() error    { return e }

// commandHandle is the running command, as far as the parent reaches it.
type commandHandle struct {
	mu     sync.Mutex
	pidfd  int // 0 until it has started
	reason ending
	over   chan struct{} // closed when there is a reason
}

func (c *commandHandle) started(pidfd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pidfd = pidfd
}

func (c *commandHandle) endFor(reason ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == nil {
		c.reason = reason
		close(c.over)
	}
}

func (c *commandHandle) endedFor() ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// signal sends sig, and reports whether there was a command to send it to: not any more,
// too, when only its output is still on the way.
func (c *commandHandle) signal(sig unix.Signal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pidfd != 0 && unix.PidfdSendSignal(c.pidfd, sig, nil, 0) == nil
}

// deadly reports whether sig would kill the command if it were not the first process of a
// pid namespace, whom the kernel spares: it neither handles, nor ignores, nor blocks it.
func (c *commandHandle) deadly(sig unix.Signal) bool {
	switch sig {
	case unix.SIGCONT, unix.SIGWINCH, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGSTOP:
		return false
	}
	pid := c.pid()
	if pid == "" {
		return false
	}
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return false
	}
	for _, set := range []string{"SigBlk:", "SigIgn:", "SigCgt:"} {
		_, rest, _ := bytes.Cut(status, []byte("\n"+set))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		mask, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
		if err != nil || mask&(1<<(sig-1)) != 0 {
			return false
		}
	}
	return true
}

// written is what the first process itself has written, to whatever file.
type written struct {
	bytes int  // 0 where it runs as another user than the caller: the kernel does not say
	alone bool // it has no children, and waited for none
}

func (c *commandHandle) written() (w written) {
	pid := c.pid()
	if pid == "" {
		return w
	}
	// A thread's counts leave out what its children had; a process's do not (wait_task_zombie, kernel/exit.c).
	threads, _ := filepath.Glob("/proc/" + pid + "/task/*/io")
	for _, file := range threads {
		text, _ := os.ReadFile(file)
		_, rest, _ := bytes.Cut(text, []byte("wchar: "))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		n, _ := strconv.Atoi(string(line))
		w.bytes += n
	}
	childless := len(children(pid)) == 0 // asked first: who is waited for after that shows below
	stat, _ := os.ReadFile("/proc/" + pid + "/stat")
	// pid (name) state ppid pgrp session tty_nr tpgid flags minflt cminflt ...: page faults of those waited for
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	w.alone = childless && len(fields) > 8 && string(fields[8]) == "0"
	return w
}

// gone reports whether the command has ended, or is about to and has no memory any more.
func (c *commandHandle) gone() bool {
	pid := c.pid()
	if pid == "" {
		return true
	}
	status, err := os.ReadFile("/proc/" + pid + "/status")
	return err != nil || !bytes.Contains(status, []byte("\nVmSize:"))
}

// pid returns the command's process id here, "" once it is gone.
func (c *commandHandle) pid() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, _ := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(c.pidfd))
	_, rest, _ := bytes.Cut(info, []byte("\nPid:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	pid := string(bytes.TrimSpace(line))
	if pid == "-1" || pid == "0" {
		return ""
	}
	return pid
}
