-- Living sessions that run tasks: a job with one is running, between two batches too.
ALTER TABLE jobs ADD COLUMN live BIGINT NOT NULL DEFAULT 0;
UPDATE jobs SET live = (
    SELECT count(*) FROM sessions JOIN session_states ON session = id
    WHERE sessions.job = jobs.id AND alive AND purpose = 'run'
);

-- What is needed to take leave of a session that outlived the one who drove it.
ALTER TABLE session_states ADD COLUMN batches BIGINT NOT NULL DEFAULT 0; -- highest batch it said was done
ALTER TABLE session_states ADD COLUMN entered TEXT; -- JSON: steps whose environments it may have entered
