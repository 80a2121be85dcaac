//! What this side shows a supervisor: a token that the environment names, or the session that `stead login` kept.
//!
//! Secrets are never in arguments, and go over plain HTTP to this machine only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// More than any token has.
const TOKEN_MAX: u64 = 4096;

/// A session that was kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) token: String,
    pub(crate) login_user: String,
    pub(crate) expires_at: String,
}

/// A secret to show; never printed.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// As the header says it.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

/// The token that the environment names: the one in a file, or the one in a variable.
pub(crate) fn of_environment() -> Result<Option<Secret>, Failure> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    named(var("STEAD_TOKEN_FILE").map(PathBuf::from), var("STEAD_TOKEN").map(|t| t.to_string_lossy().into_owned()))
}

fn named(file: Option<PathBuf>, token: Option<String>) -> Result<Option<Secret>, Failure> {
    match (file, token) {
        (Some(_), Some(_)) => Err(Failure::Usage {
            text: "STEAD_TOKEN_FILE and STEAD_TOKEN are both set".into(),
            hint: Some("unset one: it must be clear who asks".into()),
        }),
        (None, None) => Ok(None),
        (None, Some(token)) => Ok(Some(Secret::new(token.trim().into()))),
        (Some(path), None) => {
            let fail = |e| Failure::file("read the token in", &path, e);
            let mut text = String::new();
            File::open(&path).and_then(|f| f.take(TOKEN_MAX).read_to_string(&mut text)).map_err(fail)?;
            Ok(Some(Secret::new(text.trim().into())))
        }
    }
}

/// Whether `HOST:PORT` is this machine, so that nobody listens in between.
fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Refuses to send a secret where it could be read on the way.
pub(crate) fn may_go_to(host: &str, what: &str) -> Result<(), Failure> {
    if is_this_machine(host) {
        return Ok(());
    }
    Err(Failure::Refused {
        rule: "plain_http",
        text: format!("{what} is not sent to http://{host}: it could be read on the way"),
        hint: "use a tunnel (ssh -L 7878:127.0.0.1:7878 HOST) and the address http://127.0.0.1:7878".into(),
    })
}

/// `stead login`'s sessions, by address, in a file of the person's own.
#[derive(Debug)]
pub(crate) struct Keeper {
    path: PathBuf,
}

type All = BTreeMap<String, Kept>;

impl Keeper {
    pub(crate) fn of_person() -> Result<Self, Failure> {
        let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        let config =
            config.ok_or_else(|| Failure::usage("neither XDG_CONFIG_HOME nor HOME says where sessions are kept"))?;
        Ok(Self::at(&config.join("stead")))
    }

    fn at(dir: &Path) -> Self {
        Self { path: dir.join("credentials") }
    }

    pub(crate) fn get(&self, url: &str) -> Result<Option<Kept>, Failure> {
        Ok(self.read()?.remove(url))
    }

    pub(crate) fn keep(&self, url: &str, kept: Kept) -> Result<(), Failure> {
        let mut all = self.read()?;
        all.insert(url.into(), kept);
        self.write(&all)
    }

    pub(crate) fn forget(&self, url: &str) -> Result<(), Failure> {
        let mut all = self.read()?;
        if all.remove(url).is_some() { self.write(&all) } else { Ok(()) }
    }

    fn read(&self) -> Result<All, Failure> {
        let fail = |e| Failure::file("read", &self.path, e);
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(All::new()),
            Err(e) => return Err(fail(e)),
        };
        let meta = file.metadata().map_err(fail)?;
        if meta.mode() & 0o077 != 0 || meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(Failure::Refused {
                rule: "credentials_private",
                text: format!(
                    "{} belongs to uid {} and has mode {:o}: others may know what is in it",
                    self.path.display(),
                    meta.uid(),
                    meta.mode() & 0o7777
                ),
                hint: "remove it, sign in again, and end the sessions you don't know: stead sessions list".into(),
            });
        }
        serde_json::from_reader(std::io::BufReader::new(file)).map_err(|e| Failure::Input {
            file: self.path.display().to_string(),
            text: format!("is not what `stead login` wrote (line {}): remove it and sign in again", e.line()),
        })
    }

    /// Whole or not at all.
    fn write(&self, all: &All) -> Result<(), Failure> {
        let fail = |e| Failure::file("write", &self.path, e);
        if let Some(dir) = self.path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
        }
        let fresh = self.path.with_extension(format!("new{}", std::process::id()));
        let text = serde_json::to_vec_pretty(all).map_err(|e| fail(e.into()))?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh).map_err(fail)?;
        let done =
            file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&fresh, &self.path));
        if done.is_err() {
            // What is left of it is of no use.
            let _ = std::fs::remove_file(&fresh);
        }
        done.map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn kept(token: &str) -> Kept {
        Kept { token: token.into(), login_user: "ada".into(), expires_at: "2026-11-30T18:00:00Z".into() }
    }

    #[test]
    fn sessions_are_kept_by_address_and_for_oneself() {
        let dir = tempfile::tempdir().expect("dir");
        let keeper = Keeper::at(&dir.path().join("new/stead"));
        let token = |url: &str| keeper.get(url).expect("read").map(|k| k.token);
        assert_eq!(token("http://a:1"), None);
        keeper.keep("http://a:1", kept("one")).expect("kept");
        keeper.keep("http://b:1", kept("two")).expect("kept");
        keeper.keep("http://a:1", kept("three")).expect("kept");
        assert_eq!((token("http://a:1").as_deref(), token("http://b:1").as_deref()), (Some("three"), Some("two")));
        let mode = std::fs::metadata(&keeper.path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        keeper.forget("http://a:1").expect("forgotten");
        assert_eq!((token("http://a:1"), token("http://b:1").as_deref()), (None, Some("two")));
        assert_eq!(std::fs::read_dir(dir.path().join("new/stead")).expect("folder").count(), 1, "nothing is left over");
        std::fs::set_permissions(&keeper.path, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        let failure = keeper.get("http://b:1").err().expect("refused");
        assert!(failure.sentence().to_string().contains("credentials_private"), "{}", failure.sentence());
    }

    #[test]
    fn what_the_environment_names_is_one_token() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("token");
        std::fs::write(&path, "stead_t_1\n").expect("write");
        let bearer = |file: Option<&Path>, token: Option<&str>| {
            named(file.map(Path::to_owned), token.map(Into::into)).map(|s| s.map(|s| s.bearer()))
        };
        assert_eq!(bearer(Some(&path), None).expect("read").as_deref(), Some("Bearer stead_t_1"));
        assert_eq!(bearer(None, Some("stead_t_2")).expect("read").as_deref(), Some("Bearer stead_t_2"));
        assert_eq!(bearer(None, None).expect("none"), None);
        assert_eq!(bearer(Some(&path), Some("stead_t_2")).expect_err("both").exit(), 2);
        bearer(Some(&dir.path().join("absent")), None).expect_err("a token that isn't there is not nobody");
        assert_eq!(format!("{:?}", Secret::new("stead_t_1".into())), "Secret");
    }

    #[test]
    fn secrets_stay_on_this_machine() {
        for host in ["127.0.0.1:7878", "localhost:7878", "[::1]:7878", "127.8.8.8:1"] {
            assert!(is_this_machine(host), "{host}");
        }
        let elsewhere =
            ["farm:7878", "10.0.0.1:7878", "localhost.evil.example:1", "127.0.0.1.evil.example:1", "[::2]:1"];
        for host in elsewhere {
            assert_eq!(may_go_to(host, "a password").map_err(|f| f.exit()), Err(3), "{host}");
        }
    }
}
