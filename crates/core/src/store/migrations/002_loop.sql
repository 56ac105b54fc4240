-- Times are RFC 3339 text in UTC with microseconds (they sort as text); rates and probabilities are 0-1.

-- Long texts are stored once, by digest.
CREATE TABLE texts (
    id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, body TEXT NOT NULL
) STRICT;

CREATE TABLE interactions (
    rowid INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    ts TEXT NOT NULL,
    target TEXT NOT NULL,
    session_id TEXT, user_id TEXT, model TEXT, adapter_id TEXT,
    query INTEGER NOT NULL REFERENCES texts(id),
    messages INTEGER NOT NULL REFERENCES texts(id),
    response INTEGER REFERENCES texts(id),
    success INTEGER CHECK (success IN (0, 1)),
    confidence REAL, min_token_prob REAL, mean_token_prob REAL,
    success_source TEXT, failure_class TEXT, finish_reason TEXT, http_status INTEGER,
    latency_ms REAL, ttft_ms REAL, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL,
    error TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    no_train INTEGER NOT NULL DEFAULT 0 CHECK (no_train IN (0, 1)),
    source TEXT NOT NULL, source_id TEXT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}',
    UNIQUE (source, source_id)
) STRICT;
CREATE INDEX interactions_ts ON interactions(target, ts);
CREATE VIRTUAL TABLE interactions_fts USING fts5(query, response, content='', contentless_delete=1);

-- One row for each opinion; the newest decides. value: -1 (bad) to 1 (good).
CREATE TABLE feedback (
    id TEXT PRIMARY KEY, interaction_id TEXT NOT NULL, ts TEXT NOT NULL, source TEXT NOT NULL,
    source_id TEXT NOT NULL, value REAL NOT NULL CHECK (value BETWEEN -1 AND 1), comment TEXT, correction TEXT,
    UNIQUE (source, source_id)
) STRICT;
CREATE INDEX feedback_interaction ON feedback(interaction_id, ts);

-- P(right | confidence), fitted on feedback.
CREATE TABLE calibrations (
    target TEXT PRIMARY KEY, fitted_at TEXT NOT NULL, n INTEGER NOT NULL,
    intercept REAL NOT NULL, slope REAL NOT NULL, auc REAL, brier REAL, ece REAL
) STRICT;

CREATE TABLE eval_sets (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, purpose TEXT NOT NULL CHECK (purpose IN ('traffic', 'gate', 'report')),
    sha256 TEXT NOT NULL, items INTEGER NOT NULL, registered_at TEXT NOT NULL, source TEXT NOT NULL
) STRICT;
CREATE TABLE eval_items (
    set_name TEXT NOT NULL REFERENCES eval_sets(name) ON DELETE CASCADE, position INTEGER NOT NULL,
    item_id TEXT NOT NULL, messages TEXT NOT NULL, reference TEXT, check_json TEXT NOT NULL,
    PRIMARY KEY (set_name, position), UNIQUE (set_name, item_id)
) STRICT, WITHOUT ROWID;

-- Every council call: planned before it is sent, its answer stored before it is used.
CREATE TABLE council_calls (
    key TEXT PRIMARY KEY, interaction_id TEXT NOT NULL, member TEXT NOT NULL, stage TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('in_flight', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0, http_status INTEGER, error TEXT, response TEXT, finish_reason TEXT,
    min_token_prob REAL, prompt_tokens INTEGER, completion_tokens INTEGER, sent_at TEXT NOT NULL, done_at TEXT
) STRICT;
CREATE INDEX council_calls_interaction ON council_calls(interaction_id);

-- What became of every interaction that a harvest looked at.
CREATE TABLE harvest_items (
    interaction_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, decided_at TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'abstained', 'false_alarm', 'quarantined', 'excluded')),
    tier TEXT, reason TEXT NOT NULL, row_json TEXT
) STRICT;

CREATE TABLE releases (
    adapter_id TEXT PRIMARY KEY, digest TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL,
    base_fingerprint TEXT NOT NULL, dataset_sha256 TEXT, rank INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('new', 'good', 'bad', 'gone')), reason TEXT, facts TEXT NOT NULL DEFAULT '{}'
) STRICT;

-- The truth about what is live; `loras/current` and the servers are projections of it.
CREATE TABLE pointer (
    target TEXT PRIMARY KEY, generation INTEGER NOT NULL, adapter_id TEXT, previous_adapter_id TEXT,
    tentative INTEGER NOT NULL DEFAULT 0 CHECK (tentative IN (0, 1)), lease_until TEXT,
    deployment_id TEXT, changed_at TEXT NOT NULL
) STRICT;
CREATE TABLE pointer_history (
    target TEXT NOT NULL, generation INTEGER NOT NULL, adapter_id TEXT, at TEXT NOT NULL,
    deployment_id TEXT, state TEXT NOT NULL CHECK (state IN ('tentative', 'good', 'bad')), why TEXT NOT NULL,
    PRIMARY KEY (target, generation)
) STRICT;

CREATE TABLE deployments (
    id TEXT PRIMARY KEY, target TEXT NOT NULL, candidate TEXT, previous TEXT,
    state TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT, verdict TEXT, reason TEXT,
    gate TEXT, watch TEXT, pid INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX deployments_open ON deployments(target) WHERE ended_at IS NULL;
CREATE TABLE gate_answers (
    deployment_id TEXT NOT NULL, item_id TEXT NOT NULL, incumbent_answer TEXT NOT NULL, candidate_answer TEXT NOT NULL,
    incumbent_right INTEGER NOT NULL, candidate_right INTEGER NOT NULL, PRIMARY KEY (deployment_id, item_id)
) STRICT;

-- Append-only record of every change of live state; each entry carries the hash of the one before.
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, tool TEXT NOT NULL, run_id TEXT NOT NULL, kind TEXT NOT NULL,
    subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, why TEXT NOT NULL,
    previous_hash TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

-- Append-only topics; a consumer's cursor is the last seq it has applied.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, topic TEXT NOT NULL, key TEXT NOT NULL, payload TEXT NOT NULL
) STRICT;
CREATE INDEX events_topic ON events(topic, seq);
CREATE TABLE cursors (
    consumer TEXT NOT NULL, topic TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (consumer, topic)
) STRICT, WITHOUT ROWID;

CREATE TABLE metrics (
    name TEXT NOT NULL, labels TEXT NOT NULL DEFAULT '', kind TEXT NOT NULL CHECK (kind IN ('counter', 'gauge')),
    help TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (name, labels)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    run_key TEXT PRIMARY KEY, run_id TEXT NOT NULL, target TEXT NOT NULL, date TEXT NOT NULL, state TEXT NOT NULL,
    started_at TEXT NOT NULL, ended_at TEXT, summary TEXT, result TEXT
) STRICT;
CREATE TABLE run_steps (
    run_key TEXT NOT NULL REFERENCES runs(run_key), step TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    started_at TEXT, ended_at TEXT, exit_code INTEGER, result TEXT, PRIMARY KEY (run_key, step)
) STRICT, WITHOUT ROWID;
