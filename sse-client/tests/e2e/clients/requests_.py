import requests
from told import URL, line, run


def read():
    with requests.get(URL, stream=True) as response:
        for text in response.iter_lines():
            line(text)


run(read)
