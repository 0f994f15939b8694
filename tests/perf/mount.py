"""From the request for a mount to the first stat in it; a thousand mounts at once."""
import os
import statistics
import tempfile
import time

from common import Client, QUICK, have, helper, peer_does, run
from lab import FEW, MANY, optional
from report import Row, at_most, within

PROBE = "d0/e0/file5"
NAMES = {"bare": "bare FUSE, an empty root, in process", "overlay": "overlayfs: mount(2)",
         "erofs": "EROFS lz4hc, read-only: mount(2)",
         "squashfs": "squashfs zstd, read-only: mount(2)",
         "squashfuse_ll": "squashfuse_ll, read-only: a process",
         "fuse-overlayfs": "fuse-overlayfs: a process"}


def milliseconds(lab, rounds, subjects):
    """Of each mount, by the subject's name; in turns."""
    times = {}
    with open(lab.path("mountbench.log"), "a", encoding="utf-8") as log:
        out = run(helper("mountbench"), rounds, tempfile.mkdtemp(dir=lab.directory), PROBE,
                  *subjects, stderr=log)
    for line in out.splitlines():
        name, ns = line.split()
        times.setdefault(name, []).append(int(ns) / 1e6)
    return times


def peers(lab):
    """Those that are installed, as mountbench has them."""
    tree = lab.small()
    subjects = ["bare=", f"overlay={tree}"]
    if have("mkfs.erofs") and peer_does("mkfs.erofs", run, "mkfs.erofs", "-zlz4hc",
                                        tree + ".erofs", tree):
        subjects.append(f"erofs={tree}.erofs")
    image = optional(lab.squashfs, tree)
    if image:
        subjects.append(f"squashfs={image}")
        if have("squashfuse_ll"):
            subjects.append(f"squashfuse_ll={image}")
    if have("fuse-overlayfs"):
        subjects.append(f"fuse-overlayfs={tree}")
    # One that fails would end all of a run.
    return [s for s in subjects
            if peer_does(NAMES[s.split("=")[0]], milliseconds, lab, 1, [s])]


def one(lab, daemon, rounds):
    """Rows of one mount at a time."""
    varve = f"varve={daemon.socket}:"
    times = milliseconds(lab, rounds, [varve + "few", *peers(lab)])
    few, many = [], []  # by turns of a few, for one mount a round has that name
    for _ in range(4):
        few += milliseconds(lab, rounds // 4, [varve + "few"])["varve"]
        many += milliseconds(lab, rounds // 4, [varve + "many"])["varve"]
    mine = times.pop("varve")
    p95 = sorted(mine)[int(len(mine) * 0.95)]
    rows = [Row(f"mount of {FEW:,} files to its first stat", mine, "ms", "", None,
                within(3, "ms"), f"p95 {p95:.2f} ms"),
            Row(f"mount of {MANY:,} files", many, "ms", f"Varve, {FEW:,} files", few,
                at_most(1.2))]
    for name in (n for n in NAMES if n in times):
        # Single mounts have long tails: the ratio is that of the medians.
        rows.append(Row(f"mount of {FEW:,} files", [statistics.median(mine)], "ms", NAMES[name],
                        [statistics.median(times[name])],
                        at_most(2.5) if name == "bare" else None))
    return rows


def alive(lab, daemon, count):
    """Seconds for so many mounts, each with a stat in it, and the memory of each."""
    client = Client(daemon.socket)
    places = [lab.path("alive", str(i)) for i in range(count)]
    for place in places:
        os.makedirs(place, exist_ok=True)
    before, start, ids = daemon.memory(), time.monotonic(), []
    for place in places:
        ids.append(client.call("POST", "/api/mounts",
                               {"snapshot": "few", "mountpoint": place})["id"])
        os.stat(os.path.join(place, PROBE))
    seconds = time.monotonic() - start
    memory = daemon.memory() - before
    for mount in ids:
        client.call("DELETE", f"/api/mounts/{mount}?discard=1")
    client.close()
    return seconds, memory / count / 1024


def bench(lab):
    """All of it."""
    rounds, count, turns = (20, 100, 1) if QUICK else (200, 1000, 3)
    daemon = lab.generated()
    rows = one(lab, daemon, rounds)
    many = []
    for _ in range(turns):
        daemon.restart()  # memory that an earlier turn has freed would be used again
        many.append(alive(lab, daemon, count))
    rows += [Row(f"{count:,} mounts of one image, all alive", [m[0] for m in many], "s", "", None,
                 within(4, "s")),
             Row("daemon memory a mount of them", [m[1] for m in many], "KiB", "", None,
                 within(100, "KiB"))]
    return (f"A mount, from the request to the first stat of a name in it; {rounds} each, in "
            "turns, caches warm", rows)
