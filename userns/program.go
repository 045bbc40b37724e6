package userns

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Program is a list of system calls for a forked child to make, in order, before
// the last of them executes something. A child of a threaded Go process has one
// thread and no usable Go runtime: it can make system calls, and nothing else. So all
// that they need is worked out beforehand, here, in ordinary Go.
type Program struct {
	// ReportAbove is what the descriptor must not be below on which the child reports a
	// failure: the calls may claim lower ones.
	ReportAbove int

	calls []call
	keep  []any // what the calls point at
}

// Keep holds on to memory that the calls point at indirectly.
func (p *Program) Keep(v any) { p.keep = append(p.keep, v) }

type call struct {
	name string
	nr   uintptr
	args [6]uintptr
	from [6]*Result // where it is set, it is the argument
	out  *Result
	kind kind

	sibling *sibling // spawning
}

// sibling is what a program spawns beside itself.
type sibling struct {
	flags  uintptr
	top    *byte // of its stack
	calls  []call
	report int
}

type kind uint8

const (
	must kind = iota
	try
	sealing  // another way to the same end is known
	await    // end of file is a failure: who was to write is gone
	execute  // on "no such file" or "permission denied" the next exec is tried
	reaping  // the rest of the program runs in a child; this process reaps for it
	spawning // another program runs in a process beside this one, with the same parent
)

// Result is what a call will have returned, to be used as an argument of later calls.
type Result uintptr

// Do appends a system call. An argument is an integer, a string (passed with its
// NUL), a pointer to or a slice of bytes or words, or a *Result of an earlier call.
// name says what it is for, in an error: "set hostname".
func (p *Program) Do(name string, nr uintptr, args ...any) *Result {
	return p.add(must, name, nr, args)
}

// Try is Do for a call that the kernel may refuse; the program then goes on.
func (p *Program) Try(name string, nr uintptr, args ...any) *Result {
	return p.add(try, name, nr, args)
}

// Await appends a wait for one byte from the pipe fd. If its other end is closed instead,
// the program ends there.
func (p *Program) Await(name string, fd int) {
	p.add(await, name, unix.SYS_READ, []any{fd, make([]byte, 1), 1})
}

func (p *Program) add(k kind, name string, nr uintptr, args []any) *Result {
	c := call{name: name, nr: nr, out: new(Result), kind: k}
	for i, arg := range args {
		switch v := arg.(type) {
		case int:
			c.args[i] = uintptr(v)
		case uint32:
			c.args[i] = uintptr(v)
		case uintptr:
			c.args[i] = v
		case uint64:
			c.args[i] = uintptr(v)
		case string:
			b := append([]byte(v), 0)
			c.args[i] = uintptr(unsafe.Pointer(unsafe.SliceData(b)))
			p.keep = append(p.keep, b)
		case []byte:
			c.args[i] = uintptr(unsafe.Pointer(unsafe.SliceData(v)))
			p.keep = append(p.keep, v)
		case []uint32:
			c.args[i] = uintptr(unsafe.Pointer(unsafe.SliceData(v)))
			p.keep = append(p.keep, v)
		case []*byte:
			c.args[i] = uintptr(unsafe.Pointer(unsafe.SliceData(v)))
			p.keep = append(p.keep, v)
		case *Result:
			c.from[i] = v
		default:
			panic(fmt.Sprintf("userns: %s: argument %d is a %T", name, i, arg))
		}
	}
	p.calls = append(p.calls, c)
	return c.out
}

// Bytes lays v out in memory as the kernel will read it. v holds no pointers.
func Bytes[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// Exec appends the end of the program: execve(2) of the first of paths that is
// there and may be executed, as execvp(3) does.
func (p *Program) Exec(paths, argv, env []string) error {
	argvp, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return fmt.Errorf("an argument: %w", err)
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return fmt.Errorf("the environment: %w", err)
	}
	for _, path := range paths {
		p.add(execute, "exec", unix.SYS_EXECVE, []any{path, argvp, envp})
	}
	return nil
}

// execFile is Exec of an open file (execveat(2)).
func (p *Program) execFile(file *Result, argv, env []string) error {
	argvp, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return fmt.Errorf("an argument: %w", err)
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return fmt.Errorf("the environment: %w", err)
	}
	p.Do("exec", unix.SYS_EXECVEAT, file, "", argvp, envp, unix.AT_EMPTY_PATH)
	return nil
}

// Reap makes the process at this point of the program an init: a child of it goes on
// with the program, and it passes signals on to that child, reaps whatever becomes
// its own, and ends as the child ends: with its status, or 128 and its signal.
func (p *Program) Reap() { p.calls = append(p.calls, call{name: "fork", kind: reaping}) }

// spawn appends a clone(2): the other program runs in a process of its own, in new namespaces,
// with the parent of this one for its parent. The result is its process id.
func (p *Program) spawn(other *Program, flags uintptr, stack []byte, report int) *Result {
	out := new(Result)
	p.calls = append(p.calls, call{name: "clone", kind: spawning, out: out, sibling: &sibling{
		flags: flags | unix.CLONE_VM | unix.CLONE_PARENT, top: top(stack), calls: other.calls, report: report,
	}})
	p.keep = append(p.keep, other, stack)
	return out
}

// CallError says which call of a Program the kernel refused.
type CallError struct {
	Name string // as given to Do
	Err  error  // a syscall.Errno
	kind kind
}

func (e *CallError) Error() string { return e.Name + ": " + e.Err.Error() }
func (e *CallError) Unwrap() error { return e.Err }

// Child is a process made by Fork or Spawn.
type Child struct {
	Pid     int
	PidFD   int // close-on-exec; the caller closes it
	errs    int // read end: a report, or end of file once the child has executed something
	program *Program
	stack   []byte // of a child that shares this memory
}

// Fork makes a child in the namespaces that flags (CLONE_NEW*) name and runs the
// program in it. The calling goroutine must be locked to its thread if the program
// sets a parent death signal: that is sent when this thread ends.
func (p *Program) Fork(flags uintptr) (*Child, error) { return p.fork(flags, nil) }

// Spawn is Fork for a program without Reap: until it executes something the child uses the
// caller's memory, which need not be copied. What the program points at stays as it is
// until Executed or Wait has returned.
func (p *Program) Spawn(flags uintptr) (*Child, error) {
	return p.fork(flags, make([]byte, childStack))
}

// childStack is ample for functions that the compiler holds to 800 bytes (nosplit).
const childStack = 8 << 10

func (p *Program) fork(flags uintptr, stack []byte) (*Child, error) {
	errs, report, err := p.reportPipe()
	if err != nil {
		return nil, err
	}
	defer unix.Close(report)
	pidfd := int32(-1)
	syscall.ForkLock.Lock()
	pid, errno := fork(flags, top(stack), &pidfd, p.calls, report)
	syscall.ForkLock.Unlock()
	if errno != 0 {
		unix.Close(errs)
		return nil, &CallError{Name: "clone", Err: errno}
	}
	return &Child{int(pid), int(pidfd), errs, p, stack}, nil
}

// reportPipe makes the pipe on which a child reports a failure.
func (p *Program) reportPipe() (errs, report int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("pipe: %w", err)
	}
	if p.ReportAbove > ends[1] {
		high, err := unix.FcntlInt(uintptr(ends[1]), unix.F_DUPFD_CLOEXEC, p.ReportAbove)
		unix.Close(ends[1])
		if err != nil {
			unix.Close(ends[0])
			return -1, -1, fmt.Errorf("dup: %w", err)
		}
		ends[1] = high
	}
	return ends[0], ends[1], nil
}

// top is where a stack begins, aligned as both processors want it; nil without one.
func top(stack []byte) *byte {
	if stack == nil {
		return nil
	}
	return &stack[len(stack)-16-int(uintptr(unsafe.Pointer(&stack[0]))%16)]
}

// Executed waits until the child has executed something, and returns nil; or until
// it could not go on, and returns a CallError.
func (c *Child) Executed() error {
	defer runtime.KeepAlive(c)
	defer unix.Close(c.errs)
	var r [2]uint32
	n, err := ignoringEINTR(func() (int, error) { return unix.Read(c.errs, Bytes(&r)) })
	switch {
	case err != nil:
		return err
	case n != len(Bytes(&r)):
		return nil
	}
	call := c.program.calls[r[0]]
	return &CallError{call.name, syscall.Errno(r[1]), call.kind}
}

// Wait waits for the end of the child.
func (c *Child) Wait() (unix.WaitStatus, error) {
	defer runtime.KeepAlive(c)
	var status unix.WaitStatus
	_, err := ignoringEINTR(func() (int, error) { return unix.Wait4(c.Pid, &status, 0, nil) })
	return status, err
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}
