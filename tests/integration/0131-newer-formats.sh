#!/bin/bash
# A program that does not know a format of the daemon in charge, in the store or in memory that the
# keeper has, refuses it by name before it changes anything, and the daemon in charge goes on.
# timeout: 300
# tags: model
. "${0%/*}/lib.sh"
need root fuse curl jq helper:newer
[[ $(uname -r) =~ ^([0-9]+)\.([0-9]+) ]] || bail "no kernel version"
((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] >= 6009)) || skip_all "needs Linux 6.9"

healthz() { api GET /healthz | jq -r ".$1"; }
mkdir "$T/bin"
usual=$(command -v snapshotd)
other=$(helper newer)
put() { # PROGRAM: what an upgrade starts
	cp "$1" "$T/bin/next"
	mv "$T/bin/next" "$T/bin/snapshotd"
}
newer() { # [FORMAT...]: those that the other build has raised
	printf '%s\n' "$@" >"$T/newer"
}
export VARVE_NEWER=$T/newer
PATH=$T/bin:$PATH
in_charge() { # VERSION: it serves what was there before
	echo more >&$log && [ "$(cat "$T/m/log")" = "$want"more ] || return
	want+=more$'\n'
	[ "$(cat "$T/s/file")" = shared ] && [[ $(healthz version) == "$1"* ]]
}
# Asked to take over, the program at the path says so, and changes nothing.
refuses() { # DESCRIPTION REGEX VERSION-IN-CHARGE
	: >"$T/daemon.log"
	not_ok "$1 is refused" varve daemon upgrade
	ok "... by name" grep -qE "$2" "$T/daemon.log"
	not_ok "... and nothing is lost" grep -qE "cannot be gone on with|is damaged|cannot be loaded" "$T/daemon.log"
	ok "... the daemon in charge goes on" in_charge "$3"
}

# --- the usual build in charge ---
newer
put "$usual"
start_daemon --supervise
import_empty empty >/dev/null
mkdir "$T/src"
echo shared >"$T/src/file"
head -c 100000 /dev/urandom >"$T/src/big"
varve import img dir "$T/src" >/dev/null
mount_at empty "$T/m" || bail "no mount"
mount_at img "$T/s" --cache shared || bail "no mount"
want=
exec {log}>>"$T/m/log" {big}<"$T/s/big"
put "$other"
for what in requests opens; do
	newer $what
	refuses "a build with other $what" "error: what is kept as .*$what is of a version" 0.1
done
# --- the other build in charge: its records are newer than the usual build knows ---
# What it has written by the time it dies the one before it does not know, which leaves it to it,
# though mounts were not served yet.
mount_at empty "$T/detached" && echo x >"$T/detached/x" && varve umount "$T/detached" >/dev/null || bail "no mount"
next=$(($(healthz generation) + 1))
newer mount unadopted die-$next
varve daemon upgrade >/dev/null 2>&1
has_come() { [ "$(healthz version)" = 0.2.0 ]; }
ok "another build dies before it is ready, and follows nevertheless" until_true 60 has_come
ok "... once the one before it has refused its formats" grep -q "refuses what there is.*the other one is tried" "$T/daemon.log"
newer mount
ok "... and serves" in_charge 0.2
ok "a mount of a newer record" mount_at empty "$T/new"
echo new >"$T/new/file"
put "$usual"
refuses "going back to a build that does not know it" "error: the record mount/.* is of version 2, which this program" 0.2
is "... and the mount is served" "$(cat "$T/new/file")" new
exec {log}>&- {big}<&-
stop_daemon

# --- at a start of its own ---
state_now() { find "$STATE"/{journal,staging,FORMAT} -type f -exec sha256sum {} + | sort; }
no_start() { # WHAT REGEX
	local before
	before=$(state_now)
	not_ok "no start with $1" timeout 20 snapshotd --state "$STATE" --socket "$SOCK"
	like "... it is named" "$(cat "$T/.out")" "$2"
	is "... and nothing is changed" "$(state_now)" "$before"
}
no_start "a newer record" "error: the record mount/.* is of version 2, which this program"
journal=$STATE/journal/00000000-0000-0000-0000-000000000000
{
	printf 'VARVEJ9\0'
	head -c 100000 /dev/zero
} >"$journal"
no_start "a newer journal" "error: journal/0000.* is a journal of version 9"
rm "$journal"
format=$(cat "$STATE/FORMAT")
echo 'varve store 9' >"$STATE/FORMAT"
no_start "a newer store" "error: .* is a store of format 9, which this program does not know"
echo "$format" >"$STATE/FORMAT"
put "$other"
start_daemon --supervise
is "the build that knows it has it" "$(cat "$T/new/file")" new
ok "umount" varve umount "$T/new"
stop_daemon
# --- records that are of no mount ---
newer_record() { # WHAT COMMAND...
	STATE=$T/$1
	newer "$1"
	put "$other"
	start_daemon
	"${@:2}" >/dev/null || bail "no $1"
	stop_daemon
	put "$usual"
	no_start "a newer $1" "error: the record $1/.* is of version 2, which this program"
}
newer_record snapshot import_empty empty
newer_record remote varve remote add main "file://$T/bucket"
done_testing
