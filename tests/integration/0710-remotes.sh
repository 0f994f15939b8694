#!/bin/bash
# tags: quick
# timeout: 300
# Two daemons, each with a store of its own, share snapshots through a directory: push, pull,
# REMOTE:NAME wherever a snapshot is named, and what fails.
. "${0%/*}/lib.sh"
need root fuse curl jq runc busybox python3
file -L "$(command -v busybox)" | grep -q static || skip_all 'needs busybox-static'
need_space 2500

BUCKET=$T/bucket
BIG=300 # MB, of one file
mkdir -p "$T"/{src/{bin,etc,tmp},mnt,mnt2,mnt3,mnt4}
cp "$(command -v busybox)" "$T/src/bin/busybox"
for c in sh cat head; do ln -s busybox "$T/src/bin/$c"; done
head -c 3000000 /dev/urandom >"$T/src/data"
printf 'from the first host\n' >"$T/src/etc/motd"

# --- the second daemon ---
B_SOCK=$T/b.sock B_PID=
b() { varve --socket "$B_SOCK" "$@"; }
b_api() { SOCK=$B_SOCK api "$@"; }
start_b() { # [ARGUMENT...]
	local i
	snapshotd --state "$T/b" --socket "$B_SOCK" --memory 64M "$@" >>"$T/b.log" 2>&1 </dev/null &
	B_PID=$!
	for ((i = 0; i < 600 * SLOW; i++)); do
		SOCK=$B_SOCK daemon_ready && return
		pause 0.05
	done
	bail "the second daemon does not answer: $(tail -n 5 "$T/b.log")"
}
end_b() { # SIGNAL
	kill "-$1" "$B_PID"
	wait "$B_PID" 2>/dev/null
	B_PID=
}
# status METHOD PATH [JSON]: the body is in $reply
status() {
	reply=$(curl -sS --max-time $((120 * SLOW)) --unix-socket "$SOCK" -X "$1" \
		${3:+-H 'Content-Type: application/json' -d "$3"} -w '\n%{http_code}' "http://localhost$2")
	code=${reply##*$'\n'}
	reply=${reply%$'\n'*}
}
answers() { # DESCRIPTION STATUS REGEX METHOD PATH [JSON]
	status "${@:4}"
	like "$1" "$code $reply" "^$2 .*$3"
}
# Wait until a command succeeds.
until_ok() {
	local i
	for ((i = 0; i < 1200 * SLOW; i++)); do
		"$@" >/dev/null 2>&1 && return
		pause 0.02
	done
	return 1
}
received() { # BYTES: so many has the second daemon read
	[ "$(b_api GET /metrics | sed -n 's/^snapshotd_remote_received_bytes_total{remote="main"} //p')" -gt "$1" ]
}
bucket_has() { # MEGABYTES
	[ "$(du -sm "$BUCKET/pack" 2>/dev/null | cut -f 1)" -ge "$1" ]
}

jq -n --arg b "file://$BUCKET" '{remotes: [{name: "main", url: $b}]}' >"$T/b.json"
start_daemon --memory 64M
start_b --config "$T/b.json"

# --- remotes ---
ok 'a remote is added' varve remote add main "file://$BUCKET"
is 'and listed' "$(varve --json remote ls | jq -r '.[] | "\(.name) \(.url) \(.readOnly)"')" "main file://$BUCKET false"
is 'that of the config file is, too' "$(b --json remote ls | jq -r '.[].url')" "file://$BUCKET"
ok 'it passes its check' test "$(api POST '/api/remotes/main/check?rounds=3' | jq .usable)" = true
answers 'a name is taken once' 409 already POST /api/remotes '{"name":"main","url":"file:///x"}'
answers 'an unknown member is named' 400 colour POST /api/remotes '{"name":"x","url":"file:///x","colour":"red"}'
answers 'an unknown kind of URL is refused' 400 s3:// POST /api/remotes '{"name":"x","url":"ftp://x"}'
answers 'what goes with s3 only is named' 400 region POST /api/remotes '{"name":"x","url":"file:///x","region":"y"}'
answers 'a remote that is not there is told, with those that are' 404 'there is: main' GET /api/remotes/other/snapshots
like 'a bad remote in the config file is named' \
	"$(echo '{"remotes": [{"name": "a", "url": "file:///a"}, {"name": "b"}]}' >"$T/bad.json" &&
		snapshotd --state "$T/c" --config "$T/bad.json" 2>&1)" 'bad.json.*remotes: \[1\].*url|remotes: \[1\].*url'

# --- there and back ---
varve import app dir "$T/src" >"$T/.out" 2>&1 || bail "$(cat "$T/.out")"
ok 'a snapshot is pushed' varve push app main
is 'and listed there' "$(b --json snapshots --remote main | jq -r '.[] | "\(.name) \(.fileCount) \(.snapshotID)"')" \
	"app $(varve --json show app | jq -r .fileCount) null"
like 'pushed again it is there already' "$(varve push app main)" 'already'
is 'it shows where it is shared' "$(api GET /api/snapshots | jq -r '.[] | select(.name == "app").remotes[].remote')" main
is 'as the store says by itself' "$(varve --json --store "$STATE" show app | jq -r '.remotes[].remote')" main
ok 'the other host pulls it' b pull main:app
is 'with the same tree' "$(b --json show app | jq -r .root)" "$(root_of app)"
ok 'and mounts it' b mount app "$T/mnt"
ok 'its files are the same' cmp "$T/src/data" "$T/mnt/data"
echo 'from the second host' >"$T/mnt/etc/motd"
ok 'a checkpoint of the second host goes back' b checkpoint "$T/mnt" work
ok 'by push' b push work main:work.2_A-z
like 'sending what is new' "$(b --json push work main:again | jq -c '[.existed, .chunks]')" '^\[true,'
ok 'REMOTE:NAME is mounted' varve mount main:work.2_A-z "$T/mnt2"
is 'with what was written there' "$(cat "$T/mnt2/etc/motd")" 'from the second host'
is 'REMOTE:NAME is compared' "$(varve diff app main:work.2_A-z | tr -s ' ')" 'M /etc/motd'
is 'read' "$(varve cat main:work.2_A-z:etc/motd)" 'from the second host'
is 'listed' "$(varve ls main:again:etc)" motd
ok 'and exported' varve export main:again tar "$T/x.tar"
is 'the tar has it' "$(tar -xOf "$T/x.tar" etc/motd)" 'from the second host'
answers 'HTTP takes it for a mount' 201 '"attached":true' POST /api/mounts \
	"{\"snapshot\":\"main:again\",\"mountpoint\":\"$T/mnt3\"}"
is 'a sandbox runs from it' "$(varve run --snapshot main:again -- cat /etc/motd)" 'from the second host'
is 'and an image is built on it' "$(api POST /api/images '{"image":{"base":"snapshot:main:again","steps":[
	{"type":"env","args":{"vars":{"A":"b"}}}]}}' | jq -r '.cached')" false
answers 'what the remote does not have is told' 404 'remote main has no snapshot' POST /api/mounts \
	"{\"snapshot\":\"main:nothing\",\"mountpoint\":\"$T/mnt4\"}"
not_ok 'a store alone asks no remote' varve --store "$STATE" ls main:again

# --- names ---
long=$(printf 'n%.0s' {1..128})
for name in A.b_C-9 a.b_c-9 "$long"; do
	varve push app "main:$name" >/dev/null || fail "push as $name"
done
is 'names of all characters and lengths come back' \
	"$(b --json snapshots --remote main | jq -r '.[].name' | sort | tr '\n' ' ')" \
	"$(printf '%s\n' A.b_C-9 a.b_c-9 "$long" app again work.2_A-z | sort | tr '\n' ' ')"
ok 'the list comes in pages' pages_agree /api/remotes/main/snapshots 2 .name
echo changed >"$T/src/etc/motd"
varve import app2 dir "$T/src" >/dev/null
answers 'a name can be protected' 409 'another snapshot' POST /api/snapshots/app2/push \
	'{"remote":"main","name":"app","noReplace":true}'
ok 'or it moves' varve push app2 main:app
old=$(b --json show app | jq -r .id)
ok 'a pull takes the new one' b pull main:app
is 'which has the name now' "$(b --json show app | jq -r .root)" "$(root_of app2)"
is 'the former stays, without a name' "$(b --json show "$old" | jq -r '.name')" ''
varve import mine dir "$T/src/etc" >/dev/null
b import mine dir "$T/src/bin" >/dev/null
varve push mine main >/dev/null
like "somebody else's name is kept" "$(b pull main:mine 2>&1)" 'exists already.*--name'
ok 'another name helps' b pull main:mine --name theirs
is 'and nothing was lost' "$(b --json show theirs | jq -r .root)" "$(root_of mine)"
like 'rm says that another name is left' "$(varve rm main:again 2>&1)" 'other names'
ok 'and deletes with the last' varve rm "main:$long"
is '-q prints words as other commands take them' "$(varve snapshots --remote main -q --filter name=app)" main:app
is 'the list has the rest' "$(varve --json snapshots --remote main | jq length)" 5
not_ok 'what was removed is not pulled' b pull "main:$long"

ok 'the library for Python does it all' env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$SRC/tools/sdk/python" \
	URL="file://$T/python" python3 -c '
import asyncio, os
from varve import (AsyncRemotes, AsyncSnapshots, ConflictError, NotFoundError, Remotes, Snapshots)
remotes, snapshots = Remotes(), Snapshots()
def refused(kind, call, *args, **options):
    try:
        call(*args, **options)
    except kind:
        return True
assert remotes.add("py", os.environ["URL"]).bucket
assert [r.name for r in remotes.list()] == ["main", "py"]
assert remotes.check("py").usable
pushed = snapshots.push("mine", "py")
assert (pushed.name, pushed.existed, pushed.bytes > 0) == ("mine", False, True)
assert snapshots.get("mine").remotes["py"] == pushed.id
assert refused(ConflictError, snapshots.push, "app", "py", "mine", replace=False)
assert refused(NotFoundError, snapshots.push, "none", "py")
assert refused(NotFoundError, snapshots.pull, "py", "none")
assert refused(ConflictError, snapshots.pull, "py", "mine", "app2")
assert snapshots.pull("py", "mine", "python").root == snapshots.get("mine").root
assert [(s.name, s.id) for s in remotes.snapshots("py")] == [("mine", pushed.id)]
async def again():
    remotes, snapshots = AsyncRemotes(), AsyncSnapshots()
    assert (await snapshots.push("app", "py", "other")).name == "other"
    assert (await snapshots.pull("py", "other", "async")).name == "async"
    assert len(await remotes.snapshots("py")) == 2
    assert await remotes.delete("py", "other")
    assert (await remotes.check("py")).usable and len(await remotes.list()) == 2
asyncio.run(again())
assert remotes.delete("py", "mine")
remotes.remove("py")
'

# --- a large one: interrupted, cancelled, bounded ---
mkdir "$T/big" && head -c ${BIG}000000 /dev/urandom >"$T/big/file"
varve import big dir "$T/big" >"$T/.out" 2>&1 || bail "$(cat "$T/.out")"
before=$(du -sm "$BUCKET/pack" | cut -f 1)
varve push big main >/dev/null 2>&1 &
client=$!
until_ok bucket_has $((before + 20))
kill_daemon
wait "$client"
start_daemon
not_ok 'a push that was killed shows nothing' b pull main:big
ok 'the store is whole' varve verify
before=$(du -sm "$BUCKET/pack" | cut -f 1)
varve push big main >/dev/null 2>&1 &
client=$!
until_ok bucket_has $((before + 20))
kill "$client"
wait "$client"
ok 'a client that goes ends its push' until_ok grep -q 'big/push: 499' "$T/daemon.log"
not_ok 'and shows nothing' b pull main:big
echo 5 >"/proc/$DAEMON/clear_refs"
base=$(awk '$1 == "VmRSS:" { print int($2 / 1024) }' "/proc/$DAEMON/status")
ok 'then it is pushed' varve push big main
grown=$(($(awk '$1 == "VmHWM:" { print int($2 / 1024) }' "/proc/$DAEMON/status") - base))
diag "push grew by $grown MiB"
is_sanitized || ok "memory of the push is bounded ($grown MiB)" test "$grown" -le 256
b pull main:big >/dev/null 2>&1 &
client=$!
until_ok received 60000000
end_b KILL
wait "$client"
start_b --config "$T/b.json"
not_ok 'a pull that was killed leaves no snapshot' b show big
ok 'the second store is whole' b verify
ok 'then it is pulled' b pull main:big
is 'as it was' "$(b --json show big | jq -r .root)" "$(root_of big)"
ok 'and is whole' b verify big

# --- buckets that fail ---
# None of the containers of 16 MiB fits, nor the last one of 15.
mkdir "$T/small" && mount -t tmpfs -o size=12m none "$T/small"
varve remote add small "file://$T/small/b" >/dev/null
answers 'a full bucket is told' 507 space POST /api/snapshots/big/push '{"remote":"small"}'
ok 'what fits still goes there' varve push mine small
mount -o remount,size=400m "$T/small"
ok 'with more room it is pushed' varve push big small
stop_daemon
umount "$T/small"
start_daemon
answers 'a bucket that is not mounted is away' 503 mounted POST /api/snapshots/mine/push '{"remote":"small"}'
is 'and is not made anew' "$(ls "$T/small")" ''
varve remote add ro "file://$BUCKET" --read-only >/dev/null
answers 'a read-only remote takes nothing' 403 read-only POST /api/snapshots/mine/push '{"remote":"ro"}'
answers 'nor is anything removed there' 403 read-only DELETE /api/remotes/ro/snapshots/mine
ok 'but it gives' varve pull ro:work.2_A-z --name given
answers 'its check says so' 200 '"usable":true' POST '/api/remotes/ro/check?rounds=1'
mv "$BUCKET" "$T/elsewhere" && mkdir "$BUCKET"
varve remote rm main && varve remote rm ro --force
answers 'an empty directory is no read-only bucket' 400 'no snapshots are kept' POST /api/remotes \
	"{\"name\":\"ro\",\"url\":\"file://$BUCKET\",\"readOnly\":true}"
ok 'a remote that was removed can be added' varve remote add main "file://$T/elsewhere"
ok 'and is known again' varve pull main:app --name again
rm -rf "$T/elsewhere"
answers 'a bucket that was removed is told' '50[23]' 'removed|not there' POST /api/snapshots/pull \
	'{"remote":"main","snapshot":"mine"}'
answers 'each time' 503 'not there' POST /api/snapshots/mine/push '{"remote":"main"}'
like 'its Retry-After says when' "$(curl -sSi --unix-socket "$SOCK" -H 'Content-Type: application/json' \
	-d '{"remote":"main"}' http://x/api/snapshots/mine/push)" 'Retry-After'
ok 'what is here stays' varve verify

# --- a permanent bucket ---
ok 'a permanent bucket is made' varve remote add keep "file://$T/keep" --permanent
is '... and says so' "$(varve --json remote ls | jq -c '[.[] | select(.name == "keep").permanent]')" '[true]'
is '... as does its check' "$(api POST '/api/remotes/keep/check?rounds=1' | jq .permanent)" true
ok 'a snapshot is pushed' varve push mine keep:kept
answers 'its name does not move' 403 'is permanent' POST /api/snapshots/app/push '{"remote":"keep","name":"kept"}'
answers 'it is not deleted' 403 'is permanent' DELETE /api/remotes/keep/snapshots/kept
answers 'nor is garbage collected' 403 'is permanent' POST /api/remotes/keep/gc '{}'
answers '... but said to be there' 200 '"garbagePacks":0' POST /api/remotes/keep/gc '{"dryRun":true}'
varve remote rm keep
ok 'who does not say so' varve remote add keep "file://$T/keep"
is '... learns it' "$(varve --json remote ls | jq -c '[.[] | select(.name == "keep").permanent]')" '[true]'
ok 'and reads there' varve pull keep:kept --name kept
varve remote rm keep

# --- who may name places ---
end_b TERM
SNAPSHOTD_API_KEY=0123456789abcdef start_b --config "$T/b.json" --listen 127.0.0.1:0
url=$(sed -n 's/.*listening on \(127[.0-9]*\) port \([0-9]*\).*/http:\/\/\1:\2/p' "$T/b.log" | tail -n 1)
like 'a client over TCP names no directory of this host' "$(curl -sS -H 'X-API-Key: 0123456789abcdef' \
	-H 'Content-Type: application/json' -d "{\"name\":\"t\",\"url\":\"file://$T/t\"}" "$url/api/remotes")" hostRoots
like 'nor a program for it to run' "$(curl -sS -H 'X-API-Key: 0123456789abcdef' \
	-H 'Content-Type: application/json' \
	-d '{"name":"t","url":"s3://b","credentials":"process:touch /x"}' "$url/api/remotes")" 'config file'
unmount_below "$T/mnt"
end_b TERM
done_testing
