"""Rows of a benchmark: a figure, a peer's figure, a target; tables of them and JSON."""
import json
import os
import platform
import statistics

from common import BUILD, QUICK, left_out

# Why a row is not at its target, and what shows that it cannot be: {"group: work": "reason"},
# or "group: work, peer" where a work has several.
REASONS: dict = {
    "mount: mount of 10,000 files, bare FUSE, an empty root, in process":
        "Varve's is a request over HTTP to a daemon that also logs a record of the mount; the "
        "bare one is a system call of the program that measures. Each mount follows one of "
        "another kind: where only these two took turns, Varve took 0.4 to 0.6 ms.",
    "read: small files, cold: tar c of usr":
        "Two round trips a file: READ, and GETATTR, as Linux calls the access time of what was "
        "read stale (counted: 10,033 and 7,557); a quarter of the daemon's time is switching "
        "for them. RocksDB keeps chunks in the order of their digests, so neighbours are not "
        "beside each other on the disk: 4,500 reads of 25 KB.",
    "read: big file, cold: 256 MiB read":
        "Profiled, SHA-256 of chunks that do not compress has a fifth of the daemon's time, "
        "replies an eighth, page faults of its buffers a tenth.",
    "read: big file, warm: all of it read":
        "No request reaches the daemon: Linux keeps FUSE's pages one by one, those of ext4, "
        "below overlayfs, in folios of up to 2 MiB (seen in /proc/kpageflags).",
    "read: big file, warm: mmap, every page touched":
        "As above; with --cache shared, where the pages are those of ext4, 1.1 x was measured.",
    "read: big file, warm: random 4 KiB reads":
        "As above.",
    "write: SQLite: transactions on a database of the image":
        "About 30 round trips a transaction (counted for a new database: 12 WRITE, 4 FSYNC, 4 "
        "GETATTR, 4 GETXATTR, and those of the journal's file), of which overlayfs has none. Its "
        "syncs cost more: beside others that keep the disk busy Varve took 0.2 of its time.",
    "checkpoint: 1,000 changed files: until sealed, tar of overlayfs's upper, synced":
        "Each file is hashed, compressed and kept as a chunk; tar copies. Of the time of the "
        "threads that seal, RocksDB's writes have a third, zstd a quarter, looking whether the "
        "chunk is there a seventh, SHA-256 a tenth.",
    "checkpoint: 10,000 changed files: until sealed, tar of overlayfs's upper, synced":
        "As above.",
    "checkpoint: 10,000 changed files: longest write of a program":
        "Two threads that seal, one that flushes, and the program want two cores.",
    "fork: fork of a mount with 1,000 changed files, to its first stat":
        "A fork waits until the checkpoint that it starts from is sealed.",
    "import: import of it again":
        "All of the tree is read, cut and hashed again: profiled, SHA-256 has a third of the "
        "daemon's time, listing and opening a fifth, cutting a seventh, reading and looking "
        "whether chunks are there a tenth each.",
    "import: export to a tar":
        "Profiled, zstd has six tenths of the daemon's time, reads from the disk a tenth, "
        "RocksDB's lookups and the socket the rest; the unpacked tree needs none of them.",
}

# Figures of the quick form are not to be taken for others.
PLACE = os.path.join(BUILD, "bench/quick" if QUICK else "bench")


class Target:
    """What a row should be: ratio to the peer, or value in the row's unit, at most `limit`."""

    def __init__(self, kind, limit, text):
        self.kind, self.limit, self.text = kind, limit, text


def at_most(ratio):
    """Of the peer's."""
    return Target("ratio", ratio, f"<= {ratio:.2f} x")


def faster(times=1):
    """Than the peer."""
    return Target("ratio", 1 / times, "faster than" if times == 1 else f"{times} x faster than")


def smaller():
    """Than the peer's."""
    return Target("ratio", 1, "smaller than")


def within(value, unit):
    """Whatever a peer has."""
    return Target("value", value, f"<= {value:g} {unit}")


def show(value, unit):
    """Three digits that mean something."""
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def ratio(value):
    """Of ours to theirs."""
    if value is None:
        return ""
    return f"{value:.{2 if value >= 0.1 else 3 if value >= 0.01 else 5}f}"


class Row:
    """
    ours and theirs: lists of values in `unit`, pairs by their index; less is better. There is
    no ratio where some are not above 0, as a difference may be that something else disturbs.
    """

    def __init__(self, work, ours, unit, peer="", theirs=None, target=None, note=""):
        self.group = ""
        self.work, self.unit, self.peer, self.target, self.note = work, unit, peer, target, note
        self.ours = statistics.median(ours)
        self.count = len(ours)
        self.theirs = self.ratio = None
        self.low, self.high = min(ours), max(ours)
        if theirs and min(*ours, *theirs) > 0:
            self.theirs = statistics.median(theirs)
            pairs = [a / b for a, b in zip(ours, theirs)] if len(ours) == len(theirs) \
                else [self.ours / self.theirs]
            self.ratio, self.low, self.high = statistics.median(pairs), min(pairs), max(pairs)

    def share(self):
        """What the plot shows: the ratio, or how much of a limit there is."""
        if self.target and self.target.kind == "value":
            return self.ours / self.target.limit
        return self.ratio

    def limit(self):
        """Where the plot has the target, on the same axis; None without one."""
        if not self.target:
            return None
        return 1.0 if self.target.kind == "value" else self.target.limit

    def met(self):
        """Whether it is at its target, as far as it is shown; None where nobody can say."""
        if not self.target or self.share() is None:
            return None
        digits = 2 if self.limit() >= 0.1 else 4
        strict = self.target.text in ("faster than", "smaller than")
        share, limit = round(self.share(), digits), round(self.limit(), digits)
        return share < limit if strict else share <= limit

    def reason(self):
        """Of a row that is not met, else "" (and "" where nobody has given one)."""
        key = f"{self.group}: {self.work}"
        reason = REASONS.get(f"{key}, {self.peer}") or REASONS.get(key) or ""
        return reason if self.met() is False else ""

    def cells(self):
        """Of the group's table."""
        if self.ratio is None:
            spread = f"{show(self.low, self.unit)} to {show(self.high, self.unit)}"
        else:
            spread = f"{ratio(self.low)} to {ratio(self.high)}"
        return [self.work, show(self.ours, self.unit), self.peer, show(self.theirs, self.unit),
                ratio(self.ratio),
                spread if self.count > 1 else "",
                self.target.text.removesuffix(" than") if self.target else "",
                {True: "yes", False: "**no**", None: "?" if self.target else ""}[self.met()]]

    def to_json(self):
        """All of it."""
        target = self.target and {"kind": self.target.kind, "limit": self.target.limit,
                                  "text": self.target.text}
        return {"group": self.group, "work": self.work, "unit": self.unit, "varve": self.ours,
                "peer": self.peer, "theirs": self.theirs, "ratio": self.ratio, "low": self.low,
                "high": self.high, "turns": self.count, "target": target, "met": self.met(),
                "share": self.share(), "limit": self.limit(), "note": self.note,
                "reason": self.reason()}


HEADER = ["work", "Varve", "peer", "peer's", "ratio", "of pairs", "target", "met"]


def markdown(header, rows, left=("work", "peer", "target", "peers", "ratios")):
    """A table."""
    text = "| " + " | ".join(header) + " |\n"
    text += "|" + "|".join("---" if h in left else "---:" for h in header) + "|\n"
    return text + "".join("| " + " | ".join(str(c) for c in row) + " |\n" for row in rows)


def aligned(header, rows):
    """The same for a terminal."""
    lines = [header, *[[str(c).replace("*", "") for c in r] for r in rows]]
    width = [max(len(line[i]) for line in lines) for i in range(len(header))]
    right = {"Varve", "peer's", "ratio"}
    return "".join("  ".join(c.rjust(w) if h in right else c.ljust(w)
                             for c, w, h in zip(line, width, header)).rstrip() + "\n"
                   for line in lines)


def machine():
    """One line on where this was measured."""
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    version = ".".join(platform.release().split(".")[:2])  # not whose build it is
    return f"{model}, {os.cpu_count()} CPUs, Linux {version}"


def write(path, text):
    """A file of results."""
    os.makedirs(PLACE, exist_ok=True)
    with open(os.path.join(PLACE, path), "w", encoding="utf-8") as f:
        f.write(text)


def group(name, about, rows, seconds):
    """Print a group's table and keep it as NAME.md."""
    for row in rows:
        row.group = name
    cells = [row.cells() for row in rows]
    why = [f"{r.work}: {r.reason()}" for r in rows if r.reason()]
    notes = [f"{r.work}: {r.note}" for r in rows if r.note]
    absent = [f"left out: {line}" for line in left_out]
    left_out.clear()
    ending = "".join(f"- {line}\n" for line in dict.fromkeys([*notes, *why, *absent]))
    print(f"== {name}: {about} ({seconds:.0f} s)\n{aligned(HEADER, cells)}{ending}", flush=True)
    write(name + ".md", f"{about}\n({machine()}; `make bench BENCH={name}`)\n\n"
          + markdown(HEADER, cells) + (f"\n{ending}" if ending else ""))


def save(groups, load, quick):
    """
    results.json: groups that ran now replace those of before, the others stay.
    groups: {name: (about, rows, seconds)}. Returns all of it.
    """
    path = os.path.join(PLACE, "results.json")
    try:
        with open(path, encoding="utf-8") as f:
            result = json.load(f)
    except (OSError, ValueError):
        result = {}
    if result.get("quick") != quick or result.get("machine") != machine():
        result = {"groups": {}}
    result.update({"machine": machine(), "quick": quick})
    for name, (about, rows, seconds) in groups.items():
        result["groups"][name] = {"about": about, "seconds": round(seconds, 1),
                                  "load_before": load, "rows": [r.to_json() for r in rows]}
    write("results.json", json.dumps(result, indent=1) + "\n")
    return result
