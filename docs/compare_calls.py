#!/usr/bin/env python3
"""Compares an export of the log with Twilio's own call log: nobody is asked, and no secret is needed.

compare_calls.py calls.csv export.jsonl [export.jsonl ...] [--number +4930900900 ...]

`calls.csv` is the call log from Twilio's console or API, `export.jsonl` what `switchboard audit export --format jsonl` wrote, with or without
--proof, of every machine that takes calls. Compared are the inbound calls of the time of the exports, to numbers that were called by them or are
named by --number. Each `completeness_checked` record whose time lies in both is made again. Ends with 0 if nothing is missing on either side and
every list is the recorded one, else with 1.
"""

import argparse
import csv
import datetime
import email.utils
import hashlib
import json
import sys


def moment(text):
    """ISO 8601, RFC 2822, or without a zone, which is UTC."""
    text = text.strip().removesuffix(" UTC")
    try:
        at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        at = email.utils.parsedate_to_datetime(text)
    return at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)


def listed(path):
    """The inbound calls of Twilio's file: id, number called, when it began."""

    def plain(name):
        return "".join(c for c in (name or "").lower() if c.isalpha())

    with open(path, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            row = {plain(name): value for name, value in row.items() if isinstance(value, str)}
            if plain(row["direction"]) in ("inbound", "incoming"):
                began = row.get("starttime") or row.get("date") or row["datecreated"]
                yield row.get("callsid") or row["sid"], row["to"].strip(), moment(began)


def records(paths):
    """The records of exports: number, time, kind, call, detail."""
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                line = json.loads(line)
                record = line.get("record", line)
                if "kind" not in record:
                    continue
                if "created_at" in record:
                    at = datetime.datetime.fromtimestamp(record["created_at"] / 1000, datetime.timezone.utc)
                else:
                    at = moment(record["at"])
                call = record["call_sid"] if "call_sid" in record else record["call_id"]
                detail = record["detail"]
                yield record["id"], at, record["kind"], call, json.loads(detail) if isinstance(detail, str) else detail


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv")
    parser.add_argument("export", nargs="+")
    parser.add_argument("--number", action="append", default=[])
    arguments = parser.parse_args()
    calls, checks, times = {}, [], []
    for number, at, kind, call, detail in records(arguments.export):
        times.append(at)
        if kind == "call_decided" and call.startswith("CA"):
            calls[call] = at
        elif kind == "completeness_checked":
            checks.append((number, detail))
    if not times:
        sys.exit("the exports hold no record")
    twilio = {sid: (to, at) for sid, to, at in listed(arguments.csv)}
    ours = {to for sid, (to, _) in twilio.items() if sid in calls} | set(arguments.number)

    def list_of(since, until):
        return sorted(sid for sid, (to, at) in twilio.items() if to in ours and since <= at < until)

    first, last = min(times).replace(microsecond=0) + datetime.timedelta(seconds=1), max(times)
    missing = [sid for sid in list_of(first, last) if sid not in calls]
    began = [at for _, at in twilio.values()] or [last]
    unlisted = sorted(sid for sid, at in calls.items() if sid not in twilio and min(began) <= at <= max(began))
    wrong = bool(missing or unlisted)
    for sid in missing:
        print(f"{sid}: Twilio has it, the exports have not")
    for sid in unlisted:
        print(f"{sid}: the exports have it, Twilio has not")
    for number, detail in checks:
        since, until = moment(detail["from"]), moment(detail["to"])
        if since < first - datetime.timedelta(seconds=1) or until < min(began):
            continue
        text = "".join(f"{sid}\n" for sid in list_of(since, until))
        same = hashlib.sha256(text.encode()).hexdigest() == detail["list_hash"]
        wrong = wrong or not same
        print(f"record {number}, {detail['from']} to {detail['to']}: {'the same list' if same else 'another list'}")
    print(f"{len(list_of(first, last))} calls of Twilio's, {len(missing)} missing, {len(unlisted)} not at Twilio")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
