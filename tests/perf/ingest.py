"""A Debian root filesystem into an empty store, once more into the same, and out as a tar."""
import os
import shutil

from common import Daemon, QUICK, VARVE, have, in_turns, peer_does, run, timed
from report import Row, at_most, faster


class Importer:
    """One way to keep a tree: `new` into an empty store, `again` into that store."""

    def __init__(self, label, program, make):
        self.label, self.program, self.make = label, program, make
        self.first, self.second = [], []

    def measure(self, tree, directory):
        """One turn: an empty store, the tree, the tree again."""
        os.makedirs(directory)
        new, again, close = self.make(tree, directory)
        os.sync()
        self.first.append(timed(new))
        if again:
            os.sync()
            self.second.append(timed(again))
        if close:
            close()
        shutil.rmtree(directory)


# Each: (tree, directory) -> commands for new and again, and what ends it.

def varve(tree, directory):
    """Its daemon is running; the command is the CLI's."""
    daemon = Daemon(directory)
    argv = [VARVE, "--socket", daemon.socket, "import"]
    return [*argv, "new", "dir", tree], [*argv, "again", "dir", tree], daemon.stop


def casync(tree, directory):
    """With all that it keeps of a file."""
    argv = ["casync", "make", "--compression=zstd", "--with=unix",
            f"--store={directory}/store.castr"]
    return [*argv, f"{directory}/new.caidx", tree], [*argv, f"{directory}/again.caidx", tree], None


def restic(tree, directory):
    """--force: reads all again, as the others do."""
    os.environ["RESTIC_PASSWORD"] = "bench"
    os.environ["RESTIC_CACHE_DIR"] = os.path.join(directory, "cache")
    argv = ["restic", "-q", "-r", os.path.join(directory, "repo")]
    run(*argv, "init")
    return [*argv, "backup", tree], [*argv, "backup", "--force", tree], None


def borg(tree, directory):
    """Without its cache of files, for the same reason."""
    os.environ["BORG_BASE_DIR"] = os.path.join(directory, "base")
    os.environ["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
    repo = os.path.join(directory, "repo")
    run("borg", "init", "-e", "none", repo)
    argv = ["borg", "create", "-C", "zstd,3", "--files-cache=disabled"]
    return [*argv, f"{repo}::new", tree], [*argv, f"{repo}::again", tree], None


def squashfs(tree, directory):
    """Has no again."""
    return (["mksquashfs", tree, os.path.join(directory, "image"), "-comp", "zstd",
             "-Xcompression-level", "3", "-no-progress"], None, None)


IMPORTERS = [("Varve", VARVE, varve), ("casync, zstd", "casync", casync),
             ("restic, zstd", "restic", restic), ("borg, zstd 3", "borg", borg),
             ("mksquashfs, zstd 3", "mksquashfs", squashfs)]


def exports(lab, tree, turns):
    """The row of the way out."""
    name = os.path.basename(tree)
    daemon = lab.daemon(name, tree)
    commands = {"varve": f"{VARVE} --socket {daemon.socket} export {name} tar - | cat >/dev/null",
                "tar": f"tar -c -C {tree} . | cat >/dev/null"}
    times = {name: [] for name in commands}
    for _, name in in_turns(list(commands), turns + 1):
        times[name].append(timed(["sh", "-ec", commands[name]]))
    return Row("export to a tar", times["varve"][1:], "s", "tar c of the unpacked tree",
               times["tar"][1:], at_most(1.2))


def bench(lab):
    """All of it."""
    if QUICK:
        tree, turns = lab.unpack(lab.path("part"), "./usr/share/perl5"), 1
    else:
        tree, turns = lab.root(), 5
    ways = [Importer(*i) for i in IMPORTERS]
    ways = [w for w in ways if w.program == VARVE or have(w.program)]
    mine, *others = ways
    for turn, way in in_turns(ways, turns + 1):  # the first only warms caches
        place = lab.path(f"import.{turn}.{way.program.rsplit('/', 1)[-1]}")
        if way is mine:
            way.measure(tree, place)
        elif way in others and not peer_does(way.label, way.measure, tree, place):
            others.remove(way)
    rows = [Row("import of a Debian root", mine.first[1:], "s", w.label, w.first[1:], faster())
            for w in others]
    rows.append(Row("import of it again", mine.second[1:], "s", "Varve, new", mine.first[1:],
                    faster(5)))
    rows += [Row("import of it again", mine.second[1:], "s", w.label, w.second[1:], faster())
             for w in others if w.second]
    rows.append(exports(lab, tree, turns))
    files = sum(len(d) + len(f) for _, d, f in os.walk(tree))
    return (f"A Debian root filesystem of {files:,} files into an empty store, once more into it, "
            "and out again; page cache warm", rows)
