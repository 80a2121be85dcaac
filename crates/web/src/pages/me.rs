//! What is always one's own: sessions and tokens, and the passwords of accounts that jobs run as.

use crate::frame::Frame;
use crate::parts::{Moment, Reason, State};
use crate::text::Text;
use askama::Template;

#[derive(Debug, Template)]
#[template(path = "me.html")]
pub struct MePage {
    pub frame: Frame,
    pub login_user: Text,
    pub roles: Vec<&'static str>,
    /// What says who it is.
    pub source: Text,
    pub scopes: Vec<&'static str>,
    pub sessions: Vec<CredentialLine>,
    pub tokens: Vec<CredentialLine>,
    pub problem: Option<Reason>,
    pub token_name: String,
    pub expires: String,
    /// In clear: the only time.
    pub made: Option<NewToken>,
    /// Sessions and tokens are a credential's affair that is good for it.
    pub may_manage: bool,
}

#[derive(Debug)]
pub struct CredentialLine {
    pub id: u64,
    pub name: Option<Text>,
    pub scopes: Vec<Text>,
    pub client: Option<Text>,
    pub created: Option<Moment>,
    pub used: Option<Moment>,
    pub expires: Option<Moment>,
    pub is_current: bool,
}

pub struct NewToken {
    pub id: u64,
    pub secret: String,
    pub expires: Option<Moment>,
}

/// A secret is in no log.
impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Passwords that workers log accounts on with: what is known of them, never what they are.
#[derive(Debug, Template)]
#[template(path = "credentials.html")]
pub struct CredentialsPage {
    pub frame: Frame,
    pub problem: Option<Reason>,
    /// What was just done.
    pub said: Option<Text>,
    pub account: Text,
    pub next: Text,
    pub rows: Vec<LogonLine>,
    /// Nobody submits without one.
    pub enforced: bool,
    pub is_admin: bool,
}

#[derive(Debug)]
pub struct LogonLine {
    pub account: Text,
    pub state: State,
    /// Somebody has used or checked it.
    pub proved: bool,
    pub set: Option<Moment>,
    pub set_by: Option<Text>,
    pub said: Option<Text>,
    pub said_by: Option<Text>,
    pub said_at: Option<Moment>,
    pub is_there: bool,
}
