# Completion of varve(1) for bash. What may come next is worked out by varve.

_varve() {
	local cur=${COMP_WORDS[COMP_CWORD]} cword=$COMP_CWORD answer
	local -a words=("${COMP_WORDS[@]}")

	# bash divides words at ':', which is part of SNAPSHOT:PATH.
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : cur words cword
	fi
	COMPREPLY=()
	while IFS= read -r answer; do
		case $answer in
		@files)
			compopt -o filenames
			mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$cur")
			;;
		@dirs)
			compopt -o filenames
			mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- "$cur")
			;;
		*)
			[[ $answer == *[:/=.] ]] && compopt -o nospace
			COMPREPLY+=("$answer")
			;;
		esac
	done < <("${words[0]}" __complete -- "${words[@]:1:cword}" 2>/dev/null)
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	fi
}
complete -F _varve varve
