package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the files that cmp compares with")

// patience is how long one script may take; then everything it started is killed.
const patience = 90 * time.Second

// TestScript runs testdata/script/*.txtar, each in a home of its own, against a
// registry on loopback. One after another: so what is left behind afterwards is
// the script's, and a script that measures is alone on the machine.
//
// A script has these commands beside those of testscript:
//
//	exits N PROGRAM ARGS   runs it; the exit status must be N (128+n for a signal)
//	complains PATTERN      the last command failed as sbx should: nothing on stdout, on stderr
//	                       one line "sbx: ..." that matches, a hint at most, no stack
//	jq FILTER              the last stdout is JSON for which FILTER holds
//	eventually PROGRAM     repeats it until it succeeds, for ten seconds
//	requests [-count=N] P  the lines of the registry's log that match; a line is METHOD PATH STATUS [range=...]
//	leaks                  nothing is left of any run; this is also checked after each script
//
// and this environment: HOME, XDG_*, REGISTRY and LOGINREGISTRY (the same images, for the user
// ada with the password lovelace), IMAGES (archives), IMAGE ($REGISTRY/busybox), PROBE
// ($REGISTRY/probe, busybox and /probe), SBX (the program's path), SRC (the checkout).
func TestScript(t *testing.T) {
	needHost(t)
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	images, archives := newImages(), t.TempDir()
	makeImages(t, images, archives)

	scripts, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, script := range scripts {
		s := &suite{images: images, archives: archives}
		watchdog := time.AfterFunc(patience, killDescendants)
		testscript.RunT(oneByOne{t}, testscript.Params{
			Files:               []string{script},
			Setup:               s.setup,
			Deadline:            time.Now().Add(patience),
			UpdateScripts:       *update,
			RequireUniqueNames:  true,
			RequireExplicitExec: true,
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"exits": exits, "complains": complains, "jq": jq, "eventually": eventually,
				"requests": s.requests, "leaks": s.leaks,
			},
		})
		watchdog.Stop()
	}
}

// oneByOne is a testing.T whose subtests do not run in parallel.
type oneByOne struct{ *testing.T }

func (t oneByOne) Parallel()     {}
func (t oneByOne) Verbose() bool { return testing.Verbose() }
func (t oneByOne) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(oneByOne{t}) })
}

func makeImages(t *testing.T, images http.Handler, archives string) {
	t.Helper()
	_, server := serve(images, false)
	defer server.Close()
	at := strings.TrimPrefix(server.URL, "http://")

	root := t.TempDir()
	text, err := os.ReadFile(testFile("probe"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "probe"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	busybox := []string{"--busybox", "/bin/busybox", "--env", "PATH=/bin:/sbin:/usr/bin", "--cmd", "sh"}
	for _, args := range [][]string{
		{at + "/busybox", "oci-archive:" + archives + "/busybox.oci.tar", "oci:" + archives + "/busybox.oci", "dir:" + archives + "/busybox.dir"},
		{"--docker", at + "/busybox:docker", "docker-archive:" + archives + "/busybox.docker.tar:sbx.test/busybox:latest"},
		{"--compress", "zstd", at + "/busybox:zstd"},
		{"--platform", "linux/arm64", "--platform", "linux/amd64", at + "/busybox:multi"},
		{"--layer", root, at + "/probe"},
	} {
		if out, err := exec.Command(testFile("mkimage"), append(slices.Clone(busybox), args...)...).CombinedOutput(); err != nil {
			t.Fatalf("mkimage %q: %v\n%s", args, err, out)
		}
	}
}

// suite is what one script has.
type suite struct {
	images   http.Handler
	archives string

	registry *faulty
	home     string
	tmp      string
	before   host
}

func (s *suite) setup(env *testscript.Env) error {
	t := env.T().(oneByOne)
	var server, login *httptest.Server
	s.registry, server = serve(s.images, false)
	_, login = serve(s.images, true)
	at := strings.TrimPrefix(server.URL, "http://")
	loginAt := strings.TrimPrefix(login.URL, "http://")

	home, run := filepath.Join(env.WorkDir, "home"), filepath.Join(env.WorkDir, "run")
	s.home, s.tmp = home, env.Getenv("TMPDIR")
	config := filepath.Join(home, ".config", "containers")
	if err := os.MkdirAll(config, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(run, 0o700); err != nil {
		return err
	}
	plain := "" // our registries speak plain HTTP
	for _, r := range []string{at, loginAt} {
		plain += fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", r)
	}
	if err := os.WriteFile(filepath.Join(config, "registries.conf"), []byte(plain), 0o644); err != nil {
		return err
	}
	src, err := os.Getwd()
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"HOME":            home,
		"XDG_DATA_HOME":   filepath.Join(home, ".local/share"),
		"XDG_CONFIG_HOME": filepath.Join(home, ".config"),
		"XDG_CACHE_HOME":  filepath.Join(home, ".cache"),
		"XDG_RUNTIME_DIR": run,
		"PATH":            os.Getenv(filesEnv) + ":" + env.Getenv("PATH") + ":/usr/sbin:/sbin",
		"SBX":             testFile("sbx"),
		"SRC":             src,
		"REGISTRY":        at,
		"LOGINREGISTRY":   loginAt,
		"IMAGE":           at + "/busybox",
		"PROBE":           at + "/probe",
		"IMAGES":          s.archives,
		"UID":             strconv.Itoa(os.Getuid()),
		"GID":             strconv.Itoa(os.Getgid()),
		"LANG":            "C.UTF-8",
	} {
		env.Setenv(name, value)
	}

	s.before = snapshot()
	env.Defer(func() {
		server.CloseClientConnections()
		server.Close()
		login.Close()
		if !t.Failed() {
			if err := s.left(); err != nil {
				t.Errorf("after the script: %v", err)
			}
		}
		killDescendants()
		// The store holds files of subordinate ids, which only their namespace can remove.
		exec.Command("unshare", "--map-root-user", "--map-auto", "rm", "-rf", home).Run()
	})
	return nil
}

// left looks where runs keep their files.
func (s *suite) left() error {
	return s.before.leaks(filepath.Join(s.home, ".local/share/sbx/runs"), s.tmp)
}

func (s *suite) leaks(ts *testscript.TestScript, neg bool, args []string) {
	err := s.left()
	switch {
	case neg && err == nil:
		ts.Fatalf("nothing is left behind")
	case !neg && err != nil:
		ts.Fatalf("%v", err)
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM ARGS")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	got := 0
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
		if w := exit.Sys().(syscall.WaitStatus); w.Signaled() {
			got = 128 + int(w.Signal())
		}
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit status %d, not %d", got, want)
	}
}

func complains(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: complains PATTERN")
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout is not empty: %q", out)
	}
	var lines []string
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		switch {
		case strings.HasPrefix(line, "sbx: hint: "), strings.HasPrefix(line, "sbx: warning: "):
		case strings.HasPrefix(line, "sbx: "):
			lines = append(lines, line)
		default:
			ts.Fatalf("not a line of sbx: %q", line)
		}
	}
	if len(lines) != 1 {
		ts.Fatalf("%d messages in place of one: %q", len(lines), lines)
	}
	if !regexp.MustCompile(args[0]).MatchString(lines[0]) {
		ts.Fatalf("%q does not match %q", args[0], lines[0])
	}
}

func jq(ts *testscript.TestScript, neg bool, args []string) {
	cmd := exec.Command("jq", append([]string{"-e"}, args...)...)
	cmd.Stdin = strings.NewReader(ts.ReadFile("stdout"))
	out, err := cmd.CombinedOutput()
	if (err == nil) == neg {
		ts.Fatalf("jq %s: %v\n%s", args, err, out)
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: eventually PROGRAM ARGS")
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within ten seconds: %v", err)
		}
	}
}

func (s *suite) requests(ts *testscript.TestScript, neg bool, args []string) {
	count := -1
	if len(args) > 0 {
		if text, ok := strings.CutPrefix(args[0], "-count="); ok {
			n, err := strconv.Atoi(text)
			ts.Check(err)
			count, args = n, args[1:]
		}
	}
	if len(args) != 1 {
		ts.Fatalf("usage: requests [-count=N] PATTERN")
	}
	log := s.registry.requests()
	n := len(regexp.MustCompile("(?m)"+args[0]).FindAllString(log, -1))
	if bad := n == 0; count >= 0 && n != count || count < 0 && bad != neg {
		ts.Fatalf("%d requests match; the log is\n%s", n, log)
	}
}
