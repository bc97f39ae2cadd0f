-- A database as schema version 6 made it, with a few rows of every table. Callers' data is sealed under "a secret of this test".

PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1398227524; -- "SWBD"
PRAGMA user_version = 8;

-- Names this audit log, so that another log is never taken for it.
CREATE TABLE log_identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    log_id TEXT NOT NULL CHECK (length(log_id) = 32)
) STRICT;

CREATE TRIGGER log_identity_refuse_update
BEFORE UPDATE ON log_identity
BEGIN
    SELECT RAISE(ABORT, 'log_identity never changes');
END;

CREATE TRIGGER log_identity_refuse_delete
BEFORE DELETE ON log_identity
BEGIN
    SELECT RAISE(ABORT, 'log_identity never changes');
END;

INSERT INTO log_identity (id, log_id) VALUES (1, '7e5fd4dedac3b0e19c8de4f3a9c6c10e');

-- Audit records up to and including `through_id` may be deleted. What remains verifies from `through_hash` on.
CREATE TABLE prune_gate (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    through_id INTEGER NOT NULL CHECK (through_id >= 0),
    through_hash BLOB NOT NULL CHECK (length(through_hash) = 32)
) STRICT;

INSERT INTO prune_gate (id, through_id, through_hash) VALUES (1, 0, zeroblob(32));

-- The append-only, hash-chained log: ids from 1, without gaps.
CREATE TABLE audit_records (
    id INTEGER PRIMARY KEY CHECK (id > 0),
    created_at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind <> ''),
    call_sid TEXT CHECK (call_sid <> ''),
    personal BLOB,
    detail TEXT NOT NULL,
    previous_hash BLOB NOT NULL CHECK (length(previous_hash) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- By day (86,400,000 ms) first: inserts and prunes touch one edge of the index each, however random the ids of calls are.
CREATE INDEX idx_audit_records_day_call_sid
ON audit_records (created_at / 86400000, call_sid)
WHERE call_sid IS NOT NULL;

CREATE TRIGGER audit_records_refuse_update
BEFORE UPDATE ON audit_records
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only');
END;

CREATE TRIGGER audit_records_refuse_delete
BEFORE DELETE ON audit_records
WHEN OLD.id > coalesce((SELECT through_id FROM prune_gate), 0)
BEGIN
    SELECT RAISE(ABORT, 'audit_records is append-only');
END;

CREATE TRIGGER audit_records_refuse_gap
BEFORE INSERT ON audit_records
WHEN NEW.id IS NOT 1 + coalesce(
    (SELECT max(id) FROM audit_records),
    (SELECT through_id FROM prune_gate)
)
BEGIN
    SELECT RAISE(ABORT, 'audit_records has no gaps');
END;

CREATE TRIGGER prune_gate_forward_only
BEFORE UPDATE ON prune_gate
WHEN NEW.through_id <= OLD.through_id
    OR NEW.through_hash IS NOT (SELECT hash FROM audit_records WHERE id = NEW.through_id)
BEGIN
    SELECT RAISE(ABORT, 'prune_gate moves forward only, to a record that is there');
END;

CREATE TRIGGER prune_gate_refuse_delete
BEFORE DELETE ON prune_gate
BEGIN
    SELECT RAISE(ABORT, 'prune_gate moves forward only, to a record that is there');
END;

-- What was signed, oldest first: the tree over the first `size` records. The newest row is signed again as the log grows,
-- and one in ten minutes stays. `frontier` (see src/audit/tree.rs) stands in the newest row only: the tree goes on from it.
CREATE TABLE audit_checkpoints (
    id INTEGER PRIMARY KEY CHECK (id > 0),
    size INTEGER NOT NULL CHECK (size >= 0),
    note TEXT NOT NULL,
    frontier BLOB
) STRICT;

CREATE TRIGGER audit_checkpoints_never_shrink
BEFORE UPDATE ON audit_checkpoints
WHEN NEW.id <> OLD.id OR NEW.size < OLD.size
BEGIN
    SELECT RAISE(ABORT, 'audit_checkpoints only grow');
END;

CREATE TRIGGER audit_checkpoints_refuse_gap
BEFORE INSERT ON audit_checkpoints
WHEN NEW.id IS NOT 1 + coalesce((SELECT max(id) FROM audit_checkpoints), 0)
    OR NEW.size < (SELECT max(size) FROM audit_checkpoints)
BEGIN
    SELECT RAISE(ABORT, 'audit_checkpoints has no gaps');
END;

CREATE TRIGGER audit_checkpoints_refuse_delete
BEFORE DELETE ON audit_checkpoints
WHEN OLD.size >= (SELECT through_id FROM prune_gate)
    OR OLD.id = (SELECT max(id) FROM audit_checkpoints)
BEGIN
    SELECT RAISE(ABORT, 'audit_checkpoints of records that are there stay');
END;

-- What was pruned, signed: the tree over all records that are gone. No row while none is.
CREATE TABLE audit_cuts (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    note TEXT NOT NULL,
    frontier BLOB NOT NULL
) STRICT;

-- Tells whether a secret is the one under which this database is sealed.
CREATE TABLE key_checks (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value BLOB NOT NULL CHECK (length(value) = 32)
) STRICT;

-- One row for each person who called, found by a keyed hash. Without the salt, nothing that was sealed for them is readable:
-- `personal` in `audit_records`, `calls` and `answers`.
CREATE TABLE callers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    identity_hash BLOB NOT NULL CHECK (length(identity_hash) = 32),
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX idx_callers_identity_hash ON callers (identity_hash);

CREATE INDEX idx_callers_updated_at ON callers (updated_at);

-- One row per call: where it stands, and what its next webhook needs.
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    sid TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('routing', 'held', 'dialing', 'bridged', 'ended')),
    disposition TEXT,
    reason TEXT NOT NULL,
    tier TEXT,
    score REAL,
    rule TEXT,
    ruleset TEXT NOT NULL,
    dialer TEXT,
    failed_over INTEGER NOT NULL CHECK (failed_over IN (0, 1)),
    held INTEGER NOT NULL CHECK (held IN (0, 1)),
    started_at INTEGER NOT NULL,
    answered_at INTEGER,
    ended_at INTEGER,
    routing_ms INTEGER,
    plan TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    caller_id INTEGER REFERENCES callers (id) ON DELETE SET NULL,
    personal BLOB
) STRICT;

CREATE INDEX idx_calls_caller_id ON calls (caller_id) WHERE caller_id IS NOT NULL;

CREATE INDEX idx_calls_started_at ON calls (started_at);

-- Holds the calls in progress only, so it stays small.
CREATE INDEX idx_calls_status ON calls (status) WHERE status <> 'ended';

-- One row per connection to one party.
CREATE TABLE legs (
    id INTEGER PRIMARY KEY,
    call_id INTEGER NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    sid TEXT NOT NULL UNIQUE,
    parent_sid TEXT,
    direction TEXT NOT NULL CHECK (direction IN ('inbound', 'outbound_dial')),
    dialer TEXT,
    step INTEGER,
    status TEXT NOT NULL CHECK (status IN ('initiated', 'ringing', 'answered', 'ended')),
    end_reason TEXT,
    sequence INTEGER,
    sip_code INTEGER,
    duration_s INTEGER,
    ringing_at INTEGER,
    answered_at INTEGER,
    ended_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX idx_legs_call_id ON legs (call_id);

-- The answer given to each webhook of a call, as its record has it sealed: a repeat of the webhook gets the same bytes.
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    call_id INTEGER NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    step TEXT NOT NULL,
    personal BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (call_id, step)
) STRICT;

-- What Braze last said of a caller, so that a restart begins with a warm cache.
CREATE TABLE profiles (
    id INTEGER PRIMARY KEY,
    identity_hash BLOB NOT NULL UNIQUE CHECK (length(identity_hash) = 32),
    personal BLOB NOT NULL,
    score REAL,
    tier TEXT,
    known INTEGER NOT NULL CHECK (known IN (0, 1)),
    fetched_at INTEGER NOT NULL,
    changed_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- The last recorded state of each dialer and of Braze, so that a restart takes up where it ended.
CREATE TABLE dialer_states (
    id INTEGER PRIMARY KEY,
    service TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    cause TEXT NOT NULL,
    drained_by TEXT,
    drained_at INTEGER,
    open_cause TEXT CHECK (open_cause IN ('failing', 'held_off', 'refused_request', 'refused_probe')),
    open_why TEXT,
    opened_at INTEGER,
    open_until INTEGER,
    credentials TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- The number of the last submission of records that is in the database: what the spool holds up to it is here already.
CREATE TABLE spool_mark (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    through INTEGER NOT NULL CHECK (through >= 0)
) STRICT;

INSERT INTO spool_mark (id, through) VALUES (1, 0);

-- Incidents, open and past. A projection of the audit log; the calls of an open one are counted here between its records.
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind <> ''),
    subject TEXT NOT NULL,
    cause TEXT NOT NULL,
    dialers TEXT NOT NULL,
    calls INTEGER NOT NULL,
    call_sids TEXT NOT NULL,
    reasons TEXT NOT NULL,
    reminders INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    told_at INTEGER NOT NULL,
    resolved_at INTEGER,
    lasted_ms INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX idx_incidents_resolved_at ON incidents (resolved_at) WHERE resolved_at IS NULL;

-- What is to be sent about them, and what became of it: one row per recipient, written with the record that is its occasion.
CREATE TABLE outbox_messages (
    id INTEGER PRIMARY KEY,
    incident_id INTEGER REFERENCES incidents (id) ON DELETE CASCADE,
    notice TEXT NOT NULL,
    occasion TEXT NOT NULL CHECK (occasion IN ('opened', 'reminded', 'resolved', 'tested', 'summary')),
    recipient TEXT NOT NULL CHECK (recipient <> ''),
    detail TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'dead', 'superseded')),
    attempts INTEGER NOT NULL,
    last_error TEXT,
    sent_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (notice, recipient)
) STRICT;

CREATE INDEX idx_outbox_messages_incident_id ON outbox_messages (incident_id);

CREATE INDEX idx_outbox_messages_state ON outbox_messages (state);

-- The last starts of the process.
CREATE TABLE service_starts (
    id INTEGER PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

INSERT INTO key_checks (id, value) VALUES
(1,
    x'6f940a17e33543bbbe868e9e4b1d746b7c01217d79e88dedbcb587939ef1f405');

INSERT INTO callers (id, identity_hash, salt, created_at, updated_at) VALUES
(1,
    x'c51a42c8e1008c863a8a75e7d88545f2f9bd0efe5f3f18ef9d3c59679f11bf83',
    x'1208f59b4d515d3ddd28d92477b9bad417b73107cf45be371488a4ef8296df29',
    1790000000000,
    1790000000000);

INSERT INTO audit_records (id, created_at, kind, detail, previous_hash, hash) VALUES
(1,
    1790000000000,
    'service_started',
    '{"version":"0.1.0"}',
    x'0000000000000000000000000000000000000000000000000000000000000000',
    x'e250d6f2ff0c06b682a0d293ad1646c38953e3a8e715eb864e196296aa4136e4');
INSERT INTO audit_records (id, created_at, kind, call_sid, detail, previous_hash, hash) VALUES
(2,
    1790000000100,
    'webhook_unusable',
    'CA00000000000000000000000000000001',
    '{"path":"/webhooks/twilio","reason":"a record of a call"}',
    x'e250d6f2ff0c06b682a0d293ad1646c38953e3a8e715eb864e196296aa4136e4',
    x'f41e0fbcb94ced52e2230172dbb64015573fde77ea74b8cd8a76e6bd7175ebda');

INSERT INTO calls (id, sid, status, disposition, reason, tier, score, ruleset, dialer, failed_over, held, started_at, ended_at, routing_ms, plan, state, created_at, updated_at, caller_id, personal) VALUES
(1,
    'CA00000000000000000000000000000001',
    'ended',
    'answered',
    'rule_matched',
    'hot',
    87.5,
    'a1b2c3d4e5f6',
    'dialfire',
    0,
    0,
    1790000000000,
    1790000060000,
    120,
    '{"dialers":["dialfire"],"skipped":[]}',
    '{"plan":["dialfire"],"step":1,"phase":{"is":"ended","disposition":"answered"}}',
    1790000000000,
    1790000060000,
    1,
    x'0100000000000000011cee61769675410bbb624455de49498fc74343a80366bbda53833b436c42bfbb9f395c54e7b48da5e0e3a3399b128d84c1553be005c791e7d09e8fbec6fb5e3da47ead850e14600619d0cd202aac');

INSERT INTO legs (id, call_id, sid, parent_sid, direction, dialer, step, status, end_reason, sequence, duration_s, answered_at, ended_at, created_at, updated_at) VALUES
(1,
    1,
    'CA00000000000000000000000000000002',
    'CA00000000000000000000000000000001',
    'outbound_dial',
    'dialfire',
    1,
    'ended',
    'completed',
    3,
    50,
    1790000010000,
    1790000060000,
    1790000001000,
    1790000060000);

INSERT INTO answers (id, call_id, step, personal, created_at) VALUES
(1,
    1,
    'inbound',
    x'010000000000000001cdfc2744a95253bc314972315e9e38552ef6894d344d02f1d5ed7f69c31534e6323f76eae3ff0344836bb4a0b3ce3da67f6f562894c18e69ac6ec91cd51a5d74b654a3125a8d42f33c07aac6',
    1790000000120);

INSERT INTO profiles (id, identity_hash, personal, score, tier, known, fetched_at, created_at, updated_at) VALUES
(1,
    x'c51a42c8e1008c863a8a75e7d88545f2f9bd0efe5f3f18ef9d3c59679f11bf83',
    x'6b28715cb6b5f2b45e5b9c58f81680356871a41d3ab523aad1aa9d6d1d4d07722fcf6d546c4428adfa6e7e9d845b330cd2b200986beddade568e126c07a30ea5e3f4c9e39e4ec16b02c9f9d97d44944f48',
    87.5,
    'hot',
    1,
    1790000000050,
    1790000000050,
    1790000000050);

INSERT INTO dialer_states (id, service, state, cause, drained_by, drained_at, created_at, updated_at) VALUES
(1,
    'dialfire',
    'drained',
    'taken out by ops',
    'ops',
    1790000000000,
    1790000000000,
    1790000000000);

-- For people with an SQL tool: what was decided for each call, and why. Nothing in it names a caller.
CREATE VIEW routing_decisions AS
SELECT
    id AS record_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch') AS decided_at,
    call_sid AS call_id,
    json_extract(detail, '$.door') AS door,
    json_extract(detail, '$.caller') AS caller,
    json_extract(detail, '$.decision.tier') AS tier,
    json_extract(detail, '$.decision.score') AS score,
    json_extract(detail, '$.decision.rule') AS rule,
    json_extract(detail, '$.decision.reason') AS reason,
    json_extract(detail, '$.decision.ruleset') AS ruleset,
    json_extract(detail, '$.decision.plan.dialers') AS plan,
    json_extract(detail, '$.decision.plan.skipped') AS skipped,
    json_extract(detail, '$.facts.lookup') AS lookup,
    json_extract(detail, '$.decision.trace') AS trace
FROM audit_records
WHERE kind = 'call_decided';

-- Every API request to Braze and the dialers with its answer, redacted.
CREATE VIEW api_exchanges AS
SELECT
    record_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch') AS recorded_at,
    call_id,
    json_extract(exchange, '$.service') AS service,
    attempt,
    json_extract(exchange, '$.method') AS method,
    json_extract(exchange, '$.url') AS url,
    json_extract(exchange, '$.status') AS status,
    json_extract(exchange, '$.error') AS error,
    json_extract(exchange, '$.elapsed_ms') AS elapsed_ms,
    json_extract(exchange, '$.request') AS request,
    json_extract(exchange, '$.response') AS response
FROM (
    SELECT
        id AS record_id, created_at, call_sid AS call_id, 1 AS attempt,
        json_extract(detail, '$.lookup_exchange') AS exchange
    FROM audit_records
    WHERE kind = 'call_decided' AND json_extract(detail, '$.lookup_exchange') IS NOT NULL
    UNION ALL
    SELECT
        audit_records.id, audit_records.created_at, audit_records.call_sid,
        json_extract(audit_records.detail, '$.attempt'), each.value
    FROM audit_records, json_each(audit_records.detail, '$.exchanges') AS each
    WHERE audit_records.kind = 'handoff_concluded'
);

-- Every change of a dialer's state and of Braze's; `is_current` is 1 in the last one of each.
CREATE VIEW health_status AS
SELECT
    id AS record_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch') AS changed_at,
    json_extract(detail, '$.service') AS service,
    json_extract(detail, '$.from') AS previous_state,
    json_extract(detail, '$.to') AS state,
    json_extract(detail, '$.cause') AS cause,
    json_extract(detail, '$.standing.drained.by') AS drained_by,
    json_extract(detail, '$.standing.open.until') AS open_until,
    row_number() OVER (PARTITION BY json_extract(detail, '$.service') ORDER BY id DESC) = 1 AS is_current
FROM audit_records
WHERE kind = 'health_changed';

-- Records that calls do not make in numbers are found by their kind. A list of names would be built anew for every record written.
CREATE INDEX idx_audit_records_kind_id_created_at
ON audit_records (kind, id, created_at)
WHERE kind <> 'call_decided' AND kind <> 'handoff_intended' AND kind <> 'handoff_concluded' AND kind <> 'call_answered' AND kind <> 'dial_ended' AND kind <> 'leg_reported';

-- The figures of a span of time, as JSON: of each minute, and of each hour that is over.
CREATE TABLE rollups (
    id INTEGER PRIMARY KEY,
    span_ms INTEGER NOT NULL CHECK (span_ms IN (60000, 3600000)),
    starts_at INTEGER NOT NULL,
    figures TEXT NOT NULL,
    UNIQUE (span_ms, starts_at)
) STRICT;

-- Who is logged in to the dashboard. Of the secrets there are hashes only.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    key_hash BLOB NOT NULL CHECK (length(key_hash) = 32),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- An answer of the call overran the budget.
ALTER TABLE calls ADD COLUMN overran INTEGER NOT NULL DEFAULT 0 CHECK (overran IN (0, 1));
