"""Named snapshots, cached images and builds."""
from __future__ import annotations

import time
from typing import Iterator, List, Optional

from . import _calls
from ._endpoint import without_none
from ._events import BUILD
from .client import Client, OnLog
from .errors import BuildError
from .image import Image
from .sandbox import Polling
from .types import BuildInfo, BuildLog, BuiltImage, ImageInfo, PushResult, SnapshotInfo


def is_ready(snapshot: SnapshotInfo) -> bool:
    """BuildError where it has failed."""
    if snapshot.status == "failed":
        raise BuildError(f"snapshot {snapshot.name} has failed: {snapshot.error}")
    return snapshot.status == "ready"


class Snapshots:
    """Snapshots of the daemon's store: permanent, each with a name, shared by all sandboxes."""

    def __init__(self, client: Optional[Client] = None) -> None:
        self._client = client or Client()

    def create(
        self,
        name: str,
        image: Image,
        *,
        on_build_logs: Optional[OnLog] = None,
        force: bool = False,
    ) -> SnapshotInfo:
        """Build an image, unless it is cached, and name it. ConflictError: the name is taken;
        BuildError: it cannot be built."""
        call = _calls.snapshot_create(name, image, force, wait=True)
        return SnapshotInfo.from_json(self._client.follow(call, BUILD, on_build_logs))

    def start(self, name: str, image: Image, *, force: bool = False) -> SnapshotInfo:
        """The same, without waiting: wait_until_ready() does that."""
        call = _calls.snapshot_create(name, image, force, wait=False)
        return SnapshotInfo.from_json(self._client.request(call))

    def list(
        self,
        *,
        everything: bool = False,
        limit: Optional[int] = None,
        after: Optional[str] = None,
    ) -> List[SnapshotInfo]:
        """Newest first. everything: those of cached images too, which have no name."""
        values = self._client.request(_calls.snapshot_list(everything, limit, after))
        return [SnapshotInfo.from_json(v) for v in values]

    def get(self, name: str) -> SnapshotInfo:
        """By name or id."""
        return SnapshotInfo.from_json(self._client.request(_calls.snapshot_get(name)))

    def delete(self, name: str) -> None:
        """Sandboxes that were made of it are not affected."""
        self._client.send(_calls.snapshot_delete(name))

    def rename(self, name: str, new_name: str) -> SnapshotInfo:
        call = _calls.snapshot_change(name, name=new_name)
        return SnapshotInfo.from_json(self._client.request(call))

    def pin(
        self, name: str, pinned: bool = True, *, ttl_seconds: Optional[int] = None
    ) -> SnapshotInfo:
        """Protect a snapshot from deletion, or let it expire."""
        change = without_none(pinned=pinned, ttl=ttl_seconds)
        return SnapshotInfo.from_json(
            self._client.request(_calls.snapshot_change(name, **change))
        )

    def push(
        self,
        name: str,
        remote: str,
        remote_name: Optional[str] = None,
        *,
        replace: bool = True,
        repair: bool = False,
    ) -> PushResult:
        """Put a snapshot into a remote, under its own name or another one ("": none).
        repair: check what is there, and send anew what is lost or damaged.
        ConflictError: the name stands for another one there, and replace is False."""
        call = _calls.snapshot_push(name, remote, remote_name, replace, repair)
        return PushResult.from_json(self._client.request(call))

    def pull(self, remote: str, snapshot: str, name: Optional[str] = None) -> SnapshotInfo:
        """Take a snapshot from a remote, by its name or id there, under the name that it has there
        or another one ("": none). ConflictError: another snapshot has the name."""
        call = _calls.snapshot_pull(remote, snapshot, name)
        return SnapshotInfo.from_json(self._client.request(call))

    def wait_until_ready(self, name: str, *, timeout: Optional[float] = None) -> SnapshotInfo:
        """Wait for the end of its build. BuildError where it fails, WaitTimeoutError after
        `timeout` seconds."""
        polling = Polling(timeout, f"snapshot {name}")
        while True:
            snapshot = self.get(name)
            if is_ready(snapshot):
                return snapshot
            time.sleep(polling.pause())


class Images:
    """Cached images, named or not."""

    def __init__(self, client: Optional[Client] = None) -> None:
        self._client = client or Client()

    def build(
        self, image: Image, *, on_build_log: Optional[OnLog] = None, force: bool = False
    ) -> BuiltImage:
        """Build an image, unless it is cached, without giving it a name: what is made of it later
        does not wait. BuildError: it cannot be built."""
        call = _calls.image_build(image, force)
        return BuiltImage.from_json(self._client.follow(call, BUILD, on_build_log))

    def delete(self, content_hash: str) -> None:
        """Forget a cached image. What was made of it is not affected."""
        self._client.send(_calls.image_delete(content_hash))

    def list(
        self, *, limit: Optional[int] = None, after: Optional[str] = None
    ) -> List[ImageInfo]:
        """All, or at most `limit` behind the one with the content hash `after`."""
        values = self._client.request(_calls.image_list(limit, after))
        return [ImageInfo.from_json(v) for v in values]


class Builds:
    """Builds that run, and those that have ended."""

    def __init__(self, client: Optional[Client] = None) -> None:
        self._client = client or Client()

    def list(
        self, *, limit: Optional[int] = None, after: Optional[str] = None
    ) -> List[BuildInfo]:
        """Newest first: all, or at most `limit` behind the one with the id `after`."""
        values = self._client.request(_calls.build_list(limit, after))
        return [BuildInfo.from_json(v) for v in values]

    def get(self, build_id: str) -> BuildInfo:
        return BuildInfo.from_json(self._client.request(_calls.build_get(build_id)))

    def logs(self, build_id: str) -> Iterator[BuildLog]:
        """A build's log from its start; while it runs, as it comes. BuildError at the end of one
        that has failed."""
        return self._client.logs(build_id)

    def cancel(self, build_id: str) -> None:
        self._client.send(_calls.build_cancel(build_id))
