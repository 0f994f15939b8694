#!/bin/bash
# The S3 backend against a real service (Ceph), over a good network and a bad one.
# timeout: 300
. "${0%/*}/lib.sh"
. "${0%/*}/ceph.sh"
need helper:objtool
need_ceph
start_ceph
make_bucket bkt
objtool=$(helper objtool)
export OBJ_TIMEOUT_MS=$((60000 * SLOW))
unset AWS_SESSION_TOKEN AWS_PROFILE VARVE_FAULTS

obj() { "$objtool" "s3:$S3_ENDPOINT/bkt/pre.fix/Deep" "$@"; }
slow() { "$objtool" "s3:http://127.0.0.1:$port/bkt/slow" "$@"; }
fails() { # DESCRIPTION REGEX COMMAND...
	local out
	if out=$("${@:3}" 2>&1); then
		fail "$1" "$out"
	else
		like "$1" "$out" "$2"
	fi
}

# --- what a service must do ---
ok "the probe finds the service usable" obj check 10
out=$(obj check 3)
like "it refuses damaged bodies" "$out" 'hash: ok'
like "it refuses old signatures" "$out" 'clock: ok: old signatures are refused'
is "the probe leaves nothing" "$(obj all '')" ""

# --- objects ---
ok "put" obj put a/b hello
is "get" "$(obj get a/b)" hello
is "a range" "$(obj get a/b 1 3)" ell
is "a range over the end" "$(obj get a/b 3 100)" lo
is "a range behind the end" "$(obj get a/b 100 3)" ""
is "the last bytes" "$(obj tail a/b 2)" lo
ok "an empty object" obj put empty ""
is "is empty" "$(obj get empty)" ""
is "its range, too" "$(obj get empty 0 5)$(obj tail empty 5)" ""
fails "no such key" '^-ENOENT: GET s3://bkt/pre.fix/Deep/a: no such key' obj get a
ok "create" obj put-once once 1
fails "once" '^-EEXIST' obj put-once once 2
is "the first stays" "$(obj get once)" 1
is "of many one wins" "$(obj race raced 32)" "won 1 lost 31"
ok "a create that was justified 14 minutes ago" obj put-once dated x 840
fails "not 16 minutes ago" '^-ESTALE' obj put-once late x 960
fails "and it did not happen" '^-ENOENT' obj get late
ok "delete, and what is not there" obj rm a/b empty once raced dated nothing
is "nothing is left" "$(obj all '')" ""
OBJ_READ_ONLY=1 fails "a read-only remote" '^-EROFS' obj put x y
head -c 20000000 /dev/urandom >"$T/big"
ok "20 MB" obj put-file big "$T/big"
obj get big >"$T/back"
ok "come back" cmp "$T/big" "$T/back"
ok "rm" obj rm big

# --- listings ---
ok "1,100 objects at once" obj many many/ 1100 10
ok "are read back" obj read many/ 1100 10
is "are listed in pages" "$(obj all many/ | wc -l)" 1100
is "in order" "$(obj all many/ | sort -c && obj all many/0109 | tail -n 1)" "many/01099 10"
is "after a key" "$(OBJ_PAGE=2 obj ls many/ many/00002)" $'many/00003 10\nmany/00004 10\nmore'
ok "other keys" obj put dir/one 1
ok "in directories" obj put dir/two/three 1
ok "and beside them" obj put dir.txt 1
is "a level of keys" "$(obj dirs '')" $'dir.txt 1\ndir/ 0\nmany/ 0'
is "in pages" "$(OBJ_PAGE=1 obj dirs '' dir.txt; OBJ_PAGE=1 obj dirs '' dir/)" $'dir/ 0\nmore\nmany/ 0'
is "below a directory" "$(obj dirs dir/)" $'dir/one 1\ndir/two/ 0'
ok "a key that is not ours" s3_curl -X PUT --data-binary x "$S3_ENDPOINT/bkt/pre.fix/Deep/Not-Ours%26"
is "is not shown" "$(obj dirs '')" $'dir.txt 1\ndir/ 0\nmany/ 0'
OBJ_VIRTUAL=1 S3_ENDPOINT=${S3_ENDPOINT/127.0.0.1/localhost} ok "the bucket's name in the host's" obj get dir/one

# --- credentials ---
AWS_SECRET_ACCESS_KEY=wrong fails "a wrong secret" '^-EACCES: .*SignatureDoesNotMatch' obj get x
keys() { printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$1" "$2"; }
keys "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >"$T/keys"
ok "from a file" env OBJ_CREDENTIALS="file:$T/keys" "$objtool" "s3:$S3_ENDPOINT/bkt/pre.fix/Deep" get dir/one
# The service forgets each pair a moment after the file has the next.
OBJ_CREDENTIALS=file:$T/keys obj every 6 dir/one >"$T/every" 2>&1 &
reader=$!
for i in 1 2 3; do
	sleep 1 # in which it reads with the keys that it has
	radosgw-admin -c "$CEPH/conf" key create --uid=tester --key-type=s3 --access-key="rotated$i" \
		--secret-key="secret$i" >/dev/null 2>&1
	keys "rotated$i" "secret$i" >"$T/keys.new" && mv "$T/keys.new" "$T/keys"
	radosgw-admin -c "$CEPH/conf" key rm --uid=tester --access-key="$([ $i = 1 ] || echo "rotated$((i - 1))")" \
		>/dev/null 2>&1
done
wait $reader
like "rotated credentials fail no read" "$(cat "$T/every")" '^good [0-9]+ bad 0$'
fails "those that were replaced are refused" '^-EACCES: .*InvalidAccessKeyId' env AWS_ACCESS_KEY_ID=rotated1 \
	AWS_SECRET_ACCESS_KEY=secret1 "$objtool" "s3:$S3_ENDPOINT/bkt/pre.fix/Deep" get dir/one
printf '#!/bin/sh\nprintf %s\n' "'{\"Version\":1,\"AccessKeyId\":\"$AWS_ACCESS_KEY_ID\",\"SecretAccessKey\":\"$AWS_SECRET_ACCESS_KEY\"}'" >"$T/give"
chmod +x "$T/give"
OBJ_CREDENTIALS=process:$T/give ok "from a process" obj get dir/one

# --- a bad network ---
python3 "$SRC/tests/integration/bad_network.py" "$S3_PORT" "$T/network" >"$T/port" &
until [ -s "$T/port" ]; do sleep 0.05; done
port=$(cat "$T/port")
ok "40 objects" slow many s/ 40 30000
echo delay=10 >"$T/network"
ok "10 ms further away" slow read s/ 40 30000
echo cut-odd=20000 >"$T/network"
ok "every other connection breaks in the middle" slow read s/ 40 30000
ok "also for writing" slow many t/ 40 30000
: >"$T/network"
ok "all that was written is whole" slow read t/ 40 30000
echo cut=1 >"$T/network" # the service does what is asked, but no answer comes back
OBJ_TIMEOUT_MS=3000 fails "no answers" '^-ETIMEDOUT' slow put-once lost mine
: >"$T/network"
is "the write has happened" "$(slow get lost)" mine
fails "so it cannot be made again" '^-EEXIST' slow put-once lost mine
echo refuse >"$T/network"
OBJ_TIMEOUT_MS=1000 fails "a service that is away" '^-ETIMEDOUT: after [0-9]+ attempts' slow get lost
slow get lost >"$T/got" 2>&1 &
reader=$!
sleep 0.5 # in which it would fail
: >"$T/network"
ok "is waited for" wait $reader
is "and answers" "$(cat "$T/got")" mine

stop_ceph
done_testing
