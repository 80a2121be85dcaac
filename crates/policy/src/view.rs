//! Who may see and do what with a job. One table, for every page and command.
//!
//! | who | the record (state, reason) and kill | output, results, retry and the rest |
//! |---|---|---|
//! | acting as B, by a grant for every job | jobs whose user is B | the same |
//! | acting as B, by grants for jobs of some names | jobs whose user is B and that have such a name | the same |
//! | the same, who submitted it as B | yes | while that right lives |
//! | by a credential for oneself alone (a job's) | jobs whose user one is | the same |
//! | as oneself, the user | yes | yes |
//! | as oneself, who submitted it as another | yes | while that right lives |
//! | an administrator, not acting | all | all |
//! | anybody else | as if there were no such job | the same |

use crate::people::Acting;
use crate::types::{Principal, Who};

/// The eyes of a request.
#[derive(Debug, Clone, Copy)]
pub struct Viewer<'a> {
    pub principal: &'a Principal,
    pub acting: Option<&'a Acting>,
    /// Its credential is for one user alone: oneself, or the one acted as.
    pub is_bound: bool,
}

/// What someone may know of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// It isn't there.
    None,
    /// That it is, its state and reason; it can be killed.
    Record,
    /// Everything.
    All,
}

impl Viewer<'_> {
    /// Of the job called `job`. `has_right` is asked only when it matters: whether the job's login user still has the
    /// right to its user.
    pub fn sight(&self, who: &Who, job: &str, has_right: impl FnOnce() -> bool) -> Sight {
        let login = self.principal.login_user.as_str();
        if let Some(acting) = self.acting {
            return match acting.user == who.user {
                true if acting.jobs.has(job) => Sight::All,
                true => self.submitted(who, has_right),
                false => Sight::None,
            };
        }
        if self.is_bound {
            return if login == who.user.as_str() { Sight::All } else { Sight::None };
        }
        if self.principal.roles.admin || login == who.user.as_str() {
            return Sight::All;
        }
        self.submitted(who, has_right)
    }

    fn submitted(&self, who: &Who, has_right: impl FnOnce() -> bool) -> Sight {
        match self.principal.login_user == who.login_user {
            true if has_right() => Sight::All,
            true => Sight::Record,
            false => Sight::None,
        }
    }
}
