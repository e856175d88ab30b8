"""What a container without any network but its own loopback can call: names, an authorization server and an API.

world.py NAME=ADDRESS[,ADDRESS]...   answers DNS on 127.0.0.1:53 for these names alone: by the first address, and after a SIGHUP by the second. HTTP
on port 8000 of every address: a token for POST /token, and for all else what the request's Authorization was and at which address it came. It
closes each connection. Says "ready" once it does, each name that it was asked for with the record's kind, and "changed" after the signal.
"""
import http.server
import ipaddress
import json
import signal
import socket
import sys
import threading

NAMES = {name: addresses.split(",") for name, addresses in (word.split("=") for word in sys.argv[1:])}
KINDS = {1: 4, 28: 6}


def change(*_):
    for addresses in NAMES.values():
        addresses[:] = addresses[-1:]
    print("changed", flush=True)


def names():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 53))
    while True:
        query, peer = udp.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, kind = ".".join(labels), query[at + 1 : at + 3]
        print("asked", name, {1: "A", 28: "AAAA"}.get(int.from_bytes(kind, "big")), flush=True)
        known = NAMES.get(name)
        answer = b""
        if known:
            address = ipaddress.ip_address(known[0])
            if KINDS.get(int.from_bytes(kind, "big")) == address.version:
                size = len(address.packed).to_bytes(2, "big")
                answer = b"\xc0\x0c" + kind + b"\x00\x01\x00\x00\x00\x01" + size + address.packed
        flags = b"\x81\x80" if known else b"\x81\x83"
        head = query[:2] + flags + b"\x00\x01" + (b"\x00\x01" if answer else b"\x00\x00") + b"\x00\x00\x00\x00"
        udp.sendto(head + query[12 : at + 5] + answer, peer)


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.say({"access_token": "of-the-pod", "token_type": "Bearer", "expires_in": 300})

    def do_GET(self):
        at = self.connection.getsockname()[0].removeprefix("::ffff:")
        self.say({"authorization": self.headers.get("authorization"), "host": self.headers.get("host"), "at": at})

    def say(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6


signal.signal(signal.SIGHUP, change)
threading.Thread(target=names, daemon=True).start()
# Where it is not for IPv6 alone, a socket of IPv6 takes what comes by IPv4, too.
server = Server(("::", 8000), Answers)
print("ready", flush=True)
server.serve_forever()
