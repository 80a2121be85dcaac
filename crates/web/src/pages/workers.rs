//! Workers: what they are, what holds for them and who said so, and as whom they are to run jobs.

use crate::frame::Frame;
use crate::pages::Foreseen;
use crate::parts::{Badge, Moment, Reason, State};
use crate::text::{Text, encoded};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "workers.html")]
pub struct WorkersPage {
    pub frame: Frame,
    /// The state they are filtered by, or nothing.
    pub filter: String,
    pub chips: Vec<(State, u64)>,
    pub total: u64,
    pub rows: Vec<WorkerLine>,
    pub is_admin: bool,
}

#[derive(Debug)]
pub struct WorkerLine {
    pub name: Text,
    pub state: State,
    pub mode: Badge,
    pub proxy_account: Option<Text>,
    /// Of a desktop worker.
    pub owner: Option<Text>,
    pub slots: u32,
    pub used: u64,
    pub labels: Vec<Text>,
    pub said_by: Badge,
    pub reason: Option<Text>,
    pub cores: u32,
    pub memory: String,
    /// Load average over a minute, of one that is connected.
    pub load: Option<String>,
    /// `None`: it is connected.
    pub seen: Option<Moment>,
}

impl WorkerLine {
    pub(crate) fn href(&self) -> String {
        format!("/workers/{}", encoded(self.name.as_str()))
    }

    pub(crate) fn config(&self) -> String {
        format!("/worker-config?worker={}", encoded(self.name.as_str()))
    }

    /// Whether it can have its jobs run as whom it should, as its host's launcher answered; `None` where nobody can say.
    pub(crate) fn can_become(&self) -> (Option<State>, &'static str) {
        match (self.state.word(), self.mode.word) {
            ("panic", _) => (Some(State::of("no")), "it takes no jobs until that is put right"),
            ("down", _) => (None, "not known while it is away"),
            (_, "desktop") => (Some(State::of("yes")), "only the person it belongs to, who it is"),
            (_, "proxy mode") => (Some(State::of("yes")), "its proxy account: its launcher has looked it up"),
            _ => (Some(State::of("yes")), "the users of its jobs, as far as they have accounts there"),
        }
    }

    /// Those that somebody gave it: what each host has anyway stands on its own page.
    pub(crate) fn given_labels(&self) -> impl Iterator<Item = &Text> {
        self.labels.iter().filter(|l| !l.as_str().starts_with("host.") && l.as_str() != "cluster:/")
    }

    pub(crate) fn percent(&self) -> u64 {
        self.used.saturating_mul(100).checked_div(u64::from(self.slots)).unwrap_or(0).min(100)
    }
}

#[derive(Debug, Template)]
#[template(path = "worker.html")]
pub struct WorkerPage {
    pub frame: Frame,
    pub line: WorkerLine,
    /// Whose word counts on its host.
    pub lookup: &'static str,
    pub settings: Vec<SettingLine>,
    pub trouble: Option<Text>,
    pub sessions: Vec<LiveSession>,
    /// Accounts that it doesn't run, and why; for administrators.
    pub excluded: Vec<(Text, Text)>,
    pub is_admin: bool,
}

#[derive(Debug)]
pub struct SettingLine {
    pub key: Text,
    pub value: Text,
    pub from: Text,
    /// Nobody said it.
    pub is_built_in: bool,
}

#[derive(Debug)]
pub struct LiveSession {
    pub session: u64,
    pub job: u64,
    pub user: Text,
    pub account: Text,
    pub state: State,
    pub since: Option<Moment>,
}

/// An account as hosts have it.
#[derive(Debug, Template)]
#[template(path = "account_check.html")]
pub struct AccountCheckPage {
    pub frame: Frame,
    pub account: String,
    pub problem: Option<Reason>,
    pub same: Option<bool>,
    pub hosts: Vec<AccountOnHosts>,
}

/// Hosts that answer the same stand together.
#[derive(Debug)]
pub struct AccountOnHosts {
    pub workers: Vec<Text>,
    pub state: State,
    pub exact: Option<Text>,
    pub why: Option<Text>,
}

/// As whom some workers are to run jobs.
#[derive(Debug, Template)]
#[template(path = "worker_config.html")]
pub struct WorkerConfigPage {
    pub frame: Frame,
    pub workers: Vec<Text>,
    pub mode: String,
    pub proxy_account: String,
    pub worker_host_domain: String,
    /// One was given: it is not written back into the page, and has to be given again to be saved.
    pub has_password: bool,
    pub problem: Option<Reason>,
    pub preview: Option<ConfigPreview>,
}

#[derive(Debug)]
pub struct ConfigPreview {
    pub file: Text,
    pub sha256: String,
    pub changes: Vec<Text>,
    pub left_out: usize,
    /// Their hosts go by their own settings alone.
    pub unheeded: Vec<Text>,
    pub jobs: Foreseen,
    pub done: Option<ConfigDone>,
}

#[derive(Debug)]
pub struct ConfigDone {
    pub told: usize,
    pub late: Vec<Text>,
}
