#!/usr/bin/env python3
"""Calls against a dialer that may have 40 at once: it never has more than those and the ones in hand, also over kill -9.

    cargo build --release
    python3 tests/faults/caps.py target/release/switchboard                    # 200 calls/s, 30 s, 3 kills

Every caller who is put through talks for a random time and hangs up; who is told to wait hangs up at once. The client counts who talks; after each
restart the appliance's own count is compared with it. Fails where a call is put through although 40 others and those in hand are, or where
the counts differ.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from world import Answers, Appliance, Caller, Outside

LINE = "+4930555000"
MAX_ACTIVE = 40


class Floor:
    """Who talks now, as the client knows it."""

    def __init__(self):
        self.talking = set()
        self.in_hand = 0
        self.most = self.most_over = self.n_talked = self.n_waited = 0
        self.ending = []


async def one(appliance, floor, chance, answers):
    caller = Caller(appliance.port, answers)
    floor.in_hand += 1
    in_hand = floor.in_hand
    sid = None
    try:
        sid = await caller.call()
    except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
        pass
    finally:
        floor.in_hand -= 1
    if sid is None:
        return
    if f">{LINE}<" in answers.twiml[sid]:
        floor.talking.add(sid)
        floor.n_talked += 1
        floor.most = max(floor.most, len(floor.talking))
        floor.most_over = max(floor.most_over, len(floor.talking) - MAX_ACTIVE - max(in_hand, floor.in_hand + 1))
        await asyncio.sleep(chance.uniform(0.05, 0.5))
    else:
        floor.n_waited += 1
    # Twilio repeats a status callback that nobody answers.
    for _ in range(200):
        try:
            caller.close()
            caller = Caller(appliance.port, answers)
            floor.talking.discard(sid)
            await caller.hang_up(sid)
            break
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            await asyncio.sleep(0.1)
    caller.close()


async def active(appliance):
    """How many calls the appliance counts at the line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", appliance.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    lines = [line for line in text.splitlines() if line.startswith('switchboard_dialer_active{dialer="line"}')]
    return int(float(lines[0].split()[-1])) if lines else 0


async def run(args):
    outside, chance = Outside(), random.Random(20261130)
    port = await outside.start()
    with tempfile.TemporaryDirectory(prefix="switchboard-state-") as state:
        appliance = Appliance(args.binary, port, state)
        appliance.sections = f"[routing.limits.line]\nmax_active = {MAX_ACTIVE}\n"
        await appliance.start()
        floor, answers = Floor(), Answers()
        for period in range(args.kills + 1):
            tasks, started = [], time.monotonic()
            for n in range(int(args.seconds / (args.kills + 1) * args.rate)):
                await asyncio.sleep(max(0, started + n / args.rate - time.monotonic()))
                tasks.append(asyncio.create_task(one(appliance, floor, chance, answers)))
            if period < args.kills:
                # Those who talk at the kill go on talking.
                appliance.kill()
                await appliance.start()
                appliance_port = appliance.port
                print(f"  restarted on port {appliance_port}; {len(floor.talking)} talk", flush=True)
            await asyncio.gather(*tasks)
            counted = await active(appliance)
            if counted != len(floor.talking):
                print(f"  the appliance counts {counted}, and {len(floor.talking)} talk")
                return 1
        print(
            f"{floor.n_talked} were put through, {floor.n_waited} had to wait, {len(answers.failed)} failed; "
            f"at most {floor.most} talked at once, {max(0, floor.most_over)} beyond {MAX_ACTIVE} and those in hand"
        )
        appliance.stop()
        appliance.discard()
        return 1 if floor.most_over > 0 or floor.most < MAX_ACTIVE else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    args.binary = str(Path(args.binary).resolve())
    sys.exit(asyncio.run(run(args)))


if __name__ == "__main__":
    main()
