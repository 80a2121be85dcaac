//! One struct per screen: what it shows. Its template has the same name.

mod audit;
mod job;
mod jobs;
mod log;
mod me;
mod people;
mod ran_as;
mod results;
mod settings;
mod submit;
mod workers;

pub use audit::*;
pub use job::*;
pub use jobs::*;
pub use log::*;
pub use me::*;
pub use people::*;
pub use ran_as::*;
pub use results::*;
pub use settings::*;
pub use submit::*;
pub use workers::*;

use crate::frame::Frame;
use crate::parts::{Moment, Reason};
use crate::text::Text;
use askama::Template;

/// What went wrong, as a page.
#[derive(Debug, Template)]
#[template(path = "error.html")]
pub struct ErrorPage {
    pub frame: Frame,
    pub heading: &'static str,
    pub reason: Reason,
    pub offers_sign_in: bool,
    /// Where they wanted to go, encoded.
    pub next: String,
}

/// Asks for the same page again, this time from a page of ours: a browser that came by a link of another site leaves
/// out the cookie.
#[derive(Debug, Template)]
#[template(path = "again.html")]
pub struct AgainPage {
    pub url: Text,
}

#[derive(Debug, Default, Template)]
#[template(path = "login.html")]
pub struct LoginPage {
    pub frame: Frame,
    pub problem: Option<Reason>,
    pub user: Text,
    pub next: Text,
    pub by_password: bool,
    pub why_no_password: Option<Text>,
    pub by_oidc: bool,
}

/// Where a one-time code comes, in the fragment of the address.
#[derive(Debug, Template)]
#[template(path = "code.html")]
pub struct CodePage {
    pub frame: Frame,
    pub problem: Option<Reason>,
}

/// As whom one acts and may act; also what the chip opens.
#[derive(Debug, Template)]
#[template(path = "acting.html")]
pub struct ActingPage {
    pub frame: Frame,
    pub login_user: Text,
    pub roles: Vec<&'static str>,
    /// What says who it is.
    pub source: Text,
    pub is_acting: bool,
    pub ended: Option<Reason>,
    pub permitted: Vec<PermittedRow>,
    /// Whom to ask.
    pub ask: Vec<Text>,
    pub can_sign_out: bool,
    pub next: Text,
}

#[derive(Debug)]
pub struct PermittedRow {
    pub proxy_user: Text,
    pub grant: u64,
    pub until: Option<Moment>,
    pub reason: Option<Text>,
    pub is_active: bool,
}
