package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/sandbox"
	"sbx/sandbox/image"
)

// setEntrypoint reads a JSON array, or one word that is taken as it is; "" removes the image's.
func (a *runArgs) setEntrypoint(s string) error {
	words := []string{}
	switch {
	case strings.HasPrefix(s, "["):
		if err := json.Unmarshal([]byte(s), &words); err != nil {
			return fmt.Errorf("%s: not a JSON array of strings", quoteArg(s))
		}
	case s != "":
		words = append(words, s)
	}
	for _, w := range words {
		if strings.IndexByte(w, 0) >= 0 {
			return errControl
		}
	}
	a.spec.Entrypoint = &words
	return nil
}

// signalName gives TERM, SIGTERM and 15 one name. Real-time signals keep their number.
func signalName(s string) (string, error) {
	if n, err := strconv.Atoi(s); err == nil {
		switch name := unix.SignalName(unix.Signal(n)); {
		case name != "":
			return name, nil
		case 32 <= n && n <= 64:
			return s, nil
		}
		return "", fmt.Errorf("%s: no such signal", quoteArg(s))
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	const first, last = 34, 64 // SIGRTMIN and SIGRTMAX, as the C library counts
	for _, end := range []struct {
		prefix string
		base   int
	}{{"SIGRTMIN", first}, {"SIGRTMAX", last}} {
		if offset, ok := strings.CutPrefix(name, end.prefix); ok {
			n, err := 0, error(nil)
			if offset != "" {
				n, err = strconv.Atoi(offset)
			}
			if n += end.base; err == nil && first <= n && n <= last {
				return strconv.Itoa(n), nil
			}
		}
	}
	if unix.SignalNum(name) == 0 {
		return "", fmt.Errorf("%s: no such signal", quoteArg(s))
	}
	return name, nil
}

// addAttach reads the name of a stream.
func (a *runArgs) addAttach(s string) error {
	name := strings.ToLower(s)
	if name != "stdin" && name != "stdout" && name != "stderr" {
		return fmt.Errorf("%s: not one of stdin, stdout, stderr", quoteArg(s))
	}
	a.spec.Attach = append(a.spec.Attach, name)
	return nil
}

// setSdnotify reads container, which hands on the socket that systemd gave us, or ignore.
func (a *runArgs) setSdnotify(s string) error {
	switch s {
	case "", "ignore":
		a.spec.SdnotifySocket = ""
		return nil
	case "container":
		socket, _ := a.caller.lookup("NOTIFY_SOCKET")
		if socket != "" && !filepath.IsAbs(socket) {
			return fmt.Errorf("NOTIFY_SOCKET=%s: not a path", quoteArg(socket))
		}
		a.spec.SdnotifySocket = socket
		return nil
	case "conmon", "healthy":
		return &usageError{msg: s + ": " + noDetach}
	}
	return fmt.Errorf("%s: neither container nor ignore", quoteArg(s))
}

func (a *runArgs) addLabel(s string) error {
	key, value, _ := strings.Cut(s, "=")
	if key == "" {
		return fmt.Errorf("%s: not NAME=VALUE", quoteArg(s))
	}
	a.spec.Labels = append(a.spec.Labels, sandbox.KeyValue{Key: key, Value: value})
	return nil
}

// setLogDriver accepts the two that keep no log.
func (a *runArgs) setLogDriver(s string) error {
	if s == "" || s == "none" || s == "passthrough" {
		return nil
	}
	return &usageError{msg: fmt.Sprintf("%s: logs are not built into this version of sbx", quoteArg(s))}
}

// setDetachKeys accepts none.
func (a *runArgs) setDetachKeys(s string) error {
	if s == "" {
		return nil
	}
	return &usageError{msg: noDetach}
}

// setRestart accepts what is so without the flag, and warns of the other policies.
func (a *runArgs) setRestart(s string) error {
	policy, retries, hasRetries := strings.Cut(s, ":")
	_, err := strconv.ParseUint(retries, 10, 31)
	switch {
	case s == "", s == "no":
		return nil
	case s == "always", s == "unless-stopped", policy == "on-failure" && (!hasRetries || err == nil):
		a.app.warn("--restart is ignored: a service manager does that; see systemd.service(5)")
		return nil
	}
	return fmt.Errorf("%s: not one of no, always, on-failure[:N], unless-stopped", quoteArg(s))
}

// setRm accepts how it is.
func (a *runArgs) setRm(s string) error {
	if on, err := parseBool(s); err != nil || on {
		return err
	}
	return &usageError{msg: "nothing of a sandbox is kept in this version of sbx"}
}

func (a *runArgs) setSystemd(s string) error {
	if s == "" {
		return nil
	}
	if on, err := strconv.ParseBool(s); err != nil && s != "always" {
		return fmt.Errorf("%s: not one of true, false, always", quoteArg(s))
	} else if on || s == "always" {
		a.app.warn("--systemd is ignored: systemd does not run in a sandbox")
	}
	return nil
}

func (a *runArgs) setFormat(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("%s: neither text nor json", quoteArg(s))
	}
	a.format = s
	return nil
}

func (a *runArgs) setPull(s string) (err error) {
	a.pull.policy, err = image.ParsePullPolicy(s)
	return err
}

// setCIDFile reads the name of a file that is not there yet.
func (a *runArgs) setCIDFile(s string) (err error) {
	if a.spec.CIDFile, err = newFile(s); err != nil {
		return err
	}
	if _, err := os.Lstat(a.spec.CIDFile); err == nil { // before anything is fetched, or ended
		return &usageError{
			msg:  fmt.Sprintf("%s: it exists already", quoteArg(s)),
			hint: "another sandbox may be using it, or sbx was killed; if not so, remove it",
		}
	}
	return nil
}

func (a *runArgs) setPIDFile(s string) (err error) {
	if a.spec.PIDFile, err = newFile(s); err != nil {
		return err
	}
	return sandbox.CheckPIDFile(a.spec.PIDFile) // before anything is fetched, or ended
}

func newFile(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("%s: not a file", quoteArg(s))
	}
	return hostPath(s)
}
