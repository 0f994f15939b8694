#!/bin/bash
# The debian-12 template, built for real from Debian's packages and npm, and what is in it.
# tags: sandbox template
# timeout: 1500
. "${0%/*}/lib.sh"
need root fuse jq runc mmdebstrap
need_space 6000

config=$T/config.json
# A proxy that looks into TLS has a certificate of its own here, which npm has to know.
cat /usr/local/share/ca-certificates/*.crt >"$T/ca" 2>/dev/null
jq -n --rawfile ca "$T/ca" '{buildEnv: (if $ca == "" then {} else {npm_config_ca: $ca} end +
	({http_proxy: env.http_proxy, https_proxy: env.https_proxy, no_proxy: env.no_proxy} |
	with_entries(select(.value))))}' >"$config"
start_daemon --config "$config"
cd "$T" || exit

started=$SECONDS
varve template build debian-12 >out 2>err
status=$?
if [ $status != 0 ] && grep -qE 'could not reach' <(tail -n 1 err); then
	skip_all "no network: $(tail -n 1 err)"
fi
diag "the build took $((SECONDS - started)) s"
is "template build succeeds" "$status" 0 || tail -n 30 err | sed 's/^/#   /'
like "and tells the snapshot" "$(<out)" '^debian-12: [0-9]+ files, .* new in the store$'
base=$(varve --json snapshots | jq -r '.[].name | select(startswith("template-debian-12-bootstrap-"))')
is "on a base system that expires" "$(varve --json show "$base" | jq .ttl)" 2592000

id=$(varve --json run --keep --snapshot debian-12 true | jq -r .sandboxID)
box() { varve exec "$id" -- "$@" 2>&1; }
like "node" "$(box node --version)" '^v20\.'
like "npm" "$(box npm --version)" '^10\.'
like "npx" "$(box npx --version)" '^10\.'
like "claude" "$(box claude --version)" '^[0-9]+\.[0-9.]+ \(Claude Code\)'
is "the Agent SDK" "$(box node -e 'const s = require("@anthropic-ai/claude-agent-sdk"); console.log(typeof s.query)')" \
	function
like "python" "$(box python3 --version)" '^Python 3\.'
like "pip" "$(box python3 -m pip --version)" '^pip [0-9]'
like "setuptools" "$(box python3 -c 'import setuptools; print(setuptools.__version__)')" '^[0-9]'
is "venv" "$(box sh -c 'python3 -m venv /tmp/v && /tmp/v/bin/python -c "import sys; print(sys.prefix)"')" /tmp/v
like "git-lfs" "$(box git lfs version)" '^git-lfs/'
is "git-lfs is set up" "$(box git config --system filter.lfs.required)" true
is "a C program" "$(box sh -c 'cd /tmp && printf "int main(void) { return 7; }" >a.c && cc a.c && ./a.out; echo $?')" 7
is "a C++ project with cmake" "$(box sh -c 'mkdir /tmp/c && cd /tmp/c && echo "#include <iostream>
	int main() { std::cout << \"built\"; }" >m.cc && printf "cmake_minimum_required(VERSION 3.5)
	project(p CXX)
	add_executable(p m.cc)" >CMakeLists.txt && cmake . >/dev/null && make >/dev/null && ./p')" built
missing=$(box sh -c 'for c in gcc g++ make cmake pkg-config git curl wget jq rsync htop tree nano vi sqlite3 \
	ssh scp ip ss ifconfig netstat dig nslookup node npm npx claude python3 pip; do
	command -v $c >/dev/null || echo $c; done')
is "every command is there" "$missing" ""
is "the distribution's node is not" "$(box sh -c 'ls /usr/bin/node /usr/bin/npm 2>/dev/null')" ""
is "dpkg is content" "$(box dpkg --audit)" ""
is "no lists and caches are left" \
	"$(box sh -c 'ls /var/lib/apt/lists /var/cache/apt/archives/*.deb /root/.npm 2>/dev/null' | grep -v '^/var/lib/apt/lists:$')" ""
is "nor the host's names or settings" \
	"$(varve --json ls debian-12:etc | jq -r '.[] | select(.path == "hostname" or .path == "resolv.conf").path')$(box sh -c 'env | grep -i npm_config')" ""
ok "kill" varve kill "$id"

# --- again, and with changes ---
started=$SECONDS
ok "again is nothing to do" varve template build debian-12
ok "and takes no time" test $((SECONDS - started)) -le $((5 * SLOW))
mkdir recipes
jq '.steps += [{"type": "run", "args": {"commands": ["echo more >/more"]}}]' \
	"$SRC/tools/templates/debian-12.json" >recipes/debian-12.json
not_ok "a changed recipe does not replace it" varve template build recipes/debian-12.json
started=$SECONDS
ok "without --force; under another name it is built" \
	varve template build recipes/debian-12.json --name debian-more
ok "from what is cached" test $((SECONDS - started)) -le $((30 * SLOW))
is "with the last step" "$(varve run --snapshot debian-more cat /more)" more
old=$(varve --json show debian-12 | jq -r .id)
jq '.steps = [{"type": "run", "args": {"commands": ["exit 1"]}}]' \
	recipes/debian-12.json >recipes/failing.json
not_ok "a recipe that fails, forced" varve template build -q recipes/failing.json --force --name debian-12
is "leaves the old one" "$(varve --json show debian-12 | jq -r '[.id, .status] | join(" ")')" "$old ready"
is "and nothing half made" "$(varve --json snapshots | jq -r '.[].name | select(test("new-"))')" ""
jq '.steps = [{"type": "run", "args": {"commands": ["echo replaced >/replaced"]}}]' \
	recipes/failing.json >recipes/small.json
ok "one that succeeds replaces it" varve template build -q recipes/small.json --force --name debian-12
is "under its name" "$(varve run --snapshot debian-12 cat /replaced)" replaced
not_ok "the old one is gone" varve show "$old"
done_testing
