package cli

import (
	_ "embed"
	"fmt"
	"strings"
	"testing"
)

// podmanRunFlags is every flag of podman run: its name, its letter or -, and what
// was decided of it: M and S are to work, X is accepted with a warning.
//
//go:embed testdata/podman-run-flags.txt
var podmanRunFlags string

func TestEveryFlagOfPodmanRun(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(podmanRunFlags), "\n")
	if len(lines) != 152 {
		t.Fatalf("%d flags, not 152", len(lines))
	}
	table := map[string]*runFlag{}
	for i := range runFlags {
		if table[runFlags[i].name] != nil {
			t.Errorf("--%s is there twice", runFlags[i].name)
		}
		table[runFlags[i].name] = &runFlags[i]
	}
	for _, line := range lines {
		var name, short, class string
		if _, err := fmt.Sscan(line, &name, &short, &class); err != nil {
			t.Fatal(err)
		}
		f := table[strings.TrimPrefix(name, "--")]
		if f == nil {
			t.Errorf("%s is not there", name)
			continue
		}
		if short == "--net" {
			if table["net"] == nil {
				t.Errorf("--net is not there")
			}
		} else if want := strings.Trim(short, "-"); f.short != want {
			t.Errorf("%s: its letter is %q, not %q", name, f.short, want)
		}
		checkClass(t, f, class)
	}
}

func checkClass(t *testing.T, f *runFlag, class string) {
	t.Helper()
	switch name := f.name; {
	case name == "pod" || name == "pod-id-file":
		if f.class != refused {
			t.Errorf("--%s is not refused", name)
		}
	case name == "restart" || name == "systemd": // X, with a value that changes nothing
		if f.class != works {
			t.Errorf("--%s: class %d", name, f.class)
		}
	case class == "X":
		if f.class != ignored {
			t.Errorf("--%s is not ignored", name)
		}
	default:
		if f.class != works && f.class != absent {
			t.Errorf("--%s neither works nor is refused", name)
		}
	}
}

func TestFlagsOfDockerRun(t *testing.T) {
	want := map[string]class{
		"runtime": ignored, "domainname": ignored, "storage-opt": ignored, "isolation": works,
		"volume-driver": refused, "link": refused,
	}
	for i := range runFlags {
		if c, ok := want[runFlags[i].name]; ok {
			if c != runFlags[i].class {
				t.Errorf("--%s: class %d", runFlags[i].name, runFlags[i].class)
			}
			delete(want, runFlags[i].name)
		}
	}
	if len(want) != 0 {
		t.Errorf("not there: %v", want)
	}
}

// A flag does what its class says: it fills in something, warns once, or refuses.
func TestClassesBehave(t *testing.T) {
	for i := range runFlags {
		f := &runFlags[i]
		value := "x"
		if f.boolean {
			value = "true"
		}
		a, _, stderr := testAppIO()
		a.command = "run"
		v := runValue{flag: f, args: newRunArgs(a)}
		switch f.class {
		case works:
			if (f.to == nil) == (f.set == nil) || f.read != nil && f.to == nil || f.list && f.set == nil || f.note != "" {
				t.Errorf("--%s: exactly one of to and set, read with to, list with set, and no note", f.name)
			}
			if f.to != nil && f.boolean {
				if err := v.Set("true"); err != nil {
					t.Errorf("--%s: %v", f.name, err)
				}
			}
		case ignored:
			for range 2 {
				if err := v.Set(value); err != nil {
					t.Errorf("--%s: %v", f.name, err)
				}
			}
			want := "sbx: warning: run: --" + f.name + " is ignored: " + f.note + "\n"
			if stderr.String() != want {
				t.Errorf("--%s: stderr %q", f.name, stderr)
			}
		case absent, refused:
			if err := v.Set(value); err == nil || err.Error() != f.note || f.note == "" {
				t.Errorf("--%s: %v", f.name, err)
			}
			if f.boolean && v.Set("false") != nil {
				t.Errorf("--%s=false, as it is, was refused", f.name)
			}
		}
	}
}

func TestQuietValues(t *testing.T) {
	for _, args := range []string{
		"--rm", "--restart no", "--restart=", "--systemd=false", "--cgroups disabled", "--isolation default",
		"--detach-keys=", "--log-driver none", "--log-driver passthrough", "--expose 80", "--expose 80-90/udp", "--detach=false",
	} {
		if _, stderr, err := parseRun(strings.Fields(args)); err != nil || stderr != "" {
			t.Errorf("%s: %v, stderr %q", args, err, stderr)
		}
	}
	for _, args := range []string{"--restart always", "--restart unless-stopped", "--restart on-failure", "--restart on-failure:3", "--systemd true", "--systemd=always"} {
		if _, stderr, err := parseRun(strings.Fields(args)); err != nil || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %v, stderr %q", args, err, stderr)
		}
	}
	for _, args := range []string{
		"--restart", "--restart bogus", "--restart on-failure:x", "--restart always:3", "--rm=false", "--rm=perhaps", "--detach-keys ctrl-x", "--log-driver k8s-file", "--expose 0", "--expose 9-8", "--expose x",
		"--expose 80/icmp", "--isolation hyperv", "--cgroups wibble",
	} {
		if _, _, err := parseRun(strings.Fields(args)); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
}

// parseRun parses flags of sbx run, up to the Spec.
func parseRun(args []string) (r *runArgs, stderr string, err error) {
	a, _, errOut := testAppIO()
	a.command = "run"
	r = newRunArgs(a)
	r.caller.environ = func() []string { return nil }
	fs := newFlagSet("run")
	fs.SetInterspersed(false)
	r.addTo(fs)
	if err = parse(fs, args); err == nil {
		rest := fs.Args()
		if len(rest) == 0 {
			rest = []string{"image"}
		}
		err = r.finish(rest)
	}
	return r, errOut.String(), err
}

func BenchmarkParseRun(b *testing.B) {
	args := strings.Fields("run --rm -it -e A=1 -e B=2 -v /tmp:/work:ro -w /work --user 1000:1000 --network none --hostname box " +
		"--ulimit nofile=1024 --security-opt no-new-privileges image sh -c true")
	b.ReportAllocs()
	for b.Loop() {
		a := testApp()
		fs := newFlagSet("run")
		defineRun(a, fs)
		if err := parse(fs, args[1:]); err != nil {
			b.Fatal(err)
		}
	}
}
