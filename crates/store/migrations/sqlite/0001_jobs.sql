-- Times: µs since 1970. Words (state, hold, ...) as the crate `job` spells them.

CREATE TABLE jobs (
    id            INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
    name          TEXT    NOT NULL,
    login_user    TEXT    NOT NULL,
    run_user      TEXT    NOT NULL, -- the effective user
    state         TEXT    NOT NULL, -- follows from hold and counters; stored for lists
    hold          TEXT    NOT NULL,
    reason        TEXT,
    submitted_at  BIGINT  NOT NULL,
    started_at    BIGINT,
    ended_at      BIGINT,
    priority      INTEGER NOT NULL,
    retries       INTEGER NOT NULL,
    steps_n       INTEGER NOT NULL,
    linked        BOOLEAN NOT NULL, -- some step depends on another
    waits         INTEGER NOT NULL, -- jobs it waits for
    not_before    BIGINT  NOT NULL, -- back-off
    refusals      INTEGER NOT NULL, -- in a row, for the back-off
    tasks         BIGINT  NOT NULL,
    pending       BIGINT  NOT NULL,
    running       BIGINT  NOT NULL,
    complete      BIGINT  NOT NULL,
    failed        BIGINT  NOT NULL,
    killed        BIGINT  NOT NULL,
    blocked       BIGINT  NOT NULL,
    stuck         BIGINT  NOT NULL  -- of the pending ones: in hopeless steps
);
CREATE INDEX jobs_by_login_user ON jobs (login_user, id);
CREATE INDEX jobs_by_run_user ON jobs (run_user, id);
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;

-- Apart, so that a change of a counter doesn't rewrite it.
CREATE TABLE specs (
    job  BIGINT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    spec TEXT   NOT NULL
);

CREATE TABLE requests (
    login_user TEXT   NOT NULL,
    request    TEXT   NOT NULL,
    job        BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    PRIMARY KEY (login_user, request)
);
CREATE INDEX requests_by_job ON requests (job);

CREATE TABLE waits (
    job     BIGINT  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    on_job  BIGINT  NOT NULL, -- not a reference: its history may go first
    any_end BOOLEAN NOT NULL,
    PRIMARY KEY (job, on_job)
);
CREATE INDEX waits_by_on_job ON waits (on_job);

CREATE TABLE steps (
    job      BIGINT  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step     INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    priority INTEGER NOT NULL, -- the job's, for the queue's index
    queued   BOOLEAN NOT NULL, -- has pending tasks, and nothing holds them
    unmet    INTEGER NOT NULL, -- steps it depends on that aren't complete
    hopeless BOOLEAN NOT NULL, -- one of those ended otherwise
    tasks    BIGINT  NOT NULL,
    pending  BIGINT  NOT NULL,
    running  BIGINT  NOT NULL,
    complete BIGINT  NOT NULL,
    failed   BIGINT  NOT NULL,
    killed   BIGINT  NOT NULL,
    blocked  BIGINT  NOT NULL,
    PRIMARY KEY (job, step)
);
CREATE INDEX steps_queue ON steps (priority DESC, job, step) WHERE queued;
CREATE INDEX steps_hopeless ON steps (job) WHERE hopeless;

CREATE TABLE step_links (
    job     BIGINT  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step    INTEGER NOT NULL,
    on_step INTEGER NOT NULL,
    PRIMARY KEY (job, step, on_step)
);

-- Every task is in exactly one of pieces, leases and done (current): ranges first..last, both included.

-- pending, blocked, failed, killed. The tasks of a range share epoch and tries.
CREATE TABLE pieces (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    job        BIGINT  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step       INTEGER NOT NULL,
    state      TEXT    NOT NULL,
    first      BIGINT  NOT NULL,
    last       BIGINT  NOT NULL,
    epoch      INTEGER NOT NULL,
    fails      INTEGER NOT NULL, -- since somebody last retried it
    losses     INTEGER NOT NULL,
    misfires   INTEGER NOT NULL, -- launches that failed
    reason     TEXT
);
CREATE INDEX pieces_by_state ON pieces (job, step, state, first);

CREATE TABLE sessions (
    id             INTEGER PRIMARY KEY AUTOINCREMENT, -- also the warrant's sequence number: never reused
    job            BIGINT  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    worker         TEXT    NOT NULL,
    incarnation    TEXT    NOT NULL,
    mode           TEXT    NOT NULL,
    login_user     TEXT    NOT NULL,
    run_user       TEXT    NOT NULL,
    account        TEXT    NOT NULL,
    grant_id       BIGINT,
    policy_version TEXT    NOT NULL,
    decision       TEXT    NOT NULL,
    purpose        TEXT    NOT NULL,
    opened_at      BIGINT  NOT NULL
);
CREATE INDEX sessions_by_job ON sessions (job);

-- What changes with every report, apart from what never changes.
CREATE TABLE session_states (
    session       BIGINT  PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    state         TEXT    NOT NULL,
    alive         BOOLEAN NOT NULL,
    lease_until   BIGINT  NOT NULL,
    run_as        TEXT, -- JSON of name, uid, gid, groups
    attested_by   TEXT,
    started_at    BIGINT,
    ended_at      BIGINT,
    ending        TEXT,
    reason        TEXT,
    proof_started TEXT,
    proof_ended   TEXT,
    reported      BIGINT  NOT NULL,
    logged        BIGINT  NOT NULL,
    cpu_us        BIGINT  NOT NULL,
    max_rss       BIGINT  NOT NULL,
    tasks_ended   BIGINT  NOT NULL,
    environment   TEXT -- the environment that failed, and how
);
CREATE INDEX session_states_alive ON session_states (lease_until) WHERE alive;

CREATE TABLE leases (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    session    BIGINT  NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    job        BIGINT  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step       INTEGER NOT NULL,
    first      BIGINT  NOT NULL,
    last       BIGINT  NOT NULL,
    epoch      INTEGER NOT NULL,
    fails      INTEGER NOT NULL,
    losses     INTEGER NOT NULL,
    misfires   INTEGER NOT NULL,
    asked      TEXT,    -- what its tasks become instead of going on: kill, block, requeue
    asked_why  TEXT,
    started    BIGINT,  -- the task that runs now
    started_at BIGINT
);
CREATE INDEX leases_by_session ON leases (session);
CREATE INDEX leases_by_job ON leases (job, step, first);

-- Complete tasks, packed (see `pack`). Not current: done again later; kept as history.
CREATE TABLE done (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    job      BIGINT  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step     INTEGER NOT NULL,
    first    BIGINT  NOT NULL,
    last     BIGINT  NOT NULL,
    epoch    INTEGER NOT NULL,
    session  BIGINT  NOT NULL,
    current  BOOLEAN NOT NULL,
    data     BLOB    NOT NULL
);
CREATE INDEX done_by_last ON done (job, step, last);

-- Attempts that did anything but complete.
CREATE TABLE attempts (
    job        BIGINT  NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    step       INTEGER NOT NULL,
    task       BIGINT  NOT NULL,
    epoch      INTEGER NOT NULL,
    session    BIGINT  NOT NULL,
    state      TEXT    NOT NULL,
    exit_code  INTEGER,
    signal     INTEGER,
    started_at BIGINT,
    ended_at   BIGINT,
    cpu_us     BIGINT  NOT NULL,
    max_rss    BIGINT  NOT NULL,
    reason     TEXT,
    PRIMARY KEY (job, step, task, epoch)
);

CREATE TABLE exclusions (
    worker  TEXT   NOT NULL,
    account TEXT   NOT NULL,
    reason  TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (worker, account)
);

CREATE TABLE workers (
    name          TEXT PRIMARY KEY,
    mode          TEXT    NOT NULL,
    proxy_account TEXT,
    slots         INTEGER NOT NULL,
    labels        TEXT    NOT NULL, -- JSON
    drained       BOOLEAN NOT NULL,
    last_seen     BIGINT  NOT NULL,
    panic         TEXT,
    hello         TEXT    NOT NULL
);

CREATE TABLE audited (
    chain    TEXT   NOT NULL,
    sequence BIGINT NOT NULL,
    hash     BLOB   NOT NULL,
    PRIMARY KEY (chain, sequence)
);

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
