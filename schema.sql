-- The whole schema: version 1, edited in place until a release. After that, changes are steps in src/store/migrations.rs, and a test
-- proves that this file is what they add up to.
-- Times (`…_at`) are UTC milliseconds since the Unix epoch. `audit_records` is the truth; `calls`, `legs`,
-- `dialer_states`, `list_entries` and `api_keys` are projections of it and carry the time of the record they come from.
-- `mac`, where a table has it: the row as this program wrote it, under the installation's secret (src/store/rows.rs).

PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = 1398227524; -- "SWBD"
PRAGMA user_version = 1;

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

INSERT INTO log_identity (id, log_id) VALUES (1, lower(hex(randomblob(16))));

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
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    -- The row of its call: by it the records of a call are found.
    call_id INTEGER
) STRICT;

-- Calls are numbered as they arrive: inserts and prunes touch one edge of the index each, however random the ids of calls are.
CREATE INDEX idx_audit_records_call_id ON audit_records (call_id) WHERE call_id IS NOT NULL;

-- Records that calls do not make in numbers are found by their kind. A list of names would be built anew for every record written.
CREATE INDEX idx_audit_records_kind_id_created_at
ON audit_records (kind, id, created_at)
WHERE kind <> 'call_decided' AND kind <> 'handoff_intended' AND kind <> 'handoff_concluded' AND kind <> 'call_answered' AND kind <> 'dial_ended' AND kind <> 'leg_reported';

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
-- and one in ten minutes stays. `frontier` (see src/audit/compact_range.rs) stands in the newest row only: the tree goes on from it.
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

-- Tells whether a secret is the one under which this database is sealed. Two rows while the secret is changed.
CREATE TABLE key_checks (
    id INTEGER PRIMARY KEY,
    value BLOB NOT NULL UNIQUE CHECK (length(value) = 32)
) STRICT;

-- Keys that stay when the secret changes, because what was made with them cannot be made again; `wrapped_by` names the secret.
CREATE TABLE lasting_keys (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    wrapped_key BLOB NOT NULL CHECK (length(wrapped_key) = 60),
    wrapped_by BLOB NOT NULL CHECK (length(wrapped_by) = 8)
) STRICT;

-- One row for each person who called, found by a keyed hash. Without the key, nothing that was sealed for them is readable:
-- `personal` in `audit_records` and `calls`, and `who`, which is what is hashed. `wrapped_by` names the secret that wraps the key.
CREATE TABLE callers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    identity_hash BLOB NOT NULL CHECK (length(identity_hash) = 32),
    wrapped_key BLOB NOT NULL CHECK (length(wrapped_key) = 60),
    wrapped_by BLOB NOT NULL CHECK (length(wrapped_by) = 8),
    who BLOB NOT NULL,
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
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    caller_id INTEGER REFERENCES callers (id) ON DELETE SET NULL,
    personal BLOB,
    -- An answer of the call overran the budget.
    overran INTEGER NOT NULL DEFAULT 0 CHECK (overran IN (0, 1)),
    -- The machine that decided it, where that was another one: it counts there. Empty where that one has no name.
    adopted_from TEXT,
    -- The number that was called, as figures know it.
    called_id INTEGER,
    mac BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(mac) = 32)
) STRICT;

CREATE INDEX idx_calls_caller_id ON calls (caller_id) WHERE caller_id IS NOT NULL;

CREATE INDEX idx_calls_started_at ON calls (started_at);

-- Holds the calls in progress only, so it stays small.
CREATE INDEX idx_calls_status ON calls (status) WHERE status <> 'ended';

-- Calls that were forgotten: of each a keyed hash of its id, so that a webhook of it is not taken for a new call.
CREATE TABLE forgotten_calls (
    id INTEGER PRIMARY KEY,
    call_hash BLOB NOT NULL UNIQUE CHECK (length(call_hash) = 16),
    created_at INTEGER NOT NULL
) STRICT;

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
    drained_reason TEXT,
    drained_until INTEGER,
    open_cause TEXT CHECK (open_cause IN ('failing', 'held_off', 'rate_limited', 'refused_request', 'refused_probe')),
    open_why TEXT,
    opened_at INTEGER,
    open_until INTEGER,
    open_refusals INTEGER,
    credentials TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    mac BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(mac) = 32)
) STRICT;

-- Entries that were added to lists of callers while the program ran: a projection of `list_changed`. `personal` is that of the record.
-- `identity_hash` is under a key that stays, so that a block is known by it when the caller was erased and `personal` is gone.
CREATE TABLE list_entries (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    list TEXT NOT NULL CHECK (list <> ''),
    identity_hash BLOB NOT NULL CHECK (length(identity_hash) = 16),
    caller_id INTEGER REFERENCES callers (id) ON DELETE SET NULL,
    personal BLOB,
    added_by TEXT NOT NULL,
    until_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    mac BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(mac) = 32)
) STRICT;

CREATE UNIQUE INDEX idx_list_entries_identity_hash_list ON list_entries (identity_hash, list);

CREATE INDEX idx_list_entries_caller_id ON list_entries (caller_id) WHERE caller_id IS NOT NULL;

-- API keys that were made while the program ran: a projection of `key_changed`. Of a key there is a hash only.
CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    role TEXT NOT NULL,
    key_hash BLOB NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    made_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    mac BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(mac) = 32)
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
    told_at INTEGER,
    resolved_at INTEGER,
    lasted_ms INTEGER,
    muted TEXT,
    acknowledged_by TEXT,
    acknowledged_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX idx_incidents_resolved_at ON incidents (resolved_at) WHERE resolved_at IS NULL;

-- What is to be sent about them, and what became of it: one row per recipient, written with the record that is its occasion.
CREATE TABLE outbox_messages (
    id INTEGER PRIMARY KEY,
    incident_id INTEGER REFERENCES incidents (id) ON DELETE CASCADE,
    notice TEXT NOT NULL,
    occasion TEXT NOT NULL CHECK (occasion IN ('opened', 'reminded', 'resolved', 'acknowledged', 'tested', 'summary')),
    recipient TEXT NOT NULL CHECK (recipient <> ''),
    detail TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'sent', 'dead', 'superseded')),
    attempts INTEGER NOT NULL,
    last_error TEXT,
    sent_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    mac BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(mac) = 32),
    UNIQUE (notice, recipient)
) STRICT;

CREATE INDEX idx_outbox_messages_incident_id ON outbox_messages (incident_id);

CREATE INDEX idx_outbox_messages_state ON outbox_messages (state);

-- The last starts of the process.
CREATE TABLE service_starts (
    id INTEGER PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

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
    json_extract(detail, '$.decision.plan') AS plan,
    json_extract(detail, '$.decision.skipped') AS skipped,
    json_extract(detail, '$.facts.lookup') AS lookup,
    json_extract(detail, '$.decision.passed') AS passed_rules
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
        coalesce(json_extract(audit_records.detail, '$.attempt'), 1), each.value
    FROM audit_records, json_each(audit_records.detail, '$.exchanges') AS each
    WHERE audit_records.kind = 'handoff_concluded'
    UNION ALL
    SELECT
        audit_records.id, audit_records.created_at, audit_records.call_sid,
        coalesce(json_extract(audit_records.detail, '$.attempt.attempt'), 1), each.value
    FROM audit_records, json_each(audit_records.detail, '$.attempt.exchanges') AS each
    WHERE audit_records.kind = 'call_answered'
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

-- The figures of a span of time, as JSON: of each minute, and of each hour that is over.
CREATE TABLE rollups (
    id INTEGER PRIMARY KEY,
    span_ms INTEGER NOT NULL CHECK (span_ms IN (60000, 3600000)),
    starts_at INTEGER NOT NULL,
    figures TEXT NOT NULL,
    UNIQUE (span_ms, starts_at)
) STRICT;

-- The numbers that were called: of each a keyed hash, and the number with all but its last digits hidden.
CREATE TABLE called_numbers (
    id INTEGER PRIMARY KEY,
    number_hash BLOB NOT NULL UNIQUE CHECK (length(number_hash) = 16),
    masked TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- How the calls of an hour (`all`), of one that have something in common (`hour`), and of a day (`day`) went: sums, times in milliseconds. By score there are the calls that an old one or none
-- decided, by why; for how many a fresh one came, and how many it would have sent elsewhere.
CREATE TABLE quality (
    span TEXT NOT NULL CHECK (span IN ('all', 'hour', 'day')),
    starts_at INTEGER NOT NULL,
    dimension TEXT NOT NULL CHECK (dimension IN ('all', 'rule', 'dialer', 'tier', 'number', 'score')),
    name TEXT NOT NULL,
    calls INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    answered INTEGER NOT NULL,
    timed INTEGER NOT NULL,
    answer_ms INTEGER NOT NULL,
    talk_ms INTEGER NOT NULL,
    abandoned INTEGER NOT NULL,
    abandon_ms INTEGER NOT NULL,
    fresh INTEGER NOT NULL,
    elsewhere INTEGER NOT NULL,
    PRIMARY KEY (span, starts_at, dimension, name)
) STRICT, WITHOUT ROWID;

-- Who is logged in to the dashboard. Of the secrets there are hashes only.
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    key_hash BLOB NOT NULL CHECK (length(key_hash) = 32),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    mac BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(mac) = 32)
) STRICT;
