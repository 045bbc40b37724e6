//go:build hot

package cli

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/sandbox"
	"sbx/sandbox/image"
)

// commands of the hot half of sbx; see main_hot.go.
func commands() []command {
	return []command{{"run", "run a command in a sandbox", defineRun}, {"version", "show the version", defineVersion}}
}

// Hot does `sbx version`, and `sbx run` if nothing is in its way: the image is here, no flag needs the rest of
// sbx, and there is nothing to explain. It returns false when the other half must do it,
// from the beginning; until then it has changed nothing, read nothing that can be read
// only once, and said nothing.
func Hot(argv []string) (status int, done bool) {
	if len(argv) < 2 || slices.ContainsFunc(argv, readsOnce) {
		return 0, false
	}
	umask := unix.Umask(0o022)
	var said bytes.Buffer
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: &said, getenv: os.LookupEnv}
	a.commit = func() {
		done = true
		a.stderr = os.Stderr
		os.Stderr.Write(said.Bytes())
	}
	defer func() {
		bug := recover()
		switch {
		case !done: // the other half will come to it too, and say so
			unix.Umask(umask)
		case bug != nil:
			status = a.bug(bug)
		}
	}()
	if err := refusePrivilege(); err != nil {
		a.commit()
		return a.report(err), true
	}
	status, err := a.dispatch(argv[1:])
	if done && err != nil {
		status = a.report(err)
	}
	return status, done
}

func (a *app) help(string) error          { return image.ErrNotHot }
func (a *app) printOne(string, any) error { return image.ErrNotHot }

func (r *runArgs) printPlan(*sandbox.Plan) error { return image.ErrNotHot }

func present(context.Context, *image.Store, image.PullOptions) (*image.Image, error) {
	return nil, image.ErrNotHot
}

// findNetworks: addresses are leased by the other half.
func (r *runArgs) findNetworks() error {
	if len(r.spec.Networks) > 0 {
		return image.ErrNotHot
	}
	return nil
}

func (r *runArgs) joinNetworks(sandbox.Host) (leave func(name string), err error) {
	return func(string) {}, nil
}

// runnable: this half, too.
func runnable(*sandbox.Plan) error { return nil }

// interruptible: an image that is here is found before anyone could interrupt that.
func interruptible() (context.Context, func()) { return context.Background(), func() {} }

// readsOnce: what this argument may name can be a pipe.
func readsOnce(arg string) bool {
	return slices.ContainsFunc([]string{"secret", "env-file", "hosts-file", "seccomp=", "dry-run"}, func(name string) bool { return strings.Contains(arg, name) })
}
