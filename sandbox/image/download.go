//go:build !hot

package image

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	parallelLayers = 3
	copyBuffer     = 256 << 10
	realProgress   = 1 << 20 // so much between two failures, and the count of tries starts again
)

// remote is the carrier of an image in a registry.
type remote struct {
	client *client
	blobs  *blobDir
	retry  retry
	out    *progress

	ctx    context.Context // of all downloads: the first that fails ends the others
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	downloads map[digest.Digest]*download
	queue     chan *download
}

// download is one blob on its way; several layers may be the same blob.
type download struct {
	desc v1.Descriptor
	done chan struct{}
	file *os.File // keeps the blob locked until close
	err  error
}

func newRemote(ctx context.Context, c *client, blobs *blobDir, r retry, out *progress) *remote {
	ctx, cancel := context.WithCancelCause(ctx)
	r.say = out.line
	return &remote{client: c, blobs: blobs, retry: r, out: out, ctx: ctx, cancel: cancel, downloads: map[digest.Digest]*download{}}
}

// close ends what is under way. The blobs stay, for whoever resumes.
func (r *remote) close() {
	r.stop()
	for _, d := range r.downloads {
		if d.file != nil {
			d.file.Close()
		}
	}
	r.client.close()
}

// failed is why a download has failed; nil if none has.
func (r *remote) failed() error {
	if err := context.Cause(r.ctx); err != context.Canceled {
		return err
	}
	return nil
}

func (r *remote) stop() {
	r.cancel(context.Canceled)
	r.wg.Wait()
}

// forget deletes the blobs of an image that the store has now.
func (r *remote) forget() error {
	r.stop()
	var errs []error
	for id, d := range r.downloads {
		if d.file != nil {
			d.file.Close()
			d.file = nil
		}
		errs = append(errs, r.blobs.remove(id))
	}
	return errors.Join(errs...)
}

func (r *remote) manifest(ctx context.Context, d digest.Digest) (body []byte, mediaType string, err error) {
	ref := d.String()
	if d == "" {
		ref = r.client.name.Tag
		if p := r.client.name.Digest; p != "" {
			ref = p.String()
		}
	}
	var header http.Header
	err = r.retry.do(ctx, func() (bool, error) {
		body, header, err = r.client.manifest(ctx, ref)
		return false, err
	})
	if err != nil && d == "" {
		err = notThere(r.client.name, err)
	}
	if err != nil {
		return nil, "", err
	}
	// Only this header ties a tag to bytes: it catches a proxy or disk that flips one.
	if promised := header.Get("Docker-Content-Digest"); promised != "" {
		want, err := parseDigest(promised)
		if err != nil {
			return nil, "", fmt.Errorf("manifest %s: %w", ref, err)
		}
		if err := checkBytes("manifest", body, want); err != nil {
			return nil, "", err
		}
	}
	return body, header.Get("Content-Type"), nil
}

// notThere names the image in the registry's most usual answer.
func notThere(n Name, err error) error {
	if answer, ok := errors.AsType[*RegistryError](err); ok && answer.Status == http.StatusNotFound && !answer.HTML {
		return fmt.Errorf("%s is not there: %w", n, err)
	}
	return err
}

func (r *remote) config(ctx context.Context, d v1.Descriptor) (body []byte, err error) {
	err = r.retry.do(ctx, func() (bool, error) {
		resp, err := r.client.blob(ctx, d.Digest, 0)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		body, err = readBounded(resp.Body, maxManifest)
		return false, err
	})
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", d.Digest, err)
	}
	return body, nil
}

// layers: the first Open of a layer starts its download. Three are under way at a time.
func (r *remote) layers(list []v1.Descriptor) []func(context.Context) (*os.File, error) {
	r.queue = make(chan *download, len(list))
	open := make([]func(context.Context) (*os.File, error), len(list))
	for i := range list {
		open[i] = func(ctx context.Context) (*os.File, error) {
			d := r.start(list[i])
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-d.done:
			case <-r.ctx.Done():
				r.wg.Wait() // those that had come all the way are done now
			}
			select {
			case <-d.done:
			default:
				return nil, context.Cause(r.ctx)
			}
			if d.err != nil {
				return nil, d.err
			}
			return r.blobs.open(d.desc.Digest)
		}
	}
	return open
}

// start queues a layer, unless it is.
func (r *remote) start(desc v1.Descriptor) *download {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.downloads[desc.Digest]; d != nil {
		return d
	}
	if len(r.downloads) < parallelLayers {
		r.wg.Go(r.work)
	}
	d := &download{desc: desc, done: make(chan struct{})}
	r.downloads[desc.Digest] = d
	r.queue <- d
	return d
}

func (r *remote) work() {
	for {
		select {
		case <-r.ctx.Done():
			r.drain()
			return
		case d := <-r.queue:
			d.file, d.err = r.get(r.ctx, d.desc)
			if d.err != nil {
				r.cancel(d.err)
			}
			close(d.done)
		}
	}
}

// drain gives those that never began the reason.
func (r *remote) drain() {
	for {
		select {
		case d := <-r.queue:
			d.err = context.Cause(r.ctx)
			close(d.done)
		default:
			return
		}
	}
}

// get brings one blob into the blob directory, complete and checked.
func (r *remote) get(ctx context.Context, desc v1.Descriptor) (f *os.File, err error) {
	bar := r.out.blob(desc)
	defer func() { bar.finish(err) }()
	for {
		have, p, err := r.blobs.acquire(ctx, desc.Digest, bar.waiting)
		if err != nil {
			return nil, blobError(ctx, desc, err)
		}
		if have != nil {
			if err = checkFile(ctx, have, desc); err == nil {
				return have, nil
			}
			// A crash of the machine can lose what rename did not wait for.
			have.Close()
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if err := r.blobs.remove(desc.Digest); err != nil {
				return nil, err
			}
			continue
		}
		f, err := r.fill(ctx, p, desc, bar)
		if err != nil {
			return nil, blobError(ctx, desc, err)
		}
		return f, nil
	}
}

// blobError names the blob, unless it was given up for the sake of another.
func blobError(ctx context.Context, desc v1.Descriptor, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("blob %s: %w", desc.Digest, err)
}

// checkFile reads a whole file and rewinds it.
func checkFile(ctx context.Context, f *os.File, desc v1.Descriptor) error {
	t := transfer{desc: desc, file: f}
	if err := t.resume(ctx); err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// fill completes a partial blob, by what is missing of it. If what an earlier process
// left turns out bad, it is got once more from the start.
func (r *remote) fill(ctx context.Context, p *partial, desc v1.Descriptor, bar *blobBar) (*os.File, error) {
	t := transfer{client: r.client, desc: desc, file: p.File, bar: bar}
	err := t.resume(ctx)
	if err == nil && t.have > desc.Size {
		err = t.restart()
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	for resumed := t.have > 0; ; resumed = false {
		err := r.retry.do(ctx, func() (bool, error) {
			before := t.have
			err := t.more(ctx)
			return t.have-before >= realProgress, err
		})
		if err != nil {
			p.Close()
			return nil, err
		}
		err = t.check()
		if err == nil {
			f, err := p.complete()
			if err != nil {
				p.Close()
			}
			return f, err
		}
		if resumed {
			err = t.restart()
		}
		if err != nil {
			return nil, errors.Join(err, p.discard())
		}
	}
}

// transfer is the state of one blob's download: the bytes in the file, and their hash.
type transfer struct {
	client *client
	desc   v1.Descriptor
	file   *os.File
	bar    *blobBar
	hash   hash.Hash
	have   int64
}

// resume hashes what the file holds already.
func (t *transfer) resume(ctx context.Context) error {
	t.hash, t.have = t.desc.Digest.Algorithm().Hash(), 0
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, copyBuffer)
	for ctx.Err() == nil {
		n, err := t.file.Read(buf)
		t.hash.Write(buf[:n])
		t.have += int64(n)
		if err == io.EOF {
			t.bar.set(t.have)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// restart throws away what has come so far.
func (t *transfer) restart() error {
	t.hash.Reset()
	t.have = 0
	t.bar.set(0)
	if err := t.file.Truncate(0); err != nil {
		return err
	}
	_, err := t.file.Seek(0, io.SeekStart)
	return err
}

// more asks for what is missing, once.
func (t *transfer) more(ctx context.Context) error {
	if t.have == t.desc.Size {
		return nil
	}
	resp, err := t.ask(ctx)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n := resp.ContentLength; n >= 0 && n != t.desc.Size-t.have {
		return fmt.Errorf("%s sends %d bytes where %d are missing", t.client.name.Registry, n, t.desc.Size-t.have)
	}
	return t.receive(resp.Body)
}

// ask gets an answer that goes on where the file ends. A server that does not know
// ranges, or gets them wrong, is asked for everything.
func (t *transfer) ask(ctx context.Context) (*http.Response, error) {
	resp, err := t.client.blob(ctx, t.desc.Digest, t.have)
	if t.have > 0 {
		answer, refused := errors.AsType[*RegistryError](err)
		switch {
		case err == nil && resp.StatusCode == http.StatusPartialContent && rightRange(resp.Header.Get("Content-Range"), t.have, t.desc.Size):
			return resp, nil
		case err == nil && resp.StatusCode == http.StatusOK:
			return resp, t.restart()
		case err == nil:
			resp.Body.Close()
		case !refused || answer.Status != http.StatusRequestedRangeNotSatisfiable:
			return nil, err
		}
		if err := t.restart(); err != nil {
			return nil, err
		}
		resp, err = t.client.blob(ctx, t.desc.Digest, 0)
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = &RegistryError{Host: t.client.name.Registry, Status: resp.StatusCode, Message: "not the blob"}
	}
	return resp, err
}

// rightRange: bytes FROM-LAST/SIZE, to the very end.
func rightRange(header string, from, size int64) bool {
	span, total, _ := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	first, last, _ := strings.Cut(span, "-")
	return first == strconv.FormatInt(from, 10) && last == strconv.FormatInt(size-1, 10) &&
		(total == "*" || total == strconv.FormatInt(size, 10))
}

func (t *transfer) receive(body io.Reader) error {
	buf := make([]byte, copyBuffer)
	for {
		n, err := body.Read(buf)
		if t.have+int64(n) > t.desc.Size {
			return fmt.Errorf("more than the %d bytes that the manifest says", t.desc.Size)
		}
		if n > 0 {
			if _, err := t.file.Write(buf[:n]); err != nil {
				return err
			}
			t.hash.Write(buf[:n])
			t.have += int64(n)
			t.bar.set(t.have)
		}
		switch {
		case err == io.EOF && t.have < t.desc.Size:
			return errShort
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// check compares the whole with the descriptor.
func (t *transfer) check() error {
	if t.have != t.desc.Size {
		return fmt.Errorf("%d bytes, and the manifest says %d", t.have, t.desc.Size)
	}
	got := digest.NewDigest(t.desc.Digest.Algorithm(), t.hash)
	if got != t.desc.Digest {
		return &digestError{"", t.desc.Digest, got}
	}
	return nil
}
