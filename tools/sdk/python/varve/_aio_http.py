"""HTTP/1.1 for asyncio, as far as the daemon needs it: one request a connection.

Sockets are used as they are, not through asyncio's streams: those drop a reply that has come
once a write fails, and a refused upload is just that. TLS does go through them.
"""
from __future__ import annotations

import asyncio
import socket
import ssl
from typing import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    Iterable,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from ._endpoint import CONNECT_TIMEOUT, Call, Endpoint
from .errors import TransportError, UnreachableError, api_error

CHUNK = 1 << 16
HEAD_MAX = 1 << 16
T = TypeVar("T")
AsyncContent = Union[bytes, bytearray, memoryview, Iterable[bytes], AsyncIterable[bytes]]
_BROKEN = (OSError, EOFError, asyncio.TimeoutError, ValueError)


async def _within(timeout: Optional[float], work: Awaitable[T]) -> T:
    return await asyncio.wait_for(work, timeout) if timeout is not None else await work


class _Socket:
    """A connected socket without TLS."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, CHUNK)

    def close(self) -> None:
        self._sock.close()


class _Tls:
    """A connection with TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(CHUNK)

    def close(self) -> None:
        self._writer.close()


_Connection = Union[_Socket, _Tls]


async def _connect_socket(family: int, address: object) -> _Socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)  # type: ignore[arg-type]
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Socket(sock)
    except BaseException:
        sock.close()
        raise


async def _connect_any(where: Endpoint) -> _Connection:
    if where.socket:
        return await _connect_socket(socket.AF_UNIX, where.socket)
    if where.tls:
        context = ssl.create_default_context()
        return _Tls(*await asyncio.open_connection(where.host, where.port, ssl=context))
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    failure: Optional[OSError] = None
    for family, _, _, _, address in found:
        try:
            return await _connect_socket(family, address)
        except OSError as e:
            failure = e
    raise failure or OSError(f"{where.host} has no address")


async def _connect(where: Endpoint) -> _Connection:
    try:
        return await _within(CONNECT_TIMEOUT, _connect_any(where))
    except (OSError, asyncio.TimeoutError) as e:
        raise UnreachableError(f"cannot reach the daemon at {where}: {e}") from e


class _Reader:
    """What has come and is not used yet. EOFError where something is missing."""

    def __init__(self, connection: _Connection, timeout: Optional[float]) -> None:
        self._connection = connection
        self._timeout = timeout
        self._data = b""

    async def _more(self) -> bytes:
        return await _within(self._timeout, self._connection.receive())

    async def until(self, end: bytes) -> bytes:
        """Up to and with end."""
        while end not in self._data:
            more = await self._more()
            if not more:
                raise EOFError("the connection was closed")
            self._data += more
            if len(self._data) > HEAD_MAX + CHUNK:
                raise ValueError("the reply's head is too long")
        head, _, self._data = self._data.partition(end)
        return head + end

    async def some(self, most: int) -> bytes:
        """What there is, at least a byte; b"" at the end."""
        data = self._data or await self._more()
        self._data = data[most:]
        return data[:most]

    async def head(self) -> Tuple[int, Dict[str, str]]:
        """Status and headers (names in lower case) of a reply, after those that are interim."""
        while True:
            text = (await self.until(b"\r\n\r\n")).decode("latin-1")
            first, *lines = text[:-4].split("\r\n")
            version, _, rest = first.partition(" ")
            if not version.startswith("HTTP/1."):
                raise ValueError(f"no HTTP reply: {first[:80]!r}")
            status = int(rest[:3])
            headers: Dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            if not 100 <= status < 200:
                return status, headers

    async def body(self, status: int, headers: Dict[str, str]) -> AsyncIterator[bytes]:
        """A reply's body as it comes. EOFError or ValueError where it is not whole."""
        if status in (204, 304):
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int((await self.until(b"\n")).split(b";")[0], 16)
                if size == 0:
                    return
                async for data in self._exactly(size):
                    yield data
                if await self.until(b"\n") != b"\r\n":
                    raise ValueError("a chunk does not end where it should")
        elif "content-length" in headers:
            async for data in self._exactly(int(headers["content-length"])):
                yield data
        else:
            while True:
                data = await self.some(CHUNK)
                if not data:
                    return
                yield data

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size > 0:
            data = await self.some(min(size, CHUNK))
            if not data:
                raise EOFError(f"{size} bytes short")
            size -= len(data)
            yield data


class AsyncResponse:
    """A reply with a good status, whose body is still to be read. Close it, or use
    `async with`."""

    def __init__(
        self, connection: _Connection, body: AsyncIterator[bytes], headers: Dict[str, str]
    ) -> None:
        self._connection = connection
        self._body = body
        self.content_type = headers.get("content-type", "")

    async def __aenter__(self) -> AsyncResponse:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises TransportError where it is not whole."""
        while True:
            try:
                data = await self._body.__anext__()
            except StopAsyncIteration:
                return
            except _BROKEN as e:
                raise TransportError(f"the reply broke off: {e!r}") from e
            yield data

    async def read(self) -> bytes:
        return b"".join([data async for data in self.pieces()])


def _head(where: Endpoint, call: Call, body: object) -> bytes:
    headers = call.headers(where) + call.body_headers(body)
    lines = [f"{call.method} {call.target(where)} HTTP/1.1"]
    for name, value in headers:
        if "\r" in value or "\n" in value:
            raise ValueError(f"the header {name} has a line break")
        lines.append(f"{name}: {value}")
    return "\r\n".join(lines + ["", ""]).encode("latin-1")


async def _each(content: Union[Iterable[bytes], AsyncIterable[bytes]]) -> AsyncIterator[bytes]:
    if isinstance(content, AsyncIterable):
        async for data in content:
            yield data
    else:
        for data in content:
            yield data


async def _send(
    connection: _Connection, where: Endpoint, call: Call, body: Optional[AsyncContent]
) -> None:
    try:
        await connection.send(_head(where, call, body))
        if body is None:
            return
        if isinstance(body, (bytes, bytearray, memoryview)):
            await connection.send(bytes(body))
            return
        async for data in _each(body):
            if data:
                await connection.send(b"%x\r\n%b\r\n" % (len(data), data))
        await connection.send(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused while it was being sent: the reply says why


async def open_call(
    where: Endpoint,
    call: Call,
    content: Optional[AsyncContent] = None,
    on_reply: Callable[[Optional[str]], None] = lambda keys: None,
) -> AsyncResponse:
    """Send a call. A failing status is raised as an ApiError. on_reply: when one has come, with
    its header Idempotency-Keys."""
    connection = await _connect(where)
    try:
        await _send(connection, where, call, call.body if content is None else content)
        reader = _Reader(connection, call.timeout)
        try:
            status, headers = await reader.head()
        except _BROKEN as e:
            raise TransportError(f"the call to {where} broke off: {e!r}") from e
        on_reply(headers.get("idempotency-keys"))
        response = AsyncResponse(connection, reader.body(status, headers), headers)
        if not 200 <= status < 300:
            raise api_error(
                status,
                await response.read(),
                headers.get("retry-after"),
                headers.get("idempotency-pending"),
            )
        return response
    except BaseException:
        connection.close()
        raise
