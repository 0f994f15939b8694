"""Real packages: of any Debian release, without what they depend on, kept in build/debs."""
import os
import shutil
import subprocess

from common import BUILD, QUICK, Skip, have

PLACE = os.path.join(BUILD, "debs")

# Three for each of the related images: different ones, of different kinds.
SETS = [["zsh-common", "tmux", "jq"], ["vim-runtime", "rsync", "gawk"],
        ["python3-numpy", "python3-yaml", "python3-lxml"],
        ["python3-django", "nginx-common", "libjs-jquery"],
        ["emacs-common", "fish-common", "strace"], ["cmake-data", "ninja-build", "gdb"],
        ["python3-sympy", "sqlite3", "libjs-mathjax"], ["mercurial-common", "subversion", "nano"]]
QUICK_SETS = [["tmux", "jq"], ["nano"], ["rsync"]]


def fetch(names):
    """Paths of the packages; Skip where apt-get cannot have them."""
    if not have("dpkg-deb") or not have("apt-get"):
        raise Skip("needs dpkg-deb and apt-get")
    paths = []
    for name in names:
        place = os.path.join(PLACE, name)
        if not os.path.isdir(place):
            os.makedirs(place + ".new", exist_ok=True)
            done = subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download",
                                   name], cwd=place + ".new", check=False, text=True,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE)
            if done.returncode != 0:
                shutil.rmtree(place + ".new")
                raise Skip(f"apt-get download {name}: {done.stderr.strip()[-300:]}")
            os.rename(place + ".new", place)
        paths += [os.path.join(place, f) for f in sorted(os.listdir(place)) if f.endswith(".deb")]
    return paths


def sets():
    """Lists of paths."""
    return [fetch(names) for names in (QUICK_SETS if QUICK else SETS)]
