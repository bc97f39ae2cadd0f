#!/usr/bin/env python3
"""Tampers with a copy of an audit log, and with exports of it, in every way, and has both verifiers judge each copy: they must agree.

    audit_agreement.py SWITCHBOARD DATABASE CONFIG

DATABASE is a copy at rest, with its .signing.pub, .head and .secret beside it; CONFIG is a configuration that names it.
"""

import base64
import contextlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import verify_audit
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = os.path.dirname(os.path.abspath(__file__))
COLUMNS = ["id", "created_at", "kind", "call_sid", "personal", "detail", "previous_hash", "hash", "call_id"]
LIST = ", ".join(COLUMNS)
REST = ", ".join(COLUMNS[1:])
# Whatever both say: what was changed and then taken off the end, behind all that is signed, leaves nothing to find.
ANY = "any"


def judged(command):
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        document = json.loads(ran.stdout)
    except ValueError:
        return ("no document", ran.stderr.strip().splitlines()[-1:])
    assert (ran.returncode == 0) == document["ok"], ran
    return sorted({(finding["kind"], finding["record"]) for finding in document["findings"]}, key=str)


def copy(database, to):
    for suffix in ("", ".signing.pub", ".head"):
        if os.path.exists(database + suffix):
            shutil.copy(database + suffix, to + suffix)


@contextlib.contextmanager
def open_up(path):
    """What anybody can do who has the file, and leave no trace in its schema."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA ignore_check_constraints = ON")
    triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER {name}")
    yield db
    for _, sql in triggers:
        db.execute(sql)
    db.close()


def edit_schema(path, index, change):
    """Changes the text of an index in the schema, and nothing else."""
    db = sqlite3.connect(path, isolation_level=None)
    (version,) = db.execute("PRAGMA schema_version").fetchone()
    (sql,) = db.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (change(sql), index))
    db.execute(f"PRAGMA schema_version = {version + 1}")
    db.close()
    return sql


def leave_out_of_the_index(path):
    """The index of calls is made anew of other records, and then called what it was called."""
    index = "idx_audit_records_call_id"
    sql = edit_schema(path, index, lambda sql: sql + " AND kind <> 'call_answered'")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"REINDEX {index}")
    db.close()
    edit_schema(path, index, lambda _: sql)


def sign_anew(path):
    """Another key is named in the log, every hash computed anew, every checkpoint signed by it."""
    secret = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
    raw = secret.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    with open_up(path) as db:
        (log_id,) = db.execute("SELECT log_id FROM log_identity").fetchone()
        key = verify_audit.Key(log_id, raw)
        db.execute(
            "UPDATE audit_records SET detail = ? WHERE kind = 'signing_key_named'",
            (json.dumps({"key": key.line}),),
        )
        types = ", ".join(f"typeof({name})" for name in COLUMNS[1:])
        db.text_factory = bytes
        rows = db.execute(f"SELECT {LIST}, {types} FROM audit_records ORDER BY id").fetchall()
        hashes = []
        before = verify_audit.ZERO
        for columns in rows:
            values = list(columns)
            values[9:] = [name.decode() for name in values[9:]]
            row = verify_audit.Row(values)
            own = row.hash_after(before, row.id)
            db.execute("UPDATE audit_records SET previous_hash = ?, hash = ? WHERE id = ?", (before, own, row.id))
            hashes.append(own)
            before = own
        checkpoints = db.execute("SELECT id, size, frontier IS NOT NULL FROM audit_checkpoints ORDER BY id").fetchall()
        for number, size, has_tree in checkpoints:
            tree = verify_audit.Tree()
            for own in hashes[:size]:
                tree.append(own)
            body = f"{key.name}\n{size}\n{base64.b64encode(tree.root()).decode()}\n"
            signature = base64.b64encode(key.id + secret.sign(body.encode())).decode()
            note = f"{body}\n\u2014 {key.name} {signature}\n"
            frontier = b"".join(tree.entries) if has_tree else None
            db.execute("UPDATE audit_checkpoints SET note = ?, frontier = ? WHERE id = ?", (note, frontier, number))


def flip(db, table, column, row, at, bit):
    (value,) = db.execute(f"SELECT {column} FROM {table} WHERE id = ?", (row,)).fetchone()
    if value is None or value == b"" or value == "":
        return False
    if isinstance(value, int):
        value ^= 1 << (at % 8 * 8 + bit)
        if value >= 1 << 63:
            value -= 1 << 64
    else:
        raw = bytearray(value.encode() if isinstance(value, str) else value)
        raw[at % len(raw)] ^= 1 << bit
        if isinstance(value, str):
            db.execute(f"UPDATE {table} SET {column} = CAST(? AS TEXT) WHERE id = ?", (bytes(raw), row))
            return True
        value = bytes(raw)
    try:
        db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, row))
    except sqlite3.IntegrityError:
        return False
    return True


def hash_anew(path, record):
    """A record gets the hash that its content has after the hash that it names."""
    with open_up(path) as db:
        db.text_factory = bytes
        types = ", ".join(f"typeof({name})" for name in COLUMNS[1:])
        columns = db.execute(f"SELECT {LIST}, {types} FROM audit_records WHERE id = ?", (record,)).fetchone()
        if columns is None:
            return
        values = list(columns)
        values[9:] = [name.decode() for name in values[9:]]
        row = verify_audit.Row(values)
        own = row.hash_after(row.previous, row.id)
        if own is not None:
            db.execute("UPDATE audit_records SET hash = ? WHERE id = ?", (own, record))


def at_random(seed, n, n_signed):
    """Up to four things at once, near one another: anywhere, at the end, or at the end of what is signed, which is often nothing."""

    def tamper(path):
        chance = random.Random(seed)
        near = chance.choice([chance.randint(2, n), n - chance.randint(0, 8), n_signed + chance.randint(-4, 4)])
        place = lambda: min(max(near + chance.randint(-3, 3), 1), n)
        with open_up(path) as db:
            if chance.random() < 0.3:
                db.execute("DELETE FROM audit_checkpoints WHERE id = (SELECT max(id) FROM audit_checkpoints)")
            db.execute("UPDATE audit_records SET detail = detail || ' ' WHERE id = ?", (place(),))
            for _ in range(chance.randint(0, 3)):
                one, other = place(), chance.choice([place(), n + chance.randint(1, 4), -chance.randint(0, 3)])
                sql = chance.choice([
                    f"DELETE FROM audit_records WHERE id = {one}",
                    f"UPDATE audit_records SET detail = detail || ' ' WHERE id = {one}",
                    f"UPDATE audit_records SET previous_hash = zeroblob(32) WHERE id = {one}",
                    f"UPDATE audit_records SET hash = zeroblob(32) WHERE id = {one}",
                    f"UPDATE OR IGNORE audit_records SET id = {other} WHERE id = {one}",
                    f"INSERT OR IGNORE INTO audit_records ({LIST}) SELECT {other}, {REST} FROM audit_records WHERE id = {one}",
                    f"UPDATE audit_records SET id = -1000 - id WHERE id > {one}; UPDATE audit_records SET id = -999 - id WHERE id < -1000",
                    f"DELETE FROM audit_records WHERE id = {one}; UPDATE audit_records SET id = -1000 - id WHERE id > {one}; UPDATE audit_records SET id = -1001 - id WHERE id < -1000",
                ])
                db.executescript(sql)
        for _ in range(chance.choice([0, 0, 1, 2])):
            hash_anew(path, place())

    return tamper


def hashed_anew(line):
    """A record with another content, and with the hash that it has then."""
    document = json.loads(line)
    record = document["record"]
    record["detail"] = "{}"
    columns = [record["id"], record["created_at"], record["kind"].encode(), record["call_sid"], record["personal"], b"{}"]
    columns[3] = columns[3] and columns[3].encode()
    columns[4] = columns[4] and base64.b64decode(columns[4])
    types = ["integer", "text", "text" if columns[3] is not None else "null", "blob" if columns[4] is not None else "null"]
    types += ["text", "blob", "blob", "integer" if record["call_id"] is not None else "null"]
    previous = bytes.fromhex(record["previous_hash"])
    row = verify_audit.Row([*columns, previous, b"", record["call_id"], *types])
    record["hash"] = row.hash_after(previous, row.id).hex()
    return json.dumps(document).encode() + b"\n"


def signed_anew(head):
    """The head under another key, over the same root."""
    secret = Ed25519PrivateKey.from_private_bytes(bytes([9]) * 32)
    raw = secret.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    document = json.loads(head)
    body = document["export"]["note"].split("\n\n")[0] + "\n"
    key = verify_audit.Key(body.split("\n")[0].removeprefix("switchboard-audit/"), raw)
    signature = base64.b64encode(key.id + secret.sign(body.encode())).decode()
    document["export"] |= {"note": f"{body}\n\u2014 {key.name} {signature}\n", "public_key": key.line}
    return json.dumps(document).encode() + b"\n"


def changed_at_random(lines, seed):
    """Up to four lines are taken out, moved, doubled, exchanged, emptied, hashed anew, or lose a bit; the end may be cut."""
    chance = random.Random(seed)
    lines = list(lines)
    for _ in range(chance.randint(1, 4)):
        if len(lines) < 2:
            break
        one, other = chance.randrange(1, len(lines)), chance.randrange(1, len(lines))
        what = chance.randrange(8)
        if what == 0:
            del lines[one]
        elif what == 1:
            lines.insert(other, lines.pop(one))
        elif what == 2:
            lines.insert(other, lines[one])
        elif what == 3:
            lines[one], lines[other] = lines[other], lines[one]
        elif what == 4:
            lines[one] = chance.choice([b"\n", b"{}\n", b'{"omitted":{"from":1,"through":9,"roots":[]}}\n', lines[one][:-9] + b"\n"])
        elif what == 5 and lines[one].startswith(b'{"record"') and lines[one].endswith(b"}}\n"):
            try:
                lines[one] = hashed_anew(lines[one])
            except (ValueError, KeyError, TypeError):
                pass
        elif what == 6:
            at = chance.randrange(len(lines[one]))
            lines[one] = lines[one][:at] + bytes([lines[one][at] ^ 1 << chance.randrange(7)]) + lines[one][at + 1 :]
        elif chance.random() < 0.3:
            lines[-1] = lines[-1][: chance.randrange(len(lines[-1]))]
    return lines


def exports_of(switchboard, database, config, folder):
    """The whole log, a slice of its middle, and one call."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    (n,) = db.execute("SELECT max(size) FROM audit_checkpoints").fetchone()
    at = lambda record: db.execute(
        "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch') FROM audit_records WHERE id = ?", (record,)
    ).fetchone()[0]
    (sid,) = db.execute("SELECT call_sid FROM audit_records WHERE call_sid IS NOT NULL AND id > ? LIMIT 1", (n // 2,)).fetchone()
    made = []
    for name, which in (
        ("whole", []),
        ("slice", ["--since", at(n // 2), "--until", at(n // 2 + 30)]),
        ("revealed call", ["--call", sid, "--reveal"]),
    ):
        made.append(os.path.join(folder, name))
        command = [switchboard, "--config", config, "audit", "export", "--format", "jsonl", "--proof", *which]
        ran = subprocess.run(command, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr.decode()
        with open(made[-1], "wb") as file:
            file.write(ran.stdout)
    return made


def judge_exports(switchboard, key, exports, folder):
    """How many judgements there were, how many of them differ or miss the name, and how many changes at random are found."""
    judgements, wrong, at_random_found = 0, 0, 0
    victim = os.path.join(folder, "export.jsonl")
    for export in exports:
        with open(export, "rb") as file:
            whole = file.readlines()
        records = [n for n, line in enumerate(whole) if line.startswith(b'{"record"')]
        one, last = records[len(records) // 2], records[-1]
        edited = lambda n: [*whole[:n], whole[n].replace(b'"detail":"{', b'"detail":"{ '), *whole[n + 1 :]]
        again = lambda n: [*whole[:n], hashed_anew(whole[n]), *whole[n + 1 :]]
        without = [*whole[:one], *whole[one + 1 :]]
        contiguous = b'"contiguous":true' in whole[0]
        flipped = {b"true": b"false", b"false": b"true"}[b"true" if contiguous else b"false"]
        other_head = whole[0].replace(b'"contiguous":' + (b"true" if contiguous else b"false"), b'"contiguous":' + flipped)
        cases = [
            ("nothing", whole, None),
            ("alter one", edited(one), "altered"),
            ("alter the last", edited(last), "altered"),
            ("alter one with its hash", again(one), "altered"),
            ("alter the last with its hash", again(last), "altered"),
            ("leave one out", without, "missing"),
            ("double one", [*whole[:one], whole[one], *whole[one:]], "inserted"),
            ("swap neighbours", [*without[: one + 1], whole[one], *without[one + 1 :]], ANY),
            ("cut the end off", whole[:one], "truncated"),
            ("cut a line", [*whole[:one], whole[one][:50]], "truncated"),
            ("empty a line", [*whole[:one], b"\n", *whole[one + 1 :]], "altered"),
            ("a line behind the end", [*whole, whole[one]], "inserted"),
            ("another key", [signed_anew(whole[0]), *whole[1:]], "checkpoint_invalid"),
            ("another claim", [other_head, *whole[1:]], ANY),
            ("no head", whole[1:], ANY),
        ]
        cases += [(f"at random {seed}", changed_at_random(whole, seed), ANY) for seed in range(150)]
        for name, lines, expected in cases:
            with open(victim, "wb") as file:
                file.writelines(lines)
            for extra in (["--public-key", key], []):
                ours = judged([switchboard, "audit", "verify", "--json", "--export", victim, *extra])
                theirs = judged([sys.executable, os.path.join(HERE, "verify_audit.py"), "--export", victim, *extra])
                judgements += 1
                # What each says of a file that is no export is its own.
                ours, theirs = (each[:1] if isinstance(each, tuple) else each for each in (ours, theirs))
                names = set() if isinstance(ours, tuple) else {kind for kind, _ in ours}
                at_random_found += name.startswith("at random") and bool(names)
                if expected == "checkpoint_invalid" and not extra:
                    expected = ANY
                is_named = True if expected == ANY else not names if expected is None else expected in names
                if ours != theirs or not is_named:
                    wrong += 1
                    print(f"{os.path.basename(export)}: {name} {extra[:1]}: expected {expected}\n  switchboard  {ours}\n  verify_audit {theirs}")
    return judgements, wrong, at_random_found


def main():
    switchboard, database, config = sys.argv[1:]
    chance = random.Random(4)
    folder = tempfile.mkdtemp(prefix="audit-agreement-")
    victim = os.path.join(folder, "copy.db")
    whole = os.path.join(folder, "whole.db")
    copy(database, whole)
    copy(database, victim)
    with open_up(victim) as db:
        # What came after the last checkpoint may be cut off without a trace; this is about what was signed.
        db.execute("DELETE FROM audit_records WHERE id > (SELECT max(size) FROM audit_checkpoints)")
        (n,) = db.execute("SELECT max(id) FROM audit_records").fetchone()
        (n_checkpoints,) = db.execute("SELECT max(id) FROM audit_checkpoints").fetchone()
    base = os.path.join(folder, "base.db")
    copy(victim, base)
    anchor = os.path.join(folder, "anchor.json")
    shutil.copy(database + ".head", anchor)
    print(f"{n} records, {n_checkpoints} checkpoints")

    half = n // 2
    swap = "UPDATE audit_records SET id = -1 WHERE id = {0}; UPDATE audit_records SET id = {0} WHERE id = {1}; UPDATE audit_records SET id = {1} WHERE id = -1"
    up = f"UPDATE audit_records SET id = -id WHERE id > {half}; UPDATE audit_records SET id = 1 - id WHERE id < 0; "
    junk = "5, 'call_answered', NULL, NULL, '{{}}', zeroblob(32), zeroblob(32), NULL".replace("{{}}", "{}")
    # What is done, and a name that both must give to it.
    cases = [
        ("nothing", "SELECT 1", None),
        ("delete one", f"DELETE FROM audit_records WHERE id = {half}", "missing"),
        ("delete the first", "DELETE FROM audit_records WHERE id = 1", "missing"),
        ("delete some", f"DELETE FROM audit_records WHERE id BETWEEN {half} AND {half + 5}", "missing"),
        ("cut the tail", f"DELETE FROM audit_records WHERE id > {n - 3}", "truncated"),
        ("delete all", "DELETE FROM audit_records", "truncated"),
        ("swap two", swap.format(half, half + 9), "altered"),
        ("swap neighbours", swap.format(half, half + 1), "altered"),
        ("renumber one", f"UPDATE audit_records SET id = {n + 50} WHERE id = {half}", "inserted"),
        ("renumber one before the log", f"UPDATE audit_records SET id = -7 WHERE id = {half}", "missing"),
        ("renumber the last", f"UPDATE audit_records SET id = {n + 50} WHERE id = {n}", "truncated"),
        ("renumber the rest", f"UPDATE audit_records SET id = id + {n + 1000} WHERE id > {half}", "truncated"),
        ("insert at the end", f"INSERT INTO audit_records ({LIST}) VALUES ({n + 1}, {junk})", "inserted"),
        ("insert before the first", f"INSERT INTO audit_records ({LIST}) VALUES (0, {junk})", "inserted"),
        ("insert before all numbers", f"INSERT INTO audit_records ({LIST}) SELECT -9223372036854775808, {REST} FROM audit_records WHERE id = {half}", "inserted"),
        ("leave a call out of the index", leave_out_of_the_index, "index_damaged"),
        ("sign all anew with another key", sign_anew, "checkpoint_invalid"),
        ("duplicate at the end", f"INSERT INTO audit_records ({LIST}) SELECT {n + 1}, {REST} FROM audit_records WHERE id = {half}", "inserted"),
        ("insert in the middle", up + f"INSERT INTO audit_records ({LIST}) VALUES ({half + 1}, {junk})", "inserted"),
        ("duplicate in the middle", up + f"INSERT INTO audit_records ({LIST}) SELECT {half + 1}, {REST} FROM audit_records WHERE id = {half}", "inserted"),
        ("delete and close up", f"DELETE FROM audit_records WHERE id = {half}; UPDATE audit_records SET id = id - 1 WHERE id > {half}", "truncated"),
        ("change three", f"UPDATE audit_records SET detail = '{{}}' WHERE id BETWEEN {half} AND {half + 2}", "altered"),
        ("text becomes null", f"UPDATE audit_records SET call_sid = 'x' WHERE id = {half}", "altered"),
        ("empty is not null", "UPDATE audit_records SET personal = x'' WHERE personal IS NULL AND id = 1", "altered"),
        ("move the gate", f"UPDATE prune_gate SET through_id = {half}", "checkpoint_invalid"),
        ("prune without a cut", f"UPDATE prune_gate SET through_id = {half}, through_hash = (SELECT hash FROM audit_records WHERE id = {half}); DELETE FROM audit_records WHERE id <= {half}", "checkpoint_invalid"),
        ("a checkpoint as a cut", f"INSERT INTO audit_cuts (id, note, frontier) SELECT 1, note, frontier FROM audit_checkpoints WHERE id = {n_checkpoints}", "checkpoint_invalid"),
        ("no checkpoints", "DELETE FROM audit_checkpoints", "checkpoint_invalid"),
        ("no first checkpoint", "DELETE FROM audit_checkpoints WHERE id = 1", "checkpoint_invalid"),
        ("the tail with its checkpoints", f"DELETE FROM audit_records WHERE id > {half}; DELETE FROM audit_checkpoints WHERE size > {half}", "rolled_back"),
        ("another log", "UPDATE log_identity SET log_id = 'ffffffffffffffffffffffffffffffff'", "rolled_back"),
    ]
    for table, rows, columns, count in (
        ("audit_records", n, COLUMNS, 80),
        ("audit_checkpoints", n_checkpoints, ["id", "size", "note", "frontier"], 30),
    ):
        for _ in range(count):
            column = chance.choice(columns)
            # A record with another number was never written under that.
            kind = "checkpoint_invalid" if table == "audit_checkpoints" else "inserted" if column == "id" else "altered"
            cases.append(("flip", (table, column, chance.randint(1, rows), chance.randrange(1000), chance.randrange(8)), kind))

    # These have what came after the last checkpoint, too.
    with open_up(whole) as db:
        (n_whole,) = db.execute("SELECT max(id) FROM audit_records").fetchone()
    cases += [(f"at random {seed}", at_random(seed, n_whole, n), ANY) for seed in range(100)]

    wrong = 0
    judgements = 0
    at_random_found = 0
    for name, what, expected in cases:
        copy(whole if expected == ANY else base, victim)
        done = True
        if callable(what):
            what(victim)
        else:
            with open_up(victim) as db:
                if isinstance(what, tuple):
                    done = flip(db, *what)
                else:
                    db.executescript(what)
        if not done:
            continue
        for extra in ([],) if name == "flip" or expected == ANY else ([], ["--anchor", anchor]):
            ours = judged([switchboard, "audit", "verify", "--json", "--database", victim, *extra])
            theirs = judged([sys.executable, os.path.join(HERE, "verify_audit.py"), victim, *extra])
            judgements += 1
            names = {kind for kind, _ in ours}
            at_random_found += expected == ANY and bool(names)
            is_named = True if expected == ANY else not names if expected is None else expected in names
            if ours != theirs or not is_named:
                wrong += 1
                print(f"{name} {what} {extra[:1]}: expected {expected}\n  switchboard  {ours}\n  verify_audit {theirs}")
    exports = exports_of(switchboard, database, config, folder)
    of_exports, wrong_of_exports, exports_found = judge_exports(switchboard, database + ".signing.pub", exports, folder)
    shutil.rmtree(folder)
    print(f"{judgements} judgements, {wrong} of them differ or miss the name; of 100 at random, {at_random_found} are found")
    print(f"{of_exports} of exports, {wrong_of_exports} of them differ or miss the name; of 900 at random, {exports_found} are found")
    return 1 if wrong or wrong_of_exports or at_random_found < 75 or exports_found < 750 else 0


if __name__ == "__main__":
    sys.exit(main())
