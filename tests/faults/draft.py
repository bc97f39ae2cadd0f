#!/usr/bin/env python3
"""Calls beside a draft that sends one tier elsewhere: exactly the calls of that tier are listed, and what the draft costs of the processor.

    cargo build --release
    python3 tests/faults/draft.py target/release/switchboard                   # 10 rounds of 1,000 calls each

Two appliances take the same calls in turn, one with a draft. Fails where a call of the tier is not listed as different or another one is. Prints the
processor time for each call (from the scheduler's own account), median and range of the ratio over the rounds.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from world import Answers, Appliance, Caller, Outside, caller, config, new_sid

CALLERS = 8
# The answer comes before the draft has decided.
LOOK_EVERY_S = 0.1


class Scores(Outside):
    """Every other caller is hot."""

    def score(self, phone):
        return 90 if is_hot(phone) else 10


def is_hot(phone):
    return int(phone[-1]) % 2 == 0


def cpu_seconds(pid):
    """What all threads have run, in seconds."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def api(appliance, key, path, method="GET", body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{appliance.port}/api/v1{path}", data=body, method=method)
    request.add_header("X-API-Key", key)
    if body is not None:
        request.add_header("Content-Type", "application/toml")
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.read().decode()}") from None


async def calls(appliance, sids, answers):
    async def one(own):
        line = Caller(appliance.port, answers)
        for sid in own:
            await line.call(sid)
        line.close()

    await asyncio.gather(*(one(sids[n::CALLERS]) for n in range(CALLERS)))


async def settled(appliance, key, count):
    while True:
        found = await asyncio.to_thread(api, appliance, key, "/routing/draft/differences?page_size=1")
        if found["calls"] >= count:
            return found
        await asyncio.sleep(LOOK_EVERY_S)


def listed(appliance, key):
    """All calls that differ, page by page."""
    found, cursor = [], ""
    while True:
        page = api(appliance, key, f"/routing/draft/differences?page_size=200{cursor}")
        found += [one["call_id"] for one in page["data"]]
        following = page["next_cursor"]
        if not following:
            return found
        cursor = f"&cursor={following}"


async def run(args):
    outside = Scores()
    port = await outside.start()
    key = json.loads(subprocess.check_output([args.binary, "key", "new", "--name", "shift", "--role", "operator", "--json"]))
    with tempfile.TemporaryDirectory(prefix="switchboard-a-") as a, tempfile.TemporaryDirectory(prefix="switchboard-b-") as b:
        bare, drafting = [Appliance(args.binary, port, state) for state in (a, b)]
        for appliance in (bare, drafting):
            appliance.sections = f'[[auth.keys]]\nname = "shift"\nrole = "operator"\nhash = "{key["hash"]}"\n'
            await appliance.start()
        text = config(1, port, "x")
        draft = text[text.index("[routing]") : text.index("[dialers.line]")].replace('dialers = ["line"]', 'reject = "busy"')
        api(drafting, key["key"], "/routing/draft", "PUT", draft.encode())
        ratios, answers, expected, n_calls = [], Answers(), set(), 0
        per_call = {bare: [], drafting: []}
        for round_ in range(args.rounds + 1):
            used = {}
            for appliance in (bare, drafting) if round_ % 2 else (drafting, bare):
                sids = [new_sid() for _ in range(args.calls)]
                before = cpu_seconds(appliance.process.pid)
                await calls(appliance, sids, answers)
                if appliance is drafting:
                    n_calls += len(sids)
                    expected |= {sid for sid in sids if is_hot(caller(sid))}
                    found = await settled(drafting, key["key"], n_calls)
                used[appliance] = (cpu_seconds(appliance.process.pid) - before) / len(sids)
            # In the first round caches fill.
            if round_:
                ratios.append(used[drafting] / used[bare])
                for appliance, seconds in used.items():
                    per_call[appliance].append(seconds * 1e6)
        different = listed(drafting, key["key"])
        micros = [statistics.median(per_call[appliance]) for appliance in (bare, drafting)]
        print(f"{found['calls']} calls, {found['different']} different, {len(expected)} of the tier; {len(different)} listed")
        print(f"processor time for each call: {micros[0]:.0f} µs without a draft, {micros[1]:.0f} µs with one")
        print(f"ratio: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} rounds")
        wrong = set(different) ^ expected
        for appliance in (bare, drafting):
            appliance.stop()
            appliance.discard()
        failed = wrong or answers.failed or found["different"] != len(expected)
        if failed:
            print(f"wrong: {sorted(wrong)[:5]}; {len(answers.failed)} calls failed {answers.failed[:1]}")
        return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    args.binary = str(Path(args.binary).resolve())
    sys.exit(asyncio.run(run(args)))


if __name__ == "__main__":
    main()
