package cli

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// testApp is an app with nothing around it.
func testApp() *app {
	a, _, _ := testAppIO()
	return a
}

func testAppIO() (a *app, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	env := map[string]string{"HOME": "/home/ada"}
	return &app{
		root:   "/data",
		stdin:  strings.NewReader(""),
		stdout: stdout,
		stderr: stderr,
		getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}, stdout, stderr
}

// Every mistake is one line on stderr, a hint where there is one, 125, and nothing on stdout.
func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		args string
		want string
	}{
		{"", "sbx: no command given\nsbx: hint: sbx help lists the commands\n"},
		{"wibble", "sbx: unknown command: wibble\nsbx: hint: sbx help lists the commands\n"},
		{"exec x sh", "sbx: exec: sandboxes in the background are not built into this version of sbx\nsbx: hint: sbx help lists the commands\n"},
		{"build .", "sbx: build: making and sending images is not built into this version of sbx\nsbx: hint: sbx help lists the commands\n"},
		{"rum", "sbx: unknown command: rum\nsbx: hint: did you mean sbx run?\n"},
		{"image wibble", "sbx: unknown command: \"image wibble\"\nsbx: hint: after image comes ls, list, rm, remove, pull, load, tag, inspect\n"},
		{"network connect a b", "sbx: unknown command: \"network connect\"\nsbx: hint: a sandbox is on the networks that sbx run --network names, from its beginning to its end\n"},
		{"container", "sbx: container is not a whole command\nsbx: hint: after container comes run\n"},
		{"policy", "sbx: policy is not a whole command\nsbx: hint: after policy comes show\n"},
		{"policy show foo", "sbx: policy show: unknown preset \"foo\"\nsbx: hint: the presets are default, untrusted, compat, privileged\n"},
		{"policy show default --format=yaml", "sbx: policy show: --format: yaml: neither text nor json\n"},
		{"images a b", "sbx: images: too many arguments: b\nsbx: hint: it takes one NAME\n"},
		{"pull UPPER", "sbx: pull: image name \"UPPER\": upper case in \"UPPER\": repository names are lower case\n"},
		{"tag x https://y", "sbx: tag: image name \"https://y\": https:// is not part of a name\nsbx: hint: write HOST/PATH:TAG, without a scheme\n"},
		{"run -h", "sbx: run: --hostname: needs a value\nsbx: hint: sbx help run\n"},
		{"run --cap-add SYS_ADMN x", "sbx: run: --cap-add: SYS_ADMN: no such capability\nsbx: hint: did you mean SYS_ADMIN?\n"},
		{"run --cap-drop netraw x", "sbx: run: --cap-drop: netraw: no such capability\nsbx: hint: did you mean NET_RAW?\n"},
		{"run --timeout 99999999999 x", "sbx: run: --timeout: 99999999999: not a time like 30s or 2m3s, from 0 to 290 years\n"},
		{"run --creds foo x", "sbx: run: --creds: not USER:PASSWORD\nsbx: hint: sbx login asks for the password\n"},
		{"run --authfile /no/such x", "sbx: run: --authfile: stat /no/such: no such file or directory\n"},
		{"pull --cert-dir /no/such x", "sbx: pull: --cert-dir: stat /no/such: no such file or directory\n"},
		{"--wibble", "sbx: unknown flag: --wibble\nsbx: hint: sbx help lists the flags; those of a command follow it\n"},
		{"--log-level loud run", "sbx: --log-level: loud: not one of debug, info, warn, error\n"},
		{"run", "sbx: run: no image given\nsbx: hint: sbx run [flags] IMAGE [COMMAND [ARG...]]\n"},
		{"run --foo x", "sbx: run: unknown flag: --foo\nsbx: hint: sbx help run lists the flags\n"},
		{"run --volum /a:/b x", "sbx: run: unknown flag: --volum\nsbx: hint: did you mean --volume?\n"},
		{"run --workdri / x", "sbx: run: unknown flag: --workdri\nsbx: hint: did you mean --workdir?\n"},
		{"run -iZ x", "sbx: run: unknown flag: -Z\nsbx: hint: sbx help run lists the flags\n"},
		{"run --user", "sbx: run: --user: needs a value\nsbx: hint: sbx help run\n"},
		{"run ---x", "sbx: run: bad flag: ---x\n"},
		{"run --memory 1g x", "sbx: run: --memory: resource limits are not built into this version of sbx\nsbx: hint: --ulimit nproc=100 bounds processes, --ulimit as=1000000000 the memory of each, --timeout the time\n"},
		{"run -m1g x", "sbx: run: --memory: resource limits are not built into this version of sbx\nsbx: hint: --ulimit nproc=100 bounds processes, --ulimit as=1000000000 the memory of each, --timeout the time\n"},
		{"run -d x", "sbx: run: --detach: sandboxes in the background are not built into this version of sbx\nsbx: hint: a shell's & puts sbx in the background; the sandbox ends with it\n"},
		{"run -itd x", "sbx: run: --detach: sandboxes in the background are not built into this version of sbx\nsbx: hint: a shell's & puts sbx in the background; the sandbox ends with it\n"},
		{"run --name ../../x x", "sbx: run: --name: ../../x: not a name of a sandbox\n"},
		{"run --pod p x", "sbx: run: --pod: there are no pods\n"},
		{"run --network prviate x", "sbx: run: --network: network prviate: no such network\nsbx: hint: did you mean private? Or else sbx network create prviate makes it; sbx network ls lists those that there are\n"},
		{"run --network host-loopback x", "sbx: run: --network: network host-loopback: no such network\nsbx: hint: did you mean private:host-loopback? Or else sbx network create host-loopback makes it; sbx network ls lists those that there are\n"},
		{"run --allow a.example, x", "sbx: run: --allow: \"a.example,\": the rule after a comma is empty\nsbx: hint: between commas there are several rules; one alone has none\n"},
		{"run --deny ,a.example x", "sbx: run: --deny: \",a.example\": the rule before a comma is empty\nsbx: hint: between commas there are several rules; one alone has none\n"},
		{"run --network wibble x", "sbx: run: --network: network wibble: no such network\nsbx: hint: sbx network create wibble makes it; sbx network ls lists those that there are\n"},
		{"run --ipc container:x x", "sbx: run: --ipc: container:x: joining a namespace is not built into this version of sbx\n"},
		{"run --tty=perhaps x", "sbx: run: --tty: perhaps: neither true nor false\n"},
		{"run --privileged --preset untrusted x", "sbx: run: --privileged and --preset untrusted exclude each other\n"},
		{"run --platform linux/arm64 --arch arm64 x", "sbx: run: --platform excludes --os, --arch and --variant\n"},
		{"run --format json x", "sbx: run: --format goes with --dry-run\n"},
		{"run --cgroups enabled x", "sbx: run: --cgroups: enabled: resource limits are not built into this version of sbx\n"},
		{"run --rootfs / --wibble true", "sbx: run: unknown flag: --wibble\nsbx: hint: sbx help run lists the flags\n"},
		{"run --rootfs / --shm-size x true", "sbx: run: --shm-size: x: not a size like 64m (b, k, m, g)\n"},
		{"run --platform x y", "sbx: run: --platform: x: not OS/ARCH[/VARIANT]\nsbx: hint: for example linux/arm64 or linux/arm/v7\n"},
		{"run --platform linux/vax y", "sbx: run: --platform: linux/vax: not OS/ARCH[/VARIANT]\nsbx: hint: for example linux/arm64 or linux/arm/v7\n"},
		{"rnu x", "sbx: unknown command: rnu\nsbx: hint: did you mean sbx run?\n"},
		{"run -v /no/such:/x y", "sbx: run: --volume: stat /no/such: no such file or directory\nsbx: hint: the source must exist; create it, or give the name of a volume\n"},
		{"run --mount type=bind,src=/no/such,dst=/x y", "sbx: run: --mount: stat /no/such: no such file or directory\nsbx: hint: the source must exist; create it\n"},
		{"help wibble", "sbx: help: unknown command: wibble\nsbx: hint: sbx help lists the commands\n"},
		{"pull -a x", "sbx: pull: --all-tags: the tags of a repository are not listed by this version of sbx\nsbx: hint: name each: sbx pull NAME:TAG NAME:TAG\n"},
		{"completion tcsh", "sbx: completion: tcsh: not one of bash, zsh, fish\n"},
		{"version x", "sbx: version: takes no argument: x\n"},
		{"version --format {{.Foo}}", "sbx: version: --format: there is no field .Foo\nsbx: hint: json, or a Go template like {{.Version}}; the fields are .Version .Commit .BuiltAt .GoVersion .OsArch\n"},
		{"version --format {{", "sbx: version: --format: 1: unclosed action\nsbx: hint: json, or a Go template like {{.Version}}; the fields are .Version .Commit .BuiltAt .GoVersion .OsArch\n"},
	} {
		a, stdout, stderr := testAppIO()
		status := a.main(append([]string{"sbx"}, strings.Fields(test.args)...))
		if status != 125 || stderr.String() != test.want || stdout.Len() != 0 {
			t.Errorf("sbx %s: status %d, stdout %q, stderr:\n%swant:\n%s", test.args, status, stdout, stderr, test.want)
		}
	}
}

func TestFlagsStopAtImage(t *testing.T) {
	a := testApp()
	r := newRunArgs(a)
	fs := newFlagSet("run")
	fs.SetInterspersed(false)
	r.addTo(fs)
	if err := parse(fs, []string{"-it", "-e", "A=1", "image", "-d", "--memory", "1g", "--", "-x"}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(fs.Args(), " "); got != "image -d --memory 1g -- -x" {
		t.Errorf("arguments: %s", got)
	}
	if !r.spec.Interactive || !r.spec.Terminal {
		t.Error("-it was not both")
	}
}

func TestPanicIsABug(t *testing.T) {
	for _, debug := range []bool{false, true} {
		a, _, stderr := testAppIO()
		a.getenv = func(string) (string, bool) { panic("the sky\nfell") }
		if status := a.main([]string{"sbx", fmt.Sprintf("--debug=%v", debug), "run", "-e", "X", "image"}); status != 125 {
			t.Errorf("status %d", status)
		}
		first, rest, _ := strings.Cut(stderr.String(), "\n")
		if first != "sbx: bug: the sky; fell" {
			t.Errorf("stderr: %s", stderr)
		}
		if debug != strings.Contains(rest, "goroutine") {
			t.Errorf("debug=%v: stderr: %s", debug, stderr)
		}
	}
}

type statusError int

func (e statusError) Error() string   { return "exec /x: no such file" }
func (e statusError) ExitStatus() int { return int(e) }
func (e statusError) Hint() string    { return "first\nsecond" }

func TestReport(t *testing.T) {
	a, _, stderr := testAppIO()
	if status := a.report(errors.Join(errors.New("run"), statusError(127))); status != 127 {
		t.Errorf("status %d", status)
	}
	want := "sbx: run; exec /x: no such file\nsbx: hint: first\nsbx: hint: second\n"
	if stderr.String() != want {
		t.Errorf("stderr:\n%swant:\n%s", stderr, want)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"volume", "volumes-from", "env", "env-file", "user", "userns"}
	for in, want := range map[string]string{
		"volum": "volume", "volumw": "volume", "usre": "user", "usr": "user", "usern": "userns", "evn": "env", "xyz": "",
		strings.Repeat("v", 100): "",
	} {
		if got := nearest(in, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}
