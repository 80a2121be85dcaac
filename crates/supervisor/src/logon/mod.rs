//! Passwords of the accounts that jobs run as, where a worker needs them to log these on: kept, opened for one warrant,
//! and known to be good or bad. Passwords of the farm's own accounts, with which people sign in, are `authn`'s: those are
//! only ever compared, these have to be had again.
//!
//! Whoever may set whose is `service::logon`'s; when one is used, and what follows from its being wrong, is `dispatch`'s.

mod vault;

pub(crate) use vault::VaultError;

use crate::error::StartError;
use policy::{Logon, Logons as Known};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use store::{AuditRef, LogonName, LogonRow, LogonState, LogonWord, ResealError, Sealed, Store, StoreError};
use tokio::sync::RwLock;
use vault::Vault;
use warrant::{SealError, SealingKey, Secret, seal};
use zeroize::Zeroizing;

/// Under which the store knows the key that all is sealed with.
const KEY: &str = "password_key";

/// Why a password was not kept, or can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogonError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the key of the passwords: {0}")]
    Key(#[from] Box<StartError>),
    #[error("the new key is in use, but the file of the old one could not be replaced: {0}")]
    Turn(std::io::Error),
    #[error(
        "the password of {account} can't be opened ({error}), so that the key was not replaced: delete it, or set it again"
    )]
    Unreadable { account: String, error: VaultError },
}

impl From<SealError> for LogonError {
    fn from(error: SealError) -> Self {
        Self::Vault(error.into())
    }
}

/// Clones are the same.
#[derive(Clone)]
pub(crate) struct Logons(Arc<Inner>);

struct Inner {
    store: Store,
    /// Held to read while something is sealed into the store, to write while the key is replaced.
    vault: RwLock<Vault>,
    /// What people's passwords are sealed for on their way here: of this life, in no file.
    incoming: SealingKey,
}

impl std::fmt::Debug for Logons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logons").finish_non_exhaustive()
    }
}

/// The account as a warrant names it: `NAME` or `DOMAIN\NAME`.
pub(crate) fn written(name: &LogonName) -> String {
    if name.domain.is_empty() { name.account.clone() } else { format!("{}\\{}", name.domain, name.account) }
}

/// The inverse of [`written`].
pub(crate) fn named(account: &str) -> LogonName {
    let (domain, account) = account.split_once('\\').unwrap_or(("", account));
    LogonName { account: account.to_owned(), domain: domain.to_owned() }
}

/// What a password that is on its way here is sealed for.
pub(crate) fn incoming_context(account: &str) -> Vec<u8> {
    [b"stead password to the supervisor 1\0", account.as_bytes()].concat()
}

impl Logons {
    pub(crate) async fn load(dir: &Path, farm: [u8; 16], store: Store) -> Result<Self, StartError> {
        let in_use = store.meta(KEY).await?;
        let vault = Vault::load(dir, farm, in_use.as_deref())?;
        let own = vault.id();
        match in_use {
            None => store.set_meta(KEY, own).await?,
            Some(in_use) if in_use != own => tracing::error!(
                in_use,
                own,
                "passwords.key is not the key that the stored passwords are under: restore it, or have them set again"
            ),
            Some(_) => {}
        }
        let seed = random()?;
        let incoming = SealingKey::from_seed(&seed);
        let logons = Self(Arc::new(Inner { store, vault: RwLock::new(vault), incoming }));
        logons.mark_unreadable().await?;
        Ok(logons)
    }

    /// What was sealed otherwise, or changed, is of no use: whoever's it is should read that, and not a job's failure.
    async fn mark_unreadable(&self) -> Result<(), StoreError> {
        for row in self.0.store.logons().await? {
            if let Err(error) = self.open(&row).await {
                let text = format!("it can't be opened: {error}");
                let word = LogonWord { state: LogonState::Bad, by: "supervisor".to_owned(), text: Some(text) };
                self.0.store.logon_said(row.version, word, false, crate::clock::now()).await?;
            }
        }
        Ok(())
    }

    /// Public half of the key that passwords are sealed for on their way here.
    pub(crate) fn incoming_key(&self) -> [u8; 32] {
        self.0.incoming.public()
    }

    /// What came in for this account.
    pub(crate) fn receive(&self, account: &str, sealed: &[u8]) -> Result<Secret, SealError> {
        self.0.incoming.open(sealed, &incoming_context(account))
    }

    pub(crate) async fn row(&self, name: &LogonName) -> Result<Option<LogonRow>, StoreError> {
        self.0.store.logon(name).await
    }

    pub(crate) async fn rows(&self) -> Result<Vec<LogonRow>, StoreError> {
        self.0.store.logons().await
    }

    pub(crate) async fn set(
        &self,
        name: LogonName,
        password: Secret,
        by: &str,
        audit: Option<AuditRef>,
        now: i64,
    ) -> Result<u64, StoreError> {
        let vault = self.0.vault.read().await;
        // It is sealed where the store says under which number it is kept; until then nobody replaces the key.
        let (sealer, whose) = (vault.sealer(), name.clone());
        let sealed = move |version| {
            // It fails when the system has no random bytes: nothing is kept then.
            sealer.seal(&whose, version, &password).ok()
        };
        let version = self.0.store.put_logon(name, sealed, by, audit, now).await;
        drop(vault);
        version
    }

    /// The password itself, for as long as the caller keeps it.
    pub(crate) async fn open(&self, row: &LogonRow) -> Result<Secret, VaultError> {
        let sealed = Sealed { key_id: row.key_id.clone(), bytes: row.sealed.clone() };
        self.0.vault.read().await.open(&row.name, row.version, &sealed)
    }

    /// One for a configuration file (`proxy_password`).
    pub(crate) async fn seal_for_file(&self, name: &LogonName, password: &Secret) -> Result<String, SealError> {
        self.0.vault.read().await.seal_for_file(name, password)
    }

    /// The inverse: `proxy_password` of `name` as a configuration file has it.
    pub(crate) async fn open_from_file(&self, name: &LogonName, text: &str) -> Result<Secret, VaultError> {
        self.0.vault.read().await.open_from_file(name, text)
    }

    /// Seals all anew and forgets the old key. Returns how many, and the new key's id.
    pub(crate) async fn rotate(&self, audit: Option<AuditRef>) -> Result<(u64, String), LogonError> {
        // Nothing is sealed meanwhile.
        let mut vault = self.0.vault.write().await;
        let next = vault.next().map_err(Box::new)?;
        let mut anew = HashMap::new();
        for row in self.rows().await? {
            let sealed = Sealed { key_id: row.key_id.clone(), bytes: row.sealed.clone() };
            let unreadable = |error| LogonError::Unreadable { account: written(&row.name), error };
            let password = vault.open(&row.name, row.version, &sealed).map_err(unreadable)?;
            anew.insert(row.version, next.seal(&row.name, row.version, &password)?);
        }
        let reseal = move |row: &LogonRow| anew.remove(&row.version).ok_or(SealError::Malformed);
        let done = self.0.store.reseal_logons(reseal, (KEY, next.id()), audit).await;
        let count = done.map_err(|error| match error {
            ResealError::Store(error) => error.into(),
            ResealError::Seal { name, error } => {
                LogonError::Unreadable { account: written(&name), error: error.into() }
            }
        })?;
        let id = next.id().to_owned();
        vault.turn(next).map_err(LogonError::Turn)?;
        Ok((count, id))
    }

    /// What decisions are made by.
    pub(crate) async fn known(&self) -> Result<Known, StoreError> {
        let rows = self.rows().await?;
        Ok(Known(rows.iter().map(|row| (written(&row.name), logon(row))).collect()))
    }

    /// The account's password, sealed for one launcher and one warrant; `None` when it can't be had.
    pub(crate) async fn for_warrant(&self, account: &str) -> Result<Option<Secret>, StoreError> {
        let Some(row) = self.row(&named(account)).await?.filter(|row| row.state != LogonState::Bad) else {
            return Ok(None);
        };
        match self.open(&row).await {
            Ok(password) => Ok(Some(password)),
            Err(error) => {
                tracing::error!(account, %error, "a stored password can't be opened");
                Ok(None)
            }
        }
    }
}

fn logon(row: &LogonRow) -> Logon {
    match row.state {
        LogonState::Unproved | LogonState::Good => Logon::Ready,
        LogonState::Bad => Logon::Bad { why: row.said.clone().unwrap_or_else(|| "it was refused".to_owned()) },
    }
}

/// Seals a password for the launcher whose key this is.
pub(crate) fn seal_for(password: &Secret, key: &[u8; 32], context: &[u8]) -> Option<Vec<u8>> {
    let seed = random().ok()?;
    seal(password, key, context, seed).ok()
}

fn random() -> Result<Zeroizing<[u8; 32]>, StartError> {
    let mut seed = Zeroizing::new([0; 32]);
    let failed = |e| StartError::File { path: "/dev/urandom".into(), error: std::io::Error::other(e) };
    getrandom::fill(seed.as_mut_slice()).map_err(failed)?;
    Ok(seed)
}
