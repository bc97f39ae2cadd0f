#!/usr/bin/env python3
"""From the start of the process to READY: start.py BINARY [STARTS]. Prints every start; the median must be below 300 ms."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

CONFIG = """
[server]
listen = "127.0.0.1:0"
public_url = "https://calls.example.com"
[storage]
path = "{folder}/switchboard.db"
[twilio]
account_sid = "AC00000000000000000000000000000001"
auth_token = [{{ file = "{folder}/token" }}]
[braze]
base_url = "http://127.0.0.1:9"
api_key = {{ file = "{folder}/token" }}
[routing]
default_dialer = "dialfire"
[dialers.dialfire]
kind = "dialfire"
connect = "+493012345678"
campaign = "AB12CD34EF56GH78"
task = "inbound_hot"
token = {{ file = "{folder}/token" }}
base_url = "http://127.0.0.1:9"
"""
MOST_MS = 300

binary = os.path.abspath(sys.argv[1])
starts = int(sys.argv[2]) if len(sys.argv) > 2 else 7
with tempfile.TemporaryDirectory() as folder:
    with open(os.path.join(folder, "token"), "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
        file.write("x" * 32)
    config = os.path.join(folder, "config.toml")
    with open(config, "w") as file:
        file.write(CONFIG.format(folder=folder))
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(os.path.join(folder, "notify"))
    notify.settimeout(60)
    took = []
    for number in range(starts):
        began = time.monotonic()
        process = subprocess.Popen(
            [binary, "--config", config, "serve"],
            env={"NOTIFY_SOCKET": os.path.join(folder, "notify"), "PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        while b"READY=1" not in notify.recv(4096):
            pass
        took.append((time.monotonic() - began) * 1000)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        # What it said on its way out.
        notify.setblocking(False)
        try:
            while notify.recv(4096):
                pass
        except BlockingIOError:
            pass
        notify.settimeout(60)
print("ms to READY, the first makes the database: " + " ".join(f"{ms:.0f}" for ms in took))
median = sorted(took)[len(took) // 2]
print(f"median {median:.0f} ms of at most {MOST_MS}")
sys.exit(median >= MOST_MS)
