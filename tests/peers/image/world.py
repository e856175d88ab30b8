"""What a container without any network but its own loopback can call: names, an authorization server and an API.

world.py NAME=ADDRESS...   answers DNS on 127.0.0.1:53 for these names alone, and HTTP on 127.0.0.1:8000: a token for POST /token, and for all
else what the request's Authorization was. Says "ready" once it does, and each name that it was asked for.
"""
import http.server
import json
import socket
import sys
import threading

NAMES = dict(word.split("=") for word in sys.argv[1:])


def names():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 53))
    while True:
        query, peer = udp.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        name, kind = ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big")
        print("asked", name, flush=True)
        known = NAMES.get(name)
        answer = b""
        if known and kind == 1:
            answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04" + socket.inet_aton(known)
        flags = b"\x81\x80" if known else b"\x81\x83"
        head = query[:2] + flags + b"\x00\x01" + (b"\x00\x01" if answer else b"\x00\x00") + b"\x00\x00\x00\x00"
        udp.sendto(head + query[12 : at + 5] + answer, peer)


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.say({"access_token": "of-the-pod", "token_type": "Bearer", "expires_in": 300})

    def do_GET(self):
        self.say({"authorization": self.headers.get("authorization"), "host": self.headers.get("host")})

    def say(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


threading.Thread(target=names, daemon=True).start()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Answers)
print("ready", flush=True)
server.serve_forever()
