"""What every client of Python's says."""

import sys
import time

URL = sys.argv[1]


def event(data):
    """One line for an event: when the client handed it over, in microseconds of the clock, and its data."""
    print("event", time.time_ns() // 1000, data, flush=True)


def line(text):
    """A line of a stream, from a client that hands on lines."""
    if isinstance(text, bytes):
        text = text.decode()
    if text.startswith("data: "):
        event(text[6:].rstrip("\n"))


def run(read):
    """Reads the stream, and says how it ended."""
    try:
        read()
        print("end", flush=True)
    except Exception as error:
        print("error", repr(error), flush=True)
