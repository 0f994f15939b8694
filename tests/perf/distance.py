"""
A TCP proxy that stands for distance: what goes through it arrives later, as much of it as before.

    python3 distance.py TARGET-PORT MS-THERE-AND-BACK

Prints its port, and on each line that it reads what went through it since the line before, as one
line of JSON: "bytes" that went to clients, and their HTTP "requests", each [begin, end, line,
range]: seconds by its clock, from the request's first byte to the last one of its answer; the
request's first line without its protocol; the Range header or "". Ends with its input.
"""
import asyncio
import json
import re
import sys

target, half = int(sys.argv[1]), float(sys.argv[2]) / 2000
sent = 0  # bytes to clients
requests: list = []
BEGIN = re.compile(rb"((?:GET|PUT|POST|HEAD|DELETE) \S+) HTTP/1\.1\r\n")
RANGE = re.compile(rb"\r\nRange: bytes=(\S+)\r\n", re.I)


class Connection:
    """What is seen of its requests. They follow each other: clients do not pipeline them."""

    def __init__(self):
        self.request = None

    def asked(self, data, now):
        """A client has sent this."""
        begin = BEGIN.match(data)
        if begin:
            span = RANGE.search(data)
            self.request = [now, now, begin[1].decode(), span[1].decode() if span else ""]
            requests.append(self.request)

    def answered(self, data, now):
        """A client got this."""
        global sent
        sent += len(data)
        if self.request:
            self.request[1] = now


async def pump(reader, writer, read, wrote):
    """Each piece at its time, whatever is on its way before it."""
    queue = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def deliver():
        while True:
            due, data = await queue.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            writer.write(data)
            wrote(data, loop.time())
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while True:
            data = await reader.read(1 << 18)
            queue.put_nowait((loop.time() + half, data))
            read(data, loop.time())
            if not data:
                break
        await delivery
    except (OSError, asyncio.CancelledError):
        delivery.cancel()
        writer.close()


async def serve(reader, writer):
    """One connection."""
    try:
        there, back = await asyncio.open_connection("127.0.0.1", target)
    except OSError:
        writer.close()
        return
    c = Connection()
    try:
        await asyncio.gather(pump(reader, back, c.asked, lambda *_: None),
                             pump(there, writer, lambda *_: None, c.answered),
                             return_exceptions=True)
    except asyncio.CancelledError:  # the end
        pass


async def main():
    """Until the input ends."""
    global sent
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps({"bytes": sent, "requests": requests}), flush=True)
        sent = 0
        requests.clear()


asyncio.run(main())
