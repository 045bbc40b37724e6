package sandbox

import (
	"path/filepath"
	"slices"

	"sbx/sandbox/policy"
)

// planner works out a Plan. Its own fields are decided before the first part, and change
// no more; the Plan fills up in the order of NewPlan.
type planner struct {
	*Plan
	spec   *Spec
	host   *Host
	preset policy.Preset

	readOnly bool   // the root is
	ofWhom   string // who wants it so
	ofImage  bool   // the root is of layers, and not a directory that may be the host's own
}

// NewPlan decides everything that can be decided outside of the sandbox. It touches
// nothing: the same Spec and Host give the same Plan.
func NewPlan(spec Spec, host Host) (*Plan, error) {
	preset, err := policy.Find(spec.Security.Preset)
	if err != nil {
		return nil, err
	}
	if nested := spec.Security.Nested; nested != nil {
		preset = preset.WithNested(*nested)
	}
	p := &planner{
		Plan: &Plan{
			ID: host.ID, Image: spec.Root.Label, Labels: spec.Labels, Caller: host.Caller,
			Name: spec.Name, Preset: preset.Name, Nested: preset.Nested, Runs: filepath.Dir(host.RunDir),
			Overlay: spec.Overlay,
		},
		spec: &spec, host: &host, preset: preset,
		readOnly: or(spec.ReadOnly, preset.ReadOnlyRoot), ofWhom: "policy",
		ofImage: len(spec.Root.Layers) > 0,
	}
	if spec.ReadOnly != nil {
		p.ofWhom = "--read-only"
	}
	for _, part := range []func() error{
		p.strict,
		p.ids,
		p.namespaces,
		p.network,
		p.security,
		p.innerIDs,
		p.limits,
		p.command,
		p.root,
		p.dev,
		p.etc,
		p.mounts,
		p.writable,
		p.kernel,
		p.masks,
		p.overFUSE,
		p.readOnlyRoot,
		p.sysctls,
		p.parent,
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return p.Plan, nil
}

func (p *planner) step(s Step) { p.Steps = append(p.Steps, s) }

func (p *planner) note(text string) {
	if !slices.Contains(p.Notes, text) {
		p.Notes = append(p.Notes, text)
	}
}

func (p *planner) warn(text string) { p.Warnings = append(p.Warnings, text) }

// whose is the flag that a step is owed to if it was given.
func whose(given bool, flag string) string {
	if given {
		return flag
	}
	return "default"
}

func or(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}
