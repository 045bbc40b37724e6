package cli

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"sbx/sandbox"
)

// checkUser accepts ^(uid|name)?(:(gid|group)?)?$, but not nothing: root and the user's
// own group stand for what is left out. Names are looked up in the sandbox.
func checkUser(s string) error {
	name, group, _ := strings.Cut(s, ":")
	if name == "" && group == "" {
		return checkUserWord("")
	}
	for _, word := range []string{name, group} {
		if word == "" {
			continue
		}
		if err := checkUserWord(word); err != nil {
			return err
		}
	}
	return nil
}

// checkUserWord accepts an id or a name. A word that starts like a number is one.
func checkUserWord(s string) error {
	if s == "" {
		return fmt.Errorf("%s: an empty name", quoteArg(s))
	}
	if s[0] >= '0' && s[0] <= '9' || s[0] == '-' || s[0] == '+' {
		_, err := parseID(s)
		return err
	}
	if len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ':' || r == ',' || r == '/' || r == 0x7f }) {
		return fmt.Errorf("%s: not a name", quoteArg(s))
	}
	return nil
}

func userWords(s string) (string, error) { return s, checkUser(s) }
func userWord(s string) (string, error)  { return s, checkUserWord(s) }

func (a *runArgs) addGroup(s string) error {
	a.spec.GroupAdd = append(a.spec.GroupAdd, s)
	return checkUserWord(s)
}

func (a *runArgs) addHostUser(s string) error {
	line, err := hostUser(s)
	a.spec.HostUsers = append(a.spec.HostUsers, line)
	return err
}

// hostUser returns the line of passwd for a user of the host, given by name or id.
func hostUser(name string) (string, error) {
	if err := checkUserWord(name); err != nil {
		return "", err
	}
	u, err := user.Lookup(name)
	if _, notID := parseID(name); err != nil && notID == nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		return "", fmt.Errorf("%s: the host has no such user", quoteArg(name))
	}
	// A colon or the end of a line would begin another field, or another user.
	plain := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == ':' || hidden(r) {
				return -1
			}
			return r
		}, s)
	}
	return strings.Join([]string{plain(u.Username), "*", plain(u.Uid), plain(u.Gid), plain(u.Name), plain(u.HomeDir), "/bin/sh"}, ":"), nil
}

func (a *runArgs) setUmask(s string) error {
	if s == "" {
		a.spec.Umask = nil
		return nil
	}
	mode, err := parseMode(s)
	if err != nil || mode > 0o777 {
		return fmt.Errorf("%s: not an octal umask", quoteArg(s))
	}
	a.spec.Umask = &mode
	return nil
}

func timezone(s string) (string, error) {
	if s[0] == '/' || strings.Contains(s, "..") || noControl(s) != nil {
		return "", fmt.Errorf("%s: not a time zone like Europe/Berlin, or local", quoteArg(s))
	}
	if s != "local" {
		if _, err := os.Stat("/usr/share/zoneinfo/" + s); err != nil {
			return "", fmt.Errorf("%s: no such time zone here: %w", quoteArg(s), err)
		}
	}
	return s, nil
}

func (a *runArgs) setStopTimeout(s string) (err error) {
	a.spec.StopTimeout, err = parseDuration(s)
	return err
}

// setTimeout reads 0 as no timeout.
func (a *runArgs) setTimeout(s string) (err error) {
	a.spec.Timeout, err = parseDuration(s)
	if err == nil && a.spec.Timeout > 0 && a.spec.Timeout < time.Millisecond {
		return fmt.Errorf("%s: too short", quoteArg(s))
	}
	return err
}

// setUserNS reads --userns MODE[:KEY=VALUE,...].
func (a *runArgs) setUserNS(s string) error {
	u := &a.spec.UserNS
	mode, opts, hasOpts := strings.Cut(s, ":")
	switch mode {
	case "", "private", "host", "nomap", "keep-id", "auto":
	case "container", "ns":
		return &usageError{msg: fmt.Sprintf("%s: joining a namespace is not built into this version of sbx", quoteArg(s))}
	default:
		return fmt.Errorf("%s: not one of host, keep-id, nomap, auto", quoteArg(s))
	}
	if mode == "private" {
		mode = ""
	}
	u.Mode, u.UID, u.GID, u.Size = mode, nil, nil, 0
	if !hasOpts {
		return nil
	}
	if mode != "keep-id" && mode != "auto" {
		return fmt.Errorf("%s: %s has no options", quoteArg(s), mode)
	}
	for opt := range strings.SplitSeq(opts, ",") {
		key, value, _ := strings.Cut(opt, "=")
		n, err := parseID(value)
		switch {
		case key == "size" && n == 0 && err == nil:
			return fmt.Errorf("%s: no ids", quoteArg(opt))
		case key == "size":
			u.Size = n
		case key == "uid" && mode == "keep-id":
			u.UID = &n
		case key == "gid" && mode == "keep-id":
			u.GID = &n
		default:
			return fmt.Errorf("%s: unknown option of %s", quoteArg(key), mode)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// parseIDMap reads one --uidmap or --gidmap: [+ug]CONTAINER:[@]FROM[:SIZE].
func parseIDMap(s string) (m sandbox.IDMapFlag, err error) {
	rest := s
flags:
	for rest != "" {
		switch rest[0] {
		case '+':
			m.Extend = true
		case 'u':
			m.UIDs = true
		case 'g':
			m.GIDs = true
		default:
			break flags
		}
		rest = rest[1:]
	}
	parts := strings.Split(rest, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return m, fmt.Errorf("%s: not CONTAINER:FROM[:SIZE]", quoteArg(s))
	}
	from, host := strings.CutPrefix(parts[1], "@")
	m.Host, m.Size = host, 1
	if m.Container, err = parseID(parts[0]); err != nil {
		return m, err
	}
	if m.From, err = parseID(from); err != nil {
		return m, err
	}
	if len(parts) == 3 {
		if m.Size, err = parseID(parts[2]); err != nil || m.Size == 0 {
			return m, fmt.Errorf("%s: not a number of ids", quoteArg(parts[2]))
		}
	}
	const last = 1<<32 - 2
	if uint64(m.Container)+uint64(m.Size)-1 > last || uint64(m.From)+uint64(m.Size)-1 > last {
		return m, fmt.Errorf("%s: ids beyond %s", quoteArg(s), strconv.FormatUint(last, 10))
	}
	return m, nil
}

func addIDMap(to *[]sandbox.IDMapFlag, s string) error {
	m, err := parseIDMap(s)
	*to = append(*to, m)
	return err
}

func (a *runArgs) addUIDMap(s string) error { return addIDMap(&a.spec.UserNS.UIDMap, s) }
func (a *runArgs) addGIDMap(s string) error { return addIDMap(&a.spec.UserNS.GIDMap, s) }
