# Completion of varve(1) for fish. What may come next is worked out by varve.

function __varve_complete
	set -l words (commandline -opc)
	set -l last (commandline -ct)

	for answer in ($words[1] __complete -- $words[2..-1] "$last" 2>/dev/null)
		switch $answer
			case @files
				__fish_complete_path $last
			case @dirs
				__fish_complete_directories $last ''
			case '*'
				echo $answer
		end
	end
end
complete -c varve -f -a '(__varve_complete)'
