package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"sbx/sandbox/policy"
)

// kernel mounts what the kernel makes of the sandbox's namespaces. It comes after the
// command's process is there, whose namespaces these are.
func (p *planner) kernel() error {
	if p.has("pid") {
		p.step(Step{Op: opProc, Dst: "/proc", NoSuid: true, NoDev: true, NoExec: true, Options: p.procOptions(), Why: "default"})
	} else {
		p.step(Step{Op: opProc, Dst: "/proc", Src: "/proc", NoSuid: true, NoDev: true, NoExec: true, Why: "--pid"})
	}
	if err := p.mountAll(inProc); err != nil {
		return err
	}
	if p.has("net") {
		p.step(Step{Op: opSysfs, Dst: "/sys", ReadOnly: p.preset.Sysfs == "ro", NoSuid: true, NoDev: true, NoExec: true, Why: "default"})
	} else {
		// A new sysfs wants a net namespace of its own.
		p.step(Step{Op: opBind, Dst: "/sys", Src: "/sys", ReadOnly: true, NoSuid: true, NoDev: true, NoExec: true, Why: "--network"})
	}
	switch {
	case p.preset.Cgroupfs == "none":
		p.step(Step{Op: opMask, Dst: "/sys/fs/cgroup", Optional: true, Why: "policy"})
	case (p.host.Cgroup2 || p.Nested) && p.has("cgroup"): // runc in here wants one, and makes do with a read-only one
		p.step(Step{Op: opCgroup, Dst: "/sys/fs/cgroup", ReadOnly: true, NoSuid: true, NoDev: true, NoExec: true, Why: "default"})
	case !p.host.Cgroup2 && p.has("net"):
		p.note("/sys/fs/cgroup is empty: the host's is not cgroup v2")
	case !p.has("net"):
		// The bind of the host's /sys brought its cgroups along.
		p.step(Step{Op: opMask, Dst: "/sys/fs/cgroup", Optional: true, Why: "policy"})
	}
	if p.has("ipc") && p.spec.IPC != "none" && p.preset.Mqueue {
		p.step(Step{Op: opMqueue, Dst: "/dev/mqueue", NoSuid: true, NoDev: true, NoExec: true, Why: "default"})
	}
	return nil
}

func (p *planner) procOptions() []string {
	var options []string
	if p.preset.HidePID != "" {
		options = append(options, "hidepid="+p.preset.HidePID)
	}
	for _, o := range p.spec.Security.ProcOpts {
		name, _, _ := strings.Cut(o, "=")
		options = slices.DeleteFunc(options, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		options = append(options, o)
	}
	return options
}

// masks hides what says more of the host than a sandbox should know. It comes after all
// that it hides.
func (p *planner) masks() error {
	preset, sec := p.preset, &p.spec.Security
	if !p.has("net") {
		preset.Masked = slices.Concat(preset.Masked, preset.MaskedOfHost)
	}
	masked, readOnly, err := policy.Masks(preset, sec.Mask, sec.Unmask)
	if err != nil {
		return fmt.Errorf("--security-opt: %w", err)
	}
	for _, dst := range readOnly {
		p.step(Step{Op: opReadOnly, Dst: dst, Optional: true, Why: "policy"})
	}
	for _, dst := range masked {
		s := Step{Op: opMask, Dst: dst, Optional: true, Why: "policy"}
		if !slices.Contains(preset.Masked, dst) {
			s.Why = "--security-opt"
		}
		p.step(s)
	}
	return nil
}
