//go:build !hot

package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// What a Store asks of sbx-store, and what that answers. The request is the message of
// the stage; the rest goes over a socket:
//
//	Store                          sbx-store
//	request ---------------------->
//	          <-------------------- reply Waiting: somebody else has the lock, for a while now
//	          <-------------------- reply Need: layers it lacks     (put only)
//	blob, descriptor ------------->                                 (for each of them)
//	          <-------------------- reply Done or Error

type request struct {
	Op    string // put, name, unname, remove, clean
	Dir   string
	UIDs  uint32      // how many ids there are
	GIDs  uint32      //
	ID    string      `json:",omitempty"` // name, unname, remove
	Names []string    `json:",omitempty"` // name, unname
	Put   *putRequest `json:",omitempty"`
}

type reply struct {
	Waiting bool     `json:",omitempty"`
	Need    []int    `json:",omitempty"`
	Done    bool     `json:",omitempty"`
	Error   *failure `json:",omitempty"`
}

// blobSent says which layer the descriptor is that comes with it.
type blobSent struct{ Layer int }

// failure is an error that crosses from one process to another.
type failure struct {
	Text   string
	Advice string        `json:",omitempty"`
	Errno  syscall.Errno `json:",omitempty"`
}

func newFailure(err error) *failure {
	f := &failure{Text: err.Error()}
	if len(f.Text) > 4096 {
		f.Text = f.Text[:4096] + "..."
	}
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		f.Advice = h.Hint()
	}
	f.Errno, _ = errors.AsType[syscall.Errno](err)
	return f
}

func (f *failure) Error() string { return f.Text }
func (f *failure) Hint() string  { return f.Advice }
func (f *failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return f.Errno
}

// blobsAtOnce is how many layers are opened side by side; a registry has its own limit.
const blobsAtOnce = 6

// ask has sbx-store do something. Of layers it opens those that the store needs.
func (s *Store) ask(ctx context.Context, r request, layers []Layer) error {
	if err := s.prepare(); err != nil {
		return err
	}
	caller, err := userns.FindCaller("", "")
	if err != nil {
		return err
	}
	ids := caller.Default()
	r.Dir, r.UIDs, r.GIDs = s.dir, userns.Size(ids.UIDs), userns.Size(ids.GIDs)
	message, err := json.Marshal(r)
	if err != nil {
		return err
	}
	stage := userns.Stage{Name: "sbx-store", Flags: unix.CLONE_NEWNS, Caller: caller, Map: ids, Env: storeEnv(s.dir)}
	err = s.converse(ctx, &stage, message, layers)
	if err == nil {
		s.refill()
		return nil
	}
	if full(err) {
		err = advised(err, s.dir)
	}
	if _, said := errors.AsType[*failure](err); said || r.Op == "clean" {
		return err
	}
	// It was killed, here or from outside, and could not clean up.
	if cerr := s.ask(context.WithoutCancel(ctx), request{Op: "clean"}, nil); cerr != nil {
		err = fmt.Errorf("%w (and then: clean up: %v)", err, cerr)
	}
	return err
}

// storeEnv keeps the library from looking at the host's storage.conf, which could name
// programs for it to run, and tells it that it is in a user namespace.
func storeEnv(dir string) []string {
	return []string{
		"CONTAINERS_STORAGE_CONF=/dev/null",
		"_CONTAINERS_USERNS_CONFIGURED=done",
		fmt.Sprintf("_CONTAINERS_ROOTLESS_UID=%d", os.Getuid()),
		fmt.Sprintf("_CONTAINERS_ROOTLESS_GID=%d", os.Getgid()),
		"GOGC=400", "GOMEMLIMIT=256MiB", // it lives for seconds, and holds some megabytes
		"HOME=" + dir,
		"XDG_RUNTIME_DIR=" + dir,
		"TMPDIR=" + dir,
	}
}

// converse runs the stage, and kills it when ctx ends or a layer cannot be had.
func (s *Store) converse(ctx context.Context, stage *userns.Stage, message []byte, layers []Layer) error {
	runtime.LockOSThread() // the stage dies with the thread that started it
	defer runtime.UnlockOSThread()
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer ours.f.Close()
	defer theirs.f.Close()
	said, err := memfd("stderr of sbx-store")
	if err != nil {
		return err
	}
	defer said.Close()
	stage.Stdio[2], stage.Files = said, []int{int(theirs.f.Fd())}
	child, err := stage.Start(message)
	if err != nil {
		return err
	}
	theirs.f.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	killed := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0)
		close(killed)
	})

	var opening sync.WaitGroup
	err = listen(ours, s.waiting, func(needed []int) {
		// A layer unpacked is hardly ever smaller than its blob, and that is there besides.
		var size int64
		for _, i := range needed {
			size += max(layers[i].Size, 0)
		}
		if err := room(s.dir, size); err != nil {
			cancel(err)
			return
		}
		opening.Go(func() { sendBlobs(ctx, cancel, ours, needed, layers) })
	})
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if !unwatch() {
		<-killed
	}
	cancel(errors.New("the store has answered"))
	opening.Wait()
	status, werr := child.Wait()
	unix.Close(child.PidFD)
	if err == io.EOF {
		return died(status, said)
	}
	return errors.Join(err, werr)
}

func (s *Store) waiting() {
	if s.Note != nil {
		s.Note("waiting for another sbx that changes %s", s.dir)
	}
}

// listen returns what the stage has to say at last.
func listen(from socket, waiting func(), need func([]int)) error {
	for {
		var r reply
		if _, err := from.receive(&r); err != nil {
			return err
		}
		switch {
		case r.Error != nil:
			return r.Error
		case r.Done:
			return nil
		case r.Waiting:
			waiting()
		default:
			need(r.Need)
		}
	}
}

// sendBlobs opens the layers and hands them over, the largest first: it takes the longest to
// unpack, and an image is there when its last layer is.
func sendBlobs(ctx context.Context, cancel context.CancelCauseFunc, to socket, needed []int, layers []Layer) {
	slices.SortStableFunc(needed, func(a, b int) int { return cmp.Compare(layers[b].Size, layers[a].Size) })
	var sending sync.WaitGroup
	slots := make(chan struct{}, blobsAtOnce)
	for _, i := range needed {
		slots <- struct{}{}
		sending.Go(func() {
			defer func() { <-slots }()
			if err := sendBlob(ctx, to, i, layers[i]); err != nil {
				cancel(err)
			}
		})
	}
	sending.Wait()
}

func sendBlob(ctx context.Context, to socket, i int, layer Layer) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f, err := layer.Open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	switch err := to.send(blobSent{i}, f); err {
	case nil, unix.EPIPE, unix.ECONNRESET: // it has ended, with blobs unread or without, and listen knows why
		return nil
	default:
		return fmt.Errorf("hand layer %d to the store: %w", i, err)
	}
}

// died says how a stage ended that said nothing.
func died(status unix.WaitStatus, said *os.File) error {
	text := make([]byte, 200)
	n, _ := said.ReadAt(text, 0)
	line, _, _ := strings.Cut(strings.TrimSpace(string(text[:n])), "\n")
	switch {
	case status.Signaled() && line == "":
		return fmt.Errorf("sbx-store was killed: %v", status.Signal())
	case line == "":
		line = fmt.Sprintf("exit status %d", status.ExitStatus())
	}
	return fmt.Errorf("sbx-store ended too early: %s", line)
}

func memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
