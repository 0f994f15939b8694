#compdef varve
# Completion of varve(1) for zsh. What may come next is worked out by varve.

_varve() {
	local answer
	local -a open closed

	for answer in "${(@f)$("${(Q)words[1]}" __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}"; do
		case $answer in
		'') ;;
		@files) _files ;;
		@dirs) _files -/ ;;
		*[:/=.]) open+=("$answer") ;;
		*) closed+=("$answer") ;;
		esac
	done
	(( ! $#closed )) || compadd -- "${(@)closed}"
	(( ! $#open )) || compadd -S '' -- "${(@)open}"
}

# Read by `source`, it registers itself; from a directory of fpath, it is the function's body.
if [ "$funcstack[1]" = _varve ]; then
	_varve "$@"
else
	compdef _varve varve
fi
