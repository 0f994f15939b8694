#!/bin/bash
# The published OpenComputer SDK (npm @opencomputer/sdk), unchanged, against the daemon on loopback
# TCP with an API key: images, snapshots, sandboxes, commands, files, checkpoints, patches.
# timeout: 1200
# tags: sandbox
. "${0%/*}/lib.sh"
need root fuse runc node npm curl jq
need_space 3000
[ "$(node -p 'parseInt(process.versions.node)')" -ge 18 ] || skip_all "needs Node 18 or newer"
sdk_version=0.12.4
mkdir "$T/sdk" && cd "$T/sdk" && echo '{"type": "module"}' >package.json
if ! npm_config_cache=$T/npm npm install --no-audit --no-fund --ignore-scripts \
	"@opencomputer/sdk@$sdk_version" >"$T/npm.log" 2>&1; then
	tail -n 5 "$T/npm.log" | sed 's/^/# /'
	skip_all "npm cannot install the SDK (no registry?)"
fi
is "the SDK is the one that was asked for" \
	"$(jq -r .version node_modules/@opencomputer/sdk/package.json)" "$sdk_version"

export SNAPSHOTD_API_KEY=osb_test_0123456789abcdef
start_debian_daemon '{}' --listen 127.0.0.1:0
unset SNAPSHOTD_API_KEY
OPENCOMPUTER_API_URL=$(daemon_url)
export OPENCOMPUTER_API_URL OPENCOMPUTER_API_KEY=osb_test_0123456789abcdef

apt=()
if mirror_reachable; then
	apt=(--apt tree 'tree --version')
else
	skip "aptInstall" "no package mirror"
fi
timeout 900 node "$SRC/tests/integration/opencomputer.mjs" "${apt[@]}" >"$T/sdk.out" 2>"$T/sdk.err"
is "the program ends" "$? $(tail -n 1 "$T/sdk.out")" "0 END"
while IFS= read -r line; do
	case $line in
	PASS\ *) pass "${line#PASS }" ;;
	FAIL\ *)
		line=${line#FAIL }
		fail "${line%%: *}" "${line#*: }"
		;;
	esac
done <"$T/sdk.out"
[ ! -s "$T/sdk.err" ] || diag "$(head -n 20 "$T/sdk.err")"

is "nothing is left of killed sandboxes" \
	"$(api GET /api/sandboxes | jq length),$(varve --json mounts --all | jq length)" "0,0"
ok "verify" varve verify
done_testing
