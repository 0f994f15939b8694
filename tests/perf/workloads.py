"""
Work in the root of a mount, in turns with the same work in other mounts of the same tree.

Each is a shell command, or a function of the mount's root that returns the seconds it took.
"""
import os
import statistics
import sys
import time

from common import QUICK, drop_caches, helper, in_turns, peer_does, run, say, shell
from report import Row

# As many turns as fit into some seconds, for short work is the more disturbed.
TURNS, TURNS_MAX, SECONDS = (1, 1, 0) if QUICK else (5, 15, 8)


class Work:
    """
    before, after: shell commands that are not timed. cold: nothing is in any cache. fresh: the
    mount is as the image is. targets: {a side's label: its target or None}, those it runs on.
    """

    def __init__(self, name, command, targets, *, before="", after="", cold=False, fresh=False):
        self.name, self.command, self.targets = name, command, targets
        self.before, self.after, self.cold, self.fresh = before, after, cold, fresh

    def once(self, side):
        """Seconds in a side."""
        if self.fresh:
            side.fresh()
        if self.before:
            shell(self.before, side.root, f"on {side.label}")
        if self.cold:
            side.cold()
            drop_caches()
        else:
            os.sync()  # so that no side pays for what another has written
        if callable(self.command):
            seconds = self.command(side.root)
        else:
            start = time.monotonic()
            shell(self.command, side.root, f"on {side.label}")
            seconds = time.monotonic() - start
        if self.after:
            shell(self.after, side.root, f"on {side.label}")
        return seconds

    def measure(self, sides):
        """Rows of it, one for each side that Varve (the first of sides) is compared with."""
        ours, *others = sides
        others = [s for s in others if s and s.label in self.targets]
        times = {s.label: [] for s in [ours, *others]}
        start, last = time.monotonic(), -1
        for turn, side in in_turns([ours, *others], TURNS_MAX):  # of a copy
            if turn != last and turn >= TURNS and time.monotonic() - start > SECONDS:
                break
            last = turn
            if side is ours:
                times[side.label].append(self.once(side) * 1e3)
            elif side in others and not peer_does(
                    f"{side.label} at {self.name}",
                    lambda s=side: times[s.label].append(self.once(s) * 1e3)):
                others.remove(side)
        unit, scale = ("ms", 1) if statistics.median(times[ours.label]) < 10000 else ("s", 1e-3)
        mine = [t * scale for t in times[ours.label]]
        return [Row(self.name, mine, unit, s.label, [t * scale for t in times[s.label]],
                    self.targets[s.label]) for s in others]


def measure(sides, works):
    """Rows of several; BENCH_WORK: only those that have it in their name."""
    only = os.environ.get("BENCH_WORK", "")
    rows = []
    for work in works:
        if only in work.name:
            if sys.stderr.isatty():
                say(work.name)
            rows += work.measure(sides)
    return rows


def fileio(what, name, *args):
    """Work of the helper fileio on a file in the root: it tells the seconds itself."""
    return lambda root: int(run(helper("fileio"), what, os.path.join(root, name), *args)) / 1e9
