-- The four tables of the documents, with their columns, so that an existing file opens as it is.
CREATE TABLE IF NOT EXISTS patterns_detected (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pattern_id TEXT UNIQUE NOT NULL, pattern_type TEXT NOT NULL,
    description TEXT NOT NULL, occurrences INTEGER NOT NULL, impact_score REAL NOT NULL,
    first_seen TIMESTAMP NOT NULL, last_seen TIMESTAMP NOT NULL, examples TEXT, metadata TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS improvements_applied (
    id INTEGER PRIMARY KEY AUTOINCREMENT, improvement_id TEXT UNIQUE NOT NULL, recommendation_title TEXT NOT NULL,
    action_type TEXT NOT NULL, changes TEXT NOT NULL, status TEXT NOT NULL, applied_at TIMESTAMP,
    rolled_back_at TIMESTAMP, error TEXT, metadata TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS success_metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, metric_type TEXT NOT NULL, metric_name TEXT NOT NULL,
    value REAL NOT NULL, period_start TIMESTAMP NOT NULL, period_end TIMESTAMP NOT NULL, metadata TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS correlations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, correlation_type TEXT NOT NULL, entity_a TEXT NOT NULL,
    entity_b TEXT NOT NULL, correlation_score REAL NOT NULL, sample_size INTEGER NOT NULL, metadata TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS idx_patterns_type ON patterns_detected(pattern_type);
CREATE INDEX IF NOT EXISTS idx_patterns_impact ON patterns_detected(impact_score DESC);
CREATE INDEX IF NOT EXISTS idx_improvements_status ON improvements_applied(status);
CREATE INDEX IF NOT EXISTS idx_improvements_applied_at ON improvements_applied(applied_at);
CREATE INDEX IF NOT EXISTS idx_metrics_type_name ON success_metrics(metric_type, metric_name);
CREATE INDEX IF NOT EXISTS idx_correlations_type ON correlations(correlation_type);
