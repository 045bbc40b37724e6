package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unicode"

	"sbx/sandbox"
	"sbx/sandbox/image"
)

// statusFailed is the exit status when sbx itself failed, as with podman, docker and chroot(1).
const statusFailed = 125

// usageError is a mistake on the command line.
type usageError struct{ msg, hint string }

func (e *usageError) Error() string { return e.msg }
func (e *usageError) Hint() string  { return e.hint }

// flagError is a flag whose value is refused.
type flagError struct {
	name string
	err  error
}

func (e *flagError) Error() string { return "--" + e.name + ": " + e.err.Error() }
func (e *flagError) Unwrap() error { return e.err }

// blame puts the command's name before a mistake on its command line; any other error
// says itself what was attempted.
func blame(command string, err error) error {
	var usage *usageError
	var flag *flagError
	var name *image.NameError
	if errors.As(err, &usage) || errors.As(err, &flag) || errors.As(err, &name) {
		return fmt.Errorf("%s: %w", command, err)
	}
	return err
}

// report tells the user of err and returns the exit status that goes with it.
func (a *app) report(err error) int {
	fmt.Fprintf(a.stderr, "sbx: %s\n", sandbox.OneLine(err.Error()))
	var hinter interface{ Hint() string }
	if errors.As(err, &hinter) {
		for line := range strings.SplitSeq(hinter.Hint(), "\n") {
			if line != "" {
				fmt.Fprintf(a.stderr, "sbx: hint: %s\n", sandbox.OneLine(line))
			}
		}
	}
	var status interface{ ExitStatus() int }
	if errors.As(err, &status) && status.ExitStatus() != 0 {
		return status.ExitStatus()
	}
	return statusFailed
}

// hinted is an error, and what helps against it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.hint }

// meantFile adds to err, about the image name, what to write for the file or directory that
// is called so.
func meantFile(name string, err error) error {
	info, missing := os.Stat(name)
	switch {
	case missing != nil:
		return err
	case info.IsDir():
		return &hinted{err, "for the directory of that name: --rootfs " + quoteArg(name) + ", or oci:" + quoteArg(name) + " if it is a layout"}
	}
	return &hinted{err, "for the file of that name: docker-archive:" + quoteArg(name) + " or oci-archive:" + quoteArg(name)}
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

// quoteArg quotes what the user typed where it would be unclear without.
func quoteArg(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return hidden(r) || r == ' ' || r == '"' }) {
		return strconv.Quote(s)
	}
	return s
}

// wantArgs refuses a number of arguments that a command cannot use; max < 0 is no limit.
func wantArgs(args []string, min, max int, what string) error {
	switch {
	case len(args) < min:
		return &usageError{msg: "missing argument: " + what}
	case max == 0 && len(args) > 0:
		return &usageError{msg: "takes no argument: " + quoteArg(args[0])}
	case max > 0 && len(args) > max:
		return &usageError{msg: "too many arguments: " + quoteArg(args[max]), hint: "it takes one " + what}
	}
	return nil
}
