package userns

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// ways are the two that a program can be run.
func ways() map[string]func(*Program, uintptr) (*Child, error) {
	return map[string]func(*Program, uintptr) (*Child, error){"fork": (*Program).Fork, "spawn": (*Program).Spawn}
}

// run runs the program and returns what it reports.
func run(t *testing.T, p *Program, way func(*Program, uintptr) (*Child, error)) error {
	t.Helper()
	child, err := way(p, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child.PidFD)
	defer child.Wait()
	return child.Executed()
}

// A child whose parent is gone must not go on.
func TestAwaitEnd(t *testing.T) {
	for name, way := range ways() {
		for _, said := range []string{"x", ""} {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			p := new(Program)
			p.Await("wait", int(r.Fd()))
			if err := p.Exec([]string{"/bin/true"}, []string{"true"}, nil); err != nil {
				t.Fatal(err)
			}
			if said != "" {
				if _, err := w.WriteString(said); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
			err = run(t, p, way)
			if call, ok := errors.AsType[*CallError](err); ok != (said == "") || ok && call.Name != "wait" {
				t.Errorf("%s, told %q: %v", name, said, err)
			}
			r.Close()
		}
	}
}

// However many descriptors are claimed, the one to report on is not among them.
func TestReportAboveFiles(t *testing.T) {
	for name, way := range ways() {
		p := new(Program)
		p.Files(slices.Repeat([]int{DevNull}, 100))
		if err := p.Exec([]string{"/nonesuch"}, []string{"nonesuch"}, nil); err != nil {
			t.Fatal(err)
		}
		if err := run(t, p, way); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: %v, not %v", name, err, unix.ENOENT)
		}
	}
}

// A child that shares memory works in it while everything around it goes on: what it reads
// is not collected, and it writes nothing but its results.
func TestSpawnBusy(t *testing.T) {
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for keep := [][]byte{}; ; {
				select {
				case <-stop:
					return
				default:
				}
				if keep = append(keep, make([]byte, 1<<12)); len(keep) > 1000 {
					keep = nil
					runtime.GC()
				}
			}
		})
	}
	for range 200 {
		p := new(Program)
		pid := p.Do("getpid", unix.SYS_GETPID)
		p.Do("kill 0", unix.SYS_KILL, pid, 0)
		if err := p.Exec([]string{"/nonesuch", "/bin/sh"}, []string{"sh", "-c", "exit $X"}, []string{"X=7"}); err != nil {
			t.Fatal(err)
		}
		child, err := p.Spawn(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Executed(); err != nil {
			t.Fatal(err)
		}
		if status, err := child.Wait(); err != nil || status.ExitStatus() != 7 || int(*pid) != child.Pid {
			t.Fatalf("status %v, %v; pid %d, %d", status, err, *pid, child.Pid)
		}
		unix.Close(child.PidFD)
	}
	close(stop)
	busy.Wait()
}
