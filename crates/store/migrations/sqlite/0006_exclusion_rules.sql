-- Which rule of the host excluded an account: an unknown one is told from one that is refused.
ALTER TABLE exclusions ADD COLUMN rule TEXT NOT NULL DEFAULT '';
