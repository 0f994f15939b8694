"""Reads that wait, and what others can do meanwhile. For tests.

    python3 parked_reads.py read DIR WANT-DIR COUNT     # reads COUNT files f0 ... at once
    python3 parked_reads.py neighbour DIR               # microseconds that 99 of 100 uses of it take at most

`read` prints "waiting" when all have begun, and at the end how many were right, wrong, and failed.
`neighbour` tells the best of some rounds: the host has other work, too.
"""
import os
import sys
import threading
import time

USES, ROUNDS = 200, 5


def read_all(top, want, count):
    """One thread a file."""
    begun, results = threading.Semaphore(0), []

    def read_one(name):
        fd = os.open(os.path.join(top, name), os.O_RDONLY)
        begun.release()
        try:
            data = b""
            while piece := os.read(fd, 1 << 20):
                data += piece
            with open(os.path.join(want, name), "rb") as f:
                results.append("right" if f.read() == data else "wrong")
        except OSError:
            results.append("failed")
        finally:
            os.close(fd)

    threading.stack_size(1 << 16)
    threads = [threading.Thread(target=read_one, args=(f"f{i}",)) for i in range(count)]
    for t in threads:
        t.start()
    for _ in threads:
        begun.acquire()
    print("waiting", flush=True)
    for t in threads:
        t.join()
    print(*(f"{results.count(w)} {w}" for w in ("right", "wrong", "failed")))


def neighbour_round(top):
    """Open, write, sync nothing, read past the kernel's cache, list, remove."""
    times = []
    for i in range(USES):
        path = os.path.join(top, f"n{i}")
        begin = time.monotonic()
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, b"mine")
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.pread(fd, 4, 0)
        os.close(fd)
        os.listdir(top)
        os.unlink(path)
        times.append(time.monotonic() - begin)
    return sorted(times)[USES - 1 - USES // 100]


if sys.argv[1] == "read":
    read_all(sys.argv[2], sys.argv[3], int(sys.argv[4]))
else:
    print(int(1e6 * min(neighbour_round(sys.argv[2]) for _ in range(ROUNDS))))
