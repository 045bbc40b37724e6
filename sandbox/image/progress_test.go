//go:build !hot

package image

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, false)
	p.line("Trying %s...", "x")
	d := v1.Descriptor{Digest: digestAt(1), Size: 10}
	for _, err := range []error{nil, errors.New("broken")} {
		b := p.blob(d)
		b.set(5)
		b.finish(err)
	}
	p.wait()
	if want := "Trying x...\nCopying blob " + d.Digest.Encoded()[:12] + " done\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	p = newProgress(&out, true)
	p.line("x")
	p.blob(d).finish(nil)
	newProgress(nil, false).line("x")
	if out.Len() > 0 {
		t.Errorf("quiet says %q", out.String())
	}
}

func TestProgressBars(t *testing.T) {
	master, terminal := openPTY(t)
	p := newProgress(terminal, false)
	if !p.tty {
		t.Fatal("not taken for a terminal")
	}
	seen := make(chan string)
	go func() {
		data, _ := io.ReadAll(master) // ends with EIO once the terminal is closed
		seen <- string(data)
	}()
	good, bad := p.blob(v1.Descriptor{Digest: digestAt(1), Size: 10}), p.blob(v1.Descriptor{Digest: digestAt(2)})
	good.set(5)
	p.line("above the bars")
	good.finish(nil)
	bad.finish(errors.New("broken"))
	p.wait()
	terminal.Close()
	got := <-seen
	for _, want := range []string{"above the bars", "Copying blob " + digestAt(1).Encoded()[:12] + " done"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func openPTY(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil && os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		t.Fatal(errno)
	}
	return master, os.NewFile(peer, "terminal")
}
