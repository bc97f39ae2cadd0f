#!/usr/bin/env python3
"""The database cannot give calls back, and every call goes on along its plan: locked, slow, a page damaged, read-only, each beside `kill -9`.

    plan.py <switchboard> [--seconds 60] [--per-second 50] [--only locked]

The first line of every call is busy twice; then the second dialer's line has to ring. A call that goes anywhere else is lost to its plan.
"""
import argparse
import asyncio
import collections
import html
import json
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from world import PUBLIC_URL, Appliance, Answers, Caller, Outside, new_sid

FIRST, SECOND = "+4930555000", "+4930555001"
OTHER = """
[dialers.other]
kind = "http"
connect = "+4930555001"
url = "http://127.0.0.1:{port}/calls"
probe_every = "1h"
"""


class Cold(Outside):
    """Nobody is hot: the default plan, both dialers in order."""

    def score(self, phone):
        return 10


class Call:
    """One call along its plan; how it went stands in `came_to`."""

    def __init__(self, appliance, rng):
        self.appliance, self.rng, self.sid = appliance, rng, new_sid()
        self.slowest = 0.0

    async def post(self, path, more=()):
        """As Twilio asks: once more where the connection fails or the answer is a 5xx."""
        for last in (False, True):
            line = Caller(self.appliance.port, Answers())
            try:
                started = time.monotonic()
                head, text = await line.post(path, self.sid, "in-progress", more)
                if b" 200 " in head.split(b"\r\n")[0]:
                    self.slowest = max(self.slowest, time.monotonic() - started)
                    return text
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                pass
            finally:
                line.close()
            if not last:
                # The process is being started anew.
                await asyncio.sleep(2)
        return ""

    async def run(self, wait):
        text = await self.post("/webhooks/twilio")
        for expected in (FIRST, FIRST, SECOND):
            if expected not in text:
                return "nothing" if not text else "last resort" if "+4930999999" in text else "hold" if "Redirect" in text else "other"
            if expected == SECOND:
                return "second dialer"
            await asyncio.sleep(self.rng.uniform(0.5, wait))
            url = html.unescape(re.search(r'action="([^"]*)"', text).group(1)).split("#")[0]
            text = await self.post(url.removeprefix(PUBLIC_URL), [("DialCallStatus", "busy")])
        return "other"


async def locked(appliance, seconds):
    stranger = sqlite3.connect(appliance.database, timeout=30, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    await asyncio.sleep(seconds)
    stranger.execute("ROLLBACK")
    stranger.close()


async def read_only(appliance, seconds):
    files = [path for path in appliance.directory.iterdir() if path.name in ("switchboard.db", "switchboard.db-wal")]
    subprocess.run(["chattr", "+i", *files], check=True)
    try:
        await asyncio.sleep(seconds)
    finally:
        subprocess.run(["chattr", "-i", *files], check=True)


async def restart(appliance, meanwhile=lambda: None):
    appliance.kill()
    meanwhile()
    if await appliance.start() is None:
        raise AssertionError(f"it does not start: {appliance.tail()}")


async def locked_and_killed(appliance, seconds):
    lock = asyncio.create_task(locked(appliance, seconds))
    await asyncio.sleep(seconds / 2)
    await restart(appliance)
    await lock


async def damaged(appliance, seconds):
    """The root page of the table of calls is noise."""
    reader = sqlite3.connect(appliance.database)
    page = reader.execute("SELECT rootpage FROM sqlite_master WHERE name = 'calls'").fetchone()[0]
    size = reader.execute("PRAGMA page_size").fetchone()[0]
    reader.close()
    place = (page - 1) * size

    def damage():
        # What waits in the write-ahead log would cover it.
        stranger = sqlite3.connect(appliance.database, isolation_level=None)
        stranger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        stranger.close()
        with open(appliance.database, "r+b") as file:
            file.seek(place)
            file.write(random.Random(1).randbytes(size))

    await restart(appliance, damage)
    await asyncio.sleep(seconds)


SLOW = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64,fdatasync", "-e", "inject=pread64,fdatasync:delay_enter=700000"]


async def slow(appliance, seconds):
    """Every read and every flush of the disk takes 0.7 s."""
    strace = subprocess.Popen([*SLOW, "-p", str(appliance.process.pid)], stderr=subprocess.DEVNULL)
    await asyncio.sleep(seconds)
    strace.terminate()
    strace.wait()


FAULTS = {"locked": locked, "locked and killed": locked_and_killed, "read-only": read_only, "slow": slow, "a page damaged": damaged}


async def one(name, fault, args):
    rng = random.Random(19)
    outside = Cold()
    port = await outside.start()
    with tempfile.TemporaryDirectory(dir=args.directory) as state:
        appliance = Appliance(args.binary, port, state)
        appliance.sections = OTHER.format(port=port)
        if await appliance.start() is None:
            raise AssertionError(appliance.tail())
        calls, running = [], []

        def begin():
            call = Call(appliance, rng)
            calls.append(call)
            running.append(asyncio.create_task(call.run(args.seconds / 6)))

        async def traffic():
            while True:
                begin()
                await asyncio.sleep(1 / args.per_second)

        load = asyncio.create_task(traffic())
        # Some calls have begun before, and go on meanwhile.
        await asyncio.sleep(min(5, args.seconds / 4))
        await fault(appliance, args.seconds)
        load.cancel()
        came_to = collections.Counter(await asyncio.gather(*running))
        slowest = max(call.slowest for call in calls)
        adopted = len(appliance.lines("call.adopted"))
        appliance.kill()
        if appliance.panicked():
            raise AssertionError(appliance.tail())
        appliance.discard()
    lost = len(calls) - came_to["second dialer"]
    return {"fault": name, "calls": len(calls), "lost": lost, "came_to": came_to, "by_passport": adopted, "slowest_s": round(slowest, 2)}


async def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--per-second", type=float, default=50)
    parser.add_argument("--only", choices=FAULTS)
    parser.add_argument("--directory", help="a directory on a disk that knows immutable files")
    args = parser.parse_args()
    bad = 0
    for name, fault in FAULTS.items():
        if args.only in (None, name):
            result = await one(name, fault, args)
            bad += result["lost"]
            print(json.dumps(result), flush=True)
    sys.exit(1 if bad else 0)


asyncio.run(main())
