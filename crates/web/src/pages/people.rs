//! Users, grants, and the two lists: who may act as whom, and what would be if.

use crate::frame::Frame;
use crate::parts::{Fact, Moment, Reason, RuleLine, Rules, State, Verdicts};
use crate::text::{Text, encoded};
use askama::Template;
use askama::filters::HtmlSafe;

/// Where one is among the pages of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeopleTab {
    Users,
    Grants,
    Matrix,
    Lists,
    WhatIf,
}

/// The ways among them; some are an administrator's.
#[derive(Debug, Clone, Copy, Template)]
#[template(path = "parts/people_tabs.html")]
pub struct PeopleTabs {
    pub here: PeopleTab,
    pub is_admin: bool,
}
impl HtmlSafe for PeopleTabs {}

#[derive(Debug, Template)]
#[template(path = "users.html")]
pub struct UsersPage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub rows: Vec<UserLine>,
    /// The name to go on after.
    pub more_after: Option<String>,
}

#[derive(Debug)]
pub struct UserLine {
    pub name: Text,
    pub is_proxy: bool,
    pub roles: Vec<Text>,
    pub disabled: bool,
    /// What the list of those who may act, or be acted as, says.
    pub listed: Option<bool>,
    /// Grants in force: as whom they may act, or who may act as them.
    pub grants: usize,
    pub note: Option<Text>,
    pub answers: Vec<Text>,
    pub fault: Option<Text>,
}

impl UserLine {
    pub(crate) fn href(&self) -> String {
        format!("/users/{}", encoded(self.name.as_str()))
    }

    pub(crate) fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|r| r.as_str() == role)
    }

    pub(crate) fn listed_word(&self) -> &'static str {
        match self.listed {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not listed",
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "user.html")]
pub struct UserPage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub name: Text,
    /// `None`: the farm's table has no row of them.
    pub row: Option<UserLine>,
    pub facts: Vec<Fact>,
    pub may_change: bool,
    /// As whom they may act.
    pub grants: GrantTable,
    /// Who may act as them.
    pub holders: Option<GrantTable>,
}

/// Grants, a line each, with what the looker may do about them.
#[derive(Debug, Default, Template)]
#[template(path = "parts/grants.html")]
pub struct GrantTable {
    pub rows: Vec<GrantLine>,
    pub empty: &'static str,
    /// In the words of the frame: where to come back to.
    pub back: Text,
    /// As whom it is shown.
    pub shown: String,
}
impl HtmlSafe for GrantTable {}

#[derive(Debug)]
pub struct GrantLine {
    pub id: u64,
    pub state: State,
    /// A login name, or `group:NAME`.
    pub holder: Text,
    pub proxy_user: Text,
    pub from: Option<Moment>,
    pub until: Option<Moment>,
    pub workers: Option<Text>,
    pub jobs: Option<Text>,
    pub reason: Option<Text>,
    /// Who gave, asked for, approved and ended it.
    pub story: Text,
    pub fault: Option<Text>,
    pub may_approve: bool,
    pub may_revoke: bool,
}

#[derive(Debug, Template)]
#[template(path = "grants.html")]
pub struct GrantsPage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub login_user: Text,
    pub proxy_user: Text,
    /// Ended ones, too.
    pub all: bool,
    pub left_out: usize,
    pub table: GrantTable,
    pub more_after: Option<u64>,
}

impl GrantsPage {
    fn with(&self, login_user: &str, proxy_user: &str, all: bool, after: Option<&u64>) -> String {
        let mut parts = Vec::new();
        for (name, value) in [("login_user", login_user), ("proxy_user", proxy_user)] {
            if !value.is_empty() {
                parts.push(format!("{name}={}", encoded(value)));
            }
        }
        if all {
            parts.push("all=yes".to_owned());
        }
        parts.extend(after.map(|n| format!("after={n}")));
        if parts.is_empty() { "/grants".to_owned() } else { format!("/grants?{}", parts.join("&")) }
    }

    pub(crate) fn only(&self, login_user: &Text, proxy_user: &Text) -> String {
        self.with(login_user.as_str(), proxy_user.as_str(), self.all, None)
    }

    pub(crate) fn of_all(&self, all: bool) -> String {
        self.with(self.login_user.as_str(), self.proxy_user.as_str(), all, None)
    }

    pub(crate) fn more(&self, after: &u64) -> String {
        self.with(self.login_user.as_str(), self.proxy_user.as_str(), self.all, Some(after))
    }
}

/// Login users against proxy users.
#[derive(Debug, Template)]
#[template(path = "matrix.html")]
pub struct MatrixPage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub proxy_users: Vec<Text>,
    pub rows: Vec<MatrixRow>,
    /// More than fit.
    pub left_out: usize,
}

#[derive(Debug)]
pub struct MatrixRow {
    pub holder: Text,
    /// In the order of the columns: states of the grants of the pair, the one that counts first.
    pub cells: Vec<Vec<State>>,
}

impl MatrixPage {
    pub(crate) fn cell(&self, holder: &Text, column: &usize, is_given: bool) -> String {
        let proxy = self.proxy_users.get(*column).map(Text::as_str).unwrap_or_default();
        let (page, all) = if is_given { ("/grants", "&all=yes") } else { ("/grants/new", "") };
        format!("{page}?login_user={}&proxy_user={}{all}", encoded(holder.as_str()), encoded(proxy))
    }

    pub(crate) fn proxy(&self, column: &usize) -> &str {
        self.proxy_users.get(*column).map(Text::as_str).unwrap_or_default()
    }
}

/// The two lists.
#[derive(Debug, Template)]
#[template(path = "lists.html")]
pub struct ListsPage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub lists: Vec<ListTable>,
}

#[derive(Debug)]
pub struct ListTable {
    /// In forms.
    pub word: &'static str,
    pub title: &'static str,
    pub means: &'static str,
    pub placeholder: &'static str,
    pub rows: Vec<ListedRow>,
}

#[derive(Debug)]
pub struct ListedRow {
    pub name: Text,
    pub allowed: Option<bool>,
    pub fault: Option<Text>,
}

/// The form of a new grant. What was typed stays as it was typed: only escaped.
#[derive(Debug, Template)]
#[template(path = "new_grant.html")]
pub struct NewGrantPage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub problem: Option<Reason>,
    pub login_user: String,
    pub proxy_user: String,
    pub reason: String,
    pub from: String,
    pub until: String,
    pub workers: String,
    pub jobs: String,
    pub own_name: Text,
    pub is_admin: bool,
    pub foreseen: Option<Foreseen>,
}

/// Which of the last jobs would run as somebody else, or not at all, under other rows or settings.
#[derive(Debug, Default, Template)]
#[template(path = "parts/foreseen.html")]
pub struct Foreseen {
    pub jobs: usize,
    pub lines: Vec<ForeseenLine>,
    pub left_out: usize,
}
impl HtmlSafe for Foreseen {}

#[derive(Debug)]
pub struct ForeseenLine {
    pub job: u64,
    pub name: Text,
    pub login_user: Text,
    pub user: Text,
    pub worker: Text,
    pub before: State,
    pub before_as: Option<Text>,
    pub after: State,
    pub after_as: Option<Text>,
    pub rule: Option<RuleLine>,
}

/// What the end of a grant would touch, before it is ended.
#[derive(Debug, Template)]
#[template(path = "revoke.html")]
pub struct RevokePage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub grant: GrantLine,
    pub jobs: Vec<TouchedJob>,
    /// There may be more.
    pub is_cut: bool,
}

#[derive(Debug)]
pub struct TouchedJob {
    pub id: u64,
    /// `None`: not theirs to look at.
    pub name: Option<Text>,
    pub state: State,
    pub login_user: Text,
    pub running: u64,
}

/// What became of the jobs of a grant that was ended.
#[derive(Debug, Template)]
#[template(path = "revoked.html")]
pub struct RevokedPage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub grant: u64,
    pub blocked: Vec<u64>,
    pub killed: Vec<u64>,
    /// Of which a worker may still start what it was given before.
    pub unsettled: Vec<u64>,
}

#[derive(Debug, Template)]
#[template(path = "what_if.html")]
pub struct WhatIfPage {
    pub frame: Frame,
    pub tabs: PeopleTabs,
    pub user: String,
    pub acting_as: String,
    pub worker: String,
    pub at: String,
    /// Of others as well.
    pub asks_of_others: bool,
    pub problem: Option<Reason>,
    pub answer: Option<WhatIf>,
}

#[derive(Debug)]
pub struct WhatIf {
    pub login_user: Text,
    pub user: Option<Text>,
    pub refused: Option<Reason>,
    pub rules: Rules,
    pub verdicts: Verdicts,
}
