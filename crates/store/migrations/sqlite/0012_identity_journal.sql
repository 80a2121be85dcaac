-- Changes of who may act as whom, as they happen. A change of the supervisor's own takes its lines back before it is
-- committed; what is left was done by somebody else, and goes on record at the next question, whatever table it was in.
-- Rows are as SQL literals, the last column of grants is the seal. What a token or a password is made of, and users' variables are, is not in them.
CREATE TABLE identity_journal (
    n        INTEGER PRIMARY KEY,
    of_table TEXT NOT NULL,
    op       TEXT NOT NULL, -- insert, update, delete
    row_key  TEXT,
    before   TEXT,          -- NULL: none
    after    TEXT           -- NULL: none
);
CREATE TRIGGER users_insert_journal AFTER INSERT ON users
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('users', 'insert', quote(NEW.name),
        NULL,
        'name=' || quote(NEW.name) || ', ' ||
        'type=' || quote(NEW.type) || ', ' ||
        'roles=' || quote(NEW.roles) || ', ' ||
        'disabled=' || quote(NEW.disabled) || ', ' ||
        'note=' || quote(NEW.note) || ', ' ||
        'environment=' || coalesce(length(NEW.environment) || ' characters', 'NULL') || ', ' ||
        'working_root=' || quote(NEW.working_root) || ', ' ||
        'workers=' || quote(NEW.workers) || ', ' ||
        'default_cpus_milli=' || quote(NEW.default_cpus_milli) || ', ' ||
        'max_cpus_milli=' || quote(NEW.max_cpus_milli) || ', ' ||
        'default_memory=' || quote(NEW.default_memory) || ', ' ||
        'max_memory=' || quote(NEW.max_memory) || ', ' ||
        'answers=' || quote(NEW.answers)); END;
CREATE TRIGGER users_update_journal AFTER UPDATE ON users
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('users', 'update', quote(NEW.name),
        'name=' || quote(OLD.name) || ', ' ||
        'type=' || quote(OLD.type) || ', ' ||
        'roles=' || quote(OLD.roles) || ', ' ||
        'disabled=' || quote(OLD.disabled) || ', ' ||
        'note=' || quote(OLD.note) || ', ' ||
        'environment=' || coalesce(length(OLD.environment) || ' characters', 'NULL') || ', ' ||
        'working_root=' || quote(OLD.working_root) || ', ' ||
        'workers=' || quote(OLD.workers) || ', ' ||
        'default_cpus_milli=' || quote(OLD.default_cpus_milli) || ', ' ||
        'max_cpus_milli=' || quote(OLD.max_cpus_milli) || ', ' ||
        'default_memory=' || quote(OLD.default_memory) || ', ' ||
        'max_memory=' || quote(OLD.max_memory) || ', ' ||
        'answers=' || quote(OLD.answers),
        'name=' || quote(NEW.name) || ', ' ||
        'type=' || quote(NEW.type) || ', ' ||
        'roles=' || quote(NEW.roles) || ', ' ||
        'disabled=' || quote(NEW.disabled) || ', ' ||
        'note=' || quote(NEW.note) || ', ' ||
        'environment=' || coalesce(length(NEW.environment) || ' characters', 'NULL') || ', ' ||
        'working_root=' || quote(NEW.working_root) || ', ' ||
        'workers=' || quote(NEW.workers) || ', ' ||
        'default_cpus_milli=' || quote(NEW.default_cpus_milli) || ', ' ||
        'max_cpus_milli=' || quote(NEW.max_cpus_milli) || ', ' ||
        'default_memory=' || quote(NEW.default_memory) || ', ' ||
        'max_memory=' || quote(NEW.max_memory) || ', ' ||
        'answers=' || quote(NEW.answers) ||
        CASE WHEN OLD.environment IS NOT NEW.environment THEN ', environment=another' ELSE '' END); END;
CREATE TRIGGER users_delete_journal AFTER DELETE ON users
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('users', 'delete', quote(OLD.name),
        'name=' || quote(OLD.name) || ', ' ||
        'type=' || quote(OLD.type) || ', ' ||
        'roles=' || quote(OLD.roles) || ', ' ||
        'disabled=' || quote(OLD.disabled) || ', ' ||
        'note=' || quote(OLD.note) || ', ' ||
        'environment=' || coalesce(length(OLD.environment) || ' characters', 'NULL') || ', ' ||
        'working_root=' || quote(OLD.working_root) || ', ' ||
        'workers=' || quote(OLD.workers) || ', ' ||
        'default_cpus_milli=' || quote(OLD.default_cpus_milli) || ', ' ||
        'max_cpus_milli=' || quote(OLD.max_cpus_milli) || ', ' ||
        'default_memory=' || quote(OLD.default_memory) || ', ' ||
        'max_memory=' || quote(OLD.max_memory) || ', ' ||
        'answers=' || quote(OLD.answers),
        NULL); END;
CREATE TRIGGER may_act_insert_journal AFTER INSERT ON may_act
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('may_act', 'insert', quote(NEW.who),
        NULL,
        'who=' || quote(NEW.who) || ', ' ||
        'allowed=' || quote(NEW.allowed)); END;
CREATE TRIGGER may_act_update_journal AFTER UPDATE ON may_act
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('may_act', 'update', quote(NEW.who),
        'who=' || quote(OLD.who) || ', ' ||
        'allowed=' || quote(OLD.allowed),
        'who=' || quote(NEW.who) || ', ' ||
        'allowed=' || quote(NEW.allowed)); END;
CREATE TRIGGER may_act_delete_journal AFTER DELETE ON may_act
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('may_act', 'delete', quote(OLD.who),
        'who=' || quote(OLD.who) || ', ' ||
        'allowed=' || quote(OLD.allowed),
        NULL); END;
CREATE TRIGGER may_be_acted_as_insert_journal AFTER INSERT ON may_be_acted_as
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('may_be_acted_as', 'insert', quote(NEW.proxy_user),
        NULL,
        'proxy_user=' || quote(NEW.proxy_user) || ', ' ||
        'allowed=' || quote(NEW.allowed)); END;
CREATE TRIGGER may_be_acted_as_update_journal AFTER UPDATE ON may_be_acted_as
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('may_be_acted_as', 'update', quote(NEW.proxy_user),
        'proxy_user=' || quote(OLD.proxy_user) || ', ' ||
        'allowed=' || quote(OLD.allowed),
        'proxy_user=' || quote(NEW.proxy_user) || ', ' ||
        'allowed=' || quote(NEW.allowed)); END;
CREATE TRIGGER may_be_acted_as_delete_journal AFTER DELETE ON may_be_acted_as
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('may_be_acted_as', 'delete', quote(OLD.proxy_user),
        'proxy_user=' || quote(OLD.proxy_user) || ', ' ||
        'allowed=' || quote(OLD.allowed),
        NULL); END;
CREATE TRIGGER grants_insert_journal AFTER INSERT ON grants
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('grants', 'insert', quote(NEW.id),
        NULL,
        'id=' || quote(NEW.id) || ', ' ||
        'login_user=' || quote(NEW.login_user) || ', ' ||
        'proxy_user=' || quote(NEW.proxy_user) || ', ' ||
        'given_by=' || quote(NEW.given_by) || ', ' ||
        'given_at=' || quote(NEW.given_at) || ', ' ||
        'reason=' || quote(NEW.reason) || ', ' ||
        'valid_from=' || quote(NEW.valid_from) || ', ' ||
        'valid_until=' || quote(NEW.valid_until) || ', ' ||
        'workers=' || quote(NEW.workers) || ', ' ||
        'jobs=' || quote(NEW.jobs) || ', ' ||
        'state=' || quote(NEW.state) || ', ' ||
        'requested_by=' || quote(NEW.requested_by) || ', ' ||
        'approved_by=' || quote(NEW.approved_by) || ', ' ||
        'approved_at=' || quote(NEW.approved_at) || ', ' ||
        'ended_by=' || quote(NEW.ended_by) || ', ' ||
        'ended_at=' || quote(NEW.ended_at) || ', ' ||
        'seal=' || quote(NEW.seal)); END;
CREATE TRIGGER grants_update_journal AFTER UPDATE ON grants
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('grants', 'update', quote(NEW.id),
        'id=' || quote(OLD.id) || ', ' ||
        'login_user=' || quote(OLD.login_user) || ', ' ||
        'proxy_user=' || quote(OLD.proxy_user) || ', ' ||
        'given_by=' || quote(OLD.given_by) || ', ' ||
        'given_at=' || quote(OLD.given_at) || ', ' ||
        'reason=' || quote(OLD.reason) || ', ' ||
        'valid_from=' || quote(OLD.valid_from) || ', ' ||
        'valid_until=' || quote(OLD.valid_until) || ', ' ||
        'workers=' || quote(OLD.workers) || ', ' ||
        'jobs=' || quote(OLD.jobs) || ', ' ||
        'state=' || quote(OLD.state) || ', ' ||
        'requested_by=' || quote(OLD.requested_by) || ', ' ||
        'approved_by=' || quote(OLD.approved_by) || ', ' ||
        'approved_at=' || quote(OLD.approved_at) || ', ' ||
        'ended_by=' || quote(OLD.ended_by) || ', ' ||
        'ended_at=' || quote(OLD.ended_at) || ', ' ||
        'seal=' || quote(OLD.seal),
        'id=' || quote(NEW.id) || ', ' ||
        'login_user=' || quote(NEW.login_user) || ', ' ||
        'proxy_user=' || quote(NEW.proxy_user) || ', ' ||
        'given_by=' || quote(NEW.given_by) || ', ' ||
        'given_at=' || quote(NEW.given_at) || ', ' ||
        'reason=' || quote(NEW.reason) || ', ' ||
        'valid_from=' || quote(NEW.valid_from) || ', ' ||
        'valid_until=' || quote(NEW.valid_until) || ', ' ||
        'workers=' || quote(NEW.workers) || ', ' ||
        'jobs=' || quote(NEW.jobs) || ', ' ||
        'state=' || quote(NEW.state) || ', ' ||
        'requested_by=' || quote(NEW.requested_by) || ', ' ||
        'approved_by=' || quote(NEW.approved_by) || ', ' ||
        'approved_at=' || quote(NEW.approved_at) || ', ' ||
        'ended_by=' || quote(NEW.ended_by) || ', ' ||
        'ended_at=' || quote(NEW.ended_at) || ', ' ||
        'seal=' || quote(NEW.seal)); END;
CREATE TRIGGER grants_delete_journal AFTER DELETE ON grants
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('grants', 'delete', quote(OLD.id),
        'id=' || quote(OLD.id) || ', ' ||
        'login_user=' || quote(OLD.login_user) || ', ' ||
        'proxy_user=' || quote(OLD.proxy_user) || ', ' ||
        'given_by=' || quote(OLD.given_by) || ', ' ||
        'given_at=' || quote(OLD.given_at) || ', ' ||
        'reason=' || quote(OLD.reason) || ', ' ||
        'valid_from=' || quote(OLD.valid_from) || ', ' ||
        'valid_until=' || quote(OLD.valid_until) || ', ' ||
        'workers=' || quote(OLD.workers) || ', ' ||
        'jobs=' || quote(OLD.jobs) || ', ' ||
        'state=' || quote(OLD.state) || ', ' ||
        'requested_by=' || quote(OLD.requested_by) || ', ' ||
        'approved_by=' || quote(OLD.approved_by) || ', ' ||
        'approved_at=' || quote(OLD.approved_at) || ', ' ||
        'ended_by=' || quote(OLD.ended_by) || ', ' ||
        'ended_at=' || quote(OLD.ended_at) || ', ' ||
        'seal=' || quote(OLD.seal),
        NULL); END;
CREATE TRIGGER associations_insert_journal AFTER INSERT ON associations
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('associations', 'insert', quote(NEW.login_user),
        NULL,
        'login_user=' || quote(NEW.login_user) || ', ' ||
        'proxy_user=' || quote(NEW.proxy_user) || ', ' ||
        'grant_id=' || quote(NEW.grant_id) || ', ' ||
        'since=' || quote(NEW.since)); END;
CREATE TRIGGER associations_update_journal AFTER UPDATE ON associations
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('associations', 'update', quote(NEW.login_user),
        'login_user=' || quote(OLD.login_user) || ', ' ||
        'proxy_user=' || quote(OLD.proxy_user) || ', ' ||
        'grant_id=' || quote(OLD.grant_id) || ', ' ||
        'since=' || quote(OLD.since),
        'login_user=' || quote(NEW.login_user) || ', ' ||
        'proxy_user=' || quote(NEW.proxy_user) || ', ' ||
        'grant_id=' || quote(NEW.grant_id) || ', ' ||
        'since=' || quote(NEW.since)); END;
CREATE TRIGGER associations_delete_journal AFTER DELETE ON associations
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('associations', 'delete', quote(OLD.login_user),
        'login_user=' || quote(OLD.login_user) || ', ' ||
        'proxy_user=' || quote(OLD.proxy_user) || ', ' ||
        'grant_id=' || quote(OLD.grant_id) || ', ' ||
        'since=' || quote(OLD.since),
        NULL); END;
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
        'expires_at=' || quote(NEW.expires_at) || ', ' ||
        'revoked_at=' || quote(NEW.revoked_at)); END;
CREATE TRIGGER tokens_update_journal AFTER UPDATE OF hash, kind, login_user, name, scopes, acting_as, job, session, expires_at, revoked_at ON tokens
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('tokens', 'update', quote(NEW.id),
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
        'id=' || quote(NEW.id) || ', ' ||
        'kind=' || quote(NEW.kind) || ', ' ||
        'login_user=' || quote(NEW.login_user) || ', ' ||
        'name=' || quote(NEW.name) || ', ' ||
        'scopes=' || quote(NEW.scopes) || ', ' ||
        'acting_as=' || quote(NEW.acting_as) || ', ' ||
        'job=' || quote(NEW.job) || ', ' ||
        'session=' || quote(NEW.session) || ', ' ||
        'expires_at=' || quote(NEW.expires_at) || ', ' ||
        'revoked_at=' || quote(NEW.revoked_at) ||
        CASE WHEN OLD.hash IS NOT NEW.hash THEN ', hash=another' ELSE '' END); END;
CREATE TRIGGER accounts_insert_journal AFTER INSERT ON accounts
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('accounts', 'insert', quote(NEW.name),
        NULL,
        'name=' || quote(NEW.name) || ', ' ||
        'disabled=' || quote(NEW.disabled) || ', ' ||
        'changed_at=' || quote(NEW.changed_at)); END;
CREATE TRIGGER accounts_update_journal AFTER UPDATE ON accounts
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('accounts', 'update', quote(NEW.name),
        'name=' || quote(OLD.name) || ', ' ||
        'disabled=' || quote(OLD.disabled) || ', ' ||
        'changed_at=' || quote(OLD.changed_at),
        'name=' || quote(NEW.name) || ', ' ||
        'disabled=' || quote(NEW.disabled) || ', ' ||
        'changed_at=' || quote(NEW.changed_at) ||
        CASE WHEN OLD.password IS NOT NEW.password THEN ', password=another' ELSE '' END); END;
CREATE TRIGGER accounts_delete_journal AFTER DELETE ON accounts
BEGIN INSERT INTO identity_journal (of_table, op, row_key, before, after) VALUES ('accounts', 'delete', quote(OLD.name),
        'name=' || quote(OLD.name) || ', ' ||
        'disabled=' || quote(OLD.disabled) || ', ' ||
        'changed_at=' || quote(OLD.changed_at),
        NULL); END;
