package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// filesEnv names the directory with what was built for the tests: sbx, probe, mkimage, deps.json.
const filesEnv = "SBX_TEST_FILES"

// TestMain builds what the tests need and, when root calls, hands over to an
// ordinary user: sbx is a program for those, and root would hide what they may not do.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(filesEnv) != "" {
		os.Exit(m.Run())
	}
	status, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func prepareAndRun(m *testing.M) (status int, err error) {
	files, err := os.MkdirTemp("", "sbx-test-files-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(files)
	if err := build(files); err != nil {
		return 1, err
	}
	os.Setenv(filesEnv, files)
	if os.Getuid() != 0 {
		return m.Run(), nil
	}
	if err := command("scripts/setup").Run(); err != nil {
		return 1, fmt.Errorf("scripts/setup: %w", err)
	}
	return runAsUser()
}

// build needs the go command, its caches and the checkout, which an ordinary user
// may not be able to read; so whoever started the tests does it. sbx is built as make
// builds it, both halves: what is tested is what is installed.
func build(files string) error {
	if err := os.Chmod(files, 0o755); err != nil {
		return err
	}
	if err := command("make", "--no-print-directory", "-s", "OUT="+filepath.Join(files, "sbx"), "sbx").Run(); err != nil {
		return fmt.Errorf("make sbx: %w", err)
	}
	for out, pkg := range map[string]string{"probe": "./testdata/probe", "mkimage": "./scripts/mkimage"} {
		cmd := command("go", "build", "-o", filepath.Join(files, out), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("go build %s: %w", pkg, err)
		}
	}
	for out, tags := range map[string]string{"deps.json": "", "deps_hot.json": "hot,"} {
		list := exec.Command("go", "list", "-deps", "-json=ImportPath,Imports,Standard,Module,Dir,GoFiles",
			"-tags", tags+"exclude_graphdriver_btrfs,exclude_graphdriver_zfs,containers_image_openpgp", ".")
		list.Env = append(os.Environ(), "CGO_ENABLED=0")
		deps, err := list.Output()
		if err != nil {
			return fmt.Errorf("go list: %w", err)
		}
		if err := os.WriteFile(filepath.Join(files, out), deps, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// runAsUser runs this test binary again, with the same flags, as the tests' user.
func runAsUser() (status int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	args := []string{self}
	for _, arg := range os.Args[1:] {
		if !strings.HasPrefix(arg, "-test.testlogfile=") { // lies where only root can write
			args = append(args, arg)
		}
	}
	err = command("scripts/as-user", args...).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

// testFile is the path of something that build made.
func testFile(name string) string { return filepath.Join(os.Getenv(filesEnv), name) }

// needHost skips a test on a machine that was not set up; with SBX_MUST_WORK=1 that is a failure.
func needHost(t *testing.T) {
	t.Helper()
	out, err := exec.Command("scripts/setup").CombinedOutput()
	if err == nil {
		return
	}
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatalf("this machine is not set up:\n%s", out)
	}
	t.Skipf("this machine is not set up:\n%s", out)
}

// adoptOrphans makes this process the parent of whatever loses its own, so that
// everything a script left running is found below us.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }
