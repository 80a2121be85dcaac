-- Passwords that workers need to log accounts on with (docs/passwords.md). What is sealed can't be read with this file
-- alone: the key is in another. A row's number is its version: it is sealed with it, and never used again.
CREATE TABLE logon_passwords (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT   NOT NULL,
    domain  TEXT   NOT NULL,   -- '': none
    key_id  TEXT   NOT NULL,
    sealed  BLOB   NOT NULL,
    state   TEXT   NOT NULL,   -- unproved, good, bad
    set_by  TEXT   NOT NULL,
    set_at  BIGINT NOT NULL,
    said_at BIGINT,            -- when and by whom it was last said to be good or bad, and why
    said_by TEXT,
    said    TEXT,
    UNIQUE (account, domain)
);
