//! What the tables of who may act as whom hold, as it stands there: words, times and lists are text that the reader
//! judges. Times are RFC 3339 in UTC.

use serde::Serialize;

use crate::cell::Raw;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserRow {
    pub name: String,
    /// `login`, `proxy`.
    pub kind: String,
    /// Words with commas.
    pub roles: String,
    pub disabled: bool,
    pub note: Option<String>,
    /// JSON object.
    pub environment: Option<String>,
    pub working_root: Option<String>,
    /// As `--requires`.
    pub workers: Option<String>,
    pub default_cpus_milli: Option<u64>,
    pub max_cpus_milli: Option<u64>,
    /// Bytes.
    pub default_memory: Option<u64>,
    /// Bytes.
    pub max_memory: Option<u64>,
    /// Names with commas.
    pub answers: Option<String>,
    pub created_at: Option<String>,
    pub created_by: Option<String>,
}

/// All that an administrator sets of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewUser {
    pub name: String,
    pub kind: String,
    pub roles: String,
    pub disabled: bool,
    pub note: Option<String>,
    pub environment: Option<String>,
    pub working_root: Option<String>,
    pub workers: Option<String>,
    pub default_cpus_milli: Option<u64>,
    pub max_cpus_milli: Option<u64>,
    pub default_memory: Option<u64>,
    pub max_memory: Option<u64>,
    pub answers: Option<String>,
    /// Kept of the one who made the row.
    pub created_by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantRow {
    pub id: u64,
    /// `ada`, `group:artists`.
    pub login_user: String,
    pub proxy_user: String,
    pub given_by: Option<String>,
    pub given_at: Option<String>,
    pub reason: Option<String>,
    pub valid_from: Option<String>,
    pub valid_until: Option<String>,
    pub workers: Option<String>,
    pub jobs: Option<String>,
    /// `requested`, `active`, `revoked`.
    pub state: String,
    pub requested_by: Option<String>,
    pub approved_by: Option<String>,
    pub approved_at: Option<String>,
    pub ended_by: Option<String>,
    pub ended_at: Option<String>,
    pub seal: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewGrant {
    pub login_user: String,
    pub proxy_user: String,
    pub given_by: Option<String>,
    pub reason: Option<String>,
    pub valid_from: Option<String>,
    pub valid_until: Option<String>,
    pub workers: Option<String>,
    pub jobs: Option<String>,
    pub state: String,
    pub requested_by: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct GrantFilter {
    pub login_user: Option<String>,
    pub proxy_user: Option<String>,
    pub state: Option<String>,
    pub limit: u32,
    /// Only rows behind this one, in the order of ids.
    pub after: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AssociationRow {
    pub login_user: String,
    pub proxy_user: String,
    pub grant_id: Option<u64>,
    pub since: Option<String>,
}

/// Everything but the hash, which is only ever looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenRow {
    pub id: u64,
    /// `session`, `token`, `job`.
    pub kind: String,
    pub login_user: String,
    pub name: Option<String>,
    pub scopes: Option<String>,
    pub acting_as: Option<String>,
    pub job: Option<u64>,
    /// Of a job's token: it is good while this session lives.
    pub session: Option<u64>,
    pub client: Option<String>,
    /// Of a session: the account of this machine that it was made from, and only that may show it.
    pub uid: Option<u32>,
    pub created_at: Option<String>,
    pub expires_at: Option<String>,
    pub last_used_at: Option<String>,
    pub revoked_at: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewToken {
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    pub kind: String,
    pub login_user: String,
    pub name: Option<String>,
    pub scopes: Option<String>,
    pub acting_as: Option<String>,
    pub job: Option<u64>,
    pub session: Option<u64>,
    pub client: Option<String>,
    pub uid: Option<u32>,
    pub expires_at: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct AccountRow {
    pub name: String,
    /// PHC string.
    pub password: String,
    pub disabled: bool,
    pub changed_at: Option<String>,
}

impl std::fmt::Debug for AccountRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountRow")
            .field("name", &self.name)
            .field("disabled", &self.disabled)
            .field("changed_at", &self.changed_at)
            .finish_non_exhaustive()
    }
}

/// What holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Moves with every change of users, lists, grants and associations, whoever made it.
    pub n: i64,
    /// Somebody else changed something, which is in the journal.
    pub outside: bool,
}

/// A change that somebody else made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// Its place in the journal.
    #[serde(skip)]
    pub n: i64,
    pub table: String,
    /// `insert`, `update`, `delete`.
    pub op: String,
    /// What is in the row's first column, as an SQL literal.
    pub row: String,
    /// Columns as SQL literals; of very long ones the start.
    pub before: Option<String>,
    pub after: Option<String>,
    /// Something in the row is another than before, be it not in what is told here.
    pub differs: bool,
    /// Of a grant: it has a seal now. Of others it says nothing.
    pub sealed: bool,
}

/// All that one question is decided by, of one moment. A bad row is never the same as none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityRows {
    pub login: Option<Raw<UserRow>>,
    /// The user asked for, or the one of the association.
    pub target: Option<Raw<UserRow>>,
    /// The rows of the login user and of every group.
    pub may_act: Vec<Raw<(String, bool)>>,
    /// The target's row.
    pub may_be_acted_as: Option<Raw<bool>>,
    /// To the login user or any group, for the target, whatever their state; by id.
    pub grants: Vec<Raw<GrantRow>>,
    pub association: Option<Raw<AssociationRow>>,
}

/// The two lists of who may act as another and who may be acted as, at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    MayAct,
    MayBeActedAs,
}
