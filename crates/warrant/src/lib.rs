//! The exact bytes that pass between those who decide, those who have root, and those who run.
//!
//! Pure: no input or output, no clock, no randomness. Everything here is decoded by a strict reader, and what is
//! signed can only be read after its signature was checked. Doesn't decide anything: that is `policy`'s.

#![forbid(unsafe_code)]

pub mod batch;
pub mod checker_wire;
pub mod codec;
pub mod files;
pub mod launcher_wire;
pub mod names;
pub mod proof;
pub mod secret;
pub mod session_wire;
pub mod sign;
mod warrant;

pub use batch::{Batch, File, Item, ItemKind, TaskRef};
pub use names::{AccountName, LoginUser, NameError, User};
pub use proof::{Fact, Proof, RunAs, SessionEnd};
pub use secret::{BOX_MAX, SealError, SealingKey, SealingKeyOf, Secret, SecretError, seal};
pub use sign::{Domain, KeyId, PublicKey, SecretKey, Signed, VerifyError, hex, sha256, unhex};
pub use warrant::{Account, Incarnation, Limits, Mode, Purpose, Renewal, WARRANT_MAX, Warrant};
