# fish completion for sbx:
#   sbx completion fish > ~/.config/fish/completions/sbx.fish
function __sbx_complete
	set -l cur (commandline -ct)
	set -l words (commandline -opc) $cur
	set -l lines (sbx completion words -- $words[2..-1] 2>/dev/null)
	set -l prefix (string match -r -- '^--[^=]*=' $cur)
	set -l path (string replace -r -- '^--[^=]*=' '' $cur)
	switch "$lines[1]"
		case files
			string join \n -- "$prefix"(__fish_complete_path $path)
		case directories
			string join \n -- "$prefix"(__fish_complete_directories $path)
		case '*'
			string join \n -- $lines[2..-1]
	end
end
complete -c sbx -e
complete -c sbx -f -a '(__sbx_complete)'
