#!/bin/bash
# tags: quick
# timeout: 300
# A bucket that borrows of a permanent one: a snapshot upon a template pushes its own part alone, and
# who reads it has both remotes, or learns which one is missing.
. "${0%/*}/lib.sh"
need root fuse jq

mkdir -p "$T/src" "$T/mnt"
for i in {1..20}; do head -c 100000 /dev/urandom >"$T/src/r$i"; done
A=file://$T/templates M=file://$T/bucket
B_SOCK=$T/b.sock B_PID=
b() { varve --socket "$B_SOCK" "$@"; }
refused() { # DESCRIPTION REGEX COMMAND...
	local what=$1 regex=$2
	shift 2
	local out st=0
	out=$("$@" 2>&1) || st=$?
	is "$what" "$st" 1
	like '... and says why' "$out" "$regex"
}
size() { du -sb "$T/$1/pack" | cut -f1; }

start_daemon --memory 64M
snapshotd --state "$T/b" --socket "$B_SOCK" --memory 64M >>"$T/b.log" 2>&1 </dev/null &
B_PID=$!
SOCK=$B_SOCK until_true 60 daemon_ready || bail "the second daemon does not answer: $(tail -n 5 "$T/b.log")"

# --- push ---
ok 'a bucket of templates' varve remote add templates "$A" --permanent
ok 'a template' varve import base dir "$T/src"
ok '... in it' varve push base templates
ok 'another bucket' varve remote add other "file://$T/other"
refused 'lends nothing, as it is not permanent' 'not permanent' varve remote add main "$M" --alternate other
refused 'nor does one that is not known' 'no remote "nope"' varve remote add main "$M" --alternate nope
is '... for which no bucket is made' "$([ -e "$T/bucket" ] && echo there)" ""
ok 'one that borrows of the first' varve remote add main "$M" --alternate templates
is '... which a check finds' "$(varve --json remote check main | jq -c .alternate)" \
	"{\"name\":\"templates\",\"bucket\":\"$(jq -r .uuid "$T/templates/format")\",\"error\":null}"
refused 'another remote of its bucket has the same one' 'remote main is the same bucket' varve remote add plain "$M"
is 'says so' "$(varve --json remote ls | jq -r '.[] | select(.name == "main").alternate')" templates
head -c 50000 /dev/urandom >"$T/src/new"
ok 'a snapshot upon the template' varve import app dir "$T/src"
ok 'is pushed' varve push app main
is '... without the template' "$(($(size bucket) < 70000))" 1
like '... which older versions refuse' "$(cat "$T/bucket/format")" '"features":\["alternates"\]'
ok 'it is whole' varve verify --remote main --deep
ok 'a collection leaves it so' varve gc --remote main --grace 0
ok '... whole' varve verify --remote main --deep
refused 'the lender stays' 'alternate of remote main' varve remote rm templates

# --- on another host ---
ok 'who knows one bucket alone' b remote add main "$M"
uuid=$(jq -r .uuid "$T/templates/format")
refused 'learns of the other' "$uuid \($A\)" b mount main:app "$T/mnt"
refused '... also by a verification' "$uuid" b verify --remote main
ok 'forgets it' b remote rm main
ok 'has both' b remote add templates "$A" --read-only
ok '... the one for the other' b remote add main "$M" --alternate templates
ok 'and mounts it' b mount main:app "$T/mnt"
is '... all of it' "$(cd "$T/mnt" && cat r* new | sha256sum)" "$(cd "$T/src" && cat r* new | sha256sum)"
ok 'it is unmounted' b umount "$T/mnt"
ok 'and pulled whole' b pull main:app
ok 'what is here is whole' b verify

# --- without the lender ---
kill "$B_PID"
wait "$B_PID"
mv "$T/templates" "$T/away"
ok 'what does not borrow' varve import own dir "$T/mnt"
restart_daemon
ok '... is pushed without the lender' varve push own main
is '... which the log says once' "$(grep -c 'remote main: its alternate templates cannot be used' "$T/daemon.log")" 1
is '... and a check' "$(varve --json remote check main | jq -c '.alternate | .bucket, (.error | length > 0)' | tr '\n' ' ')" \
	'null true '
like '... in words' "$(varve remote check main)" 'alternate +away +templates: '
ok 'garbage' varve rm main:own
ok '... is collected' varve gc --remote main --grace 0
refused 'what borrows is not repaired then' "$uuid" varve push app main --repair
ok '... and listed' varve snapshots --remote main
refused 'what borrows is not verified then' "$uuid" varve verify --remote main
mv "$T/away" "$T/templates"
ok 'with it, all is whole' until_true 30 varve verify --remote main --deep
done_testing
