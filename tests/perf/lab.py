"""
What benchmarks measure on, made once and only when asked for: trees, images, stores, and
mounts of them by Varve and by others.
"""
import os
import random
import shutil
import sqlite3

from common import BUILD, Daemon, QUICK, SOURCE, Skip, VARVE, have, helper, peer_does, run, shell, \
    unpack_small_files

FEW, MANY = (1000, 20000) if QUICK else (10000, 1000000)
BIG_MB = 64 if QUICK else 1024
DATABASE_ROWS = 2000 if QUICK else 100000


class Lab:
    """Below one directory, which the runner removes."""

    def __init__(self, directory):
        self.directory = directory
        self.daemons = {}

    def path(self, *names):
        """A place in it."""
        return os.path.join(self.directory, *names)

    def archive(self):
        """A Debian root filesystem as a tar."""
        return run(os.path.join(SOURCE, "scripts/debian-root"),
                   os.path.join(BUILD, "debian-root.tar"), stderr=None).strip()

    def start_archive(self):
        """What bash and python3 need of it; in the long form all of it."""
        if not QUICK:
            return self.archive()
        path = self.path("start.tar")
        if not os.path.exists(path):
            tree = self.path("start")
            os.mkdir(tree)
            run("tar", "-xpf", self.archive(), "--numeric-owner", "-C", tree, "--wildcards",
                "./bin", "./lib*", "./usr/bin/bash", "./usr/bin/python3*", "./usr/lib/python3*",
                "./usr/lib64", "./usr/lib/*-linux-gnu/*.so*")
            run("tar", "-cf", path, "--numeric-owner", "-C", tree, ".")
            shutil.rmtree(tree)
        return path

    def unpack(self, tree, part=""):
        """The Debian root, or a part of it, in a new directory."""
        os.mkdir(tree)
        run("tar", "-xpf", self.archive(), "--numeric-owner", "--xattrs", "-C", tree,
            *([part] if part else []))
        return tree

    def root(self):
        """A Debian root filesystem."""
        tree = self.path("root")
        return tree if os.path.exists(tree) else self.unpack(tree)

    def full(self):
        """
        A Debian root with more in it, each in the root directory: `big`, a file of which half
        are random blocks and half repeated ones; `repo`, a git repository with a branch `other`;
        `bench.db`, an SQLite database.
        """
        tree = self.path("full")
        if os.path.exists(tree):
            return tree
        self.unpack(tree)
        shell(f"for i in $(seq {BIG_MB // 16}); do head -c 8M /dev/urandom; head -c 8M /dev/zero | "
              "tr '\\0' $(printf '\\%03o' $((i + 32))); done > big", tree)
        self.add_repository(os.path.join(tree, "repo"), tree)
        self.add_database(os.path.join(tree, "bench.db"))
        os.sync()
        return tree

    @staticmethod
    def add_repository(repo, tree):
        """Python's library and /usr/share; `other` changes every fifth file."""
        what = "usr/share/perl5" if QUICK else "usr/share usr/lib/python3*"
        git = "git -c user.name=bench -c user.email=bench@localhost"
        shell(f"mkdir {repo} && cp -a {what} {repo}/", tree)
        shell(f"git init -q && git add -A && {git} commit -qm all && git branch -M main && "
              "git checkout -qb other", repo)
        names = run("git", "-C", repo, "ls-files", "-z").split("\0")
        for name in names[::5]:
            path = os.path.join(repo, name)
            if name and os.path.isfile(path) and not os.path.islink(path):
                with open(path, "a", encoding="ascii") as f:
                    f.write("# changed\n")
        shell(f"{git} commit -qam other && git checkout -q main", repo)

    @staticmethod
    def add_database(path):
        """A table of numbered rows of 200 bytes."""
        random.seed(1)
        with sqlite3.connect(path) as db:
            db.execute("create table t (id integer primary key, n integer, text text)")
            db.executemany("insert into t values (?, 0, ?)",
                           ((i, f"{random.getrandbits(800):0200x}")
                            for i in range(DATABASE_ROWS)))
        db.close()

    def small(self):
        """FEW generated files."""
        tree = self.path("small")
        if not os.path.exists(tree):
            os.mkdir(tree)
            unpack_small_files(tree, FEW)
        return tree

    def squashfs(self, tree):
        """A squashfs image of a tree, zstd."""
        if not have("mksquashfs"):
            raise Skip("mksquashfs is not installed")
        image = tree + ".squashfs"
        if not os.path.exists(image):
            run("mksquashfs", tree, image, "-comp", "zstd", "-Xcompression-level", "3",
                "-no-progress")
        return image

    def daemon(self, name, tree=None):
        """
        A daemon on the store of that name, with a snapshot of the same name made of tree
        (or for "few" and "many" of generated files). Started again where it was stopped.
        """
        daemon = self.daemons.get(name)
        if daemon is None:
            daemon = self.daemons[name] = Daemon(self.path("varve." + name))
            if tree:
                daemon.varve("import", name, "dir", tree)
        elif daemon not in Daemon.running:
            daemon.start()
        return daemon

    def generated(self):
        """A daemon with the snapshots `few` and `many`, of FEW and MANY generated files."""
        made = "generated" in self.daemons
        daemon = self.daemon("generated")
        if not made:
            daemon.import_small_files("few", FEW)
            daemon.import_small_files("many", MANY)
        return daemon


class Varve:
    """A mount of a daemon's snapshot."""

    label = "Varve"

    def __init__(self, daemon, snapshot, root, *options):
        self.daemon, self.snapshot, self.root = daemon, snapshot, root
        self.options = ("--dev", "--suid", *options)
        self.seconds = {}
        os.makedirs(root)
        self.mount()

    def mount(self):
        """As the image is."""
        self.daemon.varve("mount", *self.options, self.snapshot, self.root)

    def fresh(self):
        """Without what was changed."""
        self.daemon.varve("umount", "--discard", self.root)
        self.mount()

    def cold(self):
        """Nothing of it in the daemon's memory: its caches are not the kernel's to drop."""
        self.daemon.restart()

    def close(self):
        """Unmount."""
        self.daemon.varve("umount", "--discard", self.root)
        os.rmdir(self.root)


class Overlay:
    """overlayfs over an unpacked tree, its upper on the same disk."""

    label = "overlayfs"

    def __init__(self, tree, root):
        self.tree, self.root = tree, root
        self.upper, self.scratch = root + ".upper", root + ".scratch"
        self.seconds = {}
        os.makedirs(root)
        self.mount()

    def mount(self):
        """With an empty upper."""
        os.mkdir(self.upper)
        os.mkdir(self.scratch)
        run("mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir={self.tree},upperdir={self.upper},workdir={self.scratch}", self.root)

    def fresh(self):
        """Without what was changed."""
        run("umount", self.root)
        shutil.rmtree(self.upper)
        shutil.rmtree(self.scratch)
        self.mount()

    def cold(self):
        """All that it has is in the kernel's caches."""

    def close(self):
        """Unmount."""
        run("umount", self.root)
        for path in self.upper, self.scratch, self.root:
            shutil.rmtree(path)


class Squashfs:
    """A squashfs image, read-only, by the kernel or by squashfuse_ll."""

    def __init__(self, image, root, program=None):
        if program and not have(program):
            raise Skip(f"{program} is not installed")
        self.label = program or "kernel squashfs-zstd"
        self.image, self.root, self.program = image, root, program
        self.seconds = {}
        os.makedirs(root)
        self.mount()

    def mount(self):
        """As the image is."""
        if self.program:
            run(self.program, self.image, self.root)
        else:
            run("mount", "-t", "squashfs", "-o", "loop,ro", self.image, self.root)

    def fresh(self):
        """It never changes."""

    def cold(self):
        """The program has caches of its own."""
        run("umount", self.root)
        self.mount()

    def close(self):
        """Unmount."""
        run("umount", self.root)
        os.rmdir(self.root)


def optional(make, *args):
    """A side, or None where it cannot be here (which is said)."""
    made = []
    peer_does("a peer", lambda: made.append(make(*args)))
    return made[0] if made else None
