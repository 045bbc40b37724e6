#compdef sbx
# zsh completion for sbx; put it into a directory of $fpath:
#   sbx completion zsh > "${fpath[1]}/_sbx"
_sbx() {
	local kind line word
	local -a lines open closed
	lines=("${(@f)$(sbx completion words -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
	kind=$lines[1]
	shift lines
	case $kind in
	files | directories)
		[[ $words[CURRENT] != --*=* ]] || compset -P 1 '*='
		if [[ $kind == files ]]; then
			_files
		else
			_files -/
		fi
		return
		;;
	esac
	for line in $lines; do
		word=${line%%$'\t'*}
		if [[ $word == *= ]]; then
			open+=("$word")
		else
			closed+=("${word//:/\\:}${${line#$word}/$'\t'/:}")
		fi
	done
	(($#closed)) && _describe -t words word closed
	(($#open)) && compadd -S '' -a open
}
if [[ $funcstack[1] == _sbx ]]; then
	_sbx "$@"
else
	compdef _sbx sbx
fi
