//! *Ran as*: what was asked, what was decided by which rules, and what really happened.

use crate::frame::Frame;
use crate::parts::{Bar, Fact, Moment, Reason, Rules, State, Verdicts};
use crate::text::Text;
use askama::Template;

/// The head of the pages of a job: as dense as `systemctl status`.
#[derive(Debug)]
pub struct JobHead {
    pub id: u64,
    pub name: Text,
    pub state: State,
    /// What went wrong, in a sentence, with what helps.
    pub trouble: Option<Reason>,
    /// Where to look at it.
    pub trouble_log: Option<String>,
    /// Where the password that it lacks is set.
    pub password: Option<String>,
    /// It can be submitted again; makes a second press of the button the same job.
    pub resubmits: Option<String>,
    pub login_user: Text,
    pub user: Text,
    pub badge: crate::parts::Badge,
    /// Accounts that its sessions had.
    pub accounts: Vec<Text>,
    pub submitted: Moment,
    pub started: Option<Moment>,
    pub ended: Option<Moment>,
    pub took: String,
    pub bar: Bar,
    pub facts: Vec<Fact>,
    pub actions: Vec<Action>,
    /// It can be removed.
    pub can_go: bool,
    /// It was: nothing can be done to it any more.
    pub is_going: bool,
    pub tab: Tab,
    /// Not only the record.
    pub is_open: bool,
}

/// What can be done in the job's state.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    /// The word of the action, and the one on the button.
    pub act: &'static str,
    pub word: &'static str,
    /// What is asked before it is done.
    pub sure: Option<&'static str>,
    /// It takes away what there is.
    pub is_danger: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Tasks,
    RanAs,
    Log,
    Results,
}

/// The head alone, for a page that would be costly to make again.
#[derive(Debug, Template)]
#[template(path = "head.html")]
pub struct HeadPage {
    pub frame: Frame,
    pub head: JobHead,
}

#[derive(Debug, Template)]
#[template(path = "ran_as.html")]
pub struct RanAsPage {
    pub frame: Frame,
    pub head: JobHead,
    pub via: Text,
    pub grant: Option<u64>,
    pub refused: Option<Reason>,
    pub happened: Vec<Happened>,
    pub verdicts: Verdicts,
}

/// One session: what was decided for it, and what was read back.
#[derive(Debug)]
pub struct Happened {
    pub session: u64,
    /// Where it is not for tasks.
    pub purpose: Option<&'static str>,
    pub state: State,
    pub worker: Text,
    pub mode: Text,
    pub decided: Text,
    pub read_back: Option<Text>,
    pub groups: Text,
    pub attested: Text,
    pub proof: Option<Text>,
    /// Decision and fact are the same; `None`: it has not begun.
    pub agrees: Option<bool>,
    pub rules: Rules,
    pub grant: Option<u64>,
    pub policy: Text,
    pub started: Option<Moment>,
    pub end: Option<Text>,
    pub tasks: Vec<String>,
}
