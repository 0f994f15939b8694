#!/bin/bash
# The dashboard in a real Chromium: what it shows, what it does, by pointer and keyboard.
# tags: sandbox
# timeout: 900
. "${0%/*}/lib.sh"
need root fuse chromium chromedriver python3 jq curl

key=secret-of-this-test-$RANDOM
port=$((20000 + RANDOM % 20000))
SNAPSHOTD_API_KEY=$key start_daemon --listen "127.0.0.1:$port"

# A root that a container can start: a shell, a few programs and what they load.
mini_root() { # DIR
	local p f
	mkdir -p "$1"/{bin,etc,tmp,dev,proc,sys,root}
	for p in sh sleep cat ls mkdir rm; do
		f=$(realpath "$(command -v $p)")
		cp "$f" "$1/bin/$p"
		ldd "$f" | grep -o '/[^ ]*' | while read -r f; do
			mkdir -p "$1${f%/*}" && cp -n "$f" "$1$f"
		done
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$1/etc/passwd"
	echo 'root:x:0:' >"$1/etc/group"
}

# Snapshots in a line with a branch, and a mount whose name looks like markup.
mkdir -p "$T/src" "$T/browser" "$T/line" "$T/odd <img src=x onerror=owned=1>"
head -c 300000 /dev/urandom >"$T/src/one"
cp -r "$SRC/store" "$T/src/code"
varve import alpha dir "$T/src" >/dev/null
mount_at alpha "$T/line"
echo two >"$T/line/two"
varve checkpoint "$T/line" alpha-2 >/dev/null
fork_at alpha-2 "$T/fork"
echo fork >"$T/fork/fork"
varve checkpoint "$T/fork" alpha-fork >/dev/null
echo three >"$T/line/three"
varve checkpoint "$T/line" alpha-3 >/dev/null
echo changed >"$T/fork/changed"
varve import plain dir "$SRC/fs" >/dev/null
mount_at alpha-2 "$T/odd <img src=x onerror=owned=1>"
mkdir -p "$T/odd <img src=x onerror=owned=1>/<u>fresh<"
touch "$T/odd <img src=x onerror=owned=1>/<u>fresh</u>"

runtime=0
if command -v runc >/dev/null; then
	mini_root "$T/mini" && varve import mini dir "$T/mini" >/dev/null && runtime=1
else
	skip "builds and sandboxes" "needs the command runc"
fi

# --- what is served ---
get() { # PATH [CURL-OPTION...]
	curl -sS --unix-socket "$SOCK" "${@:2}" "http://localhost$1"
}
like "the page needs no key" "$(curl -s "http://127.0.0.1:$port/")" 'Varve'
is "the API does" "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/api/stats")" 401
like "its policy lets nothing in" "$(get / -I)" "default-src 'none'; script-src 'self'"
etag=$(get /dashboard/app.js -I | tr -d '\r' | sed -n 's/^ETag: //p')
like "assets have an ETag" "$etag" '^"[0-9a-f]{64}"$'
is "which is asked for again with 304" \
	"$(get /dashboard/app.js -o /dev/null -w '%{http_code} %{size_download}' -H "If-None-Match: $etag")" '304 0'
is "another one's is not" \
	"$(get /dashboard/style.css -o /dev/null -w '%{http_code}' -H "If-None-Match: $etag")" 200
is "what is not there is not found" "$(get /dashboard/../main.c -o /dev/null -w '%{http_code}' --path-as-is)" 404
for f in "$SRC"/snapshotd/dashboard/*.{js,css,svg,html}; do
	name=/dashboard/${f##*/}
	get "$name" -o "$T/.asset" -w '%{content_type}\n' >"$T/.type"
	case $f in
	*.js) type=text/javascript ;;
	*.css) type=text/css ;;
	*.svg) type=image/svg ;;
	*.html) type=text/html ;;
	esac
	like "$name is $type" "$(cat "$T/.type")" "$type"
	ok "$name is as it was written" cmp "$T/.asset" "$f"
done
not_ok "it names nothing elsewhere" grep -nE "https?://" -r "$SRC/snapshotd/dashboard" \
	--include='*.html' --include='*.css'

# --- in the browser ---
history_before=$(get /api/stats/history | jq -r '.[0].time')
export DASHBOARD_KEY=$key DASHBOARD_RUNTIME=$runtime VARVE_BUILD=$BUILD PYTHONDONTWRITEBYTECODE=1
while IFS= read -r line; do
	case $line in
	'ok - '*) pass "${line#ok - }" ;;
	'not ok - '*) fail "${line#not ok - }" ;;
	'# stop') stop_daemon ;;
	'# start')
		SNAPSHOTD_API_KEY=$key start_daemon
		;;
	*) diag "${line#\# }" ;;
	esac
done < <(
	python3 "$SRC/tests/integration/dashboard.py" "$T" "$port" 2>&1
	echo "# status $?"
)
is "the history survives a restart" "$(get /api/stats/history | jq -r '.[0].time')" "$history_before"
done_testing
