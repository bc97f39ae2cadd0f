#!/usr/bin/env python3
"""Restarts by socket activation under load: no connection is refused, no call is lost.

    restarts.py BINARY [--restarts 1000] [--callers 4]

Holds the listening socket, as systemd does for switchboard.socket, and starts BINARY with it over and over, while callers
send signed webhooks on fresh connections. Every process is ended by SIGTERM in the midst of that, as `systemctl restart`
does. Afterwards every call that got an answer must be in the database with that answer. Needs Python and Linux only.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
PUBLIC_URL = "https://calls.example.com"
TOKEN = "0123456789abcdef0123456789abcdef"
ACCOUNT = "AC00000000000000000000000000000001"

CONFIG = """
[server]
listen = "127.0.0.1:{port}"
public_url = "{url}"
[storage]
path = "{folder}/switchboard.db"
[twilio]
account_sid = "{account}"
auth_token = [{{ file = "{folder}/token" }}]
api_base = "http://127.0.0.1:{outside}"
[braze]
base_url = "http://127.0.0.1:{outside}"
api_key = {{ file = "{folder}/token" }}
[routing]
default_dialer = "dialfire"
[dialers.dialfire]
kind = "dialfire"
connect = "+493012345678"
campaign = "AB12CD34EF56GH78"
task = "inbound_hot"
token = {{ file = "{folder}/token" }}
base_url = "http://127.0.0.1:{outside}"
"""


def signed(fields):
    text = PUBLIC_URL + "/webhooks/twilio" + "".join(k + fields[k] for k in sorted(fields))
    return base64.b64encode(hmac.new(TOKEN.encode(), text.encode(), hashlib.sha1).digest()).decode()


class Caller(threading.Thread):
    """Sends calls one after another, each on a connection of its own, until told to stop."""

    def __init__(self, number, port, stop):
        super().__init__(daemon=True)
        self.number, self.port, self.stop = number, port, stop
        self.answered, self.failures, self.slowest = [], [], 0.0

    def run(self):
        count = 0
        while not self.stop.is_set():
            count += 1
            sid = "CA%08x%024x" % (self.number, count)
            fields = {
                "AccountSid": ACCOUNT, "CallSid": sid, "CallStatus": "ringing", "Direction": "inbound",
                "From": "+4930123456", "To": "+4930654321",
            }
            began = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
                connection.request(
                    "POST", "/webhooks/twilio", urllib.parse.urlencode(fields),
                    {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": signed(fields)},
                )
                answer = connection.getresponse()
                body = answer.read().decode()
                connection.close()
                if answer.status == 200 and "<Dial" in body:
                    self.answered.append((sid, body))
                else:
                    self.failures.append((sid, f"{answer.status} {body[:200]}"))
            except OSError as error:
                self.failures.append((sid, repr(error)))
            except http.client.HTTPException as error:
                self.failures.append((sid, repr(error)))
            self.slowest = max(self.slowest, time.monotonic() - began)


class Service:
    """What systemd does: hands the socket over as file descriptor 3, starts, stops."""

    def __init__(self, binary, config, listener, log):
        self.binary, self.config, self.listener, self.log = binary, config, listener, log
        self.process = None

    def start(self):
        listening = self.listener.fileno()

        def take_the_socket():
            os.dup2(listening, 3, inheritable=True)

        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh", self.binary, "--config", self.config, "serve"],
            preexec_fn=take_the_socket, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.log,
        )

    def stop(self):
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=45)
        return code, time.monotonic() - began


def serves(port):
    """Whether the process behind the socket answers. The connection waits in the queue until it does."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False


def recorded(path):
    """The calls whose answer is in the database, and in the audit trail."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    answers = {row[0] for row in database.execute("SELECT sid FROM calls WHERE id IN (SELECT call_id FROM answers)")}
    records = {row[0] for row in database.execute("SELECT call_sid FROM audit_records WHERE kind = 'call_answered'")}
    database.close()
    return answers & records


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("binary")
    asked.add_argument("--restarts", type=int, default=1000)
    asked.add_argument("--callers", type=int, default=4)
    asked = asked.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        outside = subprocess.Popen([sys.executable, os.path.join(HERE, "standins.py")], stdout=subprocess.PIPE, text=True)
        outside_port = int(outside.stdout.readline())
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        port = listener.getsockname()[1]
        with open(os.path.join(folder, "token"), "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            file.write(TOKEN)
        config = os.path.join(folder, "config.toml")
        with open(config, "w") as file:
            file.write(CONFIG.format(port=port, url=PUBLIC_URL, folder=folder, account=ACCOUNT, outside=outside_port))
        log_path = os.path.join(folder, "log")
        log = open(log_path, "wb")
        service = Service(asked.binary, config, listener, log)
        stop = threading.Event()
        callers = [Caller(number, port, stop) for number in range(1, asked.callers + 1)]
        problems = []
        stops, starts = [], []
        began = time.monotonic()
        try:
            service.start()
            if not serves(port):
                raise SystemExit("the service does not start: " + open(log_path).read()[-2000:])
            for caller in callers:
                caller.start()
            for number in range(1, asked.restarts + 1):
                # A different moment every time.
                time.sleep(0.02 + (number * 7919 % 80) / 1000)
                code, took = service.stop()
                stops.append(took)
                if code != 0:
                    problems.append(f"restart {number}: ended with {code}")
                at = time.monotonic()
                service.start()
                if not serves(port):
                    problems.append(f"restart {number}: does not serve")
                starts.append(time.monotonic() - at)
                if number % 100 == 0:
                    print(f"{number} restarts, {sum(len(c.answered) for c in callers)} calls", flush=True)
            stop.set()
            for caller in callers:
                caller.join(timeout=30)
            code, _ = service.stop()
            if code != 0:
                problems.append(f"the last stop: ended with {code}")
        finally:
            if service.process.poll() is None:
                service.process.kill()
            outside.terminate()
        took = time.monotonic() - began

        known = recorded(os.path.join(folder, "switchboard.db"))
        answered = [sid for caller in callers for sid, _ in caller.answered]
        failures = [failure for caller in callers for failure in caller.failures]
        lost = [sid for sid in answered if sid not in known]
        stops.sort()
        starts.sort()
        print(json.dumps({
            "restarts": asked.restarts,
            "seconds": round(took, 1),
            "calls_answered": len(answered),
            "calls_refused_or_failed": len(failures),
            "answered_but_not_recorded": len(lost),
            "slowest_answer_ms": round(max(caller.slowest for caller in callers) * 1000),
            "start_to_first_answer_ms": {"p50": round(starts[len(starts) // 2] * 1000), "max": round(starts[-1] * 1000)},
            "stop_ms": {"p50": round(stops[len(stops) // 2] * 1000), "max": round(stops[-1] * 1000)},
        }, indent=1))
        for sid, why in failures[:10]:
            print(f"failed: {sid}: {why}", file=sys.stderr)
        for problem in problems[:10]:
            print(problem, file=sys.stderr)
        if failures or problems:
            sys.stderr.write(open(log_path, errors="replace").read()[-3000:])
        if failures or lost or problems or len(answered) < asked.restarts:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
