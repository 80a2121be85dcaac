//! The names of the two cookies, and how their values come back.

/// Linkis's own keys of the two names.
pub const LOGIN_KEY: &str = "wds.linkis.session.ticket.key";
pub const PROXY_KEY: &str = "wds.linkis.session.proxy.user.ticket.key";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookies {
    pub login: String,
    pub proxy: String,
}

impl Default for Cookies {
    fn default() -> Self {
        Self {
            login: "linkis_user_session_ticket_id_v1".to_owned(),
            proxy: "linkis_user_session_proxy_ticket_id_v1".to_owned(),
        }
    }
}

impl Cookies {
    /// The two by other names, if those are names of cookies and different ones.
    pub fn named(login: &str, proxy: &str) -> Result<Self, String> {
        for name in [login, proxy] {
            let is_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if name.is_empty() || name.len() > 200 || !name.bytes().all(is_token) {
                return Err(format!("{name:?} can't be the name of a cookie: letters, digits, - _ . can"));
            }
        }
        if login == proxy {
            return Err(format!("the two cookies can't have the same name, {login:?}"));
        }
        Ok(Self { login: login.to_owned(), proxy: proxy.to_owned() })
    }
}

/// Some clients send values in double quotes.
#[must_use]
pub fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_two() {
        assert_eq!(Cookies::named("a", "b").map(|c| (c.login, c.proxy)), Ok(("a".to_owned(), "b".to_owned())));
        for (login, proxy) in [("", "b"), ("a", "a"), ("a b", "c"), ("a=b", "c"), ("a;", "c"), ("a", "é")] {
            assert!(Cookies::named(login, proxy).is_err(), "{login:?} {proxy:?}");
        }
    }

    #[test]
    fn quotes_go_in_pairs() {
        for (value, expected) in [("abc", "abc"), ("\"abc\"", "abc"), ("\"abc", "\"abc"), ("\"", "\""), ("", "")] {
            assert_eq!(unquoted(value), expected);
        }
    }
}
