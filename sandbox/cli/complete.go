//go:build !hot

package cli

import (
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"sbx/sandbox"
	"sbx/sandbox/policy"
)

// A completion is what may stand in the place of the last word of a command line: files,
// directories, or one of these words.
type completion struct {
	kind  string   // files, directories, words
	words []string // WORD, or WORD<tab>EXPLANATION
}

func choice(list ...string) completion { return completion{"words", list} }

var (
	anyFile = completion{kind: "files"}
	anyDir  = completion{kind: "directories"}
)

// printWords answers the scripts: the kind of completion, and the words that begin as the last one does.
func (a *app) printWords(line []string) error {
	if len(line) == 0 {
		line = []string{""}
	}
	a.stderr = io.Discard // flags warn
	c, prefix := a.complete(line)
	cur := line[len(line)-1]
	text := c.kind + "\n"
	for _, word := range c.words {
		if word = prefix + word; strings.HasPrefix(word, cur) {
			text += word + "\n"
		}
	}
	return a.print(text)
}

// complete reads a command line up to its last word, which is unfinished. The prefix is of
// that word, and stands before each of the completion's.
func (a *app) complete(line []string) (c completion, prefix string) {
	done, cur := line[:len(line)-1], line[len(line)-1]
	fs := newFlagSet("sbx")
	defineGlobal(a, fs)
	var verb []string // one word, or two
	var args []string
	var pending *pflag.Flag // the next word is its value
	flagsEnd := false
	name := func() string { return strings.Join(verb, " ") }
	for _, word := range done {
		switch {
		case pending != nil:
			if pending.Name == "root" {
				a.root = word
			}
			pending = nil
		case !flagsEnd && word == "--":
			flagsEnd = true
		case !flagsEnd && len(word) > 1 && word[0] == '-':
			pending = awaited(fs, word)
		case len(verb) == 0 || len(verb) == 1 && verbsFollow(verb[0]):
			verb = append(verb, word)
			if found, _, err := findCommand(verb); err == nil {
				verb, fs = []string{found.name}, newFlagSet(found.name)
				found.define(a, fs)
			}
		default:
			args = append(args, word)
			flagsEnd = flagsEnd || name() == "run" // what follows IMAGE is the command's
		}
	}
	long, _, hasValue := strings.Cut(cur, "=")
	switch {
	case pending != nil:
		return a.flagValues(name(), pending.Name), ""
	case !flagsEnd && strings.HasPrefix(cur, "--") && hasValue:
		if f := fs.Lookup(long[2:]); f != nil && f.NoOptDefVal != "" {
			return choice("true", "false"), long + "="
		}
		return a.flagValues(name(), long[2:]), long + "="
	case !flagsEnd && strings.HasPrefix(cur, "-"):
		return choice(flagWords(fs)...), ""
	}
	if name() == "run" && len(args) == 0 && slices.Contains(done, "--rootfs") {
		return anyDir, ""
	}
	return a.arguments(verb, args), ""
}

// flagValues adds what only the store knows to those that are always the same.
func (a *app) flagValues(verb, flag string) completion {
	c := flagValues(verb, flag)
	if verb == "run" && (flag == "network" || flag == "net") {
		if store, err := a.store(); err == nil {
			for _, name := range sandbox.Running(store.Dir()) {
				c.words = append(c.words, "container:"+name)
			}
		}
		c.words = append(c.words, a.networkNames().words...)
	}
	return c
}

func verbsFollow(noun string) bool {
	verbs, _ := verbsOf(noun)
	return verbs != nil
}

// awaited is the flag whose value is the word after this one; nil if it has its value, or needs none.
func awaited(fs *pflag.FlagSet, word string) *pflag.Flag {
	takesValue := func(f *pflag.Flag) bool { return f != nil && f.NoOptDefVal == "" }
	if name, long := strings.CutPrefix(word, "--"); long {
		if f := fs.Lookup(name); takesValue(f) {
			return f
		}
		return nil
	}
	for i := 1; i < len(word); i++ {
		if f := fs.ShorthandLookup(word[i : i+1]); takesValue(f) {
			if i == len(word)-1 {
				return f
			}
			return nil
		}
	}
	return nil
}

func flagWords(fs *pflag.FlagSet) []string {
	list := []string{"--help"}
	fs.VisitAll(func(f *pflag.Flag) {
		list = append(list, "--"+f.Name)
		if f.Shorthand != "" {
			list = append(list, "-"+f.Shorthand)
		}
	})
	slices.Sort(list)
	return slices.Compact(list)
}

// arguments are what a command takes beside flags, behind those that it has.
func (a *app) arguments(verb, args []string) completion {
	switch {
	case len(verb) == 0:
		return choice(firstWords()...)
	case len(verb) == 1 && verbsFollow(verb[0]):
		verbs, _ := verbsOf(verb[0])
		return choice(verbs...)
	}
	switch verb[0] {
	case "run":
		if len(args) > 0 { // the command's own
			return anyFile
		}
		return a.imageNames()
	case "inspect", "rmi", "pull":
		return a.imageNames()
	case "tag", "images":
		if len(args) == 0 {
			return a.imageNames()
		}
	case "load":
		return anyFile
	case "network inspect", "network rm":
		return a.networkNames()
	case "network exists":
		if len(args) == 0 {
			return a.networkNames()
		}
	case "policy show":
		if len(args) == 0 {
			return flagValues("run", "preset")
		}
	case "completion":
		if len(args) == 0 {
			return choice("bash", "zsh", "fish")
		}
	case "help":
		switch {
		case len(args) == 0:
			return choice(firstWords()...)
		case len(args) == 1 && verbsFollow(args[0]):
			verbs, _ := verbsOf(args[0])
			return choice(verbs...)
		}
	}
	return choice()
}

// firstWords are the commands and the nouns, with what they do.
func firstWords() []string {
	var list []string
	for _, c := range commands() {
		if !strings.Contains(c.name, " ") {
			list = append(list, c.name+"\t"+c.summary)
		}
	}
	return append(list, "policy\twhat the security presets allow", "network\tnetworks of several sandboxes", "image\tpodman's and docker's longer spelling", "container\tpodman's and docker's longer spelling")
}

// imageNames are the names in the store; a store that cannot be read has none.
func (a *app) imageNames() completion {
	entries, _ := a.listImages()
	var list []string
	for _, e := range entries {
		for _, name := range e.RepoTags {
			list = append(list, name)
			if short, ok := strings.CutPrefix(name, "docker.io/library/"); ok {
				list = append(list, short)
			} else if short, ok := strings.CutPrefix(name, "localhost/"); ok {
				list = append(list, short)
			}
		}
	}
	return choice(list...)
}

// flagValues is what may follow a flag: one of a few words, or a file.
func flagValues(verb, flag string) completion {
	switch flag {
	case "userns":
		return choice("host", "keep-id", "nomap", "auto")
	case "pull", "policy":
		return choice("always", "missing", "newer", "never")
	case "preset":
		var list []string
		for _, p := range policy.Presets() {
			list = append(list, p.Name+"\t"+p.Summary)
		}
		return choice(list...)
	case "format":
		if verb == "run" || verb == "policy show" {
			return choice("text", "json")
		}
		return choice("json", "{{", "table")
	case "log-level":
		return choice("debug", "info", "warn", "error")
	case "filter":
		if strings.HasPrefix(verb, "network ") {
			return choice("name=", "id=", "label=", "driver=", "until=")
		}
		return choice("reference=", "id=", "label=", "dangling=true", "dangling=false", "readonly=true", "readonly=false", "before=", "since=", "until=")
	case "sort":
		return choice("created", "id", "repository", "size", "tag")
	case "type":
		return choice("all", "image")
	case "driver":
		return choice("bridge")
	case "ipam-driver":
		return choice("host-local")
	case "opt":
		return choice("mtu=")
	case "pid", "uts", "cgroupns":
		return choice("private", "host")
	case "ipc":
		return choice("private", "shareable", "none", "host")
	case "network", "net":
		return choice("none", "private", "private:host-loopback", "private:cidr=", "private:enable_ipv6=", "private:mtu=", "private:outbound_addr=", "private:outbound_addr6=", "bridge", "host", "container:", "ns:", "slirp4netns", "slirp4netns:allow_host_loopback=true", "pasta", "pasta:--map-gw")
	case "image-volume":
		return choice("bind", "tmpfs", "ignore")
	case "cap-add", "cap-drop":
		list := []string{"ALL"}
		for _, name := range policy.CapNames() {
			list = append(list, strings.TrimPrefix(name, "CAP_"))
		}
		return choice(list...)
	case "security-opt":
		return choice("apparmor=", "label=", "mask=", "nested=true", "no-new-privileges", "proc-opts=", "seccomp=", "systempaths=unconfined", "unmask=")
	case "platform":
		return choice("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386")
	case "attach":
		return choice("stdin", "stdout", "stderr")
	case "restart":
		return choice("no", "always", "on-failure", "unless-stopped")
	case "sdnotify":
		return choice("container", "ignore")
	case "allow", "deny", "publish", "expose":
		return choice()
	case "cert-dir", "root":
		return anyDir
	}
	return anyFile
}
