#!/usr/bin/env python3
"""Attacks the real binary as strangers can, beside genuine calls, and tells what the calls felt.

    cargo build --release
    python3 tests/faults/attack.py target/release/switchboard                  # every attack for 60 s
    python3 tests/faults/attack.py target/release/switchboard --seconds 10 files readers

All of it stays on this machine. Each attack runs in a process of its own and takes what processor time it gets, on the processors that the
appliance has. Beside it come 20 signed calls a second, each on a connection of its own. Fails where one of them is refused or turned away,
where their 99th percentile is 250 ms or more, where memory reaches 256 MiB, or is not back within a minute.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import world
from world import Answers, Appliance, Caller, Outside

CALLS_A_SECOND = 20
WARM_RATE = 100
MOST_MIB = 256
MOST_P99_S = 0.25
# Memory counts as back where it is this near to what it was.
NEAR_MIB = 16
# Its level is what it has once the caches of the database are full: when so many calls more take less than this.
WARM_CALLS = 1_200
LEVEL_MIB = 2
MOST_WARM_ROUNDS = 12
BUNDLE = "/docs/swagger-ui-bundle.js"


# ── the attacks, each in a process of its own ───────────────────────────────────────────────────────────────────────────


async def again(work):
    """Repeats it whatever becomes of the connection; a short rest after a refusal, as a patient attacker makes."""
    while True:
        try:
            await work()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            await asyncio.sleep(0.01)


async def connected(port, limit=2**16):
    return await asyncio.open_connection("127.0.0.1", port, limit=limit)


async def files(port):
    """The largest file of all, asked for again and again: 36 times a second compressed, and as fast as 16 connections take it as it is."""

    async def ask(headers, pace):
        reader, writer = await connected(port, 2**22)
        try:
            while True:
                started = time.monotonic()
                writer.write(f"GET {BUNDLE} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if pace:
                    await asyncio.sleep(max(0, pace - (time.monotonic() - started)))
        finally:
            writer.close()

    zipped = [again(lambda: ask("Accept-Encoding: gzip\r\n", 1 / 9)) for _ in range(4)]
    plain = [again(lambda: ask("", 0)) for _ in range(16)]
    await asyncio.gather(*zipped, *plain)


async def readers(port):
    """Three hundred who ask for the largest file and take 650 bytes of it a second."""

    async def read():
        reader, writer = await connected(port, 1024)
        writer.transport.set_write_buffer_limits(0)
        try:
            writer.write(f"GET {BUNDLE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while await reader.read(650):
                await asyncio.sleep(1)
        finally:
            writer.close()

    await asyncio.gather(*[again(read) for _ in range(300)])


async def bodies(port):
    """Ninety-six who begin to send a body, with and without a key's header, and go on with 50 bytes a second."""

    async def send(path):
        reader, writer = await connected(port)
        try:
            writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n".encode())
            ended = asyncio.create_task(reader.read(1))
            while not ended.done():
                writer.write(b" " * 50)
                await asyncio.sleep(1)
        finally:
            writer.close()

    paths = itertools.cycle(["/api/v1/session", "/login", "/api/v1/routing/explain", "/api/v1/calls"])
    await asyncio.gather(*[again(lambda path=next(paths): send(path)) for _ in range(96)])


async def keys(port):
    """Wrong keys as fast as 16 connections take them, each from another customer of one IPv6 /48."""
    body = json.dumps({"key": "swb_wrong"})
    n = itertools.count()

    async def try_keys():
        reader, writer = await connected(port)
        try:
            while True:
                source = f"2001:db8:1:{next(n) % 65536:x}::1"
                writer.write(
                    f"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {source}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
        finally:
            writer.close()

    await asyncio.gather(*[again(try_keys) for _ in range(16)])


ATTACKS = {attack.__name__: attack for attack in (files, readers, bodies, keys)}
# So that 300 connections are all there are.
FEW_FILES = ("sh", "-c", 'ulimit -n 400; exec "$@"', "sh")


def attack(name, port):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(ATTACKS[name](port))


# ── what the calls feel ─────────────────────────────────────────────────────────────────────────────────────────────────



def resident_mib(appliance):
    for line in Path(f"/proc/{appliance.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def genuine(port, answers, seconds, refused, rate=CALLS_A_SECOND):
    async def one():
        caller = Caller(port, answers)
        try:
            if sid := await caller.call():
                await caller.hang_up(sid)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            refused.append(repr(error))
        finally:
            caller.close()

    started, tasks = time.monotonic(), []
    for n in range(int(seconds * rate)):
        await asyncio.sleep(max(0, started + n / rate - time.monotonic()))
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)


async def api_answers(port, key, refused, seconds):
    """Somebody with a key looks at the dialers every second."""
    for _ in range(int(seconds)):
        try:
            reader, writer = await connected(port)
            writer.write(f"GET /api/v1/dialers HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nConnection: close\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            if b" 200 " not in head[:20]:
                refused.append(head[:60].decode(errors="replace"))
        except (OSError, asyncio.TimeoutError) as error:
            refused.append(repr(error))
        await asyncio.sleep(1)


async def level(appliance):
    """The memory of an appliance that has seen calls for a while, without an attack, in MiB."""
    before = resident_mib(appliance)
    for _ in range(MOST_WARM_ROUNDS):
        await genuine(appliance.port, Answers(), WARM_CALLS / WARM_RATE, [], WARM_RATE)
        now = resident_mib(appliance)
        if now < before + LEVEL_MIB:
            break
        before = now
    return now


def refusals_in(database):
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT count(*) FROM audit_records WHERE kind = 'accessed'").fetchone()
    db.close()
    return rows[0]


async def under(name, args, outside):
    drawn = json.loads(subprocess.run([args.binary, "--json", "key", "new", "--name", "ops", "--role", "viewer"], capture_output=True, check=True).stdout)
    with tempfile.TemporaryDirectory(prefix="switchboard-state-") as state:
        wrapper = FEW_FILES if name == "readers" else ()
        appliance = Appliance(args.binary, outside, state, wrapper=wrapper)
        appliance.sections = f'[[auth.keys]]\nname = "ops"\nrole = "viewer"\nhash = "{drawn["hash"]}"\n'
        appliance.server = 'trusted_proxies = ["127.0.0.0/8"]'
        if await appliance.start() is None:
            raise AssertionError(appliance.tail())
        before = await level(appliance)
        process = multiprocessing.get_context("spawn").Process(target=attack, args=(name, appliance.port))
        process.start()
        await asyncio.sleep(2)
        answers, refused, api_refused, most = Answers(), [], [], before
        calls = asyncio.gather(
            genuine(appliance.port, answers, args.seconds, refused),
            api_answers(appliance.port, drawn["key"], api_refused, args.seconds) if name != "readers" else asyncio.sleep(0),
        )
        while not calls.done():
            most = max(most, resident_mib(appliance))
            await asyncio.sleep(0.2)
        await calls
        process.kill()
        process.join()
        back, waited = resident_mib(appliance), time.monotonic()
        while back > before + NEAR_MIB and time.monotonic() - waited < 60:
            await asyncio.sleep(1)
            back = resident_mib(appliance)
        shed = sum(line.get("calls", 0) for line in appliance.lines("calls.shed"))
        p50, p99 = answers.percentile(0.5), answers.percentile(0.99)
        told = (
            f"{len(answers.twiml)} calls, {len(refused) + len(answers.failed)} refused, {shed} shed, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
            f"longest {max(answers.seconds, default=0) * 1000:.0f} ms; API {len(api_refused)} refused; "
            f"memory {before:.0f} MiB before, {most:.0f} at most, {back:.0f} after {time.monotonic() - waited:.0f} s; {refusals_in(appliance.database)} records of refusals"
        )
        is_well = not (refused or answers.failed or shed or api_refused) and p99 < MOST_P99_S and most < MOST_MIB and back <= before + NEAR_MIB
        if not is_well:
            told += f"; {(refused + answers.failed + api_refused)[:2]}"
        appliance.stop()
        appliance.discard()
        return is_well, told


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("attacks", nargs="*", choices=[[], *ATTACKS])
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    args.binary = str(Path(args.binary).resolve())
    print(f"kernel {os.uname().release}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
    outside = Outside()
    port = await outside.start()
    failed = 0
    for name in args.attacks or ATTACKS:
        is_well, told = await under(name, args, port)
        failed += not is_well
        print(f"{name:>8}  {'ok' if is_well else 'FAILED'}  {told}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
