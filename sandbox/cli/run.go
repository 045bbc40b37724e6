package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"sbx/sandbox"
	"sbx/sandbox/image"
)

// runArgs is what the flags of one sbx run ask for: a Spec, and what it takes to complete it.
type runArgs struct {
	app    *app
	caller caller
	spec   sandbox.Spec
	pull   pullFlags
	store  *image.Store

	networks   networkFlags
	rootfs     bool
	privileged bool
	dryRun     bool
	replace    bool
	help       bool
	format     string

	// The sources of the environment, in which order they were written. See finishEnv.
	envHost   bool
	httpProxy *bool // nil is yes, but for untrusted
	envFile   []string
	env       []string
	secretEnv []string
}

func newRunArgs(a *app) *runArgs {
	r := &runArgs{
		app:    a,
		caller: caller{lookup: a.getenv, environ: os.Environ},
		pull:   pullFlags{policy: image.PullMissing},
	}
	r.spec.SigProxy = true
	return r
}

func defineRun(a *app, fs *pflag.FlagSet) action {
	r := newRunArgs(a)
	fs.SetInterspersed(false) // what follows IMAGE is the command's
	r.addTo(fs)
	return func(args []string) (int, error) {
		// DIR reads like the value of --rootfs, so flags may follow it. They cannot be
		// meant otherwise: without an entrypoint, a command would begin with a dash.
		if r.rootfs && r.spec.Entrypoint == nil && len(args) > 1 && strings.HasPrefix(args[1], "-") {
			if err := parse(fs, args[1:]); err != nil {
				return 0, err
			}
			args = append(args[:1:1], fs.Args()...)
		}
		return r.run(args)
	}
}

// run makes the Spec complete, plans, and runs the plan.
func (r *runArgs) run(args []string) (int, error) {
	if r.help {
		return 0, r.app.help("run")
	}
	if err := r.finish(args); err != nil {
		return 0, err
	}
	var err error
	if r.store, err = r.app.store(); err != nil {
		return 0, err
	}
	if err := r.findNetworks(); err != nil {
		return 0, err
	}
	if err := r.locateVolumes(); err != nil {
		return 0, err
	}
	release, err := r.resolve(args[0])
	if err != nil {
		return 0, err
	}
	defer release()
	r.spec.Overlay = os.Getenv("SBX_OVERLAY")
	host, err := sandbox.Probe(r.store.Dir(), &r.spec)
	if err != nil {
		return 0, err
	}
	if len(r.spec.Networks) > 0 { // where the other one may have the address that is wanted
		if err := r.endNamesake(); err != nil {
			return 0, err
		}
	}
	leave, err := r.joinNetworks(host)
	if err != nil {
		return 0, err
	}
	defer leave("")
	plan, err := sandbox.NewPlan(r.spec, host)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", r.app.command, err)
	}
	for _, note := range plan.Notes {
		r.app.debugf("%s", note)
	}
	warn := func(text string) { r.app.warn("%s", text) }
	for _, text := range plan.Warnings {
		warn(text)
	}
	if r.dryRun {
		return 0, r.printPlan(plan)
	}
	if err := runnable(plan); err != nil {
		return 0, err
	}
	if r.app.commit != nil {
		r.app.commit()
	}
	if err := r.endNamesake(); err != nil {
		return 0, err
	}
	if err := r.makeVolumes(); err != nil {
		return 0, err
	}
	note := func(text string) { r.app.note("%s", text) }
	told := sandbox.Told{Warn: warn, Note: note, Left: leave}
	if r.app.debug {
		told.Debug = func(text string) { r.app.debugf("%s", text) }
	}
	return sandbox.Run(plan, told)
}

// finish checks what only all flags together tell, and takes in the arguments.
func (r *runArgs) finish(args []string) error {
	if len(args) == 0 {
		return &usageError{msg: "no image given", hint: "sbx run [flags] IMAGE [COMMAND [ARG...]]"}
	}
	if r.format != "" && !r.dryRun {
		return &usageError{msg: "--format goes with --dry-run"}
	}
	if r.replace && r.spec.Name == "" {
		return &usageError{msg: "--replace: no --name is given", hint: "the running sandbox of that name is ended"}
	}
	for _, check := range []func() error{r.finishSecurity, r.finishNetworks, r.pull.check} {
		if err := check(); err != nil {
			return err
		}
	}
	r.finishEnv()
	r.spec.Args = args[1:]
	r.spec.Root.Label = args[0]
	return nil
}

// endNamesake does what --replace says.
func (r *runArgs) endNamesake() error {
	if !r.replace || r.dryRun {
		return nil
	}
	return sandbox.EndRunning(r.store.Dir(), r.spec.Name, func(text string) { r.app.note("%s", text) })
}

// resolve fills in the trees that the run is made of: the root, and every mount of
// type image. Until release is called, none of these images can be removed.
func (r *runArgs) resolve(name string) (release func(), err error) {
	held := &heldImages{run: r}
	defer func() {
		if err != nil {
			held.release()
		}
	}()
	if r.rootfs {
		err = r.setRootfs(name)
	} else {
		err = held.setRoot(name)
	}
	if err != nil {
		return nil, err
	}
	for i := range r.spec.Mounts {
		if m := &r.spec.Mounts[i]; m.Type == "image" {
			if err := held.setMount(m); err != nil {
				return nil, fmt.Errorf("--mount: %w", err)
			}
		}
	}
	return held.release, nil
}

// heldImages are the images that a run is made of.
type heldImages struct {
	run   *runArgs
	locks []*os.File
}

func (h *heldImages) release() {
	for _, lock := range h.locks {
		lock.Close()
	}
}

// get finds an image in the store, or pulls it, as --pull says. A dry run does not pull.
func (h *heldImages) get(name string) (*image.Image, error) {
	opts, err := h.run.pull.options(h.run.app, name)
	if err != nil {
		return nil, err
	}
	ctx, stop := interruptible()
	defer stop()
	var img *image.Image
	if h.run.dryRun {
		img, err = present(ctx, h.run.store, opts)
	} else {
		img, err = image.Pull(ctx, h.run.store, opts)
	}
	if err != nil {
		return nil, meantFile(name, err)
	}
	if img.Lock != nil {
		h.locks = append(h.locks, img.Lock)
	}
	if foreign := img.Foreign(); foreign != "" && opts.Platform == (image.Platform{}) {
		h.run.app.warn("%s: %s", name, foreign)
	}
	return img, nil
}

func (h *heldImages) setRoot(name string) error {
	img, err := h.get(name)
	if err != nil {
		return err
	}
	spec := &h.run.spec
	overrule(&img.Config.Config, spec)
	if spec.Image, err = imageConfig(img.Config); err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	spec.Root.Layers = img.Layers
	return nil
}

func (h *heldImages) setMount(m *sandbox.Mount) error {
	img, err := h.get(m.Src)
	if err != nil {
		return err
	}
	m.Layers = img.Layers
	return nil
}

// setRootfs reads --rootfs DIR or DIR:O.
func (r *runArgs) setRootfs(s string) error {
	dir, opts, hasOpts := strings.Cut(s, ":")
	if _, err := os.Stat(s); hasOpts && err == nil {
		dir, hasOpts = s, false // a directory with a colon in its name
	}
	if hasOpts {
		switch word, _, _ := strings.Cut(opts, "="); word {
		case "O":
			r.spec.Root.Overlay = true
		case "idmap":
			return errIdmap
		default:
			return &usageError{msg: fmt.Sprintf("--rootfs: %s: unknown option; O throws changes away", quoteArg(opts))}
		}
	}
	abs, err := hostPath(dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(abs); err != nil {
		return fmt.Errorf("--rootfs: %w", err)
	} else if !info.IsDir() {
		return fmt.Errorf("--rootfs: %s: not a directory", abs)
	}
	r.spec.Root.Dir = abs
	return nil
}

// volumeDir is where named volumes live.
func volumeDir(store *image.Store) string { return filepath.Join(store.Dir(), "volumes") }

// locateVolumes gives every named volume its directory.
func (r *runArgs) locateVolumes() error {
	for i := range r.spec.Mounts {
		m := &r.spec.Mounts[i]
		if m.Type != "volume" || m.Name == "" {
			continue
		}
		m.Src = filepath.Join(volumeDir(r.store), m.Name, "_data")
		if m.NoCreate {
			if _, err := os.Stat(m.Src); errors.Is(err, fs.ErrNotExist) {
				return &usageError{msg: fmt.Sprintf("volume %s does not exist", m.Name), hint: "without nocreate it is made"}
			} else if err != nil {
				return fmt.Errorf("volume %s: %w", m.Name, err)
			}
		}
	}
	return nil
}

// makeVolumes makes the directory in which the sandbox makes named volumes, and the ones that
// it only overlays.
func (r *runArgs) makeVolumes() error {
	for _, m := range r.spec.Mounts {
		if m.Type != "volume" || m.Name == "" || m.NoCreate {
			continue
		}
		dir := volumeDir(r.store)
		if m.Overlay {
			dir = filepath.Dir(m.Src) // others must not walk into it: files in there may be setuid
		}
		err := os.MkdirAll(dir, 0o700)
		if err == nil && m.Overlay {
			err = os.Mkdir(m.Src, 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make volume %s: %w", m.Name, err)
		}
	}
	return nil
}
