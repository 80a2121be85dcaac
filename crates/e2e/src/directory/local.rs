//! The stage's own files: /etc/passwd and /etc/shadow.

use super::{Directory, PASSWORD, Verdict, fed, pam::Checker, script};
use crate::Stage;
use crate::stage::Door;

#[derive(Debug)]
pub struct Local {
    door: Door,
    checker: Checker,
}

impl Local {
    /// Gives `ada` and `bob` a password, and asks the files for it.
    #[track_caller]
    #[must_use]
    pub fn start(stage: &Stage) -> Self {
        let door = stage.door();
        let output = fed(door.command("chpasswd"), &format!("ada:{PASSWORD}\nbob:{PASSWORD}\n"));
        assert!(output.status.success(), "{output:?}");
        let checker = Checker::start(&door, "pam_unix.so", "pam_unix.so");
        Self { door, checker }
    }
}

impl Directory for Local {
    fn somebody(&self) -> &'static str {
        "ada"
    }

    fn another(&self) -> &'static str {
        "bob"
    }

    fn ask(&self, name: &str, password: &str) -> Verdict {
        self.checker.ask(name, password)
    }

    #[track_caller]
    fn lock(&self, name: &str) {
        script(&self.door, r#"usermod --lock "$1""#, &[name]);
    }

    #[track_caller]
    fn unlock(&self, name: &str) {
        script(&self.door, r#"usermod --unlock "$1""#, &[name]);
    }

    #[track_caller]
    fn expire(&self, name: &str) {
        script(&self.door, r#"usermod --expiredate 2001-01-01 "$1""#, &[name]);
    }

    #[track_caller]
    fn must_change(&self, name: &str) {
        script(&self.door, r#"chage --lastday 0 "$1""#, &[name]);
    }
}
