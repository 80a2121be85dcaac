//! The farm's own accounts, for farms without a directory: a table of names and argon2id hashes. Off by default.
//!
//! A name that isn't there costs as much work as one that is, and a few questions at once are all that is worked on: a
//! hash takes memory and time on purpose.

use super::password::{Denial, Password, Passwords, Verdict};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use futures_util::future::BoxFuture;
use policy::LoginUser;
use std::sync::Arc;
use store::Store;
use tokio::sync::Semaphore;

/// OWASP's: 19 MiB, two passes, one lane.
const PARAMS: (u32, u32, u32) = (19 * 1024, 2, 1);
/// A row may be written by hand; what it asks for is bounded.
const MOST: (u32, u32, u32) = (256 * 1024, 10, 4);
const AT_ONCE: usize = 2;
const SALT_LEN: usize = 16;

/// Where the hashes are. `Ok(None)`: no such account, or one that is disabled.
pub(crate) trait OwnAccounts: Send + Sync + 'static {
    fn hash_of<'a>(&'a self, name: &'a LoginUser) -> BoxFuture<'a, Result<Option<String>, String>>;
}

impl OwnAccounts for Store {
    fn hash_of<'a>(&'a self, name: &'a LoginUser) -> BoxFuture<'a, Result<Option<String>, String>> {
        Box::pin(async move {
            match self.account(name.as_str()).await {
                Ok(Some(Ok(row))) => Ok((!row.disabled).then_some(row.password)),
                Ok(None) => Ok(None),
                // A row that makes no sense gives nothing, and is said.
                Ok(Some(Err(bad))) => {
                    tracing::warn!(%bad, "an account that can't be used");
                    Ok(None)
                }
                Err(error) => Err(error.to_string()),
            }
        })
    }
}

/// Whether this is the password of that hash: the costly part.
type Verify = dyn Fn(&Password, &PasswordHash) -> bool + Send + Sync;

pub(crate) struct Own {
    accounts: Box<dyn OwnAccounts>,
    /// Of a password that nobody has.
    nobodys: Option<Arc<str>>,
    turns: Semaphore,
    verify: Arc<Verify>,
}

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    #[error(transparent)]
    Params(argon2::Error),
    #[error(transparent)]
    Hash(argon2::password_hash::Error),
}

impl Own {
    pub(crate) fn new(accounts: impl OwnAccounts) -> Self {
        let nobodys = random::<32>().and_then(|bytes| hash_bytes(&bytes)).map(Arc::from);
        if let Err(error) = &nobodys {
            tracing::error!(%error, "own accounts can't be used");
        }
        let turns = Semaphore::new(AT_ONCE);
        Self { accounts: Box::new(accounts), nobodys: nobodys.ok(), turns, verify: Arc::new(is_right) }
    }

    async fn ask(&self, name: &LoginUser, password: &Password) -> Result<bool, String> {
        let nobodys = self.nobodys.clone().ok_or("no hash could be made at the start")?;
        let hash = self.accounts.hash_of(name).await?;
        let _turn = self.turns.acquire().await.map_err(|e| e.to_string())?;
        let (password, name, verify) = (password.clone(), name.clone(), self.verify.clone());
        tokio::task::spawn_blocking(move || match hash.as_deref().map(usable) {
            Some(Ok(hash)) => verify(&password, &hash),
            other => {
                if let Some(Err(why)) = other {
                    tracing::warn!(account = %name, why, "an account without a usable hash");
                }
                // The same work for nothing.
                let _ = usable(&nobodys).map(|hash| verify(&password, &hash));
                false
            }
        })
        .await
        .map_err(|e| e.to_string())
    }
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").finish_non_exhaustive()
    }
}

impl Passwords for Own {
    fn check<'a>(&'a self, name: &'a LoginUser, password: &'a Password) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            match self.ask(name, password).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Denial::Wrong),
                Err(error) => {
                    tracing::error!(error, login_user = %name, "a password could not be checked");
                    Err(Denial::Unavailable)
                }
            }
        })
    }
}

/// A hash of argon2id that asks for no more than we give.
fn usable(text: &str) -> Result<PasswordHash, &'static str> {
    let hash = PasswordHash::new(text).map_err(|_| "not a PHC string")?;
    if Algorithm::try_from(hash.algorithm.as_str()) != Ok(Algorithm::Argon2id) {
        return Err("not argon2id");
    }
    let params = Params::try_from(&hash).map_err(|_| "parameters that argon2 doesn't know")?;
    let within = params.m_cost() <= MOST.0 && params.t_cost() <= MOST.1 && params.p_cost() <= MOST.2;
    if within { Ok(hash) } else { Err("more work than is allowed (256 MiB, 10 passes, 4 lanes)") }
}

fn is_right(password: &Password, hash: &PasswordHash) -> bool {
    Argon2::default().verify_password(password.as_bytes(), hash).is_ok()
}

/// What goes into the table. Takes its time: not for an event loop.
pub(crate) fn hash(password: &Password) -> Result<String, HashError> {
    hash_bytes(password.as_bytes())
}

fn hash_bytes(password: &[u8]) -> Result<String, HashError> {
    let (memory, passes, lanes) = PARAMS;
    let params = Params::new(memory, passes, lanes, None).map_err(HashError::Params)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password, &random::<SALT_LEN>()?).map_err(HashError::Hash)?;
    Ok(hash.to_string())
}

fn random<const N: usize>() -> Result<[u8; N], HashError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(HashError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::password::tests::password;
    use super::*;
    use std::collections::HashMap;
    use std::sync::Mutex;

    struct Table(HashMap<&'static str, Result<String, String>>);

    impl OwnAccounts for Table {
        fn hash_of<'a>(&'a self, name: &'a LoginUser) -> BoxFuture<'a, Result<Option<String>, String>> {
            let row = self.0.get(name.as_str()).cloned().transpose();
            Box::pin(async { row })
        }
    }

    #[test]
    fn a_hash_says_how_it_was_made_and_is_never_the_same_twice() {
        let secret = password("hunter2");
        let (one, two) = (hash(&secret).expect("hash"), hash(&secret).expect("hash"));
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, two);
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_good_row_is_right() {
        let good = hash(&password("right")).expect("hash");
        let costly = good.replace("m=19456", "m=4194304");
        let other = good.replace("$argon2id$", "$argon2i$");
        let own = Own::new(Table(HashMap::from([
            ("ada", Ok(good)),
            ("costly", Ok(costly)),
            ("other", Ok(other)),
            ("garbage", Ok("right".to_owned())),
            ("empty", Ok(String::new())),
            ("down", Err("no store".to_owned())),
        ])));
        for (name, text, want) in [
            ("ada", "right", Ok(())),
            ("ada", "Right", Err(Denial::Wrong)),
            ("ada", "right ", Err(Denial::Wrong)),
            ("nosuch", "right", Err(Denial::Wrong)),
            ("costly", "right", Err(Denial::Wrong)),
            ("other", "right", Err(Denial::Wrong)),
            ("garbage", "right", Err(Denial::Wrong)),
            ("empty", "", Err(Denial::Wrong)),
            ("down", "right", Err(Denial::Unavailable)),
        ] {
            let name = LoginUser::parse(name).expect("name");
            assert_eq!(own.check(&name, &password(text)).await, want, "{name} {text:?}");
        }
    }

    /// Counted, not timed: a busy machine says nothing of what is computed.
    #[tokio::test]
    async fn an_unknown_name_costs_as_much_as_a_wrong_password() {
        let good = hash(&password("right")).expect("hash");
        let costly = good.replace("m=19456", "m=4194304");
        let mut own = Own::new(Table(HashMap::from([
            ("ada", Ok(good)),
            ("costly", Ok(costly)),
            ("garbage", Ok("right".to_owned())),
        ])));
        let worked = Arc::new(Mutex::new(Vec::new()));
        let seen = worked.clone();
        own.verify = Arc::new(move |password, hash| {
            let params = Params::try_from(hash).expect("parameters");
            let salt = hash.salt.as_ref().map(|salt| salt.len());
            let whole = (params.m_cost(), params.t_cost(), params.p_cost(), salt, hash.hash.as_ref().map(|h| h.len()));
            seen.lock().expect("lock").push((hash.algorithm.to_string(), whole));
            is_right(password, hash)
        });
        let whole = (PARAMS.0, PARAMS.1, PARAMS.2, Some(SALT_LEN), Some(32));
        for name in ["ada", "nosuch", "costly", "garbage"] {
            let login = LoginUser::parse(name).expect("name");
            assert_eq!(own.check(&login, &password("wrong")).await, Err(Denial::Wrong), "{name}");
            let worked = std::mem::take(&mut *worked.lock().expect("lock"));
            assert_eq!(worked, [("argon2id".to_owned(), whole)], "{name}");
        }
    }
}
