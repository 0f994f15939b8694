# shellcheck shell=bash
# builds.sh - for tests that build images: a template from a real Debian root, manifests,
# requests, and whether anything of a build is left. After lib.sh:
#
#   . "${0%/*}/builds.sh"
#   need_builds                          # else the whole test is skipped
#   start_builds '{"buildMemoryMB": 64}' # a daemon with the template "base"
#   create NAME "$(image "$(run 'make all')")" [QUERY]   # $code, $body

# What the functions below set.
# shellcheck disable=SC2034
code='' body='' build=''

need_builds() {
	need root fuse curl jq tar runc "$@"
	need_space 2000
	need_debian_root
}
# The settings are kept for further starts. The template comes with the first one.
start_builds() { # [JSON: settings]
	jq -c '{defaultTemplate: "base"} + .' <<<"${1:-{\}}" >"$T/config.json"
	start_daemon --config "$T/config.json"
	varve show base >/dev/null 2>&1 || varve import base tar "$ROOT_TAR" >/dev/null ||
		bail "the template cannot be imported"
}

# --- manifests ---
# By hand: a process of jq takes 30 ms.
# A text as a JSON string, in $json.
json_text() { # TEXT
	json=${1//\\/\\\\}
	json=${json//\"/\\\"}
	json=${json//$'\n'/\\n}
	json=${json//$'\t'/\\t}
	if [[ $json == *[[:cntrl:]]* ]]; then
		json=$(jq -cn --arg t "$1" '$t')
	else
		json="\"$json\""
	fi
}
image() { # STEP... as JSON
	local IFS=,
	printf '{"base":"base","steps":[%s]}\n' "$*"
}
run() { # COMMAND...
	local command json all=''
	for command; do
		json_text "$command"
		all+=,$json
	done
	printf '{"type":"run","args":{"commands":[%s]}}\n' "${all#,}"
}
env_step() { # NAME VALUE
	local json name
	json_text "$1"
	name=$json
	json_text "$2"
	printf '{"type":"env","args":{"vars":{%s:%s}}}\n' "$name" "$json"
}
workdir() { # PATH
	local json
	json_text "$1"
	printf '{"type":"workdir","args":{"path":%s}}\n' "$json"
}
add_file() { # PATH CONTENT [MODE]
	local json
	json_text "$1"
	printf '{"type":"add_file","args":{"path":%s,"content":"%s","encoding":"base64","mode":"%s"}}\n' \
		"$json" "$(printf %s "$2" | base64 -w 0)" "${3:-0644}"
}

# --- requests ---
# call METHOD PATH [CURL-ARGUMENT...]: $code and $body of the reply.
call() {
	local method=$1 path=$2
	shift 2
	# shellcheck disable=SC2034
	code=$(curl -sS --max-time $((300 * SLOW)) --unix-socket "$SOCK" -X "$method" -o "$T/body" \
		-w '%{http_code}' "$@" "http://localhost$path" 2>"$T/curl.err")
	read_body "$T/body" 1000000
}
request() { # NAME IMAGE: the body of a request
	local json
	json_text "$1"
	printf '{"name":%s,"image":%s}\n' "$json" "$2"
}
create() { # NAME IMAGE [QUERY]
	call POST "/api/snapshots${3:+?$3}" -d "$(request "$1" "$2")"
}
# The same with events, into FILE.
create_events() { # NAME IMAGE FILE [QUERY]
	curl -sSN --max-time $((300 * SLOW)) --unix-socket "$SOCK" -X POST -o "$3" \
		-H 'Accept: text/event-stream' -d "$(request "$1" "$2")" \
		"http://localhost/api/snapshots${4:+?$4}"
}
# Events of a type in FILE, one JSON object a line.
events() { # TYPE FILE
	awk -v t="event: $1" '$0 == t { getline; sub(/^data: /, ""); print }' "$2"
}
messages() { # FILE
	events build_log "$1" | jq -r .message
}
get() { # JQ-FILTER of the last body
	jq -r "$1" <<<"$body"
}
last_build() { # JQ-FILTER
	api GET /api/builds | jq -r ".[0] | $1"
}
build_count() {
	api GET /api/builds | jq length
}
# What the last build has failed with: "KIND STEP TYPE EXITCODE SIGNAL".
failure() {
	last_build '.state + " " + (.failure | "\(.kind) \(.step) \(.type) \(.exitCode) \(.signal)")'
}
build_is() { # ID STATE
	[ "$(api GET "/api/builds/$1" | jq -r .state)" = "$2" ]
}
# What a step that runs says, in the log so far.
log_has() { # ID TEXT
	api GET "/api/builds/$1/logs" | jq -e --arg t "$2" 'any(.[]; .message == $t)'
}
# Build an image that goes on until it is stopped; its id is in $build.
start_endless() { # NAME
	create "$1" "$(image "$(run "echo $1; exec sleep 1000")")" async=1
	build=$(get .buildID)
	until_true 60 log_has "$build" "$1"
}

# --- what may be left ---
# No mount, container, bundle, cgroup (and so no process), directory or helper.
nothing_left() {
	local id found
	found=$(
		grep -F "$STATE/builds/" /proc/mounts
		find "$STATE/run/oci" "$STATE/run/bundles" -mindepth 1 2>/dev/null
		find "$STATE/builds" -mindepth 1 -type d
		for id in $(api GET /api/builds | jq -r '.[].id'); do
			find /sys/fs/cgroup -maxdepth 3 -name "*$id*" 2>/dev/null
		done
		api GET /api/mounts | jq -r --arg d "$STATE/builds/" \
			'.[] | select(.mountpoint | startswith($d)) | "mount " + .id + " at " + .mountpoint'
	)
	[ -z "$found" ] || {
		echo "$found"
		return 1
	}
}
# A snapshot's files, beside nothing.
look_at() { # SNAPSHOT DIR
	mount_at "$1" "$2" --read-only
}
at_most_ms() { # MILLISECONDS COMMAND...
	local from to limit=$(($1 * SLOW))
	shift
	from=$(date +%s%N)
	"$@" || return
	to=$(date +%s%N)
	[ $(((to - from) / 1000000)) -le "$limit" ] || {
		echo "took $(((to - from) / 1000000)) ms"
		return 1
	}
}
