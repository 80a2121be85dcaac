//! The end-to-end tests' harness: a whole farm, started from the programs that people start, on real accounts.
//!
//! As root a farm lives in mount and PID namespaces of its own ([`Stage`]): its accounts exist only there, its data
//! is on a tmpfs that goes with it, and so does every process. Nothing on the host changes. Without root a farm is
//! the desktop farm of whoever runs the tests.
//!
//! Nothing here knows the product's libraries: it types what people type and reads what they read.

#![forbid(unsafe_code)]

mod answer;
mod browser;
mod directory;
mod farm;
mod processes;
mod stage;

pub use answer::Answer;
pub use browser::{Browser, ENTER, ESCAPE, TAB};
pub use directory::{Ad, Directory, Ldap, Local, PASSWORD, Verdict, servers_or_skip};
pub use farm::{Builder, Farm, JobId, state};
pub use nix::sys::signal::Signal;
pub use processes::{Process, Role, Tree, lives, signal};
pub use stage::{Account, Stage, accounts};

use std::time::{Duration, Instant};

/// How long anything that must happen may take before the test says that it did not. Far more than it needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a test that needs root can run. Where CI says that nothing may be skipped, it fails instead of skipping.
#[must_use]
pub fn root_or_skip() -> bool {
    if is_root() {
        return true;
    }
    assert!(!in_ci(), "this test needs root, and CI may not skip it");
    say("SKIPPED (needs root)");
    false
}

/// The Python of `cargo xtask servers` that has an OpenID provider; where CI says that nothing may be skipped, there is
/// one or the test fails.
#[must_use]
pub fn openid_python() -> Option<std::path::PathBuf> {
    python_of("openid-provider", "an OpenID provider")
}

/// The Python of `cargo xtask servers` that has Linkis's own client; as [`openid_python`].
#[must_use]
pub fn linkis_python() -> Option<std::path::PathBuf> {
    python_of("linkis-client", "Linkis's client")
}

fn python_of(folder: &str, what: &str) -> Option<std::path::PathBuf> {
    let test = std::env::current_exe().ok()?;
    let python = test.ancestors().nth(3)?.join(folder).join("bin/python");
    if python.is_file() {
        return Some(python);
    }
    assert!(!in_ci(), "this test needs {what} of `cargo xtask servers`, and CI may not skip it");
    say(&format!("SKIPPED (needs {what}: run `cargo xtask servers`)"));
    None
}

/// Whether a test that needs these programs can run; as [`root_or_skip`].
#[must_use]
pub fn programs_or_skip(programs: &[&str]) -> bool {
    let missing: Vec<&str> = programs.iter().copied().filter(|p| !has_program(p)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(!in_ci(), "this test needs {missing:?}, and CI may not skip it");
    say(&format!("SKIPPED (needs {})", missing.join(", ")));
    false
}

#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// How often a test with chance in it throws the dice. `STEAD_E2E_ROUNDS` makes it more.
#[must_use]
pub fn rounds(usual: u32) -> u32 {
    std::env::var("STEAD_E2E_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Asks until there is an answer, or fails with what was asked for.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, &mut ask)
}

/// As [`until`], with its own patience.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    within_or(patience, &mut ask).unwrap_or_else(|| panic!("not within {patience:?}: {what}"))
}

/// As [`within`], for a caller that knows better what to say.
pub fn within_or<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        let answer = ask();
        if answer.is_some() || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a command answers when this is typed to it.
#[track_caller]
#[must_use]
pub fn typed(command: std::process::Command, text: &str) -> Answer {
    let asked = format!("{command:?}");
    Answer::new(asked, directory::fed(command, text))
}

pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true")
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/games".into()]).any(|d| d.join(name).is_file())
}

#[expect(clippy::print_stderr, reason = "tests speak to the person who runs them")]
pub fn say(text: &str) {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    eprintln!("{name}: {text}");
}
