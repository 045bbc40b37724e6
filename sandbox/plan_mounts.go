package sandbox

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// mounts adds what the image and the user mount, but in /proc, which is not there yet.
func (p *planner) mounts() error {
	if err := p.imageVolumes(); err != nil {
		return err
	}
	return p.mountAll(func(dst string) bool { return !inProc(dst) })
}

func inProc(dst string) bool { return strings.HasPrefix(path.Clean(dst), "/proc/") }

// mountAll adds those of the user's mounts that are wanted: a directory before what lies in
// it, whatever the order of the flags.
func (p *planner) mountAll(wanted func(dst string) bool) error {
	mounts := slices.Clone(p.spec.Mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int { return depth(a.Dst) - depth(b.Dst) })
	for i, m := range mounts {
		if !wanted(m.Dst) {
			continue
		}
		if err := p.mount(&m, i); err != nil {
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

// checkVolume is stricter: an image mounts nothing in /dev, and no file of lxcfs's.
func checkVolume(dst string) error {
	for _, ours := range []string{"/proc/", "/sys/", "/dev/"} {
		if strings.HasPrefix(path.Clean(dst), ours) {
			return Errorf("mount at %s: that is not the image's to mount", dst)
		}
	}
	return checkTarget(dst)
}

// lxcfs are the files of /proc that lxcfs(1) replaces with what is true of a container.
func lxcfs() []string {
	return []string{"/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime"}
}

// mount adds what one flag asks for, the nth.
func (p *planner) mount(m *Mount, n int) error {
	if err := checkTarget(m.Dst); err != nil {
		return err
	}
	if m.Relabel != "" && p.host.SELinux {
		p.warn(fmt.Sprintf("%s at %s: z and Z change no SELinux label: the command has yours, and reaches what you do; for --security-opt label=type:..., chcon -Rt container_file_t %s",
			m.Flag, m.Dst, m.Src))
	}
	if m.Type == "volume" && m.Src == "" {
		p.volume(m.Dst, fmt.Sprintf("anonymous%d", n), m.Flag)
		return nil
	}
	s := Step{
		Dst: m.Dst, Src: m.Src, Why: m.Flag, ReadOnly: m.ReadOnly, Shallow: m.ReadOnlyShallow, NonRecursive: m.NonRecursive,
		NoSuid: or(m.NoSuid, true), NoDev: or(m.NoDev, true), NoExec: or(m.NoExec, false),
		Propagation: m.Propagation, Size: m.Size, Inodes: m.Inodes, Mode: Mode(m.Mode), UID: m.UID, GID: m.GID, Max: m.Max, Chown: m.Chown,
	}
	name := fmt.Sprintf("mount%d", n)
	switch m.Type {
	case "bind", "volume", "":
		if m.Overlay {
			p.hostOverlay(m, s, name)
			return nil
		}
		s.Op = opBind
		if m.Type == "volume" {
			s.Op, s.CopyUp = opVolume, !m.NoCopy
		}
		p.step(s)
	case "tmpfs":
		s.Op, s.Src = opTmpfs, ""
		s.NoExec = or(m.NoExec, true)
		s.Mode = cmp.Or(s.Mode, 0o1777)
		s.CopyUp = or(m.TmpCopyUp, p.ofImage)
		p.step(s)
	case "image":
		s.Op, s.Src, s.Layers, s.Options = opOverlay, m.Subdir, m.Layers, nil
		if m.ReadWrite {
			p.overlay(s, name)
			return nil
		}
		s.NoDev, s.ReadOnly = true, true
		p.step(s)
	case "devpts":
		s.Op, s.Src = opDevpts, ""
		s.Mode, s.NoDev, s.NoExec = cmp.Or(s.Mode, 0o620), false, true // terminals are devices
		p.step(s)
	default:
		return Errorf("mount at %s: unknown type %q", m.Dst, m.Type)
	}
	return nil
}

// hostOverlay is -v SRC:DST:O: the changes go to a throwaway directory, or to the
// one that upperdir= names.
func (p *planner) hostOverlay(m *Mount, s Step, name string) {
	s.Op, s.Src, s.Layers = opOverlay, "", []string{m.Src}
	if m.UpperDir == "" {
		p.overlay(s, name)
		return
	}
	s.NoDev, s.Upper, s.Work, s.Keep = true, m.UpperDir, m.WorkDir, true
	p.step(s)
}

// imageVolumes makes the image's VOLUMEs writable, whatever the root is. Changes to
// the root are thrown away with it, so nothing more is needed unless it is read-only.
func (p *planner) imageVolumes() error {
	spec := p.spec
	for i, dst := range spec.Image.Volumes {
		if spec.ImageVolumes == "ignore" || slices.ContainsFunc(spec.Mounts, func(m Mount) bool { return path.Clean(m.Dst) == path.Clean(dst) }) {
			continue
		}
		if err := checkVolume(dst); err != nil {
			return &Error{Text: "volume of the image", Fix: "--image-volume ignore runs it without its volumes", Err: err}
		}
		if spec.ImageVolumes == "tmpfs" {
			p.step(Step{Op: opTmpfs, Dst: dst, Why: "--image-volume", Mode: 0o1777, CopyUp: p.ofImage, NoSuid: true, NoDev: true})
			continue
		}
		p.volume(dst, fmt.Sprintf("volume%d", i), "image")
	}
	return nil
}

// volume makes a volume without a name, which is thrown away with the root.
func (p *planner) volume(dst, name, why string) {
	s := Step{Op: opVolume, Dst: dst, Why: why, CopyUp: true, NoSuid: true, NoDev: true}
	switch {
	case !p.readOnly:
		s = Step{Op: opDir, Dst: dst, Mode: 0o755, Why: why}
	case p.host.UpperTmpfs == "":
		p.RunDir, s.Src = p.host.RunDir, filepath.Join(p.host.RunDir, name, "_data")
	default:
		s.Src = filepath.Join(inMemory, name, "_data")
	}
	p.step(s)
}

// writable gives a read-only root places to write where programs expect them.
func (p *planner) writable() error {
	if !p.readOnly || !or(p.spec.ReadOnlyTmpfs, true) {
		return nil
	}
	for _, dst := range []string{"/run", "/tmp", "/var/tmp"} {
		if slices.ContainsFunc(p.Steps, func(s Step) bool { return path.Clean(s.Dst) == dst }) {
			continue
		}
		// What a --rootfs has there may be the host's own /run: that is not copied.
		s := Step{Op: opTmpfs, Dst: dst, Why: p.ofWhom, Mode: 0o1777, Size: p.preset.TmpfsSize, CopyUp: p.ofImage, NoSuid: true, NoDev: true}
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
