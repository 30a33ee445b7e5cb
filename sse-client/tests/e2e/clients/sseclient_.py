import requests
import sseclient
from told import URL, event, run


def as_utf_8(response, *_, **__):
    response.encoding = "utf-8"


def read():
    session = requests.Session()
    # It takes a text whose charset is not named for ISO 8859-1.
    session.hooks["response"].append(as_utf_8)
    # It reads from below requests, where nothing is unpacked: by default it asks for gzip and finds no event in it.
    headers = {"Accept-Encoding": "identity"}
    for message in sseclient.SSEClient(URL, session=session, headers=headers):
        if message.event == "message":
            event(message.data)


run(read)
