"""A server of canned bytes, for tests of what goes over the wire."""
import json
import os
import socket
import tempfile
import threading

SANDBOX = {"sandboxID": "sb-1", "status": "running", "metadata": {"a": "b"}}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
LAST = b"0\r\n\r\n"


def reply(status, body, kind="application/json"):
    body = json.dumps(body).encode() if not isinstance(body, bytes) else body
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def with_headers(head, *lines):
    """The same reply, with these headers."""
    first, _, rest = head.partition(b"\r\n")
    return b"\r\n".join([first, *(line.encode() for line in lines), rest])


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(name, value):
    return chunk(f"event: {name}\ndata: {json.dumps(value)}\n\n".encode())


class Server:
    """Answers each connection with the same bytes, piece by piece (or in turn with those of
    `turns`), and keeps what it was sent.
    Without read_all it answers after the request's head."""

    def __init__(self, *pieces, read_all=True, turns=()):
        self._held = tempfile.TemporaryDirectory()
        self.path = os.path.join(self._held.name, "s")
        self.requests = []
        self._pieces = pieces
        self._turns = list(turns)
        self._read_all = read_all
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._held.cleanup()

    def last(self):
        """Head and body of the last request."""
        head, _, body = self.requests[-1].partition(b"\r\n\r\n")
        return head, body

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(self._read(connection))
                try:
                    pieces = self._turns.pop(0) if self._turns else self._pieces
                    for piece in pieces:
                        connection.sendall(piece)
                except OSError:
                    pass  # the client has heard enough

    def _read(self, connection):
        data = b""
        while not self._complete(data):
            more = connection.recv(1 << 16)
            if not more:
                break
            data += more
        return data

    def _complete(self, data):
        head, end, body = data.partition(b"\r\n\r\n")
        if not end or not self._read_all:
            return bool(end)
        if b"Transfer-Encoding: chunked" in head:
            return body.endswith(LAST)
        for line in head.split(b"\r\n"):
            if line.startswith(b"Content-Length: "):
                return len(body) >= int(line[16:])
        return True
