package sandbox

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// planMounts adds what the user mounts: a directory before what lies in it, whatever
// the order of the flags.
func planMounts(p *Plan, spec *Spec, host *Host) error {
	if err := planImageVolumes(p, spec, host); err != nil {
		return err
	}
	mounts := slices.Clone(spec.Mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int { return depth(a.Dst) - depth(b.Dst) })
	for i, m := range mounts {
		if err := checkTarget(m.Dst); err != nil {
			return err
		}
		if m.Type == "volume" && m.Src == "" {
			planVolume(p, spec, host, m.Dst, fmt.Sprintf("anonymous%d", i), "--volume")
			continue
		}
		if err := planMount(p, host, &m, i); err != nil {
			return err
		}
	}
	return nil
}

func depth(dst string) int { return strings.Count(path.Clean(dst), "/") }

// checkTarget refuses what would be mounted over /, or over the kernel's own files,
// where sbx and programs would then believe what they read (CVE-2019-16884).
func checkTarget(dst string) error {
	clean := path.Clean(dst)
	if !path.IsAbs(dst) {
		return Errorf("mount at %q: it must be absolute", dst)
	}
	if clean == "/" {
		return &Error{Text: "mount at /: that is the root itself", Fix: "sbx run --rootfs DIR"}
	}
	if clean == "/dev" {
		return &Error{Text: "mount at /dev: sbx makes that itself", Fix: "--device NODE for a device of the host; mounts below /dev are fine"}
	}
	for _, kernel := range []string{"/proc", "/sys"} {
		if clean == kernel || strings.HasPrefix(clean, kernel+"/") && !slices.Contains(lxcfs(), clean) {
			return Errorf("mount at %s: %s belongs to the kernel", dst, kernel)
		}
	}
	return nil
}

// lxcfs are the files of /proc that lxcfs(1) replaces with what is true of a container.
func lxcfs() []string {
	return []string{"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime"}
}

func planMount(p *Plan, host *Host, m *Mount, n int) error {
	s := Step{
		Dst: m.Dst, Src: m.Src, Why: "--volume, --mount", ReadOnly: m.ReadOnly, Shallow: m.ReadOnlyShallow, NonRecursive: m.NonRecursive,
		NoSuid: or(m.NoSuid, true), NoDev: or(m.NoDev, true), NoExec: or(m.NoExec, false),
		Propagation: m.Propagation, Size: m.Size, Inodes: m.Inodes, Mode: m.Mode, UID: m.UID, GID: m.GID, Max: m.Max, Chown: m.Chown,
	}
	name := fmt.Sprintf("mount%d", n)
	switch m.Type {
	case "bind", "volume", "":
		if m.Overlay {
			return planHostOverlay(p, host, m, s, name)
		}
		s.Op = opBind
		s.CopyUp = m.Type == "volume" && !m.NoCopy
		p.step(s)
	case "tmpfs", "ramfs":
		s.Op, s.Src, s.Why = opTmpfs, "", "--tmpfs"
		s.NoExec = or(m.NoExec, true)
		s.Mode = cmp.Or(m.Mode, 0o1777)
		s.CopyUp = or(m.TmpCopyUp, p.ofImage)
		p.step(s)
	case "image":
		s.Op, s.Src, s.Layers, s.Options = opOverlay, m.Subdir, m.Layers, nil
		if m.ReadWrite {
			return planOverlay(p, host, s, name)
		}
		s.NoDev, s.ReadOnly = true, true
		p.step(s)
	case "devpts":
		s.Op, s.Src = opDevpts, ""
		s.Mode = cmp.Or(m.Mode, 0o620)
		p.step(s)
	default:
		return Errorf("mount at %s: unknown type %q", m.Dst, m.Type)
	}
	return nil
}

// planHostOverlay is -v SRC:DST:O: the changes go to a throwaway directory, or to the
// one that upperdir= names.
func planHostOverlay(p *Plan, host *Host, m *Mount, s Step, name string) error {
	s.Op, s.Src, s.Layers = opOverlay, "", []string{m.Src}
	if m.UpperDir == "" {
		return planOverlay(p, host, s, name)
	}
	s.NoDev, s.Upper, s.Work, s.Keep = true, m.UpperDir, m.WorkDir, true
	p.step(s)
	return nil
}

// planImageVolumes makes the image's VOLUMEs writable, whatever the root is. Changes to
// the root are thrown away with it, so nothing more is needed unless it is read-only.
func planImageVolumes(p *Plan, spec *Spec, host *Host) error {
	for i, dst := range spec.Image.Volumes {
		if spec.ImageVolumes == "ignore" || slices.ContainsFunc(spec.Mounts, func(m Mount) bool { return path.Clean(m.Dst) == path.Clean(dst) }) {
			continue
		}
		if err := checkTarget(dst); err != nil {
			return fmt.Errorf("volume of the image: %w", err)
		}
		if spec.ImageVolumes == "tmpfs" {
			p.step(Step{Op: opTmpfs, Dst: dst, Why: "--image-volume", Mode: 0o1777, NoSuid: true, NoDev: true})
			continue
		}
		planVolume(p, spec, host, dst, fmt.Sprintf("volume%d", i), "image")
	}
	return nil
}

// planVolume makes a volume without a name, which is thrown away with the root.
func planVolume(p *Plan, spec *Spec, host *Host, dst, name, why string) {
	s := Step{Op: opBind, Dst: dst, Why: why, CopyUp: true, NoSuid: true, NoDev: true}
	switch {
	case !spec.ReadOnly:
		s = Step{Op: opDir, Dst: dst, Mode: 0o755, Why: why}
	case host.UpperTmpfs == "":
		p.RunDir, s.Src = host.RunDir, filepath.Join(host.RunDir, name)
	default:
		s.Op, s.Mode = opTmpfs, 0o755
	}
	p.step(s)
}

// planWritable gives a read-only root places to write where programs expect them.
func planWritable(p *Plan, spec *Spec, _ *Host) error {
	if !spec.ReadOnly || !or(spec.ReadOnlyTmpfs, true) {
		return nil
	}
	for _, dst := range []string{"/run", "/tmp", "/var/tmp"} {
		if slices.ContainsFunc(p.Steps, func(s Step) bool { return path.Clean(s.Dst) == dst }) {
			continue
		}
		// What a --rootfs has there may be the host's own /run: that is not copied.
		s := Step{Op: opTmpfs, Dst: dst, Why: "--read-only-tmpfs", Mode: 0o1777, Size: p.preset.TmpfsSize, CopyUp: p.ofImage, NoSuid: true, NoDev: true}
		if dst == "/run" {
			s.Mode = 0o755
		}
		// Before whatever is mounted inside of it.
		i := slices.IndexFunc(p.Steps, func(s Step) bool { return strings.HasPrefix(path.Clean(s.Dst), dst+"/") })
		if i < 0 {
			i = len(p.Steps)
		}
		p.Steps = slices.Insert(p.Steps, i, s)
	}
	return nil
}

// planReadOnly makes the root read-only, when nothing is to be made in it any more.
func planReadOnly(p *Plan, spec *Spec, _ *Host) error {
	if spec.ReadOnly {
		p.step(Step{Op: opReadOnly, Dst: "/", Shallow: true, Why: "--read-only"})
	}
	return nil
}

func or(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}
