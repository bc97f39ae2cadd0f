#!/usr/bin/env python3
"""Kills machines under calls, and says what the callers heard.

    cargo build --release
    python3 tests/fleet/run.py target/release/switchboard t1 --balancer nginx --kills 20 --for 300
    python3 tests/fleet/run.py target/release/switchboard t1 --balancer haproxy --kills 20 --for 300
    python3 tests/fleet/run.py target/release/switchboard t3 --balancer haproxy --kills 10 --for 200
    python3 tests/fleet/run.py target/release/switchboard t4 --kills 10 --for 200
    python3 tests/fleet/run.py target/release/switchboard t18 --balancer nginx --kills 100 --for 400
    python3 tests/fleet/run.py target/release/switchboard short        # of t1 behind both balancers, and t4: what the gate runs

t1   two nodes behind a balancer; either is ended by kill -9 at random moments, and started again
t3   the same, and the machine vanishes: the node stands still (SIGSTOP) for some seconds before it is gone
t4   no balancer: the number's URL is at a, its fallback URL at b, and a is ended. Assumes that Twilio asks the fallback URL also where an action URL fails,
     which it does not promise; with --actions-do-not-fall-back the run shows what is lost where it does not, and fails for nothing
t18  the balancer alone: POSTs are in hand at every kill, and every one gets a 200

Prints a table, or with --json a JSON document. Exit code 1 where a promise is broken. Needs Python 3.9 or later, openssl, nginx or haproxy.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import fleet
from fleet import DESK, ENGAGED, HOT, LAST_RESORT, LUKEWARM, ONE, TWO, WARM

# Around a kill, answers may take longer; outside of these they may not.
SHADOW_MS = 4000
PATIENCE_MS = 240_000
# After a node is ready, until HAProxy's checks have seen it twice.
SETTLED_S = 3
START_S = 30
# A caller who waited may be overtaken by one who came so much later: two lines, one question every five seconds.
OVERTAKEN_MS = 12_000


def answers(ring_ms, talk_ms):
    return {"ring_ms": ring_ms, "talk_ms": talk_ms}


LINES = {ONE: answers(1500, 6000), TWO: answers(1500, 5000), DESK: answers(800, 3200), ENGAGED: "busy", LAST_RESORT: answers(800, 2000)}
MIX = [
    {"name": "bridged", "share": 60, "from": HOT, "patience_ms": PATIENCE_MS},
    {"name": "fails over", "share": 20, "from": LUKEWARM, "patience_ms": PATIENCE_MS},
    {"name": "held", "share": 10, "from": WARM, "patience_ms": PATIENCE_MS},
    {"name": "hangs up", "share": 10, "from": HOT, "lines": [{"hang_up_ms": 1200}], "patience_ms": PATIENCE_MS},
]
# Callers who ring for a moment: nearly nothing but webhooks of new calls, and of their ends.
BRIEF = [{"name": "hangs up", "share": 1, "from": HOT, "lines": [{"hang_up_ms": 50}], "patience_ms": PATIENCE_MS}]
EXPECTED = {"bridged": {ONE, TWO}, "fails over": {TWO}, "held": {DESK}}


class Killed:
    def __init__(self, name):
        self.name = name
        self.at_ms = time.time() * 1000
        self.in_hand = self.further = 0


async def killing(world, args, kills):
    """Ends nodes at random moments, one at a time, and starts each again."""
    slot = args.seconds / args.kills
    down = min(10, slot / 4)
    for n in range(args.kills):
        begins = time.monotonic()
        # One machine at a time: the other is one that the balancer counts on again.
        for node in world.nodes.values():
            await node.ready()
        await asyncio.sleep(SETTLED_S + random.uniform(0, 1) * min(4, slot / 4))
        name = "a" if args.test == "t4" else "ab"[n % 2]
        node = world.nodes[name]
        killed = Killed(name)
        if args.test == "t3":
            os.killpg(node.process.pid, signal.SIGSTOP)
            await asyncio.sleep(min(4, slot / 4))
        node.kill()
        kills.append(killed)
        await asyncio.sleep(down)
        took = await node.start(START_S)
        assert took is not None, f"{name} does not start again: {node.tail()}"
        await asyncio.sleep(max(0, begins + slot - time.monotonic()))


async def drive(world, args):
    order = {"per_second": args.rate, "seconds": 86_400, "mix": BRIEF if args.test == "t18" else MIX}
    settings = {"fallback_after_actions": not args.actions_do_not_fall_back}
    await asyncio.to_thread(world.carrier.ask, "POST", "/settings", settings)
    await asyncio.to_thread(world.carrier.ask, "POST", "/lines", LINES)
    await asyncio.to_thread(world.carrier.ask, "POST", "/calls", order)
    kills = []
    task = asyncio.create_task(killing(world, args, kills))
    while not task.done():
        await asyncio.sleep(1)
        await asyncio.to_thread(world.carrier.collect)
    await task
    await asyncio.to_thread(world.carrier.ask, "POST", "/stop")
    patience = time.monotonic() + PATIENCE_MS / 1000 + 30
    while await asyncio.to_thread(world.carrier.collect) and time.monotonic() < patience:
        await asyncio.sleep(0.5)
    return kills


def rounds_of(call):
    return [int(found.group(1)) for moment in call["heard"] for found in [re.search(r"/hold\?(?:.*&)?n=(\d+)", moment["url"])] if found]


def overtaken(calls):
    """Callers for the desk who were put through after somebody who came much later."""
    served = []
    for call in calls:
        if call["kind"] == "held":
            rung = [moment["at_ms"] for moment in call["heard"] if f"ring {DESK}" in moment["heard"]]
            if rung:
                served.append((rung[0], call["heard"][0]["at_ms"]))
    latest, n = 0, 0
    for _, came in sorted(served):
        n += came < latest - OVERTAKEN_MS
        latest = max(latest, came)
    return n


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def examine(world, args, kills):
    calls = world.carrier.calls
    steps = [step for call in calls for step in call["webhooks"]]
    by_kind = collections.Counter(call["kind"] for call in calls)
    lost, safe, back, strange = [], [], [], []
    for call in calls:
        heard = [what for moment in call["heard"] for what in moment["heard"]]
        expected = EXPECTED.get(call["kind"])
        is_safe = f"ring {LAST_RESORT}" in heard
        if is_safe:
            safe.append(call)
        if "lost" in heard or (expected and call["outcome"] != "talked"):
            lost.append(call)
        elif expected and call["talked_to"] not in expected and not is_safe:
            strange.append(call)
        if rounds_of(call) != sorted(rounds_of(call)):
            back.append(call)
    # A handoff is further where the same dialer was told of the same call before.
    told = collections.defaultdict(list)
    for at_ms, dialer, sid in sorted(world.outside.handoffs):
        told[sid, dialer].append(at_ms)
    further = [(times[n], sid) for (sid, _), times in told.items() for n in range(1, len(times))]
    for at_ms, _ in further:
        before = [killed for killed in kills if killed.at_ms <= at_ms]
        if before:
            before[-1].further += 1
    for killed in kills:
        killed.in_hand = sum(step["at_ms"] <= killed.at_ms <= step["at_ms"] + step["ms"] + 1 for step in steps)
    not_200 = [(step, why) for step in steps for why in step["failed"]]
    quiet = [
        step["ms"] for step in steps if not any(killed.at_ms - 3000 <= step["at_ms"] <= killed.at_ms + SHADOW_MS for killed in kills)
    ]
    known = {name: node.call_sids() for name, node in world.nodes.items()}
    unrecorded = [call for call in calls if not any(call["call_sid"] in sids for sids in known.values())]
    waited = sum(len(rounds_of(call)) > 0 for call in calls if call["kind"] == "held")
    figures = {
        "test": args.test,
        "balancer": args.balancer,
        "calls": len(calls),
        "of them": dict(by_kind),
        "waited in line": waited,
        "webhooks": len(steps),
        "kills": len(kills),
        "callers lost": len(lost),
        "put back in line": len(back),
        "safe answers": len(safe),
        "put through elsewhere": len(strange),
        "overtaken in line": overtaken(calls),
        "in hand at the kills": sum(killed.in_hand for killed in kills),
        "further handoffs": len(further),
        "most of one kill: further / in hand": max(((killed.further, killed.in_hand) for killed in kills), default=(0, 0)),
        "more further than in hand": sum(killed.further > killed.in_hand for killed in kills),
        "third handoffs": sum(len(times) > 2 for times in told.values()),
        "calls of both nodes": len(known["a"] & known["b"]),
        "calls without a record": len(unrecorded),
        "attempts without a 200": len(not_200),
        "repeated by Twilio": sum(step["attempts"] - 1 for step in steps),
        "answer p50 ms": percentile(quiet, 0.5),
        "answer p99 ms": percentile(quiet, 0.99),
        "slowest ms": max((step["ms"] for step in steps), default=0),
        "complaints": sum(len(call["violations"]) for call in calls),
    }
    promises = {
        "no caller is lost": not lost,
        "no caller is put back in line": not back,
        "no caller gets the safe answer": not safe,
        "every caller reaches who was meant": not strange,
        "no more further handoffs than webhooks in hand": not figures["more further than in hand"],
        "never a third handoff for one call": not figures["third handoffs"],
        "calls came, and nodes were killed": len(calls) > args.seconds * args.rate * 0.6 and len(kills) == args.kills,
        "every call is recorded at a node": not unrecorded,
        "the chains of both are whole": not any(fleet.world.chain_problem(node.database) for node in world.nodes.values()),
        "nobody panicked": not any(node.panicked() for node in world.nodes.values()),
    }
    if args.balancer != "none":
        # HAProxy before 2.8 does not replay a POST where the connection was reset: the process had not read it yet.
        excused = "11206" if args.balancer == "haproxy" and fleet.haproxy_version() < (2, 8) else "none"
        promises["every webhook got a 200 at once"] = all(why.startswith(excused) for _, why in not_200)
        promises["no answer took longer than 4.5 s"] = figures["slowest ms"] <= 4500
    if args.test == "t1":
        promises["somebody waited in line"] = waited > 0
    if args.test == "t18":
        promises["POSTs were in hand at the kills"] = figures["in hand at the kills"] >= len(kills)
    examples = {name: found[:2] for name, found in (("lost", lost), ("safe", safe), ("back", back), ("elsewhere", strange), ("unrecorded", unrecorded)) if found}
    examples["not_200"] = [{**step, "why": why} for step, why in not_200[:5]]
    examples["complaints"] = [text for call in calls for text in call["violations"]][:5]
    return figures, promises, examples


async def run(args):
    random.seed(args.seed)
    dialer_s = 0.1 if args.test == "t18" else 0.15
    # One call in ten is for the desk, for 4 s: one node alone cannot put all of them through at once.
    desk_calls = max(1, round(args.rate * 0.4 * args.desk * (2 if args.test == "t4" else 1)))
    async with fleet.Fleet(args.binary, args.balancer, dialer_s, desk_calls) as world:
        kills = await drive(world, args)
        figures, promises, examples = examine(world, args, kills)
        figures["nodes are named"] = world.names_nodes
        if args.keep_logs:
            for node in world.nodes.values():
                Path(args.keep_logs, f"{node.name}.log").write_bytes(node.log.read_bytes())
            for log in world.folder.glob("*.log"):
                Path(args.keep_logs, log.name).write_bytes(log.read_bytes())
    assumed = args.test == "t4"
    # Nobody is killed then, and answers are late all the same: the machine is too busy for so many calls, and the run says nothing of the nodes.
    if figures["answer p99 ms"] > 1500 and args.rate > 2:
        print(f"{args.test}, {args.balancer}: too busy a machine for {args.rate} calls a second; again with half of them", flush=True)
        return await run(argparse.Namespace(**{**vars(args), "rate": args.rate / 2}))
    broken = [promise for promise, holds in promises.items() if not holds]
    if args.actions_do_not_fall_back:
        broken = []
    if args.json:
        print(json.dumps({"figures": figures, "promises": promises, "examples": examples, "seed": args.seed}, indent=1), flush=True)
    else:
        print(f"\n{args.test}, {args.balancer}, seed {args.seed}, {os.cpu_count()} processors")
        if assumed:
            does = "does not ask" if args.actions_do_not_fall_back else "asks"
            print(f"assumption: Twilio {does} the number's fallback URL where an action URL fails")
        for name, value in figures.items():
            print(f"  {name:<38} {value}")
        for promise, holds in promises.items():
            print(f"  {'ok    ' if holds else 'BROKEN'} {promise}")
        if broken and args.examples:
            print(json.dumps(examples, indent=1)[:20_000])
        sys.stdout.flush()
    return not broken


def short(args):
    """The version of the gate."""
    plans = [("t1", "nginx", 2, 14), ("t1", "haproxy", 2, 14), ("t4", "none", 1, 7)]
    for test, balancer, kills, seconds in plans:
        yield argparse.Namespace(**{**vars(args), "desk": 0.4, "test": test, "balancer": balancer, "kills": kills, "seconds": seconds})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("test", choices=["t1", "t3", "t4", "t18", "short"])
    parser.add_argument("--balancer", choices=["nginx", "haproxy", "none"], default="nginx")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--for", dest="seconds", type=float, default=300, metavar="SECONDS")
    parser.add_argument("--rate", type=float, help="calls a second [default: 20; 25 of t18]")
    parser.add_argument("--desk", type=float, default=0.6, help="how much of what is meant for the desk one node can put through")
    parser.add_argument("--actions-do-not-fall-back", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--examples", action="store_true", help="print calls that broke a promise")
    parser.add_argument("--keep-logs", metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    args = parser.parse_args()
    args.binary = Path(args.binary).resolve()
    args.rate = args.rate or (25 if args.test == "t18" else 20)
    if args.test == "t4":
        args.balancer = "none"
    elif args.balancer == "none":
        parser.error(f"{args.test} takes a balancer")
    plans = list(short(args)) if args.test == "short" else [args]
    held = [asyncio.run(run(plan)) for plan in plans]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
