//go:build !hot

package image

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets this test binary be the stages, as main.go does, and a helper of the
// tests; and hands over to an ordinary user when root calls.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case "sbx-store":
		// Whatever a test gives it, this much memory does: more is not to be had.
		if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: 512 << 20, Max: 512 << 20}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		ServeStore()
	case rootName:
		serveRoot()
	case libraryName:
		serveLibrary()
	case helperName:
		os.Exit(helperMain(os.Args[1:]))
	}
	flag.Parse()
	if os.Getuid() != 0 || os.Getenv("SBX_TEST_AS_ROOT") != "" {
		os.Exit(m.Run())
	}
	os.Exit(runAsUser())
}

// runAsUser runs this test binary again, with the same flags, as the tests' user.
func runAsUser() int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	args := []string{self}
	for _, arg := range os.Args[1:] {
		if !strings.HasPrefix(arg, "-test.testlogfile=") { // lies where only root can write
			args = append(args, arg)
		}
	}
	cmd := exec.Command("../../scripts/as-user", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
