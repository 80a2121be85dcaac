//! The words of the audit. `docs/audit.md` has the table: when each is written and what it carries.

use job::JobAction;
use serde::{Deserialize, Serialize};

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What was done, or asked for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Act { $($(#[$doc])* $name,)* }

        impl Act {
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            pub(crate) fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|act| act.as_str() == word)
            }
        }
    };
}

acts! {
    /// A chain begins: its name and its first key.
    Begin = "begin",
    /// A file of a chain begins; the one before it was full.
    Segment = "segment",
    /// Signs all that is before it.
    Checkpoint = "checkpoint",
    Start = "start",
    Stop = "stop",
    /// The store knows another chain than the one that is there.
    ChainReplaced = "chain_replaced",
    /// What was written before could not be done after all.
    NotDone = "not_done",
    /// The supervisor died between a record and its act.
    OutcomeUnknown = "outcome_unknown",
    /// So many like the one named were left out.
    Repeated = "repeated",
    AuditResumed = "audit_resumed",
    AuditRead = "audit_read",
    AuditVerify = "audit_verify",

    Submit = "submit",
    Kill = "kill",
    Retry = "retry",
    Block = "block",
    Unblock = "unblock",
    Suspend = "suspend",
    Resume = "resume",
    Requeue = "requeue",
    /// A job that is over goes, with its output and its folders.
    Remove = "remove",
    /// A job went, and a folder of it is left on a worker.
    FolderLeft = "folder_left",
    /// A job has another name or priority.
    Modify = "modify",
    ViewLog = "view_log",
    Download = "download",
    /// A folder, or what a file is.
    FileView = "file_view",

    Warrant = "warrant",
    SessionEnd = "session_end",
    /// The account itself is refused.
    Badlogin = "badlogin",
    /// A queued job's right to its user's name has ended.
    RightEnded = "right_ended",
    ProofRefused = "proof_refused",
    HostKeyPinned = "host_key_pinned",
    HostKeyChanged = "host_key_changed",
    Drain = "drain",

    Login = "login",
    Logout = "logout",
    SessionRevoke = "session_revoke",
    TokenCreate = "token_create",
    TokenRevoke = "token_revoke",
    Password = "password",
    /// Of an account that jobs run as.
    PasswordSet = "password_set",
    PasswordCheck = "password_check",
    PasswordDelete = "password_delete",
    /// All are sealed under another key.
    PasswordRotate = "password_rotate",
    /// A host refused one: it is used nowhere any more.
    PasswordRefused = "password_refused",
    /// Begins to act as another, or ends that.
    Switch = "switch",
    UserCreate = "user_create",
    UserChange = "user_change",
    UserRemove = "user_remove",
    /// One of the two lists: who may act, who may be acted as.
    ListChange = "list_change",
    GrantGive = "grant_give",
    GrantRequest = "grant_request",
    GrantApprove = "grant_approve",
    GrantRevoke = "grant_revoke",
    /// A row was found that nobody changed through the supervisor.
    ChangedOutside = "changed_outside",
    Configuration = "configuration",
    /// Root changed who may run a desktop worker.
    DesktopOwners = "desktop_owners",
}

impl From<JobAction> for Act {
    fn from(action: JobAction) -> Self {
        match action {
            JobAction::Kill => Self::Kill,
            JobAction::Retry => Self::Retry,
            JobAction::Block => Self::Block,
            JobAction::Unblock => Self::Unblock,
            JobAction::Suspend => Self::Suspend,
            JobAction::Resume => Self::Resume,
            JobAction::Requeue => Self::Requeue,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Written before the act, which the store carries out with the number of this record. It was done, unless a later
    /// record (`not_done`, `outcome_unknown`) names that number.
    Intent,
    Ok,
    Refused,
    Failed,
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_act_has_a_word_of_its_own_and_a_row_in_the_manual() {
        let words: BTreeSet<&str> = Act::ALL.iter().map(|a| a.as_str()).collect();
        assert_eq!(words.len(), Act::ALL.len());
        let manual = include_str!("../../../../docs/audit.md");
        let rows: BTreeSet<&str> = manual
            .lines()
            .filter_map(|l| l.strip_prefix("| `")?.split('`').next())
            .filter(|w| words.contains(w))
            .collect();
        assert_eq!(rows, words, "docs/audit.md lists every act");
    }
}
