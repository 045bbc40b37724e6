package cli

import (
	"bytes"
	"io/fs"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The flags of a command and of its help are the same, with their letters.
func TestHelpTellsEveryFlag(t *testing.T) {
	word := regexp.MustCompile(`(?:(-[a-zA-Z]), )?--([a-z][a-z0-9-]*)`)
	for _, c := range append(commands(), command{name: "sbx", define: func(a *app, fs *pflag.FlagSet) action {
		defineGlobal(a, fs)
		return nil
	}}) {
		text := helpOf(t, c.name)
		told := map[string]string{"help": ""}
		for _, line := range strings.Split(section(text), "\n") {
			for _, m := range word.FindAllStringSubmatch(line, -1) {
				told[m[2]] = strings.Trim(m[1], "-")
			}
		}
		flags := newFlagSet(c.name)
		c.define(testApp(), flags)
		flags.VisitAll(func(f *pflag.Flag) {
			if short, ok := told[f.Name]; !ok {
				t.Errorf("help %s does not tell of --%s", c.name, f.Name)
			} else if short != f.Shorthand {
				t.Errorf("help %s: the letter of --%s is %q, not %q", c.name, f.Name, f.Shorthand, short)
			}
		})
		for name := range told {
			if name != "help" && flags.Lookup(name) == nil {
				t.Errorf("help %s tells of --%s, which is no flag", c.name, name)
			}
		}
	}
}

// section is what follows the examples: there the flags are.
func section(text string) string {
	_, after, _ := strings.Cut(text, "\nExamples\n")
	if _, flags, ok := strings.Cut(text, "\nFlags\n"); ok {
		flags, _, _ = strings.Cut(flags, "\nThe longer spellings")
		return flags
	}
	_, flags, _ := strings.Cut(after, "\n\n")
	return flags
}

func helpOf(t *testing.T, name string) string {
	t.Helper()
	a, stdout, _ := testAppIO()
	if name == "sbx" {
		name = ""
	}
	if err := a.help(name); err != nil {
		t.Fatal(err)
	}
	return stdout.String()
}

func TestHelpForEveryCommand(t *testing.T) {
	first := helpOf(t, "")
	for _, c := range commands() {
		if !strings.Contains(first, "    "+c.name+strings.Repeat(" ", 13-len(c.name))+c.summary+"\n") {
			t.Errorf("sbx help does not list %s: %s", c.name, c.summary)
		}
		text := helpOf(t, c.name)
		if !strings.Contains(text, "\nExamples\n    ") || !strings.Contains(text, "    sbx "+c.name) {
			t.Errorf("help %s lacks its form, or examples", c.name)
		}
		for line := range strings.SplitSeq(text, "\n") {
			if len(line) > 110 || strings.HasSuffix(line, " ") || strings.Contains(line, "\t") {
				t.Errorf("help %s: %q", c.name, line)
			}
		}
		var outs []string
		for _, args := range [][]string{{"help"}, nil} {
			a, stdout, stderr := testAppIO()
			argv := append(append([]string{"sbx"}, args...), strings.Fields(c.name)...)
			if args == nil {
				argv = append(argv, "--help")
			}
			if status := a.main(argv); status != 0 || stderr.Len() != 0 {
				t.Errorf("%q: status %d, stderr %s", argv, status, stderr)
			}
			outs = append(outs, stdout.String())
		}
		if outs[0] != text || outs[1] != text {
			t.Errorf("sbx help %s and sbx %s --help differ", c.name, c.name)
		}
	}
	texts, err := fs.Glob(helpTexts, "help/*.txt")
	if err != nil || len(texts) != len(commands())+1 {
		t.Errorf("%d texts for %d commands, %v", len(texts), len(commands()), err)
	}
}

// -h is help, but for run, where it is the host name as with podman and docker.
func TestShortHelp(t *testing.T) {
	a, stdout, _ := testAppIO()
	if status := a.main([]string{"sbx", "images", "-h"}); status != 0 || !strings.HasPrefix(stdout.String(), "List the images") {
		t.Errorf("status %d, %s", status, stdout)
	}
	r, _, err := parseRun([]string{"-h", "box"})
	if err != nil || r.spec.Hostname != "box" {
		t.Errorf("host name %q, %v", r.spec.Hostname, err)
	}
}

// The examples of the help are at least flags that parse.
func TestHelpExamplesParse(t *testing.T) {
	for _, c := range commands() {
		for line := range strings.SplitSeq(helpOf(t, c.name), "\n") {
			line, ok := strings.CutPrefix(line, "    sbx ")
			if !ok || strings.ContainsAny(line, "[]|>") {
				continue
			}
			found, rest, err := findCommand(words(t, line))
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			if strings.Contains(line, "./input") || strings.HasSuffix(line, "...") && c.name != "run" {
				continue // needs a file; is the form
			}
			flags := newFlagSet(found.name)
			found.define(testApp(), flags)
			if err := parse(flags, rest); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

func TestCompletion(t *testing.T) {
	for shell, check := range map[string][]string{
		"bash": {"bash", "-n"},
		"zsh":  {"zsh", "-n"},
		"fish": {"fish", "--no-execute"},
	} {
		a, stdout, stderr := testAppIO()
		if status := a.main([]string{"sbx", "completion", shell}); status != 0 {
			t.Fatalf("%s: %s", shell, stderr)
		}
		for _, want := range []string{"volume", "untrusted", "tls-verify", "rmi", "sbx images"} {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%s: no %s", shell, want)
			}
		}
		if _, err := exec.LookPath(check[0]); err != nil {
			continue // the script was looked at as text
		}
		cmd := exec.Command(check[0], check[1:]...)
		cmd.Stdin = bytes.NewReader(stdout.Bytes())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
}

// The script is asked as bash asks it.
func TestBashCompletes(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("no bash")
	}
	a, script, _ := testAppIO()
	if status := a.main([]string{"sbx", "completion", "bash"}); status != 0 {
		t.Fatal(status)
	}
	for line, want := range map[string]string{
		"sbx ru":                 "run",
		"sbx run --vol":          "--volume --volume-driver --volumes-from",
		"sbx --debug pu":         "pull",
		"sbx policy show untr":   "untrusted",
		"sbx run alp":            "alpine:3.20",
		"sbx completion f":       "fish",
		"sbx rmi --ig":           "--ignore",
		"sbx run -v /etc/hostna": "/etc/hostname",
	} {
		cmd := exec.Command("bash", "--norc")
		cmd.Stdin = strings.NewReader(script.String() + `
sbx() { echo alpine:3.20; }
COMP_WORDS=(` + line + `) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE='` + line + `'
_sbx; echo "${COMPREPLY[@]}"
`)
		out, err := cmd.Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", line, got, err, want)
		}
	}
}
