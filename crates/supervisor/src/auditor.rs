//! What auditors ask: the records, whether they hold, and who was behind a file or a process. Every such question is in
//! the audit itself.

use crate::audit::{self, Act, Filter, Line, Reader, Record, Stem};
use crate::authn::Authn;
use crate::caller::Caller;
use crate::clock;
use crate::error::ServiceError;
use crate::service::Service;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use store::SessionRow;

/// Sessions named at most in an answer.
const FOUND_MAX: usize = 100;
/// A file is changed while its session lives, as far as clocks of hosts agree.
const CLOCKS_US: i64 = 2_000_000;

/// Which records.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuditQuery {
    pub(crate) since: Option<String>,
    pub(crate) until: Option<String>,
    pub(crate) actor: Option<String>,
    #[serde(rename = "as")]
    pub(crate) user: Option<String>,
    pub(crate) act: Option<String>,
    pub(crate) outcome: Option<String>,
    /// To what: a worker, an account, a name.
    pub(crate) object: Option<String>,
    pub(crate) job: Option<u64>,
    /// Only operations in another's name.
    pub(crate) proxied: bool,
    /// Only records after this number, or before it.
    pub(crate) after: Option<u64>,
    pub(crate) before: Option<u64>,
    /// Only the last so many.
    pub(crate) last: Option<usize>,
    pub(crate) follow: bool,
}

impl AuditQuery {
    pub(crate) fn stem(&self, service: &Service) -> Stem {
        let dir = service.audit.dir();
        if self.proxied { Stem::proxied(dir) } else { Stem::chain(dir) }
    }

    pub(crate) fn filter(&self) -> Result<Filter, ServiceError> {
        let act =
            |word: &String| Act::parse(word).ok_or_else(|| ServiceError::input("act", format!("{word:?} is no act")));
        Ok(Filter {
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
            actor: self.actor.clone(),
            user: self.user.clone(),
            act: self.act.as_ref().map(act).transpose()?,
            outcome: self.outcome.clone(),
            job: self.job,
            object: self.object.clone(),
            after: self.after,
            before: self.before,
        })
    }

    fn asked(&self) -> String {
        let text = |key: &str, value: Option<String>| value.map(|v| format!("{key}={v}"));
        let parts = [
            text("since", self.since.clone()),
            text("until", self.until.clone()),
            text("actor", self.actor.clone()),
            text("as", self.user.clone()),
            text("act", self.act.clone()),
            text("outcome", self.outcome.clone()),
            text("object", self.object.clone()),
            text("job", self.job.map(|j| j.to_string())),
            text("before", self.before.map(|n| n.to_string())),
            text("after", self.after.map(|n| n.to_string())),
            text("last", self.last.map(|n| n.to_string())),
            self.proxied.then(|| "proxied".to_owned()),
            self.follow.then(|| "follow".to_owned()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

fn time(what: &'static str, text: Option<&str>) -> Result<Option<i64>, ServiceError> {
    let parse = |t: &str| t.parse::<jiff::Timestamp>().map_err(|e| ServiceError::input(what, e));
    text.map(|t| parse(t).map(jiff::Timestamp::as_microsecond)).transpose()
}

/// Records of a page at most.
const LAST_MAX: usize = 1000;

/// A record, and the line of it.
#[derive(Debug)]
pub(crate) struct AuditPage {
    pub(crate) line: Line,
    pub(crate) text: String,
}

/// How the audit is kept; times in µs since 1970.
#[derive(Debug)]
pub(crate) struct AuditState {
    pub(crate) records: u64,
    pub(crate) waiting: u64,
    pub(crate) signed_at: Option<i64>,
    pub(crate) anchored_at: Option<i64>,
    pub(crate) checked: Option<(i64, audit::Report)>,
}

/// What the last look at the whole chain found, as long as the supervisor lives. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verified(Arc<Mutex<Option<(i64, audit::Report)>>>);

impl Verified {
    fn keep(&self, at: i64, report: audit::Report) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, report));
    }

    fn last(&self) -> Option<(i64, audit::Report)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A file or a process, as whoever asks saw it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WhenceQuery {
    path: Option<String>,
    uid: Option<u32>,
    /// Worker or host.
    host: Option<String>,
    /// The process and those it comes from, the nearest first: `4711,4700,1`.
    pids: Option<String>,
    time: Option<String>,
}

/// Who may have been behind it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Whence {
    /// `exact`, `candidate`, or `none`.
    label: &'static str,
    /// Why these.
    why: String,
    found: Vec<Behind>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct Behind {
    job: Option<u64>,
    session: u64,
    worker: String,
    login_user: String,
    user: String,
    run_as: String,
    uid: Option<u32>,
    grant: Option<u64>,
    /// Who gave the grant, or approved it if it was asked for, as its row says now.
    given_by: Option<String>,
    /// The grant's row is not as the supervisor wrote it, or is gone: who gave it is whoever wrote there's word.
    grant_changed_outside: bool,
    started: Option<String>,
    /// Nothing: it is alive.
    ended: Option<String>,
    #[serde(skip)]
    pid: Option<u32>,
}

impl Service {
    /// Refuses who may not read the audit, and writes down that someone does.
    pub(crate) async fn reads_audit(&self, caller: &Caller, query: &AuditQuery) -> Result<(), ServiceError> {
        self.may_audit(caller, Act::AuditRead).await?;
        let record = Record::done(Act::AuditRead, caller.actor()).with("asked", query.asked());
        self.audit.write(record).await?;
        Ok(())
    }

    /// Whether someone may go on reading: asked while a stream is open.
    pub(crate) async fn is_still_auditor(&self, caller: &Caller, authn: &Authn) -> bool {
        caller.is_auditor() && caller.is_still(&self.identity, authn).await
    }

    async fn may_audit(&self, caller: &Caller, act: Act) -> Result<(), ServiceError> {
        if caller.is_auditor() {
            return Ok(());
        }
        self.audit.refusal(Record::refused(act, caller.actor()).with("rule", "auditor")).await?;
        Err(ServiceError::AuditorOnly)
    }

    pub(crate) fn audit_reader(&self, query: &AuditQuery) -> Result<Reader, ServiceError> {
        Reader::new(query.stem(self), query.filter()?).map_err(|e| ServiceError::input("audit", e))
    }

    /// Whether the audit holds, as far as files, key and store say.
    pub(crate) async fn verify_audit(&self, caller: &Caller) -> Result<audit::Report, ServiceError> {
        self.may_audit(caller, Act::AuditVerify).await?;
        let record = Record::done(Act::AuditVerify, caller.actor());
        let chain = self.audit.write(record).await?.chain;
        let stored = self.store.audit_tail(&chain).await?.map(|(sequence, hash)| (chain, sequence, hash));
        let dir = self.audit.dir().to_owned();
        let options = audit::VerifyOptions { stored, ..audit::VerifyOptions::default() };
        let report = blocking(move || audit::verify_dir(&dir, &options)).await?;
        self.verified.keep(clock::now(), report.clone());
        Ok(report)
    }

    /// The last records that are asked for, the oldest first.
    pub(crate) async fn audit_page(&self, caller: &Caller, query: &AuditQuery) -> Result<Vec<AuditPage>, ServiceError> {
        let (filter, stem) = (query.filter()?, query.stem(self));
        self.reads_audit(caller, query).await?;
        let n = query.last.unwrap_or(LAST_MAX).min(LAST_MAX);
        let lines = blocking(move || audit::last(&stem, &filter, n)).await?;
        let read = |bytes: Vec<u8>| {
            let line = serde_json::from_slice(&bytes).ok()?;
            Some(AuditPage { line, text: String::from_utf8_lossy(&bytes).trim_end().to_owned() })
        };
        Ok(lines.into_iter().filter_map(read).collect())
    }

    /// How the audit is kept, and what came of the last look at all of it.
    pub(crate) async fn audit_state(&self, caller: &Caller) -> Result<AuditState, ServiceError> {
        self.may_audit(caller, Act::AuditRead).await?;
        let state = self.audit.state();
        Ok(AuditState {
            records: state.records(),
            waiting: state.waiting(),
            signed_at: state.signed_at(),
            anchored_at: state.anchored_at(),
            checked: self.verified.last(),
        })
    }

    /// Who was behind a file or a process.
    pub(crate) async fn whence(&self, caller: &Caller, query: WhenceQuery) -> Result<Whence, ServiceError> {
        self.may_audit(caller, Act::AuditRead).await?;
        let asked = match (&query.path, &query.host) {
            (Some(path), _) => format!("whence {path}"),
            (None, Some(host)) => format!("whence {host}:{}", query.pids.as_deref().unwrap_or("?")),
            (None, None) => return Err(ServiceError::input("query", "it names neither a path nor a host")),
        };
        self.audit.write(Record::done(Act::AuditRead, caller.actor()).with("asked", asked)).await?;
        let at = time("time", query.time.as_deref())?;
        let mut whence = match (&query.path, &query.host) {
            (Some(path), _) => self.behind_file(Path::new(path), query.uid, at).await?,
            (None, host) => self.behind_process(host.as_deref().unwrap_or_default(), &query, at).await?,
        };
        self.name_givers(&mut whence.found).await?;
        Ok(whence)
    }

    async fn name_givers(&self, found: &mut [Behind]) -> Result<(), ServiceError> {
        let mut givers = BTreeMap::new();
        for behind in found {
            let Some(grant) = behind.grant else { continue };
            let giver = match givers.entry(grant) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.giver(grant).await?),
            };
            (behind.given_by, behind.grant_changed_outside) = giver.clone();
        }
        Ok(())
    }

    /// Who gave a grant, and whether that is somebody else's word than ours.
    async fn giver(&self, grant: u64) -> Result<(Option<String>, bool), ServiceError> {
        let Some(Ok(row)) = self.store.grant(grant).await? else { return Ok((None, true)) };
        let is_ours = self.identity.seal().holds(&row);
        Ok((row.given_by.or(row.approved_by), !is_ours))
    }

    async fn behind_file(&self, path: &Path, uid: Option<u32>, at: Option<i64>) -> Result<Whence, ServiceError> {
        if let Some(job) = job_of(&self.facts.data, path) {
            let all = self.sessions_behind(Some(job), None).await?;
            let of_owner: Vec<Behind> =
                all.iter().filter(|b| uid.is_none_or(|uid| b.uid == Some(uid))).cloned().collect();
            if !of_owner.is_empty() {
                let narrow: Vec<Behind> =
                    of_owner.iter().filter(|b| at.is_none_or(|at| b.covers(at))).cloned().collect();
                let why = format!("it lies in the folder of job {job} and belongs to the account that job ran as");
                return Ok(answer("exact", why, if narrow.is_empty() { of_owner } else { narrow }));
            }
            if !all.is_empty() {
                let why = format!("it lies in the folder of job {job}, but its owner is none that job ran as");
                return Ok(answer("candidate", why, all));
            }
        }
        let (Some(uid), Some(at)) = (uid, at) else {
            return Err(ServiceError::input("query", "a path needs the uid of its owner and the time it was changed"));
        };
        let mut found = self.sessions_behind(None, Some(at)).await?;
        found.retain(|b| b.uid == Some(uid) && b.covers(at));
        let why = format!("sessions that ran as uid {uid} when it was changed ({})", clock::rfc3339(at));
        Ok(answer("candidate", why, found))
    }

    async fn behind_process(&self, host: &str, query: &WhenceQuery, at: Option<i64>) -> Result<Whence, ServiceError> {
        let pids = query.pids.as_deref().unwrap_or_default();
        let pids: Result<Vec<u32>, _> = pids.split(',').filter(|p| !p.is_empty()).map(str::parse).collect();
        let pids = pids.map_err(|e| ServiceError::input("pids", e))?;
        let known = self.store.workers().await?.iter().any(|w| w.name == host);
        let live: Vec<Behind> = self.store.live_sessions(None).await?.iter().map(Behind::live).collect();
        let here = |b: &&Behind| !known || b.worker == host;
        let mut exact = live.iter().filter(here).filter(|b| b.pid.is_some_and(|pid| pids.contains(&pid)));
        if at.is_none()
            && let Some(found) = exact.next()
        {
            let why = "the process is the session's, or comes from it, as the launcher proved".to_owned();
            return Ok(answer("exact", why, vec![found.clone()]));
        }
        let at = at.unwrap_or_else(clock::now);
        let mut found = self.sessions_behind(None, Some(at)).await?;
        let uid = query.uid;
        found.retain(|b| (!known || b.worker == host) && b.covers(at) && uid.is_none_or(|uid| b.uid == Some(uid)));
        let place = if known { format!("on {host} ") } else { String::new() };
        Ok(answer("candidate", format!("sessions that were alive {place}at {}", clock::rfc3339(at)), found))
    }

    /// Ended ones from the audit, which outlives the store's rows, and living ones from the store.
    async fn sessions_behind(&self, job: Option<u64>, ended_after: Option<i64>) -> Result<Vec<Behind>, ServiceError> {
        let since = ended_after.map(|at| at.saturating_sub(CLOCKS_US));
        let filter = Filter { act: Some(Act::SessionEnd), job, since, ..Filter::default() };
        let stem = Stem::chain(self.audit.dir());
        let mut found = blocking(move || {
            let (mut reader, mut found) = (Reader::new(stem, filter)?, Vec::new());
            loop {
                let piece = reader.next()?;
                if piece.is_empty() {
                    return Ok(found);
                }
                let lines = piece.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice::<Line>(l).ok());
                found.extend(lines.filter_map(|line| Behind::ended(&line)));
            }
        })
        .await?;
        let live = self.store.live_sessions(None).await?;
        found.extend(live.iter().filter(|row| job.is_none_or(|job| row.job == job)).map(Behind::live));
        Ok(found)
    }
}

impl Behind {
    fn ended(line: &Line) -> Option<Self> {
        let account = line.details.get("account");
        let uid = account.and_then(|a| a.get("uid")?.as_u64()).and_then(|uid| u32::try_from(uid).ok());
        Some(Self {
            job: line.job,
            session: line.details.get("session")?.as_u64()?,
            worker: line.object.clone()?,
            login_user: line.login_user.clone()?,
            user: line.user.clone()?,
            run_as: line.run_as.clone().unwrap_or_default(),
            // Without it nothing ran.
            uid: Some(uid?),
            grant: line.grant,
            given_by: None,
            grant_changed_outside: false,
            started: line.text("started").or(line.text("opened")).map(str::to_owned),
            ended: Some(line.text("ended").unwrap_or(&line.time).to_owned()),
            pid: None,
        })
    }

    fn live(row: &SessionRow) -> Self {
        Self {
            job: Some(row.job),
            session: row.id,
            worker: row.worker.clone(),
            login_user: row.login_user.clone(),
            user: row.user.clone(),
            run_as: row.run_as.as_ref().map_or_else(|| row.account.clone(), |a| a.name.clone()),
            uid: row.run_as.as_ref().map(|a| a.uid),
            grant: row.grant,
            given_by: None,
            grant_changed_outside: false,
            started: Some(clock::rfc3339(row.started_at.unwrap_or(row.opened_at))),
            ended: None,
            pid: crate::dispatch::proved_pid(row),
        }
    }

    fn covers(&self, at: i64) -> bool {
        let (from, to) = (clock::rfc3339(at.saturating_add(CLOCKS_US)), clock::rfc3339(at.saturating_sub(CLOCKS_US)));
        self.started.as_ref().is_none_or(|s| *s <= from) && self.ended.as_ref().is_none_or(|e| *e >= to)
    }
}

fn answer(label: &'static str, why: String, mut found: Vec<Behind>) -> Whence {
    found.truncate(FOUND_MAX);
    Whence { label: if found.is_empty() { "none" } else { label }, why, found }
}

/// The job in whose own folder the path lies: `DATA/work/JOB/…`, or `JOB.UID` of an account that it went on as.
/// Nothing that goes back up does.
fn job_of(data: &Path, path: &Path) -> Option<u64> {
    let plain = |p: &Path| p.components().all(|c| !matches!(c, Component::ParentDir | Component::CurDir));
    let work = std::fs::canonicalize(data.join("work")).unwrap_or_else(|_| data.join("work"));
    let rest: PathBuf = path.strip_prefix(&work).ok()?.to_owned();
    let mut parts = rest.components();
    let name = parts.next()?.as_os_str().to_str()?;
    let job = match name.split_once('.') {
        Some((job, uid)) if !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_digit()) => job,
        Some(_) => return None,
        None => name,
    };
    job::job_number(job).ok().filter(|_| plain(path))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ServiceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(ServiceError::input("audit", error)),
        Err(error) => Err(ServiceError::input("audit", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jobs_own_folder_is_its_own() {
        let of = |path: &str| job_of(Path::new("/nonexistent/farm"), Path::new(path));
        assert_eq!(of("/nonexistent/farm/work/42/out/a.png"), Some(42));
        assert_eq!(of("/nonexistent/farm/work/42.1503/out/a.png"), Some(42));
        for other in [
            "/nonexistent/farm/work/x/a",
            "/nonexistent/farm/work/42.x/a",
            "/nonexistent/farm/work/42./a",
            "/nonexistent/farm/work/.new-42/a",
            "/nonexistent/farm/work",
            "/nonexistent/farm/work/42/../43/a",
            "/home/ada/a",
            "work/42",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
