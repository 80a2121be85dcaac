//! Passwords in configuration files: kept for whoever can open them, shown to nobody.

use std::fmt;
use zeroize::Zeroizing;

/// How the seal of a Stead password begins. Qube!'s own has no mark: it is hexadecimal throughout.
pub const STEAD_MARK: &str = "stead-sealed:";

/// Who made the value of `proxy_password`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealedBy {
    /// `qblogin --display` of Stead.
    Stead,
    /// Qube!'s `qbhash` or `qblogin --display`: only Qube! can open it.
    Qube,
    /// Nobody: most likely the password itself.
    Nobody,
}

/// The value of `proxy_password`. It has no way to be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyPassword {
    text: Zeroizing<String>,
    sealed_by: SealedBy,
}

impl ProxyPassword {
    pub(crate) fn new(text: &str) -> Self {
        let is_hex = text.len() >= 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let sealed_by = match () {
            () if text.starts_with(STEAD_MARK) => SealedBy::Stead,
            () if is_hex => SealedBy::Qube,
            () => SealedBy::Nobody,
        };
        Self { text: Zeroizing::new(text.to_owned()), sealed_by }
    }

    #[must_use]
    pub fn sealed_by(&self) -> SealedBy {
        self.sealed_by
    }

    /// For whoever opens the seal; not for a log, a message or an argument.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for ProxyPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyPassword(hidden, sealed by {:?})", self.sealed_by)
    }
}
