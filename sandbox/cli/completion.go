//go:build !hot

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

func defineCompletion(a *app, fs *pflag.FlagSet) action {
	return func(args []string) (int, error) {
		if err := wantArgs(args, 1, 1, "SHELL (bash, zsh or fish)"); err != nil {
			return 0, err
		}
		verbs := describe(a)
		switch args[0] {
		case "bash":
			return 0, a.print(bashCompletion(verbs))
		case "zsh":
			return 0, a.print(zshCompletion(verbs))
		case "fish":
			return 0, a.print(fishCompletion(verbs))
		}
		return 0, &usageError{msg: quoteArg(args[0]) + ": not one of bash, zsh, fish"}
	}
}

// A verb is what the completion scripts know of a command.
type verb struct {
	name, summary string
	flags         []*pflag.Flag
	words         []string // what its arguments may be; nil is images or files
	images        bool     // its arguments are images of the store
}

// describe builds the flags of every command.
func describe(a *app) []verb {
	var verbs []verb
	for _, c := range commands() {
		fs := newFlagSet(c.name)
		c.define(a, fs)
		v := verb{name: c.name, summary: c.summary}
		fs.VisitAll(func(f *pflag.Flag) { v.flags = append(v.flags, f) })
		switch c.name {
		case "run", "inspect", "tag", "rmi":
			v.images = true
		case "completion":
			v.words = []string{"bash", "zsh", "fish"}
		case "policy show":
			v.words = []string{"default", "untrusted", "compat", "privileged"}
		case "help":
			for _, other := range commands() {
				v.words = append(v.words, other.name)
			}
		}
		verbs = append(verbs, v)
	}
	return verbs
}

// takesValue reports whether the word after a flag is its value.
func takesValue(f *pflag.Flag) bool { return f.NoOptDefVal == "" }

// flagWords gives the ways to write those flags that pick chooses.
func flagWords(flags []*pflag.Flag, pick func(*pflag.Flag) bool) []string {
	var words []string
	for _, f := range flags {
		if pick(f) {
			words = append(words, "--"+f.Name)
			if f.Shorthand != "" {
				words = append(words, "-"+f.Shorthand)
			}
		}
	}
	return words
}

func all(*pflag.Flag) bool { return true }

// listImages is how a completion script asks for the names of images.
const listImages = `sbx images --noheading --format '{{.Repository}}:{{.Tag}}' 2>/dev/null`

func bashCompletion(verbs []verb) string {
	var b strings.Builder
	var names []string
	for _, v := range verbs {
		name, _, _ := strings.Cut(v.name, " ")
		names = append(names, name)
	}
	fmt.Fprintf(&b, `# bash completion for sbx; put it where bash-completion looks:
#   sbx completion bash > ~/.local/share/bash-completion/completions/sbx
_sbx() {
	local cur prev words cword
	if declare -F _init_completion >/dev/null; then
		_init_completion -n =: || return
	else
		words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
		cur=${words[cword]} prev=${words[cword-1]}
	fi
	local i verb= flags= valued= args= images=
	for ((i = 1; i < cword; i++)); do
		case ${words[i]} in
		--root | --log-level) ((i++)) ;;
		-*) ;;
		container | image) ;;
		*) verb=${words[i]}; break ;;
		esac
	done
	case $verb in
	'') args='%s' flags='--root --debug --log-level --help --version' valued='--root --log-level' ;;
`, strings.Join(names, " "))
	for _, v := range verbs {
		name, sub, _ := strings.Cut(v.name, " ")
		args := v.words
		if sub != "" {
			args = append([]string{sub}, args...)
		}
		fmt.Fprintf(&b, "\t%s)\n\t\tflags='%s'\n\t\tvalued='%s'\n", name,
			strings.Join(flagWords(v.flags, all), " "), strings.Join(flagWords(v.flags, takesValue), " "))
		if args != nil {
			fmt.Fprintf(&b, "\t\targs='%s'\n", strings.Join(args, " "))
		}
		if v.images {
			b.WriteString("\t\timages=yes\n")
		}
		b.WriteString("\t\t;;\n")
	}
	fmt.Fprintf(&b, `	esac
	if [[ " $valued " == *" $prev "* ]]; then
		COMPREPLY=($(compgen -f -- "$cur"))
		compopt -o filenames 2>/dev/null
		return
	fi
	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$flags" -- "$cur"))
		return
	fi
	[[ $images ]] && args="$args $(%s)"
	COMPREPLY=($(compgen -W "$args" -- "$cur"))
	declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
}
complete -o default -F _sbx sbx
`, listImages)
	return b.String()
}

func zshCompletion(verbs []verb) string {
	var b strings.Builder
	fmt.Fprintf(&b, `#compdef sbx
# zsh completion for sbx; put it into a directory of $fpath:
#   sbx completion zsh > "${fpath[1]}/_sbx"
_sbx_images() {
	local -a images
	images=(${(f)"$(%s)"})
	compadd -a images
}
_sbx() {
	local curcontext="$curcontext" state line
	local -a verbs
	verbs=(
`, listImages)
	for _, v := range verbs {
		name, _, _ := strings.Cut(v.name, " ")
		fmt.Fprintf(&b, "\t\t'%s:%s'\n", name, v.summary)
	}
	b.WriteString(`	)
	_arguments -C \
		'--root[where images and volumes live]:directory:_files -/' \
		'--debug[say more]' \
		'--log-level[say more or less]:level:(debug info warn error)' \
		'--help[explain]' '--version[show the version]' \
		'1:command:->verb' '*::argument:->args'
	case $state in
	verb) _describe command verbs ;;
	args)
		case $words[1] in
`)
	for _, v := range verbs {
		name, sub, _ := strings.Cut(v.name, " ")
		fmt.Fprintf(&b, "\t\t%s)\n\t\t\t_arguments -S", name)
		for _, f := range v.flags {
			value := ""
			if takesValue(f) {
				value = ":" + f.Name + ":_files"
			}
			fmt.Fprintf(&b, " \\\n\t\t\t\t'*--%s%s%s'", f.Name, strings.Repeat("=", min(1, len(value))), value)
			if f.Shorthand != "" {
				fmt.Fprintf(&b, " '*-%s%s'", f.Shorthand, value)
			}
		}
		switch {
		case v.name == "run":
			b.WriteString(" \\\n\t\t\t\t'1:image:_sbx_images' '*::command:_normal'")
		case v.images:
			b.WriteString(" \\\n\t\t\t\t'*:image:_sbx_images'")
		case sub != "":
			fmt.Fprintf(&b, " \\\n\t\t\t\t'1::(%s)' '2::(%s)'", sub, strings.Join(v.words, " "))
		case v.words != nil:
			fmt.Fprintf(&b, " \\\n\t\t\t\t'1::(%s)'", strings.Join(v.words, " "))
		default:
			b.WriteString(" \\\n\t\t\t\t'*:file:_files'")
		}
		b.WriteString("\n\t\t\t;;\n")
	}
	b.WriteString(`		esac
		;;
	esac
}
compdef _sbx sbx 2>/dev/null
[[ $funcstack[1] == _sbx ]] && _sbx "$@"
`)
	return b.String()
}

func fishCompletion(verbs []verb) string {
	var b strings.Builder
	b.WriteString(`# fish completion for sbx:
#   sbx completion fish > ~/.config/fish/completions/sbx.fish
complete -c sbx -n __fish_use_subcommand -l root -r -d 'where images and volumes live'
complete -c sbx -n __fish_use_subcommand -l debug -d 'say more'
complete -c sbx -n __fish_use_subcommand -l log-level -x -a 'debug info warn error'
complete -c sbx -n __fish_use_subcommand -l help -d 'explain'
complete -c sbx -n __fish_use_subcommand -l version -d 'show the version'
`)
	for _, v := range verbs {
		name, sub, _ := strings.Cut(v.name, " ")
		when := "'__fish_seen_subcommand_from " + name + "'"
		fmt.Fprintf(&b, "complete -c sbx -n __fish_use_subcommand -f -a %s -d '%s'\n", name, v.summary)
		for _, f := range v.flags {
			fmt.Fprintf(&b, "complete -c sbx -n %s -l %s", when, f.Name)
			if f.Shorthand != "" {
				fmt.Fprintf(&b, " -s %s", f.Shorthand)
			}
			if takesValue(f) {
				b.WriteString(" -r")
			}
			b.WriteByte('\n')
		}
		args := v.words
		if sub != "" {
			args = append([]string{sub}, args...)
		}
		if args != nil {
			fmt.Fprintf(&b, "complete -c sbx -n %s -f -a '%s'\n", when, strings.Join(args, " "))
		}
		if v.images {
			fmt.Fprintf(&b, "complete -c sbx -n %s -f -a \"(%s)\"\n", when, listImages)
		}
	}
	return b.String()
}
