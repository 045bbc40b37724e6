package sandbox

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Where an image has no /proc or /etc/hosts, the mount needs a place made for it. Made in
// the upper directory, each would be written to the disk and removed again, a tenth of a
// millisecond for both, and would look like a change of the command's. So the places are
// made in memory, in a layer of their own over the image's.
type places struct {
	copier
	layers []*os.File // the image's, topmost first
	base   *base
	top    *os.File // the new layer, once there is something in it
}

// place is where something will be mounted: a directory, or a file.
type place struct {
	dst  string
	mode uint32 // with its kind
}

// wantedPlaces are those of the steps whose kind does not depend on what the image has there,
// and that no other step hides: a place below one would make its directory look like the image's.
func (b *builder) wantedPlaces() (list []place, err error) {
	for i := range b.p.Steps {
		s := &b.p.Steps[i]
		var mode uint32
		switch s.Op {
		case opTmpfs, opProc, opSysfs, opDevpts, opOverlay:
			mode = unix.S_IFDIR | 0o755
		case opFile, opHosts, opPasswd, opGroup:
			mode = unix.S_IFREG | 0o644
		case opBind:
			mode, err = b.src.place(i)
		}
		if err != nil {
			return nil, err
		}
		if mode != 0 && !s.CopyUp && !b.hidden(s.Dst) {
			list = append(list, place{s.Dst, mode})
		}
	}
	return list, nil
}

// hidden: another step mounts something on a directory above.
func (b *builder) hidden(dst string) bool {
	for i := range b.p.Steps {
		above := b.p.Steps[i].Dst
		if above != "/" && len(dst) > len(above) && dst[len(above)] == '/' && strings.HasPrefix(dst, above) {
			return true
		}
	}
	return false
}

// place is the mode of what the bind of step i needs to be mounted on; 0 if it has no source.
func (s *sources) place(i int) (uint32, error) {
	if s.mounts[i] == nil {
		return 0, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(s.mounts[i].Fd()), &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: s.mounts[i].Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.S_IFDIR | 0o755, nil
	}
	return unix.S_IFREG | 0o644, nil
}

// placesLayer makes the places that the layers lack. It returns the directory of the new
// layer, or nil if nothing is missing.
func (b *base) placesLayer(c copier, layers []*os.File, list []place) (*os.File, error) {
	l := &places{copier: c, layers: layers, base: b}
	for _, p := range list {
		if err := l.add(p.dst, p.mode); err != nil {
			return nil, err
		}
	}
	return l.top, nil
}

// add makes /NAME or /DIR/NAME. Anything else, and what has a link or a whiteout of the
// image's on the way, is left to be made in the finished root.
func (l *places) add(dst string, mode uint32) error {
	dir, name := path.Split(strings.TrimPrefix(path.Clean(dst), "/"))
	dir = strings.TrimSuffix(dir, "/")
	if name == "" || strings.Contains(dir, "/") {
		return nil
	}
	st, found := l.find(dir)
	if found && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if _, there := l.find(path.Join(dir, name)); there {
		return nil
	}
	at, err := l.directory(dir, st, found)
	if err != nil {
		return err
	}
	defer at.Close()
	if mode&unix.S_IFMT == unix.S_IFDIR {
		err = unix.Mkdirat(int(at.Fd()), name, mode&0o7777)
	} else {
		err = unix.Mknodat(int(at.Fd()), name, mode, 0)
	}
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "make", Path: dst, Err: err}
	}
	return l.root.give(at, name)
}

// find returns what the topmost layer that has name has there. A link on the way, which would
// lead out of the layer, is something that is there.
func (l *places) find(name string) (st unix.Stat_t, found bool) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	for _, layer := range l.layers {
		fd, err := unix.Openat2(int(layer.Fd()), cmp.Or(name, "."), &how)
		if err == unix.ENOENT {
			continue
		}
		if err == nil {
			unix.Fstat(fd, &st)
			unix.Close(fd)
		}
		return st, true
	}
	return st, false
}

// directory opens dir in the new layer. It is made to look as it does in the image: of a
// directory that several layers have, the topmost one's owner and mode count.
func (l *places) directory(dir string, st unix.Stat_t, found bool) (*os.File, error) {
	var err error
	if l.top == nil {
		if l.top, err = l.base.dir(l.base.name("places")); err != nil {
			return nil, err
		}
	}
	if dir == "" {
		return reopenDir(l.top)
	}
	mkdirErr := unix.Mkdirat(int(l.top.Fd()), dir, 0o755)
	if mkdirErr != nil && mkdirErr != unix.EEXIST {
		return nil, &fs.PathError{Op: "mkdir", Path: dir, Err: mkdirErr}
	}
	at, err := openChild(l.top, dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil || mkdirErr != nil {
		return at, err
	}
	if !found {
		return at, l.root.give(l.top, dir)
	}
	o := l.owner(&st)
	return at, errors.Join(unix.Fchmod(int(at.Fd()), st.Mode&0o7777), o.chown(at))
}
