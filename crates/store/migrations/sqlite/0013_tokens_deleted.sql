-- A token that was good until somebody took its row away by hand goes on record, too. Those that are over tell nothing:
-- the supervisor forgets them by itself.
CREATE TRIGGER tokens_delete_journal AFTER DELETE ON tokens
WHEN OLD.revoked_at IS NULL AND (OLD.expires_at IS NULL OR OLD.expires_at > strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('tokens', 'delete', quote(OLD.id),
        'id=' || quote(OLD.id) || ', ' ||
        'kind=' || quote(OLD.kind) || ', ' ||
        'login_user=' || quote(OLD.login_user) || ', ' ||
        'name=' || quote(OLD.name) || ', ' ||
        'scopes=' || quote(OLD.scopes) || ', ' ||
        'acting_as=' || quote(OLD.acting_as) || ', ' ||
        'job=' || quote(OLD.job) || ', ' ||
        'session=' || quote(OLD.session) || ', ' ||
        'expires_at=' || quote(OLD.expires_at) || ', ' ||
        'revoked_at=' || quote(OLD.revoked_at),
        NULL); END;
