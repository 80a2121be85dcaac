//! Signing in at an OpenID provider: a browser goes there with a question that only its answer fits, and comes back with
//! a code that is good once.
//!
//! Authorization code flow with PKCE (S256), state and nonce. The browser holds them in a sealed cookie (`question`), which
//! binds it to its own question, so that nobody can hand it an answer of theirs. A program at a terminal (`stead login --oidc`)
//! gets no session through a browser: the browser brings it a code at a loopback port (RFC 8252), which only the program
//! that began can exchange. Makes no session and writes no audit: that is `service`'s. Only in builds with the feature
//! `oidc`; what is configured is understood in all of them.

#[cfg(feature = "oidc")]
mod provider;
#[cfg(feature = "oidc")]
mod question;
mod settings;

pub(crate) use settings::KEYS;
pub use settings::{OidcSettings, RequiredClaim};

use crate::error::StartError;
use policy::{LoginUser, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

/// Where the provider sends a browser back to.
pub(crate) const CALLBACK: &str = "/api/v1/oidc/callback";
/// How long somebody may take at the provider.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
/// Most characters of what a program has its own state in.
const APP_STATE_MAX: usize = 128;

/// Why nobody signs in.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    /// The same, of somebody whom the provider has named.
    RefusedTo(Refusal, Box<Subject>),
    Down(String),
}

/// Whom a provider means, in its own words.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) issuer: String,
    pub(crate) subject: String,
}

/// Somebody whom the provider has vouched for.
#[derive(Debug, Clone)]
pub(crate) struct Proved {
    pub(crate) login_user: LoginUser,
    pub(crate) subject: Subject,
}

/// A program at a terminal that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    port: u16,
    /// SHA-256 of what it will show.
    challenge: [u8; 32],
    state: String,
}

/// How somebody begins: nothing for a browser, all three for a program.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Begin {
    port: Option<u16>,
    challenge: Option<String>,
    state: Option<String>,
}

impl Begin {
    pub(crate) fn program(self) -> Result<Option<Program>, &'static str> {
        let (port, challenge, state) = match (self.port, self.challenge, self.state) {
            (None, None, None) => return Ok(None),
            (Some(port), Some(challenge), Some(state)) => (port, challenge, state),
            _ => return Err("a program gives port, challenge and state, a browser none of them"),
        };
        let challenge = warrant::unhex(&challenge).and_then(|bytes| bytes.try_into().ok());
        let challenge = challenge.ok_or("challenge has to be a SHA-256 in 64 hexadecimal digits")?;
        let is_plain = state.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        match state.len() {
            1..=APP_STATE_MAX if is_plain && port >= 1024 => Ok(Some(Program { port, challenge, state })),
            _ => Err("port has to be 1024 or more, and state 1 to 128 letters, digits, - and _"),
        }
    }
}

/// What a browser brings back.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ProviderAnswer")]
pub(crate) struct Answer {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// A question that was put.
pub(crate) struct Asked {
    /// At the provider.
    pub(crate) url: String,
    /// For the browser to keep.
    pub(crate) cookie: Zeroizing<String>,
}

/// Who came back, and for whom.
pub(crate) enum Back {
    ToBrowser(Proved),
    /// `url` brings the program its code. Who asked for it sees `word` at the terminal.
    ToProgram {
        login_user: LoginUser,
        url: String,
        word: String,
    },
}

/// What a person compares between terminal and page.
#[must_use]
pub fn login_word(challenge: &[u8; 32]) -> String {
    let digits = warrant::hex(&warrant::sha256(&[b"stead login", challenge])[..4]).to_ascii_uppercase();
    format!("{}-{}", &digits[..4], &digits[4..])
}

fn off(why: &str, hint: &str) -> Failure {
    Failure::Refused(settings::no("oidc", "off", format!("signing in with OpenID Connect is off: {why}"), hint))
}

#[cfg(not(feature = "oidc"))]
mod absent {
    use super::{Answer, Asked, Back, Failure, OidcSettings, Program, Proved, StartError, off};

    /// The door, in a build that has none.
    #[derive(Debug, Clone)]
    pub(crate) struct Oidc;

    fn absent() -> Failure {
        off(
            "this build of stead is without it",
            "use a build with the cargo feature `oidc` and set [oidc] in supervisor.toml, or sign in with a password \
             (`stead login`)",
        )
    }

    impl Oidc {
        pub(crate) fn new(_: Option<&OidcSettings>, _: &str, _: u32) -> Result<Self, StartError> {
            Ok(Self)
        }

        pub(crate) async fn ask(&self, _: Option<Program>) -> Result<Asked, Failure> {
            Err(absent())
        }

        pub(crate) async fn answer(&self, _: Answer, _: Option<&str>) -> Result<Back, Failure> {
            Err(absent())
        }

        pub(crate) fn exchange(&self, _: &str, _: &str) -> Result<Proved, Failure> {
            Err(absent())
        }
    }
}

#[cfg(not(feature = "oidc"))]
pub(crate) use absent::Oidc;
#[cfg(feature = "oidc")]
pub(crate) use present::Oidc;

#[cfg(feature = "oidc")]
mod present {
    use super::provider::Provider;
    use super::question::Questions;
    use super::{
        Answer, Asked, Back, Failure, OidcSettings, PATIENCE, Program, Proved, StartError, login_word, off,
        settings::no,
    };
    use crate::once::{Once, random};
    use std::sync::Arc;
    use std::time::Duration;
    use warrant::{sha256, unhex};

    /// How long a program's code is good.
    const CODE_LASTS: Duration = Duration::from_secs(120);

    /// The door to the provider. Clones are the same.
    #[derive(Clone)]
    pub(crate) struct Oidc(Option<Arc<Open>>);

    struct Open {
        provider: Provider,
        questions: Questions,
        /// States that somebody came back with: no question is answered twice.
        used: Once<()>,
        codes: Once<(Proved, [u8; 32])>,
    }

    impl std::fmt::Debug for Oidc {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_tuple("Oidc").field(&self.0.is_some()).finish()
        }
    }

    fn again(rule: &str, text: &str) -> Failure {
        Failure::Refused(no(rule, "", text.to_owned(), "begin again, in one browser: sign in once more"))
    }

    fn no_random(error: std::io::Error) -> Failure {
        Failure::Down(format!("the system has no random numbers: {error}"))
    }

    impl Oidc {
        /// `url` is where the supervisor listens, and `own` its uid.
        pub(crate) fn new(settings: Option<&OidcSettings>, url: &str, own: u32) -> Result<Self, StartError> {
            let Some(settings) = settings else { return Ok(Self(None)) };
            let provider = Provider::new(settings.clone(), url, own)?;
            let questions = Questions::new().map_err(|e| StartError::Oidc(format!("no random numbers: {e}")))?;
            let (used, codes) = (Once::new(PATIENCE), Once::new(CODE_LASTS));
            Ok(Self(Some(Arc::new(Open { provider, questions, used, codes }))))
        }

        fn open(&self) -> Result<&Open, Failure> {
            self.0.as_deref().ok_or_else(|| {
                off("it is not configured", "set [oidc] in supervisor.toml, or sign in with a password (`stead login`)")
            })
        }

        /// Somebody is about to go to the provider.
        pub(crate) async fn ask(&self, program: Option<Program>) -> Result<Asked, Failure> {
            let open = self.open()?;
            let client = open.provider.client().await?;
            let (begin, question) = open.provider.question();
            let state = random().map_err(no_random)?;
            let cookie = open.questions.seal(&state, &question, program).map_err(no_random)?;
            Ok(Asked { url: open.provider.address(&client, begin, &state), cookie })
        }

        /// Somebody is back. Whatever becomes of it, the question can't be answered again.
        pub(crate) async fn answer(&self, answer: Answer, cookie: Option<&str>) -> Result<Back, Failure> {
            let open = self.open()?;
            let unknown = || again("oidc_state", "this answer is to no question: it was used, or is another's");
            let state = answer.state.ok_or_else(unknown)?;
            if open.used.note(&state, ()).is_some() {
                return Err(unknown());
            }
            let waits = "this is not the browser that began, or it began again meanwhile, or too long ago";
            let pending = cookie.and_then(|cookie| open.questions.open(cookie)).filter(|p| p.state == state);
            let pending = pending.ok_or_else(|| again("oidc_state", waits))?;
            if answer.iss.is_some_and(|iss| iss != open.provider.issuer()) {
                return Err(again("oidc_issuer", "another provider than the farm's has answered"));
            }
            if let Some(error) = answer.error {
                let word: String = error.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
                let text = format!("the provider has signed nobody in: {word}");
                return Err(Failure::Refused(no(
                    "oidc_provider",
                    &word,
                    text,
                    "sign in there, or ask whoever keeps it",
                )));
            }
            let code = answer.code.ok_or_else(|| again("oidc_code", "the provider's answer has no code"))?;
            let proved = open.provider.redeem(code, pending.question()).await?;
            let Some(program) = pending.program else { return Ok(Back::ToBrowser(proved)) };
            let login_user = proved.login_user.clone();
            let code = open.codes.put((proved, program.challenge)).map_err(no_random)?;
            let url = format!("http://127.0.0.1:{}/?code={}&state={}", program.port, *code, program.state);
            Ok(Back::ToProgram { login_user, url, word: login_word(&program.challenge) })
        }

        /// A program shows its code, and that it is the one that began. The code is used up either way.
        pub(crate) fn exchange(&self, code: &str, verifier: &str) -> Result<Proved, Failure> {
            let open = self.open()?;
            let began = unhex(verifier).filter(|v| v.len() == 32).map(|v| sha256(&[&v]));
            match open.codes.take(code) {
                Some((proved, challenge)) if began == Some(challenge) => Ok(proved),
                _ => Err(again("oidc_code", "this code is none, was used, is too old, or is another program's")),
            }
        }
    }
}
