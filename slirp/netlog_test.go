//go:build !hot

package slirp

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func logFile(t *testing.T) (*os.File, func() []record) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f, func() (records []record) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var r record
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			records = append(records, r)
		}
		return records
	}
}

// However flows end, and when, each has one line.
func TestNetLogIsWhole(t *testing.T) {
	const flows = 2000
	f, read := logFile(t)
	l := newNetLog(f, "log", nil)
	dst := netip.MustParseAddrPort("192.0.2.1:80")
	var all sync.WaitGroup
	for i := range flows {
		one := l.begin("tcp", dst)
		one.addSent(i)
		all.Go(func() {
			if i%2 == 0 {
				time.Sleep(time.Duration(i) * time.Microsecond)
			}
			one.note(func(r *record) { r.Verdict = "allowed" })
			one.end()
			one.end()
		})
	}
	time.Sleep(500 * time.Microsecond)
	l.close()
	all.Wait()
	l.begin("tcp", dst).end() // too late, and no harm
	l.close()
	seen := map[int64]bool{}
	for _, r := range read() {
		if r.Event != "flow" || seen[r.Sent] {
			t.Errorf("%+v", r)
		}
		seen[r.Sent] = true
	}
	if len(seen) != flows {
		t.Errorf("%d lines of %d", len(seen), flows)
	}
	var none *netLog
	none.begin("tcp", dst).end()
	none.close()
}

// Names are anything; a line stays one, of ASCII, and short.
func TestNetLogOfHostileNames(t *testing.T) {
	f, read := logFile(t)
	l := newNetLog(f, "log", nil)
	for _, name := range []string{"a\nb", "\x1b[31m", "\xff\xc2\x9b", `"},{"x":"`, strings.Repeat("\x00", 1000)} {
		one := l.begin("udp", netip.AddrPort{})
		one.note(func(r *record) { r.Name = name })
		one.end()
	}
	l.close()
	text, err := os.ReadFile(f.Name())
	if err != nil || bytes.ContainsFunc(bytes.ReplaceAll(text, []byte("\n"), nil), func(c rune) bool { return c < ' ' || c >= 0x7f }) {
		t.Errorf("%q, %v", text, err)
	}
	got := read()
	if len(got) != 5 || got[0].Name != `a\010b` || got[2].Name != `\255\194\155` || len(got[4].Name) != 4*maxLogged {
		t.Errorf("%+v", got)
	}
}

// A file that takes nothing holds nothing up; what is lost is counted, and told of.
func TestNetLogThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l := newNetLog(w, "pipe", nil)
	start := time.Now()
	for range 3 * maxLines {
		l.begin("tcp", netip.MustParseAddrPort("192.0.2.1:80")).end()
	}
	if lost := l.lost.Load(); lost < maxLines || time.Since(start) > 5*time.Second {
		t.Errorf("%d lost in %s", lost, time.Since(start))
	}
	text := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(r)
		text <- b
	}()
	l.close()
	w.Close()
	if !bytes.Contains(<-text, []byte(`"event":"lost"`)) {
		t.Error("the log does not tell of what is lost")
	}
}

// A pipe that nobody reads to the end keeps no goroutine, and the user is told.
func TestNetLogIsGivenUp(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	told := make(chan string, 2)
	l := newNetLog(w, "pipe", func(text string) { told <- text })
	for range 1000 {
		l.begin("tcp", netip.MustParseAddrPort("192.0.2.1:80")).end()
	}
	l.close()
	select {
	case <-l.done:
	default:
		t.Error("it still writes")
	}
	select {
	case text := <-told:
		if !strings.HasSuffix(text, "lines are lost: nobody takes them") {
			t.Error(text)
		}
	default:
		t.Error("nobody is told")
	}
}

// That a disk is full is told of once; when there is room again the log says how much is missing.
func TestNetLogOnAFullDisk(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	l := newNetLog(f, "log", func(text string) { told = append(told, text) })
	for range 10 {
		l.begin("tcp", netip.MustParseAddrPort("192.0.2.1:80")).end()
	}
	l.close()
	if len(told) != 1 || told[0] != "--net-log: write log: no space left on device" || l.lost.Load() != 10 {
		t.Errorf("%q, %d lost", told, l.lost.Load())
	}
}
