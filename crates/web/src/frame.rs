//! What is around every page: who looks at it and as whom they act, where they are, and how to do the same elsewhere.

use crate::assets;
use crate::parts::{Moment, Reason};
use crate::text::Text;

/// The entries of the top bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nav {
    #[default]
    None,
    Jobs,
    Workers,
    Users,
    Audit,
    Settings,
}

impl Nav {
    /// In the order of the bar: entry, address, word, the key after `g`. An entry comes in with its screen.
    const ALL: &'static [(Self, &'static str, &'static str, &'static str)] = &[
        (Self::Jobs, "/jobs", "Jobs", "j"),
        (Self::Workers, "/workers", "Workers", "w"),
        (Self::Users, "/users", "Users", "s"),
        (Self::Audit, "/audit", "Audit", "a"),
        (Self::Settings, "/settings", "Settings", "e"),
    ];
}

/// The frame of a page.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    pub title: Text,
    pub here: Nav,
    /// Nobody is signed in: neither bar nor chip.
    pub me: Option<Me>,
    /// As whom the page is shown: forms bring it back, so that nothing is done as somebody else.
    pub shown: String,
    pub version: &'static str,
    /// The URL that gives the same as JSON.
    pub api: Option<Text>,
    /// The command that does the same.
    pub cli: Option<Text>,
    /// The stream of events that says when to look again; `None`: nothing here changes by itself.
    pub live: Option<String>,
    /// What is fetched for the live parts, if not the page itself: for pages that are costly to make.
    pub refresh: Option<String>,
    /// Where they are, to come back to after a switch.
    pub url: Text,
}

/// Who looks.
#[derive(Debug, Clone, Default)]
pub struct Me {
    pub name: Text,
    /// `admin`, `auditor`, …
    pub roles: Vec<&'static str>,
    pub acting: Option<ActingBar>,
    /// Their association has ended: nothing is done until they say as whom they want to go on.
    pub problem: Option<Reason>,
}

/// As whom they act.
#[derive(Debug, Clone)]
pub struct ActingBar {
    pub user: Text,
    pub until: Option<Moment>,
    /// It is a name for this page alone and can't be stopped here.
    pub is_bound: bool,
}

impl ActingBar {
    /// One of eight, by the name: the same account always looks the same.
    #[must_use]
    pub fn tint(&self) -> u32 {
        self.user.as_str().bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % 8
    }
}

impl Frame {
    /// What they may look at: the audit is an auditor's, settings are an administrator's.
    pub(crate) fn navigation(&self) -> impl Iterator<Item = &'static (Nav, &'static str, &'static str, &'static str)> {
        let has = |role: &str| self.me.as_ref().is_some_and(|me| me.acting.is_none() && me.roles.contains(&role));
        let (is_admin, is_auditor) = (has("admin"), has("auditor"));
        Nav::ALL.iter().filter(move |(entry, ..)| match entry {
            Nav::Audit => is_admin || is_auditor,
            Nav::Settings => is_admin,
            Nav::None | Nav::Jobs | Nav::Workers | Nav::Users => true,
        })
    }

    pub(crate) fn asset(&self, name: &str) -> String {
        assets::url(name)
    }
}
