package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestShow(t *testing.T) {
	for _, p := range Presets() {
		for _, format := range []string{"text", "json"} {
			t.Run(p.Name+"."+format, func(t *testing.T) {
				var have bytes.Buffer
				if err := show(&have, p, format, "amd64"); err != nil {
					t.Fatal(err)
				}
				golden := "testdata/" + p.Name + "." + format
				if *update {
					current(t, golden, have.Bytes())
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(have.Bytes(), want) {
					t.Errorf("%s differs: look, then go test -run TestShow -update ./sandbox/policy", golden)
				}
				if format == "json" && !json.Valid(have.Bytes()) {
					t.Error("not JSON")
				}
			})
		}
	}
	if err := Show(&bytes.Buffer{}, Presets()[0], "yaml"); err == nil {
		t.Error("yaml is a format")
	}
}

func TestFind(t *testing.T) {
	if p, err := Find(""); err != nil || p.Name != "default" {
		t.Errorf("%s, %v", p.Name, err)
	}
	_, err := Find("strict")
	var unknown *UnknownPresetError
	if !errors.As(err, &unknown) || unknown.Hint() != "the presets are default, untrusted, compat, privileged" {
		t.Errorf("%v", err)
	}
}

func TestWithNested(t *testing.T) {
	for _, p := range Presets() {
		on := p.WithNested(true)
		if !on.Nested || len(on.Masked)+len(on.ReadOnlyPaths) > 0 {
			t.Errorf("%s nested: %v %v %v", p.Name, on.Nested, on.Masked, on.ReadOnlyPaths)
		}
		if len(p.Seccomp) > 0 != slices.Contains(on.Seccomp, "nested") {
			t.Errorf("%s nested: %v", p.Name, on.Seccomp)
		}
		off := p.WithNested(false)
		if off.Nested || slices.Contains(off.Seccomp, "nested") || !p.Nested && !slices.Equal(off.Masked, p.Masked) {
			t.Errorf("%s not nested: %v %v", p.Name, off.Nested, off.Seccomp)
		}
		if again, _ := Find(p.Name); !reflect.DeepEqual(again, p) {
			t.Errorf("%s was changed in place", p.Name)
		}
	}
}

// TestPaths: a preset masks parts of proc and sysfs alone, and no less than podman.
func TestPaths(t *testing.T) {
	for _, p := range Presets() {
		for _, name := range slices.Concat(p.Masked, p.ReadOnlyPaths) {
			if !strings.HasPrefix(name, "/proc/") && !strings.HasPrefix(name, "/sys/") {
				t.Errorf("%s: %s", p.Name, name)
			}
		}
	}
	compat, _ := Find("compat")
	for _, p := range []Preset{Presets()[0], Presets()[1], compat.WithNested(false)} {
		for _, path := range podmanMaskedPaths() {
			if !slices.Contains(p.Masked, path) {
				t.Errorf("%s does not mask %s, podman does", p.Name, path)
			}
		}
	}
}

func TestMasks(t *testing.T) {
	p := Preset{
		Masked:        []string{"/proc/acpi", "/proc/kcore", "/sys/firmware"},
		ReadOnlyPaths: []string{"/proc/bus", "/proc/sys"},
	}
	for _, test := range []struct {
		mask, unmask     []string
		masked, readOnly string
	}{
		{nil, nil, "/proc/acpi /proc/kcore /sys/firmware", "/proc/bus /proc/sys"},
		{nil, []string{"ALL"}, "", ""},
		{nil, []string{"all"}, "", ""},
		{nil, []string{"/proc/kcore"}, "/proc/acpi /sys/firmware", "/proc/bus /proc/sys"},
		{nil, []string{"/proc/*"}, "/sys/firmware", ""},
		{nil, []string{"/proc/sys:/sys/firmware"}, "/proc/acpi /proc/kcore", "/proc/bus"},
		{nil, []string{"/proc"}, "/proc/acpi /proc/kcore /sys/firmware", "/proc/bus /proc/sys"},
		{[]string{"/a:/b/../c/", "/proc/acpi"}, nil, "/proc/acpi /proc/kcore /sys/firmware /a /c", "/proc/bus /proc/sys"},
		{[]string{"/a", "/proc/sys"}, []string{"ALL"}, "/a /proc/sys", ""}, // what is masked by name stays so
	} {
		masked, readOnly, err := Masks(p, test.mask, test.unmask)
		if err != nil || strings.Join(masked, " ") != test.masked || strings.Join(readOnly, " ") != test.readOnly {
			t.Errorf("mask=%q unmask=%q: %q, %q, %v", test.mask, test.unmask, masked, readOnly, err)
		}
	}
	for _, bad := range [][2]string{{"proc/kcore", ""}, {"/", ""}, {"/..", ""}, {"", "/proc/[a"}} {
		if _, _, err := Masks(p, []string{bad[0]}, []string{bad[1]}); err == nil {
			t.Errorf("mask=%s unmask=%s: no error", bad[0], bad[1])
		}
	}
}

func TestCaps(t *testing.T) {
	for _, test := range []struct {
		preset, add, drop string
		mask              uint64
	}{
		{"default", "", "", 0x800405fb}, // podman's, as its containers show it
		{"untrusted", "", "", 0},
		{"privileged", "", "", 0x1ffffffffff},
		{"default", "net_admin", "", 0x800405fb | 1<<12},
		{"default", "CAP_NET_ADMIN cap_bpf", "", 0x800405fb | 1<<12 | 1<<39},
		{"default", "", "chown CAP_SETUID", 0x800405fb &^ (1<<0 | 1<<7)},
		{"default", "CHOWN", "", 0x800405fb},
		{"default", "", "all", 0},
		{"default", "CHOWN SYS_PTRACE", "ALL", 1<<0 | 1<<19},
		{"default", "ALL", "", 0x1ffffffffff},
		{"default", "ALL", "SYS_ADMIN", 0x1ffffffffff &^ (1 << 21)},
		{"privileged", "", "SYS_ADMIN", 0x1ffffffffff &^ (1 << 21)},
	} {
		p, err := Find(test.preset)
		if err != nil {
			t.Fatal(err)
		}
		names, mask, err := Caps(p, strings.Fields(test.add), strings.Fields(test.drop))
		if err != nil || mask != test.mask || !slices.Equal(names, NamesOf(test.mask)) {
			t.Errorf("%s +%q -%q: %#x %q, %v, want %#x", test.preset, test.add, test.drop, mask, names, err, test.mask)
		}
	}
	for _, test := range []struct{ add, drop, want string }{
		{"SYS_ADMN", "", "--cap-add: unknown capability SYS_ADMN"},
		{"", "cap_netraw", "--cap-drop: unknown capability CAP_NETRAW"},
		{"", "", "--cap-add: unknown capability "},
		{"CHOWN KILL", "KILL", "--cap-add and --cap-drop: CAP_KILL cannot be both added and dropped"},
		{"ALL", "ALL", "--cap-add and --cap-drop: ALL cannot be both added and dropped"},
	} {
		add := strings.Fields(test.add)
		if test.add+test.drop == "" {
			add = []string{""}
		}
		if _, _, err := Caps(Presets()[0], add, strings.Fields(test.drop)); err == nil || err.Error() != test.want {
			t.Errorf("+%q -%q: %v, want %s", test.add, test.drop, err, test.want)
		}
	}
	if names := CapNames(); len(names) != 41 || names[21] != "CAP_SYS_ADMIN" || names[40] != "CAP_CHECKPOINT_RESTORE" {
		t.Errorf("%d %q", len(names), names)
	}
}

func TestRlimit(t *testing.T) {
	const infinity = ^uint64(0)
	for _, test := range []struct {
		limit              Rlimit
		soft, hard         uint64 // the caller's
		wantSoft, wantHard uint64
	}{
		{Rlimit{"core", 1, 1}, 0, infinity, 1, 1},
		{Rlimit{"core", 1, 1}, 0, 0, 0, 0},
		{Rlimit{"nofile", 1024, OfHost}, 65536, 524288, 1024, 524288},
		{Rlimit{"nofile", 1024, 4096}, 512, 512, 512, 512},
		{Rlimit{"nproc", OfHost, OfHost}, 10, 20, 10, 20},
		{Rlimit{"nproc", OfHost, 15}, 18, 20, 15, 15},
		{Rlimit{"fsize", Unlimited, Unlimited}, 5, infinity, infinity, infinity},
	} {
		soft, hard := test.limit.Under(test.soft, test.hard)
		if soft != test.wantSoft || hard != test.wantHard {
			t.Errorf("%v under %d:%d: %d:%d, want %d:%d", test.limit, test.soft, test.hard, soft, hard, test.wantSoft, test.wantHard)
		}
	}
}
