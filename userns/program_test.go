package userns

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// run runs the program and returns what it reports.
func run(t *testing.T, p *Program) error {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	child, err := p.Fork(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child.PidFD)
	defer child.Wait()
	return child.Executed()
}

// A child whose parent is gone must not go on.
func TestAwaitEnd(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, said := range []string{"x", ""} {
		p := new(Program)
		p.Await("wait", int(r.Fd()))
		if err := p.Exec([]string{"/bin/true"}, []string{"true"}, nil); err != nil {
			t.Fatal(err)
		}
		if said == "" {
			w.Close()
		} else if _, err := w.WriteString(said); err != nil {
			t.Fatal(err)
		}
		err := run(t, p)
		if call, ok := errors.AsType[*CallError](err); ok != (said == "") || ok && call.Name != "wait" {
			t.Errorf("told %q: %v", said, err)
		}
	}
}

// However many descriptors are claimed, the one to report on is not among them.
func TestReportAboveFiles(t *testing.T) {
	p := new(Program)
	p.files(slices.Repeat([]int{devNull}, 100))
	if err := p.Exec([]string{"/nonesuch"}, []string{"nonesuch"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := run(t, p); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v, not %v", err, unix.ENOENT)
	}
}
