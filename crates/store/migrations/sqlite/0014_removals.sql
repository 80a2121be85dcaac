-- Jobs that somebody removed: they go once their folders on the workers are gone.
CREATE TABLE removals (
    job INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    at  BIGINT NOT NULL
);
