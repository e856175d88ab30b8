"""A WebSocket client, by the package websockets: `client.py URL CASE...`, where URL ends without a path. It tells how each
case went, a JSON object a line, and fails where one did."""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode


def tell(case, **more):
    print(json.dumps({"case": case, **more}), flush=True)


def connect(path, **options):
    return websocket(sys.argv[1] + path, proxy=None, max_size=1 << 24, **options)


async def echo(connection, message):
    await connection.send(message)
    assert await connection.recv() == message, "the echo differs"


async def messages():
    """Text, bytes, nothing, and each length at which a frame's header changes."""
    async with connect("/echo") as connection:
        for message in ["hello", "", "grüße ☕", b"", bytes(range(256))]:
            await echo(connection, message)
        for length in [125, 126, 127, 65535, 65536, 65537]:
            await echo(connection, os.urandom(length))


async def megabytes():
    async with connect("/echo", compression=None) as connection:
        for _ in range(8):
            await echo(connection, os.urandom(1 << 20))


async def both_ways_at_once():
    async with connect("/echo", compression=None) as connection:
        sent = [os.urandom(100_000) for _ in range(50)]

        async def send():
            for message in sent:
                await connection.send(message)

        sending = asyncio.create_task(send())
        for message in sent:
            assert await connection.recv() == message
        await sending


async def fragments():
    async with connect("/echo") as connection:
        await connection.send(piece for piece in ["one ", "two ", "three"])
        assert await connection.recv() == "one two three"


async def pings():
    async with connect("/echo", ping_interval=None) as connection:
        for payload in [b"", b"x", os.urandom(125)]:
            await asyncio.wait_for(await connection.ping(payload), 10)


async def compression():
    async with connect("/echo", compression="deflate") as connection:
        agreed = connection.response.headers["Sec-WebSocket-Extensions"]
        assert "permessage-deflate" in agreed, agreed
        await echo(connection, "coffee " * 10_000)
        await echo(connection, os.urandom(100_000))


async def subprotocol():
    async with connect("/echo", subprotocols=["orders.v1", "other"]) as connection:
        assert connection.subprotocol == "orders.v1", connection.subprotocol
    async with connect("/echo") as connection:
        assert connection.subprotocol is None


async def own_close():
    for code in [1000, 1001, 4000]:
        async with connect("/echo") as connection:
            await echo(connection, "x")
            await connection.close(code, "enough")
            assert connection.close_code == code, connection.close_code


async def their_close():
    for code in [1000, 1001, 4000]:
        async with connect(f"/close/{code}") as connection:
            await connection.send("now")
            try:
                await connection.recv()
            except ConnectionClosed as closed:
                assert (closed.rcvd.code, closed.rcvd.reason) == (code, "as you like"), closed
            else:
                raise AssertionError("it did not close")


async def refusals():
    for status in [401, 403, 426, 503]:
        try:
            async with connect(f"/refuse/{status}"):
                raise AssertionError("it was not refused")
        except InvalidStatus as refused:
            assert refused.response.status_code == status, refused.response
            assert refused.response.headers["X-Why"] == "because"
            assert "Cupbearer-Error" not in refused.response.headers


async def many():
    async def one(number):
        async with connect("/echo") as connection:
            for round in range(5):
                await echo(connection, f"{number} {round}")

    await asyncio.gather(*(one(number) for number in range(40)))


async def hold():
    """A number every 50 ms, until the other side ends it."""
    async with connect("/ticks") as connection:
        expected = 0
        try:
            while True:
                message = await asyncio.wait_for(connection.recv(), 10)
                assert message == str(expected), message
                if expected == 0:
                    tell("hold", open=True)
                expected += 1
        except ConnectionClosed as closed:
            said = closed.rcvd
            tell("hold", count=expected, code=said and said.code, reason=said and said.reason)


async def main():
    for case in sys.argv[2:]:
        await asyncio.wait_for(globals()[case](), 60)
        tell(case, passed=True)


asyncio.run(main())
