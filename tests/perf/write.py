"""Work that makes, changes and removes files."""
import os
import shlex
import sqlite3
import time

import debs
from common import QUICK, Skip, say
from lab import BIG_MB, DATABASE_ROWS, Overlay, Varve, optional
from report import at_most, faster
from workloads import Work, fileio, measure

SAME = {"overlayfs": at_most(1)}


def transactions(root):
    """Seconds of changes of single rows, each synced by SQLite."""
    count = 100 if QUICK else 1000
    db = sqlite3.connect(os.path.join(root, "bench.db"), isolation_level=None)
    start = time.monotonic()
    for i in range(count):
        db.execute("update t set n = n + 1 where id = ?", (i * 7919 % DATABASE_ROWS,))
    seconds = time.monotonic() - start
    db.close()
    return seconds


def unpacking():
    """dpkg into an empty root, as it does it: with an fsync of every file."""
    packages = " ".join(shlex.quote(p) for p in debs.sets()[0])
    empty = "rm -rf d; mkdir -p d/var/lib/dpkg/info d/var/lib/dpkg/updates; " \
        "touch d/var/lib/dpkg/status d/var/lib/dpkg/available"
    return Work("unpack .deb packages: dpkg --unpack, which syncs",
                f"dpkg --root=$PWD/d --force-depends --force-script-chrootless --unpack {packages}",
                SAME, before=empty, after="rm -rf d")


def works(archive):
    """All of them."""
    what = "./usr/share/perl5" if QUICK else "./usr/share './usr/lib/python3*'"
    untar = f"mkdir -p t && tar -xf {shlex.quote(archive)} -C t --wildcards {what}"
    copy = "cp -a usr/share/perl5 c" if QUICK else "cp -a usr/share c"
    result = [
        Work("untar of usr/share and Python's library", untar, SAME, before="rm -rf t",
             after="rm -rf t"),
        Work("cp -a of usr/share", copy, SAME, before="rm -rf c", after="rm -rf c"),
        Work("rm -rf of what was untarred", "rm -rf t", SAME, before=untar),
        Work(f"first write of 4 KiB into a file of {BIG_MB} MiB", fileio("first", "big"),
             {"overlayfs": faster(100)}, fresh=True),
        Work("SQLite: transactions on a database of the image", transactions, SAME, fresh=True),
    ]
    try:
        result.insert(3, unpacking())
    except Skip as why:
        say(f"unpacking of packages is left out: {why}")
    return result


def bench(lab):
    """All of it."""
    tree = lab.full()
    sides = [Varve(lab.daemon("full", tree), "full", lab.path("write", "varve")),
             optional(Overlay, tree, lab.path("write", "over"))]
    rows = measure(sides, works(lab.archive()))
    for side in filter(None, sides):
        side.close()
    return "Changes in a mount of a Debian root", rows
