//! What is written down of an act, and of who did it.

use super::act::{Act, Outcome};
use policy::Principal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use warrant::{hex, sha256};

/// Longest text kept of one value; what is longer is cut and named by its hash.
const VALUE_MAX: usize = 512;

/// How whoever acted was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Channel {
    /// The local socket: the kernel said who.
    Unix,
    /// The local socket, from within a job.
    Session,
    Tcp,
    /// A worker, in its own name.
    Worker,
    /// The supervisor itself.
    #[default]
    Internal,
}

impl From<policy::Channel> for Channel {
    fn from(channel: policy::Channel) -> Self {
        match channel {
            policy::Channel::Unix => Self::Unix,
            policy::Channel::Session => Self::Session,
            policy::Channel::Tcp => Self::Tcp,
        }
    }
}

/// Who acted, as whom, by whose leave and from where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Actor {
    pub(crate) login_user: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) grant: Option<u64>,
    pub(crate) channel: Channel,
    /// Address or uid.
    pub(crate) client: Option<String>,
    /// Number of the sign-in session or token.
    pub(crate) credential: Option<u64>,
}

impl Actor {
    /// The only way from a principal into the audit.
    pub(crate) fn of(principal: &Principal) -> Self {
        let login_user = Some(principal.login_user.to_string());
        Self {
            user: login_user.clone(),
            login_user,
            grant: None,
            channel: principal.channel.into(),
            client: Some(principal.client.clone()),
            credential: principal.credential,
        }
    }

    /// The same person, for a job that is another's or was submitted as another.
    pub(crate) fn for_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }
}

/// What happened, as it is written down.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(super) act: Act,
    pub(super) outcome: Outcome,
    pub(super) actor: Actor,
    pub(super) run_as: Option<String>,
    pub(super) policy_version: Option<String>,
    pub(super) job: Option<u64>,
    /// What it was done to, where that is no job: a worker, a person, a grant.
    pub(super) object: Option<String>,
    pub(super) details: Map<String, Value>,
    /// When it happened, if it could not be written then.
    pub(super) happened: Option<i64>,
}

impl Record {
    /// Something the supervisor did by itself.
    pub(crate) fn new(act: Act) -> Self {
        Self {
            act,
            outcome: Outcome::Ok,
            actor: Actor::default(),
            run_as: None,
            policy_version: None,
            job: None,
            object: None,
            details: Map::new(),
            happened: None,
        }
    }

    /// What is about to be done, in a transaction that carries the number of this record.
    pub(crate) fn intent(act: Act, actor: Actor) -> Self {
        Self { outcome: Outcome::Intent, actor, ..Self::new(act) }
    }

    /// What was done, and changes nothing in the store.
    pub(crate) fn done(act: Act, actor: Actor) -> Self {
        Self { actor, ..Self::new(act) }
    }

    /// What was refused.
    pub(crate) fn refused(act: Act, actor: Actor) -> Self {
        Self { outcome: Outcome::Refused, actor, ..Self::new(act) }
    }

    pub(crate) fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// On behalf of someone who isn't there now: a job's names.
    pub(crate) fn by(mut self, login_user: &str, user: &str) -> Self {
        self.actor.login_user = Some(login_user.to_owned());
        self.actor.user = Some(user.to_owned());
        self
    }

    pub(crate) fn grant(mut self, grant: Option<u64>) -> Self {
        self.actor.grant = grant;
        self
    }

    pub(crate) fn by_worker(mut self, worker: &str) -> Self {
        self.actor.channel = Channel::Worker;
        self.actor.client = Some(worker.to_owned());
        self
    }

    pub(crate) fn run_as(mut self, account: impl Into<String>) -> Self {
        self.run_as = Some(account.into());
        self
    }

    pub(crate) fn policy(mut self, version: impl Into<String>) -> Self {
        self.policy_version = Some(version.into());
        self
    }

    pub(crate) fn job(mut self, job: u64) -> Self {
        self.job = Some(job);
        self
    }

    pub(crate) fn object(mut self, object: &str) -> Self {
        self.object = Some(cut(object.to_owned()));
        self
    }

    /// Never a secret: no password, no token, no value of an environment variable.
    pub(crate) fn with(mut self, key: &'static str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_else(|e| Value::String(format!("not recordable: {e}")));
        // What isn't there needs no room.
        if !value.is_null() {
            self.details.insert(key.to_owned(), capped(value));
        }
        self
    }

    /// An operation in another's name: it stands in a file of its own, too.
    pub(super) fn is_proxied(&self) -> bool {
        matches!((&self.actor.login_user, &self.actor.user), (Some(login), Some(user)) if login != user)
    }
}

fn capped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text)),
        Value::Array(list) => Value::Array(list.into_iter().map(capped).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (k, capped(v))).collect()),
        other => other,
    }
}

pub(super) fn cut(text: String) -> String {
    if text.len() <= VALUE_MAX {
        return text;
    }
    let start = &text[..text.floor_char_boundary(VALUE_MAX)];
    format!("{start}… ({} bytes, sha256 {})", text.len(), hex(&sha256(&[text.as_bytes()])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_named() {
        let record = Record::new(Act::Submit).with("argv", ["ü".repeat(1000), "short".to_owned()]);
        let argv = record.details["argv"].as_array().expect("array");
        let cut = argv[0].as_str().expect("text");
        assert!(cut.len() < 700 && cut.contains("(2000 bytes, sha256 "), "{cut}");
        assert_eq!(argv[1], "short");
    }

    #[test]
    fn only_two_different_names_are_an_operation_in_anothers_name() {
        let record = |login, user| Record::new(Act::Submit).by(login, user);
        assert!(record("ada", "render").is_proxied());
        assert!(!record("ada", "ada").is_proxied());
        assert!(!Record::new(Act::Start).is_proxied());
    }
}
