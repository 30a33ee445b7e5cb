import requests
import sseclient
from told import URL, event, run


def read():
    response = requests.get(URL, stream=True, headers={"Accept": "text/event-stream"})
    for message in sseclient.SSEClient(response).events():
        if message.event == "message":
            event(message.data)


run(read)
