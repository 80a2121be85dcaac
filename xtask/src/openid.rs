//! What only builds with the feature `oidc` have: its lints and tests, with a real OpenID provider (django-oauth-toolkit
//! from PyPI, in an environment of its own below the target folder).

use crate::{cargo, step};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "django-oauth-toolkit";

pub(crate) fn tests(root: &Path) -> Result<()> {
    let python = provider(root)?;
    let lints = ["clippy", "-p", "stead", "-p", "supervisor", "--features", "stead/oidc,supervisor/oidc"];
    step(
        "lints of OpenID Connect",
        cargo(root).args(lints).args(["--all-targets", "--locked", "--", "-D", "warnings"]),
    )?;
    let mut tests = cargo(root);
    tests.args(["test", "-p", "supervisor", "--features", "oidc", "--lib", "--locked", "--", "--include-ignored"]);
    step("tests with OpenID Connect", tests.env("STEAD_OPENID_PYTHON", python))
}

/// The provider's Python; made where it is missing.
fn provider(root: &Path) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |t| root.join(t));
    let folder = target.join("openid-provider");
    let python = folder.join("bin/python");
    let has_it = |python: &Path| Command::new(python).args(["-c", "import oauth2_provider"]).status();
    if has_it(&python).is_ok_and(|status| status.success()) {
        return Ok(python);
    }
    match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("failed to remove {}", folder.display()));
        }
        _ => {}
    }
    step("an environment for the OpenID provider", Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    step("the OpenID provider", Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
    Ok(python)
}
