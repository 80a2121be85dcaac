//! Credentials: what a person, a script or a job shows instead of a password, and what it stands for now.
//!
//! 256 random bits, shown once; the store has only their SHA-256. Every request reads the row again, so that whatever
//! ends one acts on the next request. Doesn't know what a credential may be used for: that is `policy`'s, by its scopes.

use super::{AuthnError, Known, Peer};
use crate::clock;
use crate::config::Settings;
use crate::identity::micros;
use policy::{LoginUser, Principal, Roles, Scopes, User};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::{Store, TokenRow};
use warrant::{hex, sha256};
use zeroize::Zeroizing;

/// Random bytes of a credential.
const BYTES: usize = 32;
/// When a credential was used is written down at most so often, in µs.
const NOTED_EVERY: i64 = 60_000_000;
/// What was used meanwhile is written down together.
const GATHER: Duration = Duration::from_secs(1);
/// How many uses are remembered before the old ones are forgotten.
const REMEMBERED: usize = 10_000;
/// How much later than its lease a session is given up.
const GRACE: i64 = 5_000_000;

/// What a credential was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A person who signed in.
    Session,
    /// A script of a person's.
    Token,
    /// A job while it runs.
    Job,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Session, Self::Token, Self::Job];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Token => "token",
            Self::Job => "job",
        }
    }

    /// For people.
    const fn called(self) -> &'static str {
        match self {
            Self::Session | Self::Token => self.as_str(),
            Self::Job => "job's token",
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "stead_s_",
            Self::Token => "stead_t_",
            Self::Job => "stead_j_",
        }
    }
}

/// The words of scopes, as rows and requests have them.
pub(crate) fn scopes(words: &str) -> Result<Scopes, String> {
    let mut scopes = Scopes::NONE;
    for word in words.split(',').map(str::trim) {
        match word {
            "read" => scopes.read = true,
            "submit" => scopes.submit = true,
            "control" => scopes.control = true,
            "manage" => scopes.manage = true,
            "metrics" => scopes.metrics = true,
            other => return Err(format!("{other:?} is no scope (read, submit, control, manage, metrics)")),
        }
    }
    Ok(scopes)
}

pub(crate) fn scope_words(scopes: Scopes) -> Vec<&'static str> {
    let all = [
        ("read", scopes.read),
        ("submit", scopes.submit),
        ("control", scopes.control),
        ("manage", scopes.manage),
        ("metrics", scopes.metrics),
    ];
    all.into_iter().filter(|(_, has)| *has).map(|(word, _)| word).collect()
}

/// A credential in clear: made, handed out once, and forgotten.
pub(crate) struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub(crate) fn new(kind: Kind) -> std::io::Result<Self> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        getrandom::fill(&mut *bytes).map_err(std::io::Error::other)?;
        let digits = Zeroizing::new(hex(&*bytes));
        Ok(Self(Zeroizing::new(format!("{}{}", kind.prefix(), *digits))))
    }

    /// Only what [`Self::new`] could have made.
    fn parse(text: &str) -> Option<(Kind, Self)> {
        let kind = Kind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let digits = &text[kind.prefix().len()..];
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_whole = digits.len() == 2 * BYTES && digits.bytes().all(is_digit);
        is_whole.then(|| (kind, Self(Zeroizing::new(text.to_owned()))))
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        sha256(&[self.0.as_bytes()])
    }

    /// For the one it is made for, and nobody else.
    pub(crate) fn reveal(self) -> Zeroizing<String> {
        self.0
    }
}

/// Clones are the same.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<Inner>);

struct Inner {
    store: Store,
    idle: i64,
    used: Mutex<Used>,
}

/// When credentials were used last: noted here at once, in the store later.
#[derive(Default)]
struct Used {
    at: HashMap<u64, i64>,
    waiting: Vec<(u64, i64)>,
}

impl Credentials {
    pub(crate) fn new(store: Store, settings: &Settings) -> Self {
        let idle = i64::try_from(settings.session_idle_minutes).unwrap_or(i64::MAX).saturating_mul(60_000_000);
        Self(Arc::new(Inner { store, idle, used: Mutex::default() }))
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Whose the credential is that a request shows.
    pub(crate) async fn holder(&self, shown: &str, peer: Peer) -> Result<Known, AuthnError> {
        let (kind, secret) = Secret::parse(shown).ok_or(AuthnError::NoCredential)?;
        let row = self.0.store.token_by_hash(&secret.hash()).await.map_err(unreadable)?;
        let row = row.ok_or(AuthnError::NoCredential)?.map_err(|bad| {
            tracing::error!(%bad, "a credential is refused");
            AuthnError::NoCredential
        })?;
        if row.kind != kind.as_str() {
            return Err(AuthnError::NoCredential);
        }
        self.is_live(kind, &row).await?;
        // A browser sends its cookies to every port of a host, whoever listens there.
        if let Some(made_by) = row.uid.filter(|_| kind == Kind::Session) {
            match peer.account() {
                Some(uid) if uid == made_by => {}
                Some(_) => return Err(AuthnError::OthersSession { login_user: row.login_user }),
                // The client is gone already, or the kernel can't be asked.
                None => return Err(AuthnError::Unavailable),
            }
        }
        let holder = holder(kind, &row, peer).map_err(|fault| {
            tracing::error!(credential = row.id, fault, "a credential is refused: its row can't be understood");
            AuthnError::NoCredential
        })?;
        self.was_used(row.id);
        Ok(holder)
    }

    /// Whether it still is a credential.
    pub(crate) async fn is_still(&self, id: u64) -> bool {
        let Ok(Some(Ok(row))) = self.0.store.token(id).await else { return false };
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str() == row.kind) else { return false };
        self.is_live(kind, &row).await.is_ok()
    }

    async fn is_live(&self, kind: Kind, row: &TokenRow) -> Result<(), AuthnError> {
        let ended = |how| Err(AuthnError::Ended { kind: kind.called(), how });
        if row.revoked_at.is_some() {
            return ended("was revoked");
        }
        let now = clock::now();
        let time = |text: &Option<String>| text.as_deref().and_then(|text| micros(text).ok());
        // One without an end never was one.
        if time(&row.expires_at).is_none_or(|until| now >= until) {
            return ended("has expired");
        }
        match kind {
            Kind::Token => Ok(()),
            Kind::Session => {
                let noted = self.lock().at.get(&row.id).copied();
                let last = noted.max(time(&row.last_used_at)).or(time(&row.created_at));
                let is_idle = last.is_none_or(|last| now.saturating_sub(last) >= self.0.idle);
                if is_idle { ended("was not used for too long") } else { Ok(()) }
            }
            Kind::Job => match row.session {
                Some(session) if self.runs(session, row.job, now).await? => Ok(()),
                _ => ended("has ended with its session"),
            },
        }
    }

    /// Whether the session that a job's token was made for may have a process now, and the job isn't over.
    async fn runs(&self, session: u64, job: Option<u64>, now: i64) -> Result<bool, AuthnError> {
        let row = self.0.store.session(session).await.map_err(unreadable)?;
        let Some(job) = job else { return Ok(false) };
        let is_over = self.0.store.job(job).await.map_err(unreadable)?.is_none_or(|job| job.state.is_over());
        let lives = |s: &store::SessionRow| s.ended_at.is_none() && now < s.lease_until.saturating_add(GRACE);
        Ok(!is_over && row.is_some_and(|s| s.job == job && lives(&s)))
    }

    fn was_used(&self, id: u64) {
        let now = clock::now();
        let mut used = self.lock();
        if used.at.get(&id).is_some_and(|at| now.saturating_sub(*at) < NOTED_EVERY) {
            return;
        }
        if used.at.len() >= REMEMBERED {
            used.at.retain(|_, at| now.saturating_sub(*at) < NOTED_EVERY);
        }
        used.at.insert(id, now);
        used.waiting.push((id, now));
        if used.waiting.len() == 1 {
            tokio::spawn(self.clone().write_down());
        }
    }

    async fn write_down(self) {
        tokio::time::sleep(GATHER).await;
        let used = std::mem::take(&mut self.lock().waiting);
        if let Err(error) = self.0.store.touch_tokens(&used).await {
            tracing::error!(%error, "when credentials were used is not kept");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn unreadable(error: store::StoreError) -> AuthnError {
    tracing::error!(%error, "a credential can't be looked up");
    AuthnError::Unavailable
}

fn holder(kind: Kind, row: &TokenRow, peer: Peer) -> Result<Known, String> {
    let login_user = LoginUser::parse(&row.login_user).map_err(|e| format!("login_user: {e}"))?;
    let scopes = scopes(row.scopes.as_deref().unwrap_or_default())?;
    let bound = row.acting_as.as_deref().map(User::parse).transpose().map_err(|e| format!("acting_as: {e}"))?;
    let source = match (kind, row.job) {
        (Kind::Session, _) => format!("session {}", row.id),
        (Kind::Token, _) => format!("token {} ({})", row.id, row.name.as_deref().unwrap_or("no name")),
        (Kind::Job, Some(job)) if bound.is_some() => format!("token of job {job}"),
        (Kind::Job, _) => return Err("job or acting_as: a job's token is for a job and its user".to_owned()),
    };
    let scopes = match kind {
        Kind::Session | Kind::Token => scopes,
        // Whatever the row says.
        Kind::Job => narrower(scopes, Scopes::JOB),
    };
    let principal = Principal {
        login_user,
        uid: None,
        roles: Roles::default(),
        // What the kernel's word gives is not in a credential.
        is_operator: false,
        channel: peer.channel(),
        client: peer.client(),
        credential: Some(row.id),
        scopes,
        source,
    };
    Ok(Known { principal, bound })
}

/// What is in both.
pub(crate) fn narrower(a: Scopes, b: Scopes) -> Scopes {
    Scopes {
        read: a.read && b.read,
        submit: a.submit && b.submit,
        control: a.control && b.control,
        manage: a.manage && b.manage,
        metrics: a.metrics && b.metrics,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_is_understood() {
        for kind in Kind::ALL {
            let secret = Secret::new(kind).expect("random");
            assert_eq!(format!("{secret:?}"), "Secret");
            let (hash, text) = (secret.hash(), secret.reveal().to_string());
            let (parsed, same) = Secret::parse(&text).expect("ours");
            assert_eq!((parsed, same.hash()), (kind, hash));
            for bad in [
                String::new(),
                text[1..].to_owned(),
                text[..text.len() - 1].to_owned(),
                format!("{text}0"),
                format!(" {text}"),
                format!("{text} "),
                text.to_uppercase(),
                text.replace("stead_", "stead-"),
                format!("stead_x_{}", &text[8..]),
                format!("{}é", &text[..text.len() - 2]),
            ] {
                assert!(Secret::parse(&bad).is_none(), "{kind:?}: a changed form");
            }
        }
        let (a, b) = (Secret::new(Kind::Token).expect("random"), Secret::new(Kind::Token).expect("random"));
        assert_ne!(a.reveal(), b.reveal());
    }

    #[test]
    fn scopes_are_words() {
        assert_eq!(scopes("read, submit"), Ok(Scopes::JOB));
        assert_eq!(scopes("metrics,manage,control,submit,read"), Ok(Scopes::ALL));
        assert_eq!(scope_words(Scopes::JOB), ["read", "submit"]);
        for bad in ["", ",", "all", "*", "read,", "Read", "read;submit"] {
            assert!(scopes(bad).is_err(), "{bad:?}");
        }
    }
}
