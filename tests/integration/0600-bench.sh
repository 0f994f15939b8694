#!/bin/bash
# tags: bench
# timeout: 600
# Benchmarks work: each in its quick form, which says nothing of speed. Peers that are not
# installed are left out.
. "${0%/*}/lib.sh"
need root fuse python3 jq mmdebstrap
for f in maketar fileio mountbench/mountbench; do
	[ -x "$BUILD/tests/perf/$f" ] || skip_all "needs $f (make helpers)"
done
need_space 4000

# Their results go to a build directory of this test's own.
mkdir -p "$T/build" "$BUILD/debs"
for f in "$BUILD"/*; do
	[ "${f##*/}" = bench ] || ln -s "$f" "$T/build/"
done
export VARVE_BUILD=$T/build BENCH_QUICK=1
out=$T/build/bench/quick results=$T/build/bench/quick/results.json

need_debian_root
[ -e "$T/build/debian-root.tar" ] || ln -s "$ROOT_TAR" "$T/build/"

groups=(mount fork checkpoint walk read write develop import size memory)
if command -v runc >/dev/null || command -v crun >/dev/null; then groups+=(sandbox); fi
if command -v radosgw >/dev/null; then groups+=(share); fi
ok "all run" "$SRC/tests/perf/run" "${groups[*]}"
for g in "${groups[@]}"; do
	if [ "$g" = size ] && ! command -v mksquashfs >/dev/null; then
		skip "size" "needs mksquashfs to compare with"
		continue
	fi
	ok "$g has rows with figures" jq -e --arg g "$g" \
		'.groups[$g].rows | length > 0 and all(.varve | type == "number")' "$results"
	ok "$g has a table" grep -q '^| work ' "$out/$g.md"
done
ok "speed has peers and targets" jq -e \
	'[.groups[].rows[] | select(.target and .peer == "overlayfs" and .ratio > 0)] | length > 10' \
	"$results"
ok "the plot is well-formed" python3 -c 'import sys, xml.dom.minidom
assert len(xml.dom.minidom.parse(sys.argv[1]).getElementsByTagName("rect")) > 30' \
	"$out/bench.svg"
if [[ " ${groups[*]} " = *" share "* ]]; then
	ok "a start with a hot object is few requests, of which few wait for each other" jq -e \
		'[.groups.share.rows[] | select(.work | test("with a hot object")) | .varve] | .[0] <= 12 and .[1] <= 5' \
		"$results"
fi
is "nothing is left mounted" "$(grep -c '/varve-bench\.' /proc/self/mounts)" 0

# A peer that fails.
mkdir "$T/fake"
printf '#!/bin/sh\necho ${0##*/}: no such repository >&2\nexit 1\n' >"$T/fake/restic"
chmod +x "$T/fake/restic"
for peer in mkfs.erofs squashfuse_ll fuse-overlayfs mkfs.btrfs; do cp "$T/fake/restic" "$T/fake/$peer"; done
ok "a peer that fails ends nothing" env PATH="$T/fake:$PATH" "$SRC/tests/perf/run" import mount fork checkpoint
for g in mount:mkfs.erofs mount:fuse-overlayfs fork:mkfs.btrfs checkpoint:restic; do
	like "... nor its group: $g" "$(<"$out/${g%:*}.md")" "left out: .*${g#*:}.* failed"
	ok "... where others are" jq -e --arg g "${g%:*}" '.groups[$g].rows | any(.peer | test("overlayfs"))' "$results"
done
like "the table says that it is left out" "$(<"$out/import.md")" 'left out: restic.*has failed:.*no such repository'
is "and has no row of it" "$(jq '[.groups.import.rows[] | select(.peer | test("restic"))] | length' "$results")" 0
ok "but the others'" jq -e '[.groups.import.rows[] | select(.peer | test("squashfs|tar"))] | length > 0' "$results"

not_ok "an unknown benchmark is refused" "$SRC/tests/perf/run" nothing

# Into copies of the pages, twice.
mkdir -p "$T/tests/perf"
cp "$SRC/README.md" "$T/README.md"
cp "$SRC/tests/perf/RESULTS.md" "$T/tests/perf/RESULTS.md"
not_ok "the pages take no quick figures" "$SRC/tests/perf/results" "$T"
ok "unless told to" "$SRC/tests/perf/results" --force "$T"
ok "the plot is there" test -s "$T/tests/perf/bench.svg"
like "and linked" "$(cat "$T/tests/perf/RESULTS.md")" '\]\(bench\.svg\)'
cp "$T/README.md" "$T/once.md"
cp "$T/tests/perf/RESULTS.md" "$T/once-results.md"
ok "again" "$SRC/tests/perf/results" --force "$T"
ok "which changes nothing" cmp "$T/once.md" "$T/README.md"
ok "... in either page" cmp "$T/once-results.md" "$T/tests/perf/RESULTS.md"
is "other sections are as they were" \
	"$(diff <(grep '^## ' "$SRC/README.md") <(grep '^## ' "$T/README.md"))" ""
done_testing
