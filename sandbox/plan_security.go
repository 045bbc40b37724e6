package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"sbx/sandbox/policy"
)

// strict refuses the flags that would share the host's namespaces, or give back what such a
// preset takes away as a whole. A capability, a mask or a filter is named one by one.
func (p *planner) strict() error {
	if !p.preset.Strict {
		return nil
	}
	spec := p.spec
	for _, f := range []struct {
		flag  string
		given bool
	}{
		{"--pid host", spec.PID == "host"},
		{"--network host", spec.Network == "host"},
		{"--network " + spec.Network, isProgram(spec.Network)}, // which lets the host's own addresses be reached
		{"--network " + spec.Network + ", which is the host's", p.host.Joined != nil && p.host.Joined.Own},
		{"--ipc host", spec.IPC == "host"},
		{"--uts host", spec.UTS == "host"},
		{"--cgroupns host", spec.CgroupNS == "host"},
		{"--security-opt no-new-privileges=false", !or(spec.Security.NoNewPrivs, true)},
		{"--security-opt nested=true", or(spec.Security.Nested, false)},
		{"--read-only=false", !or(spec.ReadOnly, true)},
	} {
		if f.given {
			return Errorf("%s: preset %s does not allow it", f.flag, p.preset.Name)
		}
	}
	return nil
}

// security takes what the preset says, and what the user's flags change of it.
func (p *planner) security() error {
	sec, c := &p.spec.Security, &p.Command
	_, caps, err := policy.Caps(p.preset, sec.CapAdd, sec.CapDrop)
	if err != nil {
		return err
	}
	ambient, err := explicit(caps, sec.CapAdd)
	if err != nil {
		return err
	}
	c.Caps, c.Ambient, c.NoRoot = CapSet(caps), CapSet(ambient), p.preset.NoRoot
	c.NoNewPrivs = or(sec.NoNewPrivs, p.preset.NoNewPrivs)
	if c.Seccomp, c.Filters, err = p.filters(); err != nil {
		return err
	}
	c.AppArmor = sec.AppArmor
	switch {
	case c.AppArmor == "unconfined" && !p.host.AppArmor:
		c.AppArmor = ""
	case c.AppArmor != "" && !p.host.AppArmor:
		return Errorf("--security-opt apparmor=%s: this host has no AppArmor", c.AppArmor)
	}
	c.Label, err = label(sec.Label, p.host.SELinux)
	return err
}

// explicit are the added capabilities: another user than root gets those, as with podman.
func explicit(granted uint64, add []string) (uint64, error) {
	if len(add) == 0 {
		return 0, nil
	}
	_, asked, err := policy.Caps(policy.Preset{}, add, nil)
	return asked & granted, err
}

// filters are the seccomp filters, in the order in which they are loaded, and what they are
// called. No namespace keeps the caller's keys apart: they are out of reach by every filter.
func (p *planner) filters() (string, []policy.Filter, error) {
	sec := &p.spec.Security
	caps, kernel := uint64(p.Command.Caps), policy.Kernel{Major: p.host.Kernel[0], Minor: p.host.Kernel[1]}
	if sec.Seccomp == "" && len(p.preset.Seccomp) > 0 {
		filter, err := policy.Seccomp(p.preset, caps, p.preset.Compat32 || p.spec.Image.Arch == "386")
		return p.preset.Name, []policy.Filter{filter}, err
	}
	keyring, err := policy.KeyringFilter()
	if err != nil {
		return "", nil, err
	}
	switch sec.Seccomp {
	case "profile": // after the other one, since it may forbid to load any more
		filter, err := policy.Compile(sec.Profile, policy.Options{Arch: p.host.Arch, Caps: caps, Compat32: true, Kernel: kernel})
		if err != nil {
			err = fmt.Errorf("--security-opt seccomp: %w", err)
		}
		return "profile", []policy.Filter{keyring, filter}, err
	case "", "unconfined":
		return "unconfined", []policy.Filter{keyring}, nil
	}
	return "", nil, Errorf("--security-opt seccomp: unknown mode %q", sec.Seccomp)
}

// label is the SELinux context of --security-opt label=type:T and its like. Without one
// the command runs in the caller's.
func label(options []string, selinux bool) (string, error) {
	if !selinux || len(options) == 0 || slices.Equal(options, []string{"disable"}) {
		return "", nil
	}
	context := map[string]string{"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
	for _, o := range options {
		name, value, _ := strings.Cut(o, ":")
		if _, ok := context[name]; !ok {
			return "", Errorf("--security-opt label=%s: unknown", o)
		}
		context[name] = value
	}
	return strings.Join([]string{context["user"], context["role"], context["type"], context["level"]}, ":"), nil
}
