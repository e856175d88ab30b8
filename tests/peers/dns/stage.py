"""What a test of names needs inside a network namespace: a name server that obeys, APIs at addresses of their own, a token
endpoint, and the proxy between them. `enter.sh` makes the namespace."""
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SERVER = "10.96.0.10"


class NameServer:
    """Serves A records on port 53; `mute` drops every query."""

    def __init__(self):
        self.records, self.mute, self.queries = {}, False, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((SERVER, 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, peer = self.socket.recvfrom(4096)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, (kind,) = ".".join(labels), struct.unpack(">H", query[at + 1:at + 3])
            self.queries.append(name)
            if self.mute:
                continue
            addresses = self.records.get(name)
            found = addresses if kind == 1 and addresses else []
            code = 0x8180 if addresses is not None else 0x8183
            head = struct.pack(">HHHHHH", struct.unpack(">H", query[:2])[0], code, 1, len(found), 0, 0)
            body = query[12:at + 5]
            for address in found:
                body += struct.pack(">HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address)
            self.socket.sendto(head + body, peer)


class Api:
    """An API at `address` that says where it is; `close` ends each connection, `/slow` takes a while, `/token` gives tokens."""

    def __init__(self, address, port=80, close=False, lifetime=3600):
        self.requests = self.tokens = self.connections = 0
        api, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                with lock:
                    api.connections += 1

            def respond(self, body):
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                if close:
                    self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                with lock:
                    api.requests += 1
                if self.path.endswith("/slow"):
                    self.send_response(200)
                    self.send_header("content-length", "20")
                    self.end_headers()
                    for _ in range(20):
                        time.sleep(0.5)
                        self.wfile.write(b"x")
                else:
                    self.respond(address.encode())

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                with lock:
                    api.tokens += 1
                token = {"access_token": f"made-up-{api.tokens}", "token_type": "Bearer", "expires_in": lifetime}
                self.respond(json.dumps(token).encode())

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

        self.server = Server((address, port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def deaf(address, port=80):
    """A listener whose queue is full: the kernel drops every further SYN."""
    listener = socket.socket()
    listener.bind((address, port))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex((address, port))
        fillers.append(filler)
    return [listener, *fillers]


def silent(address, port):
    """A listener that accepts connections and then says nothing."""
    listener = socket.create_server((address, port), backlog=64)
    held = []

    def accept():
        while True:
            held.append(listener.accept())

    threading.Thread(target=accept, daemon=True).start()
    return held


class Nginx:
    """nginx with these servers: an API that speaks HTTP/2."""

    def __init__(self, servers):
        folders = "".join(f"{kind}_temp_path t; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open("nginx.conf", "w") as file:
            file.write("user root; daemon off; pid nginx.pid; error_log stderr; events {} "
                       f"http {{ access_log off; {folders} {servers} }}")
        self.process = subprocess.Popen(
            [os.environ["NGINX"], "-p", os.getcwd(), "-e", "stderr", "-c", "nginx.conf"], stderr=open("nginx.log", "w"))

    def kill(self):
        self.process.kill()


class Cupbearer:
    """The program itself, with `config`."""

    def __init__(self, config):
        with open("config.toml", "w") as file:
            file.write(config)
        self.log_file = open("run.log", "w+b")
        self.process = subprocess.Popen(
            [os.environ["CUPBEARER"], "run", "--config", "config.toml", "--insecure-plaintext"],
            stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=self.log_file)
        until("the proxy listens", lambda: connects(8080))

    def log(self):
        self.until_logged()
        with open("run.log", "rb") as file:
            return file.read().decode()

    def until_logged(self):
        """Waits until the thread that writes the log waits for more: in futex(2), without a limit of time."""
        def waits(task):
            try:
                words = open(f"{task}/syscall").read().split()
            except OSError:
                return True
            return words[0] in ("202", "98") and words[4:5] == ["0x0"]

        folder = f"/proc/{self.process.pid}/task"
        tasks = [f"{folder}/{task}" for task in os.listdir(folder)] if os.path.isdir(folder) else []
        for task in tasks:
            if os.path.exists(f"{task}/comm") and open(f"{task}/comm").read() == "log\n":
                until("the log is written", lambda: waits(task))

    def get(self, path="/", timeout=60):
        """Status, kind of the proxy's own error, body."""
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=timeout)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.getheader("cupbearer-error"), response.read().decode()
        finally:
            connection.close()

    def status(self):
        run = subprocess.run([os.environ["CUPBEARER"], "status", "--config", "config.toml", "--json"],
                             capture_output=True, text=True, check=False)
        return run.stdout

    def of_proc(self, field):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(rf"^{field}:\s+(\d+)", file.read(), re.M)[1])

    def threads(self):
        return self.of_proc("Threads")

    def lives(self):
        return self.process.poll() is None


def connects(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(what, holds, patience=60):
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, f"never seen: {what}\n{open('run.log').read() if os.path.exists('run.log') else ''}"
        time.sleep(0.05)


def burst(proxy, path, count):
    """`count` requests at a time; their responses."""
    responses = []

    def one():
        responses.append(proxy.get(path))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return responses


TOKEN = '[tokens.api]\ngrant = "static"\ntoken = "made-up"\n'


def config(upstreams, tokens="", routes=None, more=""):
    """A configuration with these upstreams, each at a path of its own name."""
    lines = ['[server]\nlisten = ["127.0.0.1:8080"]\nworkers = 2\n[log]\nformat = "json"\n' + more]
    for name, keys in upstreams.items():
        lines.append(f"[upstreams.{name}]\n{keys}\n")
    lines.append(tokens or TOKEN)
    for name, path in (routes or {name: f"/{name}" for name in upstreams}).items():
        lines.append(f'[[routes]]\npath = "{path}"\nupstream = "{name}"\ntoken = "api"\n')
    return "".join(lines)
