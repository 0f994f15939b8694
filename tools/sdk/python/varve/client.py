"""The connection to a daemon. One request is one connection, so a client may be used from any
number of threads at once."""
from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from dataclasses import replace
from typing import Any, Callable, Generator, Iterable, Iterator, Optional, TypeVar, Union

from . import _calls
from ._attached import KILL_TIMEOUT, Attached
from ._endpoint import CONNECT_TIMEOUT, Call, Endpoint, with_key
from ._events import BUILD, OUTPUT, Kind, ResultStream
from ._retry import ASK_FOR_KEYS, Retry, RetryPolicy
from .errors import ApiError, TransportError, UnreachableError, api_error
from .types import BuildLog, Output

CHUNK = 1 << 16
T = TypeVar("T")
OnLog = Callable[[BuildLog], Any]
Content = Union[bytes, bytearray, memoryview, Iterable[bytes]]


class _Connection(http.client.HTTPConnection):
    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.host, endpoint.port or None)
        self._endpoint = endpoint

    def connect(self) -> None:
        where = self._endpoint
        if where.socket:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(CONNECT_TIMEOUT)
            self.sock.connect(where.socket)
            return
        self.sock = socket.create_connection((where.host, where.port), CONNECT_TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if where.tls:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=where.host)


class Response:
    """A reply with a good status, whose body is still to be read. Close it, or use `with`."""

    def __init__(self, connection: _Connection, reply: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._reply = reply
        self.content_type = reply.headers.get("Content-Type", "")

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reply.close()
        self._connection.close()

    def read(self) -> bytes:
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises TransportError where it is not whole."""
        while True:
            try:
                data = self._reply.read1(CHUNK)
            except (OSError, http.client.HTTPException) as e:
                raise TransportError(f"the reply broke off: {e!r}") from e
            if not data:
                if self._reply.length:
                    raise TransportError(f"the reply broke off, {self._reply.length} bytes short")
                return
            yield data


class Client:
    """Where the daemon is.

    Without arguments: VARVE_API_URL with VARVE_API_KEY, else the unix socket that VARVE_SOCKET or
    SNAPSHOTD_SOCKET names, else /run/snapshotd.sock. `url` may be http:, https: or unix:.

    A daemon that is being replaced is waited for: `retry` seconds from when none answers (0: not
    at all; 10, or VARVE_RETRY_SECONDS). A call that it has not answered is made again, and done
    once all the same; not one that changes something and was sent to an older daemon, which would do
    it twice. A command that is waited for goes on without the daemon (one of these that is not older).
    Where none has ever answered, none is waited for unless `retry` or the variable says so.
    """

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
        return f"<Client {self.endpoint}>"

    def _begin(
        self, connection: _Connection, call: Call, content: Optional[Content]
    ) -> http.client.HTTPResponse:
        where = self.endpoint
        body = call.body if content is None else content
        try:
            connection.connect()
            connection.sock.settimeout(call.timeout)
        except OSError as e:
            raise UnreachableError(f"cannot reach the daemon at {where}: {e}") from e
        try:
            connection.putrequest(
                call.method, call.target(where), skip_host=True, skip_accept_encoding=True
            )
            headers = call.headers(where) + call.body_headers(body)
            for name, value in headers:
                connection.putheader(name, value)
            chunked = ("Transfer-Encoding", "chunked") in headers
            try:
                connection.endheaders(body, encode_chunked=chunked)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused while it was being sent: the reply says why
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as e:
            raise TransportError(f"the call to {where} broke off: {e!r}") from e

    def open(self, call: Call, content: Optional[Content] = None) -> Response:
        """Send a call. A failing status is raised as an ApiError."""
        call = with_key(call)
        retry = Retry(self._retry, call)
        while True:
            try:
                if self._retry.asks(call):
                    self._ask_for_keys()
                return self._open(call, content)
            except (ApiError, TransportError) as e:
                if not _is_again(content):
                    raise
                time.sleep(retry.next(e))

    def _ask_for_keys(self) -> None:
        try:
            self._open(ASK_FOR_KEYS, None).close()
        except (ApiError, TransportError):
            pass

    def _open(self, call: Call, content: Optional[Content]) -> Response:
        connection = _Connection(self.endpoint)
        try:
            reply = self._begin(connection, call, content)
            self._retry.note_reply(reply.headers.get("Idempotency-Keys"))
            response = Response(connection, reply)
            if not 200 <= reply.status < 300:
                raise api_error(
                    reply.status,
                    response.read(),
                    reply.headers.get("Retry-After"),
                    reply.headers.get("Idempotency-Pending"),
                )
            return response
        except BaseException:
            connection.close()
            raise

    def send(self, call: Call, content: Optional[Content] = None) -> None:
        """Send a call whose reply has nothing to say."""
        self._whole(call, content)

    def _whole(self, call: Call, content: Optional[Content] = None) -> bytes:
        """Send a call and return its reply, whole."""
        call = with_key(call)
        retry = Retry(self._retry, call)
        while True:
            with self.open(call, content) as response:
                try:
                    return response.read()
                except TransportError as e:
                    if not _is_again(content):
                        raise
                    pause = retry.next(e)
            time.sleep(pause)

    def request(self, call: Call) -> Any:
        """Send a call and return its JSON."""
        return decode(self._whole(call))

    def follow(self, call: Call, kind: Kind[T], tell: Optional[Callable[[T], Any]] = None) -> Any:
        """Send a call whose reply may be a stream of events and return its result. What tell
        raises ends it (a build goes on)."""
        events = self._events(call, kind)
        try:
            while True:
                try:
                    told = next(events)
                except StopIteration as end:
                    return end.value
                if tell:
                    tell(told)
        finally:
            events.close()

    def _events(self, call: Call, kind: Kind[T]) -> Generator[T, None, Any]:
        """What is told, each once though the daemon be replaced meanwhile; returns the result."""
        call = with_key(call)
        retry = Retry(self._retry, call)
        known = 0  # they come again, from the first
        while True:
            with self.open(call) as response:
                try:
                    if not response.content_type.startswith("text/event-stream"):
                        return decode(response.read())
                    stream, seen = ResultStream(kind), 0
                    for data in response.pieces():
                        for told in stream.feed(data):
                            seen += 1
                            if seen > known:
                                known = seen
                                yield told
                    return stream.result()
                except TransportError as e:
                    if known and not kind.again:
                        raise
                    pause = retry.next(e)
            time.sleep(pause)

    def attend(self, command: Attached, tell: Optional[Callable[[Output], Any]]) -> Any:
        """Follow a command and return its result. What tell raises ends it, as does whatever else
        ends the wait."""
        outputs = self._outputs(command)
        try:
            while True:
                try:
                    told = next(outputs)
                except StopIteration as end:
                    return end.value
                if tell:
                    tell(told)
        finally:
            outputs.close()
            if not command.is_over:
                self._kill(command)

    def _outputs(self, command: Attached) -> Generator[Output, None, Any]:
        retry = Retry(self._retry, command.follow())
        try:
            while True:
                with self.open(command.follow()) as response:
                    try:
                        stream = ResultStream(OUTPUT)
                        for data in response.pieces():
                            for told in stream.feed(data):
                                command.take(told)
                                yield told
                        result = stream.result()
                        command.is_over = True
                        return result
                    except TransportError as e:
                        if command.has_moved():
                            retry = Retry(self._retry, command.follow())
                        pause = retry.next(e)
                time.sleep(pause)
        except (ApiError, TransportError) as e:
            raise command.failure(e)

    def _kill(self, command: Attached) -> None:
        try:
            self._open(replace(command.kill(), timeout=KILL_TIMEOUT), None).close()
        except (ApiError, TransportError):
            pass  # it ends when nobody follows it any more

    def logs(self, build_id: str) -> Iterator[BuildLog]:
        """A build's log from its start, until it ends."""
        yield from self._events(_calls.build_logs(build_id), BUILD)


def _is_again(content: Optional[Content]) -> bool:
    """Whether it can be sent again."""
    return content is None or isinstance(content, (bytes, bytearray, memoryview))


def decode(body: bytes) -> Any:
    """The JSON of a reply."""
    try:
        return json.loads(body)
    except ValueError as e:
        raise TransportError(f"the reply is not JSON: {body[:100]!r}") from e
