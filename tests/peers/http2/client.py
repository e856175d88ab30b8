"""Requests over HTTP/2 by the package h2, whose HPACK puts each field into the dynamic table, `:path` among them.

client.py HOST:PORT PATH...   all on one connection, one after the other; tells each response as a JSON object a line.

With `--unchecked` before the address, h2 checks nothing of what it sends; a PATH that has a tab has a field behind it.
"""

import json
import socket
import sys

import h2.config
import h2.connection
import h2.events


def main(arguments):
    unchecked = arguments[0] == "--unchecked"
    address, *paths = arguments[unchecked:]
    host, port = address.rsplit(":", 1)
    config = h2.config.H2Configuration(
        header_encoding="utf-8",
        validate_outbound_headers=not unchecked,
        normalize_outbound_headers=not unchecked,
    )
    connection = h2.connection.H2Connection(config)
    with socket.create_connection((host, int(port)), timeout=20) as stream:
        connection.initiate_connection()
        stream.sendall(connection.data_to_send())
        for path in paths:
            print(json.dumps(exchange(connection, stream, address, path)), flush=True)


def exchange(connection, stream, address, path):
    path, *field = path.split("\t")
    fields = [(":method", "GET"), (":authority", address), (":scheme", "http"), (":path", path)]
    number = connection.get_next_available_stream_id()
    connection.send_headers(number, fields + [("x-field", value) for value in field], end_stream=True)
    stream.sendall(connection.data_to_send())
    told, body = {"path": path, "status": None, "reset": None, "ended": False}, b""
    while True:
        received = stream.recv(65536)
        for event in connection.receive_data(received) if received else []:
            if isinstance(event, h2.events.ConnectionTerminated):
                return told | {"ended": True}
            if getattr(event, "stream_id", None) != number:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                told["status"] = int(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.StreamReset):
                return told | {"reset": int(event.error_code), "body": body.decode()}
            elif isinstance(event, h2.events.StreamEnded):
                return told | {"body": body.decode()}
        if not received:
            return told | {"ended": True}
        stream.sendall(connection.data_to_send())


main(sys.argv[1:])
