"""Remotes: buckets that snapshots are shared in."""
from __future__ import annotations

from typing import List, Optional

from . import _calls
from ._endpoint import without_none
from .client import Client
from .types import (
    RemoteCheck,
    RemoteCollection,
    RemoteInfo,
    RemoteSnapshot,
    RemoteVerification,
)


class Remotes:
    """Buckets that snapshots are shared in, by name. "REMOTE:NAME" stands for a snapshot in one
    wherever a snapshot is named."""

    def __init__(self, client: Optional[Client] = None) -> None:
        self._client = client or Client()

    def add(
        self,
        name: str,
        url: str,
        *,
        endpoint: Optional[str] = None,
        region: Optional[str] = None,
        read_only: bool = False,
        path_style: bool = False,
        proxy: Optional[str] = None,
        ca_file: Optional[str] = None,
        credentials: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
        key_file: Optional[str] = None,
        key_command: Optional[str] = None,
        alternate: Optional[str] = None,
        permanent: bool = False,
    ) -> RemoteInfo:
        """Make a bucket known: s3://BUCKET[/PREFIX], or file:///DIR of the daemon's host. With a
        key, in a file there or printed by a command, it is an encrypted one. permanent: from a new
        one nothing is ever deleted. alternate: a remote that is, whose packs are borrowed."""
        settings = without_none(
            endpoint=endpoint,
            region=region,
            readOnly=read_only,
            pathStyle=path_style,
            proxy=proxy,
            caFile=ca_file,
            credentials=credentials,
            timeoutSeconds=timeout_seconds,
            keyFile=key_file,
            keyCommand=key_command,
            alternate=alternate,
            permanent=permanent or None,
        )
        call = _calls.remote_add(name, url, **settings)
        return RemoteInfo.from_json(self._client.request(call))

    def list(self) -> List[RemoteInfo]:
        values = self._client.request(_calls.remote_list())
        return [RemoteInfo.from_json(v) for v in values]

    def remove(self, name: str) -> None:
        """Forget a remote. Nothing in the bucket changes."""
        self._client.send(_calls.remote_remove(name))

    def rekey(
        self,
        name: str,
        *,
        key_file: Optional[str] = None,
        key_command: Optional[str] = None,
        keep_old: bool = False,
    ) -> RemoteInfo:
        """Let another key open an encrypted bucket; keep_old: beside those that do."""
        settings = without_none(keyFile=key_file, keyCommand=key_command, keepOld=keep_old)
        call = _calls.remote_rekey(name, **settings)
        return RemoteInfo.from_json(self._client.request(call))

    def check(self, name: str) -> RemoteCheck:
        """Try whether the bucket does all that is needed of it."""
        return RemoteCheck.from_json(self._client.request(_calls.remote_check(name)))

    def gc(
        self, name: str, *, dry_run: bool = False, grace_seconds: Optional[int] = None
    ) -> RemoteCollection:
        """Delete what no snapshot of the bucket needs. Waits for pushes that are under way."""
        call = _calls.remote_gc(name, dry_run, grace_seconds)
        return RemoteCollection.from_json(self._client.request(call))

    def verify(self, name: str, *, deep: bool = False) -> RemoteVerification:
        """Check that all that the bucket's snapshots need is there; deep: read all of its bytes."""
        call = _calls.remote_verify(name, deep)
        return RemoteVerification.from_json(self._client.request(call))

    def snapshots(self, name: str) -> List[RemoteSnapshot]:
        """What the bucket has, by name."""
        values = self._client.request(_calls.remote_snapshots(name))
        return [RemoteSnapshot.from_json(v) for v in values]

    def delete(self, name: str, snapshot: str) -> bool:
        """Take a name away in the bucket, or delete a snapshot by its id there. Whether it was
        deleted: it is when its last name goes."""
        call = _calls.remote_snapshot_delete(name, snapshot)
        return bool((self._client.request(call))["deleted"])
