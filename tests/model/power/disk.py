"""disk.py - what a disk may hold after a power cut, from the log of record_fs.

The model. Of a file, what was there when its last fsync or fdatasync began is durable; of a
directory, the entries when its last fsync began. Of everything later any of this may be there as
well:

- Data in pieces, each with a prefix of the writes to it: the page as it was at some time. Pieces
  are 4096 bytes (pages), or 512 (sectors: torn pages). Which pieces, and in which order they went
  to the disk, is open. The size is the end of the last piece that is there, or, in that piece,
  any later end: a size may be older or newer than the data. Where there is none, zeros are read.
- Truncations and punches of a file in their order. Data written after one that is missing is
  missing, too.
- Changes of entries (create, link, rename, unlink) in their order, for each directory a prefix.
  A rename between two directories is in both or in none. Directories are independent of each
  other, and of files: a name may be there without the data, and the data without the name.

This is what POSIX promises, and less than what ext4, xfs and btrfs do: they order metadata among
directories, and fsync of a new file keeps its name on all of them. So all that they may leave is
among the states here, but for errors of the disk. Modes and times are not modelled.
"""
import mmap
import os
import struct

HEAD = struct.Struct("=QQQQQIHHc7x")
ROOT = 1
PIECES = (4096, 512)
DATA, META = "w", "tp"
POLICIES = ("all", "none", "prefix", "random", "random", "one missing", "one missing", "one kept",
            "some behind", "some behind", "some behind", "some behind", "directory missing",
            "directory kept", "names without data", "data without names")


class Record:
    """One record: `type` as record_fs.c has it, and what belongs to it."""
    __slots__ = ("type", "inode", "dir", "other_dir", "offset", "length", "name", "other_name",
                 "data")


def read_log(path):
    """All records, in order."""
    records = []
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        log = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)) if size else b""
    at = 0
    while at + HEAD.size <= size:
        r = Record()
        (r.inode, r.dir, r.other_dir, r.offset, r.length, data_size, name_size, other_size,
         kind) = HEAD.unpack_from(log, at)
        at += HEAD.size
        r.type = kind.decode()
        r.name = bytes(log[at:at + name_size])
        at += name_size
        r.other_name = bytes(log[at:at + other_size])
        at += other_size
        r.data = log[at:at + data_size]
        at += data_size
        records.append(r)
    return records


class Sparse:
    """The bytes of a file, of which most are zeros that nobody has written: no block for these."""
    BLOCK = 1 << 16

    def __init__(self):
        self.size = 0
        self.blocks = {}
        self.own = set()  # blocks that no copy shares

    def copy(self):
        made = Sparse()
        made.size, made.blocks = self.size, dict(self.blocks)
        self.own = set()
        return made

    def _parts(self, offset, end):
        """[(block, from, to in it, to in the range)]"""
        while offset < end:
            n, at = divmod(offset, self.BLOCK)
            to = min(self.BLOCK, at + end - offset)
            offset += to - at
            yield n, at, to, offset

    def _put(self, n, at, to, what):
        if n not in self.own:
            self.blocks[n] = bytearray(self.blocks.get(n) or self.BLOCK)
            self.own.add(n)
        self.blocks[n][at:to] = what

    def write(self, offset, what):
        end = offset + len(what)
        for n, at, to, upto in self._parts(offset, end):
            self._put(n, at, to, what[upto - offset - (to - at):upto - offset])
        self.size = max(self.size, end)

    def punch(self, offset, end):
        for n, at, to, _ in self._parts(offset, min(end, self.size)):
            if n in self.blocks:
                self._put(n, at, to, bytes(to - at))

    def truncate(self, size):
        last, at = divmod(size, self.BLOCK)
        if size < self.size:
            self.blocks = {n: b for n, b in self.blocks.items() if n < last + (at > 0)}
            self.own &= self.blocks.keys()
            self.punch(size, (last + 1) * self.BLOCK)
        self.size = size

    def store(self, path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        for n, block in self.blocks.items():
            os.pwrite(fd, memoryview(block)[:self.size - n * self.BLOCK], n * self.BLOCK)
        os.ftruncate(fd, self.size)
        os.close(fd)


class Inode:
    """A file or a directory: what is durable, and what came after it."""

    def __init__(self, is_dir, is_fifo=False):
        self.is_dir = is_dir
        self.is_fifo = is_fifo  # or a socket
        self.data = Sparse()
        self.entries = {}
        # Of a file: (position, type, offset, data or length); of a directory: Change.
        self.pending = []


class Change:
    """One atomic change of entries: [(directory, name, inode or None)]."""

    def __init__(self, position, effects):
        self.position = position
        self.effects = effects
        self.dirs = list({d for d, _, _ in effects})


def change_file(data, kind, offset, what):
    """Apply a whole write, truncation or punch."""
    if kind == "w":
        data.write(offset, what)
    elif kind == "t":
        data.truncate(what)
    else:
        data.punch(offset, offset + what)


class Disk:
    """The state after the first `position` records. advance() goes on, make() builds a disk."""

    def __init__(self, records, names_durable=False):
        """names_durable: changes of entries are on the disk at once, so that faults in other files
        are found beside names that are never synced."""
        self.records = records
        self.names_durable = names_durable
        self.position = 0
        self.inodes = {ROOT: Inode(True)}

    def advance(self, position):
        while self.position < position:
            self._apply(self.records[self.position])
            self.position += 1

    def _change(self, effects):
        change = Change(self.position, effects)
        for d in change.dirs:
            self.inodes[d].pending.append(change)
        if self.names_durable:
            for d in change.dirs:
                self._sync(d, self.position + 1)

    def _apply(self, r):
        if r.type in "FDP":
            self.inodes[r.inode] = Inode(r.type == "D", r.type == "P")
            self._change([(r.dir, r.name, r.inode)])
        elif r.type == "l":
            self._change([(r.dir, r.name, r.inode)])
        elif r.type == "u":
            self._change([(r.dir, r.name, None)])
        elif r.type == "r":
            self._change([(r.dir, r.name, None), (r.other_dir, r.other_name, r.inode)])
        elif r.type == "w":
            self.inodes[r.inode].pending.append((self.position, "w", r.offset, r.data))
        elif r.type in META:
            self.inodes[r.inode].pending.append((self.position, r.type, r.offset, r.length))
        elif r.type in "sd":
            self._sync(r.inode, r.length)

    def _sync(self, number, begun):
        """What was done before record `begun` is durable."""
        inode = self.inodes[number]
        if not inode.is_dir:
            n = sum(p[0] < begun for p in inode.pending)
            for _, kind, offset, what in inode.pending[:n]:
                change_file(inode.data, kind, offset, what)
            del inode.pending[:n]
            return
        # What another directory did before a rename to or from it is durable with the rename.
        upto = {number: sum(c.position < begun for c in inode.pending)}
        todo = [number]
        while todo:
            d = todo.pop()
            for change in self.inodes[d].pending[:upto[d]]:
                for other in change.dirs:
                    n = self.inodes[other].pending.index(change) + 1
                    if n > upto.get(other, 0):
                        upto[other] = n
                        todo.append(other)
        self._apply_changes({n: node.entries for n, node in self.inodes.items() if node.is_dir},
                            upto)
        for d, n in upto.items():
            del self.inodes[d].pending[:n]

    def _apply_changes(self, entries, upto):
        changes = {id(c): c for d, n in upto.items() for c in self.inodes[d].pending[:n]}
        for change in sorted(changes.values(), key=lambda c: c.position):
            for d, name, inode in change.effects:
                if inode is None:
                    entries[d].pop(name, None)
                else:
                    entries[d][name] = inode

    # ---- making one of the possible disks ----

    def make(self, target, policy, rng):
        """Make, in the empty directory target, a disk of that policy. Returns what was chosen."""
        named = {ROOT}
        for i in self.inodes.values():
            if i.is_dir:
                named.update(i.entries.values())
                named.update(child for c in i.pending for _, _, child in c.effects)
        pending = sorted(n for n, i in self.inodes.items() if i.pending and n in named)
        # What has an order mostly has it for a moment only: less long ago is more likely.
        until = max(0, self.position - int(2 ** rng.uniform(0, 9)))
        some = self._some(pending, policy, until, rng)
        piece = rng.choice(PIECES)

        def how(number):
            """Of one inode: "all", "none", "prefix" or "random"."""
            if policy in ("all", "none", "prefix", "random"):
                return policy
            if policy.endswith(" missing"):
                return "all" if number not in some else rng.choice(("none", "random"))
            if policy.endswith(" kept"):
                return "none" if number not in some else "all"
            if policy == "some behind":
                return "prefix" if number in some else "all"
            names = policy == "names without data"
            return "all" if self.inodes[number].is_dir == names else "none"

        entries = self._choose_entries(how, until, rng)
        made = {}

        def fill(number, path):
            for name, child in sorted(entries[number].items()):
                there = os.path.join(path, os.fsdecode(name))
                if child in made:
                    os.link(made[child], there)
                elif self.inodes[child].is_dir:
                    os.mkdir(there, 0o700)
                    fill(child, there)
                elif self.inodes[child].is_fifo:
                    os.mkfifo(there)
                    made[child] = there
                else:
                    made[child] = there
                    self._choose_data(self.inodes[child], how(child), until, piece,
                                      rng).store(there)

        fill(ROOT, target)
        text = policy
        if some and policy.endswith((" missing", " kept", " behind")):
            text += f": {', '.join(self.name_of(n) for n in sorted(some)[:5])}"
        if policy.endswith(("prefix", " behind")):
            text += f": up to record {until}"
        return text + (f", pieces of {piece}" if piece != 4096 else "")

    def _some(self, pending, policy, until, rng):
        """The inodes that a policy treats in another way than the rest; one may be named by its
        number."""
        if policy[0].isdigit():
            return {int(policy.split()[0])}
        recent = [n for n in pending if self._last_change(n) >= until]
        if policy == "some behind":  # each pair in either order
            return {n for n in recent if rng.random() < 0.5}
        if recent and rng.random() < 0.5:
            pending = recent
        some = {rng.choice(pending)} if pending else set()
        return self._beside(some) if policy.startswith("directory") else some

    def _last_change(self, number):
        last = self.inodes[number].pending[-1]
        return last.position if self.inodes[number].is_dir else last[0]

    def _beside(self, some):
        """The directories that have these inodes, with all that is in them."""
        found = set()
        for n, i in self.inodes.items():
            if i.is_dir:
                inside = set(i.entries.values()) | {child for c in i.pending
                                                    for _, _, child in c.effects}
                if inside & some:
                    found |= inside | {n}
        return found - {None}

    def name_of(self, number):
        """The last name of an inode, for people."""
        for r in reversed(self.records[:self.position]):
            if r.inode == number and r.type in "FDPlr":
                return os.fsdecode(r.other_name if r.type == "r" else r.name)
        return "the root" if number == ROOT else str(number)

    def _choose_entries(self, how, until, rng):
        dirs = {n: i for n, i in self.inodes.items() if i.is_dir}
        upto = {}
        for n, inode in dirs.items():
            count = len(inode.pending)
            upto[n] = {"all": lambda c=count: c, "none": lambda: 0,
                       "prefix": lambda i=inode: sum(c.position < until for c in i.pending),
                       "random": lambda c=count: rng.randint(0, c)}[how(n)]()
        changed = True
        while changed:
            changed = False
            for n, inode in dirs.items():
                for change in inode.pending[upto[n]:]:
                    for other in change.dirs:
                        at = self.inodes[other].pending.index(change)
                        if at < upto[other]:
                            upto[other] = at
                            changed = True
        entries = {n: dict(i.entries) for n, i in dirs.items()}
        self._apply_changes(entries, upto)
        return entries

    @staticmethod
    def _choose_data(inode, how, until, piece, rng):
        if how == "none" or not inode.pending:
            return inode.data
        data = inode.data.copy()
        if how == "random":
            choose_pieces(data, inode.pending, piece, rng)
        else:
            for position, kind, offset, what in inode.pending:
                if how == "all" or position < until:
                    change_file(data, kind, offset, what)
        return data


def choose_pieces(data, pending, piece, rng):
    """Apply a legal choice of unsynced changes of a file to its bytes, Sparse."""
    metas = [i for i, p in enumerate(pending) if p[1] in META]
    kept = rng.randint(0, len(metas))
    if kept < len(metas):
        pending = pending[:metas[kept]]
    writes = {}  # piece: how many writes there are to it
    for _, kind, offset, what in pending:
        if kind == "w" and len(what):
            for n in range(offset // piece, (offset + len(what) - 1) // piece + 1):
                writes[n] = writes.get(n, 0) + 1
    likely = rng.choice((0.05, 0.5, 0.95))
    left = {n: count if rng.random() < likely else rng.choice((0, 0, rng.randint(0, count)))
            for n, count in writes.items()}
    newer_size = rng.random() < 0.25
    for _, kind, offset, what in pending:
        if kind != "w":
            change_file(data, kind, offset, what)
            continue
        end = offset + len(what)
        for n in range(offset // piece, (end - 1) // piece + 1) if len(what) else ():
            first, last = max(offset, n * piece), min(end, (n + 1) * piece)
            if left[n] > 0:
                left[n] -= 1
                change_file(data, "w", first, what[first - offset:last - offset])
            elif newer_size and n * piece < data.size < last:
                data.truncate(last)
