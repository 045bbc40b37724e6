//go:build !hot

package image

import (
	"fmt"
	"io"
	"os"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress tells what a pull does: bars on a terminal, lines elsewhere.
type progress struct {
	w     io.Writer
	quiet bool
	tty   bool

	mu   sync.Mutex
	bars *mpb.Progress // made with the first bar
}

// newProgress writes to w, or not at all if quiet or w is nil.
func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w, quiet: quiet || w == nil}
	if f, ok := w.(*os.File); ok && !p.quiet {
		width, _, err := term.GetSize(int(f.Fd()))
		p.tty = err == nil && width > 0 // there are terminals of no size, under script(1) for example
	}
	return p
}

// line prints one message, above the bars if there are any.
func (p *progress) line(format string, args ...any) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.w
	if p.bars != nil {
		w = p.bars
	}
	fmt.Fprintf(w, format+"\n", args...)
}

// wait draws the bars for the last time.
func (p *progress) wait() {
	p.mu.Lock()
	bars := p.bars
	p.bars = nil
	p.mu.Unlock()
	if bars != nil {
		bars.Wait()
	}
}

// blobBar is the progress of one blob. A nil one is silent.
type blobBar struct {
	p    *progress
	name string
	size int64
	bar  *mpb.Bar
}

func (p *progress) blob(d v1.Descriptor) *blobBar {
	if p.quiet {
		return nil
	}
	b := &blobBar{p: p, name: "Copying blob " + d.Digest.Encoded()[:12], size: d.Size}
	if !p.tty {
		return b
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		p.bars = mpb.New(mpb.WithOutput(p.w), mpb.WithWidth(40))
	}
	b.bar = p.bars.AddBar(max(d.Size, 1),
		mpb.PrependDecorators(decor.OnComplete(decor.Name(b.name+" "), b.name+" done")),
		mpb.AppendDecorators(decor.OnComplete(decor.CountersKibiByte(" %.1f / %.1f"), "")),
		mpb.BarFillerClearOnComplete())
	return b
}

// set is the number of bytes that are there.
func (b *blobBar) set(n int64) {
	if b != nil && b.bar != nil {
		b.bar.SetCurrent(min(n, max(b.size, 1)-1)) // the last one only when the digest is right
	}
}

// waiting says that someone else downloads the blob.
func (b *blobBar) waiting() {
	if b != nil && b.bar == nil {
		b.p.line("%s: waiting for another sbx", b.name)
	}
}

func (b *blobBar) finish(err error) {
	switch {
	case b == nil:
	case b.bar != nil && err == nil:
		b.bar.SetCurrent(max(b.size, 1))
	case b.bar != nil:
		b.bar.Abort(true)
	case err == nil:
		b.p.line("%s done", b.name)
	}
}
