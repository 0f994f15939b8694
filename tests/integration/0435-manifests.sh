#!/bin/bash
# Every bad manifest of the shared vectors is refused by the daemon with 400 and the reason, by
# each call that takes one, and nothing is built of it; good ones get the keys of the vectors.
# tags: sandbox quick asan commands
# timeout: 300
. "${0%/*}/lib.sh"
need root fuse curl jq python3

start_daemon
import_empty debian-12.1_x >/dev/null
is "the vectors are what their maker makes" "$("$SRC/tests/vectors/make" --check 2>&1)" ""

cat >"$T/post.py" <<'EOF'
import http.client, json, socket, sys

class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])

def post(path, body):
    c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse()
    return r.status, json.loads(r.read() or b"null")

c = Connection("localhost")
vectors = json.load(open(sys.argv[2]))
done = 0
for v in vectors["invalid"]:
    for path, body in (("/api/snapshots", {"name": "x", "image": v["manifest"]}),
                       ("/api/sandboxes", {"image": v["manifest"]})):
        if v["manifest"] is None:
            continue  # no image at all
        status, reply = post(path, body)
        if status != 400 or v["error"] not in reply.get("error", ""):
            print(path, v["name"], status, str(reply)[:300])
        done += 1
# Good ones pass the check: what they lack is their base.
for v in vectors["valid"]:
    if v["manifest"]["base"] == "snapshot:debian-12.1_x":
        continue
    status, reply = post("/api/snapshots", {"name": "x", "image": v["manifest"]})
    if status != 422 or "base" not in reply.get("error", ""):
        print(v["name"], status, str(reply)[:300])
    done += 1
for v in vectors["valid"]:
    if v["manifest"]["base"] == "snapshot:debian-12.1_x" and v["manifest"]["steps"] == []:
        status, reply = post("/api/snapshots", {"name": "of-nothing", "image": v["manifest"]})
        if status != 201 or reply.get("contentHash") != v["key"]:
            print(v["name"], status, str(reply)[:300])
        done += 1
if done < 600:
    print("only", done)
EOF
is "each vector gets its answer" "$(python3 "$T/post.py" "$SOCK" "$SRC/tests/vectors/manifests.json" 2>&1)" ""
is "nothing was built of the bad ones" "$(api GET /api/builds | jq -r '[.[] | select(.status != "ready")] | length')" 0
is "no name is taken by them" "$(api GET /api/snapshots/x | jq -r 'has("error")')" true
is "no sandbox was made" "$(api GET /api/sandboxes)" '[]'
like "NUL elsewhere is refused too" "$(api POST /api/snapshots '{"name": "a\u0000b", "image": {}}')" 'name.* has a NUL'
printf '{"name": "big", "image": {"base": "base", "steps": [{"type": "run", "args": {"commands": ["%s"]}}]}}' \
	"$(head -c 17000000 /dev/zero | tr '\0' x)" >"$T/big.json"
is "a manifest beyond the limit is too large" "$(curl -sS -o /dev/null -w '%{http_code}' --unix-socket "$SOCK" \
	-H 'Content-Type: application/json' --data-binary "@$T/big.json" http://localhost/api/snapshots)" 413

done_testing
