import asyncio

import aiohttp
from told import URL, line, run


async def read():
    # By default it gives up when five minutes are over.
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(URL) as response:
        async for text in response.content:
            line(text)


run(lambda: asyncio.run(read()))
