#!/bin/bash
# tags: quick
# timeout: 300
# An encrypted bucket: two hosts share snapshots through it, nothing of them can be found there, and
# who has no key, or another one, gets a clear answer and writes nothing.
. "${0%/*}/lib.sh"
need root fuse curl jq openssl python3

BUCKET=$T/bucket
MARK=a-line-that-nobody-else-has
mkdir -p "$T/src/directory-$MARK" "$T"/{mnt,mnt2}
for i in {1..20}; do head -c 100000 /dev/urandom >"$T/src/r$i"; done
for i in {1..200}; do echo "$MARK $i"; done >"$T/src/text"
openssl rand -hex 32 >"$T/key"
openssl rand -base64 32 >"$T/key2"
echo 0123 >"$T/short"
chmod 600 "$T"/key* "$T/short"
cp "$T/key" "$T/open"
chmod 644 "$T/open"

B_SOCK=$T/b.sock B_PID=
b() { varve --socket "$B_SOCK" "$@"; }
start_b() {
	snapshotd --state "$T/b" --socket "$B_SOCK" --memory 64M --config "$T/b.json" >>"$T/b.log" 2>&1 </dev/null &
	B_PID=$!
	SOCK=$B_SOCK until_true 60 daemon_ready || bail "the second daemon does not answer: $(tail -n 5 "$T/b.log")"
}
stop_b() {
	kill "$B_PID"
	wait "$B_PID"
}
b_config() { # KEYFILE
	jq -n --arg b "file://$BUCKET" --arg k "$1" '{remotes: [{name: "main", url: $b, keyFile: $k}]}' >"$T/b.json"
}
# Daemons write by themselves what they need and what was read first.
objects() { find "$BUCKET" -type f ! -path '*/.tmp/*' ! -path '*/node/*' ! -path '*/hot/*' -exec sha256sum {} + | sort; }

start_daemon --memory 64M
b_config "$T/key"
start_b

# --- there and back ---
ok 'a remote is added with a key' varve remote add main "file://$BUCKET" --key-file "$T/key"
like 'its format says so' "$(cat "$BUCKET/format")" '"features":\["moved","moved-meta","sealed"\]'
is 'and the list where the key is' "$(varve --json remote ls | jq -r '.[].keyFile')" "$T/key"
varve import app dir "$T/src" >"$T/.out" 2>&1 || bail "$(cat "$T/.out")"
ok 'a snapshot is pushed' varve push app main
ok 'the other host mounts it' b mount main:app "$T/mnt"
is 'its files are the same' "$(cd "$T/mnt" && sha256sum r* text)" "$(cd "$T/src" && sha256sum r* text)"
echo "$MARK" >"$T/mnt/new"
ok 'what it changes goes back' b checkpoint "$T/mnt" work
ok 'by push' b push work main
ok 'and is pulled' varve pull main:work
is 'whole' "$(varve cat work:new)" "$MARK"
is 'the bucket passes its check' "$(api POST '/api/remotes/main/check?rounds=3' | jq -c '[.usable, .encrypted]')" '[true,true]'
ok 'all of it is verified' varve verify --remote main --deep
varve rm main:work >/dev/null
is 'and its garbage collected' "$(varve --json gc --remote main --grace 0 | jq .removedPacks)" 1
is 'no object has any of it in the clear' "$(grep -rlaE "$MARK|VPK1|\"varve\":1,|contentHash" "$BUCKET" | grep -v '/format$')" ''
if python3 -c 'import cryptography' 2>/dev/null; then
	ok 'the documented format is what is there' test "$(python3 "$SRC/tests/integration/unseal.py" "$BUCKET" "$T/key" |
		grep -c '^snap/.*"varve":1')" = 2
fi

# --- who has no key, or another ---
before=$(objects)
refused() { # DESCRIPTION REGEX REMOTE-ADD-ARGUMENT...
	like "$1" "$(varve remote add other "file://$BUCKET" "${@:3}" 2>&1)" "$2"
}
refused 'without a key it is told what is missing' 'is encrypted: its key is needed'
refused 'another key does not open it' 'key does not open the bucket' --key-file "$T/key2"
refused 'nor does what is no key' '64 hex digits' --key-file "$T/short"
refused 'a key that others may read is refused' 'mode 0644.*chmod 600' --key-file "$T/open"
refused 'one that is not there is named' 'key file .*nothing' --key-file "$T/nothing"
refused 'so is a command that fails' 'exits with 7' --key-command 'exit 7'
refused 'one place of a key is enough' 'one of keyFile' --key-file "$T/key" --key-command true
is 'none of them wrote anything' "$(objects)" "$before"
ok 'a command that prints the key opens it' varve remote add other "file://$BUCKET" --key-command "cat '$T/key'"
is 'to what is there' "$(varve --json snapshots --remote other | jq -r '.[].name')" app
varve remote rm other
ok 'a plain bucket' varve remote add plain "file://$T/plain"
like '... is not taken for an encrypted one' "$(varve remote add other "file://$T/plain" --key-file "$T/key" 2>&1)" \
	'a key is given, but the bucket is not encrypted'

# --- objects that were touched ---
pack=$(find "$BUCKET/pack" -type f -size +1000k)
cp "$pack" "$T/pack"
printf X | dd of="$pack" bs=1 seek=10000 conv=notrunc 2>/dev/null
not_ok 'a changed pack is found' varve verify --remote main --deep
truncate -s 1000000 "$pack"
not_ok 'a cut one too' varve verify --remote main
cat "$T/pack" >"$pack"
ok 'as it was it is whole' varve verify --remote main --deep
cp -r "$BUCKET/name/app" "$T/names"
for f in "$BUCKET"/name/app/*; do
	cat "$(find "$BUCKET/snap" -type f | head -n 1)" >"$f"
done
like 'an object under another name is refused' "$(varve mount main:app "$T/mnt2" 2>&1)" 'not sealed with this bucket'
cp "$T"/names/* "$BUCKET/name/app/"

# --- another key ---
before=$(objects | grep -v /format)
ok 'a new key opens the bucket, too' varve remote rekey main --key-file "$T/key2" --keep-old
b umount --discard "$T/mnt" >/dev/null
stop_b
start_b
is 'the other host goes on with the old one' "$(b --json snapshots --remote main | jq -r '.[].name')" app
ok 'the old one is taken away' varve remote rekey main --key-file "$T/key2"
is 'only the format is written' "$(objects | grep -v /format)" "$before"
stop_b
start_b
like 'then the old one does not open it' "$(b snapshots --remote main 2>&1)" 'key does not open the bucket'
stop_b
b_config "$T/key2"
start_b
is 'the new one does' "$(b cat main:app:text | head -n 1)" "$MARK 1"
stop_daemon
start_daemon --memory 64M
is 'and is noted' "$(varve cat main:app:text | tail -n 1)" "$MARK 200"

# --- keys are nowhere ---
for f in key key2; do
	text=$(tr -d '\n' <"$T/$f")
	is "$f is in no log or list" "$(grep -lF "$text" "$T"/*.log "$BUCKET/format"; varve --json remote ls | grep -F "$text"
		api GET /metrics | grep -F "$text"; tr '\0' ' ' <"/proc/$B_PID/cmdline" | grep -F "$text")" ''
done
is 'nor in the store' "$(grep -rlaF "$(cat "$T/key")" "$STATE" "$T/b")" ''
stop_b
stop_daemon
done_testing
