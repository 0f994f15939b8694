"""Memory: of many mounts in which the same program runs, and of a walk of many files."""
import contextlib
import os
import subprocess
import time

from charged import Group
from common import Failed, QUICK, in_turns, peer_does, run, say
from lab import MANY, Overlay, Squashfs, Varve, optional
from report import Row, at_most, within

# What a program of some size maps and reads: the interpreter, its C modules, its library.
PROGRAM = ("import asyncio, ctypes, decimal, email, hashlib, http.client, json, lzma, sqlite3, "
           "ssl, sys, unittest, xml.dom; print('ready', flush=True); sys.stdin.read()")
# What the daemon's caches may take without --memory (MiB).
BUDGET = 320


def proportional(pids):
    """MB of processes; of what several have mapped each has its part."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            total += next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return total * 1024 / 1e6


def servers(program):
    """Processes of that name."""
    done = subprocess.run(["pidof", program], check=False, text=True, stdout=subprocess.PIPE)
    return done.stdout.split()


def with_programs(sides, pids, group):
    """A program in each: MB that the kernel charges then, and that all processes have."""
    running = []
    for side in sides:
        running.append(subprocess.Popen(["chroot", side.root, "/usr/bin/python3", "-c", PROGRAM],
                                        text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE))
    for program in running:
        if program.stdout.readline() != "ready\n":
            raise Failed("bench: the program does not run in a mount")
    charged = group.megabytes() if group else 0
    own = proportional([*pids(), *(p.pid for p in running)])
    for program in running:
        program.communicate()
    return charged, own


def used_by(make, count, pids, group):
    """
    MB for so many sides of one kind, make(i): as charged, and of processes. One that is not
    counted goes before, upon which Varve makes the files that its mounts share.
    """
    charged, own, sides = group.megabytes() if group else 0, proportional(pids()), []
    first = make("first")
    with_programs([first], pids, group)
    first.close()
    time.sleep(1 if QUICK else 5)
    for i in range(count):
        sides.append(make(i))
    charged_after, own_after = with_programs(sides, pids, group)
    for side in sides:
        side.close()
    return charged_after - charged, own_after - own


def once(make, count, pids, daemon):
    """The same where there can be a group to be charged; `daemon`, if any, starts in it."""
    try:
        group = Group()
    except OSError as why:
        say(f"no memory as the kernel charges it: {why}")
        group = None
    with group or contextlib.nullcontext():
        if daemon:
            daemon.restart()
        return used_by(make, count, pids, group)


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
            used[kind].append(once(kinds[kind], count, lambda: [daemon.process.pid], daemon))
        elif kind in used and not peer_does(
                kind, lambda k=kind: used[k].append(
                    once(kinds[k], count, lambda: servers(k), None))):
            del used[kind]
    what = f"{count} mounts with a Python program in each, cache=shared"
    rows = []
    for i, kind_of in enumerate((", all that is charged", ", of the processes alone")):
        if not used["Varve"][0][i]:
            continue
        rows += [Row(what + kind_of, [u[i] for u in used["Varve"]], "MB", kind,
                     [u[i] for u in theirs],
                     at_most(1.2) if kind == "overlayfs" and i == 0 else None)
                 for kind, theirs in used.items() if kind != "Varve"]
    return rows


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
    return ("Memory with many mounts of one Debian root, for the programs and what serves their "
            "mounts: all that the kernel charges to their cgroup (files and its own data, too; "
            "caches dropped), and that of the processes (Pss); of the daemon",
            [*rows, walk(lab)])
