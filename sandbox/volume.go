package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// A volume is a directory with
//
//	_data      which is what is mounted, the source of the step
//	copied     if the image's files have been copied: that happens once, whatever becomes of them
//	filling    before that, those that are still to be moved into _data
//	new        what was to become _data or filling, until whoever made it was killed
//
// Whoever makes it or copies into it has a lock on it, so that others wait until it is whole.

// volume mounts a volume, and makes it before that if need be.
func (b *builder) volume(i int, s *Step) error {
	image, err := b.tree.openFlags(s.Dst, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		defer image.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	target, err := b.userTarget(s, true)
	if err != nil {
		return err
	}
	defer target.Close()
	dir := b.base.tmpfs
	if dirs := b.src.dirs[i]; dirs != nil {
		dir = dirs[0]
	}
	data, err := b.volumeData(dir, s, image)
	if err != nil {
		return err
	}
	defer data.Close()
	mount, err := cloneOf(data)
	if err != nil {
		return err
	}
	defer mount.Close()
	return b.attachWith(s, mount, target)
}

// volumeData opens _data of the volume, which is or comes to be in dir. image is what it
// will cover, or nil.
func (b *builder) volumeData(dir *os.File, s *Step, image *os.File) (*os.File, error) {
	name := path.Base(path.Dir(s.Src))
	user, err := b.user() // before anything is made: there may be no such user
	if err != nil {
		return nil, err
	}
	// Others must not walk into it: files in there may be setuid.
	if err := unix.Mkdirat(int(dir.Fd()), name, 0o700); err != nil && err != unix.EEXIST {
		return nil, &fs.PathError{Op: "mkdir", Path: path.Dir(s.Src), Err: err}
	}
	volume, err := openChild(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer volume.Close()
	if err := b.lock(volume); err != nil {
		return nil, err
	}
	err = becomes(volume, "_data", func(data *os.File) error {
		if image == nil {
			return user.chown(data)
		}
		return b.copier().copyAttributes(image, data)
	})
	if err != nil {
		return nil, err
	}
	data, err := openChild(volume, "_data", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil || image == nil || !s.CopyUp {
		return data, err
	}
	lasting := path.Dir(path.Dir(s.Src)) != b.p.RunDir
	if err := b.copyOnce(volume, image, data, lasting); err != nil {
		data.Close()
		return nil, fmt.Errorf("copy the image's files: %w", err)
	}
	return data, nil
}

// patience is how long somebody waits for a volume before they are told.
const patience = 2 * time.Second

// lock waits until nobody else fills the volume. A signal to sbx ends the wait with sbx-init.
func (b *builder) lock(volume *os.File) error {
	err := unix.Flock(int(volume.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		tell := time.AfterFunc(patience, func() { send(b.up, report{Awaited: volume.Name()}) })
		defer tell.Stop()
		err = unix.Flock(int(volume.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return &fs.PathError{Op: "flock", Path: volume.Name(), Err: err}
	}
	return nil
}

// becomes sees to it that volume has the directory name, or else makes it: with all that
// fill puts in it, or not at all.
func becomes(volume *os.File, name string, fill func(*os.File) error) error {
	if there, err := has(volume, name); err != nil || there {
		return err
	}
	if err := ignoreNotExist(removeTree(volume, "new")); err != nil {
		return err
	}
	if err := unix.Mkdirat(int(volume.Fd()), "new", 0o755); err != nil {
		return &fs.PathError{Op: "mkdir", Path: "new", Err: err}
	}
	made, err := openChild(volume, "new", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer made.Close()
	if err := fill(made); err != nil {
		return err
	}
	return unix.Renameat(int(volume.Fd()), "new", int(volume.Fd()), name)
}

// copyOnce copies the files of image into a volume that is empty, as podman and docker do.
// Another sandbox may have it mounted: so they are copied beside it, and then moved in.
// One that is lasting survives a power cut, too.
func (b *builder) copyOnce(volume, image, data *os.File, lasting bool) error {
	copied, err := has(volume, "copied")
	if err != nil {
		return err
	}
	if !copied {
		filled, err := b.fill(volume, image, data, lasting)
		if err != nil || !filled {
			return err
		}
		if err := unix.Mkdirat(int(volume.Fd()), "copied", 0o755); err != nil {
			return &fs.PathError{Op: "mkdir", Path: "copied", Err: err}
		}
	}
	return ignoreNotExist(removeTree(volume, "filling")) // what was not moved in
}

// fill copies the files of image into the volume, if there are any and it is empty, or goes
// on where that was interrupted, and reports whether it did.
func (b *builder) fill(volume, image, data *os.File, lasting bool) (bool, error) {
	begun, err := has(volume, "filling")
	if err != nil {
		return false, err
	}
	if !begun {
		if nothing, err := isEmpty(image); err != nil || nothing {
			return false, err
		}
		if empty, err := isEmpty(data); err != nil || !empty {
			return false, err
		}
	}
	err = becomes(volume, "filling", func(made *os.File) error {
		if err := b.copier().copyTree(image, made); err != nil || !lasting {
			return err
		}
		// Else the name could reach the disk before what is in the files.
		if err := unix.Syncfs(int(made.Fd())); err != nil {
			return &fs.PathError{Op: "syncfs", Path: made.Name(), Err: err}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	filling, err := openChild(volume, "filling", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return false, err
	}
	defer filling.Close()
	return true, eachName(filling, func(name string) error {
		err := unix.Renameat2(int(filling.Fd()), name, int(data.Fd()), name, unix.RENAME_NOREPLACE)
		if err == nil || err == unix.EEXIST { // that sandbox has made one
			return nil
		}
		return &fs.PathError{Op: "rename", Path: name, Err: err}
	})
}

func has(dir *os.File, name string) (bool, error) {
	var st unix.Stat_t
	switch err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err {
	case nil:
		return true, nil
	case unix.ENOENT:
		return false, nil
	default:
		return false, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
}

func isEmpty(dir *os.File) (bool, error) {
	from, err := reopenDir(dir)
	if err != nil {
		return false, err
	}
	defer from.Close()
	if _, err := from.Readdirnames(1); err != io.EOF {
		return false, err
	}
	return true, nil
}
