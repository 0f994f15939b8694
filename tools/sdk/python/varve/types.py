"""What the daemon tells: plain values.

Every one has `raw`, the whole JSON object, which also holds what has no field of its own.
Times are ISO 8601 in UTC, as the daemon writes them.
"""
from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

Json = Dict[str, Any]


def _str(value: Mapping[str, Any], *names: str) -> str:
    for name in names:
        if isinstance(value.get(name), str):
            return str(value[name])
    return ""


def _int(value: Mapping[str, Any], name: str) -> int:
    number = value.get(name)
    return number if isinstance(number, int) else 0


def _opt_int(value: Mapping[str, Any], name: str) -> Optional[int]:
    number = value.get(name)
    return number if isinstance(number, int) else None


@dataclass(frozen=True)
class BuildLog:
    """A line of a build's log. str() of it is the message, so `print` shows a log."""

    message: str
    step: int = 0
    """The step it belongs to."""
    type: str = ""
    """The step's type, such as "run"."""
    stream: str = ""
    """"stdout" or "stderr" of a command; something else or nothing for progress."""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> BuildLog:
        return cls(
            _str(value, "message"),
            _int(value, "step"),
            _str(value, "type"),
            _str(value, "stream"),
            value,
        )

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Output:
    """A piece of a command's output as it came; it may end inside of a character."""

    stream: str
    """"stdout" or "stderr"."""
    data: bytes

    @classmethod
    def from_json(cls, value: Json) -> Output:
        if isinstance(value.get("dataBase64"), str):
            return cls(_str(value, "stream"), base64.b64decode(value["dataBase64"]))
        return cls(_str(value, "stream"), _str(value, "data").encode("utf-8"))


@dataclass(frozen=True)
class ExecResult:
    """How a command ended. A signal's exit code is 128 and its number. truncated: more was written
    than is kept, or processes that it has left may write more."""

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool = False
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> ExecResult:
        return cls(
            _int(value, "exitCode"),
            _str(value, "stdout"),
            _str(value, "stderr"),
            value.get("truncated") is True,
            value,
        )


@dataclass(frozen=True)
class ExecStatus:
    """How far a command is that was started with run_async. `error` says why it could not run."""

    running: bool
    exit_code: Optional[int]
    stdout: str
    stderr: str
    error: str = ""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> ExecStatus:
        return cls(
            value.get("running") is True,
            _opt_int(value, "exitCode"),
            _str(value, "stdout"),
            _str(value, "stderr"),
            _str(value, "error"),
            value,
        )


@dataclass(frozen=True)
class FileInfo:
    """An entry of a directory."""

    name: str
    path: str
    is_dir: bool
    size: int
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> FileInfo:
        return cls(
            _str(value, "name"),
            _str(value, "path"),
            value.get("isDir") is True,
            _int(value, "size"),
            value,
        )


@dataclass(frozen=True)
class SandboxInfo:
    """A sandbox, as the daemon describes it."""

    sandbox_id: str
    status: str
    template_id: str = ""
    from_checkpoint_id: str = ""
    started_at: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> SandboxInfo:
        return cls(
            _str(value, "sandboxID", "sandboxId"),
            _str(value, "status"),
            _str(value, "templateID"),
            _str(value, "fromCheckpointId"),
            _str(value, "startedAt"),
            value.get("metadata") or {},
            value,
        )


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint of a sandbox. `status` is "processing", "ready" or "failed"."""

    id: str
    sandbox_id: str
    name: str
    status: str
    size_bytes: int = 0
    created_at: str = ""
    error: str = ""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> CheckpointInfo:
        return cls(
            _str(value, "id"),
            _str(value, "sandboxId"),
            _str(value, "name"),
            _str(value, "status"),
            _int(value, "sizeBytes"),
            _str(value, "createdAt"),
            _str(value, "errorMsg"),
            value,
        )


@dataclass(frozen=True)
class PatchInfo:
    """A script that runs in every sandbox that is made from its checkpoint."""

    id: str
    checkpoint_id: str
    sequence: int
    script: str
    description: str = ""
    created_at: str = ""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> PatchInfo:
        return cls(
            _str(value, "id"),
            _str(value, "checkpointId"),
            _int(value, "sequence"),
            _str(value, "script"),
            _str(value, "description"),
            _str(value, "createdAt"),
            value,
        )


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot. `status` is "building", "ready" or "failed" (then `error` says why)."""

    id: str
    name: str
    status: str
    content_hash: str = ""
    """The cache key of the image that it was made from; empty for other snapshots."""
    checkpoint_id: str = ""
    manifest: Optional[Json] = None
    created_at: str = ""
    last_used_at: str = ""
    error: str = ""
    build_id: str = ""
    root: str = ""
    """The digest of its tree."""
    size_bytes: int = 0
    remotes: Mapping[str, str] = field(default_factory=dict)
    """Where it is shared: the names of remotes, and its id in each."""
    share: str = ""
    """"local", "pushed", or "lazy": parts of it may be in a remote alone."""
    here_bytes: Optional[int] = None
    """Of its files, in the store; only `get` tells, and only where some snapshot is lazy."""
    far_bytes: Optional[int] = None
    """The same, in remotes alone."""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> SnapshotInfo:
        manifest = value.get("manifest")
        return cls(
            id=_str(value, "id"),
            name=_str(value, "name"),
            status=_str(value, "status"),
            content_hash=_str(value, "contentHash"),
            checkpoint_id=_str(value, "checkpointId"),
            manifest=manifest if isinstance(manifest, dict) else None,
            created_at=_str(value, "createdAt"),
            last_used_at=_str(value, "lastUsedAt"),
            error=_str(value, "error"),
            build_id=_str(value, "buildID"),
            root=_str(value, "root"),
            size_bytes=_int(value, "sizeBytes"),
            remotes={_str(r, "remote"): _str(r, "id") for r in value.get("remotes") or []},
            share=_str(value, "share"),
            here_bytes=value.get("hereBytes"),
            far_bytes=value.get("farBytes"),
            raw=value,
        )


@dataclass(frozen=True)
class PushResult:
    """What a push did. `existed`: the snapshot was there already."""

    remote: str
    id: str
    """Of the snapshot in the bucket."""
    name: str
    existed: bool
    chunks: int = 0
    bytes: int = 0
    damaged_packs: int = 0
    """Of what was there; repair has sent their content anew."""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> PushResult:
        return cls(
            remote=_str(value, "remote"),
            id=_str(value, "id"),
            name=_str(value, "name"),
            existed=value.get("existed") is True,
            chunks=_int(value, "chunks"),
            bytes=_int(value, "bytes"),
            damaged_packs=_int(value, "damagedPacks"),
            raw=value,
        )


@dataclass(frozen=True)
class RemoteInfo:
    """A bucket that the daemon knows. `bucket` is its id, empty until it has been opened."""

    name: str
    url: str
    read_only: bool = False
    bucket: str = ""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> RemoteInfo:
        return cls(
            name=_str(value, "name"),
            url=_str(value, "url"),
            read_only=value.get("readOnly") is True,
            bucket=_str(value, "bucket"),
            raw=value,
        )


@dataclass(frozen=True)
class RemoteCheck:
    """What a check found: each of `checks` has name, result and text."""

    usable: bool
    checks: Sequence[Json] = ()
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> RemoteCheck:
        return cls(
            usable=value.get("usable") is True,
            checks=value.get("checks") or [],
            raw=value,
        )


@dataclass(frozen=True)
class RemoteCollection:
    """What a collection of a bucket found, and removed."""

    remote: str
    snapshots: int = 0
    packs: int = 0
    bytes: int = 0
    garbage_bytes: int = 0
    removed_bytes: int = 0
    repacked_bytes: int = 0
    rewritten_bytes: int = 0
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> RemoteCollection:
        return cls(
            remote=_str(value, "remote"),
            snapshots=_int(value, "snapshots"),
            packs=_int(value, "packs"),
            bytes=_int(value, "bytes"),
            garbage_bytes=_int(value, "garbageBytes"),
            removed_bytes=_int(value, "removedBytes"),
            repacked_bytes=_int(value, "repackedBytes"),
            rewritten_bytes=_int(value, "rewrittenBytes"),
            raw=value,
        )


@dataclass(frozen=True)
class RemoteVerification:
    """What is wrong in a bucket: `problems` are keys, and what is wrong with each."""

    remote: str
    snapshots: int = 0
    damaged: int = 0
    unchecked: int = 0
    """Snapshots that borrow of a bucket that could not be asked."""
    problems: Sequence[Tuple[str, str]] = ()
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> RemoteVerification:
        return cls(
            remote=_str(value, "remote"),
            snapshots=_int(value, "snapshots"),
            damaged=_int(value, "damaged"),
            unchecked=_int(value, "unchecked"),
            problems=[(_str(p, "key"), _str(p, "problem")) for p in value.get("problems") or []],
            raw=value,
        )


@dataclass(frozen=True)
class RemoteSnapshot:
    """A snapshot in a bucket. `snapshot_id` is that of the same one in the store, or empty."""

    name: str
    id: str
    remote: str
    snapshot_id: str = ""
    created_at: str = ""
    size_bytes: int = 0
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> RemoteSnapshot:
        return cls(
            name=_str(value, "name"),
            id=_str(value, "id"),
            remote=_str(value, "remote"),
            snapshot_id=_str(value, "snapshotID"),
            created_at=_str(value, "createdAt"),
            size_bytes=_int(value, "sizeBytes"),
            raw=value,
        )


@dataclass(frozen=True)
class ImageInfo:
    """A cached image. `names` are those of snapshots that are this image."""

    content_hash: str
    snapshot_id: str
    base: str = ""
    names: Tuple[str, ...] = ()
    size_bytes: int = 0
    new_bytes: int = 0
    """Of its size: what its steps have added."""
    created_at: str = ""
    last_used_at: str = ""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> ImageInfo:
        return cls(
            _str(value, "key"),
            _str(value, "snapshotID"),
            _str(value, "base"),
            tuple(value.get("names") or ()),
            _int(value, "sizeBytes"),
            _int(value, "newBytes"),
            _str(value, "createdAt"),
            _str(value, "lastUsedAt"),
            value,
        )


@dataclass(frozen=True)
class BuiltImage:
    """An image that is ready to be used. `build_id` is empty where it was `cached`."""

    content_hash: str
    snapshot_id: str
    build_id: str
    cached: bool
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> BuiltImage:
        return cls(
            _str(value, "key"),
            _str(value, "snapshotID"),
            _str(value, "buildID"),
            value.get("cached") is True,
            value,
        )


@dataclass(frozen=True)
class BuildInfo:
    """A build. `state` is "queued", "preparing", "step" (number `step` of `step_count`),
    "checkpointing", or at its end "ready", "failed" (then `error` says why) or "cancelled"."""

    id: str
    state: str
    content_hash: str = ""
    name: str = ""
    step: int = 0
    step_count: int = 0
    error: str = ""
    snapshot_id: str = ""
    created_at: str = ""
    raw: Json = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_json(cls, value: Json) -> BuildInfo:
        return cls(
            _str(value, "id"),
            _str(value, "state"),
            _str(value, "key"),
            _str(value, "name"),
            _int(value, "step"),
            _int(value, "stepCount"),
            _str(value, "error"),
            _str(value, "snapshotID"),
            _str(value, "createdAt"),
            value,
        )
