"""What developers and their tools do: git, pip, npm, a compiler."""
import base64
import hashlib
import io
import json
import os
import random
import tarfile
import zipfile

from common import PYTHON, QUICK, have, run, say
from lab import Overlay, Varve, optional
from report import at_most
from workloads import Work, measure

NEAR = {"overlayfs": at_most(1.1)}


def words(seed, count):
    """Text that compresses as text does; the same for the same seed."""
    pick = random.Random(seed)
    return " ".join(f"word{pick.randrange(3000)}" for _ in range(count))


def make_wheels(directory, count, modules):
    """Packages benchN of so many modules each, as wheels."""
    os.makedirs(directory)
    for n in range(count):
        name, files = f"bench{n}", {}
        for m in range(modules):
            files[f"{name}/part{m}.py"] = "".join(
                f"def function{i}(value):\n    \"\"\"{words(f'{n}.{m}.{i}', 12)}\"\"\"\n"
                f"    return value * {i} + len({words(i, 3)!r})\n\n\n" for i in range(12))
        files[f"{name}/__init__.py"] = ""
        info = f"{name}-1.0.dist-info"
        files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        files[f"{info}/WHEEL"] = ("Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\n"
                                  "Tag: py3-none-any\n")
        record = ""
        for path, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data.encode()).digest())
            record += f"{path},sha256={digest.rstrip(b'=').decode()},{len(data.encode())}\n"
        files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
        with zipfile.ZipFile(os.path.join(directory, f"{name}-1.0-py3-none-any.whl"), "w",
                             zipfile.ZIP_DEFLATED) as wheel:
            for path, data in files.items():
                wheel.writestr(path, data)


def make_npm_packages(directory, count, files):
    """Packages benchN of so many files each, as npm pack makes them."""
    os.makedirs(directory)
    for n in range(count):
        content = {"package.json": json.dumps({"name": f"bench{n}", "version": "1.0.0"})}
        for i in range(files):
            content[f"lib/part{i}.js"] = f"// {words(f'{n}.{i}', 200)}\nmodule.exports = {i};\n"
        with tarfile.open(os.path.join(directory, f"bench{n}-1.0.0.tgz"), "w:gz") as archive:
            for path, data in content.items():
                entry = tarfile.TarInfo("package/" + path)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data.encode()))


def make_sources(directory, count):
    """A C program of so many files, and its Makefile."""
    os.makedirs(directory)
    for n in range(count):
        functions = "".join(
            f"int f{n}_{i}(int x)\n{{\n\tint sum = {i};\n\tfor (int k = 0; k < x; k++)\n"
            f"\t\tsum += part{(n + 1) % count}(k) ^ (k * {i + n});\n"
            f"\tprintf(\"%d %s\\n\", sum, \"{words(f'{n}.{i}', 4)}\");\n\treturn sum;\n}}\n"
            for i in range(6))
        with open(os.path.join(directory, f"part{n}.c"), "w", encoding="ascii") as f:
            f.write(f"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
                    f"#include \"all.h\"\n\n{functions}\n"
                    f"int part{n}(int x)\n{{\n\treturn x > 1 ? f{n}_0(x - 1) : x;\n}}\n")
    with open(os.path.join(directory, "all.h"), "w", encoding="ascii") as f:
        f.write("".join(f"int part{n}(int x);\n" for n in range(count)))
    with open(os.path.join(directory, "main.c"), "w", encoding="ascii") as f:
        f.write('#include "all.h"\n\nint main(void)\n{\n\treturn part0(1) != 1;\n}\n')
    with open(os.path.join(directory, "Makefile"), "w", encoding="ascii") as f:
        f.write("O = $(patsubst %.c,%.o,$(wildcard *.c))\nprogram: $O\n\t$(CC) -o $@ $O\n"
                "%.o: %.c all.h\n\t$(CC) -O1 -g -c -o $@ $<\n")


def pip_work(lab):
    """None where Python makes no environments."""
    try:
        run(PYTHON, "-m", "venv", lab.path("develop", "venv"))
    except SystemExit:
        say("pip install is left out: needs python3-venv")
        return None
    wheels = lab.path("develop", "wheels")
    make_wheels(wheels, *((2, 20) if QUICK else (10, 100)))
    return Work("pip install of local wheels",
                f"v/bin/pip install -q --no-cache-dir --disable-pip-version-check --no-index "
                f"--find-links {wheels} {' '.join(f'bench{n}' for n in range(2 if QUICK else 10))}",
                NEAR, before=f"rm -rf v; {PYTHON} -m venv v", after="rm -rf v")


def npm_work(lab):
    """None where there is no npm."""
    if not have("npm"):
        return None
    packages, count = lab.path("develop", "npm"), 2 if QUICK else 20
    make_npm_packages(packages, count, 10 if QUICK else 60)
    names = " ".join(f"{packages}/bench{n}-1.0.0.tgz" for n in range(count))
    install = f"cd n && npm install --offline --silent --no-audit --no-fund " \
        f"--no-update-notifier --cache {lab.path('develop', 'npm-cache')} {names}"
    return Work("npm install from a local cache", install, NEAR,
                before="rm -rf n; mkdir n; echo '{}' >n/package.json", after="rm -rf n")


def works(lab):
    """All of them."""
    sources = lab.path("develop", "sources")
    make_sources(sources, 20 if QUICK else 200)
    clone = "git clone -q repo g"
    result = [
        Work("git clone of a local repository", clone, NEAR, before="rm -rf g", after="rm -rf g"),
        Work("git checkout of a branch with a fifth changed",
             "git -C g checkout -q origin/other", NEAR, before="rm -rf g; " + clone,
             after="rm -rf g"),
        Work("git status, warm", "git -C repo status", NEAR,
             before="git -C repo status >/dev/null"),
        Work("make -j2 of a C program", "make -s -C s -j2", NEAR,
             before=f"rm -rf s; cp -r {sources} s", after="rm -rf s"),
    ]
    return result + [w for w in (pip_work(lab), npm_work(lab)) if w]


def bench(lab):
    """All of it."""
    tree = lab.full()
    # Both sides' repositories are root's; git refuses to work in another's.
    os.environ["GIT_CONFIG_COUNT"], os.environ["GIT_CONFIG_KEY_0"] = "1", "safe.directory"
    os.environ["GIT_CONFIG_VALUE_0"] = "*"
    sides = [Varve(lab.daemon("full", tree), "full", lab.path("develop", "varve")),
             optional(Overlay, tree, lab.path("develop", "over"))]
    rows = measure(sides, works(lab))
    for side in filter(None, sides):
        side.close()
    return "A developer's tools in a mount of a Debian root", rows
