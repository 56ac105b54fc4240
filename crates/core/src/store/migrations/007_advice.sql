-- What `analyze-logs` proposes. The same proposal updates its row; `body` is the whole recommendation as JSON.
CREATE TABLE recommendations (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, action_type TEXT NOT NULL, action TEXT NOT NULL, operation TEXT,
    priority TEXT NOT NULL, confidence REAL NOT NULL, score REAL NOT NULL, body TEXT NOT NULL,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL
) STRICT;
CREATE INDEX recommendations_score ON recommendations(score DESC);
