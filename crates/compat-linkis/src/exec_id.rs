//! The long number of a running task: `exec_id` + two lengths + application + instances + the task's own part.

/// What calls itself so in Linkis: the service that takes tasks.
pub const APP: &str = "linkis-cg-entrance";
const PREFIX: &str = "exec_id";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecId {
    pub instance: String,
    pub creator: String,
    pub user: String,
    pub run_type: String,
    pub task: u64,
}

impl ExecId {
    #[must_use]
    pub fn encode(&self) -> String {
        let Self { instance, creator, user, run_type, task } = self;
        let (app, instance) = (APP, cut(instance));
        let (a, i) = (app.len(), instance.len());
        format!("{PREFIX}{a:03}{i:03}{app}{instance}{creator}_{user}_{run_type}_{task}")
    }
}

/// The length has three digits.
fn cut(instance: &str) -> &str {
    let end = (0..=instance.len().min(999)).rev().find(|n| instance.is_char_boundary(*n)).unwrap_or(0);
    &instance[..end]
}

/// The task that a path means: a number, or the long form.
#[must_use]
pub fn task_number(id: &str) -> Option<u64> {
    match id.strip_prefix(PREFIX) {
        None => number(id),
        Some(rest) => {
            let app: usize = rest.get(..3)?.parse().ok()?;
            let instances: usize = rest.get(3..6)?.parse().ok()?;
            let own = rest.get(6 + app + instances..)?;
            number(own.rsplit_once('_')?.1)
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let id = ExecId {
            instance: "127.0.0.1:9104".to_owned(),
            creator: "IDE".to_owned(),
            user: "alice_x".to_owned(),
            run_type: "shell".to_owned(),
            task: 42,
        };
        let text = id.encode();
        assert_eq!(text, "exec_id018014linkis-cg-entrance127.0.0.1:9104IDE_alice_x_shell_42");
        assert_eq!(task_number(&text), Some(42));
        assert_eq!(task_number("42"), Some(42));
        let long = ExecId { instance: "é".repeat(600), ..id };
        assert_eq!(task_number(&long.encode()), Some(42));
    }

    #[test]
    fn what_is_no_number_is_no_task() {
        for bad in [
            "",
            "0",
            "042",
            "+4",
            "-4",
            "4 ",
            "x",
            "exec_id",
            "exec_id018",
            "exec_id999999x_4",
            "exec_id000000",
            "exec_id000000a_",
            "exec_id000000a_-4",
            "exec_idé00000a_4",
            "18446744073709551616",
        ] {
            assert_eq!(task_number(bad), None, "{bad:?}");
        }
    }
}
