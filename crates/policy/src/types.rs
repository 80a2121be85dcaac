//! The words of a decision.

use serde::{Deserialize, Serialize};
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

/// Who is asking, as the channel vouches for it. No field of a request ever changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub login_user: LoginUser,
    /// The kernel's word on a local socket.
    pub uid: Option<u32>,
    pub roles: Roles,
    /// How we know, for people: `unix socket, uid 1501`.
    pub source: String,
}

/// As whom the submitter wants the job to run: raw text, checked here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// `--user`: run as another; needs `impersonate` or `admin`.
    pub user: Option<String>,
    /// `--as`: act as a proxy user; needs a grant.
    pub acting_as: Option<String>,
}

/// The names a job carries from its submission on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub login_user: LoginUser,
    pub user: User,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub rule: String,
    pub effect: Effect,
    /// A sentence.
    pub text: String,
    /// Where it comes from: a worker's setting, a grant, a built-in rule.
    pub source: String,
}

/// Why not, and what would change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Answer for one worker.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Run(RunPlan, Vec<Rule>),
    /// It would run, but not now: the worker is away, drained or broken.
    Waiting(Refusal, Vec<Rule>),
    Refused(Refusal, Vec<Rule>),
}

impl Decision {
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        match self {
            Self::Run(_, rules) | Self::Waiting(_, rules) | Self::Refused(_, rules) => rules,
        }
    }
}

/// Whether someone may know that a job exists.
#[must_use]
pub fn may_see(principal: &Principal, login_user: &LoginUser, user: &User) -> bool {
    principal.roles.admin || principal.login_user == *login_user || principal.login_user.as_str() == user.as_str()
}

/// Whether someone may change a job. Those it runs as may: it is their account.
#[must_use]
pub fn may_act(principal: &Principal, login_user: &LoginUser, user: &User) -> bool {
    may_see(principal, login_user, user)
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
