//! The stage's own files: /etc/passwd and /etc/shadow.

use super::{Directory, PASSWORD, Verdict, fed, pam, script};
use crate::Stage;
use crate::stage::Door;

#[derive(Debug)]
pub struct Local {
    door: Door,
}

impl Local {
    /// Gives `ada` and `bob` a password, and asks the files for it.
    #[track_caller]
    #[must_use]
    pub fn start(stage: &Stage) -> Self {
        let door = stage.door();
        // Without the pause that pam_unix makes after a wrong password.
        pam::configure(&door, "pam_unix.so nodelay", "pam_unix.so");
        let output = fed(door.command("chpasswd"), &format!("ada:{PASSWORD}\nbob:{PASSWORD}\n"));
        assert!(output.status.success(), "{output:?}");
        Self { door }
    }
}

impl Directory for Local {
    fn somebody(&self) -> &'static str {
        "ada"
    }

    fn ask(&self, name: &str, password: &str) -> Verdict {
        pam::ask(&self.door, name, password)
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
}
