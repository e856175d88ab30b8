"""A WebSocket server, by the package websockets: the path says what it does. It tells what it saw, a JSON object a line.
`server.py unix PATH` listens on a Unix socket, `server.py tls CERTIFICATE KEY` in TLS, `server.py` on a port in the clear.

/echo          sends back what it gets
/close/CODE    closes with CODE at the first message
/ticks         sends a number every 50 ms
/flood         sends as much as it is let, and tells how much that was
/refuse/STATUS answers the handshake with STATUS
"""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.server import serve, unix_serve
from websockets.exceptions import ConnectionClosed


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def refuse(connection, request):
    if request.path.startswith("/refuse/"):
        answer = connection.respond(int(request.path.split("/")[2]), "no\n")
        answer.headers["X-Why"] = "because"
        return answer
    return None


def select(_connection, offered):
    return "orders.v1" if "orders.v1" in offered else None


async def serve_one(connection):
    path = connection.request.path
    fields = [[name.lower(), value] for name, value in connection.request.headers.raw_items()]
    tell("began", path=path, fields=fields, subprotocol=connection.subprotocol)
    sent = 0
    try:
        if path.startswith("/close/"):
            await connection.recv()
            await connection.close(int(path.split("/")[2]), "as you like")
        elif path == "/ticks":
            for count in range(1_000_000):
                await connection.send(str(count))
                await asyncio.sleep(0.05)
        elif path == "/flood":
            piece = bytes(64 * 1024)
            while True:
                await connection.send(piece)
                sent += len(piece)
                tell("sent", bytes=sent)
        else:
            async for message in connection:
                await connection.send(message)
    except ConnectionClosed:
        pass
    await connection.wait_closed()
    close = connection.protocol.close_rcvd
    tell("ended", path=path, code=connection.close_code, reason=connection.close_reason, said=close is not None)


async def main():
    options = {"process_request": refuse, "select_subprotocol": select, "max_size": 1 << 24}
    how, *files = sys.argv[1:] or ["clear"]
    if how == "unix":
        listening = unix_serve(serve_one, files[0], **options)
    else:
        if how == "tls":
            options["ssl"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            options["ssl"].load_cert_chain(*files)
        listening = serve(serve_one, "127.0.0.1", 0, **options)
    async with listening as server:
        name = server.sockets[0].getsockname()
        tell("listening", port=0 if how == "unix" else name[1])
        await server.serve_forever()


asyncio.run(main())
