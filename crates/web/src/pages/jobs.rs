//! The list of jobs.

use crate::frame::Frame;
use crate::parts::{Badge, Bar, Moment, Reason, State};
use crate::text::{Text, encoded};
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "jobs.html")]
pub struct JobsPage {
    pub frame: Frame,
    pub query: JobsQuery,
    /// How many there are of each state, in the order of the chips.
    pub chips: Vec<(State, u64)>,
    pub total: u64,
    pub rows: Vec<JobRow>,
    pub problem: Option<Reason>,
    pub has_more: bool,
}

/// What is asked for, as it stands in the address.
#[derive(Debug, Default, Clone)]
pub struct JobsQuery {
    pub state: String,
    pub user: String,
    pub login_user: String,
    pub q: String,
    pub sort: String,
    pub page: u32,
}

#[derive(Debug)]
pub struct JobRow {
    pub id: u64,
    pub name: Text,
    pub state: State,
    pub login_user: Text,
    pub user: Text,
    pub badge: Badge,
    /// The accounts its sessions had, where they are not the user's own.
    pub accounts: Vec<Text>,
    pub priority: i32,
    pub bar: Bar,
    pub submitted: Moment,
    pub took: String,
    pub reason: Option<Text>,
}

impl JobsQuery {
    /// The address with one thing changed; from its first page.
    fn with(&self, name: &str, value: &str) -> String {
        let page = if name == "page" { value.to_owned() } else { String::new() };
        let of = |key: &str, own: &str| if key == name { value.to_owned() } else { own.to_owned() };
        let pairs = [
            ("state", of("state", &self.state)),
            ("user", of("user", &self.user)),
            ("login_user", of("login_user", &self.login_user)),
            ("q", of("q", &self.q)),
            ("sort", of("sort", &self.sort)),
            ("page", page),
        ];
        let parts: Vec<String> =
            pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}={}", encoded(v))).collect();
        if parts.is_empty() { "/jobs".to_owned() } else { format!("/jobs?{}", parts.join("&")) }
    }

    fn page_url(&self, page: u32) -> String {
        self.with("page", &if page > 1 { page.to_string() } else { String::new() })
    }

    pub(crate) fn is_filtered(&self) -> bool {
        ![&self.state, &self.user, &self.login_user, &self.q].iter().all(|text| text.is_empty())
    }

    /// Its own address.
    #[must_use]
    pub fn url(&self) -> String {
        self.page_url(self.page)
    }
}

impl JobsPage {
    fn sort_mark(&self, sort: &str) -> &'static str {
        let now = if self.query.sort.is_empty() { "newest" } else { &self.query.sort };
        if now == sort { "true" } else { "false" }
    }
}

/// What became of an act on several jobs.
#[derive(Debug, Template)]
#[template(path = "acted.html")]
pub struct ActedPage {
    pub frame: Frame,
    pub action: Text,
    /// `None`: it goes, and has no state any more that anybody needs.
    pub done: Vec<(u64, Option<State>)>,
    pub note: Option<&'static str>,
    pub refused: Vec<(Text, Reason)>,
    pub back: Text,
}
