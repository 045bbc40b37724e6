// Package cli is the command line of sbx: arguments in, messages and exit status out.
//
//	sbx [global flags] VERB [flags] [ARG...]
//
// Main finds VERB in the table below, builds that command's flags and no
// others, and runs it. Flags stop at the first argument that is none: what
// follows an IMAGE belongs to the command in the sandbox. What a run's flags ask
// for becomes a sandbox.Spec; what happens then is package sandbox's business.
//
// stdout carries data only. Everything else is said on stderr, one line at a
// time, behind `sbx: `. A failure is one such line, and a second one, `sbx: hint: `,
// where something is known to help. The exit status is 125 when sbx failed, 126
// and 127 when the command could not be invoked or was not found, and the
// command's own otherwise.
package cli

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"unsafe"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"sbx/sandbox"
	"sbx/sandbox/image"
)

// An action is what a command does once its flags are parsed. The first result
// is the exit status; it counts only without an error.
type action func(args []string) (int, error)

// A command is one verb.
type command struct {
	name    string
	summary string
	define  func(*app, *pflag.FlagSet) action // declares the flags; costs nothing else
}

type longForm struct{ noun, verb, name string }

// longForms are podman's and docker's longer spellings, and the verbs of policy and network.
var longForms = [...]longForm{
	{"container", "run", "run"},
	{"image", "ls", "images"}, {"image", "list", "images"}, {"image", "rm", "rmi"}, {"image", "remove", "rmi"},
	{"image", "pull", "pull"}, {"image", "load", "load"}, {"image", "tag", "tag"}, {"image", "inspect", "inspect"},
	{"policy", "show", "policy show"},
	{"network", "create", "network create"}, {"network", "ls", "network ls"}, {"network", "list", "network ls"}, {"network", "inspect", "network inspect"},
	{"network", "rm", "network rm"}, {"network", "remove", "network rm"}, {"network", "prune", "network prune"}, {"network", "exists", "network exists"},
}

// verbsOf are the words that may follow a noun; none for a word that is no noun. page is the
// help that explains them: of the only command there is, that of the noun, or the first page, "".
func verbsOf(noun string) (verbs []string, page string) {
	for _, l := range longForms {
		if l.noun == noun {
			verbs, page = append(verbs, l.verb), l.name
		}
	}
	switch {
	case noun == "network":
		page = noun
	case len(verbs) > 1:
		page = ""
	}
	return verbs, page
}

// app is one invocation of sbx.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) (string, bool)

	commit  func() // called when something begins that cannot be taken back; may be nil
	command string // the verb, for messages
	root    string // --root; "" is the usual place
	debug   bool
	quiet   bool // --log-level error: no warnings
}

// Main runs sbx with argv and returns its exit status.
func Main(argv []string) int {
	unix.Umask(0o022) // the caller's is not for the files that sbx keeps
	// Executed from memory, the process has the name of that.
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.StringData("sbx\x00"))), 0, 0, 0)
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.LookupEnv}
	return a.main(argv)
}

func (a *app) main(argv []string) (status int) {
	defer func() {
		if v := recover(); v != nil {
			status = a.bug(v)
		}
	}()
	if len(argv) == 0 {
		argv = []string{"sbx"}
	}
	if err := refusePrivilege(); err != nil {
		return a.report(err)
	}
	status, err := a.dispatch(argv[1:])
	if err != nil {
		return a.report(err)
	}
	return status
}

// bug tells of a panic, and returns the exit status.
func (a *app) bug(v any) int {
	fmt.Fprintf(a.stderr, "sbx: bug: %s\n", sandbox.OneLine(fmt.Sprint(v)))
	if a.debug {
		a.stderr.Write(debug.Stack())
	}
	return statusFailed
}

// dispatch parses what stands before the verb, finds it, and runs it.
func (a *app) dispatch(args []string) (int, error) {
	fs := newFlagSet("sbx")
	fs.SetInterspersed(false)
	showVersion := defineGlobal(a, fs)
	if err := parse(fs, args); err != nil {
		if err == pflag.ErrHelp {
			return 0, a.help("")
		}
		return 0, err
	}
	args = fs.Args()
	switch {
	case *showVersion:
		return 0, a.printVersion("")
	case len(args) == 0:
		return 0, &usageError{msg: "no command given", hint: "sbx help lists the commands"}
	}
	if verbs, page := verbsOf(args[0]); verbs != nil && len(args) == 2 && (args[1] == "--help" || args[1] == "-h") {
		return 0, a.help(page)
	}
	c, rest, err := findCommand(args)
	if err != nil {
		return 0, err
	}
	a.command = c.name
	return a.run(c, rest)
}

// run parses the flags of c and does what it does.
func (a *app) run(c *command, args []string) (int, error) {
	fs := newFlagSet(c.name)
	do := c.define(a, fs)
	if err := parse(fs, args); err == pflag.ErrHelp {
		return 0, a.help(c.name)
	} else if err != nil {
		return 0, blame(c.name, err)
	}
	status, err := do(fs.Args())
	return status, blame(c.name, err)
}

// findCommand returns the command that args begin with, and what follows it.
func findCommand(args []string) (*command, []string, error) {
	name, rest := args[0], args[1:]
	if verbs, page := verbsOf(name); verbs != nil {
		hint := "after " + name + " comes " + strings.Join(verbs, ", ")
		if len(rest) == 0 {
			return nil, nil, &usageError{msg: name + " is not a whole command", hint: hint}
		}
		name, rest = name+" "+rest[0], rest[1:]
		i := slices.IndexFunc(longForms[:], func(l longForm) bool { return l.noun+" "+l.verb == name })
		if i < 0 {
			near := nearest(args[1], verbs)
			switch {
			case name == "network connect" || name == "network disconnect":
				hint = "a sandbox is on the networks that sbx run --network names, from its beginning to its end"
			case near != "":
				hint = "did you mean sbx " + args[0] + " " + near + "?"
			case page == args[0]:
				hint += "; sbx help " + page
			}
			return nil, nil, &usageError{msg: "unknown command: " + quoteArg(name), hint: hint}
		}
		name = longForms[i].name
	}
	table := commands()
	for i := range table {
		if table[i].name == name {
			return &table[i], rest, nil
		}
	}
	if what := lacking(name); what != "" {
		return nil, nil, &usageError{msg: name + ": " + what, hint: "sbx help lists the commands"}
	}
	err := &usageError{msg: "unknown command: " + quoteArg(name), hint: "sbx help lists the commands"}
	names := make([]string, len(table))
	for i := range table {
		names[i] = table[i].name
	}
	if near := nearest(name, names); near != "" {
		err.hint = "did you mean sbx " + near + "?"
	}
	return nil, nil, err
}

// lacking says what a command of podman's is for that sbx does not have; "" for other words.
func lacking(name string) string {
	switch name {
	case "attach", "cp", "create", "diff", "exec", "kill", "logs", "pause", "port", "ps", "rename", "restart", "rm",
		"start", "stats", "stop", "top", "unpause", "update", "wait":
		return noDetach
	case "volume":
		return "commands for volumes are not built into this version of sbx"
	case "build", "commit", "export", "history", "import", "push", "save", "search", "untag":
		return "making and sending images is not built into this version of sbx"
	}
	return ""
}

// defineGlobal declares the flags that stand before the verb.
func defineGlobal(a *app, fs *pflag.FlagSet) (version *bool) {
	fs.StringVar(&a.root, "root", "", "")
	fs.BoolVar(&a.debug, "debug", false, "")
	fs.Var(parsed(a.setLogLevel), "log-level", "")
	return fs.BoolP("version", "v", false, "")
}

// setLogLevel reads --log-level: there is nothing between a warning and --debug.
func (a *app) setLogLevel(s string) error {
	a.debug, a.quiet = false, false
	switch strings.ToLower(s) {
	case "debug", "trace":
		a.debug = true
	case "info", "warn", "warning":
	case "error", "fatal", "panic":
		a.quiet = true
	default:
		return fmt.Errorf("%s: not one of debug, info, warn, error", quoteArg(s))
	}
	return nil
}

// store is where images and volumes live.
func (a *app) store() (*image.Store, error) {
	store, err := image.Open(a.root)
	if err != nil {
		return nil, err
	}
	store.Note = a.note
	// A run sweeps when it has nothing else to do; and nobody waits for that at a key's press.
	if a.command != "run" && a.command != "completion" {
		if err := sandbox.Sweep(store.Dir()); err != nil {
			a.warn("%v", err)
		}
	}
	return store, nil
}

// note says one line on stderr that needs no action.
func (a *app) note(format string, args ...any) {
	fmt.Fprintf(a.stderr, "sbx: note: %s\n", sandbox.OneLine(fmt.Sprintf(format, args...)))
}

// warn says one line on stderr and goes on.
func (a *app) warn(format string, args ...any) {
	if a.quiet {
		return
	}
	fmt.Fprintf(a.stderr, "sbx: warning: %s: %s\n", a.command, sandbox.OneLine(fmt.Sprintf(format, args...)))
}

// debugf says one line on stderr if --debug was given.
func (a *app) debugf(format string, args ...any) {
	if a.debug {
		fmt.Fprintf(a.stderr, "sbx: debug: %s\n", sandbox.OneLine(fmt.Sprintf(format, args...)))
	}
}

// print writes s to stdout. A full disk or a closed pipe is an error like any other.
func (a *app) print(s string) error {
	if _, err := io.WriteString(a.stdout, s); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}
