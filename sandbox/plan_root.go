package sandbox

import (
	"errors"
	"path/filepath"
	"strings"
)

// maxLayers: overlayfs stacks 500 lower directories (OVL_MAX_STACK, overlayfs.rst), and one
// is ours, with the places to mount on.
const maxLayers = 499

// root puts the tree that was asked for at /.
func (p *planner) root() error {
	root := &p.spec.Root
	switch {
	case len(root.Layers) > maxLayers:
		return Errorf("%s has %d layers: more than %d cannot be stacked", root.Label, len(root.Layers), maxLayers)
	case p.ofImage:
		p.overlay(Step{Dst: "/", Layers: root.Layers, Why: "image"}, "root")
	case root.Overlay:
		p.overlay(Step{Dst: "/", Layers: []string{root.Dir}, Why: "--rootfs"}, "root")
	default:
		p.step(Step{Op: opBind, Dst: "/", Src: root.Dir, NoDev: true, Why: "--rootfs"})
	}
	return nil
}

// readOnlyRoot makes the root read-only, when nothing is to be made in it any more.
func (p *planner) readOnlyRoot() error {
	if p.readOnly {
		p.step(Step{Op: opReadOnly, Dst: "/", Shallow: true, Why: p.ofWhom})
	}
	return nil
}

// overlay adds an overlay whose changes are thrown away. They lie on disk in a
// directory of the run, which whoever finds it unlocked removes; or in memory, where
// the kernel takes no upper directory on that disk.
func (p *planner) overlay(s Step, name string) {
	host := p.host
	s.Op, s.NoDev = opOverlay, true
	refused := host.UpperTmpfs
	if within, err := filepath.Rel(s.Layers[0], host.RunDir); refused == "" && err == nil && !strings.HasPrefix(within, "../") {
		refused = "it lies in " + s.Layers[0] // overlayfs takes no upper directory in a lower one
	}
	switch {
	case refused == host.UpperTmpfs && refused != "" && host.UpperFUSE && host.NoFUSE == "" && p.Overlay == "":
		s.FUSE = p.Runs + " cannot hold the upper directory of the kernel's: " + refused
		p.upperOnDisk(&s, name)
	case refused == host.UpperTmpfs && host.UpperFUSE && p.Overlay == "fuse":
		p.upperOnDisk(&s, name)
	case refused != "":
		s.Upper, s.Work = inMemory, inMemory
		p.note("changes are kept in memory: " + p.Runs + " cannot hold the upper directory of an overlay: " + refused)
	default:
		p.upperOnDisk(&s, name)
	}
	p.step(s)
}

func (p *planner) upperOnDisk(s *Step, name string) {
	p.RunDir = p.host.RunDir
	s.Upper = filepath.Join(p.RunDir, name+".upper")
	s.Work = filepath.Join(p.RunDir, name+".work")
}

// overFUSE has all overlays served by sbx, where the caller wants that.
func (p *planner) overFUSE() error {
	switch p.Overlay {
	case "", "kernel":
		return nil
	case "fuse":
	default:
		return &Error{Text: "SBX_OVERLAY=" + p.Overlay, Err: errors.New("there is no such overlay"), Fix: "it is kernel or fuse; without the variable, whichever this host allows"}
	}
	if p.host.NoFUSE != "" {
		return &Error{Text: "SBX_OVERLAY=fuse: " + p.host.NoFUSE, Fix: "in a container, that must have the device /dev/fuse"}
	}
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Op == opOverlay {
			s.FUSE = "SBX_OVERLAY=fuse"
		}
	}
	return nil
}

// inMemory stands for a directory in the sandbox's own tmpfs.
const inMemory = "tmpfs"
