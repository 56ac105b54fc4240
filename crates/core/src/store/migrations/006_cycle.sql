-- Cycles of the feedback loop of `analyze-logs`; `result` is what the cycle reported. One that was interrupted says so.
CREATE TABLE cycles (
    number INTEGER PRIMARY KEY AUTOINCREMENT, asked_by TEXT NOT NULL CHECK (asked_by IN ('schedule', 'trigger', 'run')),
    status TEXT NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'interrupted')),
    started_at TEXT NOT NULL, completed_at TEXT, result TEXT
) STRICT;
-- Changes that wait for a person: what was shown is what may be applied.
CREATE TABLE approvals (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, recommendation_id TEXT NOT NULL,
    recommendation TEXT NOT NULL, file TEXT NOT NULL, key_path TEXT NOT NULL, before TEXT, after TEXT NOT NULL,
    diff TEXT NOT NULL, reason TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'applied', 'rejected', 'expired')),
    why TEXT, change_id TEXT, created_at TEXT NOT NULL, decided_at TEXT
) STRICT;
CREATE UNIQUE INDEX approvals_pending ON approvals(recommendation_id) WHERE status = 'pending';
-- The looks at applied changes, each with what it said.
CREATE TABLE judgements (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, change_id TEXT NOT NULL, at TEXT NOT NULL,
    taken INTEGER NOT NULL, spent REAL NOT NULL, decision TEXT NOT NULL CHECK (decision IN ('keep', 'revert', 'wait')),
    basis TEXT NOT NULL, verdict TEXT NOT NULL
) STRICT;
CREATE INDEX judgements_change ON judgements(change_id, seq);
