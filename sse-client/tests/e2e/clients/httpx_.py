import httpx
from told import URL, line, run


def read():
    # By default it gives up when nothing comes for five seconds.
    with httpx.stream("GET", URL, timeout=httpx.Timeout(5, read=None)) as response:
        for text in response.iter_lines():
            line(text)


run(read)
