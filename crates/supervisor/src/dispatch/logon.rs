//! Passwords at dispatch: which accounts can be logged on, one use at a time, and what a host says of them.
//!
//! A password that is wrong is found out by one try, wherever and however much waits for it: while a worker uses it,
//! nothing else of that account is opened on workers that need it; once it is refused it is used nowhere, until somebody
//! sets or checks it. What is running goes on.

use super::farm::{Farm, Worker};
use super::{DispatchError, Dispatcher, Outcome};
use crate::audit::{Act, Record};
use crate::clock;
use crate::configuration::GivenByFile;
use crate::events::Event;
use crate::logon::named;
use policy::{Logon, Logons, Mode, PASSWORD_TRIED, Place, ProxyAccount};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{LogonState, LogonWord, SessionRow, StoreError};
use warrant::{Account, PublicKey, SealingKeyOf, Secret, hex, sha256, unhex};
use wire::Report;

/// How long a good word is good enough not to be written again.
const SAID_AGAIN_US: i64 = 600_000_000;
/// What a host refuses when the account's password is not good, or can't be any more.
const REFUSALS: [&str; 4] = ["password_wrong", "password_expired", "account_locked", "account_expired"];

/// What a worker needs to be sent passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// Sealed for this key of its launcher.
    Sealed([u8; 32]),
    /// It needs them, and its key can't be trusted.
    Untrusted,
}

impl Needs {
    /// The key is taken if the host's own key signed it for this life.
    pub(super) fn of(shown: Option<&str>, host: Option<&PublicKey>, incarnation: warrant::Incarnation) -> Self {
        let Some(shown) = shown else { return Self::Nothing };
        let signed = unhex(shown).and_then(|bytes| SealingKeyOf::decode(&bytes).ok());
        match signed.zip(host).map(|(signed, host)| SealingKeyOf::open(&signed, host)) {
            Some(Ok(of)) if of.incarnation == incarnation => Self::Sealed(of.public),
            _ => Self::Untrusted,
        }
    }
}

impl Farm {
    /// Every place learns what is known of passwords now.
    pub(super) fn judge_logons(&mut self) {
        let mut known = (*self.logons).clone();
        for (account, (_, worker)) in &self.trying {
            if let Some(logon @ Logon::Ready) = known.0.get_mut(account) {
                *logon = Logon::Tried { worker: worker.clone() };
            }
        }
        let known = Arc::new(known);
        for worker in self.workers.values_mut() {
            worker.judge_logon(&known);
        }
    }
}

impl Worker {
    fn judge_logon(&mut self, known: &Arc<Logons>) {
        self.place.logons = (self.needs != Needs::Nothing).then(|| known.clone());
        self.no_logon = match (self.needs, self.place.mode, &self.place.proxy_account) {
            (Needs::Nothing, ..) => None,
            (Needs::Untrusted, ..) => {
                Some("its launcher's key for passwords is not signed by its host's key".to_owned())
            }
            (_, Mode::Proxy, Some(ProxyAccount::Named(name))) => {
                let refusal = known.refusal(name.as_str()).filter(|r| r.rule != PASSWORD_TRIED);
                let why = |r: policy::Refusal| match &self.not_opened {
                    Some(why) => why.clone(),
                    None => format!("{} ({})", r.text, r.hint),
                };
                refusal.map(|r| format!("its proxy account can't be logged on: {}", why(r)))
            }
            _ => None,
        };
        self.place.panic = self.panic();
    }

    /// Why it gets no work.
    pub(super) fn panic(&self) -> Option<String> {
        let settling = || self.settling.map(|_| "it has not taken over its new settings yet".to_owned());
        let said = || self.trouble.clone().or_else(|| self.distrusted.clone()).or_else(|| self.no_logon.clone());
        self.misconfigured.clone().or_else(settling).or_else(said)
    }
}

/// For a session that was logged on: that somebody else is being logged on just now is not its affair.
pub(super) fn for_living(place: &Place) -> Option<Place> {
    let tried = |logon: &Logon| matches!(logon, Logon::Tried { .. });
    let logons = place.logons.as_ref().filter(|logons| logons.0.values().any(tried))?;
    let ready = |(account, logon): (&String, &Logon)| {
        (account.clone(), if tried(logon) { Logon::Ready } else { logon.clone() })
    };
    let logons: BTreeMap<String, Logon> = logons.0.iter().map(ready).collect();
    Some(Place { logons: Some(Arc::new(Logons(logons))), ..place.clone() })
}

impl Dispatcher {
    /// Passwords were set, checked, taken away or refused.
    pub(crate) async fn logons_changed(&self) -> Result<(), StoreError> {
        let known = self.0.logons.known().await?;
        {
            let mut farm = self.farm();
            farm.logons = Arc::new(known);
            farm.judge_logons();
        }
        self.0.events.say(Event::Worker);
        self.wake();
        Ok(())
    }

    /// Passwords that files give to workers which need them. Each text is taken once: what is set after it stays, until
    /// the file says another.
    pub(super) async fn take_given_passwords(&self) -> Result<(), StoreError> {
        let given: Vec<(String, GivenByFile)> = {
            let farm = self.farm();
            let needing = farm.workers.iter().filter(|(_, w)| w.needs != Needs::Nothing);
            needing.filter_map(|(name, w)| Some((name.clone(), w.given.clone()?))).collect()
        };
        if given.is_empty() {
            return Ok(());
        }
        let _alone = self.0.taking_given.lock().await;
        for (worker, given) in given {
            let not_opened = self.take_given(&given).await.unwrap_or_else(|error| {
                tracing::error!(worker, %error, "a file's proxy_password was not taken");
                Some(format!("the proxy_password of {} was not taken: {error}", given.said))
            });
            if let Some(worker) = self.farm().workers.get_mut(&worker) {
                worker.not_opened = not_opened;
            }
        }
        self.logons_changed().await
    }

    /// Returns why it is of no use.
    async fn take_given(&self, given: &GivenByFile) -> Result<Option<String>, DispatchError> {
        let (account, text) = (given.account.as_str(), given.sealed.expose());
        let entry = format!("given_password/{}", hex(&sha256(&[account.as_bytes(), b"\0", text.as_bytes()])));
        if self.store().meta(&entry).await?.is_some() {
            return Ok(None);
        }
        let password = match self.0.logons.open_from_file(&named(account), text).await {
            Ok(password) => password,
            Err(error) => {
                let how = format!("write what `qblogin --display {account}` prints");
                return Ok(Some(format!("the proxy_password of {} is of no use: {error} ({how})", given.said)));
            }
        };
        let record = Record::new(Act::PasswordSet).object(account).with("from", &given.said);
        self.0.audit.write(record).await?;
        self.0.logons.set(named(account), password, &given.said, None, clock::now()).await?;
        self.store().set_meta(&entry, account).await?;
        tracing::info!(account, from = given.said, "a file's password was taken");
        Ok(None)
    }

    /// The account's password is for this one launch now, if the worker needs one. `None`: not just now.
    pub(super) fn try_logon(&self, worker: &str, account: &Account) -> Option<Turn> {
        let mut farm = self.farm();
        let needs = farm.workers.get(worker)?.needs;
        let (Needs::Sealed(_) | Needs::Untrusted, Account::Named { name, .. }) = (needs, account) else {
            return Some(Turn { dispatcher: self.clone(), account: None });
        };
        let name = name.as_str();
        if farm.trying.contains_key(name) || farm.logons.refusal(name).is_some() {
            return None;
        }
        farm.trying.insert(name.to_owned(), (0, worker.to_owned()));
        farm.judge_logons();
        Some(Turn { dispatcher: self.clone(), account: Some(name.to_owned()) })
    }

    /// The session was logged on, or never will be: the next may be.
    pub(super) fn logon_over(&self, session: u64) {
        let mut farm = self.farm();
        let before = farm.trying.len();
        farm.trying.retain(|_, (of, _)| *of != session);
        if farm.trying.len() < before {
            farm.judge_logons();
            drop(farm);
            self.wake();
        }
    }

    /// The password for this warrant and no other.
    pub(super) async fn password_for(&self, worker: &str, account: &Account) -> Result<Option<Secret>, StoreError> {
        let needed = self.with_worker(worker, |w| matches!(w.needs, Needs::Sealed(_))) == Some(true);
        match account {
            Account::Named { name, .. } if needed => self.0.logons.for_warrant(name.as_str()).await,
            Account::Named { .. } | Account::Throwaway => Ok(None),
        }
    }

    /// What a host says of the password that it was sent; and whoever reads of it reads what to do. Before the report is
    /// stored: one that is brought again does no harm. Only what the host signed counts: a worker's own word would let one
    /// broken worker take everybody's passwords out of use. Proofs that don't hold are gone from the reports here.
    pub(super) async fn judge_reports(&self, row: &SessionRow, reports: &mut [Report]) -> Result<(), DispatchError> {
        for report in reports {
            match report {
                Report::Started { .. } => self.logon_was_good(row).await?,
                Report::Refused { kind, stage, text, proof: Some(_), .. }
                    if kind == "bad_login" && REFUSALS.contains(&stage.as_str()) =>
                {
                    // An expired account is found without its password, too.
                    let of_password = self.logon_was_bad(row, text).await? || stage.starts_with("password_");
                    if of_password && row.mode != "proxy" {
                        let (account, job) = (&row.account, row.job);
                        *text = format!("{text}; run `stead password set {account}`, then `stead resubmit {job}`");
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn logon_was_good(&self, row: &SessionRow) -> Result<(), DispatchError> {
        if self.with_worker(&row.worker, |w| w.needs != Needs::Nothing) != Some(true) {
            return Ok(());
        }
        let Some(logon) = self.0.logons.row(&named(&row.account)).await? else { return Ok(()) };
        let now = clock::now();
        let is_known = logon.state == LogonState::Good && logon.said_at.is_some_and(|at| now - at < SAID_AGAIN_US);
        // One that was set since is another.
        if logon.set_at > row.opened_at || is_known {
            return Ok(());
        }
        let word = LogonWord { state: LogonState::Good, by: row.worker.clone(), text: None };
        self.store().logon_said(logon.version, word, false, now).await?;
        Ok(())
    }

    /// Whether there is a password of the account on this host that is bad now.
    async fn logon_was_bad(&self, row: &SessionRow, why: &str) -> Result<bool, DispatchError> {
        let Some(logon) = self.0.logons.row(&named(&row.account)).await? else { return Ok(false) };
        let was_sent = self.with_worker(&row.worker, |w| matches!(w.needs, Needs::Sealed(_))) != Some(false);
        if logon.set_at > row.opened_at || !was_sent {
            return Ok(false);
        }
        let text = format!("{why} (worker {})", row.worker);
        let word = LogonWord { state: LogonState::Bad, by: row.worker.clone(), text: Some(text) };
        if self.store().logon_said(logon.version, word, false, clock::now()).await? {
            tracing::warn!(account = row.account, worker = row.worker, why, "a password is used no more");
            let record = Record::new(Act::PasswordRefused)
                .outcome(Outcome::Refused)
                .by_worker(&row.worker)
                .job(row.job)
                .object(&row.account);
            self.0.audit.write(record.with("session", row.id).with("why", why)).await?;
            self.logons_changed().await?;
        }
        Ok(true)
    }
}

/// An account's turn to be logged on. Given back unless a session has it.
pub(super) struct Turn {
    dispatcher: Dispatcher,
    account: Option<String>,
}

impl Turn {
    /// From now on it is over when this session was logged on, or ended.
    pub(super) fn of(mut self, session: u64) {
        if let Some(account) = self.account.take()
            && let Some(turn) = self.dispatcher.farm().trying.get_mut(&account)
        {
            turn.0 = session;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(account) = self.account.take() {
            let mut farm = self.dispatcher.farm();
            farm.trying.remove(&account);
            farm.judge_logons();
        }
    }
}
