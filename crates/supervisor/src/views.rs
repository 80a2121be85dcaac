//! The shapes of the JSON that people and scripts see (architecture §7). Every field is always there; absent is `null`.

use crate::audit;
use crate::clock::rfc3339;
use crate::dispatch::{KnownWorker, Progress, ProofView};
use crate::health::Trouble;
use job::{AttemptState, Counts, JobState, Plan, TaskState};
use policy::{Place, ProxyAccount, Rule};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use store::{AttemptRow, GrantRow, JobRow, Raw, SessionRow, TaskAttempts, UserRow};
use wire::Account;

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct JobView {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) state: JobState,
    pub(crate) login_user: String,
    pub(crate) user: String,
    pub(crate) submitted_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) priority: i32,
    pub(crate) tasks: Counts,
    pub(crate) reason: Option<String>,
}

impl From<&JobRow> for JobView {
    fn from(row: &JobRow) -> Self {
        Self {
            id: row.id,
            name: row.name.clone(),
            state: row.state,
            login_user: row.login_user.clone(),
            user: row.user.clone(),
            submitted_at: rfc3339(row.submitted_at),
            started_at: row.started_at.map(rfc3339),
            ended_at: row.ended_at.map(rfc3339),
            priority: row.priority,
            tasks: row.counts,
            reason: row.reason.clone(),
        }
    }
}

/// A user of the farm's table.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UserView {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) roles: Vec<String>,
    pub(crate) disabled: bool,
    pub(crate) note: Option<String>,
    pub(crate) environment: Option<serde_json::Value>,
    pub(crate) working_root: Option<String>,
    pub(crate) workers: Option<String>,
    pub(crate) default_cpus_milli: Option<u64>,
    pub(crate) max_cpus_milli: Option<u64>,
    pub(crate) default_memory: Option<u64>,
    pub(crate) max_memory: Option<u64>,
    pub(crate) answers: Vec<String>,
    pub(crate) created_at: Option<String>,
    pub(crate) created_by: Option<String>,
    /// Why the row gives nothing.
    pub(crate) fault: Option<String>,
}

impl UserView {
    pub(crate) fn of(row: &Raw<UserRow>) -> Self {
        let person = crate::identity::person(row);
        let words = |list: &str| list.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        let row = row.as_ref().ok();
        Self {
            kind: row.map(|r| r.kind.clone()),
            roles: row.map(|r| words(&r.roles)).unwrap_or_default(),
            disabled: person.disabled,
            note: row.and_then(|r| r.note.clone()),
            environment: row
                .and_then(|r| r.environment.as_ref())
                .map(|text| serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.clone()))),
            working_root: row.and_then(|r| r.working_root.clone()),
            workers: row.and_then(|r| r.workers.clone()),
            default_cpus_milli: row.and_then(|r| r.default_cpus_milli),
            max_cpus_milli: row.and_then(|r| r.max_cpus_milli),
            default_memory: row.and_then(|r| r.default_memory),
            max_memory: row.and_then(|r| r.max_memory),
            answers: row.and_then(|r| r.answers.as_deref()).map(words).unwrap_or_default(),
            created_at: row.and_then(|r| r.created_at.clone()),
            created_by: row.and_then(|r| r.created_by.clone()),
            name: person.name,
            fault: person.fault,
        }
    }
}

/// What one of the two lists says of somebody.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListedView {
    pub(crate) name: String,
    /// `null` where the list says nothing of them, which is no.
    pub(crate) allowed: Option<bool>,
    /// Why the row gives nothing.
    pub(crate) fault: Option<String>,
}

impl ListedView {
    pub(crate) fn of(row: Raw<(String, bool)>) -> Self {
        match row {
            Ok((name, allowed)) => Self { name, allowed: Some(allowed), fault: None },
            Err(bad) => Self { fault: Some(bad.to_string()), name: bad.key, allowed: None },
        }
    }
}

/// A grant as it is now.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct GrantView {
    pub(crate) id: Option<u64>,
    pub(crate) login_user: Option<String>,
    pub(crate) proxy_user: Option<String>,
    pub(crate) given_by: Option<String>,
    pub(crate) given_at: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) workers: Option<String>,
    pub(crate) jobs: Option<String>,
    /// `requested`, `active`, `revoked`; `expired`, `later` by the time; `invalid` if it can't be understood.
    pub(crate) state: &'static str,
    pub(crate) requested_by: Option<String>,
    pub(crate) approved_by: Option<String>,
    pub(crate) approved_at: Option<String>,
    pub(crate) ended_by: Option<String>,
    pub(crate) ended_at: Option<String>,
    /// Why it gives nothing.
    pub(crate) fault: Option<String>,
}

impl GrantView {
    pub(crate) fn of(row: &Raw<GrantRow>, now: i64) -> Self {
        let (state, fault) = match row {
            Ok(row) => crate::identity::standing(row, now),
            Err(bad) => ("invalid", Some(bad.to_string())),
        };
        let row = row.as_ref().ok();
        let text = |get: fn(&GrantRow) -> &Option<String>| row.and_then(|row| get(row).clone());
        Self {
            id: row.map(|r| r.id),
            login_user: row.map(|r| r.login_user.clone()),
            proxy_user: row.map(|r| r.proxy_user.clone()),
            given_by: text(|r| &r.given_by),
            given_at: text(|r| &r.given_at),
            reason: text(|r| &r.reason),
            from: text(|r| &r.valid_from),
            until: text(|r| &r.valid_until),
            workers: text(|r| &r.workers),
            jobs: text(|r| &r.jobs),
            state,
            requested_by: text(|r| &r.requested_by),
            approved_by: text(|r| &r.approved_by),
            approved_at: text(|r| &r.approved_at),
            ended_by: text(|r| &r.ended_by),
            ended_at: text(|r| &r.ended_at),
            fault,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TaskView {
    pub(crate) step: u32,
    pub(crate) step_name: Option<String>,
    pub(crate) task: u64,
    pub(crate) frame: Option<i64>,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) state: TaskState,
    pub(crate) reason: Option<String>,
    /// What a running task says of itself: 0 to 100, and a line.
    pub(crate) progress: Option<f64>,
    pub(crate) status: Option<String>,
    pub(crate) attempts: Vec<AttemptView>,
}

impl TaskView {
    pub(crate) fn new(
        job: u64,
        plan: &Plan,
        row: TaskAttempts,
        sessions: &HashMap<u64, SessionRow>,
        progress: &HashMap<wire::Task, Progress>,
    ) -> Self {
        let (step, index) = (row.task.step, row.task.index);
        let is_held = matches!(row.task.state, TaskState::Running | TaskState::Suspended);
        let said = progress.get(&wire::Task { step, index, epoch: row.task.epoch }).filter(|_| is_held);
        let info = usize::try_from(step).ok().and_then(|s| plan.steps().get(s));
        Self {
            step,
            step_name: info.map(|s| s.name.clone()),
            task: index,
            frame: plan.frame(step, index),
            params: plan.params(step, index).into_iter().collect(),
            state: row.task.state,
            reason: row.task.reason,
            progress: said.and_then(|p| p.percent),
            status: said.and_then(|p| p.status.clone()),
            attempts: row.attempts.into_iter().map(|a| AttemptView::new(job, a, sessions)).collect(),
        }
    }
}

impl TaskView {
    /// Says where the proof of each attempt stands.
    pub(crate) fn with_proofs(mut self, proofs: &HashMap<u64, ProofView>) -> Self {
        for attempt in &mut self.attempts {
            attempt.proof = proofs.get(&attempt.session).cloned();
        }
        self
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AttemptView {
    pub(crate) job: u64,
    pub(crate) step: u32,
    pub(crate) task: u64,
    pub(crate) attempt: u32,
    pub(crate) state: AttemptState,
    pub(crate) worker: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) login_user: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) run_as: Option<Account>,
    pub(crate) attested_by: Option<String>,
    pub(crate) proof: Option<ProofView>,
    pub(crate) grant: Option<u64>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) cpu_s: f64,
    pub(crate) max_rss: u64,
    pub(crate) reason: Option<String>,
    pub(crate) session: u64,
}

impl AttemptView {
    fn new(job: u64, row: AttemptRow, sessions: &HashMap<u64, SessionRow>) -> Self {
        let session = sessions.get(&row.session);
        Self {
            job,
            step: row.step,
            task: row.index,
            attempt: row.attempt,
            state: row.state,
            worker: session.map(|s| s.worker.clone()),
            mode: session.map(|s| s.mode.clone()),
            login_user: session.map(|s| s.login_user.clone()),
            user: session.map(|s| s.user.clone()),
            run_as: session.and_then(|s| s.run_as.clone()),
            attested_by: session.and_then(|s| s.attested_by.clone()),
            proof: None,
            grant: session.and_then(|s| s.grant),
            exit_code: row.exit_code,
            signal: row.signal,
            started_at: row.started_at.map(rfc3339),
            ended_at: row.ended_at.map(rfc3339),
            cpu_s: seconds(row.cpu_us),
            max_rss: row.max_rss,
            reason: row.reason,
            session: row.session,
        }
    }
}

/// What a task says of itself, as followers get it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ProgressView {
    pub(crate) job: u64,
    pub(crate) step: u32,
    pub(crate) task: u64,
    pub(crate) progress: Option<f64>,
    pub(crate) status: Option<String>,
}

impl ProgressView {
    pub(crate) fn new(job: u64, progress: Progress) -> Self {
        let Progress { task, percent, status } = progress;
        Self { job, step: task.step, task: task.index, progress: percent, status }
    }
}

fn seconds(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64()
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WorkerView {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) proxy_account: Option<String>,
    /// Of a desktop worker: whose it is.
    pub(crate) owner: Option<String>,
    pub(crate) slots: u32,
    pub(crate) used: usize,
    /// Who said what its settings are: `central` (the supervisor's qbwrk.conf), `local` (its host), `mixed`, `default`.
    pub(crate) settings: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) labels: Vec<String>,
    /// Of its host.
    pub(crate) cores: u32,
    pub(crate) memory: u64,
    /// Its load average over the last minute; `null` where it is away.
    pub(crate) load: Option<f64>,
    /// When it last joined; of one that is away, when it was last heard.
    pub(crate) last_seen_at: String,
}

impl WorkerView {
    pub(crate) fn new(known: &KnownWorker, used: usize) -> Self {
        let KnownWorker { hello, place, slots, said_by, last_seen, load_milli } = known;
        let (state, reason) = match place {
            Place { panic: Some(reason), .. } => ("panic", Some(reason.clone())),
            Place { online: false, .. } => ("down", Some("it is not connected".to_owned())),
            Place { drained: true, .. } => ("locked", Some("it is drained".to_owned())),
            _ if used > 0 => ("busy", None),
            _ => ("idle", None),
        };
        let proxy_account = place.proxy_account.as_ref().map(|account| match account {
            ProxyAccount::Named(name) => name.to_string(),
            ProxyAccount::Throwaway => "throwaway".to_owned(),
        });
        Self {
            name: place.worker.clone(),
            state,
            mode: place.mode.as_str(),
            proxy_account,
            owner: place.owner.as_ref().map(ToString::to_string),
            slots: *slots,
            used,
            settings: said_by,
            reason,
            labels: place.labels.clone(),
            cores: hello.cores,
            memory: hello.memory,
            load: load_milli.map(|milli| f64::from(milli) / 1000.0),
            last_seen_at: rfc3339(*last_seen),
        }
    }
}

/// As whom, where, and why.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ExplainView {
    pub(crate) job: Option<u64>,
    pub(crate) login_user: String,
    pub(crate) user: Option<String>,
    /// How the user was found: said before there is a job.
    pub(crate) rules: Vec<Rule>,
    /// The refusal of the submission itself.
    pub(crate) refused: Option<RefusedView>,
    pub(crate) workers: Vec<VerdictView>,
    /// What really happened, once there is a job.
    pub(crate) sessions: Vec<SessionView>,
}

/// What would become of a submission.
#[derive(Debug)]
pub(crate) struct PreviewView {
    pub(crate) name: String,
    pub(crate) tasks: u64,
    pub(crate) login_user: String,
    pub(crate) user: Option<String>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) refused: Option<RefusedView>,
    pub(crate) workers: Vec<VerdictView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct VerdictView {
    pub(crate) worker: String,
    pub(crate) mode: &'static str,
    pub(crate) run_as: Option<RunAsView>,
    pub(crate) verdict: &'static str,
    pub(crate) refused: Option<RefusedView>,
    pub(crate) rules: Vec<Rule>,
}

/// The worker's own answer; only the name is known of one that is away.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RunAsView {
    pub(crate) name: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
}

/// What lies in a folder of a job's, on all workers that were asked.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FilesView {
    pub(crate) job: u64,
    pub(crate) path: String,
    pub(crate) entries: Vec<FileView>,
    /// There are more, after the last name.
    pub(crate) more: bool,
    pub(crate) unreached: Vec<UnreachedView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FileView {
    pub(crate) name: String,
    /// `file`, `folder`, `link`, or `other`: a pipe, a socket, a device, which is never opened.
    pub(crate) kind: &'static str,
    pub(crate) size: u64,
    pub(crate) modified_at: String,
    /// Permission bits, as `ls` shows them in octal.
    pub(crate) mode: String,
    pub(crate) worker: String,
}

/// A worker that has files of the job and couldn't be asked, or doesn't show them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UnreachedView {
    pub(crate) worker: String,
    pub(crate) why: String,
}

impl FileView {
    pub(crate) fn of(entry: warrant::files::Entry, worker: String) -> Self {
        Self {
            kind: entry.kind.as_str(),
            size: entry.size,
            modified_at: crate::clock::rfc3339(i64::try_from(entry.modified_us).unwrap_or(i64::MAX)),
            mode: format!("{:04o}", entry.mode),
            name: entry.name,
            worker,
        }
    }
}

/// An account as hosts have it, side by side.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AccountCheckView {
    pub(crate) account: String,
    pub(crate) hosts: Vec<AccountOnHostView>,
    /// Name, uid, gid and groups are the same wherever it is; `null` where too few answered to say.
    pub(crate) same: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AccountOnHostView {
    pub(crate) worker: String,
    /// `yes`, `no`, or `unknown`: the worker is away, or can't say.
    pub(crate) there: &'static str,
    pub(crate) run_as: Option<RunAsView>,
    pub(crate) why: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RefusedView {
    pub(crate) rule: String,
    pub(crate) value: String,
    pub(crate) hint: String,
    pub(crate) text: String,
}

impl From<&policy::Refusal> for RefusedView {
    fn from(r: &policy::Refusal) -> Self {
        Self { rule: r.rule.clone(), value: r.value.clone(), hint: r.hint.clone(), text: r.text.clone() }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SessionView {
    pub(crate) session: u64,
    pub(crate) purpose: store::Purpose,
    pub(crate) worker: String,
    pub(crate) mode: String,
    pub(crate) state: store::SessionState,
    pub(crate) account: String,
    pub(crate) run_as: Option<Account>,
    pub(crate) attested_by: Option<String>,
    pub(crate) proof: Option<ProofView>,
    pub(crate) grant: Option<u64>,
    pub(crate) policy_version: String,
    pub(crate) rules: serde_json::Value,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) end: Option<String>,
    pub(crate) reason: Option<String>,
}

impl SessionView {
    pub(crate) fn new(row: SessionRow, proof: Option<ProofView>) -> Self {
        let mut decision: serde_json::Value = serde_json::from_str(&row.decision).unwrap_or_default();
        Self {
            session: row.id,
            purpose: row.purpose,
            worker: row.worker,
            mode: row.mode,
            state: row.state,
            account: row.account,
            run_as: row.run_as,
            attested_by: row.attested_by,
            proof,
            grant: row.grant,
            policy_version: row.policy_version,
            rules: decision.get_mut("rules").map(serde_json::Value::take).unwrap_or_default(),
            started_at: row.started_at.map(rfc3339),
            ended_at: row.ended_at.map(rfc3339),
            end: row.end,
            reason: row.reason,
        }
    }
}

/// A session or a token, without what it is known by.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CredentialView {
    pub(crate) id: u64,
    #[serde(skip)]
    pub(crate) kind: String,
    pub(crate) login_user: String,
    pub(crate) name: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) client: Option<String>,
    pub(crate) created_at: Option<String>,
    pub(crate) expires_at: Option<String>,
    pub(crate) last_used_at: Option<String>,
    /// It is the one that asked.
    pub(crate) current: bool,
}

impl CredentialView {
    pub(crate) fn new(row: &store::TokenRow, shown: Option<u64>) -> Self {
        Self {
            id: row.id,
            kind: row.kind.clone(),
            login_user: row.login_user.clone(),
            name: row.name.clone(),
            scopes: row.scopes.iter().flat_map(|words| words.split(',')).map(|w| w.trim().to_owned()).collect(),
            client: row.client.clone(),
            created_at: row.created_at.clone(),
            expires_at: row.expires_at.clone(),
            last_used_at: row.last_used_at.clone(),
            current: shown == Some(row.id),
        }
    }
}

/// What opens the pages in a browser as somebody, once.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LoginCodeView {
    /// The code is in its fragment.
    #[serde(serialize_with = "in_clear")]
    #[schemars(with = "String")]
    pub(crate) url: zeroize::Zeroizing<String>,
    pub(crate) login_user: String,
    /// For so many seconds.
    pub(crate) expires_s: u64,
}

/// A credential in clear: the only time.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NewCredentialView {
    pub(crate) id: u64,
    #[serde(serialize_with = "in_clear")]
    #[schemars(with = "String")]
    pub(crate) token: zeroize::Zeroizing<String>,
    pub(crate) login_user: String,
    pub(crate) expires_at: String,
}

fn in_clear<S: serde::Serializer>(secret: &zeroize::Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret)
}

/// A session that a browser has as a cookie, or anybody else in clear.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SignedInView {
    pub(crate) id: u64,
    pub(crate) login_user: String,
    pub(crate) expires_at: String,
    /// Not for a browser: what runs in a page is not to have it.
    #[serde(serialize_with = "maybe_in_clear", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(crate) token: Option<zeroize::Zeroizing<String>>,
}

fn maybe_in_clear<S: serde::Serializer>(secret: &Option<zeroize::Zeroizing<String>>, to: S) -> Result<S::Ok, S::Error> {
    secret.as_deref().serialize(to)
}

/// Who asks, and as whom that is.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct WhoamiView {
    pub(crate) login_user: String,
    pub(crate) uid: Option<u32>,
    pub(crate) roles: Vec<&'static str>,
    /// As whom a job would run: nobody for root, or where the association has ended.
    pub(crate) user: Option<String>,
    pub(crate) acting_as: Option<String>,
    /// Why the association gives nothing any more.
    pub(crate) problem: Option<policy::Refusal>,
    /// How that is known, for people.
    pub(crate) source: String,
    pub(crate) channel: policy::Channel,
    pub(crate) client: String,
    pub(crate) scopes: Vec<&'static str>,
    pub(crate) expires_at: Option<String>,
    pub(crate) credential: Option<CredentialView>,
}

/// The job that a submission became.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SubmittedView {
    pub(crate) job: u64,
}

/// A job after an act on it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ActedView {
    pub(crate) job: u64,
    pub(crate) state: JobState,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DrainedView {
    pub(crate) worker: String,
    pub(crate) drained: bool,
}

/// Whose password was set.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AccountView {
    pub(crate) account: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RemovedView {
    pub(crate) removed: String,
}

/// The session that was ended: none where no session was shown.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LoggedOutView {
    pub(crate) ended: Option<u64>,
}

/// The session or token that is over.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EndedView {
    pub(crate) ended: String,
}

/// The farm. What is for administrators is `null` for others.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FarmView {
    pub(crate) version: &'static str,
    pub(crate) farm: String,
    pub(crate) operator: Option<String>,
    pub(crate) url: String,
    pub(crate) sessions_live: usize,
    pub(crate) queue: QueueView,
    pub(crate) data: Option<String>,
    pub(crate) config: Option<ConfigView>,
    pub(crate) exclusions: Option<Vec<ExclusionView>>,
    /// What keeps the supervisor from its work.
    pub(crate) troubles: Option<Vec<Trouble>>,
    pub(crate) audit: Option<AuditView>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReadyView {
    pub(crate) ready: bool,
}

/// How the audit is kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AuditView {
    /// The number of its last record.
    records: u64,
    /// Records of endings that wait for room on the disk.
    waiting: u64,
    /// The last checkpoint of this supervisor.
    signed_at: Option<String>,
    anchored_at: Option<String>,
}

impl AuditView {
    pub(crate) fn of(state: &audit::State) -> Self {
        Self {
            records: state.records(),
            waiting: state.waiting(),
            signed_at: state.signed_at().map(rfc3339),
            anchored_at: state.anchored_at().map(rfc3339),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct QueueView {
    pub(crate) ready_steps: usize,
    pub(crate) ready_tasks: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigView {
    pub(crate) listen: String,
    pub(crate) jobs_keep_days: u64,
    pub(crate) logs_keep_days: u64,
    pub(crate) enforce_password: bool,
    pub(crate) batch_target_ms: u64,
    pub(crate) lease_seconds: u64,
    pub(crate) log_max_mib: u64,
}

/// An account that a worker doesn't run.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ExclusionView {
    pub(crate) worker: String,
    pub(crate) account: String,
    pub(crate) reason: String,
    pub(crate) at: String,
}

impl From<store::Exclusion> for ExclusionView {
    fn from(e: store::Exclusion) -> Self {
        Self { worker: e.worker, account: e.account, reason: e.reason, at: rfc3339(e.at) }
    }
}
