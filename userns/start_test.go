package userns

import (
	"fmt"
	"os"
	"runtime"
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
