//! What supervisor and worker say to each other.
//!
//! Two ways, on one connection point (a unix socket in `dev`, TLS between hosts):
//!
//! * a WebSocket at [`CHANNEL_PATH`] for what is only worth something now: hello, offers, warrants, batches, orders.
//!   A message is a binary frame: `u32` length of a JSON header, the header ([`ToWorker`] or [`FromWorker`]), then a
//!   raw payload (the signed bytes, which are never re-encoded);
//! * idempotent HTTP for what must not be lost: `POST` [`REPORTS_PATH`] with [`Reports`], `PUT`
//!   `/worker/v1/logs/SESSION?offset=N` with raw log records ([`log`]). The worker spools both until acknowledged.
//!
//! Both look accounts up, and [`directory`] tells them whether "no such account" is the truth.
//!
//! Nothing here decides or stores.

#![forbid(unsafe_code)]

pub mod directory;
pub mod log;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the messages; a peer of another one is refused with both numbers.
pub const VERSION: u32 = 1;
pub const CHANNEL_PATH: &str = "/worker/v1/channel";
pub const REPORTS_PATH: &str = "/worker/v1/reports";
pub const LOGS_PATH: &str = "/worker/v1/logs";
/// Largest frame on the channel.
pub const FRAME_MAX: usize = 80 << 20;

/// Why a frame was refused.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("frame is cut short")]
    Truncated,
    #[error("frame of {0} bytes is over the limit of {FRAME_MAX}")]
    TooLong(usize),
    #[error("frame's header is malformed: {0}")]
    Header(#[from] serde_json::Error),
}

/// Header and payload as one binary frame.
pub fn encode_frame<T: Serialize>(header: &T, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let header = serde_json::to_vec(header)?;
    let len = u32::try_from(header.len()).map_err(|_| FrameError::TooLong(header.len()))?;
    let mut frame = Vec::with_capacity(4 + header.len() + payload.len());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    if frame.len() > FRAME_MAX { Err(FrameError::TooLong(frame.len())) } else { Ok(frame) }
}

/// The inverse of [`encode_frame`].
pub fn decode_frame<T: for<'de> Deserialize<'de>>(frame: &[u8]) -> Result<(T, &[u8]), FrameError> {
    if frame.len() > FRAME_MAX {
        return Err(FrameError::TooLong(frame.len()));
    }
    let (len, rest) = frame.split_first_chunk::<4>().ok_or(FrameError::Truncated)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > rest.len() {
        return Err(FrameError::Truncated);
    }
    let (header, payload) = rest.split_at(len);
    Ok((serde_json::from_slice(header)?, payload))
}

/// Names an attempt on the wire; the same numbers as [`warrant::TaskRef`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Task {
    pub step: u32,
    pub index: u64,
    pub epoch: u32,
}

impl From<warrant::TaskRef> for Task {
    fn from(t: warrant::TaskRef) -> Self {
        Self { step: t.step, index: t.index, epoch: t.epoch }
    }
}

impl From<Task> for warrant::TaskRef {
    fn from(t: Task) -> Self {
        Self { step: t.step, index: t.index, epoch: t.epoch }
    }
}

/// First message of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    pub name: String,
    /// `user`, `proxy` or `desktop`.
    pub mode: String,
    /// The account of proxy mode: a name, or `throwaway`. `None` in the other modes.
    pub proxy_account: Option<String>,
    /// Desktop mode: whose session it is, and whose jobs it takes (`["any"]`, or names; empty = the owner's only).
    pub owner: Option<Account>,
    pub accept: Vec<String>,
    /// Why the worker takes no jobs, if it does not (state `panic`).
    pub panic: Option<String>,
    pub slots: u32,
    pub labels: Vec<String>,
    pub cores: u32,
    pub memory: u64,
    /// The launcher's incarnation (hex); in desktop mode drawn by the worker itself.
    pub incarnation: String,
    /// Boot-time clock of the host, ms.
    pub tick: u64,
    /// The launcher's public key (hex); absent in desktop mode: there is no launcher to attest.
    pub host_key: Option<String>,
    pub abilities: Abilities,
    /// Hex of the launcher's signed [`warrant::SealingKeyOf`], where accounts are logged on with their passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_key: Option<String>,
    /// What is said on the host of the worker's settings.
    #[serde(default)]
    pub own: Own,
    /// Number of the [`ToWorker::Settings`] that it goes by; 0: its own.
    #[serde(default)]
    pub settings: u64,
    /// Living sessions, to be adopted or ended.
    pub sessions: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Ascending.
    pub groups: Vec<u32>,
}

/// What is said on a host, by its qb.conf, its worker.toml and the options of its worker: in Qube!'s words, and never a
/// password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Whose word counts: `worker_lookup`; empty: not said.
    pub lookup: String,
    pub settings: Vec<OwnSetting>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnSetting {
    pub key: String,
    /// As a file has it.
    pub value: String,
    pub file: String,
    /// 0: it is in no file.
    pub line: u32,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Abilities {
    pub cgroup_kill: bool,
    pub cgroup_memory: bool,
    pub cgroup_cpu: bool,
    pub cgroup_pids: bool,
    pub throwaway: bool,
    /// Sessions for file work.
    #[serde(default)]
    pub files: bool,
}

/// Worker → supervisor on the channel.
#[expect(clippy::large_enum_variant, reason = "the large one is sent once per connection")]
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FromWorker {
    Hello(Hello),
    /// At least every 5 s.
    Tick {
        tick: u64,
        /// The host's load average over the last minute, in thousandths.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        load_milli: Option<u32>,
    },
    /// The launcher was restarted: every warrant not yet used is void.
    NewIncarnation {
        incarnation: String,
        tick: u64,
        /// As in [`Hello::sealing_key`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sealing_key: Option<String>,
    },
    /// The worker can't work (`Some`) or can again (`None`): state `panic`.
    Panic {
        reason: Option<String>,
    },
    /// It goes by the [`ToWorker::Settings`] of this number; why it takes no jobs by them, if it does not.
    Settled {
        number: u64,
        panic: Option<String>,
    },
    Progress {
        session: u64,
        task: Task,
        hundredths: Option<u32>,
        status: Option<String>,
    },
    /// Answer of a session to [`ToWorker::Files`]. Payload: a [`warrant::files::FileAnswer`].
    Answered {
        session: u64,
        /// Of the request; 0: the session did not take it.
        sequence: u64,
    },
    /// Answer to [`ToWorker::Lookup`].
    LookedUp {
        id: u64,
        account: Option<Account>,
        error: Option<String>,
    },
}

/// Supervisor → worker on the channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ToWorker {
    /// `keys` (hex) sign warrants, batches and renewals. `keep` are the sessions of the hello that go on, each with
    /// the last report number the supervisor has; all others are to be ended.
    Welcome {
        farm: String,
        keys: Vec<String>,
        keep: Vec<Keep>,
    },
    /// As whom the worker is to run jobs from now on; it looks whether it can, and answers with
    /// [`FromWorker::Settled`]. What runs is not touched. Not for desktop workers.
    Settings {
        number: u64,
        /// `user` or `proxy`.
        mode: String,
        /// The account of proxy mode.
        proxy_account: Option<String>,
    },
    /// Start a session. Payload: the signed warrant. In desktop mode the worker starts it itself as its owner.
    Open {
        session: u64,
        job: u64,
        lease_until: u64,
    },
    /// Payload: the signed batch.
    Batch {
        session: u64,
        sequence: u64,
    },
    /// File work for a session that was opened for it. Payload: the signed [`warrant::files::FileRequest`].
    Files {
        session: u64,
    },
    /// Payload: the signed renewal.
    Renew {
        session: u64,
    },
    Cancel {
        session: u64,
        task: Task,
    },
    Recall {
        session: u64,
        through: u64,
        /// Comes back with the answer.
        #[serde(default)]
        number: u64,
    },
    Suspend {
        session: u64,
    },
    Resume {
        session: u64,
    },
    /// No batch follows.
    Finish {
        session: u64,
    },
    /// End every process of the session.
    Kill {
        session: u64,
    },
    /// What would this account be on your host? (`stead explain`)
    Lookup {
        id: u64,
        account: String,
    },
    /// Remove a job's folder. Payload: the signed warrant of purpose `clean`; empty in desktop mode.
    Clean {
        session: u64,
        job: u64,
    },
    /// The supervisor won't have this worker; it says why and closes.
    Refused {
        reason: String,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Keep {
    pub session: u64,
    pub reported: u64,
    pub logged: u64,
}

/// Body of `POST /worker/v1/reports`: consecutive reports of one session, the first having number `first` (from 1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reports {
    pub worker: String,
    pub session: u64,
    pub first: u64,
    pub reports: Vec<Report>,
}

/// Answer: everything up to `through` is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reported {
    pub through: u64,
}

/// What must not be lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// `proof` (hex of the signed proof) is absent in desktop mode, where the worker itself is the witness.
    Started {
        run_as: Account,
        proof: Option<String>,
        at_us: u64,
    },
    /// Nothing was executed; the session is over. `kind` as [`warrant::launcher_wire::RefusalKind`].
    Refused {
        kind: String,
        stage: String,
        errno: i32,
        text: String,
        hint: String,
        proof: Option<String>,
    },
    TaskStarted {
        task: Task,
        at_us: u64,
    },
    TaskEnded {
        task: Task,
        end: End,
        started_us: u64,
        ended_us: u64,
        cpu_us: u64,
        max_rss: u64,
    },
    /// Never started: they go back to the queue.
    Recalled {
        tasks: Vec<Task>,
        /// The recall that the session has obeyed by now; 0: more is to come, or nobody asked.
        #[serde(default)]
        answers: u64,
    },
    BatchDone {
        sequence: u64,
    },
    BatchRefused {
        text: String,
    },
    EnvironmentEnded {
        name: String,
        entered: bool,
        end: End,
    },
    /// No process of the session is alive. Last report of a session. `reason` as in [`SessionEnd`].
    Ended {
        end: SessionEnd,
        text: String,
        cpu_us: u64,
        max_rss: u64,
        proof: Option<String>,
    },
    /// A `Clean` session removed the job's folder.
    Cleaned {
        job: u64,
    },
}

/// How a task or an environment's action ended; as [`warrant::session_wire::ItemEnd`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Exited { code: u8 },
    Signalled { signal: u8 },
    TimedOut,
    Cancelled,
    CannotStart { stage: String, errno: i32, text: String },
    Failed { text: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// It left by itself: finished, or asked to be replaced.
    Left,
    Signalled,
    OutOfMemory,
    LeaseExpired,
    Killed,
    /// Nobody saw its end.
    Lost,
}
