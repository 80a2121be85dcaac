//! What every answer is wrapped in. Clients look at `status` only, and at `message` when it isn't 0.

use serde::Serialize;
use serde_json::Value;

/// Linkis's own numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    NotSignedIn,
    Error,
    /// What was sent doesn't hold together.
    Invalid,
    Refused,
    Warning,
}

impl Status {
    #[must_use]
    pub const fn number(self) -> i8 {
        match self {
            Self::Ok => 0,
            Self::NotSignedIn => -1,
            Self::Error => 1,
            Self::Invalid => 2,
            Self::Refused => 3,
            Self::Warning => 4,
        }
    }

    /// The status of HTTP that goes with it.
    #[must_use]
    pub const fn http(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::NotSignedIn => 401,
            Self::Error => 400,
            Self::Invalid => 412,
            Self::Refused => 403,
            Self::Warning => 206,
        }
    }

    /// What an answer of HTTP says in Linkis's numbers.
    #[must_use]
    pub const fn of_http(status: u16) -> Self {
        match status {
            200..=205 | 207..=299 => Self::Ok,
            206 => Self::Warning,
            401 => Self::NotSignedIn,
            403 => Self::Refused,
            412 => Self::Invalid,
            _ => Self::Error,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Envelope {
    /// The path that was asked for.
    pub method: String,
    pub status: i8,
    pub message: String,
    pub data: Value,
}

impl Envelope {
    #[must_use]
    pub fn new(method: &str, status: Status, message: &str, data: Value) -> Self {
        Self { method: method.to_owned(), status: status.number(), message: message.to_owned(), data }
    }

    /// An error, with the number that some clients look for.
    #[must_use]
    pub fn error(method: &str, status: Status, code: Option<u32>, message: &str) -> Self {
        let message = match code {
            Some(code) => format!("error code(错误码): {code}, error message(错误信息): {message}."),
            None => message.to_owned(),
        };
        let data = serde_json::json!({ "errorMsg": { "errCode": code, "desc": message } });
        Self { method: method.to_owned(), status: status.number(), message, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_go_with_those_of_http() {
        let table = [
            (Status::Ok, 0, 200),
            (Status::NotSignedIn, -1, 401),
            (Status::Error, 1, 400),
            (Status::Invalid, 2, 412),
            (Status::Refused, 3, 403),
            (Status::Warning, 4, 206),
        ];
        for (status, number, http) in table {
            assert_eq!((status.number(), status.http()), (number, http));
            assert_eq!(Status::of_http(http), status);
        }
        for http in [404, 405, 409, 413, 429, 500, 503] {
            assert_eq!(Status::of_http(http), Status::Error, "{http}");
        }
    }

    #[test]
    fn the_four_fields_are_always_there() {
        let answer = Envelope::new("/api/rest_j/v1/entrance/submit", Status::Ok, "OK", json!({ "taskID": 7 }));
        let expected = r#"{"method":"/api/rest_j/v1/entrance/submit","status":0,"message":"OK","data":{"taskID":7}}"#;
        assert_eq!(serde_json::to_string(&answer).expect("json"), expected);
        let error = Envelope::error("/x", Status::Error, Some(50080), "no");
        assert_eq!(error.message, "error code(错误码): 50080, error message(错误信息): no.");
        assert_eq!(error.data["errorMsg"]["errCode"], 50080);
        assert_eq!(Envelope::error("/x", Status::NotSignedIn, None, "sign in").message, "sign in");
    }
}
