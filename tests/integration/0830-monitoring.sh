#!/bin/bash
# /metrics: what the dashboard and the alerts name is there, counters count, labels have few values; and
# each change has a line of log with who made it.
# tags: quick asan
# timeout: 120
. "${0%/*}/lib.sh"
need root fuse jq python3 curl helper:kvdamage
mkdir -p "$T/bucket"
jq -n --arg t "$T" '{share: "main", remotes: [{name: "main", url: ("file://" + $t + "/bucket")}]}' >"$T/config.json"
start_daemon --config "$T/config.json"
metrics() { api GET /metrics; }
value() { # NAME{LABELS}
	metrics | awk -v n="$1" 'index($0, n " ") == 1 { print $2 }'
}

# --- what is named is there ---
metrics >"$T/metrics"
named() {
	grep -ohE 'snapshotd_[a-z_]+' "$@" | sed -E 's/_(bucket|count|sum)$//' | sort -u
}
is "every metric of the dashboard and the alerts" \
	"$(named "$SRC/tools/monitoring/grafana.json" "$SRC/tools/monitoring/alerts.yml" | grep -vxF "$(sed -n 's/^# TYPE \([^ ]*\) .*/\1/p' "$T/metrics")")" ""
is "every work and state that they name" "$(grep -ohE '(work|state|code|cause)=~?"[^"]*"' "$SRC/tools/monitoring/alerts.yml" |
	sed 's/=~/=/; s/.*="//; s/"//' | tr '|' '\n' | sort -u | while read -r v; do grep -q "=\"$v\"" "$T/metrics" || echo "$v"; done)" ""
ok "the dashboard is JSON with panels" jq -e '.panels | length > 10' "$SRC/tools/monitoring/grafana.json"
is "a panel each has a place" "$(jq -r '[.panels[].gridPos | [.x, .y]] | (length == (unique | length))' "$SRC/tools/monitoring/grafana.json")" true
is "each metric has its help and type once" "$(sed -n 's/^# TYPE \([^ ]*\) .*/\1/p' "$T/metrics" | sort | uniq -d)" ""
is "no sample without" "$(grep -v '^#' "$T/metrics" | sed -E 's/[{ ].*//; s/_(bucket|count|sum)$//' | sort -u |
	grep -vxF "$(sed -n 's/^# TYPE \([^ ]*\) .*/\1/p' "$T/metrics")")" ""
lines=$(wc -l <"$T/metrics")

# --- counters count ---
mkdir "$T/src" && for i in {1..20}; do head -c 30000 /dev/urandom >"$T/src/$i"; done
varve import a dir "$T/src" >/dev/null
mount_at a "$T/m"
cat "$T/m"/* >/dev/null
ok "nodes that are in memory" test "$(value snapshotd_node_cache_hits_total)" -gt 0
ok "chunks that are not" test "$(value snapshotd_chunk_cache_misses_total)" -ge 20
is "a call is counted by what it is about" "$(value 'snapshotd_call_seconds_count{resource="mounts",kind="change"}')" 1
is "in a histogram" "$(value 'snapshotd_call_seconds_bucket{resource="mounts",kind="change",le="+Inf"}')" 1
is "verification" "$(value snapshotd_verify_last_seconds)" 0
varve verify >/dev/null
ok "is noted" test "$(value snapshotd_verify_last_seconds)" -gt 1700000000
varve gc >/dev/null
ok "and a collection" test "$(value snapshotd_gc_runs_total)" -ge 1
for i in {1..30}; do api GET "/api/snapshots/none-$i" >/dev/null; done
is "names make no more lines" "$(metrics | wc -l)" "$lines"

# --- who has changed what ---
logged() { grep -qE "$1" "$T/daemon.log"; }
id=$(mount_id "$T/m")
ok "a mount" logged "info: POST by uid 0, pid [0-9]+ \(varve\): 201 /api/mounts id=$id .*mountpoint=$T/m$"
is "it would end with the daemon" "$(varve --json mounts | jq -c '[.[].kept]')" '[false]'
varve umount --discard "$T/m"
ok "its end" logged "DELETE by uid 0, pid [0-9]+ \(varve\): 20[04] /api/mounts/$id"
varve rm a
ok "a removal" logged 'DELETE by uid 0, pid [0-9]+ \(varve\): 20[04] /api/snapshots/a'
varve rm a 2>/dev/null
ok "one that failed" logged 'DELETE by uid 0, pid [0-9]+ \(varve\): 404 /api/snapshots/a'
not_ok "reading is not logged" logged 'GET by uid'

# --- damage that was found is there until it is not ---
varve import b dir "$T/src" >/dev/null
stop_daemon
chunk=$("$(helper kvdamage)" "$STATE" list chunk | { read -r digest _ && echo "$digest"; })
"$(helper kvdamage)" "$STATE" flip chunk "$chunk"
start_daemon
varve verify >/dev/null 2>&1
ok "damage is found" test "$(value snapshotd_verify_damaged)" -gt 0
last=$(value snapshotd_verify_last_seconds)
restart_daemon
ok "the next daemon knows of it" test "$(value snapshotd_verify_damaged)" -gt 0
is "... and since when" "$(value snapshotd_verify_last_seconds)" "$last"
varve rm b && varve gc >/dev/null && varve verify >/dev/null
is "until a verification finds none" "$(value snapshotd_verify_damaged)" 0
restart_daemon
is "... and the next daemon, neither" "$(value snapshotd_verify_damaged)" 0
done_testing
