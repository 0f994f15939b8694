#!/usr/bin/env python3
"""cuts.py DIR SEED COUNT - replay COUNT power cuts of the load that wrote DIR/log (load.py).
cuts.py DIR --cut CUT - replay one, told by a failure, and keep its disk in DIR/cut/disk.

For each: make a disk that the cut may leave (disk.py), start the daemon on it as after a boot, and
compare with what was promised (oracle.py). Wants a mount namespace of its own, as the boot's id is
mounted over and the daemon's mounts come where the load had them. Prints a line a failure and ends
with status 1 if there was one.
"""
import os
import random
import re
import shutil
import subprocess
import sys
import time
import uuid

import disk
from daemon import SLOW, Daemon
from oracle import DIR, Oracle

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# What the daemon says of a store in order must not speak of damage.
BAD_LINE = re.compile(r" error: |damage|corrupt|checksum|cannot be|lost", re.I)
FAILURES_MAX = 10


def choose_positions(records, rng, count):
    """Positions of cuts: four of five beside a sync, a change of names or a mark."""
    beside = [i for i, r in enumerate(records) if r.type in "sdrluM"]
    positions = []
    for _ in range(count):
        if rng.random() < 0.8:
            at = rng.choice(beside) + rng.choice((0, 1))
        else:
            at = rng.randint(1, len(records))
        positions.append(at)
    return sorted(positions)


def walk(top):
    """{path: bytes or DIR} of all below a directory."""
    found = {}
    for where, dirs, files in os.walk(top, onerror=raise_it):
        prefix = os.path.relpath(where, top) + "/" if where != top else ""
        for d in dirs:
            found[prefix + d] = DIR
        for name in files:
            with open(os.path.join(where, name), "rb") as f:
                found[prefix + name] = f.read()
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

    def __init__(self, top):
        self.top = top
        self.cut_dir = os.path.join(top, "cut")
        self.boot_id = os.path.join(top, "boot_id")
        self.records = disk.read_log(os.path.join(top, "log"))
        self.disk = disk.Disk(self.records)
        self.oracle = Oracle(self.records)
        self.daemon = None
        self.problems = []
        self.chosen = ""
        self._new_boot()
        subprocess.run(["mount", "--bind", self.boot_id, BOOT_ID], check=True)

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
        os.makedirs(root)
        self.chosen = self.disk.make(root, cut.policy, rng)
        self._new_boot()
        self.daemon = Daemon(os.path.join(root, "state"), os.path.join(self.cut_dir, "sock"),
                             os.path.join(self.cut_dir, "log"))
        try:
            self.daemon.start()
            self._check(rng)
            if rng.random() < 0.25:
                self.daemon.kill()
                Daemon.unmount_below(os.path.join(self.top, "m"))
                self.daemon.start()
                self._check(rng)
            self._use(rng)
            self._check_log()
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            self.problem(f"{type(e).__name__}: {e}")
        finally:
            self.daemon.kill()
            Daemon.unmount_below(os.path.join(self.top, "m"))
        return self.problems

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
        mounts = {os.path.basename(m["mountpoint"]): m
                  for m in self.daemon.api("GET", "/api/mounts")}
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
            elif (why := history.problem(walk(m["mountpoint"]))):
                self.problem(f"mount {name}: {why}")
        for name in mounts:
            self.problem(f"mount {name} was never made")
        self._check_snapshot(rng)
        verified = self.daemon.api("POST", "/api/verify")
        if verified["damaged"] or verified["problems"]:
            self.problem(f"verify: {verified['damaged']} damaged, {verified['problems'][:3]}")

    def _check_snapshot(self, rng):
        """The files of one checkpoint."""
        if not self.oracle.kept:
            return
        name = rng.choice(sorted(self.oracle.kept))
        if name in self.oracle.maybe:
            return
        history, least, most = self.oracle.kept[name]
        place = os.path.join(self.top, "m", "look")
        os.makedirs(place, exist_ok=True)
        made = self.daemon.api("POST", "/api/mounts", {"snapshot": name, "mountpoint": place})
        why = history.problem(walk(place), least, most, exact=True)
        if why:
            self.problem(f"snapshot {name}: {why}")
        self.daemon.api("DELETE", f"/api/mounts/{made['id']}?discard=true")

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
        if mounts:
            m = rng.choice(mounts)
            self.daemon.api("POST", f"/api/mounts/{m['id']}/checkpoint", {"name": "after"})
            self.daemon.api("POST", "/api/gc")
            verified = self.daemon.api("POST", "/api/verify")
            if verified["damaged"] or verified["problems"]:
                self.problem(f"verify after use: {verified['problems'][:3]}")

    def _check_log(self):
        with open(self.daemon.log, encoding="utf-8", errors="replace") as f:
            for line in f:
                if BAD_LINE.search(line):
                    self.problem(f"log: {line.strip()}")


def main():
    replay = Replay(sys.argv[1])
    if sys.argv[2] == "--cut":
        position, policy, seed = sys.argv[3].split(":", 2)
        cuts = [Cut(int(position), policy, seed)]
    else:
        rng = random.Random(sys.argv[2])
        cuts = [Cut(p, rng.choice(disk.POLICIES), str(rng.getrandbits(32)))
                for p in choose_positions(replay.records, rng, int(sys.argv[3]))]
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
