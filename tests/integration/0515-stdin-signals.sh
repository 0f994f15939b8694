#!/bin/bash
# What a program in a sandbox is told while it runs: its standard input, and signals; by varve
# run and exec, and by the API.
# timeout: 300
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse jq runc curl
busybox=$(command -v busybox)
file -L "$busybox" | grep -q static || skip_all "needs busybox-static"

mkdir -p "$T/root/bin" "$T/root/etc" "$T/root/tmp"
cp "$busybox" "$T/root/bin/busybox"
chroot "$T/root" /bin/busybox --install -s /bin
export SNAPSHOTD_API_KEY='the key of this test'
start_daemon --listen 127.0.0.1:0
cd "$T" || exit
ok "import a root of busybox" varve import img dir "$T/root"
sb=$(varve --json run --keep --snapshot img true </dev/null | jq -r .sandboxID)
run_sh() { # SCRIPT: in the sandbox, with our input
	varve exec "$sb" -- sh -c "$1"
}
until_says() { # FILE WORD
	for _ in {1..200}; do
		grep -qs "$2" "$1" && return
		pause 0.1
	done
	return 1
}

# --- input ---
is "run passes its input" "$(echo hello | varve run -q --snapshot img -- cat)" hello
is "exec, too" "$(printf 'a\nb\n' | run_sh 'read x; echo "<$x>"; cat')" $'<a>\nb'
head -c 10000000 /dev/urandom >bytes
is "ten million bytes come back whole" "$(run_sh cat <bytes | md5sum)" "$(md5sum <bytes)"
if ((LONG)); then # longer than a host may be silent
	is "... also to who reads none for long, over TCP" "$(cat bytes bytes bytes bytes |
		VARVE_API_KEY=$SNAPSHOTD_API_KEY varve --url "$(daemon_url)" exec "$sb" -- sh -c 'sleep 75; md5sum')" \
		"$(cat bytes bytes bytes bytes | md5sum)"
fi
is "as JSON" "$(echo json | varve --json exec "$sb" -- sh -c 'cat; echo e >&2; exit 3' | jq -c '[.exitCode, .stdout, .stderr]')" \
	'[3,"json\n","e\n"]'
is "no input is an end of file" "$(run_sh 'cat; echo end' </dev/null)" end
is "an empty one, too" "$(: | run_sh 'cat; echo end')" end
is "a closed one, too" "$(run_sh 'cat; echo end' <&-)" end
is "input comes as it is made" "$( (echo one && sleep 2 && echo two) |
	run_sh 'read x; echo "$x $(date +%s)"; read y; echo "$y $(date +%s)"' | awk '{ w = w $1; t[NR] = $2 } END { print w, (t[2] > t[1]) }')" "onetwo 1"
mkfifo open
sleep 1000 >open &
writer=$!
is "who reads nothing is not waited for" "$(timeout $((60 * SLOW)) varve exec "$sb" -- echo over <open)" over
yes | timeout $((60 * SLOW)) varve exec "$sb" -- head -n 1 >got
is "... nor who reads a little" "$(<got),${PIPESTATUS[1]}" "y,0"
run_sh 'exit 5' <bytes
is "the status is the program's" "$?" 5
like "a terminal is refused clearly" "$(varve exec -it "$sb" -- sh </dev/null 2>&1)" 'no terminals in sandboxes'

# --- output of what lives longer ---
is "what children write after its end comes" "$(run_sh '(sleep 2; echo late) & echo now' </dev/null)" $'now\nlate'
varve exec --linger 0 "$sb" -- sh -c 'sleep 1000 & echo now' </dev/null >got 2>err
is "... unless nobody wants to wait for it" "$?,$(<got)" 0,now
like "... which is told" "$(<err)" 'still hold its output'
is "mounts of sandboxes are not offered" "$(varve __complete -- umount '')" @dirs

# --- signals ---
signalled() { # SIGNAL SCRIPT: says "ready" when it can be sent
	: >got
	# A job of a script ignores SIGINT, and one below nohup SIGHUP.
	env --default-signal=INT,HUP varve exec "$sb" -- sh -c "$2" >got 2>&1 <open &
	local pid=$!
	until_says got ready
	kill "-$1" $pid
	wait $pid
	st=$?
}
for s in INT:130 TERM:143 HUP:129 USR1:138; do
	signalled "${s%:*}" 'echo ready; sleep 1000'
	is "SIG${s%:*} ends what does not catch it" "$st" "${s#*:}"
done
for s in INT TERM HUP USR1 USR2; do
	signalled $s "trap 'echo caught $s; exit 7' $s; echo ready; sleep 1000 >/dev/null 2>&1 & wait"
	is "SIG$s comes to who catches it" "$st,$(tail -n 1 got)" "7,caught $s"
done
: >got
env --default-signal=INT varve exec "$sb" -- sh -c "trap 'echo no' INT; echo ready; while :; do sleep 1; done" >got 2>&1 <open &
pid=$!
until_says got ready
kill -INT $pid
ok "a program may ignore SIGINT" until_says got no
kill -INT $pid
wait $pid
is "the second one ends it" "$?" 130
: >got
varve run --snapshot img -- sh -c 'trap "echo cleaned; exit 0" TERM; echo ready; sleep 1000 >/dev/null 2>&1 & wait' >got 2>&1 <open &
pid=$!
until_says got ready
kill -TERM $pid
wait $pid
is "run: the status is the program's" "$?,$(tail -n 1 got)" "0,cleaned"
is "... and its sandbox is gone" "$(varve --json sandboxes | jq length)" 1

# --- the API ---
exec_url=/api/sandboxes/$sb/exec
run_api() { # BODY
	api POST "$exec_url/run" "$1"
}
is "stdin" "$(run_api '{"cmd":"cat","stdin":"a\u0000b"}' | jq -c .stdout)" '"a\u0000b"'
is "stdinBase64" "$(run_api '{"cmd":"md5sum","stdinBase64":"/wAK"}' | jq -r .stdout)" "$(printf '\377\0\n' | md5sum)"
is "it cannot be made to grow" "$(run_api '{"cmd":"sh","args":["-c","echo more >>/proc/self/fd/0; cat"],"stdin":"x"}' | jq -r .stdout)" x
like "stdin of another type" "$(run_api '{"cmd":"cat","stdin":1}')" 'stdin.* string'
like "stdinBase64 that is none" "$(run_api '{"cmd":"cat","stdinBase64":"?"}')" 'must be base64'
like "both" "$(run_api '{"cmd":"cat","stdin":"","openStdin":true}')" 'only one of'
like "openStdin without events" "$(run_api '{"cmd":"cat","openStdin":true}')" 'need a reply of events'
head -c 1048577 /dev/zero | tr '\0' x | jq -Rc '{cmd: "cat", stdin: .}' >big
like "too much at once" "$(run_api @big)" 'more than 1048576 bytes'

id=$(api POST "$exec_url/run-async" '{"cmd":"md5sum","openStdin":true}' | jq -r .execId)
feed() { # EXEC FILE
	curl -sS --unix-socket "$SOCK" -X POST -H 'Content-Type: application/octet-stream' -T "$2" -w '%{http_code}' \
		"http://localhost$exec_url/$1/stdin"
}
is "run-async: input comes later" "$(feed "$id" bytes)" 204
until [ "$(api GET "$exec_url/$id/result" | tee got | jq .running)" = false ]; do sleep 0.1; done
is "... whole" "$(jq -r .stdout got)" "$(md5sum <bytes)"
like "after its end: 409" "$(feed "$id" bytes)" 'has ended.*409$'
like "an unknown exec: 404" "$(feed nothere bytes)" 'no exec.*404$'
id=$(api POST "$exec_url/run-async" '{"cmd":"sleep","args":["1000"]}' | jq -r .execId)
like "input that is not open: 409" "$(feed "$id" bytes)" 'not open.*409$'
like "a signal that is none" "$(api POST "$exec_url/$id/signal" '{"signal":"NONE"}')" '"NONE\\" is no signal'
like "... by number" "$(api POST "$exec_url/$id/signal" '{"signal":65}')" 'is no signal'
is "a signal by name" "$(api POST "$exec_url/$id/signal" '{"signal":"SIGTERM"}')" ''
until [ "$(api GET "$exec_url/$id/result" | tee got | jq .running)" = false ]; do sleep 0.1; done
is "... ends it" "$(jq .exitCode got)" 143
like "a signal after the end" "$(api POST "$exec_url/$id/signal" '{"signal":15}')" 'has ended'
kill $writer
wait $writer 2>/dev/null
done_testing
