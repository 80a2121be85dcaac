-- Who may act as whom: documented in docs/identity.md, and edited by hand while the farm runs. What a column may hold is
-- judged by whoever reads it, row by row: no CHECK and no reference here, so that nothing done by hand fails halfway, and
-- a row that was deleted simply means "no".
-- Times: TEXT, RFC 3339 in UTC (2026-11-30T18:00:00Z); NULL = open end.

CREATE TABLE users (
    name               TEXT PRIMARY KEY,
    type               TEXT    DEFAULT 'login', -- login, proxy
    roles              TEXT    DEFAULT '',      -- words with commas: admin, impersonate, auditor
    disabled           BOOLEAN DEFAULT FALSE,
    note               TEXT,
    environment        TEXT,                    -- JSON object
    working_root       TEXT,
    workers            TEXT,                    -- as --requires
    default_cpus_milli BIGINT,
    max_cpus_milli     BIGINT,
    default_memory     BIGINT,                  -- bytes
    max_memory         BIGINT,                  -- bytes
    answers            TEXT,                    -- names with commas: who answers for it
    created_at         TEXT,
    created_by         TEXT
);

-- List 1: who may act as another.
CREATE TABLE may_act (
    who     TEXT PRIMARY KEY,      -- a login user, or group:NAME
    allowed BOOLEAN DEFAULT TRUE
);

-- List 2: who may be acted as.
CREATE TABLE may_be_acted_as (
    proxy_user TEXT PRIMARY KEY,
    allowed    BOOLEAN DEFAULT TRUE
);

CREATE TABLE grants (
    id           INTEGER PRIMARY KEY AUTOINCREMENT, -- in warrants and audit records: never reused
    login_user   TEXT,                  -- a login user, or group:NAME
    proxy_user   TEXT,
    given_by     TEXT,
    given_at     TEXT,
    reason       TEXT,
    valid_from   TEXT,
    valid_until  TEXT,
    workers      TEXT,                  -- as --requires; NULL: all
    jobs         TEXT,                  -- patterns of names with commas; NULL: all
    state        TEXT DEFAULT 'active', -- requested, active, revoked
    requested_by TEXT,
    approved_by  TEXT,
    approved_at  TEXT,
    ended_by     TEXT,
    ended_at     TEXT,
    seal         TEXT                   -- the supervisor's, over the rest of the row
);
CREATE INDEX grants_by_pair ON grants (proxy_user, login_user);
CREATE INDEX grants_by_login_user ON grants (login_user);

-- As whom a login user acts for the time being.
CREATE TABLE associations (
    login_user TEXT PRIMARY KEY,
    proxy_user TEXT,
    grant_id   BIGINT,
    since      TEXT
);

CREATE TABLE tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    hash         BLOB UNIQUE, -- SHA-256 of the token, which is kept nowhere
    kind         TEXT,        -- session, token, job
    login_user   TEXT,
    name         TEXT,
    scopes       TEXT,
    acting_as    TEXT,
    job          BIGINT,
    client       TEXT,
    created_at   TEXT,
    expires_at   TEXT,
    last_used_at TEXT,
    revoked_at   TEXT
);
CREATE INDEX tokens_by_login_user ON tokens (login_user);
CREATE INDEX tokens_by_job ON tokens (job) WHERE job IS NOT NULL;

-- People of farms without a directory.
CREATE TABLE accounts (
    name       TEXT PRIMARY KEY,
    password   TEXT,                  -- argon2id, PHC string
    disabled   BOOLEAN DEFAULT FALSE,
    changed_at TEXT
);

-- By what right a job carries its user's name.
ALTER TABLE jobs ADD COLUMN grant_id BIGINT;
ALTER TABLE jobs ADD COLUMN via TEXT NOT NULL DEFAULT 'own'; -- own, grant, impersonate, admin, operator

-- Moves with every change of what decisions are made of, whoever makes it.
CREATE TABLE identity_changes (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    n  BIGINT NOT NULL
);
INSERT INTO identity_changes (id, n) VALUES (1, 0);
CREATE TRIGGER identity_changes_stay BEFORE DELETE ON identity_changes
BEGIN SELECT RAISE(ABORT, 'the count of identity changes has to stay'); END;
CREATE TRIGGER users_insert AFTER INSERT ON users
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER users_update AFTER UPDATE ON users
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER users_delete AFTER DELETE ON users
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER may_act_insert AFTER INSERT ON may_act
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER may_act_update AFTER UPDATE ON may_act
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER may_act_delete AFTER DELETE ON may_act
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER may_be_acted_as_insert AFTER INSERT ON may_be_acted_as
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER may_be_acted_as_update AFTER UPDATE ON may_be_acted_as
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER may_be_acted_as_delete AFTER DELETE ON may_be_acted_as
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER grants_insert AFTER INSERT ON grants
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER grants_update AFTER UPDATE ON grants
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER grants_delete AFTER DELETE ON grants
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER associations_insert AFTER INSERT ON associations
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER associations_update AFTER UPDATE ON associations
BEGIN UPDATE identity_changes SET n = n + 1; END;
CREATE TRIGGER associations_delete AFTER DELETE ON associations
BEGIN UPDATE identity_changes SET n = n + 1; END;
