package sandbox

import (
	"errors"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"
)

func (b *builder) symlink(s *Step) error {
	parent, err := b.tree.directory(path.Dir(s.Dst), 0o755)
	if err != nil {
		return err
	}
	defer parent.Close()
	err = unix.Symlinkat(s.Src, int(parent.Fd()), path.Base(s.Dst))
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "symlink", Path: s.Dst, Err: err}
	}
	return b.root().give(parent, path.Base(s.Dst))
}

// file lays a file in memory over the one in the root.
func (b *builder) file(s *Step, text []byte) error {
	o, err := b.ownerOf(s)
	if err != nil {
		return err
	}
	f, err := b.base.file(path.Base(s.Dst), text, uint32(s.Mode), o)
	if err != nil {
		return err
	}
	defer f.Close()
	mount, err := cloneOf(f)
	if err != nil {
		return err
	}
	defer mount.Close()
	if err := setAttributes(mount, s.attributes(), 0, false); err != nil {
		return err
	}
	target, err := b.userTarget(s, false)
	if err != nil && s.Optional {
		return nil
	}
	if err != nil {
		return err
	}
	defer target.Close()
	return attach(mount, target)
}

// userFile adds the command's user to the image's passwd or group.
func (b *builder) userFile(s *Step) error {
	who, err := b.identity()
	if err != nil {
		return err
	}
	var text []byte
	if s.Op == opPasswd {
		text = who.withUser(s.Text, s.Options, b.p.Command.Workdir)
	} else {
		text = who.withGroup(s.Options)
	}
	if text == nil {
		return nil
	}
	with := *s
	with.Mode = 0o644
	if err := b.file(&with, text); !errors.Is(err, unix.EISDIR) {
		return err
	}
	return nil // it stays the image's directory: a user that is a number needs no name
}
