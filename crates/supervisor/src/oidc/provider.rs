//! The provider itself: what it publishes, the question put to it, and its word about somebody, verified.

use super::settings::no;
use super::{CALLBACK, Failure, OidcSettings, Proved, Subject};
use crate::error::StartError;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm as Alg, CoreProviderMetadata, CoreResponseType,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, Client,
    ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet,
    IdTokenClaims, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RequestTokenError, Scope, StandardErrorResponse, StandardTokenResponse, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long the provider may take for one answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// What it publishes is believed so long, and asked for again at most so often when a key is unknown.
const BELIEVED: Duration = Duration::from_secs(600);
const ASKED_AGAIN: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(5) };
/// Longest secret, in bytes.
const SECRET_MAX: u64 = 4096;

/// Keys that the provider alone holds. Never `none`, and never a secret that we hold, too.
const ALGORITHMS: [Alg; 9] = [
    Alg::RsaSsaPkcs1V15Sha256,
    Alg::RsaSsaPkcs1V15Sha384,
    Alg::RsaSsaPkcs1V15Sha512,
    Alg::RsaSsaPssSha256,
    Alg::RsaSsaPssSha384,
    Alg::RsaSsaPssSha512,
    Alg::EcdsaP256Sha256,
    Alg::EcdsaP384Sha384,
    Alg::EdDsa,
];

/// All claims that the standard has no field for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Others(Map<String, Value>);
impl AdditionalClaims for Others {}

type Tokens = StandardTokenResponse<
    IdTokenFields<Others, EmptyExtraTokenFields, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, Alg>,
    CoreTokenType,
>;
type Claims = IdTokenClaims<Others, CoreGenderClaim>;
pub(super) type ProviderClient = Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What only the right answer fits. Leaves us sealed only.
pub(super) struct Question {
    nonce: Nonce,
    verifier: PkceCodeVerifier,
}

impl Question {
    pub(super) fn of(nonce: &str, verifier: &str) -> Self {
        Self { nonce: Nonce::new(nonce.to_owned()), verifier: PkceCodeVerifier::new(verifier.to_owned()) }
    }

    /// Nonce and verifier.
    pub(super) fn words(&self) -> (String, String) {
        (self.nonce.secret().clone(), self.verifier.secret().clone())
    }
}

/// What of it goes to the provider.
pub(super) struct Sent {
    nonce: Nonce,
    challenge: PkceCodeChallenge,
}

pub(super) struct Provider {
    settings: OidcSettings,
    issuer: IssuerUrl,
    secret: Option<ClientSecret>,
    redirect: RedirectUrl,
    http: reqwest::Client,
    published: Mutex<Published>,
}

#[derive(Default)]
struct Published {
    /// What it said last, and when.
    known: Option<(Instant, CoreProviderMetadata)>,
    /// When it said nothing.
    silent: Option<Instant>,
}

impl Provider {
    /// Asks nobody yet: a provider that is down keeps no supervisor from starting.
    pub(super) fn new(settings: OidcSettings, url: &str, own: u32) -> Result<Self, StartError> {
        let wrong = |problem: String| StartError::Oidc(problem);
        let secret = settings.client_secret_file.as_deref().map(|path| secret(path, own)).transpose()?;
        let redirect = settings.redirect_url.clone().unwrap_or_else(|| format!("{url}{CALLBACK}"));
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|e| wrong(format!("issuer: {e}")))?;
        let redirect = RedirectUrl::new(redirect).map_err(|e| wrong(format!("redirect_url: {e}")))?;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
        let http = http.build().map_err(|e| wrong(format!("the host's certificates can't be used: {e}")))?;
        Ok(Self { settings, issuer, secret, redirect, http, published: Mutex::default() })
    }

    pub(super) fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    /// Who asks the provider, with what it publishes now.
    pub(super) async fn client(&self) -> Result<ProviderClient, Failure> {
        self.client_younger_than(BELIEVED).await
    }

    async fn client_younger_than(&self, age: Duration) -> Result<ProviderClient, Failure> {
        let mut published = self.published.lock().await;
        let metadata = match &*published {
            Published { known: Some((at, metadata)), .. } if at.elapsed() < age => metadata.clone(),
            // Whoever waited for the same answer doesn't wait for another one.
            Published { silent: Some(at), .. } if at.elapsed() < ASKED_AGAIN => return Err(self.is_silent()),
            _ => match CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await {
                Ok(metadata) => {
                    *published = Published { known: Some((Instant::now(), metadata.clone())), silent: None };
                    metadata
                }
                Err(error) => {
                    tracing::warn!(issuer = self.issuer(), error = chain(&error), "the OpenID provider can't be asked");
                    // What it said before is no worse for that: whoever has a token of an unknown key learns nothing new.
                    published.silent = Some(Instant::now());
                    return Err(self.is_silent());
                }
            },
        };
        let id = ClientId::new(self.settings.client_id.clone());
        Ok(Client::from_provider_metadata(metadata, id, self.secret.clone()).set_redirect_uri(self.redirect.clone()))
    }

    fn is_silent(&self) -> Failure {
        Failure::Down(format!("the OpenID provider {} can't be asked now", self.issuer()))
    }

    pub(super) fn question(&self) -> (Sent, Question) {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = Nonce::new_random();
        (Sent { nonce: nonce.clone(), challenge }, Question { nonce, verifier })
    }

    /// Where a browser puts the question.
    pub(super) fn address(&self, client: &ProviderClient, sent: Sent, state: &str) -> String {
        let (state, nonce) = (CsrfToken::new(state.to_owned()), sent.nonce);
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        // The library itself asks for `openid`.
        let scopes = self.settings.scopes.iter().filter(|s| *s != "openid").cloned().map(Scope::new);
        let request = client.authorize_url(flow, move || state, move || nonce).add_scopes(scopes);
        request.set_pkce_challenge(sent.challenge).url().0.to_string()
    }

    /// Whom the code stands for.
    pub(super) async fn redeem(&self, code: String, question: Question) -> Result<Proved, Failure> {
        let client = self.client().await?;
        let request = client.exchange_code(AuthorizationCode::new(code)).map_err(|_| {
            tracing::error!(issuer = self.issuer(), "the OpenID provider publishes no token endpoint");
            Failure::Down("the OpenID provider publishes no token endpoint".to_owned())
        })?;
        let tokens = request.set_pkce_verifier(question.verifier).request_async(&self.http).await;
        let tokens = tokens.map_err(|error| match error {
            RequestTokenError::ServerResponse(answer) => {
                tracing::warn!(issuer = self.issuer(), error = %answer.error().as_ref(), "no token for a code");
                refused("the OpenID provider doesn't take the code")
            }
            // It may hold what it couldn't understand: never shown, never logged.
            RequestTokenError::Parse(..) => refused("the OpenID provider's answer can't be understood"),
            RequestTokenError::Request(_) | RequestTokenError::Other(_) => {
                Failure::Down(format!("the OpenID provider {} can't be asked now", self.issuer()))
            }
        })?;
        let claims = match verified(&client, &tokens, &question.nonce) {
            // It may sign with a new key.
            Err(Untrue::Signature(_)) => {
                let client = self.client_younger_than(ASKED_AGAIN).await?;
                verified(&client, &tokens, &question.nonce)
            }
            claims => claims,
        };
        let claims = claims.map_err(|untrue| {
            let (Untrue::Signature(why) | Untrue::Other(why)) = untrue;
            tracing::warn!(issuer = self.issuer(), why, "an ID token was refused");
            refused(&format!("the OpenID provider's word can't be trusted: {why}"))
        })?;
        let subject = Subject { issuer: claims.issuer().to_string(), subject: claims.subject().to_string() };
        let Ok(Value::Object(all)) = serde_json::to_value(&claims) else {
            return Err(refused("the OpenID provider's word can't be understood"));
        };
        match self.settings.login_user(&all) {
            Ok(login_user) => Ok(Proved { login_user, subject }),
            Err(refusal) => Err(Failure::RefusedTo(refusal, Box::new(subject))),
        }
    }
}

enum Untrue {
    Signature(&'static str),
    Other(&'static str),
}

/// The claims, if the provider has signed them, for us, for this question, and for now.
fn verified(client: &ProviderClient, tokens: &Tokens, nonce: &Nonce) -> Result<Claims, Untrue> {
    use ClaimsVerificationError as E;
    let id_token = tokens.id_token().ok_or(Untrue::Other("it has sent no ID token"))?;
    let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS);
    let claims = id_token.claims(&verifier, nonce).map_err(|error| match error {
        E::SignatureVerification(_) => Untrue::Signature("the signature is not one of its keys'"),
        E::Expired(_) => Untrue::Other("it has expired"),
        E::InvalidAudience(_) => Untrue::Other("it is for another client"),
        E::InvalidIssuer(_) => Untrue::Other("it is another issuer's"),
        E::InvalidNonce(_) => Untrue::Other("it answers another question (nonce)"),
        _ => Untrue::Other("it is not what the standard asks for"),
    })?;
    if let Some(expected) = claims.access_token_hash() {
        let other = || Untrue::Other("it belongs to another access token");
        let alg = id_token.signing_alg().map_err(|_| other())?;
        let key = id_token.signing_key(&verifier).map_err(|_| other())?;
        let found = AccessTokenHash::from_token(tokens.access_token(), alg, key).map_err(|_| other())?;
        if found != *expected {
            return Err(other());
        }
    }
    Ok(claims.clone())
}

fn refused(text: &str) -> Failure {
    let hint = "sign in once more; if it lasts, the supervisor's log says more to its administrator";
    Failure::Refused(no("oidc_token", "", text.to_owned(), hint))
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A secret that others could read is none.
fn secret(path: &Path, own: u32) -> Result<ClientSecret, StartError> {
    let file = |error| StartError::File { path: path.to_owned(), error };
    let opened = File::open(path).map_err(file)?;
    let meta = opened.metadata().map_err(file)?;
    let problem = |what: &str| Err(StartError::Oidc(format!("client_secret_file {}: {what}", path.display())));
    if !meta.is_file() {
        return problem("it is no file");
    }
    if meta.mode() & 0o077 != 0 || meta.uid() != own {
        return problem(&format!(
            "uid {} owns it and its mode is {:o}: have a new secret made, and keep it as the supervisor's own (uid {own}) \
             with mode 600",
            meta.uid(),
            meta.mode() & 0o7777
        ));
    }
    let mut text = String::new();
    opened.take(SECRET_MAX).read_to_string(&mut text).map_err(file)?;
    match text.trim() {
        "" => problem("it is empty"),
        secret => Ok(ClientSecret::new(secret.to_owned())),
    }
}
