//! `[oidc]` of `supervisor.toml`: which provider, and who one of its people is here. Pure.

use policy::{LoginUser, Refusal};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The keys, for whoever mistypes one.
pub(crate) const KEYS: [&str; 10] = [
    "issuer",
    "client_id",
    "client_secret_file",
    "redirect_url",
    "claim",
    "scopes",
    "allowed_domains",
    "strip_domain",
    "lower_case",
    "required_claim",
];

/// An OpenID provider, and how its people are called here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// As the provider itself writes it, to the letter.
    pub issuer: String,
    pub client_id: String,
    /// A file that only the supervisor may read. None: a public client.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// Where the provider sends browsers back to, if not where the supervisor listens.
    #[serde(default)]
    pub redirect_url: Option<String>,
    /// The claim that holds the login name.
    #[serde(default = "usual_claim")]
    pub claim: String,
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<String>,
    /// The claim has to be NAME@DOMAIN with one of these domains.
    #[serde(default)]
    pub allowed_domains: Vec<String>,
    /// NAME is the login name, without @DOMAIN.
    #[serde(default)]
    pub strip_domain: bool,
    /// Capitals become small letters.
    #[serde(default)]
    pub lower_case: bool,
    /// Only those who have it sign in.
    #[serde(default)]
    pub required_claim: Option<RequiredClaim>,
}

/// A claim that is this text, or a list that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredClaim {
    pub name: String,
    pub value: String,
}

fn usual_claim() -> String {
    "preferred_username".to_owned()
}

fn usual_scopes() -> Vec<String> {
    vec!["openid".to_owned(), "profile".to_owned()]
}

impl OidcSettings {
    /// What is wrong, if something is.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (key, value) in [("issuer", &self.issuer), ("client_id", &self.client_id), ("claim", &self.claim)] {
            if value.is_empty() || value.chars().any(char::is_control) {
                return Err(format!("{key} = {value:?} is no value"));
            }
        }
        is_safe("issuer", &self.issuer)?;
        if let Some(url) = &self.redirect_url {
            is_safe("redirect_url", url)?;
            if !url.ends_with(super::CALLBACK) {
                return Err(format!("redirect_url = {url:?} has to end with {}", super::CALLBACK));
            }
        }
        if self.client_secret_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err("client_secret_file has to be a whole path, from / on".to_owned());
        }
        let is_scope = |scope: &String| !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic());
        if !self.scopes.iter().all(is_scope) {
            return Err("scopes has to be a list of words".to_owned());
        }
        if let Some(bad) = self.allowed_domains.iter().find(|d| d.is_empty() || d.contains(['@', '*', ' '])) {
            return Err(format!("allowed_domains: {bad:?} is no domain"));
        }
        // Else ada@one and ada@other would be one person.
        if self.strip_domain && self.allowed_domains.len() != 1 {
            return Err("strip_domain takes exactly one domain in allowed_domains: names of two could meet".to_owned());
        }
        Ok(())
    }

    /// Who somebody with these claims is here. The claims have been verified; nothing is guessed from others.
    pub(crate) fn login_user(&self, claims: &Map<String, Value>) -> Result<LoginUser, Refusal> {
        self.require(claims)?;
        let claim = &self.claim;
        let said = match claims.get(claim) {
            Some(Value::String(said)) => said.as_str(),
            Some(_) => return Err(no("oidc_claim", claim, format!("the claim {claim} is no text"), CLAIM_HINT)),
            None => return Err(no("oidc_claim", claim, format!("the provider says no {claim}"), CLAIM_HINT)),
        };
        if claim == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
            let text = "the provider doesn't say that the address is verified".to_owned();
            return Err(no("oidc_claim", said, text, "have the provider verify it (email_verified)"));
        }
        let name = self.without_domain(said)?;
        let name = if self.lower_case { name.to_ascii_lowercase() } else { name.to_owned() };
        LoginUser::parse(&name).map_err(|reason| {
            let text = format!("the claim {claim} is {said:?}, which is no login name: {reason}");
            no("login_name", said, text, CLAIM_HINT)
        })
    }

    fn without_domain<'a>(&self, said: &'a str) -> Result<&'a str, Refusal> {
        if self.allowed_domains.is_empty() {
            return Ok(said);
        }
        let parts = said.rsplit_once('@').filter(|(name, _)| !name.contains('@'));
        match parts {
            Some((name, domain)) if self.allowed_domains.iter().any(|d| d.eq_ignore_ascii_case(domain)) => {
                Ok(if self.strip_domain { name } else { said })
            }
            _ => {
                let text = format!("{said:?} is of no domain that signs in here");
                Err(no("oidc_domain", said, text, "use another account; allowed_domains of supervisor.toml decides"))
            }
        }
    }

    fn require(&self, claims: &Map<String, Value>) -> Result<(), Refusal> {
        let Some(required) = &self.required_claim else { return Ok(()) };
        let is_it = |value: &Value| value.as_str() == Some(&required.value);
        match claims.get(&required.name) {
            Some(Value::Array(list)) if list.iter().any(is_it) => Ok(()),
            Some(value) if is_it(value) => Ok(()),
            _ => {
                let text = format!("this account's claim {} doesn't hold {:?}", required.name, required.value);
                let hint = "ask whoever keeps the accounts; required_claim of supervisor.toml decides";
                Err(no("oidc_required_claim", &required.name, text, hint))
            }
        }
    }
}

const CLAIM_HINT: &str = "the settings claim, allowed_domains, strip_domain and lower_case of [oidc] in \
                          supervisor.toml say which claim is the login name; the provider says what is in it";

pub(super) fn no(rule: &str, value: &str, text: String, hint: &str) -> Refusal {
    let value = value.chars().take(64).collect();
    Refusal { rule: rule.to_owned(), value, text, hint: hint.to_owned() }
}

/// Codes and secrets go there.
fn is_safe(key: &str, url: &str) -> Result<(), String> {
    let uri: axum::http::Uri = url.parse().map_err(|_| format!("{key} = {url:?} is no address"))?;
    let is_here = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match uri.scheme_str() {
        Some("https") if uri.host().is_some() => Ok(()),
        Some("http") if is_here => Ok(()),
        _ => Err(format!("{key} = {url:?} has to begin with https:// (http:// only for this machine)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(more: &str) -> OidcSettings {
        toml::from_str(&format!("issuer = \"https://id.example\"\nclient_id = \"stead\"\n{more}")).expect("settings")
    }

    #[test]
    fn every_key_can_be_suggested() {
        let all = settings(
            "client_secret_file = \"/x\"\nredirect_url = \"https://farm/api/v1/oidc/callback\"\nclaim = \"email\"\n\
             scopes = [\"openid\"]\nallowed_domains = [\"a.example\"]\nstrip_domain = true\nlower_case = true\n\
             required_claim = { name = \"groups\", value = \"farm\" }",
        );
        all.check().expect("fine");
        let shown = format!("{all:?}");
        assert!(KEYS.iter().all(|key| shown.contains(&format!("{key}: "))), "{shown}");
    }

    #[test]
    fn what_could_open_something_is_refused() {
        for (more, about) in [
            ("redirect_url = \"http://farm.example/api/v1/oidc/callback\"", "https://"),
            ("redirect_url = \"https://farm.example/elsewhere\"", "has to end with"),
            ("client_secret_file = \"secret\"", "whole path"),
            ("strip_domain = true", "exactly one domain"),
            ("strip_domain = true\nallowed_domains = [\"a\", \"b\"]", "exactly one domain"),
            ("allowed_domains = [\"*\"]", "no domain"),
            ("allowed_domains = [\"\"]", "no domain"),
            ("claim = \"\"", "no value"),
            ("scopes = [\"a b\"]", "words"),
        ] {
            let problem = settings(more).check().expect_err(more);
            assert!(problem.contains(about), "{more}: {problem}");
        }
        for issuer in ["http://id.example", "http://127.0.0.1.evil.example", "id.example", "file:///etc", ""] {
            let mut bad = settings("");
            bad.issuer = issuer.to_owned();
            bad.check().expect_err(issuer);
        }
        let mut here = settings("");
        here.issuer = "http://127.0.0.1:8000/o".to_owned();
        here.check().expect("this machine");
    }

    /// Every case is the login name, or the rule that refused.
    #[test]
    fn a_person_is_who_the_claim_says_and_nobody_else() {
        let domain = "allowed_domains = [\"film.example\"]\n";
        let stripped = format!("{domain}strip_domain = true\n");
        let lower = "lower_case = true";
        let email = "claim = \"email\"";
        let needs = "required_claim = { name = \"groups\", value = \"farm\" }";
        let name = |name: &str| json!({ "preferred_username": name, "sub": "7", "name": "Ada" });
        for (more, claims, expected) in [
            ("", name("ada"), "ada"),
            ("", name("Ada"), "Ada"),
            (lower, name("Ada"), "ada"),
            ("", json!({ "sub": "ada", "email": "ada@x", "name": "ada" }), "oidc_claim"),
            ("", json!({ "preferred_username": null }), "oidc_claim"),
            ("", json!({ "preferred_username": ["ada"] }), "oidc_claim"),
            ("", json!({ "preferred_username": 7 }), "oidc_claim"),
            ("", name(""), "login_name"),
            ("", name(" ada"), "login_name"),
            ("", name("ada\n"), "login_name"),
            ("", name("-rf"), "login_name"),
            ("", name("../ada"), "login_name"),
            ("", name("аda"), "login_name"),
            (lower, name("Kelvin\u{212a}"), "login_name"),
            ("", name(&"a".repeat(65)), "login_name"),
            (domain, name("ada@film.example"), "ada@film.example"),
            (domain, name("ada"), "oidc_domain"),
            (domain, name("ada@evil.example"), "oidc_domain"),
            (domain, name("ada@film.example.evil.example"), "oidc_domain"),
            (domain, name("ada@evil.example@film.example"), "oidc_domain"),
            (&stripped, name("ada@Film.Example"), "ada"),
            (&stripped, name("@film.example"), "login_name"),
            (&stripped, name("ada@evil.example"), "oidc_domain"),
            (email, json!({ "email": "ada@x.example", "email_verified": true }), "ada@x.example"),
            (email, json!({ "email": "ada@x.example", "email_verified": false }), "oidc_claim"),
            (email, json!({ "email": "ada@x.example", "email_verified": "true" }), "oidc_claim"),
            (email, json!({ "email": "ada@x.example" }), "oidc_claim"),
            (needs, name("ada"), "oidc_required_claim"),
            (needs, json!({ "preferred_username": "ada", "groups": "farmers" }), "oidc_required_claim"),
            (needs, json!({ "preferred_username": "ada", "groups": ["x", "farm"] }), "ada"),
            (needs, json!({ "preferred_username": "ada", "groups": "farm" }), "ada"),
        ] {
            let got = settings(more).login_user(claims.as_object().expect("object"));
            let got = got.map_or_else(|refusal| refusal.rule, |name| name.to_string());
            assert_eq!(got, expected, "{more} {claims}");
        }
    }
}
