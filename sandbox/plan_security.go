package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/sandbox/policy"
	"sbx/userns"
)

// planSecurity takes the preset and what the user's flags change of it.
func planSecurity(p *Plan, spec *Spec, host *Host) error {
	sec := &spec.Security
	preset, err := policy.Find(sec.Preset)
	if err != nil {
		return err
	}
	if sec.Nested != nil {
		preset = preset.WithNested(*sec.Nested)
	}
	p.Nested = preset.Nested
	if preset.ReadOnlyRoot {
		spec.ReadOnly = true
	}
	_, caps, err := policy.Caps(preset, sec.CapAdd, sec.CapDrop)
	if err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	c := &p.Command
	c.Caps, c.NoRoot = caps, preset.NoRoot
	if c.Ambient, err = explicit(caps, sec.CapAdd); err != nil {
		return err
	}
	c.NoNewPrivs = or(sec.NoNewPrivs, preset.NoNewPrivs)
	if preset.NoNewPrivs && !c.NoNewPrivs {
		return Errorf("--security-opt no-new-privileges=false: preset %s does not let go of it", preset.Name)
	}
	if err := planSeccomp(p, spec, host, preset); err != nil {
		return err
	}
	c.AppArmor = sec.AppArmor
	switch {
	case c.AppArmor == "unconfined" && !host.AppArmor:
		c.AppArmor = ""
	case c.AppArmor != "" && !host.AppArmor:
		return Errorf("--security-opt apparmor=%s: this host has no AppArmor", c.AppArmor)
	}
	if c.Label, err = label(sec.Label, host.SELinux); err != nil {
		return err
	}
	p.preset = preset
	return planLimits(p, spec, host, preset)
}

// explicit are the added capabilities: another user than root gets those, as with podman.
func explicit(granted uint64, add []string) (uint64, error) {
	if len(add) == 0 {
		return 0, nil
	}
	_, asked, err := policy.Caps(policy.Preset{}, add, nil)
	return asked & granted, err
}

func planSeccomp(p *Plan, spec *Spec, host *Host, preset policy.Preset) error {
	c, sec := &p.Command, &spec.Security
	compat32 := preset.Compat32 || spec.Image.Arch == "386"
	switch sec.Seccomp {
	case "unconfined":
		return planUnconfined(c)
	case "profile":
		filter, err := policy.Compile(sec.Profile, policy.Options{
			Arch: host.Arch, Caps: c.Caps, Compat32: true, Kernel: policy.Kernel{Major: host.Kernel[0], Minor: host.Kernel[1]},
		})
		if err != nil {
			return fmt.Errorf("--security-opt seccomp: %w", err)
		}
		c.Seccomp, c.Filter, c.FilterFlags = "profile", filter.Code, filter.Flags
		return nil
	case "":
		filter, err := policy.Seccomp(preset, c.Caps, compat32)
		if err != nil {
			return err
		}
		c.Seccomp, c.Filter, c.FilterFlags = preset.Name, filter.Code, filter.Flags
		if len(filter.Code) == 0 {
			return planUnconfined(c)
		}
		return nil
	}
	return Errorf("--security-opt seccomp: unknown mode %q", sec.Seccomp)
}

// planUnconfined leaves every call but those that reach the caller's keys.
func planUnconfined(c *Command) error {
	filter, err := policy.KeyringFilter()
	c.Seccomp, c.Filter, c.FilterFlags = "unconfined", filter.Code, filter.Flags
	return err
}

// planLimits sets the preset's limits, under what the host grants, and the user's over
// them. What the user asks for and cannot have is an error.
func planLimits(p *Plan, spec *Spec, host *Host, preset policy.Preset) error {
	limits := map[string]Rlimit{}
	if !spec.RlimitsOfHost {
		for _, r := range preset.Limits() {
			own, ok := host.Limits[r.Name]
			if !ok {
				continue
			}
			soft, hard := r.Under(uint64(own.Soft), uint64(own.Hard))
			limits[r.Name] = Rlimit{r.Name, limit(soft), limit(hard)}
		}
	}
	for _, r := range spec.Rlimits {
		own, known := host.Limits[r.Name]
		if !known {
			return Errorf("--ulimit %s: there is no such limit", r.Name)
		}
		if above(r.Soft, r.Hard) {
			return Errorf("--ulimit %s: the soft limit %d is above the hard one, %d", r.Name, r.Soft, r.Hard)
		}
		if above(r.Hard, own.Hard) {
			return &Error{
				Text: fmt.Sprintf("--ulimit %s=%d: the host's hard limit for this user is %d", r.Name, r.Hard, own.Hard),
				Fix:  fmt.Sprintf("as root, in /etc/security/limits.conf: %s hard %s %d", host.Caller.Name, r.Name, r.Hard),
			}
		}
		limits[r.Name] = r
	}
	for _, r := range limits {
		p.Command.Rlimits = append(p.Command.Rlimits, r)
	}
	slices.SortFunc(p.Command.Rlimits, func(a, b Rlimit) int { return strings.Compare(a.Name, b.Name) })
	if _, ok := limits["nproc"]; ok && host.Caller.UID == 0 {
		p.Notes = append(p.Notes, "root inside is root of the host, whom the kernel grants any number of processes")
	}
	return nil
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

// above compares limits, of which -1 is the highest.
func above(a, b int64) bool { return uint64(a) > uint64(b) }

// planInner gives the command a user namespace of its own where that pays: with
// CAP_SYS_ADMIN over the mounts' own namespace it could take masks off, with
// CAP_SYS_RESOURCE lift limits, with CAP_SYS_PTRACE look into what sbx has in there.
func planInner(p *Plan, _ *Spec, _ *Host) error {
	if p.Inner == nil && p.Command.Caps&(1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_SYS_RESOURCE|1<<unix.CAP_SYS_PTRACE) != 0 {
		identity := func(ids []userns.ID) (same []userns.ID) {
			for _, id := range ids {
				same = append(same, userns.ID{Inside: id.Inside, Outside: id.Inside, Size: id.Size})
			}
			return same
		}
		p.Inner = &userns.Map{UIDs: identity(p.IDs.UIDs), GIDs: identity(p.IDs.GIDs)}
	}
	return nil
}

// planMasks hides what says more of the host than a sandbox should know. It comes last.
func planMasks(p *Plan, spec *Spec, _ *Host) error {
	preset := p.preset
	if !p.has("net") {
		preset.Masked = slices.Concat(preset.Masked, preset.MaskedOfHost)
	}
	masked, readOnly, err := policy.Masks(preset, spec.Security.Mask, spec.Security.Unmask)
	if err != nil {
		return fmt.Errorf("--security-opt: %w", err)
	}
	for _, dst := range readOnly {
		p.step(Step{Op: opReadOnly, Dst: dst, Optional: true, Why: "policy"})
	}
	for _, dst := range masked {
		p.step(Step{Op: opMask, Dst: dst, Optional: true, Why: "policy"})
	}
	return nil
}

func (p *Plan) procOptions(spec *Spec) []string {
	var options []string
	if p.preset.HidePID != "" {
		options = append(options, "hidepid="+p.preset.HidePID)
	}
	for _, o := range spec.Security.ProcOpts {
		name, _, _ := strings.Cut(o, "=")
		options = slices.DeleteFunc(options, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		options = append(options, o)
	}
	return options
}
