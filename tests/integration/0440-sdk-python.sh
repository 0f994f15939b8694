#!/bin/bash
# The Python library: its unit tests, and all of it against a daemon whose default
# template is a Debian root, with and without asyncio, on the socket and on TCP.
# timeout: 1200
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse runc python3 curl jq
need_space 3000
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || skip_all "needs Python 3.9 or newer"
export PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=error::ResourceWarning
unset VARVE_API_URL VARVE_API_KEY VARVE_SOCKET
sdk=$SRC/tools/sdk/python
cd "$sdk" || exit 1
unittest() { # MODULE-or-CLASS...
	python3 -m unittest "$@"
}

ok "unit tests" unittest tests.test_image tests.test_events tests.test_http
if command -v mypy >/dev/null; then
	ok "its types" mypy --cache-dir "$T/mypy"
else
	skip "its types" "needs mypy"
fi
# A Python that can make packages without fetching anything.
for python in python3 /usr/bin/python3; do
	"$python" -c 'import setuptools, wheel; assert int(setuptools.__version__.split(".")[0]) >= 61' \
		2>/dev/null && break
	python=
done
if [ -n "$python" ] && "$python" -m venv --system-site-packages "$T/venv" >"$T/venv.log" 2>&1; then
	cp -r "$sdk" "$T/package"
	ok "installs with pip" "$T/venv/bin/pip" install --no-build-isolation --no-index --no-deps "$T/package"
	ok "with its types" test -e "$(cd / && "$T/venv/bin/python" -c \
		'import os, varve; print(os.path.dirname(varve.__file__))')/py.typed"
else
	skip "installs with pip" "needs setuptools 61 and wheel"
fi

export SNAPSHOTD_API_KEY=key-of-this-test
start_debian_daemon '{}' --listen 127.0.0.1:0
unset SNAPSHOTD_API_KEY
VARVE_LIVE_URL=$(daemon_url)
export VARVE_LIVE=1 VARVE_LIVE_KEY=key-of-this-test VARVE_LIVE_URL
for part in images.LiveImages images.LiveSnapshots remotes.LiveRemotes sandboxes.LiveSandboxes sandboxes.LiveCommands \
	sandboxes.LiveFiles sandboxes.LiveCheckpoints sandboxes.LiveTcp aio.LiveAsync; do
	ok "${part#*.Live} of a daemon" unittest "tests.test_live_$part"
done

# The example of its README, as it is.
mkdir -p "$T/example/app" && cd "$T/example" && echo data >app/file
sed -n '/^```python$/,/^```$/p' "$sdk/README.md" | sed '/^```$/,$d; /^```/d' >example.py
if mirror_reachable; then
	like "the README's example" "$(PYTHONPATH=$sdk python3 example.py 2>&1)" $'jq-1[.0-9]*\n/workspace'
else
	skip "the README's example" "no package mirror"
fi
is "nothing is left of killed sandboxes" \
	"$(api GET /api/sandboxes | jq length),$(varve --json mounts --all | jq length)" "$(ls "$STATE/sandboxes" | wc -l),$(ls "$STATE/sandboxes" | wc -l)"
ok "verify" varve verify
done_testing
