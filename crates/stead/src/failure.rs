//! What can go wrong in front of a person, and the exit code that scripts see.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

/// Exit codes; `docs/cli.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Refused = 3,
    NotFound = 4,
    Incomplete = 5,
    NoSupervisor = 6,
}

/// The body of every error answer of the HTTP API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ApiError {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) rule: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) hint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{text}")]
    Usage { text: String, hint: Option<String> },
    /// The supervisor said no.
    #[error("{}", .error.message)]
    Api { status: u16, error: ApiError },
    #[error("no supervisor answers at {}", tried_at(.tried))]
    NoSupervisor { tried: Vec<(String, String)> },
    #[error("{place} is not to be trusted: the file belongs to uid {owner}, but uid {peer} answers")]
    Impostor { place: String, owner: u32, peer: u32 },
    #[error("the supervisor's answer is not understood: {0}")]
    Answer(String),
    #[error("the connection to the supervisor broke: {0}")]
    Broken(String),
    #[error("job {job} {}{}", came_to(.state), because(.reason.as_deref()))]
    Incomplete { job: u64, state: String, reason: Option<String> },
    #[error("job {job} has no task {task}")]
    NoTask { job: u64, task: String },
    /// Refused on this side, by a rule of the house.
    #[error("{text}")]
    Refused { rule: &'static str, text: String, hint: String },
    #[error("failed to {what} {}: {source}", .path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("failed to {what}: {source}")]
    System { what: &'static str, source: std::io::Error },
    /// Becoming another account, or giving up root, did not do what it was to do.
    #[error("identity was not switched: {0}")]
    Identity(String),
    #[error("{file}: {text}")]
    Input { file: String, text: String },
    #[error("{program} ended too early{}", because(.said.as_deref()))]
    ServiceEnded { program: String, said: Option<String> },
    #[error("not ready after {seconds} s: {waiting_for}")]
    NotReady { seconds: u64, waiting_for: String },
    #[error("the {service} failed: {text}")]
    Service { service: &'static str, text: String },
    /// The command reported what it found itself (`doctor`, or a helper process).
    #[error("")]
    Reported(u8),
}

/// The predicate of a sentence about a job in this state.
pub(crate) fn came_to(state: &str) -> String {
    match state {
        "failed" => "failed".into(),
        "killed" => "was killed".into(),
        "badlogin" => "can't run as its user (badlogin)".into(),
        "complete" => "is complete".into(),
        other => format!("is {other}"),
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map(|r| format!(": {r}")).unwrap_or_default()
}

fn tried_at(tried: &[(String, String)]) -> String {
    tried.iter().map(|(place, why)| format!("{place} ({why})")).collect::<Vec<_>>().join(", ")
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage { text: text.into(), hint: None }
    }

    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        Self::File { what, path: path.into(), source: source.into() }
    }

    pub(crate) fn system(what: &'static str, source: impl Into<std::io::Error>) -> Self {
        Self::System { what, source: source.into() }
    }

    pub(crate) fn exit(&self) -> u8 {
        let exit = match self {
            Self::Usage { .. } | Self::Input { .. } => Exit::Usage,
            Self::Api { status, .. } => return api_exit(*status),
            Self::NoSupervisor { .. } => Exit::NoSupervisor,
            Self::Refused { .. } | Self::Impostor { .. } => Exit::Refused,
            Self::Incomplete { .. } => Exit::Incomplete,
            Self::NoTask { .. } => Exit::NotFound,
            Self::Reported(code) => return *code,
            _ => Exit::Failed,
        };
        exit as u8
    }

    /// What would change it, for a person.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => hint.clone(),
            Self::Api { error, .. } => error.hint.clone(),
            Self::Refused { hint, .. } => Some(hint.clone()),
            Self::NoSupervisor { .. } => Some(
                "start a farm with `stead dev`, name another with --data DIR or STEAD_URL, \
                 or run a single job without one: `stead run -- COMMAND`"
                    .into(),
            ),
            Self::Impostor { .. } => Some("remove the socket if nobody you trust made it, or name another".into()),
            Self::ServiceEnded { .. } => Some("RUST_LOG=info shows what it did before".into()),
            _ => None,
        }
    }

    fn rule(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Api { error, .. } => error.rule.as_deref().map(|rule| (rule, error.value.as_deref())),
            Self::Refused { rule, .. } => Some((rule, None)),
            _ => None,
        }
    }

    fn code(&self) -> String {
        match self {
            Self::Api { error, .. } if !error.code.is_empty() => error.code.clone(),
            _ => match self.exit() {
                2 => "usage",
                3 => "refused",
                4 => "not_found",
                5 => "incomplete",
                6 => "no_supervisor",
                _ => "failed",
            }
            .into(),
        }
    }

    /// As `--json` prints it on standard error: the shape of the API's errors.
    pub(crate) fn to_json(&self) -> Value {
        let (rule, value) = self.rule().unzip();
        json!({"error": {
            "code": self.code(), "message": self.to_string(), "rule": rule, "value": value.flatten(), "hint": self.hint(),
        }})
    }

    /// As a person reads it.
    pub(crate) fn sentence(&self) -> Sentence<'_> {
        Sentence(self)
    }
}

fn api_exit(status: u16) -> u8 {
    let exit = match status {
        400 | 413 | 422 => Exit::Usage,
        401 | 403 => Exit::Refused,
        404 => Exit::NotFound,
        _ => Exit::Failed,
    };
    exit as u8
}

#[derive(Debug)]
pub(crate) struct Sentence<'a>(&'a Failure);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stead: {}", self.0)?;
        if let Some((rule, value)) = self.0.rule() {
            write!(f, "\n  rule: {rule}")?;
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                write!(f, " = {value}")?;
            }
        }
        match self.0.hint() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16) -> Failure {
        Failure::Api { status, error: ApiError::default() }
    }

    #[test]
    fn exit_codes_are_the_fixed_ones() {
        let incomplete = Failure::Incomplete { job: 1, state: "failed".into(), reason: None };
        for (failure, exit) in [
            (Failure::usage("x"), 2),
            (api(400), 2),
            (api(403), 3),
            (api(401), 3),
            (api(404), 4),
            (api(409), 1),
            (api(503), 1),
            (incomplete, 5),
            (Failure::NoSupervisor { tried: vec![] }, 6),
            (Failure::Reported(1), 1),
        ] {
            assert_eq!(failure.exit(), exit, "{failure:?}");
        }
    }

    #[test]
    fn a_refusal_names_rule_value_and_hint() {
        let error = ApiError {
            code: "refused".into(),
            message: "root is no execution identity".into(),
            rule: Some("root_is_no_identity".into()),
            value: Some("root".into()),
            hint: Some("name a person with --user".into()),
        };
        let failure = Failure::Api { status: 403, error };
        assert_eq!(
            failure.sentence().to_string(),
            "stead: root is no execution identity\n  rule: root_is_no_identity = root\n  hint: name a person with --user"
        );
        assert_eq!(failure.to_json()["error"]["rule"], "root_is_no_identity");
    }
}
