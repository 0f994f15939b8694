"""A service that takes requests and does not answer. For tests.

    python3 black_hole.py FORMAT-FILE

Prints three ports: one accepts connections and never answers; one answers a GET of a bucket's
"format", with that file, and nothing else; and one drops all packets of new connections, as its
queue is full.
"""
import socket
import sys
import threading
from email.utils import formatdate

with open(sys.argv[1], "rb") as f:
    bucket_format = f.read()
kept = []


def listen(backlog):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(backlog)
    return s


def answer(connection, serves_format):
    kept.append(connection)
    text = b""
    while True:
        data = connection.recv(65536)
        if not data:
            return
        text += data
        while serves_format and b"\r\n\r\n" in text:
            head, _, text = text.partition(b"\r\n\r\n")
            line = head.split(b"\r\n")[0]
            if not line.startswith(b"GET ") or b"/format HTTP" not in line:
                serves_format = False
                continue
            date = formatdate(usegmt=True).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Length: %d\r\n\r\n%s"
                               % (date, len(bucket_format), bucket_format))


def serve(listener, serves_format):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, serves_format), daemon=True).start()


silent, partial, full = listen(64), listen(64), listen(0)
for _ in range(8):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(full.getsockname())
    kept.append(s)
for listener, serves_format in ((silent, False), (partial, True)):
    threading.Thread(target=serve, args=(listener, serves_format), daemon=True).start()
print(*(s.getsockname()[1] for s in (silent, partial, full)), flush=True)
threading.Event().wait()
