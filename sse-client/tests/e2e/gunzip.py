"""Reads a stream in gzip to its end with zlib, and says whether it was a whole one. Waits first for a line, if told to."""

import http.client
import sys
import zlib

address, path, waits = sys.argv[1:]
connection = http.client.HTTPConnection(address)
connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
response = connection.getresponse()
assert response.status == 200, response.status
assert response.getheader("Content-Encoding") == "gzip", response.headers
if waits == "waits":
    sys.stdin.readline()
unpack = zlib.decompressobj(31)  # gzip and nothing else: its header, its checksum, its length
while piece := response.read1(16384):
    sys.stdout.buffer.write(unpack.decompress(piece))
    sys.stdout.buffer.flush()
sys.stdout.buffer.write(unpack.flush())
assert unpack.eof, "the stream broke off"
assert not unpack.unused_data, "something is behind the stream's end"
