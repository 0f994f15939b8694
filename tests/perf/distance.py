"""
A TCP proxy that stands for distance: what goes through it arrives later, as much of it as before.

    python3 distance.py TARGET-PORT MS-THERE-AND-BACK

Prints its port, and on each line that it reads: the bytes that went to clients since the line
before. Ends with its input.
"""
import asyncio
import sys

target, half = int(sys.argv[1]), float(sys.argv[2]) / 2000
sent = 0  # to clients


async def pump(reader, writer, counts):
    """Each piece at its time, whatever is on its way before it."""
    global sent
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
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while True:
            data = await reader.read(1 << 18)
            queue.put_nowait((loop.time() + half, data))
            if counts:
                sent += len(data)
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
    await asyncio.gather(pump(reader, back, False), pump(there, writer, True),
                         return_exceptions=True)


async def main():
    """Until the input ends."""
    global sent
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(sent, flush=True)
        sent = 0


asyncio.run(main())
