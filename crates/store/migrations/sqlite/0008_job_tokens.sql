-- The session that a job's token was made for: it is good while that session lives.
ALTER TABLE tokens ADD COLUMN session BIGINT;
