//! The three names that are never confused: login user, user, run-as account.
//!
//! All are checked by one rule, and each is a type of its own, so that a function that wants a run-as account
//! can't be handed the person who logged in. A name is text that only ever goes through a look-up by name: it
//! never becomes a path, a number or part of a command.

use std::fmt;

/// Longest name accepted, in bytes.
pub const NAME_MAX: usize = 64;

/// Why a text is no account name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    Empty,
    TooLong(usize),
    /// Begins with a character that a name may not begin with.
    BadStart(char),
    BadCharacter(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the name is empty"),
            Self::TooLong(n) => write!(f, "the name has {n} bytes, at most {NAME_MAX} are allowed"),
            Self::BadStart(c) => write!(f, "a name can't begin with {c:?}"),
            Self::BadCharacter(c) => {
                write!(f, "a name can't contain {c:?} (allowed are letters a-z, digits and _ . - @ \\)")
            }
        }
    }
}

impl std::error::Error for NameError {}

fn check(name: &str) -> Result<(), NameError> {
    let first = name.chars().next().ok_or(NameError::Empty)?;
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    if !(first.is_ascii_alphanumeric() || first == '_') {
        return Err(NameError::BadStart(first));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.-@\\".contains(*c))) {
        Some(c) => Err(NameError::BadCharacter(c)),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// Accepts a well-formed name; says nothing about whether it exists.
            pub fn parse(name: &str) -> Result<Self, NameError> {
                check(name).map(|()| Self(name.to_owned()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// Who authenticated.
    LoginUser
}
name! {
    /// As whom the job was submitted: the effective user.
    User
}
name! {
    /// The operating-system account that processes have.
    AccountName
}

impl User {
    /// A login user who acts as nobody else.
    #[must_use]
    pub fn themself(login: &LoginUser) -> Self {
        Self(login.0.clone())
    }
}

impl AccountName {
    /// The account of the same name: what *user mode* means.
    #[must_use]
    pub fn of_user(user: &User) -> Self {
        Self(user.0.clone())
    }
}
