//! Which command runs which kind of code, and what labels say of whose it is.

use crate::Format;
use std::collections::BTreeMap;

/// What makes a shell take its code from an argument.
pub const SHELL_FLAG: &str = "-c";

/// The command that code of a type is given to, as its last argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunType {
    pub command: Vec<String>,
    pub format: Format,
}

impl RunType {
    /// The command of a job that runs this code.
    #[must_use]
    pub fn argv(&self, code: &str) -> Vec<String> {
        self.command.iter().cloned().chain([code.to_owned()]).collect()
    }
}

/// By its word: `shell`, `python`, and what the farm's settings name, such as `sql`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTypes(BTreeMap<String, RunType>);

impl Default for RunTypes {
    fn default() -> Self {
        let lines =
            |command: [&str; 2]| RunType { command: command.map(str::to_owned).to_vec(), format: Format::Lines };
        let table = [("shell", lines(["/bin/sh", SHELL_FLAG])), ("python", lines(["python3", SHELL_FLAG]))];
        Self(table.into_iter().map(|(word, run)| (word.to_owned(), run)).collect())
    }
}

impl RunTypes {
    /// These besides the usual ones, or instead of them.
    #[must_use]
    pub fn with(mut self, more: impl IntoIterator<Item = (String, RunType)>) -> Self {
        self.0.extend(more);
        self
    }

    pub fn get(&self, word: &str) -> Result<&RunType, String> {
        self.0.get(word).ok_or_else(|| {
            let known = self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!(
                "there is no command for the runType {word:?} (there are: {known}; [linkis.run] of supervisor.toml names \
                 more, such as sql = {{ command = [\"sqlite3\", \"-csv\", \"-header\", \"FILE\"], result = \"csv\" }})"
            )
        })
    }
}

/// Why a label was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("the label userCreator is {0:?}, and not like alice-IDE")]
    Form(String),
    #[error("the label userCreator names {named:?}, but {login} submits, as {user}")]
    OtherUser { named: String, login: String, user: String },
}

/// The creator in a label `alice-IDE`, where that is whoever submits, or as whom. Nobody becomes anybody by it.
pub fn label_of(label: &str, login: &str, user: &str) -> Result<String, LabelError> {
    let form = || LabelError::Form(label.chars().take(100).collect());
    let (named, creator) = label.rsplit_once('-').ok_or_else(form)?;
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    if creator.is_empty() || creator.len() > 64 || creator.starts_with('.') || !creator.bytes().all(is_word) {
        return Err(form());
    }
    if [login, user].iter().any(|one| one.eq_ignore_ascii_case(named)) {
        return Ok(creator.to_owned());
    }
    let named = named.chars().take(100).collect();
    Err(LabelError::OtherUser { named, login: login.to_owned(), user: user.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_one_argument_whatever_is_in_it() {
        let types = RunTypes::default();
        let code = "echo '{frame}' \"$HOME\"; rm -rf /\n";
        assert_eq!(types.get("shell").map(|run| run.argv(code)), Ok(vec!["/bin/sh".into(), "-c".into(), code.into()]));
        let sql = RunType { command: vec!["sqlite3".into(), "-csv".into(), "x.db".into()], format: Format::Csv };
        let types = types.with([("sql".to_owned(), sql)]);
        assert_eq!(types.get("sql").map(|run| run.argv("select 1").len()), Ok(4));
        let refused = types.get("hql").expect_err("refused");
        assert!(refused.contains("\"hql\"") && refused.contains("python, shell, sql"), "{refused}");
    }

    #[test]
    fn a_label_names_who_is_there_or_is_refused() {
        for label in ["ada-IDE", "ADA-IDE", "render-IDE"] {
            assert_eq!(label_of(label, "ada", "render"), Ok("IDE".to_owned()), "{label}");
        }
        assert_eq!(label_of("ada-b-nodeexecution", "ada-b", "ada-b"), Ok("nodeexecution".to_owned()));
        for label in ["bob-IDE", "-IDE", "ad-IDE", "ada render-IDE"] {
            let refused = label_of(label, "ada", "render");
            assert!(matches!(refused, Err(LabelError::OtherUser { .. })), "{label}: {refused:?}");
        }
        for label in ["", "ada", "ada-", "ada-../x", "ada-a/b", "ada-..", "ada-ide ide"] {
            assert!(matches!(label_of(label, "ada", "ada"), Err(LabelError::Form(_))), "{label}");
        }
    }
}
