-- What `analyze-logs analyze --incremental` has read so far, and what it counted there. A scan is one set of
-- paths read with one set of settings; its offsets move in the transaction that adds what was read.
CREATE TABLE log_scans (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, paths TEXT NOT NULL, totals TEXT NOT NULL, updated_at TEXT NOT NULL
) STRICT;
-- A file is known by device and inode, or by its first bytes (`head` is the SHA-256 of `head_length` of them)
-- together with the last bytes before `offset`. Offsets count plain bytes, compressed or not.
CREATE TABLE log_files (
    id INTEGER PRIMARY KEY, scan INTEGER NOT NULL REFERENCES log_scans(id) ON DELETE CASCADE, path TEXT NOT NULL,
    device INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    head_length INTEGER NOT NULL, head TEXT NOT NULL, "offset" INTEGER NOT NULL, tail BLOB NOT NULL,
    torn INTEGER NOT NULL CHECK (torn IN (0, 1)), seen_at TEXT NOT NULL
) STRICT;
CREATE INDEX log_files_scan ON log_files(scan);
-- The hours of one operation on one day (UTC); the day of calls without a time is -2147483648, and under the
-- day 2147483647 lies the sum of all days, which is enough for most questions.
CREATE TABLE log_cells (
    scan INTEGER NOT NULL REFERENCES log_scans(id) ON DELETE CASCADE, operation TEXT NOT NULL, day INTEGER NOT NULL,
    first_at INTEGER, last_at INTEGER, cells BLOB NOT NULL, PRIMARY KEY (scan, day, operation)
) STRICT, WITHOUT ROWID;
