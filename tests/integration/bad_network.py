"""A TCP proxy that is as bad as its settings say. For tests.

    python3 bad_network.py TARGET-PORT SETTINGS-FILE

Prints the port that it listens on. The file is read again for each connection and each piece of
data: words "delay=MS" (each piece, each way), "cut=BYTES" (a connection is reset after that many
bytes to the client, each later one as well), "cut-odd=BYTES" (only the first, third, ... connection),
"refuse" (connections are closed at once), "stall" (nothing goes on while it stands there).
"""
import socket
import struct
import sys
import threading
import time

target, settings = int(sys.argv[1]), sys.argv[2]


def setting(name, default=None):
    try:
        with open(settings, encoding="ascii") as f:
            words = f.read().split()
    except OSError:
        return default
    for word in words:
        key, _, value = word.partition("=")
        if key == name:
            return int(value or 1)
    return default


def reset(*sockets):
    for s in sockets:
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        s.close()


def pump(source, sink, limit):
    try:
        while True:
            data = source.recv(65536)
            while setting("stall"):
                time.sleep(0.01)
            time.sleep(setting("delay", 0) / 1000)
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            if limit is not None:
                data = data[:limit]
                limit -= len(data)
            sink.sendall(data)
            if limit == 0:
                reset(source, sink)
                return
    except OSError:
        reset(source, sink)


def serve(client, number):
    limit = setting("cut")
    if limit is None and number % 2:
        limit = setting("cut-odd")
    if setting("refuse"):
        reset(client)
        return
    try:
        server = socket.create_connection(("127.0.0.1", target))
    except OSError:
        reset(client)
        return
    for s in (client, server):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=pump, args=(client, server, None), daemon=True).start()
    pump(server, client, limit)


listener = socket.create_server(("127.0.0.1", 0), backlog=128)
print(listener.getsockname()[1], flush=True)
count = 0
while True:
    accepted, _ = listener.accept()
    count += 1
    threading.Thread(target=serve, args=(accepted, count), daemon=True).start()
