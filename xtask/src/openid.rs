//! A real OpenID provider for the tests (django-oauth-toolkit from PyPI, in an environment of its own below the target
//! folder), and lints of builds without OpenID Connect.

use crate::{cargo, step};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;

const PACKAGE: &str = "django-oauth-toolkit";

/// Makes the provider's Python where it is missing.
pub(crate) fn provider(root: &Path) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |t| root.join(t));
    let folder = target.join("openid-provider");
    let python = folder.join("bin/python");
    let has_it = |python: &Path| Command::new(python).args(["-c", "import oauth2_provider"]).status();
    if has_it(&python).is_ok_and(|status| status.success()) {
        return Ok(());
    }
    match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("failed to remove {}", folder.display()));
        }
        _ => {}
    }
    step("an environment for the OpenID provider", Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    step("the OpenID provider", Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]))
}

/// The feature is on unless somebody turns it off.
pub(crate) fn lints_without(root: &Path) -> Result<()> {
    let lints = ["clippy", "-p", "stead", "-p", "supervisor", "--no-default-features"];
    step(
        "lints without OpenID Connect",
        cargo(root).args(lints).args(["--all-targets", "--locked", "--", "-D", "warnings"]),
    )
}
