"""The API against its own description: schemathesis asks the real binary everything that `/openapi.json` allows, and much that it does not.

    python3 tests/schemathesis/run.py <switchboard> [<st>]

Three times: with the key of an admin, with the key of a viewer, and without a key. The binary serves from a file, so that it can be
reloaded; Braze, the dialer and the receiver of alerts are stand-ins on loopback, and calls come in all the while. Everything is seeded. The
checks of schemathesis are all on; `hooks.py` beside this file adds what a description cannot say.
"""

import asyncio
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "faults"))
import world  # noqa: E402

SEED = 20261126
CALLS_PER_SECOND = 10
# Cases that are made up for each operation and kind of data, and what may pass until all of them are answered.
EXAMPLES = {"admin": 25, "viewer": 15, "nobody": 10}
PATIENCE_S = 150
CALLER = "+491510000042"

KEYS = {who: f"swb_{who}-{'x' * 37}" for who in ("admin", "viewer")}

SECTIONS = """
[alerts]
failure_rate_percent = 5

[alerts.webhook]
url = "http://127.0.0.1:{outside}/alerts"
secret = "made-up"
""" + "".join(
    f"""
[[auth.keys]]
name = "{who}"
role = "{who}"
hash = "{hashlib.sha256(key.encode()).hexdigest()}"
"""
    for who, key in KEYS.items()
)

CONFIG = """
seed = {seed}
workers = 1
hooks = "{hooks}"
request-timeout = 15
# Some events of the stream, which has no end; calls come in all the while, so they come soon.
max-stream-events = 2
base-url = "{url}"
continue-on-failure = true

[cache]
enabled = false

[generation]
max-examples = {examples}
database = "none"

[warnings]
enabled = false

# Half of what is asked for by name is there.
[dictionaries]
calls = {{ values = {call_ids} }}
dialers = {{ values = ["line"] }}
numbers = {{ values = ["{caller}"] }}

[parameters]
"path.call_id" = {{ dictionary = "calls", probability = 0.5 }}
"path.name" = {{ dictionary = "dialers", probability = 0.5 }}
"path.phone_number" = {{ dictionary = "numbers", probability = 0.5 }}
"query.q" = {{ dictionary = "numbers", probability = 0.3 }}

# What a schema cannot say is refused by 400 as well: that a text is rules, that a time is still to come.
[[operations]]
include-path = ["/api/v1/routing/draft", "/api/v1/routing/publish", "/api/v1/routing/lists/{{name}}/entries", "/api/v1/alerts/mutes", "/api/v1/dialers/{{name}}/drain"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409"]
"""


def ask(port, method, path, key=None, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method, data=body and json.dumps(body).encode())
    if key:
        request.add_header("X-API-Key", key)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.status, answer.read()


async def examine(st, port, who, call_ids, folder):
    """One run of schemathesis; gives how it ended and what it printed."""
    url = f"http://127.0.0.1:{port}"
    config = folder / f"{who}.toml"
    settings = {"seed": SEED, "hooks": HERE / "hooks.py", "url": url, "examples": EXAMPLES[who]}
    config.write_text(CONFIG.format(**settings, call_ids=json.dumps(call_ids), caller=CALLER))
    command = [st, "--config-file", str(config), "run", f"{url}/openapi.json", "--no-color"]
    if who in KEYS:
        command += ["-H", f"X-API-Key: {KEYS[who]}"]
    environment = {**os.environ, "WHO": who, "NO_PROXY": "*", "no_proxy": "*"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return f"not done after {PATIENCE_S} s", ""
    return process.returncode, printed.decode(errors="replace")


async def main(binary, st):
    # In memory where that can be had: a disk that is busy with something else must not answer for the API.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="switchboard-api-", dir=memory))
    outside = world.Outside()
    outside_port = await outside.start()
    appliance = world.Appliance(binary, outside_port, folder, storage="spool_mib = 4\nballast_mib = 4")
    appliance.sections = SECTIONS.format(outside=outside_port)
    stop = asyncio.Event()
    answers = world.Answers()
    failed = []
    try:
        if await appliance.start() is None:
            sys.exit(f"it does not start: {appliance.tail()}")
        calls = asyncio.create_task(world.load(appliance.port, answers, stop, connections=1, per_second=CALLS_PER_SECOND))
        call = {"caller": CALLER, "called": "+4930123456", "external_id": "pbx-1"}
        _, answer = await asyncio.to_thread(ask, appliance.port, "POST", "/api/v1/calls", KEYS["admin"], call)
        call_ids = [json.loads(answer)["data"]["call_id"]]
        while len(call_ids) < 3:
            _, answer = await asyncio.to_thread(ask, appliance.port, "GET", "/api/v1/calls", KEYS["viewer"])
            call_ids = [call["call_id"] for call in json.loads(answer)["data"]][-3:]
            await asyncio.sleep(0.1)
        for who in ("admin", "viewer", "nobody"):
            # Whoever was before may have taken it out.
            await asyncio.to_thread(ask, appliance.port, "POST", "/api/v1/dialers/line/resume", KEYS["admin"])
            started = time.monotonic()
            code, printed = await examine(st, appliance.port, who, call_ids, folder)
            print(printed)
            print(f"as {who}: {'no finding' if code == 0 else f'failed ({code})'}, {time.monotonic() - started:.0f} s", flush=True)
            if code != 0:
                failed.append(who)
        stop.set()
        await calls
        print(f"{len(answers.twiml)} calls answered meanwhile, {len(answers.failed)} failed")
        # What was asked has locked nobody out, and the process is as well as before.
        for who, key in KEYS.items():
            await asyncio.to_thread(ask, appliance.port, "GET", "/api/v1/calls", key)
        if answers.failed or not answers.twiml:
            failed.append(f"calls: {answers.failed[:3]}")
        if appliance.panicked():
            failed.append(f"a panic: {appliance.tail()}")
        if appliance.stop() != 0:
            failed.append(f"the end: {appliance.tail()}")
    finally:
        stop.set()
        appliance.discard()
        shutil.rmtree(folder, ignore_errors=True)
    if failed:
        sys.exit(f"api: failed: {failed}")
    print("api: all checks passed")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve(), sys.argv[2] if len(sys.argv) > 2 else "st"))
