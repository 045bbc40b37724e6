package sandbox

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// tty is the caller's terminal, between which and the command's own one the parent copies.
type tty struct {
	interactive bool
	master      *os.File
	old         *term.State // nil unless it is in raw mode
	copied      chan struct{}
}

// newTTY returns nil if the command gets no terminal.
func newTTY(p *Plan) (*tty, error) {
	if !p.Command.Terminal {
		return nil, nil
	}
	return &tty{interactive: p.Parent.Interactive, copied: make(chan struct{})}, nil
}

// size is that of the caller's terminal, or nil.
func (t *tty) size() *unix.Winsize {
	for fd := range 3 {
		if ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil {
			return ws
		}
	}
	return nil
}

func (t *tty) resize() {
	if ws := t.size(); ws != nil && t.master != nil {
		unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, ws)
	}
}

// connect begins to copy. The caller's terminal goes into raw mode: every key is the
// command's, ^C and ^Z too.
func (t *tty) connect(master *os.File) {
	t.master = master
	t.resize()
	if t.interactive {
		if term.IsTerminal(0) {
			t.old, _ = term.MakeRaw(0)
		}
		go func() {
			if _, err := io.Copy(master, os.Stdin); err == nil && t.old == nil {
				// The end of what is piped in, as a terminal says it: ^D.
				master.Write([]byte{4})
			}
		}()
	}
	go func() {
		io.Copy(os.Stdout, master)
		close(t.copied)
	}()
}

// drain waits until all that the command has written is out. Nothing of it lives any
// longer, so that end comes.
func (t *tty) drain() {
	if t.master == nil {
		return
	}
	select {
	case <-t.copied:
	case <-time.After(5 * time.Second): // stdout is stuck
	}
}

func (t *tty) restore() {
	if t.old != nil {
		term.Restore(0, t.old)
		t.old = nil
	}
}
