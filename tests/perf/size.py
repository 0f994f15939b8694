"""Bytes on disk: of one root filesystem, and of related ones."""
import os
import shutil

import debs
from common import Daemon, QUICK, Skip, disk_bytes, have, peer_does, run, say
from report import Row, at_most, smaller

MB = 1e6
PART = "./usr/share/perl5" if QUICK else ""


class VarveStore:
    """Images imported one after the other."""

    label, program = "Varve", "true"

    def __init__(self, directory):
        self.daemon = Daemon(directory)

    def keep(self, tree, name):
        """One more image."""
        self.daemon.varve("import", name, "dir", tree)

    def bytes(self):
        """At rest: what it does when there is time is done, now."""
        self.daemon.varve("gc", "--recompress")
        self.daemon.stop()
        return disk_bytes(self.daemon.state)


class Restic:
    """With the most that it compresses."""

    label, program = "restic, max", "restic"

    def __init__(self, directory):
        self.repo = os.path.join(directory, "repo")
        self.argv = ["restic", "-q", "-r", self.repo, "--cache-dir", directory + ".cache"]
        os.environ["RESTIC_PASSWORD"] = "bench"
        run(*self.argv, "init")

    def keep(self, tree, name):
        """One more image; the name is a tag."""
        run(*self.argv, "--compression", "max", "backup", "--tag", name, tree)

    def bytes(self):
        """Of the repository."""
        return disk_bytes(self.repo)


class Borg:
    """With the level that mksquashfs has."""

    label, program = "borg, zstd 15", "borg"

    def __init__(self, directory):
        os.environ["BORG_BASE_DIR"] = directory + ".base"
        os.environ["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        self.repo = os.path.join(directory, "repo")
        run("borg", "init", "-e", "none", self.repo)

    def keep(self, tree, name):
        """One more image."""
        run("borg", "create", "-C", "zstd,15", "--files-cache=disabled", f"{self.repo}::{name}",
            tree)

    def bytes(self):
        """Of the repository."""
        return disk_bytes(self.repo)


class Casync:
    """Chunks of the size it has by itself."""

    label, program = "casync, zstd", "casync"

    def __init__(self, directory):
        self.directory = directory

    def keep(self, tree, name):
        """One more image."""
        run("casync", "make", "--compression=zstd", "--with=unix",
            f"--store={self.directory}/store.castr", f"{self.directory}/{name}.caidx", tree)

    def bytes(self):
        """Of the store and the indexes."""
        return disk_bytes(self.directory)


class Squashfs:
    """A file an image: zstd at its level 15, blocks of 1 MiB."""

    label, program = "squashfs, zstd -b 1M", "mksquashfs"

    def __init__(self, directory):
        self.directory = directory

    def keep(self, tree, name):
        """One more image."""
        run("mksquashfs", tree, os.path.join(self.directory, name), "-comp", "zstd", "-b", "1M",
            "-no-progress")

    def bytes(self):
        """Of the files."""
        return disk_bytes(self.directory)


def measure(lab, name, kinds, trees):
    """{label: MB} of all trees, which are made one at a time: (name, function that makes it)."""
    stores = []
    for kind in kinds:
        if have(kind.program):
            directory = lab.path("size", name, kind.__name__)
            os.makedirs(directory)
            if kind is VarveStore:
                stores.append(kind(directory))
            else:
                peer_does(kind.label, lambda k=kind, d=directory: stores.append(k(d)))
    for image, make in trees:
        tree = make()
        for store in list(stores):
            if isinstance(store, VarveStore):
                store.keep(tree, image)
            elif not peer_does(store.label, store.keep, tree, image):
                stores.remove(store)
        shutil.rmtree(tree)
    result = {store.label: store.bytes() / MB for store in stores}
    shutil.rmtree(lab.path("size", name))
    return result


def related(lab):
    """(name, function that makes it) of root filesystems with different packages in each."""
    sets = debs.sets()

    def make(packages):
        tree = lab.unpack(lab.path("image"), PART)
        for package in packages:
            run("dpkg-deb", "-x", package, tree)
        return tree

    return [(f"image{i}", lambda p=packages: make(p)) for i, packages in enumerate(sets)]


def bench(lab):
    """All of it."""
    one = measure(lab, "one", [VarveStore, Squashfs],
                  [("root", lambda: lab.unpack(lab.path("image"), PART))])
    rows = [Row("store of one Debian root", [one["Varve"]], "MB", Squashfs.label,
                [one[Squashfs.label]], at_most(1.1))] if len(one) > 1 else []
    try:
        trees = related(lab)
        kinds = [VarveStore, Squashfs] if QUICK else [VarveStore, Restic, Borg, Casync, Squashfs]
        many = measure(lab, "many", kinds, trees)
        rows += [Row(f"store of {len(trees)} related images", [many["Varve"]], "MB", label,
                     [mb], smaller()) for label, mb in many.items() if label != "Varve"]
    except Skip as why:
        say(f"related images are left out: {why}")
    return "Bytes on disk: a Debian root, and such with different packages in each", rows
