package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Show writes a preset for people (text) or programs (json): what it grants, and
// what its filter answers to each call of this machine.
func Show(w io.Writer, p Preset, format string) error { return show(w, p, format, runtime.GOARCH) }

func show(w io.Writer, p Preset, format, arch string) error {
	f, err := describe(p, arch)
	if err != nil {
		return err
	}
	switch format {
	case "", "text":
		return showText(w, p, f)
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			Preset
			Filter *description `json:"filter"`
		}{p, f})
	}
	return fmt.Errorf("format %q: want text or json", format)
}

// A description is a filter in words.
type description struct {
	Arch        string              `json:"arch"`
	Base        string              `json:"base"`
	Layers      []described         `json:"layers"`
	Allowed     []string            `json:"allowed"`
	Denied      map[string][]string `json:"denied"`      // by the answer
	Conditional map[string][]string `json:"conditional"` // by the call: its rules
}

type described struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// describe says what the filter of a preset does.
func describe(p Preset, arch string) (*description, error) {
	m, err := machineOf(arch)
	if err != nil {
		return nil, err
	}
	base, layers, err := partsOf(p, p.capMask())
	if err != nil {
		return nil, err
	}
	v, err := base.verdicts(m, Options{Arch: arch, Caps: p.capMask()}, layers)
	if err != nil {
		return nil, err
	}
	d := description{
		Arch: arch, Base: "github.com/moby/profiles/seccomp v0.2.3", Layers: []described{},
		Allowed: []string{}, Denied: map[string][]string{}, Conditional: map[string][]string{},
	}
	if len(p.Seccomp) == 0 {
		d.Base = "unconfined but for the caller's keys"
	}
	for _, l := range layers {
		d.Layers = append(d.Layers, described{l.name, l.why})
	}
	table := syscallsOf(arch)
	for nr, said := range v.byNumber(table) {
		d.say(table[nr], said)
	}
	return &d, nil
}

func (d *description) say(name string, said verdict) {
	switch {
	case name == "":
	case len(said.rules) > 0:
		for _, r := range said.rules {
			d.Conditional[name] = append(d.Conditional[name], answer(r.action)+" if "+condition(r.tests))
		}
		d.Conditional[name] = append(d.Conditional[name], "else "+answer(said.last))
	case said.last == actAllow:
		d.Allowed = append(d.Allowed, name)
	default:
		d.Denied[answer(said.last)] = append(d.Denied[answer(said.last)], name)
	}
}

func answer(action uint32) string {
	if action == actAllow {
		return "allow"
	}
	return unix.ErrnoName(syscall.Errno(action &^ actMask)) // presets have no other actions
}

func condition(tests []test) string {
	var all []string
	for _, t := range tests {
		all = append(all, t.String())
	}
	return strings.Join(all, " and ")
}

func (t test) String() string {
	switch {
	case t.op == opArgMasked && t.value == math.MaxUint32:
		return fmt.Sprintf("int arg%d == %#x", t.arg, t.value2)
	case t.op == opArgMasked:
		return fmt.Sprintf("arg%d & %#x == %#x", t.arg, t.value, t.value2)
	}
	return fmt.Sprintf("arg%d %s %#x", t.arg, []string{"!=", "<", "<=", "==", ">=", ">"}[t.op], t.value)
}

func showText(w io.Writer, p Preset, f *description) error {
	var b strings.Builder
	line := func(name, value string) {
		fmt.Fprintf(&b, "%-15s %s\n", name, value)
	}
	list := func(name string, values []string) {
		if len(values) == 0 {
			values = []string{"none"}
		}
		for _, text := range wrap(values, 84) {
			line(name, text)
			name = ""
		}
	}
	line("preset", p.Name)
	line("", p.Summary)
	list("capabilities", p.Caps)
	line("no new privs", onOff(p.NoNewPrivs))
	line("no root", onOff(p.NoRoot))
	line("nested", onOff(p.Nested))
	line("32-bit calls", onOff(p.Compat32))
	line("read-only root", readOnlyRoot(p))
	line("hidepid", orOff(p.HidePID))
	line("sysfs", p.Sysfs)
	line("cgroupfs", cgroupfs(p))
	line("mqueue", onOff(p.Mqueue))
	line("network", p.Network+", without --network")
	line("pids limit", fmt.Sprintf("%d processes and threads of each user of the sandbox (RLIMIT_NPROC)", p.PIDsLimit))
	var limits []string
	for _, r := range p.Rlimits {
		limits = append(limits, fmt.Sprintf("%s=%s:%s", r.Name, r.Soft, r.Hard))
	}
	list("rlimits", limits)
	list("masked", p.Masked)
	if len(p.MaskedOfHost) > 0 {
		line("", strings.Join(p.MaskedOfHost, " ")+", with --network host")
	}
	list("read-only", p.ReadOnlyPaths)
	over := ":"
	if len(f.Layers) > 0 {
		over = ", and over it:"
	}
	line("seccomp", f.Base+", "+f.Arch+over)
	for _, l := range f.Layers {
		line("  "+l.Name, l.Why)
	}
	for _, errno := range slices.Sorted(maps.Keys(f.Denied)) {
		list("  "+errno, f.Denied[errno])
	}
	for _, call := range slices.Sorted(maps.Keys(f.Conditional)) {
		name := "  " + call
		for _, text := range f.Conditional[call] {
			line(name, text)
			name = ""
		}
	}
	line("  allowed", fmt.Sprintf("%d others", len(f.Allowed)))
	if len(p.Seccomp) > 0 {
		line("  unknown", "ENOSYS; of another architecture: the process is killed")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func readOnlyRoot(p Preset) string {
	if !p.ReadOnlyRoot {
		return "off"
	}
	return fmt.Sprintf("on, with tmpfs of %d MiB each on /run, /tmp and /var/tmp", p.TmpfsSize>>20)
}

func cgroupfs(p Preset) string {
	if p.Cgroupfs == "ro" {
		return "ro, where the host has cgroup v2"
	}
	return p.Cgroupfs
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func orOff(text string) string {
	if text == "" {
		return "off"
	}
	return text
}

// wrap joins words to lines of at most width bytes.
func wrap(words []string, width int) []string {
	lines := []string{words[0]}
	for _, word := range words[1:] {
		last := &lines[len(lines)-1]
		if len(*last)+1+len(word) > width {
			lines = append(lines, word)
			continue
		}
		*last += " " + word
	}
	return lines
}
