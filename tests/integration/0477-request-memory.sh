#!/bin/bash
# What clients and programs make the daemon hold stays within requestMemoryBytes, and what has no
# room is told: floods of output, of large bodies, lists of what is large,
# clients that do not take their replies.
# tags: sandbox
# timeout: 200
. "${0%/*}/lib.sh"
need root fuse curl jq runc busybox
file -L "$(command -v busybox)" | grep -q static || skip_all 'needs busybox-static'

mkdir -p "$T"/root/{bin,etc,tmp}
cp "$(command -v busybox)" "$T/root/bin/busybox"
for c in sh head echo; do ln -s busybox "$T/root/bin/$c"; done
limit=128 # MiB; half of it for output
echo "{\"defaultTemplate\": \"tiny\", \"requestMemoryBytes\": $((limit << 20))}" >"$T/config.json"
start_daemon --config "$T/config.json"
varve import tiny dir "$T/root" >/dev/null || bail 'the template cannot be imported'

mib() { # VmRSS|VmHWM
	awk -v k="$1:" '$1 == k { print int($2 / 1024) }' "/proc/$DAEMON/status"
}
peak_begins() {
	echo 5 >"/proc/$DAEMON/clear_refs"
	base=$(mib VmRSS)
}
# Beside the limit: threads of the requests, malloc's slack, copies on their way.
peak_is_bounded() { # DESCRIPTION
	local grown=$(($(mib VmHWM) - base))
	diag "$1: grew by $grown MiB"
	ok "$1: grew by $grown MiB" test $grown -le $((limit + 48))
}
held() { # PART
	api GET /metrics | sed -n "s/^snapshotd_request_memory_bytes{part=\"$1\"} //p"
}
nothing_held() { # PART
	local i
	for ((i = 0; i < 100 * SLOW; i++)); do
		[ "$(held "$1")" != 0 ] || return 0
		pause 0.1
	done
	return 1
}
create() {
	api POST /api/sandboxes '{}' | jq -r .sandboxID
}
flood() { # SANDBOX MIB: id of a program that writes as much
	api POST "/api/sandboxes/$1/exec/run-async" \
		"{\"cmd\":\"head\",\"args\":[\"-c\",\"$(($2 << 20))\",\"/dev/zero\"]}" | jq -r .execId
}
ended() { # SANDBOX EXEC
	local i
	for ((i = 0; i < 100 * SLOW; i++)); do
		api GET "/api/sandboxes/$1/exec/$2/result" >"$T/result"
		[ "$(head -c 17 "$T/result")" = '{"running":true}' ] || return 0
		pause 0.1
	done
	return 1
}

one=$(create)
two=$(create)
is 'metrics tell the limit' "$(api GET /metrics | sed -n 's/^snapshotd_request_memory_limit_bytes //p')" $((limit << 20))

# --- output that nobody fetches ---
peak_begins
for _ in 1 2 3 4; do
	flood "$one" 16 >/dev/null
	flood "$one" 16 >/dev/null
	last=$(flood "$two" 12)
done
ended "$two" "$last"
peak_is_bounded 'a flood of output'
ok '... keeps to half of the limit' test "$(held output)" -le $((limit << 19))
not_ok '... and is kept' test "$(held output)" = 0
is 'what was cut says so' "$(jq -r '.truncated or (.stdout | length) == 12582912' "$T/result")" true
run() { # SANDBOX MIB
	api POST "/api/sandboxes/$1/exec/run" \
		"{\"cmd\":\"head\",\"args\":[\"-c\",\"$(($2 << 20))\",\"/dev/zero\"]}"
}
is 'a sandbox that keeps little gets room from who keeps much' "$(run "$(create)" 4 | jq '.stdout | length')" $((4 << 20))
run "$two" 16 >"$T/result" &
run "$one" 16 >"$T/result1" &
run "$one" 16 >"$T/result2"
wait $!
is 'no room for all: truncated, with a note' \
	"$(cat "$T"/result1 "$T"/result2 | jq -r 'select(.truncated) | .stdout[-60:]' | head -n 1 | grep -c requestMemoryBytes)" 1
api DELETE "/api/sandboxes/$one" >/dev/null
api DELETE "/api/sandboxes/$two" >/dev/null
ok 'a sandbox that is killed holds nothing' nothing_held output

# --- large bodies ---
{
	printf '{"image":{"base":"base","steps":['
	head -c 15M /dev/zero | tr '\0' ' '
	printf ']},"nonsense":['
	yes '[],' | head -n 60000 | tr -d '\n'
	printf '[]]}'
} >"$T/body"
peak_begins
post() { # PATH CURL-ARGUMENT...
	curl -sS --max-time $((60 * SLOW)) --unix-socket "$SOCK" -o "$T/reply.$BASHPID" -H 'Expect:' \
		-H 'Content-Type: application/json' -w '%{http_code} %header{retry-after}\n' "${@:2}" "http://x$1"
}
for _ in {1..24}; do
	post /api/images --data-binary "@$T/body" >>"$T/codes" &
	pids+=($!)
done
wait "${pids[@]}"
peak_is_bounded 'a flood of bodies'
is 'each had its reply, and who found no room is told when to come again' \
	"$(sort -u "$T/codes" | grep -vx -e '200 ' -e '422 ' -e '400 ' -e '503 5')" ''
ok '... which some did not' grep -qx '503 5' "$T/codes"
ok 'nothing of it is held any more' nothing_held bodies
head -c 70000 "$T/body" >"$T/small"
is 'a call that needs little takes little' "$(post /api/mounts --data-binary "@$T/small")" '413 '
like '... and says how much' "$(cat "$T"/reply.*)" 'larger than 64 KiB'
rm -f "$T"/reply.* "$T/body"

# --- a list of what is large ---
# Each snapshot tells its manifest; the image is built once.
head -c 6M /dev/zero | base64 -w 0 >"$T/base64"
image() { # NAME
	printf '{"name":"%s","image":{"base":"base","steps":[{"type":"add_file","args":{"path":"/big","encoding":"base64","content":"' "$1"
	cat "$T/base64"
	printf '"}}]}}'
}
for i in {1..10}; do
	image "large$i" >"$T/image"
	codes+=$(post /api/snapshots --data-binary "@$T/image")
done
is 'snapshots of a large manifest are made' "$codes" "$(printf '201 %.0s' {1..10})"
for what in snapshots snapshots/large10/history; do
	peak_begins
	curl -sS --unix-socket "$SOCK" "http://x/api/$what" >"$T/list"
	grown=$(($(mib VmHWM) - base))
	ok "GET $what holds one at a time: grew by $grown MiB" test $grown -le 64
	is '... and all come' "$(jq -r '[.[] | select(.manifest).name] | length' "$T/list")" \
		"$([ $what = snapshots ] && echo 10 || echo 1)"
done
rm -f "$T"/reply.* "$T/image" "$T/base64" "$T/list"

# --- clients that do not take what they asked for ---
one=$(create)
peak_begins
readers=()
for _ in {1..16}; do
	curl -sS --unix-socket "$SOCK" --limit-rate 20K -H 'Content-Type: application/json' \
		-d '{"cmd":"head","args":["-c","4000000","/dev/zero"]}' \
		"http://x/api/sandboxes/$one/exec/run" >/dev/null 2>&1 &
	readers+=($!)
done
sleep 2
peak_is_bounded 'slow readers of output'
ok '... keep to half of the limit' test "$(held output)" -le $((limit << 19))
kill "${readers[@]}"
wait "${readers[@]}" 2>/dev/null
ok '... and nothing when they have gone' nothing_held output
api DELETE "/api/sandboxes/$one" >/dev/null
done_testing
