#!/usr/bin/env python3
"""Measures the real binary on a database with millions of records: start, memory, every route of the API, calls beside event streams and
an export, verification, calls beside pruning.

    cargo build --release
    python3 tests/faults/scale.py target/release/switchboard --records 10000000 --directory /var/tmp
    python3 tests/faults/scale.py target/release/switchboard --records 2000000 --only filters   # /calls by each filter, a million calls
    python3 tests/faults/scale.py target/release/switchboard --memory       # 100,000 profiles and 10,000 open calls instead
    python3 tests/faults/scale.py target/release/switchboard --bytes 100000 # what a call writes and stores instead

It records a few calls and repeats them with a valid chain, spread evenly over the days up to now. It needs about 1.5 KB of disk for each
record. What it made is deleted, unless --state says where to keep it.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import resource
import shutil
import sqlite3
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import world
from world import Answers, Appliance, Caller, Outside, load

# Longer than the quiet time after which the write-ahead log is emptied.
IDLE_S = 6
PUSH_SECRET = "made-up-push-secret"


def resident_mib(appliance):
    for line in Path(f"/proc/{appliance.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("it is gone")


async def ask(port, key, path):
    """Seconds and body of one question to the API, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
    head, body = await world.read_message(reader)
    took = time.monotonic() - started
    writer.close()
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise AssertionError(f"{path}: {head.decode()} {body.decode()[:300]}")
    return took, json.loads(body)


async def routes(appliance, key):
    """How long each route of the document takes that reads, with what narrows a list, page after page."""
    calls = (await ask(appliance.port, key, "/api/v1/calls?page_size=50"))[1]["data"]
    known = {"call_id": calls[-1]["call_id"], "name": "line", "phone_number": urllib.parse.quote("+4915100000001")}
    document = (await ask(appliance.port, key, "/openapi.json"))[1]
    asked = ["/health", "/ready"]
    for path, operations in sorted(document["paths"].items()):
        # A stream does not end.
        if "get" not in operations or path.endswith("/events"):
            continue
        asked.append(path.format(**known))
    day = lambda ago: urllib.parse.quote(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago * 86_400)))
    asked += [
        f"/api/v1/logs?call_id={known['call_id']}",
        "/api/v1/logs?kind=call_answered&page_size=50",
        "/api/v1/logs?kind=pruned",
        "/api/v1/logs?severity=error",
        f"/api/v1/logs?q={known['call_id'][:6]}",
        f"/api/v1/logs?q={known['call_id']}",
        f"/api/v1/logs?q={known['phone_number']}",
        f"/api/v1/logs?from={day(60)}&to={day(59)}&kind=handoff_concluded",
        "/api/v1/logs?page=1000&page_size=100",
        "/api/v1/calls?dialer=line&page_size=50",
        "/api/v1/calls?dialer=nobody",
        "/api/v1/calls?tier=hot&disposition=answered",
        f"/api/v1/calls?from={day(60)}&to={day(59)}",
        f"/api/v1/calls?q={known['phone_number']}",
        f"/api/v1/calls?q={known['call_id'][:12]}",
        "/api/v1/calls?page=1000&page_size=100",
        "/api/v1/calls/metrics?window=7d",
        "/api/v1/alerts/history?page_size=100",
    ]
    slowest = {}
    for route in asked:
        times, cursor, refused = [], None, None
        for _ in range(100):
            path = route
            if cursor:
                path += ("&" if "?" in route else "?") + f"cursor={urllib.parse.quote(cursor)}"
            try:
                took, answer = await ask(appliance.port, key, path)
            except AssertionError as error:
                refused = error
                break
            times.append(took * 1000)
            cursor = answer.get("next_cursor") if isinstance(answer, dict) and "page=" not in route else None
        if refused:
            print(f"  routes: {route}: {refused}", flush=True)
            continue
        times.sort()
        slowest[route] = times[98]
        print(f"  routes: p50 {statistics.median(times):6.1f}  p99 {times[98]:6.1f}  max {times[-1]:6.1f} ms  {route[:110]}", flush=True)
    over = [route for route, took in slowest.items() if took >= 100]
    print(f"  routes: {len(slowest)} asked 100 times each, slowest p99 {max(slowest.values()):.1f} ms; not below 100 ms: {over or 'none'}", flush=True)


FILTERS = """outcome=answered outcome=failed outcome=abandoned outcome=unreached failure=over_budget failure=busy rule=(default) rule=nobody
    failed_over=true failed_over=false held=true slower_than=0 slower_than=600000 caller=00 caller=99 caller=987654 caller=%2B4915100000001
    caller=%2B4915999999999 called=00 called=987654 caller_id=1 caller_id=1&outcome=unreached caller_id=1&outcome=failed tier=none tier=hot
    dialer=nobody disposition=busy status=ended status=held outcome=failed&caller=99 outcome=unreached&called=99&slower_than=600000""".split()


async def filters(appliance, key):
    """How long the first page of calls takes by each filter. The newest calls were made for real: their numbers have to be opened."""
    made = await window(appliance, 10)
    path = "/api/v1/calls?page_size=50"
    total = (await ask(appliance.port, key, path))[1]["total"]
    slow = []
    for one in ["", *(f"&{one}" for one in FILTERS)]:
        answers = [await ask(appliance.port, key, path + one) for _ in range(20)]
        times = sorted(took * 1000 for took, _ in answers)
        slow += [one] if times[-1] >= 100 else []
        print(f" filters: p50 {times[9]:6.1f}  max {times[-1]:6.1f} ms  {len(answers[0][1]['data']):3} rows  {one[1:] or 'none'}", flush=True)
    print(f" filters: {len(FILTERS)} asked 20 times each, {total} calls, the newest {len(made.seconds)} made just now; not below 100 ms: {slow or 'none'}", flush=True)


def with_key(appliance):
    """Adds a key to the configuration; gives it."""
    made = subprocess.run(
        [appliance.binary, "--json", "key", "new", "--name", "scale", "--role", "admin"], capture_output=True, text=True, check=True
    )
    made = json.loads(made.stdout)
    appliance.sections = (
        f'\n[[auth.keys]]\nname = "scale"\nrole = "admin"\nhash = "{made["hash"]}"\n'
    )
    return made["key"]


def field(kind, value):
    """A field of the canonical serialisation: type, length, bytes (docs/audit-format.md)."""
    return struct.pack(">BI", kind, len(value)) + value


def optional(kind, value):
    return field(0, b"") if value is None else field(kind, value)


def of_nobody(personal):
    """Sealed data is bound to its record: repeated, it is that of a caller who was erased (the row is named after a version byte)."""
    return personal and personal[:1] + struct.pack(">q", 2**40) + personal[9:]


def enlarge(path, wanted, days):
    """Repeats the calls of the database until its log has as many records as wanted."""
    started = time.monotonic()
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000"):
        db.execute(f"PRAGMA {pragma}")
    calls = []
    for row, sid in db.execute("SELECT id, sid FROM calls ORDER BY id LIMIT 50").fetchall():
        query = "SELECT created_at, kind, personal, detail FROM audit_records WHERE call_sid = ? ORDER BY id"
        records = db.execute(query, (sid,)).fetchall()
        if records:
            calls.append((row, [(at - records[0][0], kind, of_nobody(personal), detail) for at, kind, personal, detail in records]))
    # What protects the log stands in the way of a quick fill; it is put back as it was.
    query = "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name LIKE 'audit_%' AND sql IS NOT NULL AND type IN ('trigger', 'index')"
    objects = db.execute(query).fetchall()
    for kind, name, _ in objects:
        db.execute(f"DROP {kind} {name}")
    for table in ("audit_records", "audit_checkpoints", "audit_cuts"):
        db.execute(f"DELETE FROM {table}")
    columns = [row[0] for row in db.execute("SELECT name FROM pragma_table_info('calls') WHERE name <> 'id'")]
    new = {name: "?3" for name in ("started_at", "created_at", "updated_at", "ended_at")}
    new |= {"personal": "NULL"} if "personal" in columns else {}
    new |= {"sid": "?2", "status": "'ended'", "disposition": "'answered'"}
    values = ", ".join(new.get(name, name) for name in columns)
    repeat = f"INSERT INTO calls ({', '.join(columns)}) SELECT {values} FROM calls WHERE id = ?1"
    insert = "INSERT INTO audit_records (id, created_at, kind, call_sid, personal, detail, previous_hash, hash, call_id) VALUES (?,?,?,?,?,?,?,?,?)"
    last_call = db.execute("SELECT max(id) FROM calls").fetchone()[0]
    now = int(time.time() * 1000)
    begins = now - days * 86_400_000
    span = now - 3_600_000 - begins
    domain, n, n_calls, previous = b"switchboard/audit-record/v2\n", 0, 0, bytes(32)
    prepared = [
        (row, [(after, kind, personal, detail, field(2, kind.encode()), optional(3, personal) + field(2, detail.encode())) for after, kind, personal, detail in records])
        for row, records in calls
    ]
    while n < wanted:
        rows, heads = [], []
        while n < wanted and len(rows) < 100_000:
            row, records = prepared[n_calls % len(prepared)]
            n_calls += 1
            # As random as those of Twilio.
            sid = "CA" + hashlib.md5(struct.pack(">Q", n_calls)).hexdigest()
            call_fields = field(1, struct.pack(">q", last_call + n_calls)) + field(2, sid.encode())
            at = begins + span * n // wanted
            heads.append((row, sid, at))
            for after, kind, personal, detail, kind_field, tail in records:
                n += 1
                content = struct.pack(">BIqBIq", 1, 8, n, 1, 8, at + after)
                digest = hashlib.sha256(domain + field(3, previous) + content + kind_field + call_fields + tail).digest()
                rows.append((n, at + after, kind, sid, personal, detail, previous, digest, last_call + n_calls))
                previous = digest
        db.execute("BEGIN")
        db.executemany(insert, rows)
        db.executemany(repeat, heads)
        db.execute("COMMIT")
    for _, _, sql in objects:
        db.execute(sql)
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    # It is another log now: what was signed of the former one is gone.
    for suffix in (".head", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    # Else the system writes it back while calls are measured.
    os.sync()
    size = os.path.getsize(path) / 1_048_576
    print(f"    made: {n} records of {n_calls} calls over {days} days, {size:.0f} MiB, in {time.monotonic() - started:.0f} s", flush=True)


@contextlib.contextmanager
def state_directory(args):
    if args.state:
        Path(args.state).mkdir(parents=True, exist_ok=True)
        yield args.state
    else:
        with tempfile.TemporaryDirectory(prefix="switchboard-scale-", dir=args.directory) as path:
            yield path


async def large(args, outside):
    with state_directory(args) as state:
        # What is due goes only when it is asked for.
        appliance = Appliance(args.binary, outside, state, storage='retention = "365d"')
        key = with_key(appliance)
        if not appliance.database.exists():
            await make(appliance, args)
        if args.make:
            return appliance.discard()
        await measure(appliance, args, key)


async def make(appliance, args):
    await appliance.start()
    answers, stop = Answers(), asyncio.Event()
    task = asyncio.create_task(load(appliance.port, answers, stop, connections=4))
    await asyncio.sleep(1)
    stop.set()
    await task
    appliance.stop()
    enlarge(appliance.database, args.records, args.days)


async def measure(appliance, args, key):
    # A log of which nothing is signed is read back before calls can come.
    first = await appliance.start(patience=900)
    print(f"   start: first {first * 1000:.0f} ms, {resident_mib(appliance):.0f} MiB resident", flush=True)
    await signed(appliance)
    print(f"  signed: {resident_mib(appliance):.0f} MiB resident after the log was read back and signed", flush=True)
    appliance.stop()
    starts = []
    for _ in range(5):
        starts.append(await appliance.start() * 1000)
        memory = resident_mib(appliance)
        if len(starts) < 5:
            appliance.stop()
    print(f"   start: {', '.join(f'{took:.0f}' for took in starts)} ms; {memory:.0f} MiB resident after it", flush=True)
    parts = args.only or ["routes", "filters", "watched", "verify", "pruned"]
    if "routes" in parts:
        await routes(appliance, key)
    if "filters" in parts:
        await filters(appliance, key)
    if "watched" in parts:
        await watched(appliance, key)
    if "verify" in parts:
        appliance.stop()
        verify(appliance)
        await appliance.start()
    if "pruned" in parts:
        await pruned(appliance)
    print(f"  memory: {resident_mib(appliance):.0f} MiB resident at the end", flush=True)
    appliance.stop()
    appliance.discard()


async def signed(appliance):
    """Waits until the log is signed to its end: records of another log are read back once."""
    for _ in range(600):
        if lines := appliance.lines("audit.head"):
            if lines[-1]["records"] > 1000:
                return
        await asyncio.sleep(0.5)


async def window(appliance, seconds, connections=8, per_second=None):
    """Calls for some seconds; all of them must be answered."""
    answers, stop = Answers(), asyncio.Event()
    task = asyncio.create_task(load(appliance.port, answers, stop, connections=connections, per_second=per_second))
    await asyncio.sleep(seconds)
    stop.set()
    await task
    if answers.failed:
        raise AssertionError(f"failed calls: {answers.failed[:3]}")
    return answers


STREAM = """
import socket, sys
stream = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
stream.sendall(f"GET /api/v1/events HTTP/1.1\\r\\nHost: x\\r\\nX-API-Key: {sys.argv[2]}\\r\\n\\r\\n".encode())
while stream.recv(65536): pass
"""


async def watched(appliance, key, rounds=5, seconds=10):
    """Calls per second as fast as they go, in turn alone and beside 20 event streams and an export of everything."""
    alone, beside, exported = [], [], 0
    for _ in range(rounds):
        alone.append(len((await window(appliance, seconds, connections=16)).seconds) / seconds)
        others = [
            subprocess.Popen([sys.executable, "-c", STREAM, str(appliance.port), key], stdout=subprocess.DEVNULL) for _ in range(20)
        ]
        await asyncio.sleep(1)
        with tempfile.TemporaryFile() as lines:
            export = subprocess.Popen(
                [appliance.binary, "--config", str(appliance.home / "config.toml"), "audit", "export", "--format", "jsonl"],
                stdout=subprocess.PIPE, stderr=lines,
            )
            counted = subprocess.Popen(["wc", "-l"], stdin=export.stdout, stdout=subprocess.PIPE, text=True)
            export.stdout.close()
            beside.append(len((await window(appliance, seconds, connections=16)).seconds) / seconds)
            if export.poll() not in (None, 0):
                lines.seek(0)
                raise AssertionError(lines.read().decode())
            was_going = export.poll() is None
            export.kill()
            export.wait()
            exported = int(counted.communicate()[0])
        for other in others:
            if other.poll() is not None:
                print("  watched: a stream ended", flush=True)
            other.kill()
            other.wait()
    told = ", ".join(f"{a:.0f}/{b:.0f}" for a, b in zip(alone, beside))
    ratio = statistics.median(b / a for a, b in zip(alone, beside))
    print(
        f" watched: calls/s alone/beside 20 streams and an export ({exported} records in {seconds} s, going on: {was_going}): {told};"
        f" median ratio {ratio:.3f}",
        flush=True,
    )


async def pruned(appliance, seconds=20):
    """The latency of calls without pruning and, while a million records go, with it."""

    def told(name, answers):
        print(
            f"  pruned: {name:>8}: {len(answers.twiml)} calls, p50 {answers.percentile(0.5) * 1000:.1f}, p99 {answers.percentile(0.99) * 1000:.1f},"
            f" max {max(answers.seconds) * 1000:.1f} ms",
            flush=True,
        )
        return answers.percentile(0.99) * 1000

    without = [told("without", await window(appliance, seconds, per_second=200)) for _ in range(3)]
    text = (appliance.home / "config.toml").read_text()
    (appliance.home / "config.toml").write_text(text.replace(appliance.storage, 'retention = "90d"'))
    os.kill(appliance.process.pid, 1)
    await asyncio.sleep(1)
    started = time.monotonic()
    prune = subprocess.Popen(
        [appliance.binary, "--json", "--config", str(appliance.home / "config.toml"), "prune"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    during = []
    while prune.poll() is None:
        during.append(told("with", await window(appliance, seconds, per_second=200)))
    report = prune.communicate()
    print(f"  pruned: {report[0].strip()} {report[1].strip()[-300:]} in {time.monotonic() - started:.0f} s", flush=True)
    without += [told("without", await window(appliance, seconds, per_second=200)) for _ in range(3)]
    a, b = statistics.median(without), statistics.median(during)
    print(f"  pruned: p99 without {a:.1f}, with {b:.1f} ms (medians of {len(without)} and {len(during)} windows): {b - a:+.1f} ms", flush=True)


def verify(appliance):
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run(
            [appliance.binary, "--json", "audit", "verify", "--database", str(appliance.database)], capture_output=True, text=True
        )
        took = time.monotonic() - started
        if done.returncode == 2:
            print("  verify: SKIPPED  this build has no such command")
            return
        verdict = json.loads(done.stdout)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"  verify: {verdict['records']} records, ok {verdict['ok']}, {took:.1f} s, {verdict['records'] / took:.0f} records/s"
            f" (children so far at most {peak:.0f} MiB)",
            flush=True,
        )


async def memory(args, outside):
    """100,000 cached profiles and 10,000 calls that have not ended."""
    with tempfile.TemporaryDirectory(prefix="switchboard-memory-", dir=args.directory) as state:
        appliance = Appliance(args.binary, outside, state, braze=f'webhook_secret = "{PUSH_SECRET}"')
        await appliance.start()
        await asyncio.sleep(1)
        print(f"  memory: {resident_mib(appliance):.0f} MiB after start", flush=True)
        await asyncio.gather(*(push(appliance.port, range(n, 100_000, 16)) for n in range(16)))
        print(f"  memory: {resident_mib(appliance):.0f} MiB with 100,000 profiles", flush=True)
        answers = Answers()

        async def some(n):
            line = Caller(appliance.port, answers)
            for _ in range(n):
                await line.call()
            line.close()

        await asyncio.gather(*(some(625) for _ in range(16)))
        await asyncio.sleep(3)
        print(f"  memory: {resident_mib(appliance):.0f} MiB with {len(answers.twiml)} open calls besides", flush=True)
        appliance.stop()
        took = await appliance.start()
        await asyncio.sleep(2)
        print(f"  memory: {resident_mib(appliance):.0f} MiB after a restart with all that, which took {took * 1000:.0f} ms", flush=True)
        appliance.stop()
        appliance.discard()


async def bytes_of_calls(args, outside):
    """What a call costs: bytes written to the disk as the system counts them, and bytes by which the file grows."""
    for name, kind, goals in (("answered webhooks", Caller.call, (20.0, 2.0)), ("calls with all callbacks", Caller.whole, (None, 5.0))):
        n = args.bytes if goals[0] else args.bytes // 4
        with tempfile.TemporaryDirectory(prefix="switchboard-bytes-", dir=args.directory) as state:
            appliance = Appliance(args.binary, outside, state)
            await appliance.start()
            await asyncio.sleep(IDLE_S)
            before = written(appliance), os.path.getsize(appliance.database)
            answers = Answers()

            async def some(count):
                line = Caller(appliance.port, answers)
                for _ in range(count):
                    await kind(line)
                line.close()

            started = time.monotonic()
            await asyncio.gather(*(some(n // 64) for _ in range(64)))
            took = time.monotonic() - started
            # The write-ahead log is emptied when nobody calls.
            await asyncio.sleep(IDLE_S)
            after = written(appliance), os.path.getsize(appliance.database)
            count = len(answers.twiml)
            each = [(late - early) / count / 1_000 for early, late in zip(before, after)]
            goal = f" (goal {goals[0]:g} and {goals[1]:g})" if goals[0] else f" (goal {goals[1]:g} stored)"
            print(f"  bytes: {count} {name}, {count / took:.0f}/s, {len(answers.failed)} failed: {each[0]:.1f} KB written, {each[1]:.2f} KB stored each{goal}", flush=True)
            if args.state:
                shutil.copy(appliance.database, args.state)
            appliance.stop()
            appliance.discard()


def written(appliance):
    """Bytes that the process has had written to the disk."""
    text = Path(f"/proc/{appliance.process.pid}/io").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("write_bytes"))


async def push(port, numbers):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for n in numbers:
        body = json.dumps({"external_id": f"c{n}", "phone": f"+49152{n:08}", "lead_score": 90}).encode()
        writer.write(
            b"POST /webhooks/braze HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {PUSH_SECRET}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 204 " not in head:
            raise AssertionError(head)
    writer.close()


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=100, help="over how many days they spread; beyond 90 there is something to prune")
    parser.add_argument("--directory", default=None)
    parser.add_argument("--state", help="make the database here and keep it, or measure on the one that is here")
    parser.add_argument("--make", action="store_true", help="only make it")
    parser.add_argument("--only", nargs="+", choices=["routes", "filters", "watched", "verify", "pruned"], help="some of the measurements")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--bytes", type=int, metavar="CALLS", help="count what so many calls write and store")
    args = parser.parse_args()
    args.binary = str(Path(args.binary).resolve())
    size = os.path.getsize(args.binary) / 1_048_576
    print(f" machine: {os.cpu_count()} processors, kernel {os.uname().release}; binary {size:.1f} MiB", flush=True)
    outside = Outside()
    port = await outside.start()
    await (memory if args.memory else bytes_of_calls if args.bytes else large)(args, port)


if __name__ == "__main__":
    asyncio.run(main())
