#!/usr/bin/env python3
"""A second verifier of the audit log, written from docs/audit-format.md alone.

Standard library, and `cryptography` for Ed25519. Prints the same document as `switchboard audit verify --json`:
{ok, records, findings: [{kind, record, message}]}; ends with 0 if nothing is wrong, else with 1.

    verify_audit.py DATABASE [--public-key FILE] [--anchor FILE]
    verify_audit.py --export FILE [--public-key FILE] [--anchor FILE]
"""

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import sqlite3
import struct
import sys
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ZERO = bytes(32)
DOMAIN = b"switchboard/audit-record/v2\n"


def sha256(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


# Section 2


def field(kind, payload):
    return bytes([kind]) + struct.pack(">I", len(payload)) + payload


def optional(kind, payload):
    return field(0, b"") if payload is None else field(kind, payload)


class Row:
    """A row as it lies in the file."""

    def __init__(self, columns):
        (self.id, self.created_at, self.kind, self.call_sid, self.personal, self.detail, self.previous, self.own, self.call_id) = (
            columns[0:9]
        )
        types = columns[9:]
        wanted = [
            {"integer"}, {"text"}, {"text", "null"}, {"blob", "null"}, {"text"}, {"blob"}, {"blob"},
            {"integer", "null"},
        ]
        self.typed = all(found in allowed for found, allowed in zip(types, wanted))

    def hash_after(self, previous, number):
        if not self.typed or len(previous) != 32:
            return None
        return sha256(
            DOMAIN,
            field(3, previous),
            field(1, struct.pack(">q", number)),
            field(1, struct.pack(">q", self.created_at)),
            field(2, self.kind),
            optional(1, self.call_id if self.call_id is None else struct.pack(">q", self.call_id)),
            optional(2, self.call_sid),
            optional(3, self.personal),
            field(2, self.detail),
        )

    def holds(self):
        return self.typed and self.own == self.hash_after(self.previous, self.id)


# Section 3


class Tree:
    def __init__(self, size=0, entries=()):
        self.size = size
        self.entries = list(entries)

    @classmethod
    def read(cls, size, blob):
        if blob is None or len(blob) != 32 * bin(size).count("1"):
            return None
        return cls(size, [blob[at : at + 32] for at in range(0, len(blob), 32)])

    def append(self, record_hash):
        have = sha256(b"\x00", record_hash)
        size = self.size
        while size & 1:
            have = sha256(b"\x01", self.entries.pop(), have)
            size >>= 1
        self.entries.append(have)
        self.size += 1

    def root(self):
        if not self.entries:
            return sha256(b"")
        have = self.entries[-1]
        for entry in reversed(self.entries[:-1]):
            have = sha256(b"\x01", entry, have)
        return have


# Section 4


def unbase64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # One way of writing only.
    return raw if base64.b64encode(raw).decode() == text else None


class Key:
    def __init__(self, log_id, raw):
        self.log_id = log_id
        self.raw = raw
        self.name = f"switchboard-audit/{log_id}"
        self.id = sha256(self.name.encode() + b"\n\x01" + raw)[:4]
        self.line = f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([1]) + raw).decode()}"

    @classmethod
    def read(cls, line):
        if not isinstance(line, str):
            return None
        parts = line.strip().split("+", 2)
        if len(parts) != 3 or not parts[0].startswith("switchboard-audit/"):
            return None
        typed = unbase64(parts[2])
        if typed is None or len(typed) != 33 or typed[0] != 1:
            return None
        key = cls(parts[0][len("switchboard-audit/") :], typed[1:])
        return key if key.id.hex() == parts[1] else None

    def __eq__(self, other):
        return isinstance(other, Key) and self.line == other.line

    def __hash__(self):
        return hash(self.line)

    def signed(self, message, signature):
        if signature is None or len(signature) != 64:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
            return True
        except InvalidSignature:
            return False

    def endorsed(self, other, endorsement):
        message = f"switchboard/audit-key/v1\n{other.line}\n".encode()
        return isinstance(endorsement, str) and self.signed(message, unbase64(endorsement))

    def open(self, note):
        """(is_cut, size, root) of a note that this key signed, else None."""
        lines = note.split("\n")
        if len(lines) != 6 or lines[3] or lines[5]:
            return None
        first, size, root, _, signature, _ = lines
        if first not in (self.name, self.name + "/pruned"):
            return None
        if not (size.isascii() and size.isdigit()) or str(int(size)) != size:
            return None
        raw_root = unbase64(root)
        if raw_root is None or len(raw_root) != 32:
            return None
        prefix = f"\u2014 {self.name} "
        if not signature.startswith(prefix):
            return None
        blob = unbase64(signature[len(prefix) :])
        if blob is None or blob[:4] != self.id:
            return None
        if not self.signed(f"{first}\n{size}\n{root}\n".encode(), blob[4:]):
            return None
        return first.endswith("/pruned"), int(size), raw_root


class Verifier:
    def __init__(self, path, trusted, anchor):
        self.path = path
        self.trusted = trusted
        self.anchor = anchor
        self.findings = []

    def finding(self, kind, record, message):
        self.findings.append({"kind": kind, "record": record, "message": message})

    def found(self, kind):
        return any(finding["kind"] == kind for finding in self.findings)

    def about(self, record):
        return any(finding["record"] == record for finding in self.findings)

    def verify(self):
        mode = "mode=ro" if os.path.exists(self.path + "-wal") else "immutable=1"
        # Before the rows: a server may write meanwhile.
        self.kept = self.kept_head()
        self.db = sqlite3.connect(f"file:{quote(self.path)}?{mode}", uri=True)
        self.db.text_factory = bytes
        (log_id,) = self.db.execute("SELECT log_id FROM log_identity").fetchone()
        self.log_id = log_id.decode("utf-8", "replace")
        self.candidates()
        self.cut()
        self.checkpoints()
        self.records()
        self.keys()
        self.heads()
        return {"ok": not self.findings, "records": self.count, "findings": self.findings}

    def candidates(self):
        keys = [self.trusted]
        if self.anchor:
            keys.append(Key.read(self.anchor.get("public_key", "")))
        for (detail,) in self.db.execute(
            "SELECT detail FROM audit_records WHERE kind = 'signing_key_named' ORDER BY id"
        ):
            try:
                named = json.loads(detail)
                keys += [Key.read(named.get("key")), Key.read(named.get("previous"))]
            except (ValueError, AttributeError):
                pass
        self.known = []
        for key in keys:
            if key and key.log_id == self.log_id and key not in self.known:
                self.known.append(key)
        if self.trusted and self.trusted.log_id != self.log_id:
            self.finding("checkpoint_invalid", None, "the trusted key is of another log")

    def open(self, note):
        text = note.decode("utf-8", "replace") if isinstance(note, bytes) else ""
        for key in self.known:
            opened = key.open(text)
            if opened:
                return (*opened, key)
        return None

    # Section 7, 1
    def cut(self):
        through, through_hash = self.db.execute("SELECT through_id, through_hash FROM prune_gate").fetchone()
        signed = self.db.execute("SELECT note, frontier FROM audit_cuts").fetchone()
        self.cut_size, self.before, self.tree = 0, ZERO, Tree()
        bad = lambda why: self.finding("checkpoint_invalid", through, why)
        if signed is None:
            if through != 0 or through_hash != ZERO:
                bad("the gate stands at a place that no cut vouches for")
            return
        opened = self.open(signed[0])
        if opened is None:
            bad("the cut does not hold")
            self.cut_size, self.before, self.tree = through, None, None
            return
        is_cut, size, root, _ = opened
        if not is_cut:
            bad("the cut is a checkpoint")
            return
        self.cut_size = size
        self.tree = Tree.read(size, signed[1])
        if self.tree is None or self.tree.root() != root:
            bad("the frontier of the cut is wrong")
            self.tree = None
        if not isinstance(through_hash, bytes) or len(through_hash) != 32:
            bad("the gate holds no hash")
            self.before = None
        elif through == size:
            self.before = through_hash
        else:
            bad("the gate is not where the cut is")
            self.before = None

    # Section 7, 2
    def checkpoints(self):
        rows = self.db.execute("SELECT id, size, note, frontier FROM audit_checkpoints ORDER BY id").fetchall()
        self.n_checkpoints = len(rows)
        self.signed = []
        expected = 1 if self.cut_size == 0 else None
        before = 0
        for number, size, note, frontier in rows:
            bad = lambda why: self.finding("checkpoint_invalid", None, f"checkpoint {number}: {why}")
            if expected is not None and number != expected:
                bad(f"checkpoint {expected} is missing")
            expected = number + 1
            opened = self.open(note)
            if opened is None:
                bad("not signed by a key of this log")
                continue
            is_cut, stated, root, key = opened
            if is_cut:
                bad("is a cut")
                continue
            if stated != size or size < before:
                bad("another size than in its row")
                continue
            before = size
            if frontier is not None or number == rows[-1][0]:
                tree = Tree.read(size, frontier)
                if tree is None or tree.root() != root:
                    bad("wrong frontier")
            self.signed.append((size, root, key, number))

    # Section 7, 3 to 5
    def records(self):
        self.last, self.last_hash = self.cut_size, self.before
        self.count = 0
        self.naming = []
        self.alike = None
        self.right_up_to = self.cut_size
        self.disproved = False
        self.roots = [(size, root) for size, root, _, _ in self.signed if size > self.cut_size]
        self.n_signed = max((size for size, _, _, _ in self.signed), default=0)
        self.wanted = {head["records"]: None for head in (self.kept, self.anchor) if head}
        columns = "id, created_at, kind, call_sid, personal, detail, previous_hash, hash, call_id"
        types = ", ".join(f"typeof({name})" for name in columns.split(", ")[1:])
        readable = True
        try:
            for columns in self.db.execute(f"SELECT {columns}, {types} FROM audit_records ORDER BY id"):
                self.count += 1
                values = list(columns)
                values[9:] = [name.decode() for name in values[9:]]
                self.row(Row(values))
        except sqlite3.DatabaseError as error:
            readable = False
            self.close(False)
            self.finding("altered", self.last + 1, f"cannot be read: {error}")
        self.close(False)
        self.settle_last()
        if readable and self.n_signed > self.last:
            self.finding("truncated", self.last + 1, f"{self.n_signed} records were signed, there are {self.last}")
        if readable:
            self.beside()
        if not self.n_checkpoints and self.count:
            self.finding("checkpoint_invalid", None, "there is no checkpoint")

    # Section 7, 9
    def beside(self):
        (count,) = self.db.execute("SELECT count(*) FROM audit_records NOT INDEXED").fetchone()
        if count != self.count:
            kind = "inserted" if count > self.count else "missing"
            self.finding(kind, None, f"{self.count} records in their order, {count} in all")
        for (line,) in self.db.execute("PRAGMA integrity_check(audit_records)"):
            if b" index " in line:
                self.finding("index_damaged", None, line.decode("utf-8", "replace"))
                break

    def row(self, row):
        following = self.last + 1
        if row.id <= self.last:
            self.unlike("inserted", row)
        elif row.holds():
            self.close(True)
            if row.id > following:
                self.settle_last()
                self.missing(row)
            elif self.last_hash not in (None, row.previous):
                self.replaced()
            self.settle(row.id - 1, row.previous)
            self.last, self.last_hash = row.id, row.own
            if row.kind == b"signing_key_named":
                self.naming.append((row.id, row.detail))
        elif row.id == following or row.id <= self.n_signed:
            self.settle_last()
            if row.id > following:
                self.close(True)
                self.missing(row)
            self.unlike("altered", row)
            self.last, self.last_hash = row.id, None
        else:
            self.unlike("inserted", row)

    def unlike(self, kind, row):
        """A row that is altered or inserted, which is told together with those right before it that are, too."""
        if self.alike and self.alike["kind"] != kind:
            self.close(False)
        if not self.alike:
            linked = self.last_hash is not None and row.previous == self.last_hash
            self.alike = {"kind": kind, "from": row.id, "linked": linked}
        self.alike["to"] = row.id

    def close(self, followed):
        """Tells of the altered or inserted rows right before this. Does a row that holds come right behind them?"""
        alike, self.alike = self.alike, None
        if not alike:
            return
        first, end = alike["from"], alike["to"]
        if alike["kind"] == "inserted":
            self.finding("inserted", first, f"{first} to {end}")
            return
        if not followed and end > self.n_signed and not (alike["linked"] and first > self.n_signed):
            extra = max(first, self.n_signed + 1)
            if extra > first:
                self.altered(first, f"{first} to {extra - 1} are not what was written")
            self.finding("inserted", extra, f"{extra} to {end}")
            self.last = extra - 1
            return
        self.altered(first, f"{first} to {end} are not what was written")

    def altered(self, record, message):
        self.disproved = True
        self.finding("altered", record, message)

    def missing(self, row):
        self.disproved = True
        self.finding("missing", self.last + 1, f"{self.last + 1} to {row.id - 1}")

    def replaced(self):
        if self.last == self.cut_size and self.last > 0:
            self.finding("checkpoint_invalid", self.last, "the hash of the last pruned record")
        else:
            self.altered(max(self.last, 1), "was replaced: the next record names another")

    def settle_last(self):
        if self.last_hash is not None:
            self.settle(self.last, self.last_hash)

    def settle(self, record, has):
        """The hash of a record goes into the tree, whose root must be the one that was signed."""
        if record in self.wanted:
            self.wanted[record] = has
        if self.tree is None or record <= self.tree.size:
            return
        if record > self.tree.size + 1:
            self.tree = None
            return
        self.tree.append(has)
        for root in [root for size, root in self.roots if size == record]:
            if self.tree.root() == root:
                self.right_up_to, self.disproved = record, False
                continue
            if not self.disproved:
                self.altered(self.right_up_to + 1, f"up to {record}: not those that were signed")
            self.tree = None
            return

    # Section 7, 6
    def keys(self):
        timeline = []
        for record, detail in self.naming:
            try:
                named = json.loads(detail)
                key, previous = Key.read(named.get("key")), Key.read(named.get("previous"))
            except (ValueError, AttributeError):
                key = None
            if key is None:
                self.finding("checkpoint_invalid", record, "names no key")
                continue
            timeline.append((record, key, previous, bool(previous and previous.endorsed(key, named.get("endorsement")))))
        for size, _, key, number in self.signed:
            in_force = [named for record, named, _, _ in timeline if record <= size]
            if in_force:
                should = in_force[-1]
            elif timeline:
                should = timeline[0][2] or timeline[0][1]
            else:
                continue
            if should != key:
                self.finding("checkpoint_invalid", None, f"checkpoint {number} is signed by another key than is named")
        if not self.trusted or not self.signed:
            return
        names = [key for _, key, _, _ in timeline]
        if self.trusted in names:
            rest = timeline[names.index(self.trusted) + 1 :]
        elif timeline and timeline[0][2] == self.trusted:
            rest = timeline
        else:
            if self.signed[-1][2] != self.trusted:
                self.finding("checkpoint_invalid", None, "not signed by the trusted key")
            return
        current = self.trusted
        for record, key, previous, endorsed in rest:
            if key == current:
                continue
            if not (endorsed and previous == current):
                self.finding("checkpoint_invalid", record, "another key, without the word of the one before")
                return
            current = key

    # Section 7, 7 and 8
    def kept_head(self):
        try:
            with open(self.path + ".head", encoding="utf-8") as file:
                return json.load(file)
        except (OSError, ValueError):
            return None

    def heads(self):
        if self.kept:
            self.head(self.kept, "rolled_back")
        if self.anchor:
            note = self.anchor.get("note", "")
            if note:
                keys = [self.trusted] + [key for key in self.known]
                opened = [key.open(note) for key in keys if key]
                if not any(found and found[1] == self.anchor["records"] for found in opened):
                    self.finding("anchor_mismatch", None, "the anchor is not signed by a key of this log")
            self.head(self.anchor, "anchor_mismatch")

    def head(self, head, other):
        if head["log_id"] != self.log_id:
            self.finding(other, None, "is of another log")
            return
        records = head["records"]
        if records < self.cut_size or records == 0:
            return
        if records > self.last:
            if not self.found("truncated") and not self.found("rolled_back"):
                self.finding("rolled_back", self.last + 1, f"{records} records are told of")
            return
        if self.about(records):
            return
        there = self.wanted.get(records)
        if there is not None and there.hex() != head["head"]:
            self.finding(other, records, "another record stands there")


# Section 8


class NotAnExport(Exception):
    pass


def no_key_twice(pairs):
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def no_constant(text):
    raise ValueError(text)


def is_number(value):
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def is_text_or_null(value):
    return value is None or isinstance(value, str)


def unhex(text):
    if not isinstance(text, str) or not re.fullmatch("([0-9a-fA-F]{2})*", text):
        raise ValueError("no hexadecimal")
    return bytes.fromhex(text)


class ExportVerifier(Verifier):
    """The walk is that over a database. What a line holds that cannot be read raises ValueError."""

    def verify(self):
        self.tree, self.last, self.last_hash, self.cut_size = Tree(), 0, ZERO, 0
        self.count, self.alike, self.disproved, self.right_up_to = 0, None, False, 0
        self.naming, self.gap, self.blind = [], None, False
        self.wanted = {self.anchor["records"]: None} if self.anchor else {}
        with open(self.path, "rb") as file:
            self.begin(file.readline())
            for line in file:
                try:
                    self.line(self.parsed(line))
                except ValueError:
                    if line.endswith(b"\n"):
                        self.unreadable()
        self.close(False)
        self.settle_last()
        if self.n_signed > self.last and not self.blind:
            self.finding("truncated", self.last + 1, f"{self.n_signed} records were signed, the file ends at {self.last}")
        self.against_anchor()
        return {"ok": not self.findings, "records": self.count, "findings": self.findings}

    def parsed(self, line):
        document = json.loads(line.decode(), object_pairs_hook=no_key_twice, parse_constant=no_constant)
        if not isinstance(document, dict) or len(document) != 1:
            raise ValueError("not one key")
        ((name, body),) = document.items()
        if not isinstance(body, dict):
            raise ValueError("no object")
        return name, body

    def begin(self, line):
        try:
            name, head = self.parsed(line)
        except ValueError as error:
            raise NotAnExport from error
        if name != "export" or head.get("format") != "switchboard-audit-export/v1":
            raise NotAnExport
        self.contiguous, note, line = (head.get(key) for key in ("contiguous", "note", "public_key"))
        named = head.get("endorsements", [])
        fits = isinstance(self.contiguous, bool) and isinstance(note, str) and isinstance(line, str)
        if not fits or not isinstance(named, list) or not all(isinstance(each, dict) for each in named):
            raise NotAnExport
        key = Key.read(line)
        opened = key.open(note) if key else None
        self.known = [Key.read(each.get("key")) for each in named]
        self.key, self.n_signed, self.roots = None, 0, []
        if opened is None or opened[0]:
            self.finding("checkpoint_invalid", None, "the checkpoint does not hold")
        else:
            self.key, (_, self.n_signed, root) = key, opened
            self.roots = [(self.n_signed, root)]
            if self.trusted and not self.vouched(named):
                self.finding("checkpoint_invalid", None, "not signed by the trusted key")

    def vouched(self, named):
        current = self.trusted
        for each in named:
            if current == self.key:
                return True
            following = Key.read(each.get("key"))
            if following and Key.read(each.get("previous")) == current and current.endorsed(following, each.get("endorsement")):
                current = following
        return current == self.key

    def line(self, parsed):
        name, body = parsed
        if name == "omitted":
            self.left_out(body)
        elif name == "record":
            self.record(body)
        else:
            raise ValueError(name)

    def left_out(self, body):
        first, last, roots = body.get("from"), body.get("through"), body.get("roots")
        if not is_number(first) or not is_number(last) or not isinstance(roots, list):
            raise ValueError("not what is left out")
        roots = [unhex(root) for root in roots]
        if any(len(root) != 32 for root in roots) or not self.last < first <= last:
            raise ValueError("no such records")
        if self.key and last > self.n_signed:
            raise ValueError("not signed")
        self.close(True)
        self.settle_last()
        if self.blind:
            self.last, self.blind = first - 1, False
        if first > self.last + 1:
            self.disproved = True
            self.finding("missing", self.last + 1, f"{self.last + 1} to {first - 1}")
        self.last, self.last_hash = first - 1, None
        if self.tree and self.tree.size == first - 1:
            whole = self.tree
            self.tree = None
            for root in roots:
                size = 1
                while whole.size % (2 * size) == 0 and whole.size + 2 * size <= last:
                    size *= 2
                if whole.size + size > last:
                    raise ValueError("too many roots")
                # Beginning at a multiple of its size, it goes up as a leaf does.
                index = whole.size // size
                while index & 1:
                    root = sha256(b"\x01", whole.entries.pop(), root)
                    index >>= 1
                whole.entries.append(root)
                whole.size += size
            if whole.size != last:
                raise ValueError("too few roots")
            self.tree = whole
        else:
            self.tree = None
        self.last = last
        self.compare(last)
        if self.count == 0:
            self.right_up_to = last
        else:
            self.gap = (self.gap[0] if self.gap else first, last)

    def compare(self, record):
        if self.tree and self.n_signed == record and self.roots and self.tree.root() != self.roots[0][1]:
            if not self.disproved:
                self.altered(self.right_up_to + 1, f"up to {record}: not those that were signed")
            self.tree = None

    def record(self, body):
        columns = [body.get(name) for name in ("id", "created_at", "kind", "call_id", "call_sid", "personal", "detail")]
        number, created_at, kind, call_id, call_sid, personal, detail = columns
        previous, own = unhex(body.get("previous_hash")), unhex(body.get("hash"))
        shown = body.get("shown", {})
        well_typed = (
            is_number(number) and is_number(created_at) and isinstance(kind, str) and isinstance(detail, str)
            and (call_id is None or is_number(call_id)) and is_text_or_null(call_sid) and is_text_or_null(personal)
            and isinstance(shown, dict) and all(is_text_or_null(shown.get(name)) for name in ("caller", "called", "answer"))
        )
        if not well_typed:
            raise ValueError("no record")
        if personal is not None:
            personal = unbase64(personal)
            if personal is None:
                raise ValueError("no base64")
        self.count += 1
        if self.key and number > self.n_signed:
            self.finding("inserted", number, "is not signed")
            return
        if self.blind:
            self.last, self.blind = max(self.last, number - 1), False
        if number > self.last and self.gap:
            if self.contiguous:
                self.finding("missing", self.gap[0], f"{self.gap[0]} to {self.gap[1]} are left out")
            self.gap = None
        types = ["integer", "text", "text" if call_sid is not None else "null", "blob" if personal is not None else "null",
                 "text", "blob", "blob", "integer" if call_id is not None else "null"]
        sid = None if call_sid is None else call_sid.encode()
        self.row(Row([number, created_at, kind.encode(), sid, personal, detail.encode(), previous, own, call_id, *types]))

    def unreadable(self):
        if not self.blind:
            self.close(False)
            self.altered(self.last + 1, "a line cannot be read")
            self.tree, self.last_hash, self.blind = None, None, True

    def against_anchor(self):
        if not self.anchor:
            return
        note, records = self.anchor.get("note", ""), self.anchor["records"]
        keys = [key for key in (*self.known, self.key, self.trusted) if key]
        if self.key and self.key.log_id != self.anchor["log_id"]:
            self.finding("anchor_mismatch", None, "is of another log")
        elif note and not any((opened := key.open(note)) and opened[1] == records for key in keys):
            self.finding("anchor_mismatch", None, "the anchor is not signed by a key of this log")
        elif self.wanted[records] not in (None, unhex(self.anchor["head"])) and not self.about(records):
            self.finding("anchor_mismatch", records, "another record stands there")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", nargs="?")
    parser.add_argument("--export")
    parser.add_argument("--public-key")
    parser.add_argument("--anchor")
    arguments = parser.parse_args()
    anchor = None
    if arguments.anchor:
        with open(arguments.anchor, encoding="utf-8") as file:
            anchor = json.load(file)
    if arguments.public_key:
        path = arguments.public_key
    elif anchor and anchor.get("public_key"):
        path = None
    else:
        # What lies beside an export is as good as the export.
        path = arguments.database + ".signing.pub" if arguments.database else ""
    trusted = None
    if path is None:
        trusted = Key.read(anchor["public_key"])
    elif os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            trusted = Key.read(file.read())
    if (arguments.export is None) == (arguments.database is None):
        parser.error("name a database or an export")
    try:
        if arguments.export:
            document = ExportVerifier(arguments.export, trusted, anchor).verify()
        else:
            document = Verifier(arguments.database, trusted, anchor).verify()
    except NotAnExport:
        print(f"{arguments.export} is no export with proof", file=sys.stderr)
        return 1
    print(json.dumps(document, indent=2))
    return 0 if document["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
