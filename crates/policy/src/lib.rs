//! Who may run what as whom, and why: the one answer that submission, dispatch and `explain` share.
//!
//! Pure: no input or output, no clock but the one passed in, no database. Every answer is a value that can be
//! printed: the rules that were looked at, in order, and where each comes from. Doesn't know what an account is on a
//! host: that is the launcher's, which has the last word.

#![forbid(unsafe_code)]

mod decide;
mod identify;
mod people;
mod types;
mod view;

pub use decide::{decide, version};
pub use identify::{FarmFacts, identify};
pub use people::{
    Acting, Ask, Association, For, Grant, GrantState, Groups, Holder, JobNames, Kind, NoRight, People, Person, acting,
    acts, admit, is_listed, may_be_proxy, may_grant, right,
};
pub use types::{
    ACCOUNT_UNKNOWN, Accept, Channel, Decision, Effect, Excluded, Identified, Logon, Logons, PASSWORD_BAD,
    PASSWORD_MISSING, PASSWORD_TRIED, Place, Principal, ProxyAccount, Refusal, Request, Roles, Rule, RunPlan, Scopes,
    Via, Who,
};
pub use view::{Sight, Viewer};
pub use warrant::{AccountName, LoginUser, Mode, User};
