//! What a job wants of a worker: `--requires gpu,linux`, `a100|h100`, `worker=node1|node2`, `!windows`, `host.memory>=4096`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const TEXT_MAX: usize = 4096;

/// Why a text is no requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequiresError {
    #[error("the requirement has {size} bytes, at most {TEXT_MAX} are allowed")]
    TooLong { size: usize },
    #[error(
        "the requirement {text:?} has an empty part (write LABEL, LABEL|LABEL or worker=NAME, separated by commas)"
    )]
    EmptyPart { text: String },
    #[error(
        "the requirement {part:?} contains {character:?} (labels are made of letters, digits and _ . - + : / = < >)"
    )]
    BadCharacter { part: String, character: char },
    #[error("the requirement names workers twice, so that no worker could fit (write worker=NAME|NAME)")]
    WorkersTwice,
}

/// All of it must hold. Stored as the text it was written as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Requires {
    text: String,
    labels: Vec<String>,
    any_of: Vec<Vec<String>>,
    worker_names: Vec<String>,
}

/// What is known of a worker besides its labels, by name: no label can say otherwise.
pub type Facts<'a> = &'a [(&'static str, &'a str)];

/// Why a worker doesn't fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    #[error("{}", lacking(.label))]
    Label { label: String },
    #[error("none of the labels {} is there", .labels.join(", "))]
    AnyLabel { labels: Vec<String> },
    #[error("{}", only(names))]
    Worker { names: Vec<String> },
}

/// What both sides of [`Requires::and`] name, when it is nothing.
const NOBODY: &str = "(no worker)";

fn only(names: &[String]) -> String {
    match names {
        [one] if one == NOBODY => "no worker will do: what has to hold names others each time".to_owned(),
        names => format!("only {} will do", names.join(", ")),
    }
}

impl Requires {
    pub fn parse(text: &str) -> Result<Self, RequiresError> {
        let text = text.trim();
        if text.len() > TEXT_MAX {
            return Err(RequiresError::TooLong { size: text.len() });
        }
        let mut requires = Self { text: text.into(), ..Self::default() };
        if text.is_empty() {
            return Ok(requires);
        }
        for part in text.replace("&&", ",").replace(" and ", ",").split(',') {
            requires.add(part.trim(), text)?;
        }
        Ok(requires)
    }

    fn add(&mut self, part: &str, text: &str) -> Result<(), RequiresError> {
        if let Some(names) = part.strip_prefix("worker=") {
            if !self.worker_names.is_empty() {
                return Err(RequiresError::WorkersTwice);
            }
            self.worker_names = words(names, text)?;
            return Ok(());
        }
        let mut labels = words(part, text)?;
        match labels.pop() {
            Some(label) if labels.is_empty() => self.labels.push(label),
            Some(label) => {
                labels.push(label);
                self.any_of.push(labels);
            }
            None => {}
        }
        Ok(())
    }

    /// Each of these labels must be there.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Of each group at least one label must be there.
    #[must_use]
    pub fn any_of(&self) -> &[Vec<String>] {
        &self.any_of
    }

    /// Only these workers, unless empty.
    #[must_use]
    pub fn worker_names(&self) -> &[String] {
        &self.worker_names
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Both must hold. Workers named on both sides are those in both; if there is none, no worker fits.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        if self.is_empty() || other.is_empty() {
            return if self.is_empty() { other.clone() } else { self.clone() };
        }
        let worker_names = match (self.worker_names.as_slice(), other.worker_names.as_slice()) {
            ([], names) | (names, []) => names.to_vec(),
            (one, two) => {
                let both: Vec<String> = one.iter().filter(|n| two.contains(n)).cloned().collect();
                if both.is_empty() { vec![NOBODY.into()] } else { both }
            }
        };
        Self {
            text: format!("{},{}", self.text, other.text),
            labels: self.labels.iter().chain(&other.labels).cloned().collect(),
            any_of: self.any_of.iter().chain(&other.any_of).cloned().collect(),
            worker_names,
        }
    }

    /// Whether a worker of this name with these labels will do.
    pub fn admits(&self, worker: &str, labels: &[String]) -> Result<(), Unmet> {
        self.admits_where(worker, labels, &[])
    }

    /// The same, of a worker of which more is known.
    pub fn admits_where(&self, worker: &str, labels: &[String], facts: Facts<'_>) -> Result<(), Unmet> {
        if !self.worker_names.is_empty() && !self.worker_names.iter().any(|n| n == worker) {
            return Err(Unmet::Worker { names: self.worker_names.clone() });
        }
        if let Some(label) = self.labels.iter().find(|l| !holds(l, labels, facts)) {
            return Err(Unmet::Label { label: label.clone() });
        }
        match self.any_of.iter().find(|group| !group.iter().any(|l| holds(l, labels, facts))) {
            Some(group) => Err(Unmet::AnyLabel { labels: group.clone() }),
            None => Ok(()),
        }
    }
}

/// `gpu`, `!gpu`, `host.os=linux`, `host.memory>=4096`.
fn holds(word: &str, labels: &[String], facts: Facts<'_>) -> bool {
    if let Some(word) = word.strip_prefix('!') {
        return !holds(word, labels, facts);
    }
    let Some((name, sign, value)) = comparison(word) else { return labels.iter().any(|l| l == word) };
    if let Some((_, fact)) = facts.iter().find(|(known, _)| *known == name) {
        return compares(fact, sign, value);
    }
    let of_label = |l: &String| {
        l == word || l.split_once('=').is_some_and(|(known, has)| known == name && compares(has, sign, value))
    };
    labels.iter().any(of_label)
}

fn comparison(word: &str) -> Option<(&str, &str, &str)> {
    let at = word.find(['<', '>', '='])?;
    let (name, rest) = word.split_at(at);
    let sign = ["<=", ">=", "<", ">", "="].into_iter().find(|s| rest.starts_with(s))?;
    Some((name, sign, &rest[sign.len()..]))
}

/// What is no number is neither more nor less than anything.
fn compares(has: &str, sign: &str, wanted: &str) -> bool {
    if sign == "=" {
        return has == wanted;
    }
    let (Ok(has), Ok(wanted)) = (has.parse::<f64>(), wanted.parse::<f64>()) else { return false };
    match sign {
        "<" => has < wanted,
        "<=" => has <= wanted,
        ">" => has > wanted,
        _ => has >= wanted,
    }
}

fn lacking(label: &str) -> String {
    match label {
        "host.screen=1" => "this worker has no screen".into(),
        "!host.screen=1" => "this worker has a screen".into(),
        _ => match (label.strip_prefix('!'), comparison(label)) {
            (Some(label), _) => format!("it has the label {label}"),
            (None, Some((name, sign, value))) if name.starts_with("host.") => {
                format!("its {name} is not {sign} {value}")
            }
            (None, _) => format!("the label {label} is missing"),
        },
    }
}

fn words(part: &str, text: &str) -> Result<Vec<String>, RequiresError> {
    part.split('|')
        .map(|word| {
            let word = word.trim();
            let label = word.strip_prefix('!').unwrap_or(word);
            if label.is_empty() {
                return Err(RequiresError::EmptyPart { text: text.into() });
            }
            match label.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.-+:/=<>".contains(*c))) {
                Some(character) => Err(RequiresError::BadCharacter { part: part.into(), character }),
                None => Ok(word.to_owned()),
            }
        })
        .collect()
}

impl TryFrom<String> for Requires {
    type Error = RequiresError;

    fn try_from(text: String) -> Result<Self, RequiresError> {
        Self::parse(&text)
    }
}

impl From<Requires> for String {
    fn from(requires: Requires) -> Self {
        requires.text
    }
}

impl fmt::Display for Requires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn who_fits() {
        for (text, worker, has, unmet) in [
            ("", "n1", "", None),
            ("gpu", "n1", "linux gpu", None),
            ("gpu", "n1", "linux", Some("the label gpu is missing")),
            ("gpu, linux", "n1", "gpu", Some("the label linux is missing")),
            ("gpu and linux", "n1", "gpu linux", None),
            ("gpu && linux", "n1", "linux", Some("the label gpu is missing")),
            ("a100|h100", "n1", "h100", None),
            ("a100 | h100", "n1", "v100", Some("none of the labels a100, h100 is there")),
            ("worker=n1|n2,gpu", "n2", "gpu", None),
            ("worker=n1|n2", "n3", "gpu", Some("only n1, n2 will do")),
            ("!gpu", "n1", "linux", None),
            ("!gpu", "n1", "gpu", Some("it has the label gpu")),
            ("!gpu|a100", "n1", "gpu a100", None),
            ("maya=2024", "n1", "maya=2024", None),
            ("maya=2024", "n1", "maya=2023", Some("the label maya=2024 is missing")),
            ("maya>=2024", "n1", "maya=2025", None),
            ("maya>2024.5", "n1", "maya=2024.5", Some("the label maya>2024.5 is missing")),
            ("host.memory<=4096", "n1", "host.memory=8192", Some("its host.memory is not <= 4096")),
            ("host.memory>1", "n1", "host.memory=much", Some("its host.memory is not > 1")),
            ("!host.memory<4096", "n1", "host.memory=8192", None),
            ("host.screen=1", "n1", "linux", Some("this worker has no screen")),
            ("!host.screen=1", "n1", "host.screen=1", Some("this worker has a screen")),
            // A label that is written so.
            ("a<b>=c", "n1", "a<b>=c", None),
        ] {
            let result = Requires::parse(text).expect(text).admits(worker, &labels(has));
            assert_eq!(result.err().map(|e| e.to_string()).as_deref(), unmet, "{text}");
        }
    }

    #[test]
    fn no_label_says_otherwise_than_what_is_known() {
        let facts = [("host.worker_mode", "service"), ("host.proxy_mode", "user")];
        let of = |text: &str, has: &str| {
            let requires = Requires::parse(text).expect(text);
            requires.admits_where("n1", &labels(has), &facts).map_err(|e| e.to_string())
        };
        assert_eq!(of("host.worker_mode=service,host.proxy_mode=user", ""), Ok(()));
        assert_eq!(
            of("host.worker_mode=desktop", "host.worker_mode=desktop"),
            Err("its host.worker_mode is not = desktop".into())
        );
        assert!(of("!host.proxy_mode=user", "host.proxy_mode=proxy").is_err());
    }

    #[test]
    fn both_must_hold() {
        let parse = |t| Requires::parse(t).expect(t);
        let both = parse("gpu,worker=n1|n2").and(&parse("linux,worker=n2|n3"));
        assert!(both.admits("n2", &labels("gpu linux")).is_ok());
        assert!(both.admits("n1", &labels("gpu linux")).is_err());
        assert!(both.admits("n2", &labels("gpu")).is_err());
        let nobody = parse("worker=n1").and(&parse("worker=n2"));
        assert!(nobody.admits("n1", &[]).is_err() && nobody.admits("n2", &[]).is_err());
        assert_eq!(parse("gpu").and(&parse("")), parse("gpu"));
    }

    #[test]
    fn refused() {
        for (text, sentence) in [
            (
                "gpu,,linux",
                r#"the requirement "gpu,,linux" has an empty part (write LABEL, LABEL|LABEL or worker=NAME, separated by commas)"#,
            ),
            (
                "worker=",
                r#"the requirement "worker=" has an empty part (write LABEL, LABEL|LABEL or worker=NAME, separated by commas)"#,
            ),
            (
                "gpu,!",
                r#"the requirement "gpu,!" has an empty part (write LABEL, LABEL|LABEL or worker=NAME, separated by commas)"#,
            ),
            (
                "not gpu",
                r#"the requirement "not gpu" contains ' ' (labels are made of letters, digits and _ . - + : / = < >)"#,
            ),
            (
                "worker=a,worker=b",
                "the requirement names workers twice, so that no worker could fit (write worker=NAME|NAME)",
            ),
        ] {
            assert_eq!(Requires::parse(text).expect_err(text).to_string(), sentence);
        }
    }

    #[test]
    fn stored_as_text() {
        let requires = Requires::parse("gpu,worker=n1").expect("good");
        let json = serde_json::to_string(&requires).expect("json");
        assert_eq!(json, r#""gpu,worker=n1""#);
        assert_eq!(serde_json::from_str::<Requires>(&json).expect("back"), requires);
    }
}
