import urllib3
from told import URL, line, run


def read():
    # By default it gives up when nothing comes for three seconds.
    response = urllib3.request("GET", URL, preload_content=False, timeout=None)
    rest = b""
    for chunk in response.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        for text in lines:
            line(text)


run(read)
