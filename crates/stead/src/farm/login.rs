//! The login session in which a farm was started: a desktop worker started at login ends with it.

use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Failure;

const LOOK: Duration = Duration::from_secs(2);

/// Signs of the login: its record at logind and, where there is none, the sockets of its screen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Login {
    session: Option<PathBuf>,
    screens: Vec<PathBuf>,
}

impl Login {
    pub(crate) fn of_process() -> Result<Self, Failure> {
        let login = Self::find(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
        if login.session.is_none() && login.screens.is_empty() {
            return Err(Failure::Usage {
                text: "--with-login: this is no login session (neither XDG_SESSION_ID nor a screen)".into(),
                hint: Some("leave --with-login out: the farm then ends with ^C or SIGTERM".into()),
            });
        }
        Ok(login)
    }

    fn find(variable: impl Fn(&str) -> Option<String>) -> Self {
        let session = variable("XDG_SESSION_ID").filter(|id| !id.contains('/'));
        let session = session.map(|id| PathBuf::from("/run/systemd/sessions").join(id)).filter(|p| p.exists());
        let wayland = variable("XDG_RUNTIME_DIR").zip(variable("WAYLAND_DISPLAY"));
        let wayland = wayland.map(|(dir, name)| PathBuf::from(dir).join(name));
        let number = variable("DISPLAY").and_then(|d| {
            let n = d.strip_prefix(':')?.split('.').next()?.to_owned();
            n.bytes().all(|b| b.is_ascii_digit()).then_some(n)
        });
        let x11 = number.map(|n| PathBuf::from(format!("/tmp/.X11-unix/X{n}")));
        Self { session, screens: wayland.into_iter().chain(x11).filter(|p| p.exists()).collect() }
    }

    /// Over when logind says so, or when every screen it had is gone.
    fn over(&self) -> bool {
        if let Some(session) = &self.session {
            return std::fs::read_to_string(session).map_or(true, |text| text.lines().any(|l| l == "STATE=closing"));
        }
        self.screens.iter().all(|screen| !screen.exists())
    }

    pub(crate) async fn ended(&self) {
        while !self.over() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_over_when_its_last_sign_is_gone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (screen, session) = (dir.path().join("wayland-0"), dir.path().join("3"));
        std::fs::write(&screen, "").expect("screen");
        let path = dir.path().to_str().expect("text").to_owned();
        let found = Login::find(|name| match name {
            "XDG_RUNTIME_DIR" => Some(path.clone()),
            "WAYLAND_DISPLAY" => Some("wayland-0".into()),
            "DISPLAY" => Some("remote:10.0".into()),
            _ => None,
        });
        assert_eq!(found, Login { session: None, screens: vec![screen.clone()] });
        assert!(!found.over());
        std::fs::remove_file(&screen).expect("gone");
        assert!(found.over());

        let login = Login { session: Some(session.clone()), screens: vec![] };
        std::fs::write(&session, "UID=1\nSTATE=active\n").expect("session");
        assert!(!login.over());
        std::fs::write(&session, "UID=1\nSTATE=closing\n").expect("session");
        assert!(login.over());
        std::fs::remove_file(&session).expect("gone");
        assert!(login.over());
    }
}
