import httpx
from httpx_sse import connect_sse
from told import URL, event, run


def read():
    # By default it gives up when nothing comes for five seconds.
    with httpx.Client(timeout=httpx.Timeout(5, read=None)) as client:
        with connect_sse(client, "GET", URL) as source:
            for message in source.iter_sse():
                if message.event == "message":
                    event(message.data)


run(read)
