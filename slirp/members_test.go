//go:build !hot

package slirp

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// enter connects to a hall, as a sandbox does.
func enter(t *testing.T, h *hall, c Config) *os.File {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	go h.member(os.NewFile(uintptr(pair[0]), "member"))
	control := os.NewFile(uintptr(pair[1]), "sbx-net")
	t.Cleanup(func() { control.Close() })
	control.SetDeadline(time.Now().Add(10 * time.Second))
	if err := Send(control, Order{Config: &c}, nil); err != nil {
		t.Fatal(err)
	}
	var r Reply
	if _, err := Receive(control, &r); err != nil || r.Failure != "" {
		t.Fatalf("%v, %+v", err, r)
	}
	return control
}

// What becomes of a member's link is told to its sandbox, and is the end of the membership.
func TestLinkFails(t *testing.T) {
	h := &hall{sw: NewSwitch(), files: newDescriptors()}
	for _, path := range []string{t.TempDir(), "/dev/null"} { // neither of which can be read like a link
		control := enter(t, h, memberConfig(2))
		link, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer link.Close()
		if err := Send(control, Order{}, link); err != nil {
			t.Fatal(err)
		}
		var r Reply
		if _, err := Receive(control, &r); err != nil || !strings.HasPrefix(r.Failure, "link: ") {
			t.Errorf("%s: %v, %+v", path, err, r)
		}
		if _, err := Receive(control, &r); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", path, err)
		}
	}
	control := enter(t, h, memberConfig(2))
	for range 2 { // links
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		link := os.NewFile(uintptr(pair[1]), "link")
		defer link.Close()
		if err := Send(control, Order{}, link); err != nil {
			t.Fatal(err)
		}
	}
	var r Reply
	if _, err := Receive(control, &r); err != nil || r.Failure != "link: a member has one link" {
		t.Errorf("%v, %+v", err, r)
	}
}

// A message has one file; what else comes with it is not kept.
func TestTwoFilesInAMessage(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	control := os.NewFile(uintptr(pair[0]), "control")
	defer control.Close()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	if err := unix.Sendmsg(pair[1], []byte("{}"), unix.UnixRights(pipe[0], pipe[1]), nil, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	unix.Close(pipe[1])
	var next Order
	f, err := Receive(control, &next)
	if err != nil || f == nil {
		t.Fatalf("%v, %v", f, err)
	}
	defer f.Close()
	ended := []unix.PollFd{{Fd: int32(pipe[0])}}
	if n, err := unix.Poll(ended, 0); err != nil || n != 1 || ended[0].Revents&unix.POLLHUP == 0 {
		t.Errorf("somebody has the other end of the pipe: %v, %v", ended, err)
	}
}
