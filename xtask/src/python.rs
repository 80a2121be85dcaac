//! Python programs for the tests, from PyPI, each in an environment of its own below the target folder.

use crate::step;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;

/// Linkis's own client, unmodified, in the release that the tests are about.
const LINKIS_CLIENT: &str = "linkis-python-sdk==0.2.0";

pub(crate) fn linkis_client(root: &Path) -> Result<()> {
    environment(root, "linkis-client", "import linkis_python_sdk", LINKIS_CLIENT)
}

/// Makes an environment with a package where there is none in which the probe runs.
pub(crate) fn environment(root: &Path, name: &str, probe: &str, package: &str) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |t| root.join(t));
    let folder = target.join(name);
    let python = folder.join("bin/python");
    if Command::new(&python).args(["-c", probe]).status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("failed to remove {}", folder.display()));
        }
        _ => {}
    }
    step(&format!("an environment for {package}"), Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    step(package, Command::new(&python).args(["-m", "pip", "install", "--quiet", package]))
}
