//! Who is asking. The only place where a channel becomes a [`Principal`]; no field of a request takes part.
//!
//! On the people's socket the kernel names the peer's uid. That uid must have a name, and that name must have that
//! uid: an id without an entry, an alias of another account, the overflow id or a failing directory is a refusal that
//! says so, never somebody else. Of a process that a session holds the uid proves less ([`inside`]). A request that
//! shows a credential ([`tokens`]) is that credential's whatever the channel: a bad one is a refusal, never the peer's
//! own identity. Doesn't decide what anyone may do: that is `policy`'s.

mod checker;
mod guesses;
mod inside;
mod loopback;
mod own;
pub(crate) mod password;
mod peer;
mod shown;
mod tokens;

pub(crate) use loopback::uid_of as uid_at_loopback;
pub(crate) use own::hash as hash_password;
pub(crate) use password::{Denial, Password, SignIn};
#[cfg(test)]
pub(crate) use peer::Held;
pub(crate) use peer::{Peer, Untold, origin_of, sees_others};
pub(crate) use shown::{cookie, says_it_is_ours, set_cookie, shown};
pub(crate) use tokens::{Credentials, Kind, Secret, narrower, scope_words, scopes};

use axum::http::request::Parts;
use policy::{Channel, LoginUser, Principal, Roles, Scopes, User};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wire::directory;

/// The uid the kernel shows for ids it can't map.
const OVERFLOW_UID: u32 = 65_534;
/// How long a look-up is believed. Short: an account may be removed at any time.
const BELIEVED: Duration = Duration::from_secs(3);

/// Why somebody has no identity here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthnError {
    #[error("uid {0} has no entry in the user database")]
    NoEntry(u32),
    #[error("uid {uid} is an alias: the name {name} belongs to uid {other}")]
    Alias { uid: u32, name: String, other: u32 },
    #[error("uid {0} stands for ids that can't be mapped, not for a person")]
    Overflow(u32),
    #[error("uid {uid} has the name {name:?}, which is no login name: {reason}")]
    BadName { uid: u32, name: String, reason: warrant::NameError },
    #[error("the user database could not be asked about uid {uid}: {error}")]
    Database { uid: u32, error: String },
    #[error("you are not signed in")]
    NotSignedIn,
    #[error("what was shown is no credential of this farm")]
    NoCredential,
    #[error("this {kind} {how}")]
    Ended { kind: &'static str, how: &'static str },
    #[error("this session of {login_user} was made by another account of this machine")]
    OthersSession { login_user: String },
    #[error("more than one credential was shown")]
    TwoCredentials,
    #[error("a page that isn't the farm's own asked for this")]
    CrossSite,
    #[error("nobody can tell whose credential this is")]
    Unavailable,
    #[error("this process runs in job {0}, and the job is not its account's own: the account alone says nothing here")]
    InSession(u64),
    #[error(
        "this process runs in a session that is not this farm's, or not known to it: its account says nothing here"
    )]
    InOtherSession,
    #[error("the process that connected has ended: nobody can tell who asks")]
    PeerGone,
    #[error("nobody can tell whether this process runs in a job: the supervisor doesn't see it in /proc")]
    PeerUnseen,
}

impl AuthnError {
    pub(crate) fn rule(&self) -> &'static str {
        match self {
            Self::NoEntry(_) => "uid_without_entry",
            Self::Alias { .. } => "uid_alias",
            Self::Overflow(_) => "uid_overflow",
            Self::BadName { .. } => "login_name",
            Self::Database { .. } => "user_database",
            Self::NotSignedIn => "sign_in",
            Self::NoCredential => "credential",
            Self::Ended { .. } => "credential_ended",
            Self::OthersSession { .. } => "session_account",
            Self::TwoCredentials => "one_credential",
            Self::CrossSite => "cross_site",
            Self::Unavailable => "unavailable",
            Self::InSession(_) | Self::InOtherSession => "in_a_session",
            Self::PeerGone => "peer_gone",
            Self::PeerUnseen => "peer_unseen",
        }
    }

    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoEntry(_) => "use an account that `getent passwd` knows on this host",
            Self::Alias { .. } => "give each account a uid of its own",
            Self::Overflow(_) => "connect from the host itself, not from a user namespace that hides your uid",
            Self::BadName { .. } => "use an account with an ordinary name",
            Self::Database { .. } => "try again when the directory answers",
            Self::NotSignedIn => {
                "sign in (`stead login`) or show a token; on the farm's own machine its socket needs neither: \
                 STEAD_URL=unix:PATH (run/socket in its folder)"
            }
            Self::NoCredential | Self::Ended { .. } => "sign in again (`stead login`), or have a new token made",
            Self::OthersSession { .. } => {
                "sign in with the account that you use it from; a script that runs as another account shows a token: \
                 `stead tokens create`"
            }
            Self::TwoCredentials => "show one: one Authorization header, or the cookie",
            Self::CrossSite => "ask from the farm's own pages, or with a token in the Authorization header",
            Self::Unavailable => "try again; if it lasts, see the supervisor's own log",
            Self::InSession(_) | Self::InOtherSession => {
                "have the job carry a token: `stead submit --token`, and its tasks find it by STEAD_TOKEN_FILE; or sign in"
            }
            Self::PeerGone => "let the process that connects be the one that asks, and stay until it is answered",
            Self::PeerUnseen => {
                "sign in (`stead login`) or show a token; or let the supervisor's account see all of /proc (hidepid= and \
                 gid= of its mount)"
            }
        }
    }
}

/// The user database: an argument, so that tests have their own.
pub(crate) trait Accounts: Send + Sync + 'static {
    fn name_of(&self, uid: u32) -> Result<Option<String>, String>;
    fn uid_of(&self, name: &str) -> Result<Option<u32>, String>;
}

/// The host's own, through NSS.
#[derive(Debug)]
pub(crate) struct HostAccounts;

impl Accounts for HostAccounts {
    fn name_of(&self, uid: u32) -> Result<Option<String>, String> {
        directory::one(|| Ok(nix::unistd::User::from_uid(uid.into())?.map(|u| u.name)))
    }

    fn uid_of(&self, name: &str) -> Result<Option<u32>, String> {
        directory::one(|| Ok(nix::unistd::User::from_name(name)?.map(|u| u.uid.as_raw())))
    }
}

/// Who runs the farm without signing in: the peer with the supervisor's own uid.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) uid: u32,
    /// Its login name, when the one who started the farm gave it.
    pub(crate) name: Option<LoginUser>,
}

type Answer = Result<LoginUser, AuthnError>;

/// Turns peers into principals.
#[derive(Clone)]
pub(crate) struct Authn {
    accounts: Arc<dyn Accounts>,
    operator: Operator,
    known: Arc<Mutex<HashMap<u32, (Instant, Answer)>>>,
    credentials: Option<Credentials>,
}

/// Who a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) principal: Principal,
    /// The user for whom alone the credential is good.
    pub(crate) bound: Option<User>,
}

impl fmt::Debug for Authn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authn").field("operator", &self.operator).finish_non_exhaustive()
    }
}

impl Authn {
    pub(crate) fn new(accounts: Arc<dyn Accounts>, operator: Operator) -> Self {
        Self { accounts, operator, known: Arc::default(), credentials: None }
    }

    /// The same, and it knows credentials.
    pub(crate) fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// The person behind a request: by the credential it shows, else by its connection.
    pub(crate) async fn request(&self, peer: Peer, parts: &Parts) -> Result<Known, AuthnError> {
        match (shown(parts, peer.is_tls())?, &self.credentials) {
            (None, _) => self.by_connection(peer).await,
            (Some(shown), Some(credentials)) => credentials.holder(&shown, peer).await,
            (Some(_), None) => Err(AuthnError::NoCredential),
        }
    }

    /// The person behind a connection.
    async fn by_connection(&self, peer: Peer) -> Result<Known, AuthnError> {
        match peer {
            // What has the supervisor's own id can do everything to it anyway.
            Peer::Session { uid, held } if uid != self.operator.uid => self.inside(uid, held).await,
            _ => Ok(Known { principal: self.principal(peer).await?, bound: None }),
        }
    }

    /// The person behind a connection of a process that no session holds.
    pub(crate) async fn principal(&self, peer: Peer) -> Result<Principal, AuthnError> {
        let uid = self.uid_that_counts(peer)?;
        let is_operator = uid == self.operator.uid;
        let login_user = match &self.operator.name {
            Some(name) if is_operator => name.clone(),
            // Whatever the first entry of uid 0 is called: an administrator, never an identity to run as.
            _ if uid == 0 => LoginUser::parse("root").map_err(|reason| bad_name(uid, "root".to_owned(), reason))?,
            _ => self.login_user(uid).await?,
        };
        let roles = Roles { admin: uid == 0 || is_operator, ..Roles::default() };
        let source = if is_operator {
            format!("unix socket, uid {uid} (the farm's operator)")
        } else {
            format!("unix socket, uid {uid}")
        };
        Ok(Principal {
            login_user,
            uid: Some(uid),
            roles,
            is_operator: uid == 0 || is_operator,
            channel: Channel::Unix,
            client: peer.client(),
            credential: None,
            scopes: Scopes::ALL,
            source,
        })
    }

    /// The uid of a peer, if it says who that is. Whoever is root could be anywhere, and stays until it is answered.
    fn uid_that_counts(&self, peer: Peer) -> Result<u32, AuthnError> {
        match peer {
            Peer::Unix { uid } => Ok(uid),
            Peer::Session { uid, .. } | Peer::Untold { uid, .. } if uid == self.operator.uid => Ok(uid),
            Peer::Untold { uid: 0, why: Untold::Unseen } => Ok(0),
            Peer::Untold { why: Untold::Gone, .. } => Err(AuthnError::PeerGone),
            Peer::Untold { why: Untold::Unseen, .. } => Err(AuthnError::PeerUnseen),
            Peer::Session { .. } => Err(AuthnError::InOtherSession),
            Peer::Tcp { .. } => Err(AuthnError::NotSignedIn),
        }
    }

    /// Whether what made this principal still does. The kernel's word about a connection stays true.
    pub(crate) async fn is_still(&self, principal: &Principal) -> bool {
        match (principal.credential, &self.credentials) {
            (None, _) => true,
            (Some(id), Some(credentials)) => credentials.is_still(id).await,
            (Some(_), None) => false,
        }
    }

    /// The name of a uid, if the two agree both ways.
    pub(crate) async fn login_user(&self, uid: u32) -> Answer {
        if let Some(answer) = self.remembered(uid) {
            return answer;
        }
        let accounts = self.accounts.clone();
        let answer = match tokio::task::spawn_blocking(move || look_up(&*accounts, uid)).await {
            Ok(answer) => answer,
            Err(e) => Err(AuthnError::Database { uid, error: e.to_string() }),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| at.elapsed() < BELIEVED);
        known.insert(uid, (Instant::now(), answer.clone()));
        answer
    }

    fn remembered(&self, uid: u32) -> Option<Answer> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&uid).filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, answer)| answer.clone())
    }
}

fn look_up(accounts: &dyn Accounts, uid: u32) -> Answer {
    if uid == OVERFLOW_UID || uid == u32::MAX {
        return Err(AuthnError::Overflow(uid));
    }
    let database = |error| AuthnError::Database { uid, error };
    let name = accounts.name_of(uid).map_err(database)?.ok_or(AuthnError::NoEntry(uid))?;
    match accounts.uid_of(&name).map_err(database)? {
        Some(back) if back == uid => {}
        Some(other) => return Err(AuthnError::Alias { uid, name, other }),
        None => return Err(AuthnError::NoEntry(uid)),
    }
    LoginUser::parse(&name).map_err(|reason| bad_name(uid, name, reason))
}

fn bad_name(uid: u32, name: String, reason: warrant::NameError) -> AuthnError {
    AuthnError::BadName { uid, name, reason }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// uid → name and name → uid, as a test wants them.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct FakeAccounts(pub(crate) Vec<(u32, &'static str)>);

    impl Accounts for FakeAccounts {
        fn name_of(&self, uid: u32) -> Result<Option<String>, String> {
            if uid == 7000 {
                return Err("directory is down".to_owned());
            }
            Ok(self.0.iter().find(|(u, _)| *u == uid).map(|(_, n)| (*n).to_owned()))
        }

        fn uid_of(&self, name: &str) -> Result<Option<u32>, String> {
            Ok(self.0.iter().find(|(_, n)| *n == name).map(|(u, _)| *u))
        }
    }

    fn authn(name: Option<&str>) -> Authn {
        let accounts = FakeAccounts(vec![
            (0, "root"),
            (0, "toor"),
            (1501, "ada"),
            (1502, "bob"),
            (1503, "bob"),
            (1504, "-dash"),
            (65_534, "nobody"),
            (998, "stead"),
        ]);
        let operator = Operator { uid: 998, name: name.map(|n| LoginUser::parse(n).expect("name")) };
        Authn::new(Arc::new(accounts), operator)
    }

    #[tokio::test]
    async fn only_a_uid_and_name_that_agree_are_somebody() {
        let table = [
            (1501, "ada"),
            (0, "root"),
            (1503, "uid 1503 is an alias: the name bob belongs to uid 1502"),
            (1999, "uid 1999 has no entry in the user database"),
            (65_534, "uid 65534 stands for ids that can't be mapped, not for a person"),
            (u32::MAX, "uid 4294967295 stands for ids that can't be mapped, not for a person"),
            (7000, "the user database could not be asked about uid 7000: directory is down"),
            (1504, "uid 1504 has the name \"-dash\", which is no login name: a name can't begin with '-'"),
        ];
        let authn = authn(None);
        for (uid, expected) in table {
            let got = match authn.principal(Peer::Unix { uid }).await {
                Ok(p) => p.login_user.to_string(),
                Err(e) => e.to_string(),
            };
            assert_eq!(got, expected, "uid {uid}");
        }
        let tcp = Peer::Tcp { address: "127.0.0.1:1".parse().expect("address"), uid: Some(1501) };
        assert_eq!(authn.principal(tcp).await, Err(AuthnError::NotSignedIn));
    }

    #[test]
    fn guesses_are_counted_by_address_and_by_network_where_one_has_a_whole_one() {
        let tcp = |text: &str, uid| Peer::Tcp { address: text.parse().expect("address"), uid };
        let origin = |text: &str| tcp(text, None).origin();
        // All of 127/8 is everybody's on this machine.
        assert_eq!(tcp("127.0.0.1:1", Some(7)).origin(), tcp("127.0.0.2:1", Some(7)).origin());
        assert_eq!(tcp("127.0.0.1:1", Some(7)).origin(), origin_of(&Peer::Unix { uid: 7 }.client()));
        assert_eq!(tcp("127.0.0.1:1", Some(7)).client(), "127.0.0.1, uid 7");
        assert_eq!(origin_of("127.0.0.1, uid 7"), "uid 7");
        assert_eq!(origin("192.0.2.7:1"), "192.0.2.7");
        assert_eq!(origin("[::ffff:192.0.2.7]:1"), "192.0.2.7");
        assert_eq!(origin("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::/64");
        assert_eq!(origin("[2001:db8:1:2::9]:1"), "2001:db8:1:2::/64");
        assert_ne!(origin("[2001:db8:1:3::9]:1"), "2001:db8:1:2::/64");
        assert_eq!(Peer::Unix { uid: 7 }.origin(), "uid 7");
    }

    #[tokio::test]
    async fn in_a_session_only_the_farms_own_account_is_taken_at_its_word() {
        let authn = authn(None);
        let held = Held::default();
        let inside =
            async |uid| authn.by_connection(Peer::Session { uid, held }).await.map(|known| known.principal.uid);
        assert_eq!(inside(998).await, Ok(Some(998)));
        for uid in [0, 1501, 1999] {
            assert_eq!(inside(uid).await, Err(AuthnError::InOtherSession), "{uid}");
            assert_eq!(authn.principal(Peer::Session { uid, held }).await, Err(AuthnError::InOtherSession), "{uid}");
        }
        let untold =
            async |uid, why| authn.principal(Peer::Untold { uid, why }).await.map(|p| p.login_user.to_string());
        assert_eq!(untold(0, Untold::Unseen).await, Ok("root".to_owned()));
        assert_eq!(untold(1501, Untold::Unseen).await, Err(AuthnError::PeerUnseen));
        // Also root's program may have ended in a job.
        for uid in [0, 1501] {
            assert_eq!(untold(uid, Untold::Gone).await, Err(AuthnError::PeerGone), "{uid}");
        }
    }

    #[tokio::test]
    async fn roles_come_from_the_uid() {
        let named = authn(Some("root"));
        let admin = |p: &Principal| p.roles.admin;
        let operator = named.principal(Peer::Unix { uid: 998 }).await.expect("operator");
        assert_eq!((operator.login_user.as_str(), admin(&operator)), ("root", true));
        let root = named.principal(Peer::Unix { uid: 0 }).await.expect("root");
        assert_eq!((root.login_user.as_str(), admin(&root)), ("root", true));
        assert!(!admin(&named.principal(Peer::Unix { uid: 1501 }).await.expect("ada")));
        let unnamed = authn(None).principal(Peer::Unix { uid: 998 }).await.expect("operator");
        assert_eq!((unnamed.login_user.as_str(), admin(&unnamed)), ("stead", true));
    }
}
