"""Sandboxes: programs and files in a root filesystem of their own."""
from __future__ import annotations

import time
from typing import (
    IO,
    Any,
    Callable,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Union,
    cast,
)

from . import _calls
from ._attached import Attached
from ._calls import Retention
from ._endpoint import Call
from ._events import BUILD, OUTPUT
from .client import CHUNK, Client, Content, OnLog
from .errors import (
    ApiError,
    CommandError,
    InvalidRequestError,
    NotFoundError,
    VarveError,
    WaitTimeoutError,
)
from .image import Image
from .types import CheckpointInfo, ExecResult, ExecStatus, FileInfo, Output, PatchInfo, SandboxInfo

Data = Union[str, bytes, bytearray, memoryview, IO[bytes], Iterable[bytes]]
OnOutput = Callable[[Output], Any]
# How often something is asked for again that is waited for, in seconds.
POLL_FIRST = 0.02
POLL_MOST = 1.0


def _pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    while True:
        data = file.read(CHUNK)
        if not data:
            return
        yield data


def as_content(data: Data) -> Content:
    if isinstance(data, str):
        return data.encode("utf-8")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return data
    if hasattr(data, "read"):
        return _pieces_of(cast(IO[bytes], data))
    return data


class Polling:
    """The pauses of something that is waited for: longer and longer, up to a deadline."""

    def __init__(self, timeout: Optional[float], what: str) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._pause = POLL_FIRST
        self._what = what

    def pause(self) -> float:
        """Seconds to sleep. WaitTimeoutError where the deadline has passed."""
        pause = self._pause
        self._pause = min(2 * pause, POLL_MOST)
        if self._deadline is None:
            return pause
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeoutError(f"{self._what}: still not at its end")
        return min(pause, left)


def check_result(cmd: str, result: ExecResult) -> ExecResult:
    if result.exit_code != 0:
        raise CommandError(cmd, result.exit_code, result.stdout, result.stderr)
    return result


def final_result(status: ExecStatus) -> ExecResult:
    """Of a command that has ended."""
    if status.error:
        raise VarveError(f"the command could not be run: {status.error}")
    truncated = status.raw.get("truncated") is True
    return ExecResult(status.exit_code or 0, status.stdout, status.stderr, truncated, status.raw)


def find_checkpoint(checkpoints: Sequence[CheckpointInfo], checkpoint_id: str) -> CheckpointInfo:
    for checkpoint in checkpoints:
        if checkpoint.id == checkpoint_id:
            return checkpoint
    raise NotFoundError(404, f"there is no checkpoint {checkpoint_id}")


def is_settled(checkpoint: CheckpointInfo) -> bool:
    """Whether it is ready. VarveError where it has failed."""
    if checkpoint.status == "failed":
        raise VarveError(f"checkpoint {checkpoint.name} has failed: {checkpoint.error}")
    return checkpoint.status == "ready"


class Process:
    """A command that runs on its own, from exec.run_async()."""

    def __init__(self, run: Exec, exec_id: str) -> None:
        self._exec = run
        self.exec_id = exec_id

    def result(self) -> ExecStatus:
        """How far it is. Does not wait."""
        return self._exec.result(self.exec_id)

    def wait(self, timeout: Optional[float] = None) -> ExecResult:
        """Wait for its end. WaitTimeoutError after `timeout` seconds; it then runs on."""
        polling = Polling(timeout, f"the command {self.exec_id}")
        while True:
            status = self.result()
            if not status.running:
                return final_result(status)
            time.sleep(polling.pause())


class Exec:
    """Commands of a sandbox: `sandbox.exec`."""

    def __init__(self, client: Client, sandbox_id: str) -> None:
        self._client = client
        self._id = sandbox_id

    def run(
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
        on_output: Optional[OnOutput] = None,
    ) -> ExecResult:
        """Run a command and wait for its end.

        Without args, cmd is a line for `sh -c`; with args (an empty list will do) it is a program
        that gets exactly these. env and cwd add to what the image and the sandbox say. After
        `timeout` seconds it is killed. It reads `stdin` (at most 1 MiB), or nothing. Where it
        leaves processes that hold its output, that is read for another `linger` seconds (10 where
        nothing is said); the result is `truncated` if it is still open then. With check,
        CommandError unless it ends with 0. on_output gets the output as it comes, any amount of
        it, and the result has none then; what it raises ends the command. The command goes on
        while the daemon is replaced (not with an older one).
        """
        program = (cmd, args, env, cwd, timeout, stdin, linger)
        try:
            call = _calls.exec_run(self._id, _calls.ATTACHED, *program)
            exec_id = self._client.request(call)["execId"]
        except InvalidRequestError:  # an older daemon, or what is wrong with it is said again
            result = self._run_unattached(_calls.exec_run(self._id, _calls.RUN, *program), on_output)
        else:
            command = Attached(self._id, exec_id, on_output is None)
            result = command.result(self._client.attend(command, on_output))
        return check_result(cmd, result) if check else result

    def _run_unattached(self, call: Call, on_output: Optional[OnOutput]) -> ExecResult:
        if on_output is None:
            return ExecResult.from_json(self._client.request(call))
        call = _calls.with_output(call)
        return ExecResult.from_json(self._client.follow(call, OUTPUT, on_output))

    def run_async(
        self,
        cmd: str,
        args: Optional[Sequence[str]] = None,
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[str] = None,
        timeout: Optional[float] = None,
        stdin: Union[str, bytes, None] = None,
        linger: Optional[float] = None,
    ) -> Process:
        """Start a command and return at once. The arguments are those of run()."""
        call = _calls.exec_run(
            self._id, _calls.RUN_ASYNC, cmd, args, env, cwd, timeout, stdin, linger
        )
        return Process(self, self._client.request(call)["execId"])

    def result(self, exec_id: str) -> ExecStatus:
        """How far a command is that run_async() has started, here or elsewhere."""
        return ExecStatus.from_json(self._client.request(_calls.exec_result(self._id, exec_id)))


class Files:
    """Files of a sandbox: `sandbox.files`. Paths are those inside."""

    def __init__(self, client: Client, sandbox_id: str) -> None:
        self._client = client
        self._id = sandbox_id

    def read(self, path: str) -> str:
        """A whole text file, which has to be UTF-8."""
        return self.read_bytes(path).decode("utf-8")

    def read_bytes(self, path: str) -> bytes:
        """A whole file."""
        return b"".join(self.stream(path))

    def stream(self, path: str) -> Iterator[bytes]:
        """A file of any size, in pieces as they come."""
        with self._client.open(_calls.file_read(self._id, path)) as response:
            yield from response.pieces()

    def write(self, path: str, data: Data) -> None:
        """Write a file whole. data: str, bytes, a binary file or an iterable of bytes, which are
        streamed. Missing directories are made; the file is replaced at once, at the end."""
        self._client.send(_calls.file_write(self._id, path), as_content(data))

    def list(
        self, path: str = "/", *, limit: Optional[int] = None, after: Optional[str] = None
    ) -> List[FileInfo]:
        """The entries of a directory: all, or at most `limit` behind the name `after`."""
        entries = self._client.request(_calls.file_list(self._id, path, limit, after))
        return [FileInfo.from_json(entry) for entry in entries]

    def make_dir(self, path: str) -> None:
        """Make a directory and those above it."""
        self._client.send(_calls.file_mkdir(self._id, path))

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with all that is in it; gone already is no error."""
        self._client.send(_calls.file_remove(self._id, path))

    def exists(self, path: str) -> bool:
        """Whether there is a file or directory, following symbolic links. The path is
        absolute."""
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not an absolute path")
        try:
            self._client.open(_calls.file_read(self._id, path)).close()
            return True
        except NotFoundError:
            return False
        except ApiError:
            pass  # no file to read: a directory, or nothing that can be reached
        try:
            self.list(path)
            return True
        except (NotFoundError, InvalidRequestError):
            return False  # the latter where something above it is no directory


class Sandbox:
    """A running sandbox. As a context manager it is killed at the end:

    with Sandbox.create(image=image) as sandbox:
        print(sandbox.exec.run("echo hello").stdout)
    """

    def __init__(self, client: Client, info: SandboxInfo) -> None:
        """Not to be called: use create() or connect()."""
        self._client = client
        self.info = info
        self.id = self.sandbox_id = info.sandbox_id
        self.exec = Exec(client, self.id)
        self.files = Files(client, self.id)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.kill()
        except NotFoundError:
            pass

    def __repr__(self) -> str:
        return f"<Sandbox {self.id} {self.info.status}>"

    @classmethod
    def create(
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
        on_build_log: Optional[OnLog] = None,
        force: bool = False,
        client: Optional[Client] = None,
    ) -> Sandbox:
        """Make a sandbox of an image, of a snapshot by name, or of the default template.

        An image that is not cached is built first; on_build_log gets each line of its log as it
        comes. force builds it anyway. timeout: seconds without a call after which the sandbox is
        stopped until the next call; 0 for never. disk_mb limits what it may write. BuildError:
        the image cannot be built.
        """
        client = client or Client()
        options = _calls.sandbox_options(timeout, envs, metadata, memory_mb, cpu_count, disk_mb)
        call = _calls.sandbox_create(image, snapshot, options, force)
        return cls(client, SandboxInfo.from_json(client.follow(call, BUILD, on_build_log)))

    @classmethod
    def create_from_checkpoint(
        cls,
        checkpoint_id: str,
        *,
        timeout: Optional[int] = None,
        envs: Optional[Mapping[str, str]] = None,
        metadata: Optional[Mapping[str, str]] = None,
        memory_mb: Optional[int] = None,
        cpu_count: Optional[float] = None,
        disk_mb: Optional[int] = None,
        client: Optional[Client] = None,
    ) -> Sandbox:
        """Make a new sandbox that starts as a checkpoint (a fork); its patches are run in it."""
        client = client or Client()
        options = _calls.sandbox_options(timeout, envs, metadata, memory_mb, cpu_count, disk_mb)
        call = _calls.sandbox_from_checkpoint(checkpoint_id, options)
        return cls(client, SandboxInfo.from_json(client.request(call)))

    @classmethod
    def connect(cls, sandbox_id: str, *, client: Optional[Client] = None) -> Sandbox:
        """A sandbox that exists."""
        client = client or Client()
        value = client.request(_calls.sandbox_get(sandbox_id))
        return cls(client, SandboxInfo.from_json(value))

    @staticmethod
    def list(
        *,
        limit: Optional[int] = None,
        after: Optional[str] = None,
        client: Optional[Client] = None,
    ) -> List[SandboxInfo]:
        """All sandboxes of the daemon, or at most `limit` behind the one whose id is `after`."""
        client = client or Client()
        values = client.request(_calls.sandbox_list(limit, after))
        return [SandboxInfo.from_json(v) for v in values]

    @property
    def status(self) -> str:
        """As last heard of; is_running() asks."""
        return self.info.status

    def is_running(self) -> bool:
        """Whether it exists and runs, right now."""
        try:
            value = self._client.request(_calls.sandbox_get(self.id))
        except NotFoundError:
            return False
        self.info = SandboxInfo.from_json(value)
        return self.info.status == "running"

    def set_timeout(self, seconds: int) -> None:
        """Stop it after this many seconds without a call; 0 for never."""
        self._client.send(_calls.sandbox_timeout(self.id, seconds))

    def kill(self) -> None:
        """End it. What it has written is gone, except for its checkpoints."""
        self._client.send(_calls.sandbox_kill(self.id))

    def create_checkpoint(
        self, name: str, *, retention: Retention = None, wait: bool = True
    ) -> CheckpointInfo:
        """Keep the filesystem as it is now, under a name (ConflictError where it is taken).

        The sandbox runs on meanwhile. retention: a number keeps only that many of its checkpoints
        and deletes the oldest, or the policy as the API has it. wait: until it is ready; its
        content is of now in any case.
        """
        value = self._client.request(_calls.checkpoint_create(self.id, name, retention))
        checkpoint = CheckpointInfo.from_json(value)
        return self.wait_for_checkpoint(checkpoint.id) if wait else checkpoint

    def wait_for_checkpoint(
        self, checkpoint_id: str, *, timeout: Optional[float] = None
    ) -> CheckpointInfo:
        """Wait until a checkpoint is ready. VarveError where it fails."""
        polling = Polling(timeout, f"checkpoint {checkpoint_id}")
        while True:
            checkpoint = find_checkpoint(self.list_checkpoints(), checkpoint_id)
            if is_settled(checkpoint):
                return checkpoint
            time.sleep(polling.pause())

    def list_checkpoints(
        self, *, limit: Optional[int] = None, after: Optional[str] = None
    ) -> List[CheckpointInfo]:
        """The checkpoints of this sandbox."""
        values = self._client.request(_calls.checkpoint_list(self.id, limit, after))
        return [CheckpointInfo.from_json(v) for v in values]

    def restore_checkpoint(self, checkpoint_id: str) -> None:
        """Put the filesystem back. Processes of the sandbox end."""
        self._client.send(_calls.checkpoint_restore(self.id, checkpoint_id))

    def delete_checkpoint(self, checkpoint_id: str) -> None:
        self._client.send(_calls.checkpoint_delete(self.id, checkpoint_id))

    @staticmethod
    def create_checkpoint_patch(
        checkpoint_id: str,
        script: str,
        description: str = "",
        *,
        client: Optional[Client] = None,
    ) -> PatchInfo:
        """Add a script that runs in every sandbox made from a checkpoint, after those before."""
        client = client or Client()
        value = client.request(_calls.patch_create(checkpoint_id, script, description))
        return PatchInfo.from_json(value.get("patch", value))

    @staticmethod
    def list_checkpoint_patches(
        checkpoint_id: str,
        *,
        limit: Optional[int] = None,
        after: Optional[str] = None,
        client: Optional[Client] = None,
    ) -> List[PatchInfo]:
        """The patches of a checkpoint, in the order in which they run."""
        client = client or Client()
        values: List[Any] = client.request(_calls.patch_list(checkpoint_id, limit, after))
        return [PatchInfo.from_json(v) for v in values]

    @staticmethod
    def delete_checkpoint_patch(
        checkpoint_id: str, patch_id: str, *, client: Optional[Client] = None
    ) -> None:
        (client or Client()).send(_calls.patch_delete(checkpoint_id, patch_id))
