//go:build !hot

package cli

import (
	"io/fs"
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
		if !strings.Contains(first, "    "+c.name+strings.Repeat(" ", 17-len(c.name))+c.summary+"\n") {
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
	if err != nil || len(texts) != len(commands())+2 { // sbx, network
		t.Errorf("%d texts for %d commands, %v", len(texts), len(commands()), err)
	}
}

// All ways to ask for the help of the networks' commands lead there, and it names them all.
func TestHelpOfNetwork(t *testing.T) {
	text := helpOf(t, "network")
	for _, args := range []string{"help network", "network --help", "network -h"} {
		a, stdout, stderr := testAppIO()
		if status := a.main(append([]string{"sbx"}, strings.Fields(args)...)); status != 0 || stderr.Len() != 0 || stdout.String() != text {
			t.Errorf("sbx %s: status %d, %s%s", args, status, stdout, stderr)
		}
	}
	for _, c := range commands() {
		if verb, ok := strings.CutPrefix(c.name, "network "); ok && !strings.Contains(text, "    "+verb+strings.Repeat(" ", 11-len(verb))+c.summary+"\n") {
			t.Errorf("it does not tell of %s", c.name)
		}
	}
	for _, flag := range regexp.MustCompile(`--[a-z0-9-]+`).FindAllString(section(helpOf(t, "network create")), -1) {
		if !strings.Contains(text, flag) {
			t.Errorf("it does not tell of %s of create", flag)
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		if len(line) > 110 || strings.HasSuffix(line, " ") || strings.Contains(line, "\t") {
			t.Errorf("%q", line)
		}
	}
	for args, want := range map[string]string{
		"network craete":  "did you mean sbx network create?",
		"network inpsect": "did you mean sbx network inspect?",
		"image pul":       "did you mean sbx image pull?",
		"network ":        "sbx help network",
		"network connect": "sbx run --network",
	} {
		a, _, stderr := testAppIO()
		if status := a.main(append([]string{"sbx"}, strings.Split(args, " ")...)); status != 125 || !strings.Contains(stderr.String(), want) {
			t.Errorf("sbx %s: status %d, %s", args, status, stderr)
		}
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

// What may stand in the place of the last word.
func TestComplete(t *testing.T) {
	for line, want := range map[string]string{
		"ru":                          "words run",
		"":                            "words run pull load images inspect tag rmi login logout info version completion help policy network image container",
		"--debug pu":                  "words pull",
		"--root":                      "words --root",
		"--root /":                    "directories",
		"--root /tmp ver":             "words version",
		"--log-level ":                "words debug info warn error",
		"--log-level=e":               "words --log-level=error",
		"run --vol":                   "words --volume --volume-driver --volumes-from",
		"run -v /etc/hostna":          "files",
		"run --volume=/et":            "files",
		"run --userns ":               "words host keep-id nomap auto",
		"run --userns=k":              "words --userns=keep-id",
		"run --pull n":                "words newer never",
		"run --tty=":                  "words --tty=true --tty=false",
		"run -it --cap-add SYS_T":     "words SYS_TIME SYS_TTY_CONFIG",
		"run --rootfs ":               "directories",
		"run -ith x ":                 "words",
		"run image -":                 "files",
		"run image --vol":             "files",
		"run -- -x":                   "words",
		"images --filter da":          "words dangling=true dangling=false",
		"images --so":                 "words --sort",
		"images --format j":           "words json",
		"image ":                      "words ls list rm remove pull load tag inspect",
		"image r":                     "words rm remove",
		"image rm --fo":               "words --force",
		"policy ":                     "words show",
		"policy show untr":            "words untrusted",
		"policy show --format ":       "words text json",
		"completion ":                 "words bash zsh fish",
		"completion bash ":            "words",
		"help pol":                    "words policy",
		"help policy ":                "words show",
		"help run ":                   "words",
		"load ":                       "files",
		"rmi --ig":                    "words --ignore",
		"version ":                    "words",
		"nonesuch ":                   "words",
		"run --nonesuch ":             "words",
		"run -w / --entrypoint=sh -v": "words -v",
	} {
		a, stdout, stderr := testAppIO()
		a.root = t.TempDir()
		args := append([]string{"sbx", "completion", "words", "--"}, strings.Split(line, " ")...)
		status := a.main(args)
		var got []string
		for out := range strings.Lines(stdout.String()) {
			word, _, _ := strings.Cut(strings.TrimSpace(out), "\t")
			got = append(got, word)
		}
		if got := strings.Join(got, " "); status != 0 || got != want || stderr.Len() != 0 {
			t.Errorf("%s: status %d, %q, want %q; %s", line, status, got, want, stderr)
		}
	}
}
