-- The account of this machine that a session was made from, where the kernel said so: nobody else may show it.
ALTER TABLE tokens ADD COLUMN uid BIGINT;
-- Somebody's change of it by hand goes on record, too.
DROP TRIGGER tokens_insert_journal;
DROP TRIGGER tokens_update_journal;
DROP TRIGGER tokens_delete_journal;
CREATE TRIGGER tokens_insert_journal AFTER INSERT ON tokens
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('tokens', 'insert', quote(NEW.id),
        NULL,
        'id=' || quote(NEW.id) || ', ' ||
        'kind=' || quote(NEW.kind) || ', ' ||
        'login_user=' || quote(NEW.login_user) || ', ' ||
        'name=' || quote(NEW.name) || ', ' ||
        'scopes=' || quote(NEW.scopes) || ', ' ||
        'acting_as=' || quote(NEW.acting_as) || ', ' ||
        'job=' || quote(NEW.job) || ', ' ||
        'session=' || quote(NEW.session) || ', ' ||
        'uid=' || quote(NEW.uid) || ', ' ||
        'expires_at=' || quote(NEW.expires_at) || ', ' ||
        'revoked_at=' || quote(NEW.revoked_at)); END;
CREATE TRIGGER tokens_update_journal AFTER UPDATE OF hash, kind, login_user, name, scopes, acting_as, job, session, uid, expires_at, revoked_at ON tokens
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('tokens', 'update', quote(NEW.id),
        'id=' || quote(OLD.id) || ', ' ||
        'kind=' || quote(OLD.kind) || ', ' ||
        'login_user=' || quote(OLD.login_user) || ', ' ||
        'name=' || quote(OLD.name) || ', ' ||
        'scopes=' || quote(OLD.scopes) || ', ' ||
        'acting_as=' || quote(OLD.acting_as) || ', ' ||
        'job=' || quote(OLD.job) || ', ' ||
        'session=' || quote(OLD.session) || ', ' ||
        'uid=' || quote(OLD.uid) || ', ' ||
        'expires_at=' || quote(OLD.expires_at) || ', ' ||
        'revoked_at=' || quote(OLD.revoked_at),
        'id=' || quote(NEW.id) || ', ' ||
        'kind=' || quote(NEW.kind) || ', ' ||
        'login_user=' || quote(NEW.login_user) || ', ' ||
        'name=' || quote(NEW.name) || ', ' ||
        'scopes=' || quote(NEW.scopes) || ', ' ||
        'acting_as=' || quote(NEW.acting_as) || ', ' ||
        'job=' || quote(NEW.job) || ', ' ||
        'session=' || quote(NEW.session) || ', ' ||
        'uid=' || quote(NEW.uid) || ', ' ||
        'expires_at=' || quote(NEW.expires_at) || ', ' ||
        'revoked_at=' || quote(NEW.revoked_at) ||
        CASE WHEN OLD.hash IS NOT NEW.hash THEN ', hash=another' ELSE '' END); END;
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
        'uid=' || quote(OLD.uid) || ', ' ||
        'expires_at=' || quote(OLD.expires_at) || ', ' ||
        'revoked_at=' || quote(OLD.revoked_at),
        NULL); END;
