//! The audit: what was done, by whom and as whom, and whether the record of it holds.

use crate::frame::Frame;
use crate::parts::{Moment, Reason, State};
use crate::text::{Text, encoded};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "audit.html")]
pub struct AuditPage {
    pub frame: Frame,
    pub query: AuditAsked,
    pub problem: Option<Reason>,
    /// Words of acts and outcomes to choose from.
    pub acts: Vec<&'static str>,
    pub outcomes: Vec<&'static str>,
    pub rows: Vec<AuditRow>,
    /// The number to go on before.
    pub before: Option<u64>,
    pub chain: ChainState,
}

/// What is asked for, as it stands in the address.
#[derive(Debug, Default, Clone)]
pub struct AuditAsked {
    pub actor: String,
    pub user: String,
    pub act: String,
    pub outcome: String,
    pub object: String,
    pub job: String,
    pub since: String,
    pub until: String,
    pub before: String,
}

impl AuditAsked {
    /// The same, of the records before this one.
    pub(crate) fn older(&self, before: &u64) -> String {
        format!("{}before={before}", self.start())
    }

    pub(crate) fn newest(&self) -> String {
        self.start().trim_end_matches(['&', '?']).to_owned()
    }

    fn start(&self) -> String {
        let pairs = [
            ("actor", &self.actor),
            ("as", &self.user),
            ("act", &self.act),
            ("outcome", &self.outcome),
            ("object", &self.object),
            ("job", &self.job),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let given = pairs.iter().filter(|(_, value)| !value.is_empty());
        given.fold("/audit?".to_owned(), |url, (name, value)| format!("{url}{name}={}&", encoded(value)))
    }
}

#[derive(Debug)]
pub struct AuditRow {
    pub seq: u64,
    pub at: Option<Moment>,
    pub act: Text,
    pub outcome: State,
    pub login_user: Option<Text>,
    /// As whom, where that is another.
    pub user: Option<Text>,
    pub run_as: Option<Text>,
    pub grant: Option<u64>,
    pub job: Option<u64>,
    pub object: Option<Text>,
    /// The rest, in short.
    pub details: Text,
    /// The line as it lies in the file.
    pub json: Text,
}

/// Whether the chain holds, as far as somebody looked.
#[derive(Debug, Default)]
pub struct ChainState {
    pub records: u64,
    pub waiting: u64,
    pub signed: Option<Moment>,
    pub anchored: Option<Moment>,
    pub checked: Option<Checked>,
}

#[derive(Debug)]
pub struct Checked {
    pub at: Moment,
    pub up_to: u64,
    pub checkpoints: u64,
    pub findings: Vec<Text>,
    pub notes: Vec<Text>,
}
