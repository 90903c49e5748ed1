-- One row a run. While calls are in flight (`busy`) its view is behind: the events tell.
CREATE TABLE runs (
    n INTEGER PRIMARY KEY,              -- names the run inside this database; grows
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    workflow TEXT NOT NULL,
    plan TEXT NOT NULL,                 -- plans.hash
    kernel INTEGER NOT NULL,            -- the kernel version that drives it
    idempotency_key TEXT,
    input_hash TEXT,                    -- with the key: of the input as it came
    created_at INTEGER NOT NULL,        -- all times: milliseconds since the Unix epoch
    updated_at INTEGER NOT NULL,
    ended_at INTEGER,
    ttl_ms INTEGER NOT NULL,
    expires_at INTEGER,                 -- ended_at + ttl_ms: never set while it lives
    revision INTEGER NOT NULL,
    busy INTEGER NOT NULL,
    wake_at INTEGER,                    -- its earliest timer, when it is not busy
    view TEXT NOT NULL,
    snapshot TEXT,                      -- the kernel's state after the event snapshot_seq
    snapshot_seq INTEGER
);
CREATE UNIQUE INDEX runs_key ON runs (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX runs_plan ON runs (plan);
CREATE INDEX runs_busy ON runs (busy) WHERE busy;
CREATE INDEX runs_wake ON runs (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX runs_expiry ON runs (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE events (
    run INTEGER NOT NULL,               -- runs.n
    seq INTEGER NOT NULL,               -- from 1
    body TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;

CREATE TABLE plans (
    hash TEXT PRIMARY KEY,              -- SHA-256 of the body
    body TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE blobs (
    sha256 TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
);

-- Which runs use a blob: the last one takes it along.
CREATE TABLE blob_refs (
    run INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (run, sha256)
) WITHOUT ROWID;
CREATE INDEX blob_refs_blob ON blob_refs (sha256);

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('flushes', 0);
