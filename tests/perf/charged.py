"""
Memory as the kernel charges it to a group of processes: theirs, the files that they have mapped or
read, and what the kernel itself keeps for them (page tables, stacks, inodes, mounts).
"""
import os

from common import drop_caches

V1 = "/sys/fs/cgroup/memory"
V2 = "/sys/fs/cgroup"


def _write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(str(text))


def _own_group(controller):
    """The directory, in a hierarchy, of the group that we are in."""
    root = V1 if controller else V2
    with open("/proc/self/cgroup", encoding="ascii") as f:
        for line in f:
            _, names, path = line.strip().split(":", 2)
            if controller in names.split(",") if controller else not names:
                return root + path if os.path.isdir(root + path) else root
    return root


class Group:
    """
    Ourselves, and so all that we start, from `with` on; at its end all are where we were before.
    OSError where the system has no such group to give.
    """

    def __init__(self):
        if os.path.exists(os.path.join(V1, "memory.usage_in_bytes")):
            self.before, parent, self.file = _own_group("memory"), V1, "memory.usage_in_bytes"
        else:
            self.before, parent, self.file = _own_group(""), V2, "memory.current"
            _write(os.path.join(V2, "cgroup.subtree_control"), "+memory")
        self.directory = os.path.join(parent, f"bench-{os.getpid()}")

    def __enter__(self):
        os.mkdir(self.directory)
        _write(os.path.join(self.directory, "cgroup.procs"), os.getpid())
        return self

    def __exit__(self, *_):
        with open(os.path.join(self.directory, "cgroup.procs"), encoding="ascii") as f:
            for pid in f.read().split():
                try:
                    _write(os.path.join(self.before, "cgroup.procs"), pid)
                except ProcessLookupError:
                    pass
        os.rmdir(self.directory)

    def megabytes(self):
        """What it is charged for, without what nobody needs."""
        drop_caches()
        with open(os.path.join(self.directory, self.file), encoding="ascii") as f:
            return int(f.read()) / 1e6
