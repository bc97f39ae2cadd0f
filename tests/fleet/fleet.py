"""Two nodes behind a balancer as shipped, a simulated Twilio in front, a dialer behind: what they are and how they are started.

The simulated Twilio is `switchboard simulate twilio`, a program of its own that shares nothing with the product; nodes are the real binary.
"""

import asyncio
import json
import os
import random
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "faults"))
import world  # noqa: E402

ONE, TWO, DESK, ENGAGED, LAST_RESORT = "+4930555001", "+4930555002", "+4930555003", "+4930555004", "+4930999999"
SHARED = "https://calls.example.com"
OWN = {"a": "https://calls-a.example.com", "b": "https://calls-b.example.com"}
OVERRIDES = "#ct=2000&rt=6000&rc=1&rp=ct,rt,5xx"
# The beginning of a caller's number says their score: hot leads go to the first two dialers, lukewarm ones to a line that is always engaged and then to
# the second, the others to the desk, which may have few calls at once.
HOT, LUKEWARM, WARM = "+491511", "+491512", "+491513"
SCORES = {HOT: 90, LUKEWARM: 60, WARM: 50}


def free_port():
    with world.socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def haproxy_version():
    said = subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else (0, 0)


class Outside(world.Outside):
    """Braze and the dialers, on one port, with the time that a dialer takes. Remembers every handoff."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.handoffs = []

    def score(self, phone):
        return SCORES.get(phone[: len(HOT)], 0)

    async def serve(self, reader, writer):
        try:
            while True:
                head, body = await world.read_message(reader)
                status, answer = "200 OK", {}
                if head.startswith(b"POST /users/export/ids"):
                    status = "201 Created"
                    phone = json.loads(body).get("phone", "")
                    answer = {
                        "users": [{"external_id": "x" + phone[1:], "phone": phone, "custom_attributes": {"lead_score": self.score(phone)}}],
                        "message": "success",
                    }
                elif head.startswith(b"POST /calls"):
                    told = json.loads(body)
                    # It counts as told from here on, whether its answer arrives or not.
                    self.handoffs.append((time.time() * 1000, told["dialer"], told["call_sid"]))
                    await asyncio.sleep(random.uniform(0.5, 1.5) * self.seconds)
                text = json.dumps(answer).encode()
                writer.write(f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def config(node, fleet):
    other = "b" if node.name == "a" else "a"
    public = OWN[node.name] if fleet.balancer == "none" else SHARED
    server = f'trusted_proxies = ["127.0.0.1/32"]\npublic_url = "{public}"\n'
    if fleet.names_nodes:
        server += f'node = "{node.name}"\n'
        if fleet.balancer == "none":
            server += f'also_public = ["{OWN[other]}"]\n'
    dialers = "".join(
        f"""
[dialers.{name}]
kind = "http"
connect = "{number}"
url = "http://127.0.0.1:{fleet.outside_port}/calls"
body = {{ dialer = "{name}", call_sid = "{{call_sid}}" }}
"""
        for name, number in (("one", ONE), ("two", TWO), ("desk", DESK), ("engaged", ENGAGED))
    )
    return f"""
[server]
listen = "127.0.0.1:{node.port}"
{server}
[storage]
path = "{node.database}"
secret = {{ file = "{fleet.folder}/secret" }}
spool_mib = 4
ballast_mib = 4

[twilio]
account_sid = "AC00000000000000000000000000000001"
auth_token = "{world.AUTH_TOKEN}"
api_base = "{fleet.carrier.known["url"]}"

[braze]
base_url = "http://127.0.0.1:{fleet.outside_port}"
api_key = "made-up"
score_attribute = "lead_score"
requests_per_minute = 100000

[routing]
default_dialer = "one"
last_resort_number = "{LAST_RESORT}"
max_hold = "5m"

[[routing.tiers]]
name = "hot"
min_score = 80

[[routing.tiers]]
name = "lukewarm"
min_score = 60

[[routing.tiers]]
name = "warm"
min_score = 0

[[routing.rules]]
name = "hot leads"
tier = ["hot"]
dialers = ["one", "two"]

[[routing.rules]]
name = "lukewarm leads"
tier = ["lukewarm"]
dialers = ["engaged", "two"]

[[routing.rules]]
name = "warm leads"
tier = ["warm"]
dialers = ["desk"]

[routing.limits.desk]
max_active = {fleet.desk_calls}
{dialers}"""


class Node(world.Appliance):
    """One of the two: always on the same port."""

    def __init__(self, name, fleet):
        home = fleet.folder / name
        home.mkdir()
        super().__init__(fleet.binary, fleet.outside_port, home)
        self.name, self.fleet, self.fixed_port = name, fleet, free_port()
        self.port = self.fixed_port

    def spawn(self):
        path = self.home / "config.toml"
        path.touch(mode=0o600)
        path.write_text(config(self, self.fleet))
        with open(self.log, "ab") as log:
            command = [self.binary, "--config", str(path), "serve"]
            self.process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, start_new_session=True)


    def call_sids(self):
        """The calls that it has a row of."""
        with world.sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30) as db:
            return {sid for (sid,) in db.execute("SELECT sid FROM calls")}

    async def ready(self):
        """Waits until it says that it takes calls."""
        for _ in range(600):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = await asyncio.wait_for(reader.read(), 5)
                writer.close()
                if b" 200 " in answer.split(b"\r\n")[0]:
                    return
            except (OSError, asyncio.TimeoutError):
                pass
            await asyncio.sleep(0.1)
        raise AssertionError(f"{self.name} is never ready: {self.tail()}")


class Carrier:
    """The simulated Twilio, and the door by which it is driven."""

    def __init__(self, binary, folder):
        command = [str(binary), "-q", "simulate", "twilio", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]
        log = open(folder / "carrier.log", "ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        self.known = json.loads(self.process.stdout.readline())
        self.calls = []
        self.next = 0

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.known["control"] + path, data=data, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)

    def collect(self):
        """Gets the calls that have ended since; gives how many are in progress."""
        while True:
            page = self.ask("GET", f"/calls?after={self.next}")
            self.calls += page["calls"]
            self.next = page["next"]
            if not page["calls"]:
                return page["in_progress"]

    def stop(self):
        self.process.kill()
        self.process.wait()


class Balancer:
    """nginx or HAProxy, with its file as shipped: addresses and paths are replaced, nothing else."""

    def __init__(self, kind, fleet):
        self.port = free_port()
        tls = fleet.folder / "tls"
        tls.mkdir()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=calls.example.com"]
            + ["-keyout", tls / "privkey.pem", "-out", tls / "fullchain.pem"],
            check=True,
            capture_output=True,
        )
        (tls / "switchboard.pem").write_text((tls / "fullchain.pem").read_text() + (tls / "privkey.pem").read_text())
        shipped = (ROOT / "packaging/balancer" / ("nginx.conf" if kind == "nginx" else "haproxy.cfg")).read_text()
        replaced = {"10.0.0.1:8080": f"127.0.0.1:{fleet.nodes['a'].port}", "10.0.0.2:8080": f"127.0.0.1:{fleet.nodes['b'].port}"}
        if kind == "nginx":
            replaced |= {"listen 443 ": f"listen 127.0.0.1:{self.port} ", "listen [::]:443 ": f"listen [::1]:{self.port} "}
            replaced |= {"/etc/nginx/tls/": f"{tls}/", "/var/log/nginx/": f"{fleet.folder}/"}
        else:
            replaced |= {"bind :443 ": f"bind 127.0.0.1:{self.port} ", "/etc/haproxy/tls/": f"{tls}/", "log /dev/log ": "log stdout format raw "}
        for text, by in replaced.items():
            assert text in shipped, f"{kind}: {text!r} does not stand in the file as shipped"
            shipped = shipped.replace(text, by)
        path = fleet.folder / f"{kind}.conf"
        if kind == "nginx":
            work = fleet.folder / "nginx"
            work.mkdir()
            places = "".join(f"{name}_temp_path {work}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            root = "user root; " if os.getuid() == 0 else ""
            # What Debian's nginx.conf has around it.
            shipped = f"daemon off; {root}pid {work}/pid; error_log stderr; worker_processes 1;\nevents {{ }}\nhttp {{ {places}\n{shipped} }}\n"
            command = ["nginx", "-e", "stderr", "-c", path, "-p", work]
        else:
            command = ["haproxy", "-f", path]
        path.write_text(shipped)
        self.log = fleet.folder / f"{kind}.log"
        self.process = subprocess.Popen(command, stdout=open(self.log, "ab"), stderr=subprocess.STDOUT, start_new_session=True)

    async def up(self):
        """Waits until a request comes through."""
        any_certificate = ssl._create_unverified_context()
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=any_certificate)
                writer.write(b"GET /health HTTP/1.1\r\nHost: calls.example.com\r\nConnection: close\r\n\r\n")
                answer = await asyncio.wait_for(reader.read(), 5)
                writer.close()
                if b" 200 " in answer.split(b"\r\n")[0]:
                    return
            except (OSError, asyncio.TimeoutError):
                pass
            await asyncio.sleep(0.05)
        raise AssertionError(f"the balancer lets nothing through: {self.log.read_text()[-3000:]}")

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Fleet:
    """All of it; `async with` starts it and ends every process by its id."""

    def __init__(self, binary, balancer, dialer_s=0.03, desk_calls=6):
        self.binary, self.balancer, self.desk_calls = binary, balancer, desk_calls
        self.outside = Outside(dialer_s)
        self.between = None

    async def __aenter__(self):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="switchboard-fleet-", dir=memory))
        self.folder.chmod(0o755)
        secret = self.folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(32))
        self.outside_port = await self.outside.start()
        self.carrier = Carrier(self.binary, self.folder)
        self.nodes = {}
        for name in ("a", "b"):
            self.nodes[name] = Node(name, self)
        self.names_nodes = self.knows_names()
        try:
            for node in self.nodes.values():
                assert await node.start() is not None, f"{node.name} does not start: {node.tail()}"
            if self.balancer == "none":
                at = {OWN[name]: f"http://127.0.0.1:{node.port}" for name, node in self.nodes.items()}
                self.carrier.ask("POST", "/settings", {"public_url": OWN["a"], "webhook_base": at[OWN["a"]], "also_public": {OWN["b"]: at[OWN["b"]]}})
                fallback = f"{OWN['b']}/webhooks/twilio{OVERRIDES}"
            else:
                self.between = Balancer(self.balancer, self)
                await self.between.up()
                self.carrier.ask("POST", "/settings", {"public_url": SHARED, "webhook_base": f"https://127.0.0.1:{self.between.port}"})
                fallback = f"/webhooks/twilio/fallback{OVERRIDES}"
            paths = {"voice_path": f"/webhooks/twilio{OVERRIDES}", "fallback_path": fallback, "status_path": f"/webhooks/twilio/status{OVERRIDES}"}
            self.carrier.ask("POST", "/settings", paths)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def knows_names(self):
        """Whether this binary knows `[server] node`."""
        node = self.nodes["a"]
        self.names_nodes = True
        path = node.home / "config.toml"
        path.touch(mode=0o600)
        path.write_text(config(node, self))
        done = subprocess.run([str(self.binary), "--config", str(path), "check-config"], capture_output=True, text=True)
        return not re.search(r"\b(node|also_public)\b", done.stderr + done.stdout) or done.returncode == 0

    async def __aexit__(self, *_):
        for node in self.nodes.values():
            node.discard()
        if self.between:
            self.between.stop()
        self.carrier.stop()
        self.outside.server.close()
        shutil.rmtree(self.folder, ignore_errors=True)
