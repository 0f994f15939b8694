"""Images described in code."""
from __future__ import annotations

import base64
import copy
import hashlib
import os
import stat
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from . import _jcs

PathLike = Union[str, "os.PathLike[str]"]
Step = Dict[str, Any]


def _strings(what: str, values: Sequence[str]) -> List[str]:
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{what} are a list of strings, not one string")
    out = list(values)
    for value in out:
        _text(what, value)
    return out


def _text(what: str, value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what}: {value!r} is no string")
    return value


def _utf8(what: str, name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{what} {name!r} is not UTF-8") from None
    return name


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _mode(mode: Union[int, str]) -> str:
    """Permission bits as a manifest has them: four octal digits."""
    value = int(mode, 8) if isinstance(mode, str) else mode
    if not 0 <= value <= 0o7777:
        raise ValueError(f"mode {mode!r} is not between 0 and 7777")
    return f"{value:04o}"


def _read(path: PathLike) -> Tuple[bytes, str]:
    """Content and mode of a regular file."""
    with open(path, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError(f"{os.fspath(path)} is not a regular file")
        return file.read(), _mode(stat.S_IMODE(info.st_mode))


def _collect(top: str, below: str, files: List[Step], dirs: List[Step]) -> None:
    with os.scandir(os.path.join(top, below)) as entries:
        for entry in entries:
            name = _utf8("the name", f"{below}/{entry.name}" if below else entry.name)
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode):
                target = _utf8(f"the target of {entry.path}", os.readlink(entry.path))
                files.append({"relativePath": name, "target": target})
            elif stat.S_ISDIR(info.st_mode):
                dirs.append({"relativePath": name, "mode": _mode(stat.S_IMODE(info.st_mode))})
                _collect(top, name, files, dirs)
            elif stat.S_ISREG(info.st_mode):
                content, mode = _read(entry.path)
                files.append(
                    {"relativePath": name, "content": _base64(content), "mode": mode}
                )
            else:
                raise ValueError(f"{entry.path} is no file, directory or symbolic link")


def _by_path(entry: Step) -> bytes:
    path: str = entry["relativePath"]
    return path.encode("utf-8")


class Image:
    """What a sandbox's root filesystem is made of: a base and steps.

    An image is immutable: every method returns a new one and leaves this one as it is, so images
    can share a beginning, which is then built once.

        image = (
            Image.base()
            .apt_install(["curl", "git"])
            .add_file("/workspace/config.json", '{"debug": true}')
            .env({"PROJECT": "/workspace"})
            .workdir("/workspace")
        )

    Nothing is checked against the daemon before it is used; a manifest that the daemon cannot
    accept is an InvalidRequestError that names the step.
    """

    __slots__ = ("_base", "_steps", "_builder_memory_mb")

    def __init__(self) -> None:
        self._base = "base"
        self._steps: Tuple[Step, ...] = ()
        self._builder_memory_mb: Optional[int] = None

    @classmethod
    def base(cls) -> Image:
        """Start from the daemon's default template."""
        return cls()

    @classmethod
    def from_snapshot(cls, name: str) -> Image:
        """Start from a snapshot, by its name."""
        image = cls()
        image._base = "snapshot:" + _text("the name", name)
        return image

    @classmethod
    def from_oci(cls, reference: str) -> Image:
        """Start from an OCI image that has been imported into the daemon's store."""
        image = cls()
        image._base = "oci:" + _text("the reference", reference)
        return image

    @classmethod
    def from_dict(cls, manifest: Mapping[str, Any]) -> Image:
        """The image of a manifest that to_dict() or another library made."""
        unknown = set(manifest) - {"base", "steps", "builderMemoryMB"}
        if unknown:
            raise ValueError(f"unknown in a manifest: {', '.join(sorted(unknown))}")
        image = cls()
        image._base = _text("base", manifest["base"])
        image._steps = tuple(copy.deepcopy(list(manifest["steps"])))
        image._builder_memory_mb = manifest.get("builderMemoryMB")
        return image

    def _copy(self) -> Image:
        image = Image()
        image._base = self._base
        image._steps = self._steps
        image._builder_memory_mb = self._builder_memory_mb
        return image

    def _with(self, kind: str, args: Dict[str, Any]) -> Image:
        image = self._copy()
        image._steps += ({"type": kind, "args": args},)
        return image

    def apt_install(self, packages: Sequence[str]) -> Image:
        """Install Debian packages, without what they only recommend."""
        return self._with("apt_install", {"packages": _strings("packages", packages)})

    def pip_install(self, packages: Sequence[str]) -> Image:
        """Install Python packages. Each is one argument of pip: "pandas>=2" needs no quotes."""
        return self._with("pip_install", {"packages": _strings("packages", packages)})

    def run_commands(self, *commands: str) -> Image:
        """Run commands in one /bin/sh, in the environment and working directory of the steps
        before: `cd` and `export` hold for the commands after them. The first that fails ends
        the build."""
        return self._with("run", {"commands": _strings("commands", commands)})

    def env(self, variables: Mapping[str, str]) -> Image:
        """Set environment variables, for later steps and for every sandbox of the image."""
        vars_ = {_text("a name", k): _text(f"variable {k}", v) for k, v in variables.items()}
        return self._with("env", {"vars": vars_})

    def workdir(self, path: str) -> Image:
        """Make a directory, the default one of later steps and of sandboxes."""
        return self._with("workdir", {"path": _text("the path", path)})

    def add_file(
        self, path: str, content: Union[str, bytes], mode: Union[int, str, None] = None
    ) -> Image:
        """Write a file, byte for byte (a str as UTF-8). mode: 0o755 or "0755"."""
        data = content.encode("utf-8") if isinstance(content, str) else bytes(content)
        args = {"path": _text("the path", path), "content": _base64(data), "encoding": "base64"}
        if mode is not None:
            args["mode"] = _mode(mode)
        return self._with("add_file", args)

    def add_local_file(self, local: PathLike, path: str) -> Image:
        """Write a copy of a file of this machine, with its mode. It is read now."""
        content, mode = _read(local)
        return self.add_file(path, content, mode)

    def add_local_dir(self, local: PathLike, path: str) -> Image:
        """Write a copy of a directory of this machine: files, symbolic links, directories (empty
        ones too) and their modes. It is read now."""
        files: List[Step] = []
        dirs: List[Step] = []
        _collect(os.fspath(local), "", files, dirs)
        args: Dict[str, Any] = {"path": _text("the path", path)}
        args["files"] = sorted(files, key=_by_path)
        if dirs:
            args["dirs"] = sorted(dirs, key=_by_path)
        return self._with("add_dir", args)

    def builder_memory(self, megabytes: int) -> Image:
        """Give the build this much memory. Changes neither the image nor its key."""
        image = self._copy()
        image._builder_memory_mb = megabytes
        return image

    def to_dict(self) -> Dict[str, Any]:
        """The manifest, as the daemon takes it. A copy: changing it leaves the image alone."""
        manifest: Dict[str, Any] = {"base": self._base, "steps": copy.deepcopy(list(self._steps))}
        if self._builder_memory_mb is not None:
            manifest["builderMemoryMB"] = self._builder_memory_mb
        return manifest

    def cache_key(self) -> str:
        """SHA-256, in hex, of the base and steps. Equal keys are equal images, in every language;
        the daemon's `content_hash` is this key."""
        content = _jcs.dumps({"base": self._base, "steps": self._steps})
        return hashlib.sha256(content).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.cache_key())

    def __repr__(self) -> str:
        steps = "".join(f" {step['type']}" for step in self._steps)
        return f"<Image {self._base}{steps}>"
