"""Images in code, sandboxes and snapshots of a Varve daemon.

    from varve import Image, Sandbox

    image = Image.base().apt_install(["jq"]).env({"MODE": "test"})
    with Sandbox.create(image=image, on_build_log=print) as sandbox:
        print(sandbox.exec.run("jq --version").stdout)

The classes whose names begin with Async do the same for asyncio.
"""
from .aio import (
    AsyncBuilds,
    AsyncClient,
    AsyncExec,
    AsyncFiles,
    AsyncImages,
    AsyncProcess,
    AsyncRemotes,
    AsyncSandbox,
    AsyncSnapshots,
)
from .client import Client
from .errors import (
    ApiError,
    AuthenticationError,
    BuildError,
    CommandError,
    ConflictError,
    InvalidRequestError,
    NoSpaceError,
    NotFoundError,
    TransportError,
    UnreachableError,
    VarveError,
    WaitTimeoutError,
)
from .image import Image
from .remotes import Remotes
from .sandbox import Exec, Files, Process, Sandbox
from .snapshots import Builds, Images, Snapshots
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

__version__ = "0.1.0"
__all__ = [
    "ApiError",
    "AsyncBuilds",
    "AsyncClient",
    "AsyncExec",
    "AsyncFiles",
    "AsyncImages",
    "AsyncProcess",
    "AsyncRemotes",
    "AsyncSandbox",
    "AsyncSnapshots",
    "AuthenticationError",
    "BuildError",
    "BuildInfo",
    "BuildLog",
    "Builds",
    "BuiltImage",
    "CheckpointInfo",
    "Client",
    "CommandError",
    "ConflictError",
    "Exec",
    "ExecResult",
    "ExecStatus",
    "FileInfo",
    "Files",
    "Image",
    "ImageInfo",
    "Images",
    "InvalidRequestError",
    "NoSpaceError",
    "NotFoundError",
    "Output",
    "PatchInfo",
    "Process",
    "PushResult",
    "RemoteCheck",
    "RemoteCollection",
    "RemoteInfo",
    "RemoteSnapshot",
    "RemoteVerification",
    "Remotes",
    "Sandbox",
    "SandboxInfo",
    "SnapshotInfo",
    "Snapshots",
    "TransportError",
    "UnreachableError",
    "VarveError",
    "WaitTimeoutError",
]
