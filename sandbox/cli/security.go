package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sbx/sandbox/policy"
)

func preset(s string) (string, error) {
	_, err := policy.Find(s)
	return s, err
}

// addCapability takes the name of a capability, with or without its CAP_, or ALL.
func addCapability(to *[]string, s string) error {
	name := strings.TrimPrefix(strings.ToUpper(s), "CAP_")
	if known := policy.CapNames(); name != "ALL" && !slices.Contains(known, "CAP_"+name) {
		err := &usageError{msg: quoteArg(s) + ": no such capability"}
		if near := nearest("CAP_"+name, known); near != "" {
			err.hint = "did you mean " + strings.TrimPrefix(near, "CAP_") + "?"
		}
		return err
	}
	*to = append(*to, name)
	return nil
}

func (a *runArgs) capAdd(s string) error  { return addCapability(&a.spec.Security.CapAdd, s) }
func (a *runArgs) capDrop(s string) error { return addCapability(&a.spec.Security.CapDrop, s) }

// addSecurityOpt reads one --security-opt. docker also writes a colon for the first =.
func (a *runArgs) addSecurityOpt(s string) (err error) {
	sec := &a.spec.Security
	key, value, hasValue := s, "", false
	if i := strings.IndexAny(s, "=:"); i >= 0 {
		key, value, hasValue = s[:i], s[i+1:], true
	}
	if hasValue && value == "" {
		return fmt.Errorf("%s: needs a value", quoteArg(key))
	}
	switch key {
	case "seccomp":
		err = a.setSeccomp(value)
	case "no-new-privileges":
		sec.NoNewPrivs, err = optionalBool(value, hasValue)
	case "nested":
		sec.Nested, err = optionalBool(value, hasValue)
	case "mask":
		err = addPaths(&sec.Mask, value)
	case "unmask":
		if strings.EqualFold(value, "all") {
			sec.Unmask = append(sec.Unmask, "ALL")
			return nil
		}
		err = addPaths(&sec.Unmask, value)
	case "systempaths":
		if value != "unconfined" {
			return fmt.Errorf("systempaths=%s: not unconfined", quoteArg(value))
		}
		sec.Unmask = append(sec.Unmask, "ALL")
	case "proc-opts":
		for opt := range strings.SplitSeq(value, ",") {
			if err := checkProcOption(opt); err != nil {
				return err
			}
			sec.ProcOpts = append(sec.ProcOpts, opt)
		}
	case "label":
		word, _, _ := strings.Cut(value, ":")
		switch word {
		case "disable", "nested", "user", "role", "type", "level", "filetype":
			sec.Label = append(sec.Label, value)
			return noControl(value)
		}
		err = fmt.Errorf("label=%s: unknown", quoteArg(value))
	case "apparmor":
		sec.AppArmor = value
		err = noControl(value)
	default:
		err = fmt.Errorf("%s: unknown option", quoteArg(key))
	}
	return err
}

func optionalBool(value string, hasValue bool) (*bool, error) {
	if !hasValue {
		value = "true"
	}
	b, err := parseBool(value)
	return &b, err
}

// addPaths reads absolute paths, or globs of them, between colons.
func addPaths(to *[]string, s string) error {
	for p := range strings.SplitSeq(s, ":") {
		p, err := insidePath(p)
		if err != nil {
			return err
		}
		*to = append(*to, p)
	}
	return nil
}

// checkProcOption accepts the options of proc(5) that make it show less. Anything
// else, gid= above all, would show more.
func checkProcOption(s string) error {
	switch s {
	case "hidepid=0", "hidepid=1", "hidepid=2", "hidepid=4",
		"hidepid=off", "hidepid=noaccess", "hidepid=invisible", "hidepid=ptraceable", "subset=pid":
		return nil
	}
	return fmt.Errorf("proc-opts: %s: not hidepid= or subset=pid", quoteArg(s))
}

// setSeccomp reads seccomp=unconfined, or a profile; it is compiled with the plan.
func (a *runArgs) setSeccomp(value string) error {
	sec := &a.spec.Security
	switch value {
	case "unconfined":
		sec.Seccomp, sec.Profile = "unconfined", nil
		return nil
	case "builtin", "default":
		sec.Seccomp, sec.Profile = "", nil
		return nil
	}
	profile, err := readText(value, maxTextFile)
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	if !json.Valid(profile) {
		return fmt.Errorf("seccomp: %s: not JSON", quoteArg(value))
	}
	sec.Seccomp, sec.Profile = "profile", profile
	return nil
}

// setIsolation is docker's, and has one value outside Windows.
func (a *runArgs) setIsolation(s string) error {
	if s == "" || s == "default" {
		return nil
	}
	return fmt.Errorf("%s: not default", quoteArg(s))
}

// finishSecurity is --privileged, which is a preset under another name.
func (a *runArgs) finishSecurity() error {
	sec := &a.spec.Security
	if !a.privileged {
		return nil
	}
	if sec.Preset != "" && sec.Preset != "privileged" {
		return &usageError{msg: "--privileged and --preset " + sec.Preset + " exclude each other"}
	}
	sec.Preset = "privileged"
	return nil
}
