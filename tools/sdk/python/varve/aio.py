"""The same for asyncio.

It waits in the event loop, not in threads: any number of calls can wait at once, and a
task that is cancelled closes its connection (a build that it waited for goes on).
"""
from __future__ import annotations

import asyncio
import inspect
from typing import (
    IO,
    Any,
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    TypeVar,
    Union,
)

from . import _calls
from ._aio_http import AsyncContent, AsyncResponse, open_call
from ._attached import KILL_TIMEOUT, Attached
from ._calls import Retention
from ._endpoint import Call, Endpoint, with_key, without_none
from ._events import BUILD, OUTPUT, Kind, ResultStream
from ._retry import ASK_FOR_KEYS, Retry, RetryPolicy
from .client import decode
from .errors import ApiError, InvalidRequestError, NotFoundError, TransportError
from .image import Image
from .sandbox import (
    Polling,
    as_content,
    check_result,
    final_result,
    find_checkpoint,
    is_settled,
)
from .snapshots import is_ready
from .types import (
    BuildInfo,
    BuildLog,
    BuiltImage,
    CheckpointInfo,
    ExecResult,
    ExecStatus,
    FileInfo,
    ImageInfo,
    Output,
    PatchInfo,
    PushResult,
    RemoteCheck,
    RemoteCollection,
    RemoteInfo,
    RemoteSnapshot,
    RemoteVerification,
    SandboxInfo,
    SnapshotInfo,
)

AsyncData = Union[
    str, bytes, bytearray, memoryview, IO[bytes], Iterable[bytes], AsyncIterable[bytes]
]
T = TypeVar("T")
AsyncOnLog = Callable[[BuildLog], Union[None, Awaitable[None], Any]]
AsyncOnOutput = Callable[[Output], Union[None, Awaitable[None], Any]]


class AsyncClient:
    """Where the daemon is; the arguments and their defaults are those of Client. It holds no
    connection, so it belongs to no event loop and needs no closing."""

    def __init__(
        self,
        *,
        socket: Optional[str] = None,
        url: Optional[str] = None,
        api_key: Optional[str] = None,
        retry: Optional[float] = None,
    ) -> None:
        self.endpoint = Endpoint.resolve(socket, url, api_key)
        self._retry = RetryPolicy(retry)

    def __repr__(self) -> str:
        return f"<AsyncClient {self.endpoint}>"

    async def open(self, call: Call, content: Optional[AsyncContent] = None) -> AsyncResponse:
        """Send a call. A failing status is raised as an ApiError."""
        call = with_key(call)
        retry = Retry(self._retry, call)
        while True:
            try:
                if self._retry.asks(call):
                    await self._ask_for_keys()
                return await self._open(call, content)
            except (ApiError, TransportError) as e:
                if not _is_again(content):
                    raise
                pause = retry.next(e)
            await asyncio.sleep(pause)

    async def _ask_for_keys(self) -> None:
        try:
            (await self._open(ASK_FOR_KEYS, None)).close()
        except (ApiError, TransportError):
            pass

    async def _open(self, call: Call, content: Optional[AsyncContent]) -> AsyncResponse:
        return await open_call(self.endpoint, call, content, self._retry.note_reply)

    async def _whole(self, call: Call, content: Optional[AsyncContent] = None) -> bytes:
        """Send a call and return its reply, whole."""
        call = with_key(call)
        retry = Retry(self._retry, call)
        while True:
            async with await self.open(call, content) as response:
                try:
                    return await response.read()
                except TransportError as e:
                    if not _is_again(content):
                        raise
                    pause = retry.next(e)
            await asyncio.sleep(pause)

    async def send(self, call: Call, content: Optional[AsyncContent] = None) -> None:
        """Send a call whose reply has nothing to say."""
        await self._whole(call, content)

    async def request(self, call: Call) -> Any:
        """Send a call and return its JSON."""
        return decode(await self._whole(call))

    async def follow(
        self, call: Call, kind: Kind[T], tell: Optional[Callable[[T], Any]] = None
    ) -> Any:
        """Send a call whose reply may be a stream of events and return its result. tell may be a
        coroutine function; it is awaited before the next event."""
        result: List[Any] = []
        events = self._events(call, kind, result)
        try:
            async for told in events:
                done = tell(told) if tell else None
                if inspect.isawaitable(done):
                    await done
        finally:
            await events.aclose()
        return result[0]

    async def _events(self, call: Call, kind: Kind[T], result: List[Any]) -> AsyncGenerator[T, None]:
        """What is told, each once though the daemon be replaced meanwhile; then the result is in
        `result`."""
        call = with_key(call)
        retry = Retry(self._retry, call)
        known = 0  # they come again, from the first
        while True:
            async with await self.open(call) as response:
                try:
                    if not response.content_type.startswith("text/event-stream"):
                        result.append(decode(await response.read()))
                        return
                    stream, seen = ResultStream(kind), 0
                    async for data in response.pieces():
                        for told in stream.feed(data):
                            seen += 1
                            if seen > known:
                                known = seen
                                yield told
                    result.append(stream.result())
                    return
                except TransportError as e:
                    if known and not kind.again:
                        raise
                    pause = retry.next(e)
            await asyncio.sleep(pause)

    async def attend(self, command: Attached, tell: Optional[AsyncOnOutput]) -> Any:
        """Follow a command and return its result. What tell raises ends it, as does the
        cancellation of the task."""
        result: List[Any] = []
        outputs = self._outputs(command, result)
        try:
            async for told in outputs:
                done = tell(told) if tell else None
                if inspect.isawaitable(done):
                    await done
        finally:
            await outputs.aclose()
            if not command.is_over:
                await self._kill(command)
        return result[0]

    async def _outputs(self, command: Attached, result: List[Any]) -> AsyncGenerator[Output, None]:
        """What is told; then the result is in `result`."""
        retry = Retry(self._retry, command.follow())
        try:
            while True:
                async with await self.open(command.follow()) as response:
                    try:
                        stream = ResultStream(OUTPUT)
                        async for data in response.pieces():
                            for told in stream.feed(data):
                                command.take(told)
                                yield told
                        result.append(stream.result())
                        command.is_over = True
                        return
                    except TransportError as e:
                        if command.has_moved():
                            retry = Retry(self._retry, command.follow())
                        pause = retry.next(e)
                await asyncio.sleep(pause)
        except (ApiError, TransportError) as e:
            raise command.failure(e)

    async def _kill(self, command: Attached) -> None:
        try:
            kill = self._open(command.kill(), None)
            (await asyncio.wait_for(kill, KILL_TIMEOUT)).close()
        except (ApiError, TransportError, asyncio.TimeoutError):
            pass  # it ends when nobody follows it any more

    async def logs(self, build_id: str) -> AsyncIterator[BuildLog]:
        """A build's log from its start, until it ends."""
        async for log in self._events(_calls.build_logs(build_id), BUILD, []):
            yield log


def _is_again(content: Optional[AsyncContent]) -> bool:
    """Whether it can be sent again."""
    return content is None or isinstance(content, (bytes, bytearray, memoryview))


class AsyncProcess:
    """A command that runs on its own, from exec.run_async()."""

    def __init__(self, run: AsyncExec, exec_id: str) -> None:
        self._exec = run
        self.exec_id = exec_id

    async def result(self) -> ExecStatus:
        """How far it is. Does not wait."""
        return await self._exec.result(self.exec_id)

    async def wait(self, timeout: Optional[float] = None) -> ExecResult:
        """Wait for its end. WaitTimeoutError after `timeout` seconds; it then runs on."""
        polling = Polling(timeout, f"the command {self.exec_id}")
        while True:
            status = await self.result()
            if not status.running:
                return final_result(status)
            await asyncio.sleep(polling.pause())


class AsyncExec:
    """Commands of a sandbox, as Exec."""

    def __init__(self, client: AsyncClient, sandbox_id: str) -> None:
        self._client = client
        self._id = sandbox_id

    async def run(
        self,
        cmd: str,
        args: Optional[Sequence[str]] = None,
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        timeout: Optional[float] = None,
        stdin: Union[str, bytes, None] = None,
        linger: Optional[float] = None,
        check: bool = False,
        on_output: Optional[AsyncOnOutput] = None,
    ) -> ExecResult:
        """Run a command and wait for its end, see Exec.run. on_output may be a coroutine
        function."""
        program = (cmd, args, env, cwd, timeout, stdin, linger)
        try:
            call = _calls.exec_run(self._id, _calls.ATTACHED, *program)
            exec_id = (await self._client.request(call))["execId"]
        except InvalidRequestError:  # an older daemon, or what is wrong with it is said again
            call = _calls.exec_run(self._id, _calls.RUN, *program)
            result = await self._run_unattached(call, on_output)
        else:
            command = Attached(self._id, exec_id, on_output is None)
            result = command.result(await self._client.attend(command, on_output))
        return check_result(cmd, result) if check else result

    async def _run_unattached(self, call: Call, on_output: Optional[AsyncOnOutput]) -> ExecResult:
        if on_output is None:
            return ExecResult.from_json(await self._client.request(call))
        call = _calls.with_output(call)
        return ExecResult.from_json(await self._client.follow(call, OUTPUT, on_output))

    async def run_async(
        self,
        cmd: str,
        args: Optional[Sequence[str]] = None,
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        timeout: Optional[float] = None,
        stdin: Union[str, bytes, None] = None,
        linger: Optional[float] = None,
    ) -> AsyncProcess:
        """Start a command and return at once."""
        call = _calls.exec_run(
            self._id, _calls.RUN_ASYNC, cmd, args, env, cwd, timeout, stdin, linger
        )
        return AsyncProcess(self, (await self._client.request(call))["execId"])

    async def result(self, exec_id: str) -> ExecStatus:
        """How far a command is that run_async() has started, here or elsewhere."""
        value = await self._client.request(_calls.exec_result(self._id, exec_id))
        return ExecStatus.from_json(value)


class AsyncFiles:
    """Files of a sandbox, as Files."""

    def __init__(self, client: AsyncClient, sandbox_id: str) -> None:
        self._client = client
        self._id = sandbox_id

    async def read(self, path: str) -> str:
        """A whole text file, which has to be UTF-8."""
        return (await self.read_bytes(path)).decode("utf-8")

    async def read_bytes(self, path: str) -> bytes:
        """A whole file."""
        return b"".join([data async for data in self.stream(path)])

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """A file of any size, in pieces as they come."""
        async with await self._client.open(_calls.file_read(self._id, path)) as response:
            async for data in response.pieces():
                yield data

    async def write(self, path: str, data: AsyncData) -> None:
        """Write a file whole, see Files.write; data may be an async iterable too. Reading from a
        file or a plain iterable happens in the event loop."""
        content = data if isinstance(data, AsyncIterable) else as_content(data)
        await self._client.send(_calls.file_write(self._id, path), content)

    async def list(
        self, path: str = "/", *, limit: Optional[int] = None, after: Optional[str] = None
    ) -> List[FileInfo]:
        """The entries of a directory: all, or at most `limit` behind the name `after`."""
        entries = await self._client.request(_calls.file_list(self._id, path, limit, after))
        return [FileInfo.from_json(entry) for entry in entries]

    async def make_dir(self, path: str) -> None:
        """Make a directory and those above it."""
        await self._client.send(_calls.file_mkdir(self._id, path))

    async def remove(self, path: str) -> None:
        """Remove a file, or a directory with all that is in it; gone already is no error."""
        await self._client.send(_calls.file_remove(self._id, path))

    async def exists(self, path: str) -> bool:
        """Whether there is a file or directory, following symbolic links. The path is
        absolute."""
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not an absolute path")
        try:
            (await self._client.open(_calls.file_read(self._id, path))).close()
            return True
        except NotFoundError:
            return False
        except ApiError:
            pass  # no file to read: a directory, or nothing that can be reached
        try:
            await self.list(path)
            return True
        except (NotFoundError, InvalidRequestError):
            return False  # the latter where something above it is no directory


class AsyncSandbox:
    """A running sandbox, as Sandbox. As an async context manager it is killed at the end:

    async with await AsyncSandbox.create(image=image) as sandbox:
        print((await sandbox.exec.run("echo hello")).stdout)
    """

    def __init__(self, client: AsyncClient, info: SandboxInfo) -> None:
        """Not to be called: use create() or connect()."""
        self._client = client
        self.info = info
        self.id = self.sandbox_id = info.sandbox_id
        self.exec = AsyncExec(client, self.id)
        self.files = AsyncFiles(client, self.id)

    async def __aenter__(self) -> AsyncSandbox:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.kill()
        except NotFoundError:
            pass

    def __repr__(self) -> str:
        return f"<AsyncSandbox {self.id} {self.info.status}>"

    @classmethod
    async def create(
        cls,
        *,
        image: Optional[Image] = None,
        snapshot: Optional[str] = None,
        timeout: Optional[int] = None,
        envs: Optional[Mapping[str, str]] = None,
        metadata: Optional[Mapping[str, str]] = None,
        memory_mb: Optional[int] = None,
        cpu_count: Optional[float] = None,
        disk_mb: Optional[int] = None,
        on_build_log: Optional[AsyncOnLog] = None,
        force: bool = False,
        client: Optional[AsyncClient] = None,
    ) -> AsyncSandbox:
        """Make a sandbox of an image, of a snapshot or of the default template, see
        Sandbox.create."""
        client = client or AsyncClient()
        options = _calls.sandbox_options(timeout, envs, metadata, memory_mb, cpu_count, disk_mb)
        call = _calls.sandbox_create(image, snapshot, options, force)
        return cls(client, SandboxInfo.from_json(await client.follow(call, BUILD, on_build_log)))

    @classmethod
    async def create_from_checkpoint(
        cls,
        checkpoint_id: str,
        *,
        timeout: Optional[int] = None,
        envs: Optional[Mapping[str, str]] = None,
        metadata: Optional[Mapping[str, str]] = None,
        memory_mb: Optional[int] = None,
        cpu_count: Optional[float] = None,
        disk_mb: Optional[int] = None,
        client: Optional[AsyncClient] = None,
    ) -> AsyncSandbox:
        """Make a new sandbox that starts as a checkpoint (a fork); its patches are run in it."""
        client = client or AsyncClient()
        options = _calls.sandbox_options(timeout, envs, metadata, memory_mb, cpu_count, disk_mb)
        call = _calls.sandbox_from_checkpoint(checkpoint_id, options)
        return cls(client, SandboxInfo.from_json(await client.request(call)))

    @classmethod
    async def connect(
        cls, sandbox_id: str, *, client: Optional[AsyncClient] = None
    ) -> AsyncSandbox:
        """A sandbox that exists."""
        client = client or AsyncClient()
        value = await client.request(_calls.sandbox_get(sandbox_id))
        return cls(client, SandboxInfo.from_json(value))

    @staticmethod
    async def list(
        *,
        limit: Optional[int] = None,
        after: Optional[str] = None,
        client: Optional[AsyncClient] = None,
    ) -> List[SandboxInfo]:
        """All sandboxes of the daemon, or at most `limit` behind the one whose id is `after`."""
        values = await (client or AsyncClient()).request(_calls.sandbox_list(limit, after))
        return [SandboxInfo.from_json(v) for v in values]

    @property
    def status(self) -> str:
        """As last heard of; is_running() asks."""
        return self.info.status

    async def is_running(self) -> bool:
        """Whether it exists and runs, right now."""
        try:
            value = await self._client.request(_calls.sandbox_get(self.id))
        except NotFoundError:
            return False
        self.info = SandboxInfo.from_json(value)
        return self.info.status == "running"

    async def set_timeout(self, seconds: int) -> None:
        """Stop it after this many seconds without a call; 0 for never."""
        await self._client.send(_calls.sandbox_timeout(self.id, seconds))

    async def kill(self) -> None:
        """End it. What it has written is gone, except for its checkpoints."""
        await self._client.send(_calls.sandbox_kill(self.id))

    async def create_checkpoint(
        self, name: str, *, retention: Retention = None, wait: bool = True
    ) -> CheckpointInfo:
        """Keep the filesystem as it is now, see Sandbox.create_checkpoint."""
        value = await self._client.request(_calls.checkpoint_create(self.id, name, retention))
        checkpoint = CheckpointInfo.from_json(value)
        return await self.wait_for_checkpoint(checkpoint.id) if wait else checkpoint

    async def wait_for_checkpoint(
        self, checkpoint_id: str, *, timeout: Optional[float] = None
    ) -> CheckpointInfo:
        """Wait until a checkpoint is ready. VarveError where it fails."""
        polling = Polling(timeout, f"checkpoint {checkpoint_id}")
        while True:
            checkpoint = find_checkpoint(await self.list_checkpoints(), checkpoint_id)
            if is_settled(checkpoint):
                return checkpoint
            await asyncio.sleep(polling.pause())

    async def list_checkpoints(
        self, *, limit: Optional[int] = None, after: Optional[str] = None
    ) -> List[CheckpointInfo]:
        """The checkpoints of this sandbox."""
        values = await self._client.request(_calls.checkpoint_list(self.id, limit, after))
        return [CheckpointInfo.from_json(v) for v in values]

    async def restore_checkpoint(self, checkpoint_id: str) -> None:
        """Put the filesystem back. Processes of the sandbox end."""
        await self._client.send(_calls.checkpoint_restore(self.id, checkpoint_id))

    async def delete_checkpoint(self, checkpoint_id: str) -> None:
        await self._client.send(_calls.checkpoint_delete(self.id, checkpoint_id))

    @staticmethod
    async def create_checkpoint_patch(
        checkpoint_id: str,
        script: str,
        description: str = "",
        *,
        client: Optional[AsyncClient] = None,
    ) -> PatchInfo:
        """Add a script that runs in every sandbox made from a checkpoint, after those before."""
        client = client or AsyncClient()
        value = await client.request(_calls.patch_create(checkpoint_id, script, description))
        return PatchInfo.from_json(value.get("patch", value))

    @staticmethod
    async def list_checkpoint_patches(
        checkpoint_id: str,
        *,
        limit: Optional[int] = None,
        after: Optional[str] = None,
        client: Optional[AsyncClient] = None,
    ) -> List[PatchInfo]:
        """The patches of a checkpoint, in the order in which they run."""
        client = client or AsyncClient()
        values: List[Any] = await client.request(_calls.patch_list(checkpoint_id, limit, after))
        return [PatchInfo.from_json(v) for v in values]

    @staticmethod
    async def delete_checkpoint_patch(
        checkpoint_id: str, patch_id: str, *, client: Optional[AsyncClient] = None
    ) -> None:
        await (client or AsyncClient()).send(_calls.patch_delete(checkpoint_id, patch_id))


class AsyncSnapshots:
    """Snapshots of the daemon's store, as Snapshots."""

    def __init__(self, client: Optional[AsyncClient] = None) -> None:
        self._client = client or AsyncClient()

    async def create(
        self,
        name: str,
        image: Image,
        *,
        on_build_logs: Optional[AsyncOnLog] = None,
        force: bool = False,
    ) -> SnapshotInfo:
        """Build an image, unless it is cached, and name it, see Snapshots.create."""
        call = _calls.snapshot_create(name, image, force, wait=True)
        return SnapshotInfo.from_json(await self._client.follow(call, BUILD, on_build_logs))

    async def start(self, name: str, image: Image, *, force: bool = False) -> SnapshotInfo:
        """The same, without waiting: wait_until_ready() does that."""
        call = _calls.snapshot_create(name, image, force, wait=False)
        return SnapshotInfo.from_json(await self._client.request(call))

    async def list(
        self,
        *,
        everything: bool = False,
        limit: Optional[int] = None,
        after: Optional[str] = None,
    ) -> List[SnapshotInfo]:
        """Newest first. everything: those of cached images too, which have no name."""
        values = await self._client.request(_calls.snapshot_list(everything, limit, after))
        return [SnapshotInfo.from_json(v) for v in values]

    async def get(self, name: str) -> SnapshotInfo:
        """By name or id."""
        return SnapshotInfo.from_json(await self._client.request(_calls.snapshot_get(name)))

    async def delete(self, name: str) -> None:
        """Sandboxes that were made of it are not affected."""
        await self._client.send(_calls.snapshot_delete(name))

    async def rename(self, name: str, new_name: str) -> SnapshotInfo:
        call = _calls.snapshot_change(name, name=new_name)
        return SnapshotInfo.from_json(await self._client.request(call))

    async def pin(
        self, name: str, pinned: bool = True, *, ttl_seconds: Optional[int] = None
    ) -> SnapshotInfo:
        """Protect a snapshot from deletion, or let it expire."""
        change = without_none(pinned=pinned, ttl=ttl_seconds)
        call = _calls.snapshot_change(name, **change)
        return SnapshotInfo.from_json(await self._client.request(call))

    async def push(
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
        return PushResult.from_json(await self._client.request(call))

    async def pull(self, remote: str, snapshot: str, name: Optional[str] = None) -> SnapshotInfo:
        """Take a snapshot from a remote, by its name or id there, under the name that it has there
        or another one ("": none). ConflictError: another snapshot has the name."""
        call = _calls.snapshot_pull(remote, snapshot, name)
        return SnapshotInfo.from_json(await self._client.request(call))

    async def wait_until_ready(
        self, name: str, *, timeout: Optional[float] = None
    ) -> SnapshotInfo:
        """Wait for the end of its build, see Snapshots.wait_until_ready."""
        polling = Polling(timeout, f"snapshot {name}")
        while True:
            snapshot = await self.get(name)
            if is_ready(snapshot):
                return snapshot
            await asyncio.sleep(polling.pause())


class AsyncRemotes:
    """Buckets that snapshots are shared in, as Remotes."""

    def __init__(self, client: Optional[AsyncClient] = None) -> None:
        self._client = client or AsyncClient()

    async def add(
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
        return RemoteInfo.from_json(await self._client.request(call))

    async def list(self) -> List[RemoteInfo]:
        values = await self._client.request(_calls.remote_list())
        return [RemoteInfo.from_json(v) for v in values]

    async def remove(self, name: str) -> None:
        """Forget a remote. Nothing in the bucket changes."""
        await self._client.send(_calls.remote_remove(name))

    async def rekey(
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
        return RemoteInfo.from_json(await self._client.request(call))

    async def check(self, name: str) -> RemoteCheck:
        """Try whether the bucket does all that is needed of it."""
        return RemoteCheck.from_json(await self._client.request(_calls.remote_check(name)))

    async def gc(
        self, name: str, *, dry_run: bool = False, grace_seconds: Optional[int] = None
    ) -> RemoteCollection:
        """Delete what no snapshot of the bucket needs. Waits for pushes that are under way."""
        call = _calls.remote_gc(name, dry_run, grace_seconds)
        return RemoteCollection.from_json(await self._client.request(call))

    async def verify(self, name: str, *, deep: bool = False) -> RemoteVerification:
        """Check that all that the bucket's snapshots need is there; deep: read all of its bytes."""
        call = _calls.remote_verify(name, deep)
        return RemoteVerification.from_json(await self._client.request(call))

    async def snapshots(self, name: str) -> List[RemoteSnapshot]:
        """What the bucket has, by name."""
        values = await self._client.request(_calls.remote_snapshots(name))
        return [RemoteSnapshot.from_json(v) for v in values]

    async def delete(self, name: str, snapshot: str) -> bool:
        """Take a name away in the bucket, or delete a snapshot by its id there. Whether it was
        deleted: it is when its last name goes."""
        call = _calls.remote_snapshot_delete(name, snapshot)
        return bool((await self._client.request(call))["deleted"])


class AsyncImages:
    """Cached images, named or not."""

    def __init__(self, client: Optional[AsyncClient] = None) -> None:
        self._client = client or AsyncClient()

    async def build(
        self, image: Image, *, on_build_log: Optional[AsyncOnLog] = None, force: bool = False
    ) -> BuiltImage:
        """Build an image, unless it is cached, see Images.build."""
        call = _calls.image_build(image, force)
        return BuiltImage.from_json(await self._client.follow(call, BUILD, on_build_log))

    async def delete(self, content_hash: str) -> None:
        """Forget a cached image. What was made of it is not affected."""
        await self._client.send(_calls.image_delete(content_hash))

    async def list(
        self, *, limit: Optional[int] = None, after: Optional[str] = None
    ) -> List[ImageInfo]:
        """All, or at most `limit` behind the one with the content hash `after`."""
        values = await self._client.request(_calls.image_list(limit, after))
        return [ImageInfo.from_json(v) for v in values]


class AsyncBuilds:
    """Builds that run, and those that have ended."""

    def __init__(self, client: Optional[AsyncClient] = None) -> None:
        self._client = client or AsyncClient()

    async def list(
        self, *, limit: Optional[int] = None, after: Optional[str] = None
    ) -> List[BuildInfo]:
        """Newest first: all, or at most `limit` behind the one with the id `after`."""
        values = await self._client.request(_calls.build_list(limit, after))
        return [BuildInfo.from_json(v) for v in values]

    async def get(self, build_id: str) -> BuildInfo:
        return BuildInfo.from_json(await self._client.request(_calls.build_get(build_id)))

    def logs(self, build_id: str) -> AsyncIterator[BuildLog]:
        """A build's log from its start; while it runs, as it comes. BuildError at the end of one
        that has failed."""
        return self._client.logs(build_id)

    async def cancel(self, build_id: str) -> None:
        await self._client.send(_calls.build_cancel(build_id))
