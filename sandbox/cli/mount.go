package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"sbx/sandbox"
)

// parseMount reads one --mount: type=TYPE,KEY=VALUE,... in the grammar of CSV,
// so that a field in double quotes may contain a comma. For an image, Src is its name.
func parseMount(s string) (sandbox.Mount, error) {
	m := sandbox.Mount{Type: "volume"}
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil || strings.ContainsAny(s, "\r\n\x00") {
		return m, fmt.Errorf("%s: not KEY=VALUE[,KEY=VALUE]", quoteArg(s))
	}
	// The type decides what the others mean, wherever it stands.
	for _, f := range fields {
		if key, value, _ := strings.Cut(f, "="); key == "type" {
			m.Type = value
		}
	}
	switch m.Type {
	case "bind", "volume", "tmpfs", "image", "glob", "devpts":
	case "ramfs":
		m.Type = "tmpfs"
	default:
		return m, fmt.Errorf("type=%s: not one of bind, volume, tmpfs, image, glob, devpts, ramfs", quoteArg(m.Type))
	}
	said := saidOnce{}
	for _, f := range fields {
		key, value, hasValue := strings.Cut(f, "=")
		if kinds := mountKinds(key); kinds != "" && !strings.Contains(kinds, m.Type) {
			return m, fmt.Errorf("%s: no option of type=%s", quoteArg(key), m.Type)
		}
		if err := mountField(&m, key, value, hasValue); err != nil {
			return m, fmt.Errorf("%s: %w", quoteArg(key), err)
		}
		if err := said.add(key); err != nil {
			return m, err
		}
	}
	return finishMount(m)
}

// mountKinds gives the types that know a key of --mount; "" is all of them.
func mountKinds(key string) string {
	switch key {
	case "src", "source":
		return "bind volume image glob"
	case "ro", "readonly", "suid", "nosuid", "dev", "nodev", "exec", "noexec":
		return "bind volume tmpfs glob"
	case "rw", "readwrite":
		return "bind volume tmpfs glob image"
	case "U", "chown":
		return "bind volume glob tmpfs"
	case "relabel", "z", "Z":
		return "bind volume glob"
	case "O", "overlay", "nocreate":
		return "bind volume"
	case "bind-propagation", "bind-nonrecursive", "bind-recursive":
		return "bind glob"
	case "nocopy", "volume-nocopy":
		return "volume"
	case "subpath":
		return "image"
	case "tmpcopyup", "notmpcopyup", "size", "tmpfs-size", "nr_inodes":
		return "tmpfs"
	case "mode", "tmpfs-mode", "uid", "gid":
		return "tmpfs devpts"
	case "max":
		return "devpts"
	}
	return ""
}

// mountField applies one KEY=VALUE, or one KEY, which is KEY=true.
func mountField(m *sandbox.Mount, key, value string, hasValue bool) (err error) {
	on := true
	if hasValue && isSwitch(key) {
		if on, err = parseBool(value); err != nil {
			return err
		}
	}
	switch key {
	case "type", "consistency":
	case "src", "source":
		m.Src = value
	case "dst", "destination", "target":
		m.Dst, err = insidePath(value)
	case "ro", "readonly":
		err = setReadOnly(m, value, hasValue)
	case "rw", "readwrite":
		m.ReadWrite = on && m.Type == "image"
		m.ReadOnly = !on && m.Type != "image"
	case "U", "chown":
		m.Chown = on
	case "O", "overlay":
		m.Overlay = on
	case "z", "Z":
		if on {
			m.Relabel = key
		}
	case "relabel":
		err = setRelabel(m, value)
	case "idmap":
		if on {
			err = errIdmap
		}
	case "nocreate":
		m.NoCreate = on
	case "nocopy", "volume-nocopy":
		m.NoCopy = on
	case "suid", "dev", "exec":
		on = !on
		fallthrough
	case "nosuid", "nodev", "noexec":
		if !mountFlag(m, flagWord(strings.TrimPrefix(key, "no"), on)) {
			err = errUnknownKey
		}
	case "bind-nonrecursive":
		m.NonRecursive = on
	case "bind-recursive":
		err = setBindRecursive(m, value)
	case "bind-propagation":
		if !propagation(m, value) {
			err = fmt.Errorf("%s: not one of [r]private, [r]slave, [r]shared", quoteArg(value))
		}
	case "subpath":
		m.Subdir = value
	case "tmpcopyup":
		m.TmpCopyUp = &on
	case "notmpcopyup":
		on = !on
		m.TmpCopyUp = &on
	case "size", "tmpfs-size", "nr_inodes", "mode", "tmpfs-mode", "uid", "gid":
		err = tmpfsNumber(m, strings.TrimPrefix(key, "tmpfs-"), value)
	case "max":
		m.Max, err = strconv.Atoi(value)
		if err != nil || m.Max < 1 || m.Max > 1<<20 {
			err = fmt.Errorf("%s: not a number of terminals", quoteArg(value))
		}
	default:
		err = errUnknownKey
	}
	return err
}

var errUnknownKey = errors.New("unknown option")

// isSwitch reports whether a key of --mount is true or false.
func isSwitch(key string) bool {
	switch key {
	case "rw", "readwrite", "U", "chown", "O", "overlay", "z", "Z", "idmap", "nocreate", "nocopy", "volume-nocopy",
		"suid", "nosuid", "dev", "nodev", "exec", "noexec", "bind-nonrecursive", "tmpcopyup", "notmpcopyup":
		return true
	}
	return false
}

func flagWord(word string, no bool) string {
	if no {
		return "no" + word
	}
	return word
}

// setReadOnly is ro, readonly: true, false, or whether the mounts below become read-only too.
func setReadOnly(m *sandbox.Mount, v string, hasValue bool) (err error) {
	switch {
	case !hasValue, v == "recursive":
		m.ReadOnly = true
	case v == "norecursive":
		m.ReadOnly, m.ReadOnlyShallow = true, true
	default:
		m.ReadOnly, err = parseBool(v)
	}
	return err
}

func setRelabel(m *sandbox.Mount, v string) error {
	switch v {
	case "shared":
		m.Relabel = "z"
	case "private":
		m.Relabel = "Z"
	default:
		return fmt.Errorf("%s: neither shared nor private", quoteArg(v))
	}
	return nil
}

// setBindRecursive is docker's bind-recursive.
func setBindRecursive(m *sandbox.Mount, v string) error {
	switch v {
	case "enabled":
	case "disabled":
		m.NonRecursive = true
	case "writable":
		m.ReadOnlyShallow = true
	case "readonly":
		m.ReadOnly = true
	default:
		return fmt.Errorf("%s: not one of enabled, disabled, writable, readonly", quoteArg(v))
	}
	return nil
}

// finishMount checks what only the whole --mount tells.
func finishMount(m sandbox.Mount) (sandbox.Mount, error) {
	if m.Dst == "" && m.Type != "glob" {
		return m, fmt.Errorf("no destination: dst=PATH")
	}
	if m.Src == "" && (m.Type == "bind" || m.Type == "image" || m.Type == "glob") {
		return m, fmt.Errorf("no source: src=")
	}
	switch m.Type {
	case "bind", "glob":
		abs, err := hostPath(m.Src)
		if err != nil {
			return m, err
		}
		m.Src = abs
	case "volume":
		m.Name, m.Src = m.Src, ""
		if m.Name != "" && !isName(m.Name) {
			return m, &usageError{msg: fmt.Sprintf("%s: not the name of a volume", quoteArg(m.Name)), hint: "type is volume if nothing else is said; type=bind takes a path"}
		}
	case "image":
		if m.Subdir != "" && !filepath.IsLocal(strings.TrimLeft(m.Subdir, "/")) {
			return m, fmt.Errorf("subpath: %s: leaves the image", quoteArg(m.Subdir))
		}
	}
	return m, checkMount(&m)
}

// expandGlob turns a mount of type=glob into one bind for each match. Without a
// destination a match keeps its path; with one, its last element goes below it.
func expandGlob(m sandbox.Mount) ([]sandbox.Mount, error) {
	matches, err := filepath.Glob(m.Src)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quoteArg(m.Src), err)
	}
	if len(matches) == 0 {
		return nil, &fs.PathError{Op: "glob", Path: m.Src, Err: fs.ErrNotExist}
	}
	mounts := make([]sandbox.Mount, len(matches))
	for i, src := range matches {
		mounts[i] = m
		mounts[i].Type, mounts[i].Src, mounts[i].Dst = "bind", src, src
		if m.Dst != "" {
			mounts[i].Dst = filepath.Join(m.Dst, filepath.Base(src))
		}
	}
	return mounts, nil
}
