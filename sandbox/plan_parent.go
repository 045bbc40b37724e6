package sandbox

import (
	"cmp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// parent is what of a Spec concerns only the caller's process, which stays outside.
func (p *planner) parent() error {
	spec := p.spec
	p.Parent = Parent{Interactive: spec.Interactive, SigProxy: spec.SigProxy, Timeout: Duration(spec.Timeout)}
	if spec.Timeout == 0 {
		return nil
	}
	p.Parent.StopSignal = Signal(unix.SignalNum(spec.StopSignal))
	if n, err := strconv.Atoi(spec.StopSignal); err == nil {
		p.Parent.StopSignal = Signal(n)
	}
	if p.Parent.StopSignal != 0 {
		p.Parent.StopTimeout = Duration(cmp.Or(spec.StopTimeout, 10*time.Second))
	}
	return nil
}
