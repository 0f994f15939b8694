"""
1,000 hosts that have nothing start one image within a second: simulated, from recorded requests.

traces/*.txt are what one host asked a bucket for (Ceph, on the same machine) from `varve mount` of a
Debian root to the end of python3 -c "import json, ssl, asyncio": a line a request, "BEGIN-MS TOOK-MS
OPERATION KEY BYTES". by-id and by-name have a hot object, first has none.

The model. A request begins when all that had ended before it in the trace have, and as much later as
it was there: that is the host's own work. It takes a round trip; the service answers 5,500 GETs a
second below a prefix (names, records, packs of two digits, hot objects), in order; the answer goes
through the host's link of 1 Gb/s, shared by what it asks for. The service's own link has no limit.
With a cache, packs and hot objects come from it, and each piece once from the service. Prices are
Amazon's: $0.0004 for 1,000 GETs, $0.005 for 1,000 LISTs.
"""
import heapq
import os
import random

from report import Row, within

NODES = 1000
STARTS_S = 1.0
RATE = 5500  # requests a second, of a prefix
LINK = 125e6  # bytes a second
PRICES = {"GET": 0.0004 / 1000, "LIST": 0.005 / 1000}
DISTANCES = (10, 30)  # ms there and back
TRACES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "traces")


class Request:
    """One of a trace; times in seconds."""

    def __init__(self, line):
        begin, took, self.kind, key, size = line.split()
        self.begin, self.end = float(begin) / 1000, (float(begin) + float(took)) / 1000
        self.bytes = int(size)
        self.prefix = key.rsplit("/", 1)[0]
        self.after, self.think = [], 0.0
        self.cached = key.startswith(("pack/", "hot/"))


def trace(name):
    """Its requests, in order, each with those that it waits for."""
    with open(os.path.join(TRACES, name + ".txt"), encoding="ascii") as f:
        requests = [Request(line) for line in f]
    for i, r in enumerate(requests):
        r.after = [j for j in range(i) if requests[j].end <= r.begin]
        r.think = r.begin - max((requests[j].end for j in r.after), default=0)
    return requests


def simulate(requests, rtt_s, cache=False):
    """When each host had all, from the first one's begin on: seconds; bytes of the service."""
    rng = random.Random(1)
    starts = [rng.uniform(0, STARTS_S) for _ in range(NODES)]
    ends = [[None] * len(requests) for _ in range(NODES)]
    begun = [set() for _ in range(NODES)]
    link, turn = [0.0] * NODES, {}  # when they are free
    events, served, seen = [], 0, set()

    def begin(node, now):
        for i, r in enumerate(requests):
            if i not in begun[node] and all(ends[node][j] is not None for j in r.after):
                last = max((ends[node][j] for j in r.after), default=starts[node])
                if last <= now:
                    begun[node].add(i)
                    heapq.heappush(events, (max(now, last + r.think) + rtt_s / 2, 0, node, i))

    for node, at in enumerate(starts):
        heapq.heappush(events, (at, 2, node, -1))
    while events:
        now, kind, node, i = heapq.heappop(events)
        if kind == 0:  # it has come to the service, or to the cache
            r = requests[i]
            if not (cache and r.cached):
                turn[r.prefix] = now = max(now, turn.get(r.prefix, 0) + 1 / RATE)
            if not (cache and r.cached and i in seen):
                served += r.bytes
            seen.add(i)
            heapq.heappush(events, (now + rtt_s / 2, 1, node, i))
        elif kind == 1:  # its first byte is here
            link[node] = max(now, link[node]) + requests[i].bytes / LINK
            heapq.heappush(events, (link[node], 2, node, i))
        else:
            if i >= 0:
                ends[node][i] = now
            begin(node, now)
    return [max(e) - s for e, s in zip(ends, starts)], max(max(e) for e in ends), served


def cost(requests):
    """Of one start, in dollars."""
    return sum(PRICES[r.kind] for r in requests)


def bench(_):
    """All of it."""
    rows = []
    for name, what, limit in (("by-id", "by id", 0.5), ("by-name", "by name", 1),
                              ("first", "by name, without a hot object", None)):
        requests = trace(name)
        rows.append(Row(f"requests of {NODES:,} starts {what}", [NODES * len(requests)], "requests",
                        "", None, within(12000, "requests") if name == "by-id" else None))
        rows.append(Row(f"their price, {what}", [100 * NODES * cost(requests)], "cents", "", None,
                        within(limit, "cents") if limit else None))
        for ms in DISTANCES:
            each, end, _ = simulate(requests, ms / 1000)
            rows.append(Row(f"{ms} ms away: a start {what}", sorted(each), "s"))
            rows.append(Row(f"{ms} ms away: until all have started, {what}", [end], "s", "", None,
                            within(10, "s") if limit else None))
    hot = trace("by-id")
    _, _, served = simulate(hot, 0.01, cache=True)
    rows.append(Row("by id, with a cache: bytes of the service", [served / 1e6], "MB",
                    "one start", [sum(r.bytes for r in hot) / 1e6]))
    return (f"{NODES:,} hosts start one image within a second, simulated from recorded requests: "
            "the model is in tests/perf/nodes.py", rows)
