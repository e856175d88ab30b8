"""Clients that cost a proxy memory, all in one process, and a well-behaved one beside them.

    load.py ADDRESS KIND COUNT SECONDS

Each kind opens COUNT connections at once and holds them for SECONDS. Meanwhile the well-behaved client sends a GET every
100 ms, each on a connection of its own. The last line is a JSON object: what came of the load and of the well-behaved.
"""

import asyncio
import collections
import json
import re
import resource
import socket
import struct
import sys
import time

HOST, PORT = sys.argv[1].rsplit(":", 1)
KIND, COUNT, SECONDS = sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
ADDRESS = (HOST, int(PORT))
AUTHORITY = sys.argv[1].encode()

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def head(method, path):
    fields = [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", AUTHORITY)]
    return b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields)


def request(method, path, more=b""):
    return method + b" " + path + b" HTTP/1.1\r\nHost: " + AUTHORITY + b"\r\n" + more + b"\r\n"


loop = asyncio.new_event_loop()
BEGUN = time.monotonic()
outcomes = collections.Counter()
# The first of the proxy's own responses, as it came.
refusals = []


async def connect():
    sock = socket.socket()
    sock.setblocking(False)
    # What is not read stays with the proxy, not here.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await loop.sock_connect(sock, ADDRESS)
    return sock


async def status(sock):
    """The status of a response of HTTP/1.1, read to the end of its head; with its error, where it is the proxy's own."""
    read = b""
    while b"\r\n\r\n" not in read:
        part = await loop.sock_recv(sock, 4096)
        if not part:
            return "closed"
        read += part
    if b"cupbearer-error:" in read and not refusals:
        head, body = read.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        while len(body) < length and (part := await loop.sock_recv(sock, 4096)):
            body += part
        refusals.append((head + b"\r\n\r\n" + body).decode())
    number = read.split(b" ", 2)[1].decode()
    for line in read.lower().split(b"\r\n"):
        if line.startswith(b"cupbearer-error:"):
            return number + " " + line.split(b":", 1)[1].strip().decode()
    return number


async def stalled_reader(path=b"/endless"):
    sock = await connect()
    await loop.sock_sendall(sock, request(b"GET", path))
    outcome = await status(sock)
    outcomes[outcome] += 1
    return sock if outcome == "200" else sock.close()


async def slow_reader():
    """100 kB a second of an endless response, over a socket as any application has it."""
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ADDRESS)
    await loop.sock_sendall(sock, request(b"GET", b"/endless"))
    # In time for its outcome to count.
    end = BEGUN + SECONDS - 0.5
    while time.monotonic() < end:
        left = 10_000
        while left > 0 and time.monotonic() < end:
            try:
                part = await asyncio.wait_for(loop.sock_recv(sock, left), max(0.01, end - time.monotonic()))
            except asyncio.TimeoutError:
                break
            except ConnectionError:
                part = b""
            if not part:
                outcomes["cut"] += 1
                return sock.close()
            left -= len(part)
        await asyncio.sleep(0.1)
    outcomes["read on"] += 1
    return sock


async def get():
    sock = await connect()
    await loop.sock_sendall(sock, request(b"GET", b"/slow"))
    outcomes[await status(sock)] += 1
    return sock


async def post():
    sock = await connect()
    body = b"b" * 60_000
    length = b"Content-Length: %d\r\n" % len(body)
    await loop.sock_sendall(sock, request(b"POST", b"/slow", length) + body)
    outcomes[await status(sock)] += 1
    return sock


async def idle():
    sock = await connect()
    outcomes["connected"] += 1
    await asyncio.sleep(SECONDS)
    return sock


async def half_head():
    sock = await connect()
    begun = b"GET / HTTP/1.1\r\nHost: " + AUTHORITY + b"\r\n"
    while len(begun) < 60 * 1024:
        begun += b"X-Filler-%d: %s\r\n" % (len(begun), b"f" * 4000)
    await loop.sock_sendall(sock, begun)
    outcomes["sent"] += 1
    outcomes[await status(sock)] += 1
    return sock


async def unread_head():
    sock = await connect()
    await loop.sock_sendall(sock, request(b"GET", b"/large-head"))
    outcomes["sent"] += 1
    await asyncio.sleep(SECONDS)
    return sock


async def large_heads():
    """One large head after the other, each on a connection of its own."""
    while time.monotonic() < BEGUN + SECONDS - 1:
        sock, begun = await connect(), time.monotonic()
        await loop.sock_sendall(sock, request(b"GET", b"/large-head"))
        outcome = await status(sock)
        outcomes[outcome if time.monotonic() < begun + 2 else outcome + " in the end"] += 1
        sock.close()


def literal(name, value):
    """A field that goes into the dynamic table, where the newest has the index 62."""
    rest = len(value) - 127
    length = bytes([127, rest & 127 | 128, rest >> 7]) if rest >= 0 else bytes([len(value)])
    return b"\x40" + bytes([len(name)]) + name + length + value


async def http2_burst(path, streams, entry=b"", uses=0, continued=False):
    """So many GETs at once on one connection, whose responses are not read. Each refers to the entry so many times."""
    sock = await connect()
    data = PREFACE + frame(SETTINGS, 0, 0)
    for number in range(streams):
        block, more = head(b"GET", path) + (b"" if number else entry), b"\xbe" * uses
        if continued:
            data += frame(HEADERS, END_STREAM, 1 + 2 * number, block)
            data += frame(CONTINUATION, END_HEADERS, 1 + 2 * number, more)
        else:
            data += frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, block + more)
    # All of them have connected before the first request.
    await asyncio.sleep(max(0, BEGUN + 1.5 - time.monotonic()))
    await loop.sock_sendall(sock, data)
    outcomes["sent"] += 1
    await asyncio.sleep(SECONDS)
    return sock


def http2_heads():
    return http2_burst(b"/large-head", 200)


def http2_trailers():
    return http2_burst(b"/large-trailers", 200)


def http2_cookies():
    return http2_burst(b"/slow", 128, literal(b"cookie", b"c" * 3900), 14)


def http2_fields():
    return http2_burst(b"/slow", 128, literal(b"a", b"b"), 1800)


def http2_continued():
    return http2_burst(b"/slow", 128, literal(b"a", b"b"), 1800, continued=True)


async def stuck_upload():
    """HTTP/2 uploads on one connection, each as far as the windows let it."""
    sock = await connect()
    streams = [1, 3, 5, 7]
    await loop.sock_sendall(sock, PREFACE + frame(SETTINGS, 0, 0))
    for stream in streams:
        await loop.sock_sendall(sock, frame(HEADERS, END_HEADERS, stream, head(b"POST", b"/never")))
    windows = collections.defaultdict(lambda: 65_535)
    initial, held = 65_535, b""
    last, turn = time.monotonic(), 0
    while time.monotonic() - last < SECONDS:
        free = [s for s in streams if windows[s] >= 8192 and windows[0] >= 8192]
        if free:
            stream = free[turn % len(free)]
            turn += 1
            try:
                await asyncio.wait_for(
                    loop.sock_sendall(sock, frame(DATA, 0, stream, b"u" * 8192)), SECONDS)
            except asyncio.TimeoutError:
                break
            windows[stream] -= 8192
            windows[0] -= 8192
            outcomes["bytes"] += 8192
            continue
        try:
            part = await asyncio.wait_for(loop.sock_recv(sock, 65_536), 1)
        except asyncio.TimeoutError:
            continue
        if not part:
            outcomes["closed"] += 1
            break
        held += part
        while len(held) >= 9 and len(held) >= 9 + int.from_bytes(held[:3], "big"):
            length, kind, flags = int.from_bytes(held[:3], "big"), held[3], held[4]
            stream = int.from_bytes(held[5:9], "big") & 0x7FFFFFFF
            payload, held = held[9:9 + length], held[9 + length:]
            if kind == SETTINGS and not flags & ACK:
                for at in range(0, length, 6):
                    key, value = struct.unpack(">HI", payload[at:at + 6])
                    if key == 4:
                        for each in streams:
                            windows[each] += value - initial
                        initial = value
                await loop.sock_sendall(sock, frame(SETTINGS, ACK, 0))
            elif kind == WINDOW_UPDATE:
                windows[stream] += int.from_bytes(payload, "big")
            elif kind == RST_STREAM or kind == HEADERS:
                outcomes["refused"] += 1
                windows[stream] = -(1 << 40)
    outcomes["held"] += 1
    return sock


async def well_behaved(until):
    """A GET every 100 ms, each on a connection of its own."""
    seen, slowest = collections.Counter(), 0
    while time.monotonic() < until:
        begun = time.monotonic()
        sock = socket.socket()
        sock.setblocking(False)
        try:
            async with asyncio.timeout(30):
                await loop.sock_connect(sock, ADDRESS)
                await loop.sock_sendall(sock, request(b"GET", b"/", b"Connection: close\r\n"))
                seen[await status(sock)] += 1
        except (TimeoutError, OSError) as error:
            seen[type(error).__name__] += 1
        finally:
            sock.close()
        slowest = max(slowest, time.monotonic() - begun)
        await asyncio.sleep(0.1)
    return seen, slowest


async def held(one):
    try:
        return await asyncio.wait_for(one(), SECONDS)
    except asyncio.TimeoutError:
        outcomes["waiting"] += 1
    except OSError as error:
        outcomes[type(error).__name__] += 1


KINDS = {
    "stalled": stalled_reader, "slow": slow_reader, "uploads": stuck_upload, "posts": post, "gets": get, "idle": idle,
    "heads": half_head, "unread_heads": unread_head, "large_heads": large_heads, "http2_heads": http2_heads, "http2_trailers": http2_trailers,
    "http2_cookies": http2_cookies, "http2_fields": http2_fields, "http2_continued": http2_continued,
}


async def main():
    until = time.monotonic() + SECONDS
    beside = asyncio.create_task(well_behaved(until + 1))
    await asyncio.sleep(0.3)
    kept = await asyncio.gather(*(held(KINDS[KIND]) for _ in range(COUNT)))
    await asyncio.sleep(max(0, until - time.monotonic()))
    seen, slowest = await beside
    for sock in filter(None, kept):
        sock.close()
    print(json.dumps({"event": "done", "load": outcomes, "well_behaved": seen, "slowest": round(slowest, 2),
                      "refusal": "".join(refusals)}), flush=True)


limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
