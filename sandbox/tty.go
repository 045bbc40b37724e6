package sandbox

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// tty is the caller's terminal, between which and the command's own one the parent copies.
type tty struct {
	interactive bool

	mu     sync.Mutex  // signals come at any time
	master *os.File    // of the command's terminal; nil until there is one
	cooked *term.State // what the caller's was like; nil unless it is in raw mode
}

// newTTY returns nil if the command gets no terminal.
func newTTY(p *Plan) *tty {
	if !p.Command.Terminal {
		return nil
	}
	return &tty{interactive: p.Parent.Interactive}
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
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fit()
}

func (t *tty) fit() {
	if ws := t.size(); ws != nil && t.master != nil {
		unix.IoctlSetWinsize(int(t.master.Fd()), unix.TIOCSWINSZ, ws)
	}
}

// connect begins to copy what is typed.
func (t *tty) connect(master *os.File) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.master = master
	t.fit()
	if t.interactive {
		if err := t.makeRaw(); err != nil {
			return err
		}
		go typeIn(master, t.cooked != nil)
	}
	return nil
}

// makeRaw makes every key of the caller's terminal the command's, ^C and ^Z too.
func (t *tty) makeRaw() (err error) {
	if !term.IsTerminal(0) {
		return nil
	}
	if t.cooked, err = term.MakeRaw(0); err != nil {
		return fmt.Errorf("raw mode of the terminal: %w", err)
	}
	return nil
}

// typeIn copies the caller's input. Where that is no terminal, its end is said as one says
// it: with ^D, which in an unfinished line only sends off what there is of it.
func typeIn(master io.Writer, raw bool) {
	text, end := make([]byte, 32<<10), "\x04"
	for {
		n, err := os.Stdin.Read(text)
		if n > 0 {
			if _, err := master.Write(text[:n]); err != nil {
				return
			}
			end = "\x04\x04"
			if text[n-1] == '\n' {
				end = "\x04"
			}
		}
		if err == io.EOF && !raw {
			sayEnd(master, end)
		}
		if err != nil {
			return
		}
	}
}

// sayEnd repeats itself, ever less often: a shell that is about to begin throws away what was
// typed before its own line editor.
func sayEnd(master io.Writer, end string) {
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		if _, err := io.WriteString(master, end); err != nil {
			return
		}
		end = "\x04"
		time.Sleep(pause)
	}
}

// aside gives the caller's terminal back while stop goes on.
func (t *tty) aside(stop func()) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	raw := t.cooked != nil
	t.cook()
	stop()
	if raw {
		err = t.makeRaw()
	}
	t.fit()
	return err
}

func (t *tty) restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cook()
}

func (t *tty) cook() {
	if t.cooked != nil {
		term.Restore(0, t.cooked)
		t.cooked = nil
	}
}
