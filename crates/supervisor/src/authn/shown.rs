//! What a request shows of credentials, by its headers: one, or none, or a refusal. A browser sends its cookie with
//! whatever any page makes it ask, so that a cookie counts only for what our own pages ask.

use super::AuthnError;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use std::time::Duration;

const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// `__Host-` binds a cookie to one host; browsers take it only over TLS.
const COOKIE_TLS: &str = "__Host-stead";
const COOKIE_PLAIN: &str = "stead";

/// The name of the cookie on a connection like this one.
const fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { COOKIE_TLS } else { COOKIE_PLAIN }
}

/// The credential a request shows. More than one is none at all: nobody chooses between two people.
pub(crate) fn shown(parts: &Parts, is_tls: bool) -> Result<Option<String>, AuthnError> {
    let (bearer, cookie) = (bearer(&parts.headers)?, cookie(&parts.headers, cookie_name(is_tls))?);
    match (bearer, cookie) {
        (Some(bearer), Some(cookie)) if bearer != cookie => Err(AuthnError::TwoCredentials),
        (bearer, Some(cookie)) => {
            from_our_pages(parts, is_tls)?;
            Ok(bearer.or(Some(cookie)))
        }
        (bearer, None) => Ok(bearer),
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<String>, AuthnError> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(AuthnError::TwoCredentials);
    }
    let text = first.to_str().map_err(|_| AuthnError::NoCredential)?;
    match text.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(credential.to_owned())),
        _ => Err(AuthnError::NoCredential),
    }
}

pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Result<Option<String>, AuthnError> {
    let mut found: Option<String> = None;
    for header in headers.get_all(COOKIE) {
        let Ok(text) = header.to_str() else { continue };
        for pair in text.split(';') {
            let Some((key, value)) = pair.trim().split_once('=') else { continue };
            if key != name {
                continue;
            }
            if found.is_some() {
                return Err(AuthnError::TwoCredentials);
            }
            found = Some(value.to_owned());
        }
    }
    Ok(found)
}

/// What changes something has to say that it comes from a page of ours; nothing may say that it doesn't.
fn from_our_pages(parts: &Parts, is_tls: bool) -> Result<(), AuthnError> {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let says = says_it_is_ours(parts, is_tls)?;
    if says || reads { Ok(()) } else { Err(AuthnError::CrossSite) }
}

/// Whether a browser says that a page of ours asks. What comes from another page is refused; what isn't from a browser
/// says nothing.
pub(crate) fn says_it_is_ours(parts: &Parts, is_tls: bool) -> Result<bool, AuthnError> {
    let site = all_are(&parts.headers, SEC_FETCH_SITE, |site| site == "same-origin")
        // An address typed by the person.
        .or_else(|error| {
            let typed = parts.method == Method::GET && all_are(&parts.headers, SEC_FETCH_SITE, |s| s == "none").is_ok();
            if typed { Ok(false) } else { Err(error) }
        })?;
    let scheme = if is_tls { "https" } else { "http" };
    let host = parts.headers.get(HOST).and_then(|h| h.to_str().ok()).or_else(|| parts.uri.host());
    let ours = host.map(|host| format!("{scheme}://{host}"));
    let origin = all_are(&parts.headers, ORIGIN.as_str(), |origin| ours.as_deref() == Some(origin))?;
    Ok(site || origin)
}

/// Whether the header is there; an error if one of it isn't as it should be.
fn all_are(headers: &HeaderMap, name: &str, is_so: impl Fn(&str) -> bool) -> Result<bool, AuthnError> {
    let mut is_there = false;
    for value in headers.get_all(name) {
        if !value.to_str().is_ok_and(&is_so) {
            return Err(AuthnError::CrossSite);
        }
        is_there = true;
    }
    Ok(is_there)
}

/// The header that has a browser keep a credential, or forget it when it is empty.
pub(crate) fn set_cookie(credential: &str, lasts: Duration, is_tls: bool) -> Option<HeaderValue> {
    let (name, secure) = (cookie_name(is_tls), if is_tls { "; Secure" } else { "" });
    let text = format!("{name}={credential}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", lasts.as_secs());
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    type Headers = &'static [(&'static str, &'static str)];

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let request = headers.iter().fold(Request::builder().method(method).uri("/"), |r, (k, v)| r.header(*k, *v));
        request.body(()).expect("request").into_parts().0
    }

    fn got(method: &str, headers: &[(&str, &str)]) -> String {
        let host = [("host", "127.0.0.1:7878")];
        match shown(&parts(method, &[&host, headers].concat()), false) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(credential)) => credential,
            Err(error) => error.rule().to_owned(),
        }
    }

    #[test]
    fn one_credential_or_none_or_a_refusal() {
        let table: &[(Headers, &str)] = &[
            (&[], "nothing"),
            (&[("x-remote-user", "ada"), ("remote-user", "ada"), ("x-forwarded-user", "ada")], "nothing"),
            (&[("authorization", "Bearer abc")], "abc"),
            (&[("authorization", "bearer abc")], "abc"),
            (&[("authorization", "Bearer")], "credential"),
            (&[("authorization", "Bearer ")], ""),
            (&[("authorization", "Basic YWRhOmFkYQ==")], "credential"),
            (&[("authorization", "")], "credential"),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer b")], "one_credential"),
            (&[("authorization", "Bearer a"), ("authorization", "Bearer a")], "one_credential"),
            (&[("cookie", "stead=abc")], "abc"),
            (&[("cookie", "a=b; stead=abc; c")], "abc"),
            (&[("cookie", "__Host-stead=abc; Stead=abc; stead_=abc; xstead=abc")], "nothing"),
            (&[("cookie", "stead=abc; stead=abd")], "one_credential"),
            (&[("cookie", "stead=abc"), ("cookie", "stead=abd")], "one_credential"),
            (&[("cookie", "stead=abc"), ("authorization", "Bearer abd")], "one_credential"),
            (&[("cookie", "stead=abc"), ("authorization", "Bearer abc")], "abc"),
        ];
        for (headers, expected) in table {
            assert_eq!(got("GET", headers), *expected, "{headers:?}");
        }
    }

    #[test]
    fn a_cookie_counts_for_our_own_pages_only() {
        let cookie = ("cookie", "stead=abc");
        let table: &[(Headers, [&str; 2])] = &[
            (&[], ["abc", "cross_site"]),
            (&[("origin", "http://127.0.0.1:7878")], ["abc", "abc"]),
            (&[("origin", "https://127.0.0.1:7878")], ["cross_site", "cross_site"]),
            (&[("origin", "http://127.0.0.1:7879")], ["cross_site", "cross_site"]),
            (&[("origin", "http://evil.example")], ["cross_site", "cross_site"]),
            (&[("origin", "null")], ["cross_site", "cross_site"]),
            (&[("origin", "")], ["cross_site", "cross_site"]),
            (&[("sec-fetch-site", "same-origin")], ["abc", "abc"]),
            (&[("sec-fetch-site", "same-site")], ["cross_site", "cross_site"]),
            (&[("sec-fetch-site", "cross-site")], ["cross_site", "cross_site"]),
            (&[("sec-fetch-site", "none")], ["abc", "cross_site"]),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")], ["cross_site", "cross_site"]),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:7878")], ["cross_site", "cross_site"]),
            (&[("origin", "http://127.0.0.1:7878"), ("origin", "http://evil.example")], ["cross_site", "cross_site"]),
        ];
        for (headers, expected) in table {
            let headers = [&[cookie], *headers].concat();
            let both = ["GET", "POST"].map(|method| got(method, &headers));
            assert_eq!(both, *expected, "{headers:?}");
        }
        // A script shows its credential on purpose.
        assert_eq!(got("POST", &[("authorization", "Bearer abc")]), "abc");
    }

    #[test]
    fn the_cookie_is_out_of_reach() {
        let plain = set_cookie("abc", Duration::from_secs(60), false).expect("value");
        assert_eq!(plain.to_str().expect("text"), "stead=abc; Path=/; HttpOnly; SameSite=Strict; Max-Age=60");
        let tls = set_cookie("abc", Duration::from_secs(60), true).expect("value");
        assert_eq!(
            tls.to_str().expect("text"),
            "__Host-stead=abc; Path=/; HttpOnly; SameSite=Strict; Max-Age=60; Secure"
        );
        assert!(plain.is_sensitive() && tls.is_sensitive());
    }
}
