-- A request id is one identity's: sent again as another user it is another request.
CREATE TABLE requests_by_identity (
    login_user TEXT   NOT NULL,
    run_user   TEXT   NOT NULL,
    request    TEXT   NOT NULL,
    job        BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (login_user, run_user, request)
);
INSERT INTO requests_by_identity (login_user, run_user, request, job)
    SELECT r.login_user, j.run_user, r.request, r.job FROM requests r JOIN jobs j ON j.id = r.job;
DROP TABLE requests;
ALTER TABLE requests_by_identity RENAME TO requests;
CREATE INDEX requests_by_job ON requests (job);
