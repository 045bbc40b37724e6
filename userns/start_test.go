package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Args[0] == "stage" {
		runtime.LockOSThread()
		message, err := Receive()
		status, _ := os.ReadFile("/proc/self/uid_map")
		fmt.Printf("%s err=%v uid=%d map=%q\n", message, err, os.Getuid(), strings.Join(strings.Fields(string(status)), " "))
		io.Copy(io.Discard, os.Stdin)
		os.Exit(7)
	}
	os.Exit(m.Run())
}

func TestStart(t *testing.T) {
	runtime.LockOSThread()
	caller, err := FindCaller("", "")
	if err != nil {
		t.Fatal(err)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	stage := Stage{Name: "stage", Flags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Caller: caller, Map: caller.Default(), Stdio: [3]*os.File{nil, pw, os.Stderr}}
	child, err := stage.Start([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	pw.Close()
	buf := make([]byte, 1000)
	n, _ := pr.Read(buf)
	t.Logf("%s", buf[:n])
	if status, err := child.Wait(); err != nil || status.ExitStatus() != 7 {
		t.Errorf("status %v, %v", status, err)
	}
}

// TestAround starts a stage in a user namespace within a new one, and another in that one and in
// the net namespace of the first.
func TestAround(t *testing.T) {
	runtime.LockOSThread()
	caller, err := FindCaller("", "")
	if err != nil {
		t.Fatal(err)
	}
	ids := caller.Default()
	start := func(o *Around, flags uintptr, stdin *os.File) (child *Child, says *os.File) {
		t.Helper()
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pr.Close() })
		defer pw.Close()
		stage := Stage{Name: "stage", Flags: unix.CLONE_NEWPID | flags, Caller: caller, Map: ids, Around: o, Stdio: [3]*os.File{stdin, pw, os.Stderr}}
		if child, err = stage.Start([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		return child, pr
	}
	ends := func(child *Child, says *os.File) {
		t.Helper()
		text, _ := io.ReadAll(says)
		want := fmt.Sprintf("hello err=<nil> uid=0 map=%q\n", strings.Join(strings.Fields(Text(ids.In(ids).UIDs)), " "))
		if string(text) != want {
			t.Errorf("%s, want %s", text, want)
		}
		if status, err := child.Wait(); err != nil || status.ExitStatus() != 7 {
			t.Errorf("status %v, %v", status, err)
		}
		unix.Close(child.PidFD)
	}
	stdin, hold, err := os.Pipe() // the first one lives until it is closed
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	first, says := start(&Around{New: true, Map: ids}, unix.CLONE_NEWNET, stdin)
	open := func(name string) *os.File {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", first.Pid, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	own, net := open("user"), open("net")
	hold.Close()
	parent, err := unix.IoctlRetInt(int(own.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		t.Fatal(err)
	}
	outer := os.NewFile(uintptr(parent), "outer")
	defer outer.Close()
	ends(first, says)
	have, err := MapOf(outer)
	if err != nil || !slices.Equal(have.UIDs, ids.UIDs) || !slices.Equal(have.GIDs, ids.GIDs) {
		t.Errorf("the ids of the outer namespace are %v, %v; not %v", have, err, ids)
	}
	ends(start(&Around{User: outer, Net: net, Map: have}, unix.CLONE_NEWNS, nil))

	var call *CallError
	stage := Stage{Name: "stage", Caller: caller, Map: ids, Around: &Around{User: net, Map: ids}}
	if _, err := stage.Start(nil); !errors.As(err, &call) || call.Name != "enter the user namespace" || !errors.Is(err, unix.EINVAL) {
		t.Errorf("entered a net namespace as if it were one of users: %v", err)
	}
}
