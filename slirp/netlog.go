//go:build !hot

package slirp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxLines  = 4096 // that wait to be written; beyond, they are counted
	maxLogged = 255  // bytes of a name
)

// netLog writes a line of JSON for each flow, and for each question of DNS. A nil one writes nothing.
type netLog struct {
	file  *os.File
	name  string
	warn  func(string) // nil is nobody
	lines chan []byte
	done  chan struct{}
	lost  atomic.Int64

	mu     sync.Mutex
	open   map[*flow]struct{}
	last   [][]byte // lines of flows that were open when it was closed
	closed bool
}

// record is a line of the log.
type record struct {
	Time      string  `json:"time"`
	Event     string  `json:"event"`               // flow, dns, lost
	Direction string  `json:"direction,omitempty"` // in: of a client of a published port, whose address and port these are
	Published string  `json:"published,omitempty"` // that address and port of the host's
	Inside    uint16  `json:"inside,omitempty"`    // and the port that it leads to
	Name      string  `json:"name,omitempty"`      // asked for, or that the flow goes by
	Type      string  `json:"type,omitempty"`      // of a question
	Address   string  `json:"address,omitempty"`
	Port      uint16  `json:"port,omitempty"`
	Protocol  string  `json:"protocol,omitempty"`
	Connected string  `json:"connected,omitempty"` // the address of the name, where another was dialled
	Verdict   string  `json:"verdict,omitempty"`   // allowed, denied
	Rule      string  `json:"rule,omitempty"`      // that decided
	Reason    string  `json:"reason,omitempty"`    // why else, or what became of it
	Sent      int64   `json:"sent"`                // bytes, by the sandbox
	Received  int64   `json:"received"`
	Duration  float64 `json:"duration"` // seconds
	Lines     int64   `json:"lines,omitempty"`
}

func newNetLog(f *os.File, name string, warn func(string)) *netLog {
	l := &netLog{file: f, name: name, warn: warn, lines: make(chan []byte, maxLines), done: make(chan struct{}), open: map[*flow]struct{}{}}
	go l.write()
	return l
}

// flow is one that the log will tell of, or a question. A nil one is of no log.
type flow struct {
	log            *netLog
	start          time.Time
	sent, received atomic.Int64

	mu sync.Mutex
	r  record
}

func (l *netLog) begin(protocol string, dst netip.AddrPort) *flow {
	if l == nil {
		return nil
	}
	f := &flow{log: l, start: time.Now(), r: record{
		Event: "flow", Address: dst.Addr().String(), Port: dst.Port(), Protocol: protocol, Verdict: "denied",
	}}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.open[f] = struct{}{}
	}
	return f
}

// arrive begins a flow of a client's to a published port, which no rule is about.
func (l *netLog) arrive(protocol string, client netip.AddrPort, published net.Addr, inside uint16) *flow {
	f := l.begin(protocol, netip.AddrPortFrom(client.Addr().Unmap(), client.Port()))
	f.note(func(r *record) {
		r.Verdict, r.Direction, r.Published, r.Inside = "allowed", "in", published.String(), inside
	})
	return f
}

// note changes the record that will be written.
func (f *flow) note(change func(r *record)) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.r)
}

// refuse ends a flow that was not let out, and says why if no rule does.
func (f *flow) refuse(reason string) {
	f.note(func(r *record) { r.Verdict, r.Reason = "denied", reason })
	f.end()
}

// fail notes that there is nobody at the other end, or not any more.
func (f *flow) fail(err error) {
	f.note(func(r *record) { r.Reason = err.Error() })
}

func (f *flow) addSent(n int) {
	if f != nil {
		f.sent.Add(int64(n))
	}
}

func (f *flow) addReceived(n int) {
	if f != nil {
		f.received.Add(int64(n))
	}
}

// end writes the flow's line; the first time only.
func (f *flow) end() {
	if f == nil {
		return
	}
	l := f.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, open := l.open[f]; !open {
		return
	}
	delete(l.open, f)
	select { // nobody waits for the file
	case l.lines <- f.line():
	default:
		l.lost.Add(1)
	}
}

// forget is the end of a flow without a line.
func (f *flow) forget() {
	if f == nil {
		return
	}
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	delete(f.log.open, f)
}

func (f *flow) line() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.r.Time, f.r.Duration = timeText(f.start), time.Since(f.start).Round(time.Microsecond).Seconds()
	f.r.Sent, f.r.Received = f.sent.Load(), f.received.Load()
	f.r.Name, f.r.Reason = plain(f.r.Name), plain(f.r.Reason)
	return lineOf(&f.r)
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func lineOf(r *record) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		return nil // texts and numbers
	}
	return append(b, '\n')
}

// plain is s with all but printable ASCII written as DNS writes it, \DDD (RFC 1035, 5.1): a name may
// be anything, and the log may be read on a terminal.
func plain(s string) string {
	s = s[:min(len(s), maxLogged)]
	if !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			fmt.Fprintf(&b, `\%03d`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// write writes the lines as they come, and in the end those of flows that were open.
func (l *netLog) write() {
	defer close(l.done)
	defer l.file.Close()
	var failed error
	write := func(line []byte) {
		if err := l.writeLine(line); err != nil && failed == nil {
			failed = err
			l.tell(err)
		}
	}
	for line := range l.lines {
		write(line)
	}
	l.mu.Lock()
	last := l.last
	l.mu.Unlock()
	for _, line := range last {
		write(line)
	}
	if l.lost.Load() > 0 {
		write(nil)
	}
	if n := l.lost.Load(); n > 0 && errors.Is(failed, os.ErrClosed) && l.warn != nil {
		l.warn(fmt.Sprintf("--net-log: %d lines are lost: nobody takes them", n))
	}
}

// writeLine writes one, and before it how many are lost. If it fails, that is one more.
func (l *netLog) writeLine(line []byte) error {
	lost, text := l.lost.Swap(0), line
	if lost > 0 {
		text = append(lineOf(&record{Time: timeText(time.Now()), Event: "lost", Lines: lost}), line...)
	}
	_, err := l.file.Write(text)
	if err == nil {
		return nil
	}
	if line != nil {
		lost++
	}
	l.lost.Add(lost)
	return err
}

// tell tells why lines cannot be written; that close has given up, write does.
func (l *netLog) tell(err error) {
	if l.warn == nil || errors.Is(err, os.ErrClosed) {
		return
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	l.warn("--net-log: " + (&fs.PathError{Op: "write", Path: l.name, Err: err}).Error())
}

// close writes what there is, and the flows that are still open as far as they have come.
func (l *netLog) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		open := slices.SortedFunc(maps.Keys(l.open), func(a, b *flow) int { return a.start.Compare(b.start) })
		for _, f := range open {
			l.last = append(l.last, f.line())
		}
		clear(l.open)
		close(l.lines)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
		return
	case <-time.After(LastLines):
	}
	l.file.Close() // whoever writes to a pipe that nobody reads gives up
	select {
	case <-l.done:
	case <-time.After(100 * time.Millisecond): // the file may be one that cannot be interrupted
	}
}
