"""An API that speaks WebSocket alone (PyPI websockets): it sends back what comes. Whoever shows no bearer token is
refused. Tells what happens, a JSON object a line."""
import asyncio
import json
import re

from websockets.asyncio.server import serve


def tell(**event):
    print(json.dumps(event), flush=True)


def let_in(connection, request):
    credentials = request.headers.get_all("authorization")
    tell(event="asked", path=request.path, authorization=credentials, origin=request.headers.get("origin"))
    if len(credentials) != 1 or not re.fullmatch(r"Bearer token-\d+", credentials[0]):
        return connection.respond(401, "a bearer token is needed\n")


async def echo(connection):
    async for message in connection:
        await connection.send(message)
    tell(event="closed", code=connection.close_code, reason=connection.close_reason)


async def main():
    async with serve(echo, "127.0.0.1", 0, process_request=let_in) as server:
        tell(event="ready", port=server.sockets[0].getsockname()[1])
        await server.serve_forever()


asyncio.run(main())
