package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// maskedPaths is what Docker or Podman masks, and what tells of the host or
// lets a kernel bug be reached. The one with a star is a pattern for the host's sysfs.
func maskedPaths() []string {
	return []string{
		"/proc/acpi",
		"/proc/asound",
		"/proc/config.gz",
		"/proc/interrupts", // timing of key strokes, of other sandboxes
		"/proc/iomem",
		"/proc/kallsyms",
		"/proc/kcore",
		"/proc/key-users", // keys are not in a namespace
		"/proc/keys",
		"/proc/kmsg",
		"/proc/kpagecgroup",
		"/proc/kpagecount",
		"/proc/kpageflags",
		"/proc/latency_stats",
		"/proc/sched_debug", // before Linux 5.13: processes of the whole host
		"/proc/scsi",
		"/proc/timer_list", // before Linux 4.15 and where not hidden: kernel addresses
		"/proc/timer_stats",
		"/sys/dev/block",
		"/sys/devices/system/cpu/cpu*/thermal_throttle",
		"/sys/devices/virtual/dmi",      // serial numbers
		"/sys/devices/virtual/powercap", // PLATYPUS, CVE-2020-8694: what others compute, by the power they take
		"/sys/firmware",
		"/sys/fs/bpf",
		"/sys/fs/pstore",
		"/sys/fs/selinux",
		"/sys/kernel/debug",
		"/sys/kernel/mm",
		"/sys/kernel/security",
		"/sys/kernel/tracing",
	}
}

func readOnlyPaths() []string {
	return append(podmanReadOnlyPaths(), "/proc/pressure") // writing arms triggers in the kernel
}

func podmanMaskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/dev/block", "/sys/devices/system/cpu/cpu*/thermal_throttle",
		"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
	}
}

func podmanReadOnlyPaths() []string {
	return []string{"/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// Masks returns what is masked and what is read-only after --security-opt
// mask=A:B and unmask=ALL, or paths and patterns: Podman's rules. What the user
// masks is masked, whatever is unmasked. Expand the preset's patterns before, and
// one of their paths can be unmasked alone.
func Masks(p Preset, mask, unmask []string) (masked, readOnly []string, err error) {
	patterns := split(unmask)
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, nil, fmt.Errorf("unmask %s: %w", pattern, err)
		}
	}
	shown := func(path string) bool { return matchesAny(patterns, path) }
	masked = slices.DeleteFunc(slices.Clone(p.Masked), shown)
	readOnly = slices.DeleteFunc(slices.Clone(p.ReadOnlyPaths), shown)

	for _, name := range split(mask) {
		clean := path.Clean(name)
		if !path.IsAbs(clean) || clean == "/" {
			return nil, nil, fmt.Errorf("mask %s: want an absolute path other than /", name)
		}
		if !slices.Contains(masked, clean) {
			masked = append(masked, clean)
		}
	}
	return masked, readOnly, nil
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // a bad pattern was refused before
		return ok || strings.EqualFold(pattern, "all")
	})
}

func split(lists []string) []string {
	var paths []string
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ":") {
			if name != "" {
				paths = append(paths, name)
			}
		}
	}
	return paths
}
