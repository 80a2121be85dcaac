//! Passwords of the accounts that jobs run as: who sets, checks, sees and takes away whose. Their words are in no record
//! and no answer.
//!
//! One's own account is the login user's, whoever they act as. Another's is an administrator's affair, a proxy user's
//! also that of who answers for it; acting as it gives no right to its password, which would outlast the grant.

use super::Service;
use super::sign_in::manages;
use crate::audit::{Act, Record};
use crate::authn::{Denial, Password, origin_of};
use crate::caller::Caller;
use crate::clock;
use crate::error::ServiceError;
use crate::logon::{LogonError, named, written};
use policy::{AccountName, Principal, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::{LogonRow, LogonState, LogonWord};
use warrant::{Secret, unhex};

/// Who says what a check found.
const SUPERVISOR: &str = "supervisor";

/// What somebody sends as a password: sealed for the supervisor (`GET /api/v1/password-key`), as `stead` does, or as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GivenPassword {
    /// Hexadecimal.
    sealed: Option<String>,
    #[schemars(with = "Option<String>")]
    password: Option<Password>,
}

impl GivenPassword {
    /// In a form of ours.
    pub(crate) fn typed(password: Password) -> Self {
        Self { sealed: None, password: Some(password) }
    }
}

/// What is known of a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct LogonView {
    /// `NAME` or `DOMAIN\NAME`.
    pub(crate) account: String,
    /// `current`, `stale` or `missing`.
    pub(crate) state: &'static str,
    /// Whether somebody has used or checked it.
    pub(crate) proved: bool,
    pub(crate) version: Option<u64>,
    pub(crate) set_by: Option<String>,
    pub(crate) set_at: Option<String>,
    /// Who last said that it is good or bad, when, and why.
    pub(crate) said_by: Option<String>,
    pub(crate) said_at: Option<String>,
    pub(crate) said: Option<String>,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct CheckView {
    #[serde(flatten)]
    logon: LogonView,
    /// `yes`, `no`, or `unknown`: this host can't say.
    pub(crate) right: &'static str,
    pub(crate) why: Option<String>,
}

impl LogonView {
    fn of(row: &LogonRow) -> Self {
        Self {
            account: written(&row.name),
            state: if row.state == LogonState::Bad { "stale" } else { "current" },
            proved: row.state != LogonState::Unproved,
            version: Some(row.version),
            set_by: Some(row.set_by.clone()),
            set_at: Some(clock::rfc3339(row.set_at)),
            said_by: row.said_by.clone(),
            said_at: row.said_at.map(clock::rfc3339),
            said: row.said.clone(),
        }
    }

    fn missing(account: &str) -> Self {
        Self {
            account: account.to_owned(),
            state: "missing",
            proved: false,
            version: None,
            set_by: None,
            set_at: None,
            said_by: None,
            said_at: None,
            said: None,
        }
    }
}

impl Service {
    /// Keeps a password in the place of what was there; whatever was known of that is forgotten.
    pub(crate) async fn set_logon(
        &self,
        caller: &Caller,
        account: &str,
        given: GivenPassword,
    ) -> Result<LogonView, ServiceError> {
        let account = self.whose(caller, Act::PasswordSet, account).await?;
        let password = self.given(account.as_str(), given)?;
        let record = Record::intent(Act::PasswordSet, caller.actor()).object(account.as_str());
        let intent = self.intent(record).await?;
        let (name, by) = (named(account.as_str()), caller.principal.login_user.as_str());
        let kept = self.logons.set(name, password, by, Some(intent.reference()), clock::now()).await;
        self.carried_out(&intent, kept).await?;
        self.dispatcher.logons_changed().await?;
        self.logon_view(account.as_str()).await
    }

    pub(crate) async fn delete_logon(&self, caller: &Caller, account: &str) -> Result<(), ServiceError> {
        let account = self.whose(caller, Act::PasswordDelete, account).await?;
        if self.logons.row(&named(account.as_str())).await?.is_none() {
            return Err(no_password(account.as_str()));
        }
        let record = Record::intent(Act::PasswordDelete, caller.actor()).object(account.as_str());
        let name = named(account.as_str());
        self.ends(record, |audit| self.store.delete_logon(name.clone(), audit)).await?;
        Ok(self.dispatcher.logons_changed().await?)
    }

    /// Asks the supervisor's host whether the stored password is right, where it knows the account; says what is known in
    /// any case. It counts as a guess, like every other.
    pub(crate) async fn check_logon(&self, caller: &Caller, account: &str) -> Result<CheckView, ServiceError> {
        let account = self.whose(caller, Act::PasswordCheck, account).await?;
        let account = account.as_str();
        let Some(row) = self.logons.row(&named(account)).await? else {
            return Ok(CheckView {
                logon: LogonView::missing(account),
                right: "no",
                why: Some("there is none".into()),
            });
        };
        let found = self.ask_host(caller, &row).await;
        let (right, why) = match &found {
            Ok(()) => ("yes", None),
            Err(NotRight::No(why)) => ("no", Some(why.clone())),
            Err(NotRight::Unknown(why)) => ("unknown", Some(why.clone())),
        };
        let record = Record::done(Act::PasswordCheck, caller.actor()).object(account).with("right", right);
        self.audit.write(record).await?;
        let state = match right {
            "yes" => LogonState::Good,
            "no" => LogonState::Bad,
            _ => return Ok(CheckView { logon: LogonView::of(&row), right, why }),
        };
        // What a worker said of it stays, as long as it is true.
        if state != row.state {
            let word = LogonWord { state, by: SUPERVISOR.to_owned(), text: why.clone() };
            self.store.logon_said(row.version, word, true, clock::now()).await?;
            self.dispatcher.logons_changed().await?;
        }
        let mut logon = self.logon_view(account).await?;
        if row.said_by.as_deref().is_some_and(|by| by != SUPERVISOR) {
            let before = LogonView::of(&row);
            (logon.said_by, logon.said_at, logon.said) = (before.said_by, before.said_at, before.said);
        }
        Ok(CheckView { logon, right, why })
    }

    /// A form of it that may stand in a configuration file. Nothing is kept.
    pub(crate) async fn sealed_logon(
        &self,
        caller: &Caller,
        account: &str,
        given: GivenPassword,
    ) -> Result<String, ServiceError> {
        let account = self.whose(caller, Act::PasswordSet, account).await?;
        let password = self.given(account.as_str(), given)?;
        let sealed = self.logons.seal_for_file(&named(account.as_str()), &password).await;
        sealed.map_err(|error| ServiceError::Conflict(error.to_string()))
    }

    /// What the caller may know of: their own account, those of proxy users they answer for, an administrator all.
    pub(crate) async fn logons(&self, caller: &Caller) -> Result<Vec<LogonView>, ServiceError> {
        manages(&caller.principal)?;
        let own = caller.principal.login_user.as_str();
        let mut views = BTreeMap::new();
        if !caller.principal.is_operator {
            views.insert(own.to_owned(), LogonView::missing(own));
        }
        for row in self.logons.rows().await? {
            let account = written(&row.name);
            if caller.is_admin() || account == own || self.answers_for(&caller.principal, &account).await? {
                views.insert(account, LogonView::of(&row));
            }
        }
        Ok(views.into_values().collect())
    }

    /// Seals all anew under a new key.
    pub(crate) async fn rotate_logons(&self, caller: &Caller) -> Result<(u64, String), ServiceError> {
        caller.needs_admin("replace the key of the passwords")?;
        manages(&caller.principal)?;
        let intent = self.intent(Record::intent(Act::PasswordRotate, caller.actor())).await?;
        match self.logons.rotate(Some(intent.reference())).await {
            Err(LogonError::Store(error)) => self.carried_out(&intent, Err(error)).await,
            Err(error) => {
                if !matches!(error, LogonError::Turn(_)) {
                    self.audit.write(intent.not_done(crate::audit::Outcome::Failed, &error)).await?;
                }
                Err(ServiceError::Conflict(error.to_string()))
            }
            Ok(done) => Ok(done),
        }
    }

    /// supervisor.toml says so, or `supervisor_flags` of Qube!'s qb.conf.
    pub(crate) fn enforces_password(&self) -> bool {
        self.settings.enforce_password || self.configuration.current().supervisor.flags.enforce_password
    }

    /// Submission is refused without a password that may be good, where the farm wants that.
    pub(super) async fn has_password(&self, user: &str) -> Result<Result<(), Refusal>, ServiceError> {
        if !self.enforces_password() {
            return Ok(Ok(()));
        }
        let text = match self.logons.row(&named(user)).await? {
            Some(row) if row.state != LogonState::Bad => return Ok(Ok(())),
            Some(row) => {
                let why = row.said.unwrap_or_else(|| "it was refused".to_owned());
                format!("the password of {user} is not good: {why}")
            }
            None => format!("the farm has no password of {user}"),
        };
        Ok(Err(Refusal {
            rule: "enforce_password".to_owned(),
            value: user.to_owned(),
            text: format!("{text}, and this farm takes no jobs without one (enforce_password)"),
            hint: format!("run `stead password set {user}`, then submit again"),
        }))
    }

    async fn logon_view(&self, account: &str) -> Result<LogonView, ServiceError> {
        let row = self.logons.row(&named(account)).await?;
        Ok(row.as_ref().map_or_else(|| LogonView::missing(account), LogonView::of))
    }

    /// The account, if its password is this caller's affair.
    async fn whose(&self, caller: &Caller, act: Act, account: &str) -> Result<AccountName, ServiceError> {
        manages(&caller.principal)?;
        let refuse = |text: String, hint: &str| Refusal {
            rule: "password_of_another".to_owned(),
            value: account.chars().take(64).collect(),
            text,
            hint: hint.to_owned(),
        };
        if caller.is_bound() {
            let hint = "come as yourself: with your own session, or by the socket";
            let refusal =
                refuse("this credential acts as one user alone; passwords are not its affair".to_owned(), hint);
            return Err(self.refused(&caller.principal, act, refusal).await);
        }
        let name = AccountName::parse(account).map_err(|e| ServiceError::input("account", e))?;
        let bare = named(account);
        if bare.account == "root" || bare.account.is_empty() || bare.account.contains('\\') {
            return Err(ServiceError::input("account", format!("no job runs as {account:?}")));
        }
        let own = caller.principal.login_user.as_str();
        if account == own && !caller.principal.is_operator || caller.is_admin() {
            return Ok(name);
        }
        if self.answers_for(&caller.principal, account).await? {
            return Ok(name);
        }
        let hint = match &caller.acting {
            Some(acting) if acting.user.as_str() == account => {
                "acting as it is no right to its password; an administrator, or who answers for it, sets it"
            }
            Some(_) => "an administrator may, as themself: `stead as --clear` first",
            None => "an administrator may, and of a proxy user who answers for it",
        };
        let refusal = refuse(format!("the password of {account} is not yours to keep"), hint);
        Err(self.refused(&caller.principal, act, refusal).await)
    }

    /// Whether `account` is a proxy user that this person answers for.
    async fn answers_for(&self, principal: &Principal, account: &str) -> Result<bool, ServiceError> {
        let Some(Ok(user)) = self.store.user(account).await? else { return Ok(false) };
        let named = user.answers.as_deref().unwrap_or_default().split(',').map(str::trim);
        let is_named = named.into_iter().any(|name| name == principal.login_user.as_str());
        Ok(user.kind == "proxy" && !user.disabled && is_named)
    }

    fn given(&self, account: &str, given: GivenPassword) -> Result<Secret, ServiceError> {
        match given {
            GivenPassword { sealed: Some(sealed), password: None } => {
                let bytes = unhex(&sealed).ok_or_else(|| ServiceError::input("sealed", "it is no hexadecimal"))?;
                self.logons.receive(account, &bytes).map_err(|_| {
                    let text =
                        "the password was sealed for another supervisor, or for this one before it was started anew";
                    ServiceError::Conflict(format!("{text}: try again"))
                })
            }
            GivenPassword { sealed: None, password: Some(password) } => {
                Secret::new(password.as_bytes().to_vec()).map_err(|e| ServiceError::input("password", e))
            }
            _ => Err(ServiceError::input("password", "give either `sealed` or `password`")),
        }
    }

    async fn ask_host(&self, caller: &Caller, row: &LogonRow) -> Result<(), NotRight> {
        let unknown = |why: String| NotRight::Unknown(why);
        if self.settings.own_accounts {
            return Err(unknown("this farm asks its host for no passwords (own_accounts)".to_owned()));
        }
        let password = self.logons.open(row).await.map_err(|e| NotRight::No(format!("it can't be opened: {e}")))?;
        let Some(password) = Password::of(&password) else {
            return Err(unknown("it is no UTF-8 text; a worker can tell".to_owned()));
        };
        let asked = self.sign_in.sign_in(&written(&row.name), &password, &origin_of(&caller.principal.client)).await;
        asked.map(drop).map_err(|denial| match denial {
            Denial::Wrong => NotRight::No("it is wrong, or the supervisor's host knows no such account".to_owned()),
            Denial::Expired | Denial::MustChange | Denial::Refused => NotRight::No(denial.to_string()),
            Denial::Limited { .. } | Denial::Unavailable | Denial::DirectoryDown | Denial::Off { .. } => {
                unknown(denial.to_string())
            }
        })
    }
}

enum NotRight {
    No(String),
    Unknown(String),
}

fn no_password(account: &str) -> ServiceError {
    ServiceError::NoSuchCredential { kind: "password", id: account.escape_debug().to_string() }
}
