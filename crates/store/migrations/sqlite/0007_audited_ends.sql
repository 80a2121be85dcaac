-- Whether the end of a session is in the audit: what a supervisor that died had no time to write, the next one writes.
ALTER TABLE session_states ADD COLUMN end_audited BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE session_states SET end_audited = NOT alive;
CREATE INDEX session_states_unaudited ON session_states (session) WHERE NOT alive AND NOT end_audited;
