package policy

import (
	_ "embed"
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// docker is Docker's default profile, the base of all presets that have a filter.
// Data of github.com/moby/profiles, Apache License 2.0; written by go generate.
// Embedded, because the package that holds it costs at every start.
//
//go:embed moby.json
var docker []byte

// Seccomp returns the filter of a preset, here, for a bounding set. The usual ones
// were compiled by go generate; after --cap-add and the like it is done now.
func Seccomp(p Preset, caps uint64, compat32 bool) (Filter, error) {
	if len(p.Seccomp) == 0 {
		return Filter{}, nil
	}
	if name, ok := compiledName(runtime.GOARCH, p, caps, compat32); ok {
		code, err := compiled.ReadFile("bpf/" + runtime.GOARCH + "/" + name)
		if err == nil {
			return Filter{Code: code, Flags: defaultFlags}, nil
		}
	}
	return compilePreset(p, Options{Arch: runtime.GOARCH, Caps: caps, Compat32: compat32})
}

// KeyringFilter is for a command that is to have no filter: it forbids the calls that
// lead to the caller's keys, which no namespace keeps apart, and nothing else.
func KeyringFilter() (Filter, error) {
	return Compile([]byte(keyringProfile), Options{Arch: runtime.GOARCH, Compat32: true})
}

const keyringProfile = `{
	"defaultAction": "SCMP_ACT_ALLOW",
	"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
	"syscalls": [{"names": ["keyctl", "add_key", "request_key"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]
}`

// A combination is a preset under the flags that change its filter.
type combination struct {
	preset   string
	nested   bool
	noCaps   bool // --cap-drop=ALL, as far as a filter can tell
	compat32 bool
}

// combinations are compiled ahead of time.
func combinations(arch string) []combination {
	all := []combination{
		{preset: "default"},
		{preset: "default", noCaps: true},
		{preset: "default", nested: true},
		{preset: "untrusted"},
		{preset: "compat", nested: true},
	}
	if arch == "amd64" {
		for _, c := range all {
			c.compat32 = true
			all = append(all, c)
		}
	}
	return all
}

func (c combination) name() string {
	name := c.preset
	for _, part := range []struct {
		on   bool
		name string
	}{{c.nested, "-nested"}, {c.noCaps, "-nocaps"}, {c.compat32, "-32"}} {
		if part.on {
			name += part.name
		}
	}
	return name + ".bpf"
}

// compiledName returns the name of the file that may hold the filter; false if none can.
func compiledName(arch string, p Preset, caps uint64, compat32 bool) (string, bool) {
	usual, err := Find(p.Name)
	if err != nil {
		return "", false
	}
	c := combination{preset: p.Name, nested: p.Nested, compat32: compat32 && arch == "amd64"}
	if !slices.Equal(p.Seccomp, usual.WithNested(p.Nested).Seccomp) {
		return "", false
	}
	switch relevant := caps & relevantCaps; relevant {
	case usual.capMask() & relevantCaps:
	case 0:
		c.noCaps = true
	default:
		return "", false
	}
	return c.name(), true
}

func compilePreset(p Preset, o Options) (Filter, error) {
	base, layers, err := partsOf(p, o.Caps)
	if err != nil {
		return Filter{}, err
	}
	f, err := base.compile(o, layers)
	if err != nil {
		return Filter{}, fmt.Errorf("seccomp: preset %s (%s): %w", p.Name, strings.Join(p.Seccomp, " "), err)
	}
	return f, nil
}

// partsOf returns what a preset's filter is made of: the base and the layers over it.
func partsOf(p Preset, caps uint64) (profile, []layer, error) {
	if len(p.Seccomp) == 0 {
		base, err := parseProfile([]byte(keyringProfile))
		return base, nil, err
	}
	base, err := parseProfile(docker)
	if err != nil {
		return base, nil, fmt.Errorf("bug: docker's profile: %w", err)
	}
	layers, err := layersOf(p.Seccomp, caps)
	return base, layers, err
}
