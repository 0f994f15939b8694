"""Memory: of many mounts in which the same program runs, and of a walk of many files."""
import os
import subprocess

from common import QUICK, drop_caches, in_turns, run
from lab import MANY, Overlay, Squashfs, Varve, optional
from report import Row, at_most, within

# What a program of some size maps and reads: the interpreter, its C modules, its library.
PROGRAM = ("import asyncio, ctypes, decimal, email, hashlib, http.client, json, lzma, sqlite3, "
           "ssl, sys, unittest, xml.dom; print('ready', flush=True); sys.stdin.read()")
# Caches of the daemon that are bounded (MiB): nodes, chunks and the database's blocks.
BUDGET = 128 + 64 + 64


def available():
    """MB of memory that programs can still have."""
    drop_caches()
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable")) / 1e3


def with_programs(sides):
    """MB that mounts with a program in each take, which make() makes."""
    programs = []
    for side in sides:
        programs.append(subprocess.Popen(["chroot", side.root, "/usr/bin/python3", "-c", PROGRAM],
                                         text=True, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE))
    for program in programs:
        if program.stdout.readline() != "ready\n":
            raise SystemExit("bench: the program does not run in a mount")
    left = available()
    for program in programs:
        program.communicate()
    return left


def once(make, count):
    """MB for so many sides of one kind: make(i)."""
    before, sides = available(), []
    for i in range(count):
        sides.append(make(i))
    used = before - with_programs(sides)
    for side in sides:
        side.close()
    return used


def programs(lab, count, turns):
    """Rows of the sandboxes."""
    tree = lab.root()
    daemon = lab.daemon("root", tree)

    def varve(cache):
        def make(i):
            return Varve(daemon, "root", lab.path("memory", f"varve{i}"), "--cache", cache)
        return make

    image = optional(lab.squashfs, tree)
    kinds = {"Varve": varve("shared"), "Varve, cache=private": varve("private"),
             "overlayfs": lambda i: Overlay(tree, lab.path("memory", f"over{i}"))}
    if image and optional(lambda: Squashfs(image, lab.path("memory", "try"), "squashfuse_ll")):
        run("umount", lab.path("memory", "try"))
        kinds["squashfuse_ll"] = lambda i: Squashfs(image, lab.path("memory", f"fuse{i}"),
                                                    "squashfuse_ll")
    used = {kind: [] for kind in kinds}
    for _, kind in in_turns(list(kinds), turns):
        if kind.startswith("Varve"):
            daemon.stop()
            daemon.start()  # it counts from nothing, as the others' do
        used[kind].append(once(kinds[kind], count))
    what = f"memory of {count} mounts with a Python program in each, cache=shared"
    return [Row(what, used["Varve"], "MB", kind, theirs,
                at_most(1.2) if kind == "overlayfs" else None)
            for kind, theirs in used.items() if kind != "Varve"]


def walk(lab):
    """The row of the daemon's memory after a walk."""
    daemon = lab.generated()
    daemon.restart()
    side = Varve(daemon, "many", lab.path("memory", "many"))
    before = daemon.memory()
    run("find", side.root, "-printf", "%s\n", stdout=subprocess.DEVNULL)
    took = (daemon.memory() - before) / 1e6
    side.close()
    limit = (64 * MANY / 1e6) + BUDGET * 1.048576
    return Row(f"daemon memory after a walk of {MANY:,} files", [took], "MB", "", None,
               within(round(limit), "MB"),
               f"64 bytes a file and {BUDGET} MiB of caches; it took "
               f"{took * 1e6 / MANY:.0f} bytes a file, caches included")


def bench(lab):
    """All of it."""
    os.makedirs(lab.path("memory"), exist_ok=True)
    rows = programs(lab, 5 if QUICK else 50, 1 if QUICK else 3)
    return ("Memory of the system (MemAvailable, caches dropped) with many mounts of one Debian "
            "root, and of the daemon", [*rows, walk(lab)])
