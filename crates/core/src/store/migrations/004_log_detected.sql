-- What the detectors of `analyze-logs` keep of a scan besides the counts: errors by shape, marked calls, sessions
-- that may go on. In postcard's form; empty for scans of before, which are read anew.
ALTER TABLE log_scans ADD COLUMN detected BLOB NOT NULL DEFAULT x'';
