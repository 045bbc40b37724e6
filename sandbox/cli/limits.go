package cli

import (
	"fmt"
	"strconv"
	"strings"

	"sbx/sandbox"
)

// parseUlimit reads one --ulimit NAME=SOFT[:HARD]; -1 and unlimited are no limit.
func parseUlimit(s string) (r sandbox.Rlimit, err error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return r, fmt.Errorf("%s: not NAME=SOFT[:HARD]", quoteArg(s))
	}
	r.Name = strings.TrimPrefix(strings.ToLower(name), "rlimit_") // the plan knows which there are
	soft, hard, ok := strings.Cut(value, ":")
	if !ok {
		hard = soft
	}
	if r.Soft, err = parseLimit(soft); err != nil {
		return r, err
	}
	if r.Hard, err = parseLimit(hard); err != nil {
		return r, err
	}
	if uint64(r.Soft) > uint64(r.Hard) { // -1 is the largest
		return r, fmt.Errorf("%s: soft limit above the hard one", quoteArg(s))
	}
	return r, nil
}

func parseLimit(s string) (int64, error) {
	if s == "unlimited" || s == "-1" {
		return -1, nil
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s: not a number", quoteArg(s))
	}
	return int64(n), nil
}

func (a *runArgs) addUlimit(s string) error {
	if s == "host" {
		a.spec.RlimitsOfHost = true
		return nil
	}
	r, err := parseUlimit(s)
	a.spec.Rlimits = append(a.spec.Rlimits, r)
	return err
}

// addSysctl checks the form; which ones a namespace has is for the plan to say.
func (a *runArgs) addSysctl(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return fmt.Errorf("%s: not NAME=VALUE", quoteArg(s))
	}
	for i := range len(key) {
		if c := key[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' && c != '/' {
			return fmt.Errorf("%s: not the name of a sysctl", quoteArg(key))
		}
	}
	if strings.Contains(key, "..") {
		return fmt.Errorf("%s: not the name of a sysctl", quoteArg(key))
	}
	a.spec.Sysctls = append(a.spec.Sysctls, sandbox.KeyValue{Key: key, Value: value})
	if strings.ContainsAny(value, "\n\x00") {
		return fmt.Errorf("%s: %w", key, errControl)
	}
	return nil
}

func (a *runArgs) setOOMScoreAdj(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < -1000 || n > 1000 {
		return fmt.Errorf("%s: not a number from -1000 to 1000", quoteArg(s))
	}
	a.spec.OOMScoreAdj = &n
	return nil
}

func (a *runArgs) setShmSize(s string) error {
	if s == "" {
		a.spec.ShmSize = nil
		return nil
	}
	n, err := parseSize(s)
	a.spec.ShmSize = &n
	return err
}

// setCgroups accepts what is so without the flag: no limits, no cgroup of its own.
func (a *runArgs) setCgroups(s string) error {
	switch s {
	case "", "disabled":
		return nil
	case "enabled", "no-conmon", "split", "auto":
		return &usageError{msg: s + ": " + noLimits}
	}
	return fmt.Errorf("%s: not one of enabled, disabled, no-conmon, split", quoteArg(s))
}
