package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sbx/sandbox"
)

// parseVolume reads one -v: [SRC:]DST[:OPTION,...]. The source of a bind is made
// absolute; a named volume has a Name and no Src yet.
func parseVolume(s string) (m sandbox.Mount, err error) {
	parts := strings.Split(s, ":")
	var src, opts string
	switch {
	case len(parts) == 1:
		m.Dst = parts[0]
	case len(parts) == 2 && filepath.IsAbs(parts[0]) && !filepath.IsAbs(parts[1]):
		m.Dst, opts = parts[0], parts[1] // an anonymous volume with options
	case len(parts) == 2:
		src, m.Dst = parts[0], parts[1]
	case len(parts) == 3:
		src, m.Dst, opts = parts[0], parts[1], parts[2]
	default:
		return m, fmt.Errorf("%s: not [SRC:]DST[:OPTIONS]; --mount takes paths with colons", quoteArg(s))
	}
	if len(parts) > 1 && src == "" && opts == "" {
		return m, fmt.Errorf("%s: the source is empty", quoteArg(s))
	}
	if err := setSource(&m, src); err != nil {
		return m, err
	}
	if m.Dst, err = insidePath(m.Dst); err != nil {
		return m, err
	}
	if opts == "" {
		return m, checkMount(&m)
	}
	said := saidOnce{}
	for opt := range strings.SplitSeq(opts, ",") {
		if err := cmp.Or(volumeOption(&m, opt), said.add(opt)); err != nil {
			return m, err
		}
	}
	return m, checkMount(&m)
}

// saidOnce holds the options of one mount that were said, by what they decide: the last one
// of ro and rw would win, and nobody would know.
type saidOnce map[string]string

func (said saidOnce) add(opt string) error {
	opt, _, _ = strings.Cut(opt, "=")
	about := opt
	switch opt {
	case "source":
		about = "src"
	case "destination", "target":
		about = "dst"
	case "rw", "readonly", "readwrite":
		about = "ro"
	case "Z", "relabel":
		about = "z"
	case "chown":
		about = "U"
	case "overlay":
		about = "O"
	case "nosuid", "nodev", "noexec", "nocopy", "notmpcopyup":
		about = strings.TrimPrefix(opt, "no")
	case "volume-nocopy":
		about = "copy"
	case "rbind", "bind-nonrecursive", "bind-recursive":
		about = "bind"
	case "private", "rprivate", "slave", "rslave", "shared", "rshared":
		about = "bind-propagation"
	case "tmpfs-size", "tmpfs-mode":
		about = strings.TrimPrefix(opt, "tmpfs-")
	}
	before, again := said[about]
	switch {
	case again && before == opt:
		return fmt.Errorf("%s: said twice", opt)
	case again:
		return fmt.Errorf("%s and %s exclude each other", before, opt)
	}
	said[about] = opt
	return nil
}

// setSource decides between a path on the host and the name of a volume.
func setSource(m *sandbox.Mount, src string) error {
	switch {
	case src == "":
		m.Type = "volume"
	case strings.IndexByte(src, 0) >= 0:
		return fmt.Errorf("%s: not a path", quoteArg(src))
	case src[0] == '/' || src[0] == '.':
		abs, err := hostPath(src)
		if err != nil {
			return err
		}
		m.Type, m.Src = "bind", abs
	case strings.ContainsRune(src, '/'):
		return &usageError{
			msg:  fmt.Sprintf("%s: neither a path nor the name of a volume", quoteArg(src)),
			hint: "a path that is relative to the working directory starts with ./",
		}
	case !isName(src):
		return fmt.Errorf("%s: not the name of a volume", quoteArg(src))
	default:
		m.Type, m.Name = "volume", src
	}
	return nil
}

// volumeOption applies one option after the second colon of -v.
func volumeOption(m *sandbox.Mount, opt string) error {
	key, value, hasValue := strings.Cut(opt, "=")
	switch key {
	case "upperdir", "workdir":
		abs, err := filepath.Abs(value)
		if value == "" || err != nil {
			return fmt.Errorf("%s: needs a directory", quoteArg(opt))
		}
		if key == "upperdir" {
			m.UpperDir = abs
		} else {
			m.WorkDir = abs
		}
		return nil
	case "idmap":
		return errIdmap
	}
	if hasValue {
		return fmt.Errorf("%s: unknown option", quoteArg(opt))
	}
	switch opt {
	case "ro":
		m.ReadOnly = true
	case "rw":
		m.ReadOnly = false
	case "z", "Z":
		m.Relabel = opt
	case "U":
		m.Chown = true
	case "O":
		m.Overlay = true
	case "copy":
		m.NoCopy = false
	case "nocopy":
		m.NoCopy = true
	case "nocreate":
		m.NoCreate = true
	case "bind":
		m.NonRecursive = true
	case "rbind":
		m.NonRecursive = false
	case "cached", "delegated", "consistent": // docker on a Mac; without meaning on Linux
	default:
		if mountFlag(m, opt) || propagation(m, opt) {
			return nil
		}
		return fmt.Errorf("%s: unknown option", quoteArg(opt))
	}
	return nil
}

var errIdmap = &usageError{
	msg:  "idmap: the kernel allows id-mapped mounts of the host's files to root only",
	hint: "--userns keep-id shows your files as yours in the sandbox",
}

// mountFlag applies [no]suid, [no]dev and [no]exec, which every kind of mount knows.
func mountFlag(m *sandbox.Mount, opt string) bool {
	word, no := strings.CutPrefix(opt, "no")
	switch word {
	case "suid":
		m.NoSuid = &no
	case "dev":
		m.NoDev = &no
	case "exec":
		m.NoExec = &no
	default:
		return false
	}
	return true
}

func propagation(m *sandbox.Mount, opt string) bool {
	switch opt {
	case "private", "rprivate", "slave", "rslave", "shared", "rshared":
		m.Propagation = opt
		return true
	}
	return false
}

// checkMount refuses combinations that mean nothing.
func checkMount(m *sandbox.Mount) error {
	switch {
	case m.Overlay && m.Chown:
		return fmt.Errorf("%s: O and U exclude each other", m.Dst)
	case m.Overlay && m.ReadOnly:
		return fmt.Errorf("%s: O and ro exclude each other", m.Dst)
	case m.Overlay && m.Type == "volume" && m.Name == "":
		return fmt.Errorf("%s: O needs a source", m.Dst)
	case (m.UpperDir != "" || m.WorkDir != "") && !m.Overlay:
		return fmt.Errorf("%s: upperdir and workdir go with O", m.Dst)
	case (m.UpperDir == "") != (m.WorkDir == ""):
		return fmt.Errorf("%s: upperdir and workdir go together", m.Dst)
	case m.NoCreate && m.Type == "volume" && m.Name == "":
		return fmt.Errorf("%s: nocreate needs the name of a volume", m.Dst)
	}
	return nil
}

func (a *runArgs) addVolume(s string) error {
	m, err := parseVolume(s)
	if err != nil {
		return err
	}
	return a.add("volume", m)
}

func (a *runArgs) addMount(s string) error {
	m, err := parseMount(s)
	if err != nil {
		return err
	}
	if m.Type != "glob" {
		return a.add("mount", m)
	}
	binds, err := expandGlob(m)
	for _, b := range binds {
		err = cmp.Or(err, a.add("mount", b))
	}
	return err
}

func (a *runArgs) addTmpfs(s string) error {
	m, err := parseTmpfs(s)
	if err != nil {
		return err
	}
	return a.add("tmpfs", m)
}

// add appends a mount to the Spec. A source that is missing is found out here,
// where the flag is known; it is opened once more, for good, by the sandbox.
func (a *runArgs) add(flag string, m sandbox.Mount) error {
	for _, other := range a.spec.Mounts {
		if other.Dst == m.Dst {
			return fmt.Errorf("%s: mounted twice", quoteArg(m.Dst))
		}
	}
	if m.Type == "bind" {
		info, err := os.Stat(m.Src)
		switch {
		case errors.Is(err, fs.ErrPermission): // the sandbox has more ids to try with
		case err != nil:
			return &missingSource{err, flag}
		case info.Mode()&fs.ModeDevice != 0 && (m.NoDev == nil || *m.NoDev):
			a.app.warn("--%s: %s is a device, and mounted nodev, so that it cannot be opened; --device %s:%s", flag, m.Src, m.Src, m.Dst)
		}
	}
	m.Flag = "--" + flag
	a.spec.Mounts = append(a.spec.Mounts, m)
	return nil
}

// missingSource is a bind whose source cannot be looked at.
type missingSource struct {
	error
	flag string
}

func (e *missingSource) Unwrap() error { return e.error }
func (e *missingSource) Hint() string {
	if e.flag == "mount" {
		return "the source must exist; create it"
	}
	return "the source must exist; create it, or give the name of a volume"
}

func imageVolume(s string) (string, error) {
	switch s {
	case "bind", "anonymous":
		return "anonymous", nil
	case "tmpfs", "ignore":
		return s, nil
	}
	return "", fmt.Errorf("%s: not one of bind, tmpfs, ignore", quoteArg(s))
}
