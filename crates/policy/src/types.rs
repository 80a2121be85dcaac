//! The words of a decision.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use warrant::{AccountName, LoginUser, Mode, User};

/// What someone may do beyond their own jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// May manage others' jobs and the farm.
    pub admin: bool,
    /// May submit as another user.
    pub impersonate: bool,
    /// May read the audit.
    pub auditor: bool,
}

/// The way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A local socket: the kernel says who is there.
    Unix,
    /// The same, and a process of a job is there.
    Session,
    Tcp,
}

impl Channel {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Session => "session",
            Self::Tcp => "tcp",
        }
    }
}

/// What a credential is good for. A person on a local socket has all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes {
    pub read: bool,
    pub submit: bool,
    /// Kill, retry and the like.
    pub control: bool,
    /// What needs a role, and changing one's own credentials and association.
    pub manage: bool,
    /// The farm's figures, for whoever may see them.
    pub metrics: bool,
}

impl Scopes {
    pub const ALL: Self = Self { read: true, submit: true, control: true, manage: true, metrics: true };
    pub const NONE: Self = Self { read: false, submit: false, control: false, manage: false, metrics: false };
    /// A job's own token.
    pub const JOB: Self = Self { read: true, submit: true, ..Self::NONE };
}

/// Who is asking, as the channel vouches for it. No field of a request ever changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub login_user: LoginUser,
    /// The kernel's word on a local socket.
    pub uid: Option<u32>,
    pub roles: Roles,
    /// uid 0 or the farm's own id: an administrator without a row anywhere.
    pub is_operator: bool,
    pub channel: Channel,
    /// The other end: an address, or the uid.
    pub client: String,
    /// The session or token that was shown, by its number.
    pub credential: Option<u64>,
    pub scopes: Scopes,
    /// How we know, for people: `unix socket, uid 1501`.
    pub source: String,
}

/// As whom the submitter wants the job to run: raw text, checked here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// `--user`: run as another; needs `impersonate` or `admin`.
    pub user: Option<String>,
    /// The job's name: a grant may be for some only.
    pub job: Option<String>,
}

/// By what right a job carries its user's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// It is the login user's own.
    Own,
    /// The user is a proxy user whom the login user may act as.
    Grant,
    /// The login user held the role.
    Impersonate,
    Admin,
    /// uid 0 or the farm's own id.
    Operator,
}

impl Via {
    pub const ALL: [Self; 5] = [Self::Own, Self::Grant, Self::Impersonate, Self::Admin, Self::Operator];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Grant => "grant",
            Self::Impersonate => "impersonate",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|via| via.as_str() == word)
    }
}

/// The names a job carries from its submission on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub login_user: LoginUser,
    pub user: User,
    pub via: Via,
    /// The grant that was found last; any live one of the pair does.
    pub grant: Option<u64>,
}

/// The account of proxy mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyAccount {
    Named(AccountName),
    /// An unallocated id, chosen by the launcher of a one-machine farm.
    Throwaway,
}

/// Whose jobs a desktop worker takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    Owner,
    /// Qube!'s behaviour: anyone's code runs as the owner.
    Any,
    Users(Vec<LoginUser>),
}

/// One worker, as far as identity is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub worker: String,
    pub labels: Vec<String>,
    pub mode: Mode,
    pub proxy_account: Option<ProxyAccount>,
    /// Desktop mode: whose session the worker belongs to.
    pub owner: Option<AccountName>,
    pub accept: Accept,
    /// Why the worker takes no jobs at all.
    pub panic: Option<String>,
    pub drained: bool,
    pub online: bool,
    /// Accounts this worker could not run.
    pub excluded: Vec<Excluded>,
    /// On a worker that logs accounts on with their passwords: those that the farm has.
    pub logons: Option<Arc<Logons>>,
}

/// What is known of the password an account is logged on with; of one without there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logon {
    /// It may be used.
    Ready,
    /// A worker is using it just now. One at a time: should it be wrong, that is one wrong password, not many.
    Tried { worker: String },
    /// It was refused, or can't be had: it is used nowhere.
    Bad { why: String },
}

/// By account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logons(pub BTreeMap<String, Logon>);

impl Logons {
    /// Why the account can't be logged on just now.
    #[must_use]
    pub fn refusal(&self, account: &str) -> Option<Refusal> {
        let set = || format!("run `stead password set {account}`");
        let (rule, text, hint) = match self.0.get(account) {
            Some(Logon::Ready) => return None,
            None => (PASSWORD_MISSING, format!("the farm has no password of {account}, which the worker needs"), set()),
            Some(Logon::Bad { why }) => (PASSWORD_BAD, format!("the password of {account} is not good: {why}"), set()),
            Some(Logon::Tried { worker }) => (
                PASSWORD_TRIED,
                format!("the password of {account} is just being used on {worker}"),
                "nothing is to be done: it is used once at a time".to_owned(),
            ),
        };
        Some(Refusal { rule: rule.to_owned(), value: account.to_owned(), text, hint })
    }
}

/// The rules by which an account isn't logged on.
pub const PASSWORD_MISSING: &str = "password_missing";
pub const PASSWORD_BAD: &str = "password_bad";
pub const PASSWORD_TRIED: &str = "password_tried";

impl Place {
    /// Whether a job that requires this may run here. How the worker runs jobs is known, whatever its labels say.
    pub fn admits(&self, requires: &job::Requires) -> Result<(), job::Unmet> {
        let (worker_mode, proxy_mode) = match self.mode {
            Mode::Desktop => ("desktop", ""),
            Mode::User => ("service", "user"),
            Mode::Proxy => ("service", "proxy"),
        };
        let facts =
            [("host.name", self.worker.as_str()), ("host.worker_mode", worker_mode), ("host.proxy_mode", proxy_mode)];
        requires.admits_where(&self.worker, &self.labels, &facts)
    }
}

/// What a host answered when it was asked for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    pub account: String,
    /// The host's rule, as in [`ACCOUNT_UNKNOWN`].
    pub rule: String,
    pub reason: String,
}

/// The rule by which a host excludes an account that it doesn't have. An outage is never called that.
pub const ACCOUNT_UNKNOWN: &str = "account_unknown";

/// What a rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It picked a name.
    Selects,
    Allows,
    Refuses,
    /// It holds the job back for now.
    Waits,
}

/// One step of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    pub rule: String,
    pub effect: Effect,
    /// A sentence.
    pub text: String,
    /// Where it comes from: a worker's setting, a grant, a built-in rule.
    pub source: String,
}

/// Why not, and what would change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    pub rule: String,
    pub value: String,
    pub text: String,
    pub hint: String,
}

/// Answer at submission.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identified {
    As(Who, Vec<Rule>),
    Refused(Refusal, Vec<Rule>),
}

/// What the launcher is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlan {
    pub account: warrant::Account,
    pub mode: Mode,
    /// Several login users share the account, so sessions are kept apart by the kernel.
    pub shared: bool,
    /// The grant by which the job has its user's name.
    pub grant: Option<u64>,
}

/// Answer for one worker.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Run(RunPlan, Vec<Rule>),
    /// It would run, but not now: the worker is away, drained or broken.
    Waiting(Refusal, Vec<Rule>),
    Refused(Refusal, Vec<Rule>),
    /// The right to the user's name has ended: nowhere, until somebody decides anew.
    Blocked(Refusal, Vec<Rule>),
}

impl Decision {
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        match self {
            Self::Run(_, rules) | Self::Waiting(_, rules) | Self::Refused(_, rules) | Self::Blocked(_, rules) => rules,
        }
    }
}

/// Collects the trail of a decision.
#[derive(Debug, Default)]
pub(crate) struct Trail(pub(crate) Vec<Rule>);

impl Trail {
    pub(crate) fn note(&mut self, rule: &str, effect: Effect, text: String, source: &str) {
        self.0.push(Rule { rule: rule.to_owned(), effect, text, source: source.to_owned() });
    }

    /// Adds the refusing rule to the trail and returns it.
    pub(crate) fn stop(&mut self, effect: Effect, source: &str, refusal: Refusal) -> Refusal {
        self.note(&refusal.rule, effect, refusal.text.clone(), source);
        refusal
    }
}
