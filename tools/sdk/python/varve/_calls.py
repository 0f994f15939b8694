"""The API: what each operation sends. Both kinds of clients, with and without asyncio, use it."""
from __future__ import annotations

import json
from base64 import b64encode
from typing import Any, Dict, Mapping, Optional, Sequence, Union

from ._endpoint import EVENTS_TIMEOUT, Call, quote, without_none
from .image import Image

Retention = Union[int, Mapping[str, Any], None]
# Of calls that only look something up; others take as long as their work.
LOOKUP_TIMEOUT = 120.0


def _get(path: str, **query: str) -> Call:
    return Call("GET", path, query, timeout=LOOKUP_TIMEOUT)


def _page(limit: Optional[int], after: Optional[str]) -> Dict[str, str]:
    """Of a list: at most so many items, behind the one of that id."""
    return without_none(limit=None if limit is None else str(limit), after=after)


def _delete(path: str) -> Call:
    return Call("DELETE", path)


def _send(method: str, path: str, value: Any, query: Mapping[str, str] = {}) -> Call:
    return Call(method, path, query, json.dumps(value).encode())


def _with_events(call: Call) -> Call:
    return Call(call.method, call.path, call.query, call.body, events=True, timeout=EVENTS_TIMEOUT)


def _force(force: bool) -> Dict[str, str]:
    return {"force": "true"} if force else {}


# Sandboxes


def sandbox_create(
    image: Optional[Image],
    snapshot: Optional[str],
    options: Mapping[str, Any],
    force: bool = False,
) -> Call:
    if image is not None and snapshot is not None:
        raise ValueError("give either an image or a snapshot")
    body: Dict[str, Any] = {"templateID": "base", **options}
    if image is not None:
        body["image"] = image.to_dict()
    if snapshot is not None:
        body["snapshot"] = snapshot
    call = _send("POST", "/api/sandboxes", body, _force(force))
    return call if image is None else _with_events(call)


def sandbox_options(
    timeout: Optional[int],
    envs: Optional[Mapping[str, str]],
    metadata: Optional[Mapping[str, str]],
    memory_mb: Optional[int],
    cpu_count: Optional[float],
    disk_mb: Optional[int],
) -> Dict[str, Any]:
    return without_none(
        timeout=timeout,
        envs=None if envs is None else dict(envs),
        metadata=None if metadata is None else dict(metadata),
        memoryMB=memory_mb,
        cpuCount=cpu_count,
        diskMB=disk_mb,
    )


def sandbox_from_checkpoint(checkpoint_id: str, options: Mapping[str, Any]) -> Call:
    path = f"/api/sandboxes/from-checkpoint/{quote(checkpoint_id)}"
    return _send("POST", path, options)


def _sandbox(sandbox_id: str, *rest: str) -> str:
    return "/".join(["/api/sandboxes", quote(sandbox_id), *rest])


def sandbox_list(limit: Optional[int], after: Optional[str]) -> Call:
    return _get("/api/sandboxes", **_page(limit, after))


def sandbox_get(sandbox_id: str) -> Call:
    return _get(_sandbox(sandbox_id))


def sandbox_kill(sandbox_id: str) -> Call:
    return _delete(_sandbox(sandbox_id))


def sandbox_timeout(sandbox_id: str, seconds: int) -> Call:
    return _send("POST", _sandbox(sandbox_id, "timeout"), {"timeout": seconds})


# How a command is run: to its end, which its connection brings too; on its own; or for who follows
# its output, which an older daemon refuses.
RUN, RUN_ASYNC, ATTACHED = "run", "run-async", "attached"


def exec_run(
    sandbox_id: str,
    how: str,
    cmd: str,
    args: Optional[Sequence[str]],
    env: Optional[Mapping[str, str]],
    cwd: Optional[str],
    timeout: Optional[float],
    stdin: Union[str, bytes, None],
    linger: Optional[float],
) -> Call:
    if args is None:
        cmd, args = "sh", ["-c", cmd]
    elif isinstance(args, str):
        raise TypeError("args are a list of strings, not one string")
    text = stdin if isinstance(stdin, str) else None
    data = None if isinstance(stdin, str) else stdin
    body = without_none(
        cmd=cmd,
        args=list(args),
        envs=None if env is None else dict(env),
        cwd=cwd,
        timeout=timeout,
        stdin=text,
        stdinBase64=None if data is None else b64encode(data).decode(),
        linger=linger,
        attached=True if how == ATTACHED else None,
    )
    path = _sandbox(sandbox_id, "exec", "run-async" if how == ATTACHED else how)
    return _send("POST", path, body)


def with_output(call: Call) -> Call:
    """exec_run, with its output as events."""
    return _with_events(call)


def exec_output(sandbox_id: str, exec_id: str, places: Mapping[str, int]) -> Call:
    query = {name: str(place) for name, place in places.items()}
    return _with_events(_get(_sandbox(sandbox_id, "exec", quote(exec_id), "output"), **query))


def exec_kill(sandbox_id: str, exec_id: str) -> Call:
    return _delete(_sandbox(sandbox_id, "exec", quote(exec_id)))


def exec_result(sandbox_id: str, exec_id: str) -> Call:
    return _get(_sandbox(sandbox_id, "exec", quote(exec_id), "result"))


def file_read(sandbox_id: str, path: str) -> Call:
    return Call("GET", _sandbox(sandbox_id, "files"), {"path": path})


def file_write(sandbox_id: str, path: str) -> Call:
    """Its body is sent beside it."""
    kind = "application/octet-stream"
    return Call("PUT", _sandbox(sandbox_id, "files"), {"path": path}, content_type=kind)


def file_remove(sandbox_id: str, path: str) -> Call:
    return Call("DELETE", _sandbox(sandbox_id, "files"), {"path": path})


def file_list(sandbox_id: str, path: str, limit: Optional[int], after: Optional[str]) -> Call:
    query = {"path": path, **_page(limit, after)}
    return Call("GET", _sandbox(sandbox_id, "files", "list"), query)


def file_mkdir(sandbox_id: str, path: str) -> Call:
    return Call("POST", _sandbox(sandbox_id, "files", "mkdir"), {"path": path})


# Checkpoints and patches


def checkpoint_create(sandbox_id: str, name: str, retention: Retention) -> Call:
    policy: Any = retention
    if isinstance(retention, int):
        policy = {"mode": "delete_oldest", "maxCount": retention}
    body = without_none(name=name, retentionPolicy=policy)
    return _send("POST", _sandbox(sandbox_id, "checkpoints"), body)


def checkpoint_list(sandbox_id: str, limit: Optional[int], after: Optional[str]) -> Call:
    return _get(_sandbox(sandbox_id, "checkpoints"), **_page(limit, after))


def checkpoint_delete(sandbox_id: str, checkpoint_id: str) -> Call:
    return _delete(_sandbox(sandbox_id, "checkpoints", quote(checkpoint_id)))


def checkpoint_restore(sandbox_id: str, checkpoint_id: str) -> Call:
    return Call("POST", _sandbox(sandbox_id, "checkpoints", quote(checkpoint_id), "restore"))


def _patches(checkpoint_id: str, *rest: str) -> str:
    return "/".join(["/api/sandboxes/checkpoints", quote(checkpoint_id), "patches", *rest])


def patch_create(checkpoint_id: str, script: str, description: str) -> Call:
    body = {"script": script, "description": description}
    return _send("POST", _patches(checkpoint_id), body)


def patch_list(checkpoint_id: str, limit: Optional[int], after: Optional[str]) -> Call:
    return _get(_patches(checkpoint_id), **_page(limit, after))


def patch_delete(checkpoint_id: str, patch_id: str) -> Call:
    return _delete(_patches(checkpoint_id, quote(patch_id)))


# Snapshots, images, builds


def snapshot_create(name: str, image: Image, force: bool, wait: bool) -> Call:
    query = _force(force)
    if not wait:
        query["async"] = "1"
    call = _send("POST", "/api/snapshots", {"name": name, "image": image.to_dict()}, query)
    return _with_events(call) if wait else call


def snapshot_list(everything: bool, limit: Optional[int], after: Optional[str]) -> Call:
    query = {"all": "1"} if everything else {}
    return _get("/api/snapshots", **query, **_page(limit, after))


def snapshot_get(name: str) -> Call:
    return _get(f"/api/snapshots/{quote(name)}")


def snapshot_delete(name: str) -> Call:
    return _delete(f"/api/snapshots/{quote(name)}")


def snapshot_change(snapshot: str, /, **change: Any) -> Call:
    return _send("PATCH", f"/api/snapshots/{quote(snapshot)}", change)


def snapshot_push(
    name: str, remote: str, remote_name: Optional[str], replace: bool, repair: bool
) -> Call:
    body = without_none(
        remote=remote,
        name=remote_name,
        noReplace=None if replace else True,
        repair=True if repair else None,
    )
    return _send("POST", f"/api/snapshots/{quote(name)}/push", body)


def snapshot_pull(remote: str, snapshot: str, name: Optional[str]) -> Call:
    body = without_none(remote=remote, snapshot=snapshot, name=name)
    return _send("POST", "/api/snapshots/pull", body)


# Remotes


def remote_add(name: str, url: str, **settings: Any) -> Call:
    return _send("POST", "/api/remotes", {"name": name, "url": url, **settings})


def remote_list() -> Call:
    return _get("/api/remotes")


def remote_remove(name: str) -> Call:
    return _delete(f"/api/remotes/{quote(name)}")


def remote_rekey(name: str, **settings: Any) -> Call:
    return _send("POST", f"/api/remotes/{quote(name)}/rekey", settings)


def remote_check(name: str) -> Call:
    return Call("POST", f"/api/remotes/{quote(name)}/check")


def remote_gc(name: str, dry_run: bool, grace_seconds: Optional[int]) -> Call:
    body = without_none(dryRun=True if dry_run else None, graceSeconds=grace_seconds)
    return _send("POST", f"/api/remotes/{quote(name)}/gc", body)


def remote_verify(name: str, deep: bool) -> Call:
    return _send("POST", f"/api/remotes/{quote(name)}/verify", {"deep": deep})


def remote_snapshots(name: str) -> Call:
    return Call("GET", f"/api/remotes/{quote(name)}/snapshots")


def remote_snapshot_delete(name: str, reference: str) -> Call:
    return _delete(f"/api/remotes/{quote(name)}/snapshots/{quote(reference)}")


def image_build(image: Image, force: bool) -> Call:
    body = {"image": image.to_dict()}
    return _with_events(_send("POST", "/api/images", body, _force(force)))


def image_delete(key: str) -> Call:
    return _delete(f"/api/images/{quote(key)}")


def image_list(limit: Optional[int], after: Optional[str]) -> Call:
    return _get("/api/images", **_page(limit, after))


def build_list(limit: Optional[int], after: Optional[str]) -> Call:
    return _get("/api/builds", **_page(limit, after))


def build_get(build_id: str) -> Call:
    return _get(f"/api/builds/{quote(build_id)}")


def build_cancel(build_id: str) -> Call:
    return _delete(f"/api/builds/{quote(build_id)}")


def build_logs(build_id: str) -> Call:
    return _with_events(Call("GET", f"/api/builds/{quote(build_id)}/logs"))
