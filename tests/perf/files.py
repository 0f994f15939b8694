"""Work on files: a Varve mount beside overlayfs over the same tree on this disk.

Each workload is a shell command that runs in the mount's root ($PWD), after one that
prepares it. The sides take turns; "cold" drops the caches before each run.
"""
import os
import shlex
import statistics
import subprocess
import time


class Side:
    """A mounted filesystem that a workload runs in."""

    def __init__(self, label, root):
        self.label, self.root = label, root
        self.seconds = {}

    def shell(self, command):
        """Run a shell command in the root; a failure ends the benchmark."""
        done = subprocess.run(["sh", "-ec", command], cwd=self.root, check=False, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise SystemExit(f"bench: {command!r} failed on {self.label}: {done.stderr}")


SQLITE = ("import sqlite3; d = sqlite3.connect('bench.db', isolation_level=None); "
          "[d.execute('insert into t values (?)', (i,)) for i in range({n})]")
FIRST_WRITE = ("import os, sys; fd = os.open('big', os.O_RDWR); "
               "os.pwrite(fd, b'x' * 4096, 1 << 29); os.close(fd)")
RANDOM_READ = ("import os, random; random.seed(1); fd = os.open('big', os.O_RDONLY); "
               "[os.pread(fd, 4096, random.randrange(1 << 18) << 12) for _ in range(20000)]")


def workloads(archive, quick):
    """(name, cold, prepare, command, clean up): what is timed is the command."""
    q = shlex.quote(archive)
    untar = f"mkdir -p t && tar -xf {q} -C t ./usr/lib ./usr/share"
    return [
        ("walk, cold: find -printf %s", True, "", "find . -xdev -printf '%s\\n'", ""),
        ("walk, warm", False, "find . -xdev -printf '%s\\n'", "find . -xdev -printf '%s\\n'", ""),
        ("small files, cold: tar c of usr", True, "", "tar -c usr | cat", ""),
        ("small files, warm", False, "tar -c usr | cat", "tar -c usr | cat", ""),
        ("big file, cold: 256 MiB read", True, "", "dd if=big bs=1M count=256 of=/dev/null", ""),
        ("big file, warm", False, "cat big >/dev/null", "cat big", ""),
        ("random 4 KiB reads, warm: 20,000", False, "cat big >/dev/null",
         f"python3 -c {shlex.quote(RANDOM_READ)}", ""),
        ("untar of usr", False, "rm -rf t", untar, "rm -rf t"),
        ("cp -a usr/share", False, "rm -rf c", "cp -a usr/share c", "rm -rf c"),
        ("rm -rf of what was untarred", False, untar, "rm -rf t", ""),
        ("git clone of a local repository", False, "rm -rf g", "git clone -q repo g", "rm -rf g"),
        ("git status, warm", False, "git -C repo status >/dev/null", "git -C repo status", ""),
        ("SQLite: transactions", False, "rm -f bench.db; python3 -c \"import sqlite3; "
         "sqlite3.connect('bench.db').execute('create table t (a)')\"; sync -f .",
         f"python3 -c {shlex.quote(SQLITE.format(n=100 if quick else 1000))}", ""),
    ]


def drop_caches():
    """As if nothing had been read before."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3\n")


def measure(sides, work, turns):
    """Fill in each side's seconds of each workload."""
    for turn in range(turns):
        for name, cold, prepare, command, clean in work:
            for side in sides if turn % 2 else reversed(sides):
                side.shell(prepare or ":")
                if cold:
                    drop_caches()
                start = time.monotonic()
                side.shell(command)
                side.seconds.setdefault(name, []).append(time.monotonic() - start)
                side.shell(clean or ":")


def rows(varve, peer, work):
    """Medians and their ratio, with the spread of the ratios pair by pair."""
    result = []
    for name, *_ in work:
        a, b = varve.seconds[name], peer.seconds[name]
        pairs = sorted(x / y for x, y in zip(a, b))
        result.append((name, f"{statistics.median(a) * 1000:.0f}",
                       f"{statistics.median(b) * 1000:.0f}", f"{statistics.median(pairs):.2f}",
                       f"{pairs[0]:.2f} to {pairs[-1]:.2f}"))
    return result
