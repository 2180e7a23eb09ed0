#!/usr/bin/env python3
"""A slow network between loopback addresses: relays TCP connections with a delay and a rate.

    scripts/link.py LISTEN-PORT TARGET-PORT --delay-ms 25 --mbit 200

Both hold for each direction; all connections share the rate, as they share a line. Ends when its standard input does.
"""

import argparse
import asyncio
import sys


class Direction:
    """What all connections send one way."""

    def __init__(self, loop, rate, delay):
        self.loop, self.rate, self.delay, self.free = loop, rate, delay, 0.0

    def arrival(self, size):
        """When `size` bytes that are sent now have arrived."""
        self.free = max(self.free, self.loop.time()) + size / self.rate
        return self.free + self.delay


async def relay(reader, writer, direction):
    """Passes bytes on when the line has carried them. What is on its way is bounded, as a window bounds it."""
    under_way = asyncio.Queue(maxsize=128)

    async def deliver():
        while (item := await under_way.get()) is not None:
            when, data = item
            await asyncio.sleep(max(0, when - direction.loop.time()))
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    delivery = asyncio.create_task(deliver())
    try:
        while data := await reader.read(1 << 15):
            when = direction.arrival(len(data))
            await under_way.put((when, data))
            # The sender is slowed down by the line, not by a queue before it.
            await asyncio.sleep(max(0, when - direction.delay - direction.loop.time() - 0.01))
    except ConnectionError:
        pass
    await under_way.put(None)
    try:
        await delivery
    except (ConnectionError, OSError):
        pass


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("listen", type=int)
    parser.add_argument("target", type=int)
    parser.add_argument("--delay-ms", type=float, default=25)
    parser.add_argument("--mbit", type=float, default=200)
    args = parser.parse_args()
    loop = asyncio.get_running_loop()
    there, back = (Direction(loop, args.mbit * 1e6 / 8, args.delay_ms / 1000) for _ in range(2))

    async def connected(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", args.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(relay(reader, far_writer, there), relay(far_reader, writer, back))
        writer.close()
        far_writer.close()

    await asyncio.start_server(connected, "127.0.0.1", args.listen)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
