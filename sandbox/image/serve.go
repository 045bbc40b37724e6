//go:build !hot

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"go.podman.io/storage"
	"go.podman.io/storage/pkg/reexec"
	"go.podman.io/storage/types"
	"golang.org/x/sys/unix"

	"sbx/userns"
)

// ServeStore is the stage sbx-store: root of a user namespace, with the one store that
// it was told. It does one thing, says how that went, and ends.
func ServeStore() {
	runtime.LockOSThread()
	message, err := userns.Receive()
	if err == io.EOF { // nobody wants anything any more
		os.Exit(0)
	}
	to := socket{os.NewFile(userns.FirstFile, "store socket")}
	if err == nil {
		err = serve(message, to)
	}
	answer := reply{Done: true}
	if err != nil {
		answer = reply{Error: newFailure(err)}
	}
	if err := to.send(answer, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Reexec is for the helpers that the storage library starts: it executes sbx again under
// their names.
func Reexec() { reexec.Init() }

func serve(message []byte, to socket) error {
	syscall.Umask(0o022)
	logrus.SetOutput(io.Discard) // the library returns what matters, too
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("set no_new_privs: %w", errno)
	}
	w := &writer{to: to}
	if err := json.Unmarshal(message, &w.request); err != nil {
		return fmt.Errorf("request to sbx-store: %w", err)
	}
	switch w.Op {
	case "put":
		return w.put()
	case "name":
		return w.change(func(lib storage.Store) error { return lib.AddNames(w.ID, w.Names) })
	case "unname":
		return w.change(func(lib storage.Store) error { return lib.RemoveNames(w.ID, w.Names) })
	case "remove":
		return w.change(func(lib storage.Store) error {
			_, err := lib.DeleteImage(w.ID, true)
			switch {
			case errors.Is(err, storage.ErrLayerUnknown): // and has left those that are known
				return w.recover()
			case errors.Is(err, storage.ErrNotAnImage): // the try before this one came that far
				return nil
			}
			return err
		})
	case "clean":
		return w.change(func(storage.Store) error { return nil })
	}
	return fmt.Errorf("request to sbx-store: %q: bug in sbx", w.Op)
}

// writer is the one that writes to a store.
type writer struct {
	request
	to  socket
	lib storage.Store // open once the lock was held for the first time
}

func (w *writer) path(name string) string { return filepath.Join(w.Dir, name) }

// change does something to the store while nobody else does.
func (w *writer) change(f func(storage.Store) error) error {
	unlock, err := w.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return w.marked(f)
}

// marked calls f, with the lock held. Whoever comes next and finds the mark cleans up,
// for then we were killed on the way.
func (w *writer) marked(f func(storage.Store) error) error {
	if err := w.mark(); err != nil {
		return err
	}
	if err := f(w.lib); err != nil {
		return errors.Join(err, w.recover())
	}
	return w.unmark()
}

func (w *writer) mark() error { return os.WriteFile(w.path("unfinished"), nil, 0o600) }

func (w *writer) unmark() error {
	if err := os.Remove(w.path("unfinished")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lock waits until no other process writes to the store, and makes it usable.
func (w *writer) lock() (unlock func(), err error) {
	f, err := os.OpenFile(w.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, advised(err, w.Dir)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := w.await(f); err != nil {
		return nil, err
	}
	if w.lib == nil {
		if err := w.moveDamaged(); err != nil {
			return nil, err
		}
		if w.lib, err = openLibrary(w.Dir); err != nil {
			return nil, advised(fmt.Errorf("open store %s: %w", w.Dir, err), w.Dir)
		}
	}
	if err := removeLeftovers(w.path("staging")); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(w.path("unfinished")); err == nil {
		if err := w.recover(); err != nil {
			return nil, err
		}
	}
	return func() { f.Close() }, nil
}

// patience is how long somebody waits for a lock before they are told.
const patience = 2 * time.Second

func (w *writer) await(lock *os.File) error {
	tell := time.AfterFunc(patience, func() { w.to.send(reply{Waiting: true}, nil) })
	defer tell.Stop()
	return flock(lock, unix.LOCK_EX)
}

// openLibrary opens the storage library. It is to make directories and records; it never
// mounts. A mount program, even one that cannot be run, keeps it from trying mounts,
// which take time and are refused where the store lies on an overlay.
func openLibrary(dir string) (storage.Store, error) {
	return storage.GetStore(types.StoreOptions{
		GraphRoot:          filepath.Join(dir, "storage"),
		RunRoot:            filepath.Join(dir, "run"),
		GraphDriverName:    "overlay",
		GraphDriverOptions: []string{"overlay.mount_program=/dev/null", "overlay.skip_mount_home=true"},
	})
}
