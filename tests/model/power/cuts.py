#!/usr/bin/env python3
"""cuts.py DIR SEED COUNT [names] - replay COUNT power cuts of the load that wrote DIR/log.
cuts.py DIR --cut CUT [names] - replay one, told by a failure, and keep its disk in DIR/cut/disk.

For each: make a disk that the cut may leave (disk.py), start the daemon on it as after a boot, and
compare with what was promised (oracle.py). Wants a mount namespace of its own, as the boot's id is
mounted over and the daemon's mounts come where the load had them. Prints a line a failure and ends
with status 1 if there was one. `names`: all names are durable at once, for daemons of old commits.
"""
import json
import os
import random
import re
import shutil
import sys
import time
import uuid

import disk
from daemon import SLOW, Daemon, bind, unmount
from oracle import DIR, Found, Oracle

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# What the daemon says of a store in order must not speak of damage.
BAD_LINE = re.compile(r" error: |damage|corrupt|checksum|cannot be|lost", re.I)
FAILURES_MAX = 10
# Where sandboxes are not to start, which takes longer than all the rest.
NO_RUNTIME = "no containers after this cut"
RUNTIME_SHARE = 0.1
# Of restarts in order, after the mounts have been used, which show what the cut has left hidden:
# after any cut, beside what moves mounts to another epoch, and where one sync alone is missing.
RESTART_SHARE = 0.1
EPOCH_RESTART_SHARE = 0.3
SYNC_RESTART_SHARE = 0.8
BUCKET_SHARE = 0.1  # of looks from another host at what has been pushed
EPOCH_CALLS = ("checkpoint", "sandbox_checkpoint", "mount", "restore")


def choose_cuts(records, rng, count):
    """Cuts in their order. A quarter are when something has just been promised, and leave only what
    is durable for certain. More are within a sync, rather one in which much else is done: what it
    is to make durable may be missing while all else is there. Of the others, most are beside a
    change of names or a mark."""
    first = next(i for i, r in enumerate(records) if r.name == b"state")
    syncs = [(r.length, i) for i, r in enumerate(records) if r.type in "sd" and i > first]
    while_syncing = [i - begun for begun, i in syncs]
    beside = [i for i, r in enumerate(records) if r.type in "rluM" and i > first]
    promised = promises(records)
    cuts = []
    for _ in range(count):
        policy = rng.choice(disk.POLICIES)
        kind = rng.random()
        if kind < 0.25:
            at, policy = rng.choice(rng.choice(promised)) + 1, "none"
        elif kind < 0.6:
            begun, end = rng.choices(syncs, while_syncing)[0]
            at = rng.randint(begun + 1, end)
            if rng.random() < 0.6:
                policy = f"{records[end].inode} missing"
        elif kind < 0.85:
            at = rng.choice(beside) + rng.choice((0, 1))
        else:
            at = rng.randint(first, len(records))
        cuts.append(Cut(at, policy, str(rng.getrandbits(32))))
    return sorted(cuts, key=lambda c: c.position)


def promises(records):
    """Positions of marks that tell that something is done: a list for each kind of call."""
    kinds, begun = {}, {}
    for i, r in enumerate(records):
        if r.type != "M":
            continue
        mark = json.loads(bytes(r.data))
        if "begin" in mark:
            begun[mark["begin"]] = mark.get("api", "do")
        else:
            kinds.setdefault(begun[mark["end"]], []).append(i)
    return list(kinds.values())


def walk(top):
    """{path: bytes or DIR} of all below a directory."""
    found = {}
    for where, dirs, files in os.walk(top, onerror=raise_it):
        prefix = os.path.relpath(where, top) + "/" if where != top else ""
        for d in dirs:
            found[prefix + d] = DIR
        for name in files:
            path = os.path.join(where, name)
            with open(path, "rb") as f:
                got = Found(f.read())
            got.inode = os.stat(path).st_ino
            got.xattrs = {n[5:]: os.getxattr(path, n).decode() for n in os.listxattr(path)}
            found[prefix + name] = got
    return found


def raise_it(e):
    raise e


class Cut:
    """One cut: a position and a policy, with the seed of what is random in it."""

    def __init__(self, position, policy, seed):
        self.position = position
        self.policy = policy
        self.seed = seed

    def __str__(self):
        return f"{self.position}:{self.policy}:{self.seed}"


class Replay:
    """Makes disks and looks at what the daemon makes of them."""

    def __init__(self, top, names_durable):
        top = self.top = os.path.abspath(top)
        self.cut_dir = os.path.join(top, "cut")
        self.boot_id = os.path.join(top, "boot_id")
        self.no_runtime = os.path.join(top, "no-runtime")
        self.status = ""  # of sandboxes, after the cut
        self.records = disk.read_log(os.path.join(top, "log"))
        self.disk = disk.Disk(self.records, names_durable)
        self.oracle = Oracle(self.records)
        self.daemon = None
        self.problems = []
        self.chosen = ""
        with open(self.no_runtime, "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\necho '{NO_RUNTIME}' >&2\nexit 1\n")
        os.chmod(self.no_runtime, 0o700)
        self._new_boot()
        bind(self.boot_id, BOOT_ID)

    def _new_boot(self):
        with open(self.boot_id, "w", encoding="ascii") as f:
            f.write(f"{uuid.uuid4()}\n")

    def problem(self, text):
        self.problems.append(text)

    def run(self, cut):
        """The problems of one cut."""
        rng = random.Random(cut.seed)
        self.problems = []
        self.disk.advance(cut.position)
        self.oracle.advance(cut.position)
        shutil.rmtree(self.cut_dir, ignore_errors=True)
        root = os.path.join(self.cut_dir, "disk")
        recorded = os.path.join(self.top, "recorded")  # records name places below it
        os.makedirs(root)
        self.chosen = self.disk.make(root, cut.policy, rng)
        self._new_boot()
        runs = rng.random() < RUNTIME_SHARE
        self.status = "running" if runs else "failed"
        bind(root, recorded)
        self.daemon = Daemon(os.path.join(recorded, "state"), os.path.join(self.cut_dir, "sock"),
                             os.path.join(self.cut_dir, "log"),
                             "runc" if runs else self.no_runtime)
        try:
            self.daemon.start()
            self._check(rng)
            if rng.random() < 0.2:
                self.daemon.kill()
                self._unmount()
                self.daemon.start()
                self._check(rng)
            self._use(rng)
            if rng.random() < self._restart_share(cut):
                self._restart()
            self._check_log()
        except (RuntimeError, OSError) as e:
            self.problem(f"{type(e).__name__}: {e}{self._death()}")
        finally:
            self.daemon.kill()
            self._unmount()
            unmount(recorded)
        return self.problems

    def _death(self):
        """If the daemon has ended by itself, how, and what it said last."""
        status = self.daemon.process and self.daemon.process.poll()
        if status is None:
            return ""
        with open(self.daemon.log, encoding="utf-8", errors="replace") as f:
            last = f.read().splitlines()[-3:]
        return f"; the daemon has ended, {status}: {' | '.join(last)}"

    def _unmount(self):
        """What a daemon has left mounted."""
        for d in ("m", "recorded"):
            Daemon.unmount_below(os.path.join(self.top, d))

    def _snapshots(self):
        """{name: (status, root)}, when nothing is being built any more."""
        until = time.monotonic() + 20 * SLOW
        while True:
            found = {s["name"]: (s["status"], s.get("root"))
                     for s in self.daemon.api("GET", "/api/snapshots") if s["name"]}
            if time.monotonic() > until or all(s != "building" for s, _ in found.values()):
                return found
            time.sleep(0.02)

    def _check(self, rng):
        self.problems += self.oracle.snapshot_problems(self._snapshots())
        sandboxes = self._check_sandboxes()
        mounts = {}
        for m in self.daemon.api("GET", "/api/mounts"):
            place = m["mountpoint"].split("/")
            mounts[place[-2] if place[-1] == "root" else place[-1]] = m
        for name, history in self.oracle.mounts.items():
            m = mounts.pop(name, None)
            if m is None:
                if history.durable and not history.may_be_gone:
                    self.problem(f"mount {name} is missing")
            elif history.gone:
                self.problem(f"mount {name} was discarded and is there")
            elif not m["attached"]:
                if not history.may_be_gone:
                    self.problem(f"mount {name} is not attached")
            else:
                self._check_mount(name, m["mountpoint"])
        for name in mounts.keys() - sandboxes:
            self.problem(f"mount {name} was never made")
        self._check_builds()
        self._check_snapshots(rng)
        if self.oracle.has_bucket:
            self._check_bucket(rng)
        self._verify()

    def _check_mount(self, name, place):
        whys = []
        for history in self.oracle.histories(name):
            why = history.problem(walk(os.path.join(place, history.below)))
            if not why:
                return
            whys.append(why)
        self.problem(f"mount {name}: {'; or '.join(whys)}")

    def _check_sandboxes(self):
        """The ids of those that are there, whose starting has ended."""
        until = time.monotonic() + 60 * SLOW
        while time.monotonic() < until:
            found = self.daemon.api("GET", "/api/sandboxes")
            if all(s["status"] == self.status for s in found):
                break
            time.sleep(0.02)
        else:
            self.problem(f"sandboxes are not {self.status}: {found}")
        ids = {s["sandboxID"] for s in found}
        self.problems += self.oracle.sandbox_problems(ids)
        made = {}
        for sandbox in {s for s, _ in self.oracle.checkpoints.values()}:
            for c in self.daemon.api("GET", f"/api/sandboxes/{sandbox}/checkpoints"):
                made[c["id"]] = c
        for c, (sandbox, name) in self.oracle.checkpoints.items():
            if c not in made and not self.oracle.is_open("drop", checkpoint=c):
                self.problem(f"checkpoint {name} of sandbox {sandbox}, {c}, is missing")
            elif c in made and made[c]["status"] != "ready" and c not in self.oracle.maybe:
                self.problem(f"checkpoint {name} of sandbox {sandbox} is {made[c]}")
        for checkpoint in set(self.oracle.patches.values()) & made.keys():
            there = self.daemon.api("GET", f"/api/sandboxes/checkpoints/{checkpoint}/patches")
            there = {p["id"] for p in there}
            for patch, of in self.oracle.patches.items():
                if of == checkpoint and patch not in there:
                    self.problem(f"patch {patch} of checkpoint {checkpoint} is missing")
        return ids

    def _check_builds(self):
        found = {b["id"]: b for b in self.daemon.api("GET", "/api/builds")}
        for build, (state, line) in self.oracle.builds.items():
            if build not in found:
                self.problem(f"build {build} is missing")
            elif found[build]["state"] != state:
                self.problem(f"build {build} was {state} and is {found[build]}")
            elif all(e["message"] != line
                     for e in self.daemon.api("GET", f"/api/builds/{build}/logs")):
                self.problem(f"the log of build {build} has no line \"{line}\"")
        for build, b in found.items():
            if b["state"] not in ("ready", "failed", "cancelled"):
                self.problem(f"build {build} is {b['state']}")
            self.daemon.api("GET", f"/api/builds/{build}/logs")
        self.daemon.api("GET", "/api/images")

    def _check_snapshots(self, rng):
        """The files of those that were being made, if they are ready, and of one other."""
        ready = {s[key] for s in self.daemon.api("GET", "/api/snapshots") for key in ("id", "name")
                 if s["status"] == "ready"}
        for name, history, least, most in self.oracle.interrupted():
            if name in ready:
                self._check_checkpoint(name, history, least, most)
        for name, files in self.oracle.pulling():
            if name in ready:
                self._check_image(name, files)
        names = sorted((self.oracle.kept.keys() | self.oracle.images.keys()) - self.oracle.maybe)
        if not names:
            return
        name = rng.choice(names)
        self._check_snapshot(name, self.oracle.kept.get(name) or self.oracle.images[name])

    def _check_snapshot(self, name, what):
        if isinstance(what, dict):
            self._check_image(name, what)
        else:
            self._check_checkpoint(name, *what)

    def _check_image(self, name, files):
        found = self._files_of(name)
        for path, data in files.items():
            if found.get(path) != data:
                self.problem(f"snapshot {name}: {path} is missing or has other data")

    def _check_bucket(self, rng):
        remotes = {r["name"] for r in self.daemon.api("GET", "/api/remotes")}
        names = None
        if "main" in remotes:
            names = {s["name"]: s["id"]
                     for s in self.daemon.api("GET", "/api/remotes/main/snapshots")}
        self.problems += self.oracle.share_problems(remotes, names)
        pushed = sorted(self.oracle.pushed.keys() - self.oracle.maybe_shared)
        if pushed and rng.random() < BUCKET_SHARE:
            self._check_pushed(rng.choice(pushed))

    def _check_pushed(self, name):
        """Another daemon, which has nothing, gets all of it from the bucket."""
        daemon = self.daemon
        state = os.path.join(self.cut_dir, "other")
        self.daemon = Daemon(state, daemon.socket + ".other", daemon.log, self.no_runtime)
        try:
            self.daemon.start()
            self.daemon.api("POST", "/api/remotes", {
                "name": "main", "url": f"file://{self.top}/recorded/far/bucket"})
            self.daemon.api("POST", "/api/snapshots/pull", {"remote": "main", "snapshot": name})
            self._check_snapshot(name, self.oracle.pushed[name][1])
        finally:
            self.daemon.kill()
            self.daemon = daemon
            shutil.rmtree(state, ignore_errors=True)

    def _check_checkpoint(self, name, history, least, most):
        why = history.problem(self._files_of(name, history.below), least, most, exact=True)
        if why:
            self.problem(f"snapshot {name}: {why}")

    def _files_of(self, snapshot, below=""):
        place = os.path.join(self.top, "m", "look")
        os.makedirs(place, exist_ok=True)
        made = self.daemon.api("POST", "/api/mounts", {"snapshot": snapshot, "mountpoint": place})
        found = walk(os.path.join(place, below))
        self.daemon.api("DELETE", f"/api/mounts/{made['id']}?discard=true")
        return found

    def _restart_share(self, cut):
        if not any(map(self.oracle.is_open, EPOCH_CALLS)):
            return RESTART_SHARE
        return SYNC_RESTART_SHARE if cut.policy[0].isdigit() else EPOCH_RESTART_SHARE

    def _use(self, rng):
        """Mounts are written on, and a checkpoint of one is whole."""
        mounts = [m for m in self.daemon.api("GET", "/api/mounts") if m["attached"]]
        for m in mounts:
            path = os.path.join(m["mountpoint"], "after")
            with open(path, "wb") as f:
                f.write(b"after the cut\n" * 1000)
                f.flush()
                os.fsync(f.fileno())
            os.rename(path, path + " it")
        for m in mounts:
            self.daemon.api("POST", f"/api/mounts/{m['id']}/checkpoint", {})
        if rng.random() < 0.4:
            self.daemon.api("POST", "/api/gc")
            self._verify()

    def _restart(self):
        """Nothing comes up that the cut had left hidden in the database."""
        before = self._all_files()
        self.daemon.stop()
        self.daemon.start()
        self._check_sandboxes()
        after = self._all_files()
        for place, files in before.items():
            if after.get(place) != files:
                changed = [p for p in {**files, **after.get(place, {})}
                           if files.get(p, 0) != after.get(place, {}).get(p, 0)]
                self.problem(f"a restart changes {place}: {changed[:5]}")

    def _all_files(self):
        return {m["mountpoint"]: walk(os.path.join(m["mountpoint"], "work")
                                      if m["mountpoint"].endswith("/root") else m["mountpoint"])
                for m in self.daemon.api("GET", "/api/mounts") if m["attached"]}

    def _verify(self):
        verified = self.daemon.api("POST", "/api/verify")
        if verified["damaged"] or verified["problems"]:
            self.problem(f"verify: {verified['damaged']} damaged, {verified['problems'][:3]}")

    def _check_log(self):
        with open(self.daemon.log, encoding="utf-8", errors="replace") as f:
            for line in f:
                if BAD_LINE.search(line) and NO_RUNTIME not in line:
                    self.problem(f"log: {line.strip()}")


def main():
    replay = Replay(sys.argv[1], "names" in sys.argv[4:])
    if sys.argv[2] == "--cut":
        position, policy, seed = sys.argv[3].split(":", 2)
        cuts = [Cut(int(position), policy, seed)]
    else:
        rng = random.Random(sys.argv[2])
        cuts = choose_cuts(replay.records, rng, int(sys.argv[3]))
    failures = 0
    for cut in cuts:
        problems = replay.run(cut)
        if problems:
            failures += 1
            print(f"cut {cut} ({replay.chosen})", flush=True)
            for p in problems[:8]:
                print(f"    {p[:600]}", flush=True)
            if failures == FAILURES_MAX:
                print("more are not looked for")
                break
    print(f"{len(cuts)} cuts of {len(replay.records)} records, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
