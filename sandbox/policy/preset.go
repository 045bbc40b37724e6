package policy

import (
	"fmt"
	"slices"
	"strings"
)

// A Preset is a whole policy under one name. What the user's flags change is
// changed in a copy of it: by Caps, Masks, WithNested, or field by field.
type Preset struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	Strict  bool   `json:"strict"` // no flag shares the host's namespaces, lifts NoNewPrivs and ReadOnlyRoot, or nests

	Caps       []string `json:"caps"`       // granted to the sandbox's root, and the bounding set of all
	NoNewPrivs bool     `json:"noNewPrivs"` // PR_SET_NO_NEW_PRIVS: setuid files and file capabilities give nothing
	NoRoot     bool     `json:"noRoot"`     // SECBIT_NOROOT, locked: uid 0 gains no capabilities by exec

	Seccomp  []string `json:"seccomp"`  // layers over Docker's profile; none: only the caller's keys are out of reach
	Compat32 bool     `json:"compat32"` // 32-bit x86 calls, whatever the image is
	Nested   bool     `json:"nested"`   // user namespaces inside, and so sandboxes

	Masked        []string `json:"masked"`        // hidden under an empty file or directory; missing ones are skipped
	MaskedOfHost  []string `json:"maskedOfHost"`  // with --network host, whose sysfs comes with all that is mounted in there
	ReadOnlyPaths []string `json:"readOnlyPaths"` // bound read-only over themselves
	HidePID       string   `json:"hidePID"`       // the option of proc; "" leaves it out
	ReadOnlyRoot  bool     `json:"readOnlyRoot"`  // with tmpfs on /run, /tmp and /var/tmp
	TmpfsSize     int64    `json:"tmpfsSize"`     // bytes, of each of those; 0 is the kernel's half of the memory
	Sysfs         string   `json:"sysfs"`         // ro, rw: that of a net namespace of its own; the host's is always ro
	Cgroupfs      string   `json:"cgroupfs"`      // ro, none
	Mqueue        bool     `json:"mqueue"`        // /dev/mqueue is mounted

	Network   string   `json:"network"`   // private, none, host: for a Spec that does not say
	PIDsLimit int      `json:"pidsLimit"` // of each user of the sandbox
	Rlimits   []Rlimit `json:"rlimits"`
}

// podmanCaps are Podman's defaults since 4.0. NET_RAW (packet forgery), MKNOD and
// AUDIT_WRITE of Docker's fourteen are not among them.
func podmanCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_SETFCAP",
	}
}

// Presets are all of them, the default one first.
func Presets() []Preset {
	return []Preset{
		{
			Name:    "default",
			Summary: "for images one knows; as compatible as podman's policy, with less of the kernel in reach",
			Caps:    podmanCaps(),
			// Off, as with podman: sudo and su in CI images need it so.
			NoNewPrivs:    false,
			Seccomp:       []string{"tty", "keyring", "io_uring", "sockets"},
			Masked:        maskedPaths(),
			MaskedOfHost:  []string{"/sys/kernel"},
			ReadOnlyPaths: readOnlyPaths(),
			HidePID:       "ptraceable",
			Sysfs:         "ro",
			Cgroupfs:      "ro",
			Mqueue:        true,
			Network:       "private",
			PIDsLimit:     2048,
			Rlimits: []Rlimit{
				// 1, not 0: at 0 a core_pattern with a pipe still starts the host's handler, with
				// the sandbox's memory as its input (CVE-2025-4598, CVE-2025-5054).
				{"core", 1, 1},
				// Programs that close or select over all descriptors are slow or break above 1024; others raise it.
				{"nofile", 1024, OfHost},
				{"msgqueue", 819200, 819200}, // of the user, in all sandboxes
			},
		},
		{
			Name:          "untrusted",
			Summary:       "for code one does not trust: no capabilities, read-only root, no way to gain privileges",
			Strict:        true,
			Caps:          []string{},
			NoNewPrivs:    true,
			NoRoot:        true,
			Seccomp:       []string{"tty", "keyring", "io_uring", "sockets-inet", "inspection", "rare"},
			Masked:        append(maskedPaths(), "/sys/block", "/sys/bus", "/sys/class", "/sys/dev", "/sys/module"),
			MaskedOfHost:  []string{"/sys/kernel"},
			ReadOnlyPaths: readOnlyPaths(),
			HidePID:       "invisible",
			ReadOnlyRoot:  true,
			TmpfsSize:     512 << 20,
			Sysfs:         "ro",
			Cgroupfs:      "none",
			Network:       "none",
			PIDsLimit:     512,
			Rlimits: []Rlimit{
				{"core", 1, 1},
				{"nofile", 1024, 4096},
				{"fsize", 10 << 30, 10 << 30},
				{"msgqueue", 819200, 819200},
			},
		},
		{
			Name:          "compat",
			Summary:       "nearly as podman runs containers: 32-bit programs, and sandboxes inside, so that no path is masked",
			Caps:          podmanCaps(),
			Seccomp:       []string{"tty", "keyring", "io_uring", "sockets-compat", "podman", "nested"},
			Compat32:      true,
			Nested:        true,
			Masked:        []string{}, // see WithNested
			MaskedOfHost:  []string{},
			ReadOnlyPaths: []string{},
			Sysfs:         "ro",
			Cgroupfs:      "ro",
			Mqueue:        true,
			Network:       "private",
			PIDsLimit:     2048,
			Rlimits:       []Rlimit{}, // else the caller's own, as with podman
		},
		{
			Name:     "privileged",
			Summary:  "everything that can be done inside the sandbox's user namespace, and never more than the caller may",
			Caps:     CapNames(),
			Seccomp:  []string{},
			Compat32: true,
			Nested:   true,
			// Not nil: JSON has lists here in every preset.
			Masked:        []string{},
			MaskedOfHost:  []string{},
			ReadOnlyPaths: []string{},
			Sysfs:         "rw",
			Cgroupfs:      "ro",
			Mqueue:        true,
			Network:       "private",
			PIDsLimit:     2048,
			Rlimits:       []Rlimit{{"core", 1, 1}},
		},
	}
}

// Find returns the preset of that name; "" is default.
func Find(name string) (Preset, error) {
	presets := Presets()
	if name == "" {
		return presets[0], nil
	}
	for _, p := range presets {
		if p.Name == name {
			return p, nil
		}
	}
	return Preset{}, &UnknownPresetError{name}
}

// UnknownPresetError is a name that is no preset.
type UnknownPresetError struct{ Name string }

func (e *UnknownPresetError) Error() string { return fmt.Sprintf("unknown preset %q", e.Name) }

// Hint lists the presets.
func (e *UnknownPresetError) Hint() string {
	var names []string
	for _, p := range Presets() {
		names = append(names, p.Name)
	}
	return "the presets are " + strings.Join(names, ", ")
}

// WithNested is the preset under --security-opt nested=true or false.
//
// The kernel mounts a new proc or sysfs only where the present one is wholly
// visible (mount_too_revealing), so nothing may be masked or read-only there.
func (p Preset) WithNested(nested bool) Preset {
	confined := len(p.Seccomp) > 0
	if p.Nested && confined && !nested {
		p.Masked, p.ReadOnlyPaths = podmanMaskedPaths(), podmanReadOnlyPaths()
	}
	p.Nested = nested
	p.Seccomp = slices.DeleteFunc(slices.Clone(p.Seccomp), func(layer string) bool { return layer == "nested" })
	if !nested {
		return p
	}
	p.Masked, p.MaskedOfHost, p.ReadOnlyPaths = []string{}, []string{}, []string{}
	if confined {
		p.Seccomp = append(p.Seccomp, "nested")
	}
	for i, layer := range p.Seccomp {
		if layer == "sockets" || layer == "sockets-inet" {
			p.Seccomp[i] = "sockets-nested"
		}
	}
	return p
}

// Limits are all that hold the command: the Rlimits, and the limit on processes.
//
// RLIMIT_NPROC counts by user namespace and user (Linux 5.14), so that neither the
// caller's other processes nor those of other sandboxes count. A command that is root may
// become several users; each has the whole number, and all of them together no more
// than the caller.
func (p Preset) Limits() []Rlimit {
	n := Limit(p.PIDsLimit)
	return append(slices.Clone(p.Rlimits), Rlimit{"nproc", n, n})
}

func (p Preset) capMask() uint64 {
	var mask uint64
	for _, name := range p.Caps {
		mask |= capMask(name)
	}
	return mask
}
