# bash completion for sbx; put it where bash-completion looks:
#   sbx completion bash > ~/.local/share/bash-completion/completions/sbx
# shellcheck shell=bash
_sbx() {
	local cur word kind breaks prefix='' words=() i
	# bash takes words apart at = and :, which are part of ours.
	breaks=${COMP_WORDBREAKS//[^=:]/}
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n =: -c cur -w words -i i
		words=("${words[@]:0:i+1}")
	else
		for ((i = 0; i <= COMP_CWORD; i++)); do
			word=${COMP_WORDS[i]}
			if ((i > 1)) && [[ $word == [=:]* || ${words[-1]} == *[=:] ]]; then
				words[-1]+=$word
			else
				words+=("$word")
			fi
		done
		cur=${words[-1]}
	fi
	[[ -n $breaks ]] && prefix=${cur%"${cur##*["$breaks"]}"} # what stays as it is

	COMPREPLY=()
	{
		read -r kind
		while IFS=$'\t' read -r word _; do
			COMPREPLY+=("${word#"$prefix"}")
			[[ $word != *= ]] || compopt -o nospace 2>/dev/null
		done
	} < <(sbx completion words -- "${words[@]:1}" 2>/dev/null)
	case $kind in
	files) mapfile -t COMPREPLY < <(compgen -f -- "${cur#"$prefix"}") ;;
	directories) mapfile -t COMPREPLY < <(compgen -d -- "${cur#"$prefix"}") ;;
	*) return ;;
	esac
	compopt -o filenames 2>/dev/null
}
complete -F _sbx sbx
