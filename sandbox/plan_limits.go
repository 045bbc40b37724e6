package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"sbx/sandbox/policy"
)

// bySetrlimit holds the command to its limits: setrlimit(2), which it cannot take back.
const bySetrlimit = "setrlimit"

// limits sets the preset's limits, under what the host grants, and the user's over
// them. What the user asks for and cannot have is an error.
func (p *planner) limits() error {
	host := p.host
	limits := map[string]Limit{}
	if !p.spec.RlimitsOfHost {
		for _, r := range p.preset.Limits() {
			own, ok := host.Limits[r.Name]
			if !ok {
				continue
			}
			soft, hard := r.Under(uint64(own.Soft), uint64(own.Hard))
			limits[r.Name] = Limit{r.Name, policy.Limit(limit(soft)), policy.Limit(limit(hard)), bySetrlimit, "policy"}
		}
	}
	for _, r := range p.spec.Rlimits {
		own, known := host.Limits[r.Name]
		if !known {
			return Errorf("--ulimit %s: there is no such limit", r.Name)
		}
		if above(r.Hard, own.Hard) {
			return &Error{
				Text: fmt.Sprintf("--ulimit %s=%d: the host's hard limit for this user is %d", r.Name, r.Hard, own.Hard),
				Fix:  fmt.Sprintf("as root, in /etc/security/limits.conf: %s hard %s %d", host.Caller.Name, r.Name, r.Hard),
			}
		}
		limits[r.Name] = Limit{r.Name, policy.Limit(r.Soft), policy.Limit(r.Hard), bySetrlimit, "--ulimit"}
	}
	for _, l := range limits {
		p.Command.Limits = append(p.Command.Limits, l)
	}
	slices.SortFunc(p.Command.Limits, func(a, b Limit) int { return strings.Compare(a.Name, b.Name) })
	if _, ok := limits["nproc"]; ok && host.Caller.UID == 0 {
		p.note("root inside is root of the host, whom the kernel grants any number of processes")
	}
	return nil
}

// above compares limits, of which -1 is the highest.
func above(a, b int64) bool { return uint64(a) > uint64(b) }
