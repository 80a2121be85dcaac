//! Real directories of people on a stage: the host's own files, OpenLDAP, a Samba domain.
//!
//! Each sets the stage's name service and `/etc/pam.d/stead` up as an administrator would, and nothing is faked: the
//! servers run on the stage's own loopback and end with it. Their programs come from packages that `cargo xtask
//! servers` unpacks below the target folder; see [`servers_or_skip`].

mod ad;
mod ldap;
mod local;
mod pam;

pub use ad::Ad;
pub use ldap::Ldap;
pub use local::Local;
pub use pam::Verdict;

use crate::stage::Door;
use crate::{in_ci, root_or_skip, say};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Making a domain is ten seconds of work on an idle machine, and tests seldom have one.
const SERVERS_PATIENCE: Duration = Duration::from_secs(240);

/// Everybody's password.
pub const PASSWORD: &str = "Right-1!pw";

/// What tests ask of every kind.
pub trait Directory {
    /// Somebody who may sign in.
    fn somebody(&self) -> &'static str;
    /// Somebody else.
    fn another(&self) -> &'static str;
    /// What the farm's checker says of a name and a password.
    fn ask(&self, name: &str, password: &str) -> Verdict;
    /// Keeps an account from signing in, as an administrator does.
    fn lock(&self, name: &str);
    fn unlock(&self, name: &str);
    /// Lets an account's time be over.
    fn expire(&self, name: &str);
    /// Asks for a new password at the next sign-in.
    fn must_change(&self, name: &str);
}

/// Whether a test with directory servers can run; where CI says that nothing may be skipped, it fails instead.
#[must_use]
pub fn servers_or_skip() -> bool {
    if !root_or_skip() {
        return false;
    }
    if unpacked().is_some() {
        return true;
    }
    assert!(!in_ci(), "this test needs the directory servers of `cargo xtask servers`, and CI may not skip it");
    say("SKIPPED (needs the directory servers: run `cargo xtask servers`)");
    false
}

/// `target/debug/deps/TEST` → `target/directory-servers`, once it is complete.
pub(crate) fn unpacked() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let dir = test.ancestors().nth(3)?.join("directory-servers");
    dir.join("plan").is_file().then_some(dir)
}

/// Runs a shell script on the stage; it must succeed. Its output is in what is said when it does not.
#[track_caller]
fn script(door: &Door, text: &str, args: &[&str]) -> String {
    let mut command = door.command("sh");
    let output = command.args(["-euc", text, "sh"]).args(args).output().expect("a shell on the stage");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Whether a shell script succeeds on the stage.
fn succeeds(door: &Door, text: &str) -> bool {
    let mut command = door.command("sh");
    command.args(["-c", text]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

#[track_caller]
fn write(door: &Door, path: &str, text: &str) {
    let path = door.path(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of a file");
    // What is there may be a link, which would lead to a file of the host.
    drop(std::fs::remove_file(&path));
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// A program that runs on the stage until it is stopped, with what it says in a file there.
#[derive(Debug)]
struct Daemon {
    door: Door,
    /// Enters the stage and waits for the program.
    child: Child,
    name: &'static str,
}

impl Daemon {
    fn start(door: &Door, name: &'static str, mut command: Command) -> Self {
        let log = door.path(format!("/mnt/{name}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log on the stage");
        let out = log.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn().expect("it starts");
        Self { door: door.clone(), child, name }
    }

    /// The end of what it said so far.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.door.path(format!("/mnt/{}.log", self.name))).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        format!("{}:\n{}", self.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// What it said, once it has ended by itself.
    fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("its status")?;
        Some(format!("ended: {status}: {}", self.log()))
    }

    /// Waits until this script succeeds.
    #[track_caller]
    fn until(&mut self, script: &str) {
        // Asking costs programs, which the one that is asked needs the processor for.
        let mut pause = Duration::from_millis(20);
        let ready = crate::within_or(SERVERS_PATIENCE, || {
            if let Some(end) = self.ended() {
                panic!("{end}");
            }
            let ready = succeeds(&self.door, script);
            if !ready {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(500));
            }
            ready.then_some(())
        });
        assert!(ready.is_some(), "not within {SERVERS_PATIENCE:?}: {script}\n{}", self.log());
    }

    fn signal(&self, signal: crate::Signal) {
        let pid = self.child.id();
        let below = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for pid in below.split_whitespace().filter_map(|p| p.parse().ok()) {
            crate::signal(pid, signal);
        }
    }

    /// Ends it as its administrator does, and waits for the end.
    fn stop(mut self) {
        self.signal(crate::Signal::SIGTERM);
        crate::until(&format!("the end of {}", self.name), || self.child.try_wait().expect("its status"));
    }
}

impl Drop for Daemon {
    /// The program itself ends with its stage.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A command with this on its standard input.
pub(crate) fn fed(mut command: Command, text: &str) -> std::process::Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // One that ends without reading says why.
    drop(child.stdin.take().expect("its standard input").write_all(text.as_bytes()));
    child.wait_with_output().expect("its end")
}
