//! A real OpenID provider for the tests (django-oauth-toolkit from PyPI, in an environment of its own below the target
//! folder), and lints of builds without OpenID Connect.

use crate::{cargo, python, step};
use anyhow::Result;
use std::path::Path;

const PACKAGE: &str = "django-oauth-toolkit";

/// Makes the provider's Python where it is missing.
pub(crate) fn provider(root: &Path) -> Result<()> {
    python::environment(root, "openid-provider", "import oauth2_provider", PACKAGE)
}

/// The feature is on unless somebody turns it off.
pub(crate) fn lints_without(root: &Path) -> Result<()> {
    let lints = ["clippy", "-p", "stead", "-p", "supervisor", "--no-default-features"];
    step(
        "lints without OpenID Connect",
        cargo(root).args(lints).args(["--all-targets", "--locked", "--", "-D", "warnings"]),
    )
}
