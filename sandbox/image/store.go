package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Store is where images are kept: unpacked layers and configurations in
// containers/storage, and an index beside it. Below its directory lie
//
//	storage     the library's: layers, images, its locks
//	index       what Find reads, see index.go
//	empty       the layer of an image without layers
//	staging     layers while they are unpacked
//	lock        held by the process that changes storage
//	unfinished  there while one does; if it was killed, or an image is found that is not
//	            whole, the next one cleans up
//	reserve     a little room for when the disk is full
//	run         what the library would like to lose at reboot; it has nothing there to lose
//
// This process only ever reads. What writes is the stage sbx-store (serve.go): root in
// a user namespace, where the files of a layer can have their true owners.
type Store struct {
	Note func(format string, args ...any) // is told what takes time; may be nil

	dir string
}

// Open names the store below dir; "" is the usual place. It makes nothing and checks
// little: a store that is not there yet has no images.
func Open(dir string) (*Store, error) {
	if dir == "" {
		var err error
		if dir, err = usualDir(); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Dir is the directory that everything lies in.
func (s *Store) Dir() string { return s.dir }

// usualDir is sbx below the user's data directory, or, where there is no home that could
// hold one, a directory in /var/tmp that must be the caller's alone.
func usualDir() (string, error) {
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) { // relative ones are to be ignored (basedir-spec)
		return filepath.Join(data, "sbx"), nil
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		dir := filepath.Join(home, ".local", "share", "sbx")
		if unix.Access(home, unix.W_OK) == nil || unix.Access(dir, unix.F_OK) == nil {
			return dir, nil
		}
	}
	dir := "/var/tmp/sbx-" + strconv.Itoa(os.Getuid())
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("store: %w", err)
	}
	return dir, checkPrivate(dir)
}

// checkPrivate refuses a directory in a place that everyone can write to, unless it is
// a directory of the caller's that nobody else can enter.
func checkPrivate(dir string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: dir, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o077 != 0 {
		return withHint(fmt.Errorf("store: %s: not a directory that is yours alone", dir), "set HOME or XDG_DATA_HOME to a directory of your own")
	}
	return nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// prepare makes the directories, before something is written.
func (s *Store) prepare() error {
	for _, dir := range []string{s.dir, s.path("storage"), s.path("staging"), s.path("index"), s.path("run")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return advised(fmt.Errorf("store: %w", err), s.dir)
		}
	}
	return nil
}

// advised says what helps against an error of writing to dir.
func advised(err error, dir string) error {
	switch {
	case full(err):
		return withHint(err, "free some space for "+dir+" (sbx rmi removes images), or set XDG_DATA_HOME to a larger disk")
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return withHint(err, dir+" must be yours and writable; set XDG_DATA_HOME to a directory that is")
	}
	return err
}

// full: it failed for want of space.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
