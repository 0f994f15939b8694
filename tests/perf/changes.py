"""Changes of files, a program that writes meanwhile, and mounts by single system calls."""
import ctypes
import os
import struct
import subprocess

from common import Failed, helper

LIBC = ctypes.CDLL(None, use_errno=True)


def mount_overlay(lower, upper, scratch, place):
    """mount(2), as a program of a peer would, without a process for it."""
    options = f"lowerdir={lower},upperdir={upper},workdir={scratch}"
    if LIBC.mount(b"overlay", place.encode(), b"overlay", 0, options.encode()) != 0:
        raise Failed(f"bench: mounting overlay: {os.strerror(ctypes.get_errno())}")


def unmount(place):
    """umount2(2)."""
    if LIBC.umount2(place.encode(), 0) != 0:
        raise Failed(f"bench: unmounting {place}: {os.strerror(ctypes.get_errno())}")


def file_of(i):
    """The i-th of the generated files (maketar.c)."""
    return f"d{i // 10000}/e{i // 100 % 100}/file{i}"


def change(root, count, turn):
    """Other bytes in the first `count` generated files: 4 KiB each, of which half is random."""
    for i in range(count):
        with open(os.path.join(root, file_of(i)), "r+b") as f:
            f.write(struct.pack("<QQ", turn, i) + os.urandom(2032) + bytes(2048))


class Writer:
    """
    fileio stall on a file while something else happens: `longest` is in milliseconds the
    longest that one of its writes took.
    """

    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(bytes(4096))
        self.process = subprocess.Popen([helper("fileio"), "stall", path], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdout.readline()
        self.longest = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        out, _ = self.process.communicate()  # which ends its input
        if self.process.returncode != 0:
            raise Failed("bench: fileio stall failed")
        self.longest = int(out.split()[0]) / 1e6
