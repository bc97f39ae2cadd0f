"""The reverse proxies of docs/reverse-proxy.md, run as they stand there, with the real binary behind each.

    python3 tests/proxies.py <switchboard>

Runs in a network of its own (`unshare --net`): the document's ports are taken as they are. The client of most requests has the address 198.51.100.7.
"""

import asyncio
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "faults"))
import world  # noqa: E402

CLIENT = "198.51.100.7"
KEY = f"swb_{'x' * 43}"
PATIENCE_S = 60
failed = []


def check(what, is_right, seen=""):
    print(f"  {'ok    ' if is_right else 'FAILED'} {what}", flush=True)
    if not is_right:
        print(f"         {seen!r}"[:2000])
        failed.append(what)


def blocks():
    """The configurations of the document by heading: `[server]`, and that of each proxy."""
    found, above, name, lines = [], "", "", None
    for line in (ROOT / "docs" / "reverse-proxy.md").read_text().splitlines():
        if line.startswith("```"):
            language = line[3:]
            if lines is None:
                kind, lines = language, []
            else:
                text = "\n".join(lines) + "\n"
                if kind == "toml":
                    server = text
                elif kind in ("nginx", "caddy"):
                    found.append((above, kind, server, text))
                lines = None
        elif lines is not None:
            lines.append(line)
        elif line.startswith("## "):
            above = line[3:]
    return found


class Browser:
    """Asks through the proxy, by TLS, from an address that is not this machine's loopback."""

    def __init__(self, host, authority, source=CLIENT):
        self.host = host
        self.tls = ssl.create_default_context(cafile=authority)
        self.source = source

    def open(self):
        raw = socket.create_connection(("198.51.100.1", 443), timeout=30, source_address=(self.source, 0))
        connection = http.client.HTTPConnection(self.host, 443, timeout=30)
        connection.sock = self.tls.wrap_socket(raw, server_hostname=self.host)
        return connection

    def ask(self, method, path, body=None, **headers):
        connection = self.open()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except (ConnectionError, ssl.SSLError) as error:
            # A proxy may close a connection on which too much is sent.
            return 413 if body and len(body) > 2**20 else 0, {}, str(error).encode()
        finally:
            connection.close()


def wait(what, look):
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            found = look()
            if found:
                return found
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def start_outside():
    """Braze and a dialer that takes every call; gives their port."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return asyncio.run_coroutine_threadsafe(world.Outside().start(), loop).result(PATIENCE_S)


def start_switchboard(binary, folder, server, outside):
    text = world.config(0, outside, folder / "switchboard.db", "spool_mib = 4\nballast_mib = 4")
    # Above is [server] as the document has it.
    text = server + text[text.index("[storage]") :]
    text += f'\n[[auth.keys]]\nname = "ops"\nrole = "admin"\nhash = "{hashlib.sha256(KEY.encode()).hexdigest()}"\n'
    path = folder / "switchboard.toml"
    path.touch(mode=0o600)
    path.write_text(text)
    log = open(folder / "switchboard.log", "ab")
    process = subprocess.Popen([binary, "--config", path, "serve"], stdout=subprocess.DEVNULL, stderr=log)
    wait("switchboard listens", lambda: process.poll() is not None or socket.create_connection(("127.0.0.1", 8080), 1))
    assert process.poll() is None, (folder / "switchboard.log").read_text()
    return process


def start_proxy(kind, text, folder, host):
    if kind == "nginx":
        tls = folder / "tls"
        tls.mkdir(exist_ok=True)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={host}"]
            + ["-addext", f"subjectAltName=DNS:{host}", "-keyout", tls / "privkey.pem", "-out", tls / "fullchain.pem"],
            check=True,
            capture_output=True,
        )
        # What surrounds a site in Debian's nginx.conf, and the one path that is not ours to write to.
        text = f"""daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
events {{ }}
http {{ access_log off; gzip on; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
{text.replace("/etc/nginx/tls/", f"{tls}/")} }}"""
        command = ["nginx", "-e", "stderr", "-c", folder / "nginx.conf", "-p", folder]
        (folder / "nginx.conf").write_text(text)
        authority = tls / "fullchain.pem"
    else:
        # An authority of its own in place of Let's Encrypt.
        options = f"{{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tstorage file_system {folder}/caddy\n}}\n"
        (folder / "Caddyfile").write_text(options + text)
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]
        authority = folder / "caddy/pki/authorities/local/root.crt"
    log = open(folder / f"{kind}.log", "ab")
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    browser = wait(f"{kind} has a certificate", lambda: authority.exists() and Browser(host, authority))

    def is_up():
        assert process.poll() is None, (folder / f"{kind}.log").read_text()[-3000:]
        return browser.ask("GET", "/")[0]

    wait(f"{kind} answers", is_up)
    return process, browser


def webhook(browser, public_url, path, **more):
    """A signed webhook as Twilio sends it: signed over the public address."""
    prefix = urllib.parse.urlsplit(public_url).path
    fields = {"AccountSid": "AC00000000000000000000000000000001", "CallSid": more.pop("sid", None) or world.new_sid(), "CallStatus": "ringing"}
    fields |= {"ApiVersion": "2010-04-01", "Direction": "inbound", "From": "+4930123456", "To": "+4930123456", **more}
    body = urllib.parse.urlencode(fields)
    signature = world.sign(public_url + path, fields.items())
    headers = {"Content_Type": "application/x-www-form-urlencoded", "X_Twilio_Signature": signature}
    return browser.ask("POST", prefix + path, body, **headers)


def examine(kind, browser, public_url):
    base = urllib.parse.urlsplit(public_url).path
    api = f"{base}/api/v1"

    wait("the appliance is ready behind it", lambda: browser.ask("GET", f"{base}/ready")[0] == 200)

    sid = world.new_sid()
    status, _, twiml = webhook(browser, public_url, "/webhooks/twilio", sid=sid)
    check("a webhook signed over the public address is taken", status == 200 and b"<Dial" in twiml, (status, twiml))
    urls = re.findall(r'(?:action|statusCallback)="([^"]*)"', twiml.decode())
    check("and names addresses under it", urls and all(url.startswith(f"{public_url}/webhooks/twilio/") for url in urls), urls)
    for url in urls[:1]:
        path = url.replace("&amp;", "&").removeprefix(public_url).split("#")[0]
        ended = {"DialCallStatus": "completed", "DialCallSid": world.new_sid(), "DialCallDuration": "7"}
        status, _, body = webhook(browser, public_url, path, sid=sid, **{**ended, "CallStatus": "in-progress"})
        check("whose queries arrive as they were signed", status == 200, (status, body))
    status, _, body = webhook(browser, "https://other.example.com" + base, "/webhooks/twilio")
    check("one signed over another address is refused", status == 403, (status, body))

    large = f"AccountSid=AC00000000000000000000000000000001&x={'x' * 65536}"
    form = {"Content_Type": "application/x-www-form-urlencoded", "X_Twilio_Signature": "x"}
    status, _, body = browser.ask("POST", f"{base}/webhooks/twilio", large, **form)
    # The appliance reads no more of it and closes; a proxy that still sends may take that for a fault.
    check("a webhook beyond 64 KiB is refused", status in (413, 502), (status, body))
    put = {"X_API_Key": KEY, "Content_Type": "application/toml"}
    status, _, body = browser.ask("PUT", f"{api}/routing/draft", "#" * (400 * 1024), **put)
    check("rules of 400 KiB reach it", status not in (0, 413, 502), (status, body))
    status, _, body = browser.ask("PUT", f"{api}/routing/draft", "#" * (2**21), **put)
    # Caddy says 502 where the appliance was sent a part of it already.
    check("2 MiB do not", status in (413, 502), (status, body))

    status, headers, body = browser.ask("GET", f"{base}/login")
    check("the page to sign in comes", status == 200 and f'action="{base}/login"'.encode() in body, (status, body))
    assets = re.findall(rf'(?:href|src)="({re.escape(base)}/[^"]*\.(?:css|js))"', body.decode())
    status, headers, body = browser.ask("GET", assets[0], Accept_Encoding="gzip")
    check("its files come compressed", status == 200 and headers.get("content-encoding", headers.get("Content-Encoding")) == "gzip", headers)

    # What the client wrote itself is not believed.
    origin = "https://" + browser.host
    form = urllib.parse.urlencode({"key": KEY, "next": "/dialers"})
    headers = {"Content_Type": "application/x-www-form-urlencoded", "Origin": origin, "X_Forwarded_For": "203.0.113.9, 127.0.0.1"}
    status, headers, _ = browser.ask("POST", f"{base}/login", form, **headers)
    lower = {name.lower(): value for name, value in headers.items()}
    cookie = lower.get("set-cookie", "")
    check("who signs in is led to the page under the path", (status, lower.get("location")) == (303, f"{base}/dialers"), (status, headers))
    is_bound = cookie.startswith("__Host-switchboard_session=") and "Path=/;" in cookie + ";" and "Secure" in cookie and "Domain" not in cookie
    check("with a cookie for this host by TLS alone", is_bound, cookie)
    cookie = cookie.split(";")[0]
    status, _, body = browser.ask("GET", f"{base}/dialers", Cookie=cookie)
    check("that opens the page", status == 200 and b"switchboard" in body.lower(), (status, body))
    status, _, body = browser.ask("POST", f"{api}/dialers/line/drain", Cookie=cookie, Origin=origin, Content_Type="application/json")
    check("and changes something from our own pages", status == 200, (status, body))
    status, _, body = browser.ask("POST", f"{api}/dialers/line/resume", Cookie=cookie, Origin="https://evil.example.com")
    check("and nothing from others", status == 403, (status, body))
    _, _, body = browser.ask("GET", f"{api}/logs?limit=50", X_API_Key=KEY)
    sources = set(re.findall(r'"source": ?"([0-9a-f.:]+)"', body.decode()))
    check("the log names the client's address, and no other", sources == {CLIENT}, (sources, body))
    status, _, _ = browser.ask("GET", f"{base}/metrics", X_Forwarded_For="127.0.0.1")
    check("metrics are for this machine alone", status in (401, 403), status)

    # From an address that is no trusted proxy, the same header says nothing.
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30, source_address=("127.0.0.2", 0))
    connection.request("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.9"})
    check("and whoever is no trusted proxy is not believed", connection.getresponse().status == 200)
    connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
    connection.request("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.9"})
    check("where the trusted proxy is", connection.getresponse().status in (401, 403))
    connection.close()

    stream = browser.open()
    stream.request("GET", f"{api}/events", headers={"X-API-Key": KEY, "Accept-Encoding": "gzip"})
    seen, until = "", time.monotonic() + 40
    try:
        answer = stream.getresponse()
        check("the stream of events opens", answer.status == 200 and answer.getheader("Content-Encoding") is None, answer.getheaders())
        webhook(browser, public_url, "/webhooks/twilio")
        while (seen.count("event: beat") < 2 or "event: call" not in seen) and time.monotonic() < until:
            seen += answer.readline().decode()
    except TimeoutError:
        pass
    check("and each comes as it happens", seen.count("event: beat") >= 2 and "event: call" in seen, seen)
    stream.close()

    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": "x", "Sec_WebSocket_Version": "13", "X_API_Key": KEY}
    status, _, _ = browser.ask("GET", f"{api}/dialers", **upgrade)
    check("there is no websocket", status == 200, status)
    if base:
        status, headers, _ = browser.ask("GET", base)
        location = headers.get("location", headers.get("Location", ""))
        check("the path without its slash leads to it", status == 308 and location.endswith(f"{base}/"), (status, headers))
        status, _, body = browser.ask("GET", "/api/v1/dialers", X_API_Key=KEY)
        check("nothing of ours is beside the path", b'"data"' not in body, (status, body))
    # By HTTP/2 as browsers do.
    command = ["curl", "--silent", "--http2", "--cacert", browser.authority, "--resolve", f"{browser.host}:443:198.51.100.1"]
    command += ["--interface", CLIENT, "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}", f"{public_url}/ready"]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    check("HTTP/2 is spoken", seen == "2 200", seen)


def run(binary, outside, where, kind, server, text):
    print(f"{where}: {kind}", flush=True)
    public_url = re.search(r'public_url = "([^"]*)"', server).group(1)
    host = urllib.parse.urlsplit(public_url).hostname
    # In memory where that can be had: a busy disk is not what this is about.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="switchboard-proxies-", dir=memory))
    # Servers of the proxy run as another user.
    folder.chmod(0o755)
    running = []
    try:
        running.append(start_switchboard(binary, folder, server, outside))
        proxy, browser = start_proxy(kind, text, folder, host)
        running.append(proxy)
        browser.authority = str(folder / "tls/fullchain.pem" if kind == "nginx" else folder / "caddy/pki/authorities/local/root.crt")
        examine(kind, browser, public_url)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def main(binary):
    for command in (["link", "set", "lo", "up"], ["address", "add", "198.51.100.1/32", "dev", "lo"], ["address", "add", f"{CLIENT}/32", "dev", "lo"]):
        subprocess.run(["ip", *command], check=True)
    os.environ["NO_PROXY"] = "*"
    outside = start_outside()
    found = blocks()
    assert [kind for _, kind, _, _ in found] == ["nginx", "caddy"] * 2, found
    tried = 0
    for where, kind, server, text in found:
        if not shutil.which(kind):
            print(f"skipped: {kind} is not installed")
            continue
        run(binary, outside, where, kind, server, text)
        tried += 1
    if failed:
        sys.exit(f"proxies: failed: {failed}")
    print(f"proxies: {tried} configurations tried, all checks passed")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()))
