//! File work: a session of its own, under the account that the decision names, answers requests that are signed here.
//!
//! The decision is the one of a dispatch, made when such a session is opened and again before each request. It is kept
//! for a short while between requests, for this login user, this user, this job and this worker only. It takes no slot,
//! and what becomes of it says nothing of the job. Nothing of a file is kept here.

use super::batch::within;
use super::farm::Live;
use super::open::Terms;
use super::session::Said;
use super::{DispatchError, Dispatcher, Ends};
use crate::clock;
use bytes::Bytes;
use policy::{Decision, Refusal, RunPlan, Who};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::Purpose;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use warrant::files::{FileAnswer, FileRequest, FileRule, FileWork, Root};
use warrant::{Account, Limits};
use wire::ToWorker;

/// How long a session is kept for another request.
const IDLE: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile whether it may be kept.
const LOOK: Duration = Duration::from_secs(5);
/// How long one request may take, a launch included.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long a request stays good on its way, in ms.
const NOT_AFTER_MS: u64 = 45_000;
/// How long the account's turn to be logged on is waited for, and how often it is looked.
const LOGON: Duration = Duration::from_secs(20);
const LOGON_LOOK: Duration = Duration::from_millis(100);
/// How often a session that is to end is told so.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// Requests that wait for one session.
const WAITING: usize = 64;
/// Sessions kept at a time: of one person, and on one worker.
const OF_ONE: usize = 16;
const ON_ONE: usize = 64;
/// What files of people are not by default: writable by group and others.
const UMASK: u32 = 0o022;

/// For whom, and where. Each has a session of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePlace {
    pub(crate) who: Who,
    pub(crate) job: u64,
    pub(crate) name: String,
    pub(crate) worker: String,
    /// Whose folder it is: the decision has to name the same.
    pub(crate) account: String,
}

/// Why file work was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{}", .0.text)]
    Refused(Refusal),
    #[error("{}", .0.text)]
    NoRoom(Refusal),
    /// It may be possible later.
    #[error("{0}")]
    Away(String),
    /// Of a change it isn't known whether it was made.
    #[error("{0}")]
    Lost(String),
    /// The session's own word: of the operating system, or that it won't.
    #[error("{text}")]
    Answer { rule: FileRule, text: String },
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
}

impl From<store::StoreError> for FileError {
    fn from(error: store::StoreError) -> Self {
        Self::Dispatch(error.into())
    }
}

type Done<T> = Result<T, FileError>;

/// Who answers, by whom and where.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<HashMap<Key, mpsc::Sender<Asked>>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    login_user: String,
    user: String,
    job: u64,
    worker: String,
}

#[derive(Debug)]
struct Asked {
    place: FilePlace,
    root: Root,
    work: FileWork,
    answer: oneshot::Sender<Done<FileAnswer>>,
}

impl Pool {
    fn keepers(&self) -> std::sync::MutexGuard<'_, HashMap<Key, mpsc::Sender<Asked>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dispatcher {
    /// Has one piece of file work done.
    pub(crate) async fn file_work(&self, place: &FilePlace, root: Root, work: FileWork) -> Done<FileAnswer> {
        let (answer, answered) = oneshot::channel();
        let gone = || FileError::Away("the session for file work ended just now: try again".to_owned());
        let mut asked = Asked { place: place.clone(), root, work, answer };
        // A keeper whose time is over takes no more: the next one does.
        while let Err(refused) = self.keeper(place)?.try_send(asked) {
            asked = match refused {
                TrySendError::Closed(asked) => asked,
                TrySendError::Full(_) => {
                    let text =
                        format!("{WAITING} requests for files of job {} on {} wait already", place.job, place.worker);
                    return Err(FileError::Away(format!("{text}: try again in a moment")));
                }
            };
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    fn keeper(&self, place: &FilePlace) -> Done<mpsc::Sender<Asked>> {
        let who = &place.who;
        let key = Key {
            login_user: who.login_user.to_string(),
            user: who.user.to_string(),
            job: place.job,
            worker: place.worker.clone(),
        };
        let mut keepers = self.0.files.keepers();
        if let Some(to) = keepers.get(&key).filter(|to| !to.is_closed()) {
            return Ok(to.clone());
        }
        keepers.retain(|_, to| !to.is_closed());
        let of_one = keepers.keys().filter(|k| k.login_user == key.login_user).count();
        let on_one = keepers.keys().filter(|k| k.worker == key.worker).count();
        if of_one >= OF_ONE || on_one >= ON_ONE {
            let whose = if of_one >= OF_ONE { "you have" } else { "that worker has" };
            let text = format!("{whose} as many sessions for file work as there may be: try again in half a minute");
            return Err(FileError::Away(text));
        }
        let (to, requests) = mpsc::channel(WAITING);
        keepers.insert(key, to.clone());
        tokio::spawn(Keeper { dispatcher: self.clone(), requests, open: None }.keep());
        Ok(to)
    }

    /// Whether the work may be done now, as whom, and until when.
    async fn file_decision(&self, place: &FilePlace, is_open: bool) -> Done<(RunPlan, Vec<policy::Rule>, Ends)> {
        let FilePlace { who, name, worker, .. } = place;
        let decided = if is_open {
            self.decide(who, name, worker).await?
        } else {
            self.decide_new(who, name, worker).await?.map(|decision| (decision, None))
        };
        let away = || FileError::Away(format!("worker {worker} is not connected, and the files are there"));
        let (decision, ends) = decided.ok_or_else(away)?;
        match decision {
            Decision::Run(plan, rules) if named(&plan.account) == place.account => Ok((plan, rules, ends)),
            Decision::Run(plan, _) => Err(FileError::Refused(Refusal {
                rule: "files_account".to_owned(),
                value: named(&plan.account).to_owned(),
                text: format!(
                    "the folder is {}'s, and file work there would be done as {} now",
                    place.account,
                    named(&plan.account)
                ),
                hint: "as whom the worker runs jobs was changed since; `stead explain` says by which rule".to_owned(),
            })),
            // A drained worker begins nothing; its files are there, but so may be the reason.
            Decision::Waiting(refusal, _) => Err(FileError::Away(format!("{} ({})", refusal.text, refusal.hint))),
            Decision::Refused(refusal, _) | Decision::Blocked(refusal, _) => Err(FileError::Refused(refusal)),
        }
    }

    async fn decide_new(&self, who: &Who, job: &str, worker: &str) -> Result<Option<Decision>, store::StoreError> {
        let people = self.people(who).await?;
        Ok(self.with_worker(worker, |w| policy::decide(who, Some(job), &w.place, &people, clock::now())))
    }

    /// Ends a session whose driver is gone, and waits until it has ended.
    pub(super) async fn bury(self, session: u64, worker: String, mut inbox: mpsc::UnboundedReceiver<Said>) {
        loop {
            self.tell_worker(&worker, &ToWorker::Kill { session });
            let over = async { while !matches!(inbox.recv().await, Some(Said::Over | Said::Reconnected) | None) {} };
            let _ = tokio::time::timeout(TOLD_AGAIN, over).await;
            if !self.farm().sessions.contains_key(&session) {
                return;
            }
        }
    }
}

fn named(account: &Account) -> &str {
    match account {
        Account::Named { name, .. } => name.as_str(),
        Account::Throwaway => "throwaway",
    }
}

/// Keeps one session while there are requests for it.
struct Keeper {
    dispatcher: Dispatcher,
    requests: mpsc::Receiver<Asked>,
    open: Option<Open>,
}

/// A session for file work.
struct Open {
    session: u64,
    place: FilePlace,
    account: Account,
    sequence: u64,
    inbox: mpsc::UnboundedReceiver<Said>,
    answers: mpsc::Receiver<(u64, Bytes)>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut idle_since = Instant::now();
        while idle_since.elapsed() < IDLE {
            match tokio::time::timeout(LOOK, self.requests.recv()).await {
                Ok(Some(asked)) => {
                    self.answer(asked).await;
                    idle_since = Instant::now();
                }
                Ok(None) => break,
                Err(_) => self.look().await,
            }
        }
        self.requests.close();
        while let Some(asked) = self.requests.recv().await {
            self.answer(asked).await;
        }
        if let Some(open) = self.open.take() {
            self.end(open, false);
        }
    }

    async fn answer(&mut self, asked: Asked) {
        // Whoever asked may have lost patience while it waited.
        if !asked.answer.is_closed() {
            let answer = self.serve(&asked).await;
            let _ = asked.answer.send(answer);
        }
    }

    /// What it was opened by may have ended, and it may itself.
    async fn look(&mut self) {
        let Some(open) = &mut self.open else { return };
        let is_over = std::iter::from_fn(|| open.inbox.try_recv().ok())
            .any(|said| matches!(said, Said::Over | Said::Reconnected));
        let may_stay =
            self.dispatcher.file_decision(&open.place, true).await.is_ok_and(|(plan, ..)| plan.account == open.account);
        if (is_over || !may_stay)
            && let Some(open) = self.open.take()
        {
            self.end(open, true);
        }
    }

    /// One that may be in the middle of something is killed; the others leave.
    fn end(&self, open: Open, at_once: bool) {
        let dispatcher = self.dispatcher.clone();
        let Open { session, place, mut inbox, .. } = open;
        tokio::spawn(async move {
            if !at_once {
                dispatcher.tell_worker(&place.worker, &ToWorker::Finish { session });
                let over = async { while !matches!(inbox.recv().await, Some(Said::Over) | None) {} };
                if tokio::time::timeout(TOLD_AGAIN, over).await.is_ok() {
                    return;
                }
            }
            dispatcher.bury(session, place.worker, inbox).await;
        });
    }

    /// Looking is tried again once in another session, where the first one was lost.
    async fn serve(&mut self, asked: &Asked) -> Done<FileAnswer> {
        match self.try_serve(asked).await {
            Err(FileError::Lost(_)) if !asked.work.changes() => self.try_serve(asked).await,
            answer => answer,
        }
    }

    async fn try_serve(&mut self, asked: &Asked) -> Done<FileAnswer> {
        let (plan, rules, _) = self.dispatcher.file_decision(&asked.place, self.open.is_some()).await?;
        if let Some(open) = self.open.take_if(|open| open.account != plan.account || open.place.who != asked.place.who)
        {
            self.end(open, true);
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.dispatcher.open_files(&asked.place, &plan, &rules).await?,
        };
        let answer = self.ask(&mut open, asked).await;
        match answer {
            Ok(_) => self.open = Some(open),
            Err(_) => self.end(open, true),
        }
        answer
    }

    /// Decided about when it is sent, and again when the answer is here: a launch, or the account's file system, may take
    /// longer than the right lasts.
    async fn ask(&self, open: &mut Open, asked: &Asked) -> Done<FileAnswer> {
        let ends = self.still(open).await?;
        let answer = open.ask(&self.dispatcher, asked, ends).await?;
        if !asked.work.changes() {
            self.still(open).await?;
        }
        Ok(answer)
    }

    /// Whether what it was opened by lasts, and until when.
    async fn still(&self, open: &Open) -> Done<Ends> {
        let (plan, _, ends) = self.dispatcher.file_decision(&open.place, true).await?;
        let changed = || FileError::Away("the account was changed just now: try again".to_owned());
        if plan.account == open.account { Ok(ends) } else { Err(changed()) }
    }
}

impl Open {
    async fn ask(&mut self, dispatcher: &Dispatcher, asked: &Asked, ends: Ends) -> Done<FileAnswer> {
        self.sequence += 1;
        self.send(dispatcher, asked, ends)?;
        let lost = |how: &str| {
            let unknown = if asked.work.changes() { "; it isn't known whether the change was made" } else { "" };
            FileError::Lost(format!("the session for file work on {} {how}{unknown}", self.place.worker))
        };
        let deadline = tokio::time::sleep(PATIENCE);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                biased;
                answer = self.answers.recv() => match answer {
                    // 0: it did not take the request.
                    Some((sequence, bytes)) if sequence == self.sequence || sequence == 0 => {
                        return FileAnswer::decode(&bytes).map_err(|e| lost(&format!("gave no answer that can be read: {e}")));
                    }
                    Some(_) => {}
                    None => return Err(lost("ended")),
                },
                said = self.inbox.recv() => match said {
                    Some(Said::Over) | None => return Err(self.ended(dispatcher, asked).await),
                    Some(Said::Reconnected) => return Err(lost("was cut off: its worker connected anew")),
                    Some(_) => {}
                },
                () = &mut deadline => return Err(lost(&format!("did not answer within {} s", PATIENCE.as_secs()))),
            }
        }
    }

    /// Signed under the same lock as it is withdrawn: a request is on its way before the recall, or never.
    fn send(&self, dispatcher: &Dispatcher, asked: &Asked, ends: Ends) -> Done<()> {
        let session = self.session;
        let farm = dispatcher.farm();
        if farm.is_withdrawn(session) {
            return Err(FileError::Away("the job was held back just now: try again".to_owned()));
        }
        let sent = farm.workers.get(&self.place.worker).map(|worker| {
            let request = FileRequest {
                farm: dispatcher.keys().farm,
                session,
                sequence: self.sequence,
                not_after: worker.clock.now() + within(NOT_AFTER_MS, ends, clock::now()),
                root: asked.root,
                work: asked.work.clone(),
            };
            let signed = request.sign(&dispatcher.keys().warrant).encode();
            worker.outbox.send(&ToWorker::Files { session }, &signed)
        });
        let away = || FileError::Away(format!("worker {} is not connected", self.place.worker));
        if sent == Some(true) { Ok(()) } else { Err(away()) }
    }

    /// Why it is over, in the words of the host.
    async fn ended(&self, dispatcher: &Dispatcher, asked: &Asked) -> FileError {
        let row = match dispatcher.store().session(self.session).await {
            Ok(row) => row,
            Err(error) => return error.into(),
        };
        let (was_refused, why) = row.map_or((false, String::new()), |row| {
            let refused = row.end.as_deref().is_some_and(|end| end.starts_with("refused:"));
            (refused, row.reason.or(row.end).unwrap_or_default())
        });
        let worker = &self.place.worker;
        if was_refused {
            return FileError::Away(format!("file work could not begin on {worker}: {why}"));
        }
        let unknown = if asked.work.changes() { "; it isn't known whether the change was made" } else { "" };
        FileError::Lost(format!("the session for file work on {worker} ended: {why}{unknown}"))
    }
}

impl Dispatcher {
    async fn open_files(&self, place: &FilePlace, plan: &RunPlan, rules: &[policy::Rule]) -> Done<Open> {
        self.0.room.begin().map_err(FileError::NoRoom)?;
        let FilePlace { who, job, worker, .. } = place;
        if self.with_worker(worker, |w| w.hello.abilities.files) != Some(true) {
            return Err(FileError::Away(format!("the software of worker {worker} is older, and does no file work")));
        }
        let people = self.people(who).await?;
        let (limits, purpose) = (Limits::default(), Purpose::Read);
        let terms = Terms { who, people: &people, plan, rules, purpose, limits, umask: UMASK };
        let turn = self.turn_of(worker, &plan.account).await?;
        let away = || FileError::Away(format!("worker {worker} is not connected"));
        let (new, to) = self.new_session(*job, worker, &terms).ok_or_else(away)?;
        let session = self.store().open_errand(new, clock::now()).await?;
        turn.of(session);
        let (to_driver, inbox) = mpsc::unbounded_channel();
        let (to_asker, answers) = mpsc::channel(4);
        let deadline = Instant::now() + self.settings().lease();
        let live = Live::new(*job, who.user.to_string(), worker.clone(), deadline, to_driver);
        let live = Live { to: Some(to), files: Some(to_asker), ..live };
        self.farm().sessions.insert(session, live);
        if !self.issue(session, *job, worker, to, &terms).await? {
            return Err(FileError::Away(format!("worker {worker} went away just now: try again")));
        }
        Ok(Open { session, place: place.clone(), account: plan.account.clone(), sequence: 0, inbox, answers })
    }

    /// On hosts that log accounts on, one launch of an account at a time.
    async fn turn_of(&self, worker: &str, account: &Account) -> Done<super::logon::Turn> {
        let until = Instant::now() + LOGON;
        loop {
            if let Some(turn) = self.try_logon(worker, account) {
                return Ok(turn);
            }
            if Instant::now() >= until {
                let text = format!(
                    "{} can't be logged on on {worker} now: its password is in use, or not good",
                    named(account)
                );
                return Err(FileError::Away(text));
            }
            tokio::time::sleep(LOGON_LOOK).await;
        }
    }
}
