package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/sandbox"
)

// maxSecret is podman's limit.
const maxSecret = 512000

// A secretFlag is one --secret before its data is read.
type secretFlag struct {
	sandbox.Secret
	env         string // type=env: the variable's name in the sandbox
	src, srcEnv string // where the data comes from; one of these
	srcFD       int    // -1 is none
}

// parseSecret reads id=NAME,src=FILE|env=VAR|fd=N,type=mount|env,target=,uid=,gid=,mode=.
func parseSecret(s string) (f secretFlag, err error) {
	f.Mode, f.srcFD = 0o444, -1
	kind, target := "mount", ""
	for field := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(field, "=")
		if value == "" {
			return f, &usageError{
				msg:  fmt.Sprintf("%s: not KEY=VALUE", quoteArg(field)),
				hint: "sbx keeps no secrets; name the source: --secret id=NAME,src=FILE (or env=VARIABLE, or fd=N)",
			}
		}
		switch key {
		case "id":
			f.ID = value
		case "src", "source":
			f.src = value
		case "env":
			f.srcEnv = value
		case "fd":
			if f.srcFD, err = parseFD(value); err != nil {
				return f, err
			}
		case "type":
			kind = value
		case "target", "dst", "destination":
			target = value
		case "uid":
			f.UID, err = parseID(value)
		case "gid":
			f.GID, err = parseID(value)
		case "mode":
			f.Mode, err = parseMode(value)
		default:
			err = errUnknownKey
		}
		if err != nil {
			return f, fmt.Errorf("%s: %w", quoteArg(key), err)
		}
	}
	return f, f.finish(kind, target)
}

// finish checks what only the whole flag tells, and fills in the target.
func (f *secretFlag) finish(kind, target string) error {
	if !isName(f.ID) {
		return fmt.Errorf("id=%s: not a name", quoteArg(f.ID))
	}
	sources := 0
	for _, given := range []bool{f.src != "", f.srcEnv != "", f.srcFD >= 0} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		return fmt.Errorf("%s: needs one of src=FILE, env=VARIABLE, fd=N", f.ID)
	}
	switch kind {
	case "env":
		if f.env = target; f.env == "" {
			f.env = f.ID
		}
		if strings.ContainsAny(f.env, "=\x00") {
			return fmt.Errorf("target=%s: not the name of a variable", quoteArg(f.env))
		}
		return nil
	case "mount":
		if target == "" {
			target = f.ID
		}
		if !filepath.IsAbs(target) {
			if target = filepath.Join("/run/secrets", target); !strings.HasPrefix(target, "/run/secrets/") {
				return fmt.Errorf("target: leaves /run/secrets")
			}
		}
		var err error
		f.Dst, err = insidePath(target)
		return err
	}
	return fmt.Errorf("type=%s: neither mount nor env", quoteArg(kind))
}

// read fetches the data. It is never written to a disk.
func (f *secretFlag) read(c caller) (err error) {
	switch {
	case f.src != "":
		f.Data, err = readText(f.src, maxSecret)
	case f.srcEnv != "":
		value, ok := c.lookup(f.srcEnv)
		if !ok {
			return fmt.Errorf("env=%s: not set", quoteArg(f.srcEnv))
		}
		f.Data = []byte(value)
	default:
		if err := checkFD(f.srcFD); err != nil {
			return err
		}
		// The descriptor stays the caller's: read through it, do not close it.
		f.Data, err = readAll(fdReader(f.srcFD), "fd="+strconv.Itoa(f.srcFD), maxSecret)
	}
	return err
}

// fdReader reads from a descriptor that it does not own.
type fdReader int

func (fd fdReader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func parseFD(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 20)
	if err != nil {
		return -1, fmt.Errorf("%s: not a file descriptor", quoteArg(s))
	}
	return int(n), nil
}

// checkFD refuses a descriptor that sbx was not started with: all of our own are closed on
// exec, and none of those is that has come through one.
func checkFD(fd int) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return fmt.Errorf("the caller has no descriptor %d", fd)
	}
	return nil
}

func (a *runArgs) addSecret(s string) error {
	f, err := parseSecret(s)
	if err != nil {
		return err
	}
	if err := f.read(a.caller); err != nil {
		return fmt.Errorf("%s: %w", f.ID, err)
	}
	if f.env == "" {
		a.spec.Secrets = append(a.spec.Secrets, f.Secret)
		return nil
	}
	if strings.IndexByte(string(f.Data), 0) >= 0 {
		return fmt.Errorf("%s: %w", f.ID, errControl)
	}
	a.secretEnv = append(a.secretEnv, f.env+"="+string(f.Data))
	return nil
}

func (a *runArgs) preserveFD(s string) error {
	fd, err := parseFD(s)
	if err != nil {
		return err
	}
	return a.keepFD(fd)
}

// preserveFDs is --preserve-fds N: descriptors 3 to 3+N-1.
func (a *runArgs) preserveFDs(s string) error {
	n, err := parseFD(s)
	if err != nil {
		return err
	}
	for fd := 3; fd < 3+n; fd++ {
		if err := a.keepFD(fd); err != nil {
			return err
		}
	}
	return nil
}

func (a *runArgs) keepFD(fd int) error {
	if fd < 3 {
		return errors.New("0, 1 and 2 are always there")
	}
	if err := checkFD(fd); err != nil {
		return err
	}
	for _, have := range a.spec.PreserveFDs {
		if have == fd {
			return nil
		}
	}
	a.spec.PreserveFDs = append(a.spec.PreserveFDs, fd)
	return nil
}
