#!/usr/bin/env python3
"""builds.py DIR KEYS - eight daemons that share a bucket are asked for the same images at once.

First nobody dies: each of KEYS images is built by exactly one host, and all have that one. Then, with
other images, a host is killed while it builds, and asked again: at most two hosts have built an
image, and all have the same. Images are of files alone: no container runs.

Prints what was done. Status 1, and what was wrong, if anything was.
"""
import base64
import collections
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../power"))
from daemon import Daemon, SLOW  # noqa: E402 (found by the line above)

HOSTS = 8
KILL_AFTER = 0.5  # s
# Of a builder without a sign of life. While nobody dies none is to be taken for dead.
PATIENT, HASTY = 120, 5


def image(name):
    """Of two steps, each with its own key."""
    return {"base": "base", "steps": [
        {"type": "add_file", "args": {"path": f"/{step}", "encoding": "base64", "mode": "0644",
                                      "content": base64.b64encode(f"{step} of {name}".encode())
                                      .decode()}} for step in ("one", "two")]}


class Host:
    """A daemon."""

    def __init__(self, top, number):
        self.config = os.path.join(top, f"{number}.json")
        self.bucket = os.path.join(top, "bucket")
        self.daemon = Daemon(os.path.join(top, f"state{number}"), os.path.join(top, f"{number}.sock"),
                             os.path.join(top, f"{number}.log"), args=("--config", self.config))

    def start(self, timeout):
        """With so much patience."""
        with open(self.config, "w", encoding="utf-8") as f:
            json.dump({"remotes": [{"name": "main", "url": f"file://{self.bucket}"}],
                       "share": "main", "shareBuildTimeout": timeout, "defaultTemplate": "base",
                       "buildNetwork": "none"}, f)
        self.daemon.start()

    def ask(self, names):
        """For images; does not wait. A daemon that is killed meanwhile is not minded."""
        try:
            for name in names:
                self.daemon.api("POST", "/api/snapshots?async=1", {"name": name, "image": image(name)})
        except OSError:
            if self.daemon.process:
                raise

    def builds(self, names):
        """Those of these, by name: a list each. They have ended."""
        until = time.monotonic() + 300 * SLOW
        while True:
            found = collections.defaultdict(list)
            for build in self.daemon.api("GET", "/api/builds"):
                if build["name"] in names:
                    found[build["name"]].append(build)
            missing = [n for n in names if not any(b["state"] == "ready" for b in found[n])]
            failed = [found[n][0]["error"] for n in missing
                      if found[n] and all(b["endedAt"] for b in found[n])]
            if not missing:
                return found
            if failed or time.monotonic() > until:
                raise RuntimeError(f"no image: {missing}: {failed}")
            time.sleep(0.2)


def ask_all(hosts, names):
    """All hosts for all images, at once."""
    threads = [threading.Thread(target=h.ask, args=(names,)) for h in hosts]
    for t in threads:
        t.start()
    return threads


def result(hosts, names):
    """How many hosts have run a step, and how many roots there are, of each image."""
    built, roots = collections.Counter(), collections.defaultdict(set)
    for host in hosts:
        for name, builds in host.builds(names).items():
            built[name] += any(b["cachedSteps"] < b["step"] for b in builds)
        for s in host.daemon.api("GET", "/api/snapshots"):
            if s["name"] in names:
                roots[s["name"]].add(s["root"])
    wrong = [f"{n}: {len(roots[n])} images" for n in names if len(roots[n]) != 1]
    return built, wrong


def nobody_dies(hosts, names):
    """One builds."""
    for t in ask_all(hosts, names):
        t.join()
    built, wrong = result(hosts, names)
    return wrong + [f"{n}: built by {built[n]} hosts" for n in names if built[n] != 1]


def one_dies(hosts, names):
    """Another takes over."""
    threads = ask_all(hosts, names)
    time.sleep(KILL_AFTER)
    victim = hosts[0]
    process, victim.daemon.process = victim.daemon.process, None
    process.kill()
    process.wait()
    for t in threads:
        t.join()
    victim.start(HASTY)
    victim.ask(names)
    built, wrong = result(hosts, names)
    print(f"{sum(b > 1 for b in built.values())} images were built twice")
    return wrong + [f"{n}: built by {built[n]} hosts" for n in names if built[n] > 2]


def main():
    """Both."""
    top, keys, wrong = sys.argv[1], int(sys.argv[2]), []
    base = os.path.join(top, "base")
    os.makedirs(base)
    hosts = [Host(top, i) for i in range(HOSTS)]
    try:
        for host in hosts:
            host.start(PATIENT)
        hosts[0].daemon.varve("import", "base", "dir", base)
        while not hosts[0].daemon.api("GET", "/api/snapshots/base")["remotes"]:
            time.sleep(0.05)
        begin = time.monotonic()
        wrong += nobody_dies(hosts, [f"alive{i}" for i in range(keys)])
        print(f"{keys} images, {HOSTS} hosts: {time.monotonic() - begin:.1f} s")
        for host in hosts:
            host.daemon.stop()
            host.start(HASTY)
        wrong += one_dies(hosts, [f"dead{i}" for i in range(max(keys // 4, 10))])
    except RuntimeError as e:
        wrong.append(str(e))
    finally:
        for host in hosts:
            host.daemon.stop()
    for text in wrong:
        print("wrong:", text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
