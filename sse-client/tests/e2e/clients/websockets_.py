"""A WebSocket of the package `websockets`: sends each line it is given, and prints each message and the end."""

import asyncio
import ssl
import sys

import websockets


async def main():
    url, *certificate = sys.argv[1:]
    trust = ssl.create_default_context(cafile=certificate[0]) if certificate else None
    # No compression and no limit of its own; a ping that is not answered is an error.
    async with websockets.connect(url, ssl=trust, max_size=None, ping_interval=1, ping_timeout=20, proxy=None) as socket:
        loop = asyncio.get_running_loop()

        async def say():
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                await socket.send(line.rstrip("\n"))

        saying = asyncio.create_task(say())
        try:
            async for message in socket:
                print("message", message, flush=True)
        except websockets.ConnectionClosed:
            pass
        print("close", socket.close_code, socket.close_reason, flush=True)
        saying.cancel()


try:
    asyncio.run(main())
except websockets.InvalidStatus as refused:
    answer = refused.response
    print("refused", answer.status_code, answer.headers.get("Retry-After"), answer.body.decode(), flush=True)
except OSError as error:
    print("error", error, flush=True)
