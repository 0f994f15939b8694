#!/bin/bash
# tags: quick
# timeout: 300
# Garbage of a bucket: collected and checked by command, while collectors and pushers die at any
# request (I6). VARVE_LONG=1: at each of them.
. "${0%/*}/lib.sh"
need root curl jq python3

BUCKET=$T/bucket
packs() { find "$BUCKET/pack" -type f 2>/dev/null | wc -l; }
run() {
	out=$("$@" 2>&1 </dev/null)
	st=$?
}
fails() { # DESCRIPTION STATUS REGEX COMMAND...
	local what=$1 status=$2 regex=$3
	shift 3
	run "$@"
	is "$what" "$st" "$status"
	like '... and says why' "$out" "$regex"
}
mkdir "$T/src"
head -c 2000000 /dev/urandom >"$T/src/data"
more() { head -c 300000 /dev/urandom >"$T/src/$1"; }

start_daemon
ok 'a bucket' varve remote add main "file://$BUCKET"
ok 'a snapshot' varve import one dir "$T/src"
ok 'is pushed' varve push one main
more a
ok 'a second one' varve import two dir "$T/src"
ok 'is pushed' varve push two main
is 'nothing is garbage' "$(varve --json gc --remote main | jq -c '[.snapshots, .garbagePacks]')" '[2,0]'
ok 'what is there is whole' varve verify --remote main --deep
n=$(packs)
ok 'one is deleted' varve rm main:two
run varve gc --remote main
is 'what was deleted just now is kept' "$st $(packs)" "0 $n"
like 'a dry run says what is garbage' "$(varve gc --remote main --dry-run --grace 0)" '1 packs .* would be removed'
is '... and changes nothing' "$(packs)" "$n"
like 'a collection removes it' "$(varve gc --remote main --grace 0)" '1 packs .* removed'
is '... from the bucket' "$(packs)" $((n - 1))
ok 'the other one is whole' varve verify --remote main --deep
is 'the library collects and verifies, too' "$(PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$SRC/tools/sdk/python VARVE_SOCKET=$SOCK python3 -c '
from varve import Remotes
print(Remotes().gc("main", dry_run=True, grace_seconds=0).snapshots,
      Remotes().verify("main", deep=True).problems)')" '1 []'
like 'it is counted' "$(api GET /metrics)" 'snapshotd_work_total\{work="remote-gc",result="ok"\} 5'

# --- a pack that is mostly garbage ---
mkdir "$T/many"
for i in 1 2 3 4 5 6; do head -c 200000 /dev/urandom >"$T/many/$i"; done
ok 'a snapshot' varve import many dir "$T/many"
ok 'is pushed' varve push many main
rm "$T/many/"[3456]
ok 'another one has a third of it' varve import some dir "$T/many"
ok 'is pushed' varve push some main
ok 'the first is deleted' varve rm main:many
like 'a dry run finds it' "$(varve gc --remote main --dry-run --grace 0)" '1 packs .* would be rewritten'
like 'a collection rewrites it' "$(varve gc --remote main --grace 0)" '1 packs with 1.. MiB rewritten as [34].. KiB'
is '... and says where it is' "$(find "$BUCKET/moved" -type f | wc -l)" 1
like '... and asks for versions that look there' "$(cat "$BUCKET/format")" '"features":\["moved"\]'
like '... and counts it' "$(api GET /metrics)" 'snapshotd_remote_repacked_bytes_total 1[23][0-9]{5}'
ok 'all is whole' varve verify --remote main --deep
is 'nothing is left to rewrite' "$(varve --json gc --remote main --grace 0 | jq -c '[.sparsePacks, .repackedPacks, .garbagePacks]')" '[0,0,0]'
ok 'the other is deleted' varve rm main:some
ok 'and collected' varve gc --remote main --grace 0
is '... with what said where it was' "$(find "$BUCKET/moved" -type f | wc -l)" 0
is '... and its packs' "$(packs)" $((n - 1))

# --- what is damaged ---
pack=$(find "$BUCKET/pack" -type f -size +1M)
printf x | dd of="$pack" bs=1 seek=500000 conv=notrunc status=none
fails 'a damaged pack is found' 1 "${pack##*/}" varve verify --remote main --deep
like '... and sent anew by who has it' "$(varve push --repair one main)" '1 packs were lost or damaged'
ok '... in the place of the old one' varve verify --remote main --deep
like 'what is whole stays' "$(varve push --repair one main)" 'there already'
varve gc --remote main --grace 0 >/dev/null
is '... and the damaged one goes' "$(packs)" $((n - 1))
echo '{"varve":2}' >"$BUCKET/snap/0123456789abcdef0123456789abcdef"
ok 'all is deleted' varve rm main:one
fails 'a record of a newer version ends a collection' 1 'snap/0123.*version 2' varve gc --remote main --grace 0
is '... and nothing is lost' "$(packs)" $((n - 1))
run varve verify --remote main
is 'a verification finds it' "$st" 1
like '... and names it' "$out" 'snap/0123456789abcdef'
rm "$BUCKET/snap/0123456789abcdef0123456789abcdef"
fails 'an unknown remote' 1 'no remote "nope"' varve gc --remote nope
fails 'options of a remote' 2 'go with --remote' varve gc --grace 1h
fails 'options of the store' 2 'not with' varve gc --remote main --recompress
fails 'a store has no remotes to ask' 1 'needs a daemon' varve --store "$STATE" verify --remote main
ok 'all is collected' varve gc --remote main --grace 0
is '... and gone' "$(packs)" 0

# --- I9: memory, where the bucket is large ---
many=$((LONG == 1 ? 1000000 : 20000))
python3 -c '
import os, random, sys
for i in range(256):
    os.makedirs(f"{sys.argv[1]}/pack/{i:02x}", exist_ok=True)
for i in range(int(sys.argv[2])):
    name = f"{random.getrandbits(128):032x}"
    os.close(os.open(f"{sys.argv[1]}/pack/{name[:2]}/{name}-0", os.O_CREAT | os.O_WRONLY, 0o600))
' "$BUCKET" $many
memory() { awk -v what="$1:" '$1 == what { print $2 }' "/proc/$DAEMON/status"; }
echo 5 >"/proc/$DAEMON/clear_refs"
base=$(memory VmRSS)
like "a bucket with $many packs is collected" "$(varve gc --remote main --grace 0)" "$many packs .* removed"
grown=$(($(memory VmHWM) - base))
diag "grown by $grown KiB, $((grown * 1024 / many)) bytes a pack"
is_sanitized || ok '... in bounded memory' test "$grown" -le $((many / 5 + 16384)) # 200 MB for a million

# --- I7: no host's clock matters ---
more clock
for by in +2d -2d; do
	stop_daemon
	start_daemon_at $by || {
		skip "clocks" "needs libfaketime"
		start_daemon
		break
	}
	varve import clock dir "$T/src" >/dev/null
	not_ok "a host's clock is wrong by $by" grep -q "\"createdAt\": \"$(date +%F)" <(varve --json show clock)
	ok 'it pushes' varve push clock main
	n=$(packs)
	ok 'and deletes' varve rm main:clock
	ok '... what is kept for a day' varve gc --remote main
	is '... by the clock of the bucket' "$(packs)" "$n"
	ok '... and collected' varve gc --remote main --grace 0
	is '... without a rest' "$(packs)" 0
	varve rm clock >/dev/null
done
stop_daemon
start_daemon

# --- I6: a death at any request blocks nobody ---
at=(2 5 8 11 14 17 20)
[ "$LONG" = 1 ] && mapfile -t at < <(seq 1 40)
died=0
ok 'a snapshot again' varve push one main
for n in "${at[@]}"; do
	more "f$n"
	varve import "s$n" dir "$T/src" >/dev/null
	varve push "s$n" main >/dev/null
	varve rm "main:s$n" >/dev/null
	stop_daemon
	VARVE_FAULTS=die=$n start_daemon
	varve gc --remote main --grace 0 >/dev/null 2>&1
	daemon_alive || died=$((died + 1))
	kill_daemon
	VARVE_FAULTS=die=$n start_daemon
	varve push "s$n" main:again >/dev/null 2>&1
	daemon_alive || died=$((died + 1))
	kill_daemon
	start_daemon
	ok "a push goes after deaths at request $n" varve push "s$n" main:again
	ok '... and a collection' varve gc --remote main --grace 0 --push-timeout 0
	ok '... and all is whole' varve verify --remote main --deep
	varve rm main:again >/dev/null
done
ok "daemons did die ($died)" test "$died" -ge 10
ok 'what is left is collected' varve gc --remote main --grace 0 --push-timeout 0
is 'one snapshot is there' "$(varve --json gc --remote main --dry-run | jq -c '[.snapshots, .garbagePacks]')" '[1,0]'
is '... and no intent' "$(find "$BUCKET/push" -type f 2>/dev/null | wc -l)" 0
done_testing
