// Probe tells what a program in a sandbox finds there and may do: one question
// for each name below, one JSON object as the answer. It is the other side of
// the scripts in testdata/script, and it trusts nothing: no libc, no /proc where
// a system call tells as much, and whatever may kill it runs in a child.
//
//	probe NAME [ARGS]
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// question is one thing to find out: ask gives what is printed.
type question struct {
	name string
	ask  func(args []string) any
}

func questions() []question {
	return []question{
		{"fds", fds},
		{"env", env},
		{"cwd", cwd},
		{"caps", caps},
		{"limits", limits},
		{"signals", signals},
		{"files", files},
		{"mounts", mounts},
		{"umount", umount},
		{"syscalls", each(syscalls())},
		{"sockets", each(sockets())},
		{"abi", each(abi())},
		{"tiocsti", tiocsti},
		{"keyring", keyring},
		{"exe-overwrite", exeOverwrite},
		{"ptrace", ptrace},
		{"connect", connect},
		{"orphans", orphans},
		{"refuse", refuse},
	}
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "-one" {
		one(os.Args[2], os.Args[3])
	}
	if len(os.Args) >= 2 {
		for _, q := range questions() {
			if q.name == os.Args[1] {
				print(q.ask(os.Args[2:]))
				return
			}
		}
	}
	fmt.Fprintln(os.Stderr, "probe: which question?")
	for _, q := range questions() {
		fmt.Fprintln(os.Stderr, "  "+q.name)
	}
	os.Exit(2)
}

func print(answer any) {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(answer); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

// attempt is something that a sandbox may refuse or kill for.
type attempt struct {
	name string
	try  func() error
}

// tables are the attempts that run in a child each.
func tables() [][]attempt { return [][]attempt{syscalls(), sockets(), abi()} }

// each makes every attempt in a child of its own, named by its table's name.
func each(table []attempt) func([]string) any {
	return func([]string) any {
		answer := map[string]string{}
		for _, a := range table {
			answer[a.name] = inChild(table[0].name, a.name)
		}
		return answer
	}
}

// inChild is "ok", the name of an error, or that of the signal which killed the child.
func inChild(table, name string) string {
	var out bytes.Buffer
	// Not /proc/self/exe: there may be no /proc.
	cmd := exec.Command(os.Args[0], "-one", table, name)
	cmd.Stdout = &out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		return unix.SignalName(exit.Sys().(syscall.WaitStatus).Signal())
	case err != nil:
		return "child: " + err.Error()
	}
	return out.String()
}

// one is the child: it makes the attempt and exits.
func one(table, name string) {
	for _, t := range tables() {
		if t[0].name != table {
			continue
		}
		for _, a := range t {
			if a.name == name {
				fmt.Print(errno(a.try()))
				os.Exit(0)
			}
		}
	}
	os.Exit(2)
}

// errno is the short name of an error: ok, EPERM, ...
func errno(err error) string {
	var no syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &no) && no == 0:
		return "ok"
	case errors.As(err, &no):
		if name := unix.ErrnoName(no); name != "" {
			return name
		}
		return fmt.Sprintf("errno %d", int(no))
	}
	return err.Error()
}

// call is a system call with up to six numbers; what they point to is the caller's care.
func call(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	_, _, no := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if no != 0 {
		return no
	}
	return nil
}
