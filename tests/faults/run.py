#!/usr/bin/env python3
"""Breaks things around the real binary, and checks that no caller and no record suffers.

    cargo build --release
    python3 tests/faults/run.py target/release/switchboard            # the short version of everything: a few minutes
    python3 tests/faults/run.py target/release/switchboard --full     # the figures of docs/performance.md: about an hour
    python3 tests/faults/run.py target/release/switchboard kill power # some of it

Acknowledged means: a TwiML answer that the client received. Its records must be in the database after a restart or, where neither
database nor spool could be written, in the log lines. What the machine does not allow (loop mounts, tmpfs, strace) is skipped by name.
Needs Python 3.9 or later and nothing else; strace for `sweep` and `stall`, root for `power`, `power_spool`, `full`, `full_start`, `read_only`.
"""

import argparse
import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import world
from world import Answers, Appliance, Caller, Outside, load

MIB = 1024 * 1024


class Skipped(Exception):
    """The machine does not allow it."""


class Failed(Exception):
    """An invariant does not hold."""


def check(condition, message):
    if not condition:
        raise Failed(message)


@contextlib.contextmanager
def directory():
    with tempfile.TemporaryDirectory(prefix="switchboard-state-") as path:
        yield Path(path)


def run(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise Skipped(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        raise Skipped(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def tmpfs(mebibytes):
    with directory() as path:
        run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path))
        try:
            yield path
        finally:
            subprocess.run(["umount", "-l", str(path)], check=False)


def tell_progress(name, n, rounds, calls):
    """A line now and then: the full runs take their time, and one that is broken off has shown something as well."""
    if n % 25 == 0:
        print(f"{name:>10}  {n} of {rounds} rounds, {calls} acknowledged calls, 0 lost", file=sys.stderr, flush=True)


async def check_all(appliance, twiml, patience=30):
    """Every acknowledged call has its records, at the latest after `patience` seconds: a spool may still be draining."""
    ends = time.monotonic() + patience
    while lost := world.missing(appliance.database, twiml):
        if time.monotonic() > ends:
            break
        await asyncio.sleep(0.2)
    return lost


def journaled(appliance, lost):
    """Of the lost, those whose records are all in the log lines or the database."""
    lines = appliance.lines("store.record_lost") + appliance.lines("store.record_unkept")
    kept = {(line.get("call_sid"), line.get("kind")) for line in lines}
    return [sid for sid, kinds in lost if all(kind in kinds or (sid, kind) in kept for kind in world.KINDS)]


def check_chain(appliance):
    problem = world.chain_problem(appliance.database)
    check(problem is None, f"the chain: {problem}")
    verdict = world.verified(appliance.binary, appliance.database)
    check(verdict is None or verdict["ok"], f"audit verify: {verdict}")
    return "not in this build" if verdict is None else f"{verdict['records']} records ok"


def check_order(appliance, twiml):
    for sid, kinds in world.records_of(appliance.database, twiml).items():
        ours = [kind for kind in kinds if kind in world.KINDS]
        check(sorted(ours, key=world.KINDS.index) == ours, f"order of {sid}: {kinds}")


# ── the process ends ────────────────────────────────────────────────────────────────────────────────────────────────────


async def kill(args, outside):
    """kill -9 under load, again and again."""
    rounds = args.rounds or (1000 if args.full else 25)
    starts, calls, cut = [], 0, 0
    with directory() as state:
        appliance = Appliance(args.binary, outside, state)
        before = {}
        for _ in range(rounds):
            took = await appliance.start()
            check(took is not None, f"it does not start: {appliance.tail()}")
            starts.append(took)
            lost = await check_all(appliance, before)
            check(not lost, f"lost after kill -9: {lost[:3]} of {len(lost)}")
            answers, stop = Answers(), asyncio.Event()
            task = asyncio.create_task(load(appliance.port, answers, stop))
            await asyncio.sleep(random.uniform(0.02, 0.25))
            stop.set()  # Whoever is cut off from here on was killed, not failed.
            appliance.kill()
            await task
            check(not answers.failed, f"failed calls: {answers.failed[:3]}")
            before = answers.twiml
            calls += len(before)
            cut += 1
            tell_progress("kill", cut, rounds, calls)
        await appliance.start()
        lost = await check_all(appliance, before)
        check(not lost, f"lost after kill -9: {lost[:3]}")
        code = appliance.stop()
        check(code == 0, f"exit code {code}")
        verdict = check_chain(appliance)
        check(not appliance.panicked(), "a panic")
        appliance.discard()
    starts.sort()
    return (
        f"{rounds} kills, {calls} acknowledged calls, 0 lost; chain: {verdict}; "
        f"healthy after p50 {starts[len(starts) // 2] * 1000:.0f} ms, max {starts[-1] * 1000:.0f} ms"
    )


EXT4_IOC_SHUTDOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
NO_LOG_FLUSH = 2
# A commit without its fdatasync, as synchronous=NORMAL has it: only the write-ahead log is not synchronized.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int fdatasync(int fd) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 4 && !memcmp(path + n - 4, "-wal", 4)) return 0;
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return real(fd);
}
"""


async def power(args, outside):
    """The power is cut under load: a loop-mounted ext4 is shut down without flushing anything."""
    rounds = args.rounds or (200 if args.full else 5)
    lost, calls = await cut_power(args, outside, rounds, {})
    check(lost == 0, f"{lost} of {calls} acknowledged calls lost")
    with directory() as folder:
        (folder / "shim.c").write_text(SHIM)
        run("cc", "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl")
        control = max(3, rounds // 10)
        n_lost, of = await cut_power(args, outside, control, {"LD_PRELOAD": str(folder / "shim.so")})
    check(n_lost > 0, "the control run without fdatasync of the log lost nothing: the harness proves nothing")
    return f"{rounds} power cuts, {calls} acknowledged calls, 0 lost; control without fdatasync: {n_lost} of {of} lost in {control} cuts"


async def power_spool(args, outside):
    """The power is cut while another process holds the lock, so that all acknowledged calls are in the spool."""
    rounds = args.rounds or (50 if args.full else 3)
    lost, calls = await cut_power(args, outside, rounds, {}, locked=True)
    check(lost == 0, f"{lost} of {calls} acknowledged calls lost")
    return f"{rounds} power cuts with the database locked, {calls} calls acknowledged out of the spool, 0 lost"


async def cut_power(args, outside, rounds, environment, locked=False):
    with directory() as folder:
        image, mount = folder / "disk", folder / "mnt"
        mount.mkdir()
        with open(image, "wb") as file:
            file.truncate(512 * MIB)
        run("mkfs.ext4", "-q", "-F", str(image))
        run("mount", "-o", "loop", str(image), str(mount))
        appliance = Appliance(args.binary, outside, mount, environment=environment)
        calls = n_lost = 0
        try:
            before = {}
            for n in range(rounds + 1):
                took = await appliance.start()
                if took is None and environment:
                    break  # Without its syncs, a database may well be beyond use.
                check(took is not None, f"it does not start after a power cut: {appliance.tail()}")
                lost = await check_all(appliance, before, patience=0.5 if environment else 10)
                n_lost += len(lost)
                if not environment:
                    check(not lost, f"lost after power cut {n}: {lost[:3]} of {len(lost)}")
                if n == rounds:
                    break
                other = sqlite3.connect(appliance.database, isolation_level=None) if locked else None
                if other:
                    other.execute("BEGIN IMMEDIATE")
                answers, stop = Answers(), asyncio.Event()
                task = asyncio.create_task(load(appliance.port, answers, stop))
                await asyncio.sleep(random.uniform(0.1, 0.6) + (1 if locked else 0))
                fd = os.open(mount, os.O_RDONLY)
                fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
                os.close(fd)
                # Without power, nothing is answered any more: what the client hears from here on does not count.
                before = dict(answers.twiml)
                stop.set()
                appliance.kill()
                with contextlib.suppress(sqlite3.Error, AttributeError):
                    other.close()
                await task
                calls += len(before)
                tell_progress("power", n + 1, rounds, calls)
                run("umount", str(mount))
                run("mount", "-o", "loop", str(image), str(mount))
            if not environment:
                check(appliance.stop() == 0, "it does not stop")
                check_chain(appliance)
                check(not appliance.panicked(), "a panic")
        finally:
            appliance.kill()
            subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)
            appliance.discard()
        return n_lost, calls


# ── system calls fail ───────────────────────────────────────────────────────────────────────────────────────────────────


def strace(state, call, inject, suffixes=("", "-wal", "-shm", "-journal", ".spool", ".ballast", ".lock", ".secret", ".new")):
    if not shutil.which("strace"):
        raise Skipped("strace is not installed")
    paths = [argument for suffix in suffixes for argument in ("-P", f"{state}/switchboard.db{suffix}")]
    return ["strace", "-f", "-qq", "-o", f"{state}/trace", *paths, "-e", f"trace={call}", "-e", f"inject={call}:{inject}"]


async def short_run(appliance, n_calls=6):
    """A start, a few calls, a stop. Gives what was acknowledged; nothing where it does not start."""
    answers = Answers()
    if await appliance.start() is None:
        return None
    lines = [Caller(appliance.port, answers) for _ in range(2)]
    for _ in range(n_calls // 2):
        await asyncio.gather(*(line.call() for line in lines))
    for line in lines:
        line.close()
    await asyncio.sleep(0.15)
    appliance.stop()
    return answers


async def sweep(args, outside):
    """The N-th call of each kind fails, once and for ever, for all N of a short run."""
    totals = []
    for call in ("openat", "pwrite64", "fdatasync", "ftruncate"):
        with directory() as state:
            appliance = Appliance(args.binary, outside, state, wrapper=strace(state, call, "delay_enter=0"))
            check(await short_run(appliance) is not None, f"the run to count {call} failed: {appliance.tail()}")
            # The counter of strace is one per thread.
            per_thread = {}
            for line in (state / "trace").read_text(errors="replace").splitlines():
                if call in line:
                    thread = line.split()[0]
                    per_thread[thread] = per_thread.get(thread, 0) + 1
            appliance.discard()
        most = max(per_thread.values(), default=0)
        numbers = range(1, most + 1)
        if not args.full:
            numbers = sorted(random.sample(numbers, min(len(numbers), 3)))
        runs = refused = in_log = acknowledged = 0
        for error in ("EIO", "ENOSPC"):
            for ever in ("", "+"):
                for n in numbers:
                    outcome = await one_injection(args, outside, call, f"error={error}:when={n}{ever}")
                    runs += 1
                    refused += outcome is None
                    acknowledged += outcome[0] if outcome else 0
                    in_log += outcome[1] if outcome else 0
        totals.append(f"{call} N=1..{most}: {runs} runs, {acknowledged} acknowledged, 0 lost ({in_log} in log lines), {refused} refused to start")
    return "; ".join(totals)


async def one_injection(args, outside, call, inject):
    with directory() as state:
        # A database that is there already: the first start is another run's.
        first = Appliance(args.binary, outside, state)
        check(await first.start() is not None, first.tail())
        check(first.stop() == 0, first.tail())
        first.discard()
        appliance = Appliance(args.binary, outside, state, wrapper=strace(state, call, inject))
        answers = await short_run(appliance)
        check(not appliance.panicked(), f"a panic with {call}:{inject}: {appliance.tail()}")
        if answers is None:
            check("cannot" in appliance.tail(), f"no reason given with {call}:{inject}: {appliance.tail()}")
        else:
            check(not answers.failed, f"failed calls with {call}:{inject}: {answers.failed[:2]}")
            check(not answers.late(), f"late answers with {call}:{inject}: {answers.late()}")
        again = Appliance(args.binary, outside, state)
        check(await again.start() is not None, f"no start after {call}:{inject}: {again.tail()}")
        result = None
        if answers is not None:
            lost = await check_all(again, answers.twiml, patience=3)
            in_log = journaled(appliance, lost)
            check(len(in_log) == len(lost), f"lost with {call}:{inject}: {lost[:2]}\n{appliance.tail()}")
            result = (len(answers.twiml), len(in_log))
        check(again.stop() == 0, again.tail())
        check_chain(again)
        again.discard()
        appliance.discard()
        return result


async def stall(args, outside):
    """fdatasync takes 2 s and 30 s: nobody waits for it, and nothing is lost or written twice."""
    told = []
    for seconds in (2, 30) if args.full else (2,):
        with directory() as state:
            wrapper = strace(state, "fdatasync", f"delay_enter={seconds * 1_000_000}:when=8+20", suffixes=("-wal",))
            appliance = Appliance(args.binary, outside, state, wrapper=wrapper)
            check(await appliance.start() is not None, appliance.tail())
            answers = await steady(appliance, seconds * 2 + 2, per_second=20)
            lost = await check_all(appliance, answers.twiml, patience=seconds * 2 + 10)
            check(not lost, f"lost: {lost[:3]}")
            check(not answers.late(), f"answers later than 2 s: {answers.late()}")
            check_order(appliance, answers.twiml)
            check(appliance.lines("store.failing"), "the stall was not noticed")
            appliance.kill()
            check_chain(appliance)
            told.append(f"{seconds} s: {len(answers.twiml)} calls, slowest answer {max(answers.seconds):.2f} s, 0 lost")
            appliance.discard()
    return "; ".join(told)


async def steady(appliance, seconds, per_second, during=None):
    """A steady load for some seconds; `during` happens a second after its begin."""
    answers, stop = Answers(), asyncio.Event()
    task = asyncio.create_task(load(appliance.port, answers, stop, connections=8, per_second=per_second))
    if during:
        await asyncio.sleep(1)
        await during()
    await asyncio.sleep(seconds)
    stop.set()
    await task
    check(not answers.failed, f"failed calls: {answers.failed[:3]}")
    check(answers.twiml, "no call was answered")
    return answers


# ── the disk is full, locked, gone ──────────────────────────────────────────────────────────────────────────────────────


def fill(state):
    """Takes every free byte."""
    with open(state / "filler", "ab", buffering=0) as file:
        for size in (MIB, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


async def full(args, outside):
    """The disk is full under load, and has room again."""
    with tmpfs(32) as state:
        appliance = Appliance(args.binary, outside, state)
        check(await appliance.start() is not None, appliance.tail())
        answers, stop = Answers(), asyncio.Event()
        task = asyncio.create_task(load(appliance.port, answers, stop, connections=8, per_second=100))
        await asyncio.sleep(1)
        fill(state)
        # The reserve is given up; fill that as well, so that only the spool is left.
        for _ in range(20 if args.full else 10):
            await asyncio.sleep(0.5)
            fill(state)
        during = len(answers.twiml)
        (state / "filler").unlink()
        await asyncio.sleep(2)
        stop.set()
        await task
        check(not answers.failed, f"failed calls: {answers.failed[:3]}")
        check(appliance.lines("store.failing"), "the disk was never full")
        check(appliance.lines("store.disk_full"), "the reserve was not given up")
        lost = await check_all(appliance, answers.twiml)
        check(not lost, f"lost: {lost[:3]} of {len(lost)}")
        check_order(appliance, answers.twiml)
        check(not answers.late(), f"answers later than 2 s: {answers.late()}")
        check(not appliance.lines("store.record_lost"), "records were lost")
        check(appliance.stop() == 0, appliance.tail())
        check_chain(appliance)
        check(not appliance.panicked(), "a panic")
        unkept = len(appliance.lines("store.record_unkept"))
        appliance.discard()
    return (
        f"{len(answers.twiml)} calls ({during} until there was room again), 0 failed, 0 lost, order kept; "
        f"slowest answer {max(answers.seconds):.2f} s; {unkept} records beyond the spool had a copy in the log"
    )


async def full_start(args, outside):
    """It is started on a full disk."""
    with tmpfs(32) as state:
        appliance = Appliance(args.binary, outside, state)
        check(await appliance.start() is not None, appliance.tail())
        check(appliance.stop() == 0, appliance.tail())
        fill(state)
        check(await appliance.start() is not None, f"no start on a full disk: {appliance.tail()}")
        answers = await steady(appliance, 1, per_second=20)
        lost = await check_all(appliance, answers.twiml)
        check(not lost, f"lost: {lost[:3]}")
        check(appliance.lines("store.disk_full"), "the reserve was not given up")
        (state / "filler").unlink()
        check(appliance.stop() == 0, appliance.tail())
        appliance.discard()
    return f"started with the reserve released, {len(answers.twiml)} calls, 0 lost"


async def lock(args, outside):
    """Another process holds the database's lock."""
    seconds = 60 if args.full else 4
    with directory() as state:
        appliance = Appliance(args.binary, outside, state)
        check(await appliance.start() is not None, appliance.tail())
        other = sqlite3.connect(appliance.database, isolation_level=None)
        async def hold():
            other.execute("BEGIN IMMEDIATE")
        answers = await steady(appliance, seconds, per_second=50, during=hold)
        other.execute("ROLLBACK")
        other.close()
        lost = await check_all(appliance, answers.twiml)
        check(not lost, f"lost: {lost[:3]} of {len(lost)}")
        check_order(appliance, answers.twiml)
        check(not answers.late(), f"answers later than 2 s: {answers.late()}")
        check(appliance.stop() == 0, appliance.tail())
        check_chain(appliance)
        appliance.discard()
    return f"lock held {seconds} s: {len(answers.twiml)} calls, slowest answer {max(answers.seconds):.2f} s, 0 failed, 0 lost, order kept"


async def spool_full(args, outside):
    """The database takes nothing, and the spool is full as well: memory, with a copy in the log. Then the process is killed."""
    with directory() as state:
        appliance = Appliance(args.binary, outside, state, storage="spool_mib = 1")
        check(await appliance.start() is not None, appliance.tail())
        other = sqlite3.connect(appliance.database, isolation_level=None)
        async def hold():
            other.execute("BEGIN IMMEDIATE")
        answers = await steady(appliance, 8, per_second=100, during=hold)
        unkept = len(appliance.lines("store.record_unkept"))
        check(unkept > 0, "the spool never was full")
        appliance.kill()
        other.execute("ROLLBACK")
        other.close()
        again = Appliance(args.binary, outside, state)
        check(await again.start() is not None, again.tail())
        lost = await check_all(again, answers.twiml, patience=5)
        in_log = journaled(appliance, lost)
        check(len(in_log) == len(lost), f"nowhere: {len(lost) - len(in_log)} calls")
        check(again.stop() == 0, again.tail())
        check_chain(again)
        appliance.discard()
        again.discard()
    return f"{len(answers.twiml)} calls, killed: {len(answers.twiml) - len(lost)} in the database, {len(in_log)} in log lines, 0 nowhere"


async def read_only(args, outside):
    """The state directory is missing, or read-only."""
    told = []
    with directory() as state:
        appliance = Appliance(args.binary, outside, state / "missing")
        check(await appliance.start() is None, "it started without its directory")
        check("missing" in appliance.tail(), f"the message does not name the path: {appliance.tail()}")
        told.append(f"missing: exit code {appliance.process.returncode}, path named")
        appliance.discard()
    with tmpfs(32) as state:
        appliance = Appliance(args.binary, outside, state)
        check(await appliance.start() is not None, appliance.tail())
        check(appliance.stop() == 0, appliance.tail())
        run("mount", "-o", "remount,ro", str(state))
        check(await appliance.start() is None, "it started on a read-only disk")
        check("switchboard.db" in appliance.tail(), f"the message does not name the path: {appliance.tail()}")
        told.append(f"read-only: exit code {appliance.process.returncode}, path named")
        appliance.discard()
    return "; ".join(told)


async def sidecars(args, outside):
    """-shm and -wal are deleted after a kill."""
    with directory() as state:
        appliance = Appliance(args.binary, outside, state)
        check(await appliance.start() is not None, appliance.tail())
        answers = await steady(appliance, 1, per_second=50)
        await asyncio.sleep(0.1)
        appliance.kill()
        Path(f"{appliance.database}-shm").unlink()
        check(await appliance.start() is not None, f"no start without -shm: {appliance.tail()}")
        lost = await check_all(appliance, answers.twiml)
        check(not lost, f"lost without -shm: {lost[:3]}")
        more = await steady(appliance, 1, per_second=50)
        appliance.kill()
        Path(f"{appliance.database}-wal").unlink()
        took = await appliance.start()
        if took is None:
            told = f"without -wal it refuses to start: {appliance.tail().strip().splitlines()[-1]}"
        else:
            lost = await check_all(appliance, more.twiml, patience=3)
            said = bool(appliance.lines("store.wal_missing"))
            check(said, f"{len(lost)} calls were in the -wal, and nobody says that it is gone")
            told = f"without -wal it starts; {len(lost)} of {len(more.twiml)} calls were in it, said: {said}"
        appliance.discard()
    return f"without -shm: {len(answers.twiml)} calls, 0 lost; {told}"


async def corrupt(args, outside):
    """A page of the calls' index is overwritten: calls go on."""
    with directory() as state:
        appliance = Appliance(args.binary, outside, state)
        check(await appliance.start() is not None, appliance.tail())
        before = await steady(appliance, 2, per_second=100)
        check(appliance.stop() == 0, appliance.tail())
        with sqlite3.connect(f"file:{appliance.database}?mode=ro&immutable=1", uri=True) as db:
            root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_calls_1'").fetchone()[0]
            size = db.execute("PRAGMA page_size").fetchone()[0]
        db.close()
        with open(appliance.database, "r+b") as file:
            file.seek((root - 1) * size)
            file.write(b"\xff" * size)
        check(await appliance.start() is not None, f"it does not start: {appliance.tail()}")
        answers = await steady(appliance, 2, per_second=50)
        check(not answers.late(), f"answers later than 2 s: {answers.late()}")
        failing = appliance.lines("store.failing")
        check(failing, "the damage was not noticed")
        appliance.stop()
        check(not appliance.panicked(), "a panic")
        lost = len(appliance.lines("store.record_lost"))
        check(lost == 0, f"{lost} records lost")
        appliance.discard()
    return f"{len(before.twiml)} calls before; {len(answers.twiml)} answered on the damaged database, kept in the spool; said: {failing[0].get('error')}"


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (kill, power, power_spool, sweep, stall, full, full_start, lock, spool_full, read_only, sidecars, corrupt)
}


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS])
    parser.add_argument("--full", action="store_true", help="all rounds instead of a sample")
    parser.add_argument("--rounds", type=int, help="rounds of kill and power")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    args = parser.parse_args()
    args.binary = Path(args.binary).resolve()
    random.seed(args.seed)
    print(f"seed {args.seed}; kernel {os.uname().release}, {os.cpu_count()} processors", flush=True)
    outside = Outside()
    port = await outside.start()
    failed = 0
    for name in args.scenarios or SCENARIOS:
        started = time.monotonic()
        try:
            said = f"ok       {await SCENARIOS[name](args, port)}"
        except Skipped as reason:
            said = f"SKIPPED  {reason}"
        except (Failed, AssertionError) as reason:
            failed += 1
            said = f"FAILED   {reason}"
        print(f"{name:>10}  {said}  ({time.monotonic() - started:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
