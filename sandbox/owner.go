package sandbox

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"sbx/userns"
)

// owner is a user and a group, by the ids of sbx-init's namespace.
type owner struct{ uid, gid uint32 }

// chown makes o the owner of f.
func (o owner) chown(f *os.File) error {
	if err := unix.Fchownat(int(f.Fd()), "", int(o.uid), int(o.gid), unix.AT_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "chown", Path: f.Name(), Err: err}
	}
	return nil
}

// give makes o the owner of name in dir, which was made just now, and so belongs to 0:0.
func (o owner) give(dir *os.File, name string) error {
	if o == (owner{}) {
		return nil
	}
	return o.lchown(dir, name)
}

func (o owner) lchown(dir *os.File, name string) error {
	if err := unix.Fchownat(int(dir.Fd()), name, int(o.uid), int(o.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "chown", Path: name, Err: err}
	}
	return nil
}

// ids are those of the command, over those of this process's namespace.
func (b *builder) ids() userns.Map {
	if b.p.Inner != nil {
		return *b.p.Inner
	}
	return userns.Map{UIDs: same(b.p.IDs.UIDs), GIDs: same(b.p.IDs.GIDs)}
}

// outside is the owner whom the command knows by these ids.
func (b *builder) outside(uid, gid uint32) (owner, error) {
	ids := b.ids()
	outUID, ok := userns.Outside(ids.UIDs, uid)
	outGID, ok2 := userns.Outside(ids.GIDs, gid)
	switch {
	case !ok:
		return owner{}, unmapped("user", "uid", uid, ids.UIDs).withoutKeepID()
	case !ok2:
		return owner{}, unmapped("group", "gid", gid, ids.GIDs).withoutKeepID()
	}
	return owner{outUID, outGID}, nil
}

// root is the command's root, who owns what sbx makes; the caller, where a map has none.
func (b *builder) root() owner {
	root, err := b.outside(0, 0)
	if err != nil {
		return owner{}
	}
	return root
}

// user is whom the command runs as.
func (b *builder) user() (owner, error) {
	who, err := b.identity()
	if err != nil {
		return owner{}, err
	}
	return b.outside(who.UID, who.GID)
}

// ownerOf is who gets what the step makes: the user, the ids that a flag names, or root.
func (b *builder) ownerOf(s *Step) (owner, error) {
	switch {
	case s.Chown:
		return b.user()
	case s.UID == nil && s.GID == nil:
		return b.root(), nil
	}
	var uid, gid uint32
	if s.UID != nil {
		uid = *s.UID
	}
	if s.GID != nil {
		gid = *s.GID
	}
	return b.outside(uid, gid)
}
