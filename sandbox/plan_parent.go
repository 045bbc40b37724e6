package sandbox

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// parent is what of a Spec concerns only the caller's process, which stays outside.
func (p *planner) parent() error {
	spec := p.spec
	p.Parent = Parent{Interactive: spec.Interactive, SigProxy: spec.SigProxy, Timeout: Duration(spec.Timeout), CIDFile: spec.CIDFile, PIDFile: spec.PIDFile}
	if len(spec.Attach) > 0 {
		attached := func(stream string) bool { return slices.Contains(spec.Attach, stream) }
		p.Parent.Interactive = spec.Interactive && attached("stdin")
		for _, stream := range []string{"stdout", "stderr"} {
			if !attached(stream) {
				p.Parent.Detached = append(p.Parent.Detached, stream)
			}
		}
		if spec.Terminal && !attached("stdout") {
			return Errorf("--attach: with --tty, stdout cannot be left out: it is the terminal")
		}
	}
	if spec.Timeout == 0 {
		return nil
	}
	signal := cmp.Or(spec.StopSignal, spec.Image.StopSignal)
	p.Parent.StopSignal = Signal(unix.SignalNum(signal))
	if n, err := strconv.Atoi(signal); err == nil {
		p.Parent.StopSignal = Signal(n)
	}
	if p.Parent.StopSignal != 0 {
		p.Parent.StopTimeout = Duration(cmp.Or(spec.StopTimeout, 10*time.Second))
	}
	return nil
}
