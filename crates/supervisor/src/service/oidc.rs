//! Sessions of those for whom an OpenID provider vouches. How it is asked is `oidc`'s.

use super::Service;
use super::sign_in::{By, named, newcomer};
use crate::audit::{Act, Actor, Record};
use crate::authn::Peer;
use crate::error::ServiceError;
use crate::oidc::{Answer, Asked, Back, Begin, Failure, Proved, Subject};
use crate::views::NewCredentialView;
use policy::LoginUser;
use schemars::JsonSchema;
use serde::Deserialize;

/// What a program sends to have its session.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeRequest {
    code: String,
    verifier: String,
    /// Of the session, for people.
    #[serde(default)]
    name: Option<String>,
}

/// Who is back from the provider.
pub(crate) enum SignedIn {
    Browser(NewCredentialView),
    Program { login_user: LoginUser, url: String, word: String },
}

impl Service {
    pub(crate) async fn oidc_start(&self, peer: Peer, begin: Begin) -> Result<Asked, ServiceError> {
        let program = begin.program().map_err(|problem| ServiceError::input("oidc", problem))?;
        match self.oidc.ask(program).await {
            Ok(asked) => Ok(asked),
            Err(failure) => Err(self.not_vouched(peer, failure).await),
        }
    }

    pub(crate) async fn oidc_back(
        &self,
        peer: Peer,
        answer: Answer,
        cookie: Option<&str>,
    ) -> Result<SignedIn, ServiceError> {
        match self.oidc.answer(answer, cookie).await {
            Ok(Back::ToBrowser(proved)) => Ok(SignedIn::Browser(self.vouched(peer, proved, None).await?)),
            Ok(Back::ToProgram { login_user, url, word }) => Ok(SignedIn::Program { login_user, url, word }),
            Err(failure) => Err(self.not_vouched(peer, failure).await),
        }
    }

    /// A program has its session.
    pub(crate) async fn oidc_session(&self, peer: Peer, ask: CodeRequest) -> Result<NewCredentialView, ServiceError> {
        let name = ask.name.map(named).transpose()?;
        match self.oidc.exchange(&ask.code, &ask.verifier) {
            Ok(proved) => self.vouched(peer, proved, name).await,
            Err(failure) => Err(self.not_vouched(peer, failure).await),
        }
    }

    /// The provider's word makes nobody root, nor an account of the system's.
    async fn vouched(
        &self,
        peer: Peer,
        proved: Proved,
        name: Option<String>,
    ) -> Result<NewCredentialView, ServiceError> {
        let Proved { login_user, subject } = proved;
        if let Some(refusal) = self.systems(&login_user, "no provider vouches for it").await? {
            return Err(self.not_vouched(peer, Failure::RefusedTo(refusal, Box::new(subject))).await);
        }
        self.enter(peer, newcomer(login_user, peer, "OpenID Connect"), name, By::Provider(subject)).await
    }

    /// Writes down that somebody didn't sign in: who that is, only if the provider said so. Never a code.
    async fn not_vouched(&self, peer: Peer, failure: Failure) -> ServiceError {
        let (refusal, subject) = match failure {
            Failure::Refused(refusal) => (refusal, None),
            Failure::RefusedTo(refusal, subject) => (refusal, Some(*subject)),
            Failure::Down(text) => return ServiceError::ProviderDown(text),
        };
        let actor = Actor { channel: peer.channel().into(), client: Some(peer.client()), ..Actor::default() };
        let record = Record::refused(Act::Login, actor).object(&refusal.value).with("rule", &refusal.rule);
        let record = record.with("by", "oidc");
        let record = match subject {
            Some(Subject { issuer, subject }) => record.with("issuer", issuer).with("subject", subject),
            None => record,
        };
        match self.audit.refusal(record).await {
            Ok(()) => ServiceError::Refused(refusal),
            Err(error) => error.into(),
        }
    }
}
