"""The world around the real binary: stand-ins of Braze and a dialer, Twilio as a client that signs, and the checks afterwards.

Nothing here shares code with the product: the signature is computed from Twilio's description, and the database is read
with the sqlite3 of Python.
"""

import asyncio
import base64
import hashlib
import hmac
import html
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

PUBLIC_URL = "https://calls.example.com"
AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
KINDS = ("call_decided", "call_answered")
# What Twilio tells of a line that is answered.
LEG = (
    ("initiated", ()),
    ("ringing", ()),
    ("in-progress", ()),
    ("completed", (("CallDuration", "72"), ("SipResponseCode", "200"))),
)
START_PATIENCE_S = 60
ANSWER_PATIENCE_S = 40


def sign(url, fields):
    text = url + "".join(key + value for key, value in sorted(fields))
    digest = hmac.new(AUTH_TOKEN.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def config(port, outside, database, storage="", braze="", sections="", server=""):
    return f"""
[server]
listen = "127.0.0.1:{port}"
public_url = "{PUBLIC_URL}"
{server}

[storage]
path = "{database}"
{storage}

[twilio]
account_sid = "AC00000000000000000000000000000001"
auth_token = "{AUTH_TOKEN}"
caller_id = "+4930123456"

[braze]
base_url = "http://127.0.0.1:{outside}"
api_key = "made-up"
score_attribute = "lead_score"
requests_per_minute = 100000
{braze}

[routing]
default_dialer = "line"
last_resort_number = "+4930999999"

[[routing.tiers]]
name = "hot"
min_score = 80

[[routing.rules]]
name = "hot leads"
tier = ["hot"]
dialers = ["line"]

[dialers.line]
kind = "http"
connect = "+4930555000"
url = "http://127.0.0.1:{outside}/calls"
health_url = "http://127.0.0.1:{outside}/health"
body = {{ phone_number = "{{caller}}", call_sid = "{{call_sid}}" }}
probe_every = "1h"
{sections}
"""


async def read_message(reader):
    """Head and body of one HTTP message with a content length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return head, await reader.readexactly(length)


class Outside:
    """Braze and the dialer, on one port. Remembers whom the dialer was told."""

    def __init__(self):
        self.told = set()
        self.server = None

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.server.sockets[0].getsockname()[1]

    def score(self, phone):
        return 90

    async def serve(self, reader, writer):
        try:
            while True:
                head, body = await read_message(reader)
                status, answer = "200 OK", {}
                if head.startswith(b"POST /users/export/ids"):
                    status = "201 Created"
                    phone = json.loads(body).get("phone", "")
                    user = {"external_id": "x" + phone[1:], "phone": phone, "custom_attributes": {"lead_score": self.score(phone)}}
                    answer = {"users": [user], "message": "success"}
                elif head.startswith(b"POST /calls"):
                    self.told.add(json.loads(body)["call_sid"])
                text = json.dumps(answer).encode()
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


class Appliance:
    """The binary, its directory, and how it is started."""

    def __init__(self, binary, outside_port, directory, storage="", wrapper=(), environment=None, braze=""):
        self.binary = str(binary)
        self.directory = Path(directory)
        self.database = self.directory / "switchboard.db"
        self.outside_port = outside_port
        self.storage = storage
        self.braze = braze
        self.sections = ""
        self.server = ""
        self.wrapper = list(wrapper)
        self.environment = environment or {}
        self.process = None
        self.port = None
        # The configuration and the log lie beside the state, so that a full or dead disk does not concern them.
        self.home = Path(tempfile.mkdtemp(prefix="switchboard-faults-"))
        self.log = self.home / "log"

    def spawn(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        path = self.home / "config.toml"
        path.touch(mode=0o600)
        path.write_text(config(self.port, self.outside_port, self.database, self.storage, self.braze, self.sections, self.server))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, self.binary, "--config", str(path), "serve"],
                stderr=log,
                stdout=subprocess.DEVNULL,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    async def start(self, patience=START_PATIENCE_S):
        """Starts it; gives the seconds until it was healthy, or None where it ended instead."""
        self.spawn()
        started = time.monotonic()
        while time.monotonic() - started < patience:
            if self.process.poll() is not None:
                return None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = await asyncio.wait_for(reader.read(), 5)
                writer.close()
                if b" 200 " in answer:
                    return time.monotonic() - started
            except (ConnectionError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(0.005)
        raise AssertionError(f"it does not start: {self.tail()}")

    def kill(self):
        """kill -9, of a wrapper's child as well."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self, patience=60):
        """SIGTERM; gives the exit code."""
        for pid in self.children() or [self.process.pid]:
            os.kill(pid, signal.SIGTERM)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not stop: {self.tail()}") from None

    def children(self):
        """The traced process, where a wrapper runs it."""
        if not self.wrapper:
            return []
        try:
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except FileNotFoundError:
            return []
        return [int(pid) for pid in text.split()]

    def lines(self, event):
        """The lines of the log with this event."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            if f'"{event}"' in line:
                found.append(json.loads(line))
        return found

    def tail(self):
        return self.log.read_text(errors="replace")[-3000:]

    def panicked(self):
        text = self.log.read_text(errors="replace")
        return "panicked at" in text or '"panic' in text

    def discard(self):
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


_calls = itertools.count(1)
_run = secrets.token_hex(8)


def new_sid():
    return f"CA{_run}{next(_calls):016x}"


class Answers:
    """What the client received: the acknowledged calls with their TwiML, how long each took, and what failed."""

    def __init__(self):
        self.twiml = {}
        self.seconds = []
        self.failed = []

    def late(self, budget=2.0):
        return [s for s in self.seconds if s > budget]

    def percentile(self, share):
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class Caller:
    """One connection on which call after call arrives."""

    def __init__(self, port, answers):
        self.port = port
        self.answers = answers
        self.reader = self.writer = None

    async def call(self, sid=None):
        sid = sid or new_sid()
        started = time.monotonic()
        head, text = await self.post("/webhooks/twilio", sid, "ringing")
        self.answers.seconds.append(time.monotonic() - started)
        if not head.startswith(b"HTTP/1.1 200") or "<Response>" not in text or "</Response>" not in text:
            self.answers.failed.append((sid, head.decode(errors="replace") + text))
            return None
        self.answers.twiml[sid] = text
        return sid

    async def hang_up(self, sid):
        """The number's own callback at the end of a call."""
        head, text = await self.post("/webhooks/twilio/status", sid, "completed")
        if not head.startswith(b"HTTP/1.1 200"):
            self.answers.failed.append((sid, head.decode(errors="replace") + text))

    async def whole(self):
        """A call with all its callbacks: its line rings, is answered, talks and ends, the dial ends, the caller's leg ends."""
        sid = await self.call()
        urls = re.findall(r'(?:action|statusCallback)="([^"]*)"', self.answers.twiml.get(sid, ""))
        paths = {kind: html.unescape(url).removeprefix(PUBLIC_URL).split("#")[0] for url in urls for kind in ("dial", "status") if f"/{kind}?" in url}
        leg = f"CA{sid[2:][::-1]}"
        for n, (status, more) in enumerate(LEG):
            fields = [("ParentCallSid", sid), ("SequenceNumber", str(n)), *more]
            await self.post(paths["status"], leg, status, fields, direction="outbound-dial")
        ended = [("DialCallDuration", "72"), ("DialCallSid", leg), ("DialCallStatus", "completed")]
        await self.post(paths["dial"], sid, "in-progress", ended)
        await self.post("/webhooks/twilio/status", sid, "completed", [("CallDuration", "80"), ("SequenceNumber", "0")])

    async def post(self, path, sid, status, more=(), direction="inbound"):
        fields = [
            *more,
            ("AccountSid", "AC00000000000000000000000000000001"),
            ("ApiVersion", "2010-04-01"),
            ("CallSid", sid),
            ("CallStatus", status),
            ("Called", "+4930123456"),
            ("Caller", caller(sid)),
            ("Direction", direction),
            ("From", caller(sid)),
            ("To", "+4930123456"),
        ]
        body = urllib.parse.urlencode(fields).encode()
        signature = sign(PUBLIC_URL + path, fields)
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(
            f"POST {path} HTTP/1.1\r\nHost: calls.example.com\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"X-Twilio-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head, answer = await asyncio.wait_for(read_message(self.reader), ANSWER_PATIENCE_S)
        return head, answer.decode()

    def close(self):
        if self.writer is not None:
            self.writer.close()


def caller(sid):
    return f"+49151{int(sid[-4:], 16) % 200:08}"


async def load(port, answers, stop, connections=16, per_second=None):
    """Calls until `stop` is set or the process is gone. A call that was cut off was not acknowledged, and counts for nothing."""

    async def one():
        line = Caller(port, answers)
        while not stop.is_set():
            due = time.monotonic() + (connections / per_second if per_second else 0)
            try:
                await line.call()
            except (ConnectionError, asyncio.IncompleteReadError):
                if stop.is_set():
                    break
                # A call that fails while the process is up is a failed call.
                answers.failed.append((None, "the connection was lost"))
                break
            except asyncio.TimeoutError:
                answers.failed.append((None, "no answer"))
                break
            await asyncio.sleep(max(0, due - time.monotonic()))
        line.close()

    await asyncio.gather(*(one() for _ in range(connections)))


def records_of(database, sids):
    """The kinds of records of these calls, read beside whoever writes."""
    found = {sid: [] for sid in sids}
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as db:
        for sid in sids:
            rows = db.execute(
                "SELECT kind FROM audit_records WHERE call_id = (SELECT id FROM calls WHERE sid = ?) ORDER BY id", (sid,)
            )
            found[sid] = [row[0] for row in rows]
    db.close()
    return found


def missing(database, twiml, safe_answers=0):
    """Acknowledged calls without their records. A safe answer (overload) has none by design and is counted apart."""
    found = records_of(database, twiml)
    lost = []
    for sid, kinds in found.items():
        is_routed = "+4930555000" in twiml[sid]
        if "call_answered" not in kinds or (is_routed and not set(KINDS) <= set(kinds)):
            lost.append((sid, kinds))
    return lost


def chain_problem(database):
    """A gap or a broken link, by the columns alone; None where there is none."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as db:
        before = None
        for record_id, previous, digest in db.execute("SELECT id, previous_hash, hash FROM audit_records ORDER BY id"):
            if before is not None and (record_id != before[0] + 1 or previous != before[1]):
                return f"record {record_id} does not follow {before[0]}"
            before = (record_id, digest)
    db.close()
    return None


def verified(binary, database):
    """What `switchboard audit verify` says of a copy; None where this build has no such command."""
    with tempfile.TemporaryDirectory(prefix="switchboard-verify-") as folder:
        for suffix in ("", "-wal"):
            source = Path(str(database) + suffix)
            if source.exists():
                shutil.copy(source, Path(folder) / f"copy.db{suffix}")
        command = [str(binary), "--json", "audit", "verify", "--database", str(Path(folder) / "copy.db")]
        command += ["--public-key", f"{database}.signing.pub"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode == 2:
            return None
        return json.loads(done.stdout)
