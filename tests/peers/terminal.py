"""A program on a terminal whose output is stopped by Ctrl-S, and goes on by Ctrl-Q.

    terminal.py LISTEN HEALTH PROGRAM ARGUMENT...
"""

import http.client
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time

listen, health, *command = sys.argv[1:]
PATIENCE = 20


def until(what, holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"still not so: {what}")
        time.sleep(0.02)


def get(address, path):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def dropped():
    return int(re.search(r"^cupbearer_log_lines_dropped_total (\d+)$", get(health, "/metrics"), re.M)[1])


def lives():
    try:
        return get(health, "/livez") is not None
    except OSError:
        return False


master, slave = pty.openpty()
program = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
os.close(slave)
shown = bytearray()


def read():
    while True:
        try:
            shown.extend(os.read(master, 65536))
        except OSError:
            return


threading.Thread(target=read, daemon=True).start()
until("it lives", lives)
os.write(master, b"\x13")
connection, answered = http.client.HTTPConnection(listen, timeout=PATIENCE), 0
for number in range(4000):
    connection.request("GET", f"/{number}/" + "x" * 300)
    response = connection.getresponse()
    response.read()
    answered += response.status == 200
lost = dropped()
os.write(master, b"\x11")
until("the loss is reported", lambda: b"log lines were dropped" in shown)
reported = int(re.search(rb"log lines were dropped[^\r\n]*dropped=(\d+)\r?\n", shown)[1])
program.terminate()
print(json.dumps({"answered": answered, "dropped": lost, "reported": reported, "exit": program.wait(PATIENCE)}))
