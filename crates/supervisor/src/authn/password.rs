//! Is this the password of that person? Asked where the kernel can't say who is there: from elsewhere.
//!
//! One source answers: the host's PAM through the checker ([`super::checker`]), or the farm's own accounts
//! ([`super::own`]). [`SignIn`] stands before it, slows guessing down ([`super::guesses`]), and sees to it that a wrong
//! password and an unknown name are the same answer after about the same time. Makes no session and writes no audit:
//! that is its caller's.

use super::checker::Checker;
use super::guesses::Guesses;
use super::own::{Own, OwnAccounts};
use futures_util::future::BoxFuture;
use policy::LoginUser;
use serde::{Deserialize, Deserializer};
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use warrant::Secret;
use warrant::checker_wire::PASSWORD_MAX;
use zeroize::Zeroizing;

/// A wrong answer comes at the end of such a step, however soon it is known: how long it took tells little.
const STEP: Duration = Duration::from_secs(1);
/// Asked at once, and how long one more may wait for its turn.
const AT_ONCE: usize = 16;
const TURN_PATIENCE: Duration = Duration::from_secs(10);
/// Places that names were right from.
const FAMILIAR_MAX: usize = 16_384;

/// A password: shown nowhere, wiped when it goes out of use.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    /// Bytes of the longest.
    pub(crate) const MAX: usize = PASSWORD_MAX;

    #[cfg(test)]
    pub(crate) fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// If it is text.
    pub(crate) fn of(secret: &Secret) -> Option<Self> {
        let text = std::str::from_utf8(secret.expose()).ok()?;
        Some(Self(Zeroizing::new(text.to_owned())))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it could be anybody's.
    pub(crate) fn is_possible(&self) -> bool {
        !self.0.is_empty() && self.0.len() <= PASSWORD_MAX && !self.0.contains('\0')
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // An error of serde may repeat what it read.
        let text = String::deserialize(from).map_err(|_| serde::de::Error::custom("the password is no text"))?;
        Ok(Self(Zeroizing::new(text)))
    }
}

/// Why nobody signs in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// Also for what is no account, or has no password that could be right.
    #[error("the name or the password is wrong")]
    Wrong,
    #[error("the password is right, but the account is expired")]
    Expired,
    #[error("the password is right, but it must be changed first")]
    MustChange,
    #[error("the password is right, but this host doesn't let the account sign in")]
    Refused,
    #[error("there were too many wrong passwords; try again in {} s", seconds(*retry_after))]
    Limited { retry_after: Duration },
    #[error("whether the password is right can't be told now")]
    Unavailable,
    #[error("the directory of accounts can't be reached now, so nobody can tell whether the password is right")]
    DirectoryDown,
    #[error("signing in with a password is off: {why}")]
    Off { why: String, hint: &'static str },
}

/// Whole seconds, never none: what `Retry-After` takes.
pub(crate) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
}

impl Denial {
    pub(crate) fn rule(&self) -> &'static str {
        match self {
            Self::Wrong => "password_wrong",
            Self::Expired => "account_expired",
            Self::MustChange => "password_must_change",
            Self::Refused => "account_refused",
            Self::Limited { .. } => "password_tries",
            Self::Unavailable => "password_unavailable",
            Self::DirectoryDown => "directory",
            Self::Off { .. } => "password_sign_in",
        }
    }

    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Wrong => "check both; who forgot the password asks whoever keeps the accounts",
            Self::Expired => "whoever keeps the accounts can extend it",
            Self::MustChange => "change it where you usually do (`passwd`), then sign in again",
            Self::Refused => "the account rules of the supervisor's host decide (PAM, service stead)",
            Self::Limited { .. } => "wait; the local socket takes no password",
            Self::Unavailable => "try again; the supervisor's log says more to its administrator",
            Self::DirectoryDown => "try again when it answers; it is the one of the supervisor's host",
            Self::Off { hint, .. } => hint,
        }
    }
}

pub(crate) type Verdict = Result<(), Denial>;

/// Whoever knows passwords.
pub(crate) trait Passwords: Send + Sync + 'static {
    fn check<'a>(&'a self, name: &'a LoginUser, password: &'a Password) -> BoxFuture<'a, Verdict>;

    /// Why nobody can sign in with one, if that is so.
    fn is_off(&self) -> Option<String> {
        None
    }
}

/// The one door for passwords.
#[derive(Clone)]
pub(crate) struct SignIn {
    passwords: Arc<dyn Passwords>,
    guesses: Arc<Mutex<Counted>>,
    turns: Arc<Semaphore>,
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").finish_non_exhaustive()
    }
}

impl SignIn {
    /// As `supervisor.toml` has it: the farm's own accounts, or the host's PAM through the checker in `data/run`. Never
    /// both: a name would have two passwords.
    pub(crate) fn new(own_accounts: bool, data: &Path, accounts: impl OwnAccounts) -> Self {
        if own_accounts {
            Self::with(Arc::new(Own::new(accounts)))
        } else {
            Self::with(Arc::new(Checker::new(data.join("run").join("checker.socket"))))
        }
    }

    pub(crate) fn with(passwords: Arc<dyn Passwords>) -> Self {
        Self { passwords, guesses: Arc::new(Mutex::new(Counted::new())), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Why nobody can sign in with a password, if that is so.
    pub(crate) fn is_off(&self) -> Option<String> {
        self.passwords.is_off()
    }

    /// Who `name` is, if the password is his. `client` is where the request comes from, as the channel has it.
    pub(crate) async fn sign_in(&self, name: &str, password: &Password, client: &str) -> Result<LoginUser, Denial> {
        let start = Instant::now();
        let limited = |retry_after| Denial::Limited { retry_after };
        // What can't be a name is counted as one, so that a stranger can't have endless names remembered.
        let counted = LoginUser::parse(name).map_or_else(|_| String::new(), |name| name.to_string());
        let who = Who { pair: format!("{counted}\n{client}"), name: counted, client: client.to_owned() };
        let paid = self.counted().admit(&who, start.into_std()).map_err(limited)?;
        let charge = Charge { sign_in: self.clone(), who, paid, guess: None };
        // Whoever goes away has asked all the same: the host's own modules are asked, and count it.
        let (sign_in, name, password) = (self.clone(), name.to_owned(), password.clone());
        let asked = tokio::spawn(async move {
            let verdict = sign_in.check(&name, &password).await;
            charge.settle(match &verdict {
                Ok(_) | Err(Denial::Expired | Denial::MustChange | Denial::Refused) => Some(true),
                Err(Denial::Wrong) => Some(false),
                Err(Denial::Limited { .. } | Denial::Unavailable | Denial::DirectoryDown | Denial::Off { .. }) => None,
            });
            verdict
        });
        let verdict = asked.await.unwrap_or(Err(Denial::Unavailable));
        if verdict == Err(Denial::Wrong) {
            sleep_until(next_step(start, Instant::now())).await;
        }
        verdict
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check(&self, name: &str, password: &Password) -> Result<LoginUser, Denial> {
        let (Ok(name), true) = (LoginUser::parse(name), password.is_possible()) else { return Err(Denial::Wrong) };
        let Ok(Ok(_turn)) = timeout(TURN_PATIENCE, self.turns.acquire()).await else {
            tracing::warn!("too many passwords are being checked at once");
            return Err(Denial::Unavailable);
        };
        self.passwords.check(&name, password).await.map(|()| name)
    }
}

/// Who tries which name.
struct Who {
    name: String,
    client: String,
    /// Both.
    pair: String,
}

/// The wrong answers that are remembered: of a name from one place, of a place, and of a name from all places that it
/// never was right from. So somebody who guesses keeps its owner out nowhere but where the owner never was.
#[derive(Debug)]
struct Counted {
    pairs: Guesses,
    clients: Guesses,
    names: Guesses,
    /// Where names were right from; forgotten when there are too many.
    familiar: HashSet<String>,
}

/// Whether the name itself was charged, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paid {
    AsStranger,
    AsFamiliar,
}

impl Counted {
    fn new() -> Self {
        let (pairs, clients, names) = (Guesses::of_pairs(), Guesses::of_clients(), Guesses::of_names());
        Self { pairs, clients, names, familiar: HashSet::new() }
    }

    /// Counts a wrong answer in advance. `Err`: how long to wait; nothing was counted.
    fn admit(&mut self, who: &Who, now: std::time::Instant) -> Result<Paid, Duration> {
        self.clients.admit(&who.client, now)?;
        if let Err(wait) = self.pairs.admit(&who.pair, now) {
            self.clients.give_back(&who.client);
            return Err(wait);
        }
        if self.familiar.contains(&who.pair) {
            return Ok(Paid::AsFamiliar);
        }
        if let Err(wait) = self.names.admit(&who.name, now) {
            self.clients.give_back(&who.client);
            self.pairs.give_back(&who.pair);
            return Err(wait);
        }
        Ok(Paid::AsStranger)
    }

    /// `Some(right)`; `None` while nobody can tell.
    fn settle(&mut self, who: &Who, paid: Paid, guess: Option<bool>, now: std::time::Instant) {
        if guess == Some(false) {
            self.clients.was_wrong(&who.client, now);
            self.pairs.was_wrong(&who.pair, now);
            if paid == Paid::AsStranger {
                self.names.was_wrong(&who.name, now);
            }
            return;
        }
        // Whoever knows one password doesn't get the guesses at others free.
        self.clients.give_back(&who.client);
        if paid == Paid::AsStranger {
            self.names.give_back(&who.name);
        }
        if guess.is_none() {
            return self.pairs.give_back(&who.pair);
        }
        self.pairs.forget(&who.pair);
        if self.familiar.len() >= FAMILIAR_MAX {
            self.familiar.clear();
        }
        self.familiar.insert(who.pair.clone());
    }
}

/// What a try costs until it is known how it ends.
struct Charge {
    sign_in: SignIn,
    who: Who,
    paid: Paid,
    guess: Option<bool>,
}

impl Charge {
    fn settle(mut self, guess: Option<bool>) {
        self.guess = guess;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.sign_in.counted().settle(&self.who, self.paid, self.guess, Instant::now().into_std());
    }
}

fn next_step(start: Instant, now: Instant) -> Instant {
    let steps = now.duration_since(start).as_millis() / STEP.as_millis() + 1;
    start + STEP * u32::try_from(steps).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn password(text: &str) -> Password {
        Password::new(Zeroizing::new(text.to_owned()))
    }

    /// A name that has this verdict with the password `right`.
    #[derive(Debug, Clone)]
    pub(crate) struct FakePasswords(pub(crate) Vec<(&'static str, Verdict)>);

    impl Passwords for FakePasswords {
        fn check<'a>(&'a self, name: &'a LoginUser, password: &'a Password) -> BoxFuture<'a, Verdict> {
            let known = self.0.iter().find(|(n, _)| *n == name.as_str()).filter(|_| password.as_bytes() == b"right");
            let verdict = known.map_or(Err(Denial::Wrong), |(_, v)| v.clone());
            Box::pin(async { verdict })
        }
    }

    fn sign_in() -> SignIn {
        let off = Denial::Off { why: "it is".into(), hint: "turn it on" };
        SignIn::with(Arc::new(FakePasswords(vec![
            ("ada", Ok(())),
            ("old", Err(Denial::Expired)),
            ("must", Err(Denial::MustChange)),
            ("off", Err(off)),
            ("down", Err(Denial::Unavailable)),
        ])))
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_names_and_passwords_are_one_answer_after_one_time() {
        let sign_in = sign_in();
        let long = "x".repeat(PASSWORD_MAX + 1);
        for (i, (name, text)) in [
            ("ada", "wrong"),
            ("nosuch", "right"),
            ("", "right"),
            ("-rf", "right"),
            ("ada\n", "right"),
            ("bob", ""),
            ("bob", "right\0"),
            ("cyd", &long),
        ]
        .into_iter()
        .enumerate()
        {
            let at = Instant::now();
            let verdict = sign_in.sign_in(name, &password(text), &format!("client {i}")).await;
            assert_eq!(verdict, Err(Denial::Wrong), "{name:?}");
            assert_eq!(at.elapsed().as_millis(), STEP.as_millis(), "{name:?}");
        }
        let at = Instant::now();
        let ada = sign_in.sign_in("ada", &password("right"), "here").await.expect("ada");
        assert_eq!((ada.as_str(), at.elapsed()), ("ada", Duration::ZERO));
        let start = Instant::now();
        let late = |ms| next_step(start, start + Duration::from_millis(ms)).duration_since(start).as_millis();
        assert_eq!((late(0), late(999), late(1000), late(2500)), (1000, 1000, 2000, 3000));
    }

    #[tokio::test(start_paused = true)]
    async fn names_and_clients_wait_after_wrong_answers_and_only_after_those() {
        let sign_in = sign_in();
        let ask = async |name: &str, text: &str, client: &str| sign_in.sign_in(name, &password(text), client).await;
        for i in 0..20 {
            for name in ["old", "must", "off", "down"] {
                let denial = ask(name, "right", "here").await.expect_err(name);
                assert!(!matches!(denial, Denial::Limited { .. } | Denial::Wrong), "{i}: {name} {denial:?}");
            }
        }
        ask("ada", "right", "hers").await.expect("ada");
        let mut verdicts = Vec::new();
        for _ in 0..5 {
            verdicts.push(ask("ada", "wrong", "elsewhere").await);
        }
        assert_eq!(verdicts[..4], vec![Err(Denial::Wrong); 4]);
        let limited = ask("ada", "right", "elsewhere").await;
        assert!(matches!(limited, Err(Denial::Limited { retry_after }) if seconds(retry_after) == 1), "{limited:?}");
        // Nor from many places for ever; where she was right before, she isn't kept out.
        let mut guessed = 0;
        while ask("ada", "wrong", &format!("c{guessed}")).await == Err(Denial::Wrong) {
            guessed += 1;
        }
        assert!((20..=30).contains(&guessed), "{guessed}: one name from many places");
        for _ in 0..100 {
            ask("ada", "right", "hers").await.expect("ada");
        }
        assert!(matches!(ask("ada", "right", "new").await, Err(Denial::Limited { .. })));
        for _ in 0..5 {
            assert_eq!(ask("ada", "wrong", "hers").await, Err(Denial::Wrong));
        }
        assert!(matches!(ask("ada", "right", "hers").await, Err(Denial::Limited { .. })), "hers, too");
        ask("nosuch", "x", "elsewhere").await.expect_err("wrong");
        let mut tries = 0;
        while ask(&format!("u{tries}"), "wrong", "one client").await == Err(Denial::Wrong) {
            tries += 1;
        }
        assert!((8..=12).contains(&tries), "{tries}: many names from one place");
        assert!(matches!(ask("ada2", "x", "one client").await, Err(Denial::Limited { .. })));
    }

    /// Who goes away has asked all the same, and leaves nothing taken once there is an answer.
    #[tokio::test(start_paused = true)]
    async fn a_try_that_is_given_up_counts_as_its_answer_does() {
        struct Slow;
        impl Passwords for Slow {
            fn check<'a>(&'a self, _: &'a LoginUser, password: &'a Password) -> BoxFuture<'a, Verdict> {
                let verdict = if password.as_bytes() == b"right" { Ok(()) } else { Err(Denial::Wrong) };
                Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    verdict
                })
            }
        }
        let sign_in = SignIn::with(Arc::new(Slow));
        let given_up = async |text: &str| {
            let secret = password(text);
            timeout(Duration::from_millis(1), sign_in.sign_in("ada", &secret, "c")).await
        };
        for _ in 0..4 {
            assert!(given_up("wrong").await.is_err(), "it went away");
        }
        assert!(matches!(given_up("wrong").await, Ok(Err(Denial::Limited { .. }))), "free guesses are over");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(given_up("right").await.is_err(), "it went away");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let counted = sign_in.counted();
        assert!(counted.pairs.is_empty() && counted.familiar.len() == 1, "the right one forgets the wrong ones");
    }

    #[test]
    fn a_password_shows_nowhere() {
        let secret = password("hunter2");
        assert_eq!(format!("{secret:?}"), "Password");
        let read: Result<Password, _> = serde_json::from_str("\"hunter2\"");
        assert_eq!(read.expect("text"), secret);
        let error = serde_json::from_str::<Password>("[\"hunter2\"]").expect_err("no text");
        assert!(!error.to_string().contains("hunter2"));
        let number = serde_json::from_str::<Password>("12345").expect_err("no text");
        assert!(!number.to_string().contains("12345"));
    }
}
