-- What `analyze-logs` changed in configs, one key a row. `before` and `after` are JSON values, `raw_*` the very
-- bytes, by which a rollback restores quotes and comments. `recommendation` holds evidence and expected effect.
CREATE TABLE config_changes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, recommendation TEXT NOT NULL,
    file TEXT NOT NULL, key_path TEXT NOT NULL, edit TEXT NOT NULL, before TEXT, after TEXT NOT NULL,
    raw_before TEXT NOT NULL, raw_after TEXT NOT NULL, sha256_before TEXT NOT NULL, sha256_after TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('applying', 'applied', 'kept', 'reverting', 'reverted', 'refused', 'failed')),
    why TEXT NOT NULL, planned_at TEXT NOT NULL, applied_at TEXT, ended_at TEXT, reload TEXT
) STRICT;
-- One open change a key, whoever asks.
CREATE UNIQUE INDEX config_changes_open ON config_changes(file, key_path)
    WHERE status IN ('applying', 'applied', 'reverting');
CREATE INDEX config_changes_status ON config_changes(status, seq);
-- The states through which our own writes took a file: tells them from what a person wrote.
CREATE TABLE config_states (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, file TEXT NOT NULL, sha256_from TEXT NOT NULL, sha256_to TEXT NOT NULL
) STRICT;
CREATE INDEX config_states_from ON config_states(file, sha256_from);
