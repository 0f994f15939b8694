#!/bin/bash
# tags: quick asan tsan
# timeout: 300
# Every call of the HTTP API and every status it can end with.
. "${0%/*}/lib.sh"
need root fuse curl jq tar

# call METHOD PATH [CURL-ARGUMENT...]: $code and $body of the reply.
body=
call() {
	local method=$1 path=$2
	shift 2
	: >"$T/body"
	code=$(curl -sS --max-time $((120 * SLOW)) --unix-socket "$SOCK" -X "$method" -o "$T/body" \
		-w '%{http_code}' "$@" "http://localhost$path" 2>"$T/curl.err")
	read_body "$T/body"
}
# reply DESCRIPTION STATUS BODY-REGEX METHOD PATH [JSON]
reply() {
	local what=$1 status=$2 regex=$3
	call "$4" "$5" ${6:+-H 'Content-Type: application/json' -d "$6"}
	if [ "$code" = "$status" ] && [[ $body =~ $regex ]]; then
		pass "$what"
	else
		fail "$what" "$4 $5: $code $body; wanted $status and $regex"
	fi
}
get() { # JQ-FILTER of the last body
	jq -r "$1" <<<"$body"
}
quote() { # a path as one segment of another
	jq -rn --arg p "$1" '$p | @uri'
}

mkdir -p "$T/src/dir" "$T/m" "$T/m2" "$T/m3" "$T/out"
echo one >"$T/src/file"
head -c 3000000 /dev/urandom >"$T/src/dir/big"
ln "$T/src/file" "$T/src/dir/link"
tar -C "$T/src" -cf "$T/src.tar" .
export SNAPSHOTD_API_KEY='the key of this test'
start_daemon --listen 127.0.0.1:0
PORT=$(sed -n 's/.*listening on 127.0.0.1 port \([0-9]*\).*/\1/p' "$T/daemon.log")

# --- health, metrics, what there is not ---
reply 'healthz answers' 200 '"status":"ok"' GET /healthz
call HEAD /healthz -I
is 'HEAD is as GET' "$code" 200
reply 'metrics answer' 200 'snapshotd_mounts\{state="attached"\} 0' GET /metrics
reply 'an unknown path is 404' 404 '"error":.*/api/nothing' GET /api/nothing
reply 'an unknown method is 405' 405 'DELETE' PUT /api/snapshots/x
call PUT /api/snapshots/x -D "$T/head"
ok '... and names the right ones' grep -qi '^allow: .*GET.*DELETE' "$T/head"
reply 'a bad escape is 400' 400 error GET /api/snapshots/%zz
reply 'an encoded NUL is 400' 400 error GET /api/snapshots/a%00b
reply 'an unknown query parameter is 400' 400 '\\"x\\"' GET '/api/snapshots?x=1'

# --- TCP needs the key ---
tcp() { # CURL-ARGUMENT... PATH
	curl -sS --max-time $((20 * SLOW)) -o "$T/body" -w '%{http_code}' "${@:1:$#-1}" "http://127.0.0.1:$PORT${!#}"
}
is 'TCP: healthz needs no key' "$(tcp /healthz)" 200
is 'TCP: the rest does' "$(tcp /api/snapshots)" 401
is 'TCP: not even what there is is told' "$(tcp /api/nothing)" 401
is 'TCP: a wrong key is 401' "$(tcp -H 'X-API-Key: the kez of this test' /api/snapshots)" 401
is 'TCP: a longer key is 401' "$(tcp -H 'X-API-Key: the key of this test2' /api/snapshots)" 401
is 'TCP: X-API-Key lets in' "$(tcp -H 'X-API-Key: the key of this test' /api/snapshots)" 200
is 'TCP: Authorization: Bearer lets in' "$(tcp -H 'Authorization: Bearer the key of this test' /api/snapshots)" 200
is 'TCP: another scheme does not' "$(tcp -H 'Authorization: Basic the key of this test' /api/snapshots)" 401

# --- import ---
reply 'the list is empty' 200 '^\[\]' GET /api/snapshots
import='{"name":"%s","source":{"%s":"%s"}}'
json() { # FORMAT ARGUMENT...
	# shellcheck disable=SC2059
	printf "$@"
}
reply 'import of a directory' 201 '"status":"ready"' POST /api/snapshots/import "$(json "$import" one dir "$T/src")"
ok '... has a root, sizes and a name' jq -e '.name == "one" and (.root | length) == 64 and .fileCount == 5 - 1
	and .sizeBytes == 3000004 and .source == "dir"' "$T/body"
one=$(get .id)
reply 'a taken name is 409' 409 'one' POST /api/snapshots/import "$(json "$import" one dir "$T/src")"
reply 'a bad name is 400' 400 error POST /api/snapshots/import "$(json "$import" a/b dir "$T/src")"
reply 'a source that is not there is 400' 400 'No such file' POST /api/snapshots/import "$(json "$import" x dir "$T/none")"
reply 'a relative source is 400' 400 absolute POST /api/snapshots/import "$(json "$import" x dir src)"
reply 'a file as directory is 400' 400 error POST /api/snapshots/import "$(json "$import" x dir "$T/src.tar")"
reply 'a directory as tar is 400' 400 'regular file' POST /api/snapshots/import "$(json "$import" x tar "$T/src")"
reply 'what is no tar is 422' 422 error POST /api/snapshots/import "$(json "$import" x tar "$T/src/dir/big")"
reply 'two sources are 400' 400 'one of' POST /api/snapshots/import "{\"name\":\"x\",\"source\":{\"dir\":\"$T\",\"tar\":\"$T\"}}"
reply 'no source is 400' 400 'source' POST /api/snapshots/import '{"name":"x"}'
reply 'an unknown field is 400 and named' 400 'oneFileSytem' POST /api/snapshots/import '{"oneFileSytem":true}'
reply 'an unknown field of the source too' 400 'folder' POST /api/snapshots/import '{"name":"x","source":{"folder":"/x"}}'
reply 'a field of another type is 400' 400 'maxBytes' POST /api/snapshots/import '{"maxBytes":"1"}'
reply 'what is no JSON is 400' 400 'line 1' POST /api/snapshots/import '{"name":'
reply 'what nests too deep is 400' 400 'nests deeper' POST /api/snapshots/import "$(printf '[%.0s' {1..100})"
reply 'a JSON list is 400' 400 object POST /api/snapshots/import '[]'
reply 'a field given twice is 400' 400 duplicate POST /api/snapshots/import '{"name":"x","name":"y"}'
reply 'more bytes than allowed is 413' 413 error POST /api/snapshots/import \
	"{\"name\":\"x\",\"source\":{\"dir\":\"$T/src\"},\"maxBytes\":1000}"
reply 'more entries than allowed is 413' 413 error POST /api/snapshots/import \
	"{\"name\":\"x\",\"source\":{\"dir\":\"$T/src\"},\"maxEntries\":2}"
reply 'import of a tar by path' 201 '"source":"tar"' POST /api/snapshots/import "$(json "$import" bytar tar "$T/src.tar")"
reply 'none of the refused ones is there' 200 '^\[[^]]*\]' GET /api/snapshots
is '... but the two' "$(get length)" 2
is '... newest first' "$(get '.[0].name')" bytar

head -c 17000000 /dev/zero | tr '\0' ' ' >"$T/large"
call POST /api/snapshots/import -H 'Content-Type: application/json' -H 'Expect:' --data-binary "@$T/large"
is 'a body beyond 16 MiB is 413' "$code" 413
call POST /api/snapshots/import -H 'Content-Type: application/json' -H 'Expect:' \
	-H 'Transfer-Encoding: chunked' --data-binary "@$T/large"
is '... in chunks too' "$code" 413
rm "$T/large"

upload() { # QUERY FILE [CURL-ARGUMENT...]
	call POST "/api/snapshots/import?$1" -H 'Content-Type: application/x-tar' -T "$2" "${@:3}"
}
upload 'name=sent&format=tar' "$T/src.tar"
is 'a tar is sent' "$code" 201
is '... and is the same tree' "$(get .root)" "$(api GET /api/snapshots/bytar | field .root)"
upload 'name=sent&format=tar' "$T/src.tar"
is 'a taken name is 409 before it is sent' "$code" 409
upload 'name=sent&format=tar' "$T/src.tar" -H 'Expect:'
is '... and where the client sends at once' "$code" 409
gzip -k "$T/src.tar"
upload 'name=gz&format=tar' "$T/src.tar.gz"
is 'a compressed tar is sent' "$code" 201
upload 'name=x&format=tar' "$T/src/dir/big"
is 'what is no tar is 422' "$code" 422
upload 'format=tar' "$T/src.tar"
is 'a missing name is 400' "$code" 400
upload 'name=x&format=zip' "$T/src.tar"
is 'an unknown format is 400' "$code" 400
upload 'name=x&format=tar&maxEntries=1' "$T/src.tar"
is 'the limits hold' "$code" 413
call POST '/api/snapshots/import?name=x&format=tar' -H 'Content-Type: application/json' -T "$T/src.tar"
is 'JSON is no tar' "$code" 400
head -c 1000000 "$T/src.tar" >"$T/short.tar"
upload 'name=x&format=tar' "$T/short.tar"
is 'a short tar is 422' "$code" 422

cut_upload() { # NAME BYTES: send no more than so many; $client is who does
	curl -sS --unix-socket "$SOCK" -o /dev/null -T - -X POST \
		-H "Content-Length: $size" -H 'Transfer-Encoding:' -H 'Expect:' \
		"http://localhost/api/snapshots/import?name=$1&format=tar" 2>/dev/null \
		< <(head -c "$2" "$T/src.tar" && exec sleep 20) &
	client=$!
	pause 0.2
}

# A client that goes away in the middle, at any place: nothing is left of it.
size=$(stat -c %s "$T/src.tar")
for n in 0 100 512 1536 100000 1000000 $((size - 1)); do
	cut_upload "cut$n" "$n"
	kill $client
	wait $client 2>/dev/null
done
nothing_cut() {
	[ "$(api GET /api/snapshots | jq '[.[] | select(.name | startswith("cut"))] | length')" = 0 ]
}
ok 'a cut upload leaves no snapshot' until_true 10 nothing_cut
reply '... and its name is free' 201 ready POST /api/snapshots/import "$(json "$import" cut0 dir "$T/src")"

# --- events ---
call POST /api/snapshots/import -H 'Accept: text/event-stream' -d "$(json "$import" ev dir "$T/src")"
is 'an import tells its progress' "$code" 200
ok '... as events' grep -q '^event: progress$' "$T/body"
ok '... with figures' grep -q '^data: {"phase":".*","doneItems":[0-9]*,"totalItems":[0-9]*,"doneBytes":[0-9]*,"totalBytes":[0-9]*}$' "$T/body"
is '... and its result last' "$(tail -n 3 "$T/body" | sed -n 's/^event: //p')" result
is '... the snapshot' "$(sed -n '/^event: result/,$s/^data: //p' "$T/body" | jq -r .name)" ev
call POST /api/snapshots/import -H 'Accept: text/event-stream' -d "$(json "$import" ev dir "$T/src")"
is 'a refusal before the work has its status' "$code" 409
call POST /api/snapshots/import -H 'Accept: text/event-stream' -d "$(json "$import" ev2 tar "$T/src/dir/big")"
ok 'a failure of the work is an event' grep -q '^event: error$' "$T/body"
like '... with the reason' "$(sed -n 's/^data: //p' "$T/body" | tail -n 1 | jq -r .error)" '.'
upload 'name=ev3&format=tar' "$T/src.tar" -H 'Accept: text/event-stream'
is 'a sent tar has events too' "$(tail -n 3 "$T/body" | sed -n 's/^event: //p')" result

# --- snapshots ---
reply 'by name' 200 "\"id\":\"$one\"" GET /api/snapshots/one
reply 'by id' 200 '"name":"one"' GET "/api/snapshots/$one"
reply 'absent is 404, with the nearest name' 404 'did you mean.*one' GET /api/snapshots/onee
reply 'rename' 200 '"name":"uno"' PATCH /api/snapshots/one '{"name":"uno"}'
reply 'rename to a taken name is 409' 409 bytar PATCH /api/snapshots/uno '{"name":"bytar"}'
reply 'rename to a bad name is 400' 400 error PATCH /api/snapshots/uno '{"name":"-x"}'
reply 'rename of nothing is 404' 404 error PATCH /api/snapshots/nothing '{"name":"x"}'
reply 'an empty change is 400' 400 'nothing to change' PATCH /api/snapshots/uno '{}'
reply 'name and pin together are 400' 400 either PATCH /api/snapshots/uno '{"name":"x","pinned":true}'
reply 'replace alone is 400' 400 'replace goes with name' PATCH /api/snapshots/uno '{"replace":true,"pinned":true}'
reply 'a rename that replaces' 200 '"name":"ev"' PATCH /api/snapshots/ev3 '{"name":"ev","replace":true}'
reply '... leaves nothing of its own name' 404 error GET /api/snapshots/ev3
reply 'a wrong type is 400' 400 pinned PATCH /api/snapshots/uno '{"pinned":1}'
reply 'pin' 200 '"pinned":true' PATCH /api/snapshots/uno '{"pinned":true}'
reply 'time to live' 200 '"ttl":60' PATCH /api/snapshots/uno '{"ttl":60}'
is '... leaves the pin' "$(get .pinned)" true
reply 'a pinned one is not deleted' 409 pinned DELETE /api/snapshots/uno
reply 'unpin' 200 '"pinned":false' PATCH /api/snapshots/uno '{"pinned":false,"ttl":0}'
reply 'delete' 204 '^$' DELETE /api/snapshots/ev
reply '... again is 404' 404 error DELETE /api/snapshots/ev
reply 'history of one' 200 '"name":"uno"' GET /api/snapshots/uno/history
is '... is itself' "$(get length)" 1
reply 'history of nothing is 404' 404 error GET /api/snapshots/nothing/history
reply 'equal trees do not differ' 200 '^\[\]' GET /api/snapshots/bytar/diff/sent
reply 'a diff with nothing is 404' 404 nothing GET /api/snapshots/uno/diff/nothing

# --- export ---
call GET '/api/snapshots/uno/export?format=tar'
is 'export as tar' "$code" 200
ok '... has the files' sh -c "tar -C '$T/out' -xf '$T/body' && diff -r '$T/src' '$T/out'"
curl -sS --unix-socket "$SOCK" -D "$T/head" -o "$T/again" 'http://x/api/snapshots/uno/export'
ok '... is the same each time, and the default' cmp "$T/body" "$T/again"
ok '... says what it is' grep -qi '^content-type: application/x-tar' "$T/head"
ok '... and has a name' grep -qi '^content-disposition: .*"uno.tar"' "$T/head"
call GET '/api/snapshots/uno/export?format=oci'
is 'export as OCI' "$code" 200
ok '... is a layout' sh -c "tar -xOf '$T/body' oci-layout | jq -e .imageLayoutVersion"
cp "$T/body" "$T/uno.oci.tar"
reply '... that can be imported' 201 '"source":"oci"' POST /api/snapshots/import "$(json "$import" byoci oci "$T/uno.oci.tar")"
is '... and is the same tree' "$(get .root)" "$(api GET /api/snapshots/uno | field .root)"
reply 'an unknown tag is 422' 422 'tag|nope' POST /api/snapshots/import \
	"{\"name\":\"x\",\"source\":{\"oci\":\"$T/uno.oci.tar\",\"tag\":\"nope\"}}"
reply '... which holds all of it' 200 '"remarks":\[\]' GET '/api/snapshots/uno/export?format=oci&check=1'
reply 'another format is 400' 400 zip GET '/api/snapshots/uno/export?format=zip'
reply 'export of nothing is 404' 404 error GET /api/snapshots/nothing/export
for _ in 1 2 3; do
	curl -sS --unix-socket "$SOCK" 'http://x/api/snapshots/uno/export' 2>/dev/null | head -c 1000 >/dev/null
done
reply 'clients that leave an export do no harm' 200 ok GET /healthz

# --- mounts ---
m=$(quote "$T/m")
reply 'mount' 201 '"attached":true' POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/m\"}"
id=$(get .id)
ok '... and it is there' cmp "$T/src/dir/big" "$T/m/dir/big"
reply 'by id' 200 "$id" GET "/api/mounts/$id"
reply 'by place' 200 "$id" GET "/api/mounts/$m"
ln -s m "$T/alias"
reply 'by another name of the place' 200 "$id" GET "/api/mounts/$(quote "$T/alias")"
reply 'the list has it' 200 "$id" GET /api/mounts
reply 'a place is taken once' 409 "$id" POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/m\"}"
reply '... by any name' 409 "$id" POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/alias\"}"
reply 'an absent snapshot is 404' 404 error POST /api/mounts "{\"snapshot\":\"nothing\",\"mountpoint\":\"$T/m2\"}"
reply 'an absent place is 400' 400 'No such file' POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/none\"}"
reply 'a file as place is 400' 400 'not a directory' POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/src/file\"}"
reply 'a place that is not empty is 409' 409 'is not empty' POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/src\"}"
reply '... unless forced' 201 "$T/src" POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/src\",\"force\":true}"
over=$(get .id)
reply '... which goes again' 204 '' DELETE "/api/mounts/$over?discard=1"
reply 'a relative place is 400' 400 absolute POST /api/mounts '{"snapshot":"uno","mountpoint":"m"}'
reply 'the store is not hidden' 400 store POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T\"}"
reply '... nor the root' 400 store POST /api/mounts '{"snapshot":"uno","mountpoint":"/"}'
reply 'a missing place is 400' 400 mountpoint POST /api/mounts '{"snapshot":"uno"}'
reply 'a missing snapshot is 400' 400 snapshot POST /api/mounts "{\"mountpoint\":\"$T/m2\"}"
reply 'an unknown cache is 400' 400 cache POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/m2\",\"cache\":\"fast\"}"
reply 'an unknown field is 400' 400 readonly POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/m2\",\"readonly\":true}"
reply 'a negative quota is 400' 400 quotaBytes POST /api/mounts "{\"snapshot\":\"uno\",\"mountpoint\":\"$T/m2\",\"quotaBytes\":-1}"
reply 'an absent mount is 404' 404 error GET /api/mounts/nothing
reply 'an absent place is 404' 404 error GET "/api/mounts/$(quote "$T/m3")"

reply 'read-only' 201 '"readOnly":true' POST /api/mounts \
	"{\"snapshot\":\"uno\",\"mountpoint\":\"$T/m2\",\"readOnly\":true,\"fsname\":\"my-name\"}"
not_ok '... cannot be written' touch "$T/m2/x"
ok 'its source is what was asked for' grep -q "^my-name $T/m2 fuse" /proc/mounts
reply 'unmount' 204 '^$' DELETE "/api/mounts/$(quote "$T/m2")?discard=1"
not_ok '... and it is gone' is_mounted "$T/m2"
reply '... from the list too' 404 error GET "/api/mounts/$(quote "$T/m2")"

reply 'nothing is changed at first' 200 '^\[\]' GET "/api/mounts/$id/diff"
echo two >"$T/m/new"
rm "$T/m/dir/link"
chmod 600 "$T/m/file"
reply 'changes are told' 200 '.' GET "/api/mounts/$id/diff"
is '... each with its kind' "$(get '[.[] | .change + " " + .path] | join(", ")')" \
	'removed /dir/link, meta /file, added /new'

reply 'checkpoint' 201 '"source":"checkpoint"' POST "/api/mounts/$m/checkpoint" '{"name":"cp1","wait":true}'
is '... is ready' "$(get .status)" ready
is '... has its parent' "$(get .parent)" "$one"
reply '... is the base of the mount now' 200 '^\[\]' GET "/api/mounts/$id/diff"
reply '... differs from the parent' 200 '/new' GET /api/snapshots/uno/diff/cp1
is '... as the mount did' "$(get '[.[] | .change + " " + .path] | join(", ")')" \
	'removed /dir/link, meta /file, added /new'
reply 'history has both' 200 '.' GET /api/snapshots/cp1/history
is '... newest first' "$(get '[.[].name] | join(" ")')" 'cp1 uno'
reply 'a taken name is 409' 409 cp1 POST "/api/mounts/$id/checkpoint" '{"name":"cp1"}'
reply 'a bad name is 400' 400 error POST "/api/mounts/$id/checkpoint" '{"name":"a b"}'
reply 'a relative cgroup is 400' 400 freezeCgroup POST "/api/mounts/$id/checkpoint" '{"freezeCgroup":"x"}'
reply 'an unknown field is 400' 400 nme POST "/api/mounts/$id/checkpoint" '{"nme":"x"}'
reply 'of nothing is 404' 404 error POST /api/mounts/nothing/checkpoint '{}'
echo three >"$T/m/new"
reply 'one without waiting' 201 '"status":"(building|ready)"' POST "/api/mounts/$id/checkpoint" '{"name":"cp2"}'
for _ in $(seq 100); do
	[ "$(api GET /api/snapshots/cp2 | field .status)" = building ] || break
	pause 0.1
done
reply '... is ready soon' 200 '"status":"ready"' GET /api/snapshots/cp2
reply 'one that expires' 201 '"ttl":60' POST "/api/mounts/$id/checkpoint" '{"ttl":60,"wait":true}'
reply 'one without a name' 201 ready POST "/api/mounts/$id/checkpoint?wait=1"
is '... has frozen nobody' "$(get .frozenUs)" 0
is '... and the mount tells how long it was held up' \
	"$(api GET "/api/mounts/$id" | jq '.lastPauseUs > 0 and .lastFrozenUs == 0')" true

reply 'fork' 201 '"attached":true' POST "/api/mounts/$id/fork" "{\"mountpoint\":\"$T/m3\"}"
fork=$(get .id)
is '... has what its source has' "$(cat "$T/m3/new")" three
is '... its checkpoint expires' "$(api GET /api/snapshots | field '.[0] | [.name, .source, .ttl] | @csv')" '"","checkpoint",2592000'
echo four >"$T/m3/new"
is '... but goes its own way' "$(cat "$T/m/new")" three
reply 'fork to a taken place is 409' 409 "$fork" POST "/api/mounts/$id/fork" "{\"mountpoint\":\"$T/m3\"}"
reply 'fork to nowhere is 400' 400 error POST "/api/mounts/$id/fork" "{\"mountpoint\":\"$T/none\"}"
reply 'a fork names no snapshot' 400 snapshot POST "/api/mounts/$id/fork" "{\"mountpoint\":\"$T/m2\",\"snapshot\":\"uno\"}"
reply 'fork of nothing is 404' 404 error POST /api/mounts/nothing/fork "{\"mountpoint\":\"$T/m2\"}"

# --- lists in pages ---
for i in 1 2 3 4 5; do
	reply "patch $i" 201 "\"sequence\":$i" POST "/api/sandboxes/checkpoints/$one/patches" "{\"script\":\"echo $i\"}"
done
for n in 1 4; do
	for list in snapshots 'snapshots?all=1' snapshots/cp2/history mounts "sandboxes/checkpoints/$one/patches"; do
		ok "${list/$one/ID} in pages of $n" pages_agree "/api/$list" $n
	done
done
for list in snapshots mounts builds images sandboxes "sandboxes/checkpoints/$one/patches" snapshots/uno/history; do
	reply "${list/$one/ID}: a limit of nothing is 400" 400 'limit.*at least 1' GET "/api/$list?limit=0"
	reply '... no number, too' 400 'limit.*-1.*not a number' GET "/api/$list?limit=-1"
	reply '... and an id that it does not have' 400 'after.*nothing.*not in the list' GET "/api/$list?after=nothing"
	reply '... or an empty one' 400 'after.*empty' GET "/api/$list?limit=2&after="
done
reply 'a list that is empty is so in pages' 200 '^\[\]' GET '/api/builds?limit=10'
reply 'a sandbox that is not there has no page' 404 error GET '/api/sandboxes/sb-0000000000000000/checkpoints?limit=1'

echo kept >"$T/m3/kept"
exec 9<"$T/m3/kept"
reply 'a mount in use is 409' 409 error DELETE "/api/mounts/$fork"
ok '... and stays' is_mounted "$T/m3"
reply '... unless lazily' 204 '^$' DELETE "/api/mounts/$fork?lazy=1"
exec 9<&-
reply 'a detached one is kept' 200 '"attached":false' GET "/api/mounts/$fork"
reply '... is detached once' 409 discard DELETE "/api/mounts/$fork"
reply '... can be looked into' 200 '/kept' GET "/api/mounts/$fork/diff"
reply 'attach elsewhere' 200 '"attached":true' POST "/api/mounts/$fork/attach" "{\"mountpoint\":\"$T/m2\"}"
is '... has all of it' "$(cat "$T/m2/kept")" kept
reply '... once' 409 "it is mounted at $T/m2" POST "/api/mounts/$fork/attach"
reply 'unmount again' 204 '^$' DELETE "/api/mounts/$fork"
reply 'attach to a taken place is 409' 409 "$id" POST "/api/mounts/$fork/attach" "{\"mountpoint\":\"$T/m\"}"
reply 'attach to nowhere is 400' 400 error POST "/api/mounts/$fork/attach" "{\"mountpoint\":\"$T/none\"}"
reply 'attach where it was' 200 "$T/m2" POST "/api/mounts/$fork/attach"
reply 'attach of nothing is 404' 404 error POST /api/mounts/nothing/attach
reply 'a bad flag is 400' 400 discard DELETE "/api/mounts/$fork?discard=yes"
reply 'discard' 204 '^$' DELETE "/api/mounts/$fork?discard=1"
reply '... is for good' 404 error GET "/api/mounts/$fork"

# --- the store ---
reply 'gc' 200 '"removedChunks":[0-9]' POST /api/gc '{"compact":false}'
call POST /api/gc -H 'Accept: text/event-stream'
is 'gc with events' "$(tail -n 3 "$T/body" | sed -n 's/^event: //p')" result
reply 'gc: an unknown field is 400' 400 compct POST /api/gc '{"compct":true}'
reply 'verify' 200 '"problems":\[\]' POST /api/verify
ok '... has looked at something' jq -e '.damaged == 0 and .chunks > 0 and .snapshots > 3' "$T/body"
reply 'verify of one snapshot' 200 '"snapshots":1' POST /api/verify '{"snapshot":"uno"}'
reply 'verify of nothing is 404' 404 nothing POST /api/verify '{"snapshot":"nothing"}'
reply 'stats' 200 '"snapshotCount":[0-9]' GET /api/stats
ok '... count' jq -e '.chunkCount > 0 and .storedBytes > 3000000 and .mounts.attached == 1' "$T/body"
reply 'metrics have counted' 200 'snapshotd_work_total\{work="import",result="ok"\} [1-9]' GET /metrics
ok '... in lines of the known form' sh -c "! grep -vE '^(# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+=\"[^\"]*\"(,[a-z]+=\"[^\"]*\")*\})? [0-9.]+(e[-+][0-9]+)?)\$' '$T/body'"
reply 'after all of that the mount is well' 200 '"attached":true' GET "/api/mounts/$m"

# --- a second daemon, a restart ---
not_ok 'the store is for one daemon' snapshotd --state "$STATE" --socket "$T/sock2"
not_ok 'and so is the socket' snapshotd --state "$T/state2" --socket "$SOCK"
is 'the socket is not for everybody' "$(stat -c %a "$SOCK")" 660
not_ok 'TCP without a key is refused' env -u SNAPSHOTD_API_KEY \
	snapshotd --state "$T/state3" --socket "$T/sock3" --listen 127.0.0.1:0
echo restart >"$T/m/restart"
stop_daemon
ok 'the daemon ends well' daemon_ended_well
not_ok 'its socket is removed' test -e "$SOCK"
not_ok 'its mounts are unmounted' is_mounted "$T/m"
start_daemon
is 'the next daemon mounts them again' "$(cat "$T/m/restart")" restart
reply '... as they were' 200 '"attached":true' GET "/api/mounts/$id"
stop_daemon
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$SOCK" 2>/dev/null ||
	touch "$T/no-stale"
if [ -e "$T/no-stale" ]; then
	skip 'a stale socket is replaced' 'no python3'
	start_daemon
else
	start_daemon
	reply 'a stale socket is replaced' 200 ok GET /healthz
fi

# --- stopping in the middle ---
echo before >"$T/m/stop"
cut_upload stopped 100000
at_most 'an upload does not hold up the end' "$(millis stop_daemon)" 5000
ok '... which is orderly' daemon_ended_well
kill $client 2>/dev/null
wait $client 2>/dev/null
start_daemon
reply '... and leaves nothing' 404 error GET /api/snapshots/stopped
reply 'the mount is back' 200 '"attached":true' GET "/api/mounts/$id"
done_testing
