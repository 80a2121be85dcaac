//! What a command answered, with the assertions that name it when they fail.

use serde_json::Value;
use std::fmt;
use std::process::Output;

#[derive(Clone)]
pub struct Answer {
    command: String,
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Answer {
    /// What a command that the test ran itself gave.
    #[must_use]
    pub fn new(command: String, output: Output) -> Self {
        Self { command, code: output.status.code(), stdout: output.stdout, stderr: output.stderr }
    }

    /// The same answer, once it is a success.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The same answer, once it ended with this exit code.
    #[track_caller]
    #[must_use]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The same answer, once it says one of these (case does not matter) to the person who asked.
    #[track_caller]
    #[must_use]
    pub fn complains(self, about: &[&str]) -> Self {
        let text = self.err().to_lowercase();
        assert!(about.iter().any(|a| text.contains(&a.to_lowercase())), "expected one of {about:?} in {self:?}");
        assert!(!text.contains("panicked at"), "{self:?}");
        self
    }

    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(value) => value,
            Err(e) => panic!("not JSON ({e}): {self:?}"),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "`{}` ended with {:?}", self.command, self.code)?;
        writeln!(f, "--- stdout\n{}", clipped(&self.out()))?;
        write!(f, "--- stderr\n{}", clipped(&self.err()))
    }
}

fn clipped(text: &str) -> String {
    const MAX: usize = 4000;
    if text.len() <= MAX {
        text.to_owned()
    } else {
        format!("{}… ({} bytes)", text.chars().take(MAX).collect::<String>(), text.len())
    }
}
