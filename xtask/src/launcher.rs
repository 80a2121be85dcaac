//! Two promises about the program that holds root: what it is made of, and where it looks for libraries.

use crate::{cargo, step};
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A new dependency of the launcher is a decision: it shows as a change of the committed list.
pub(crate) fn check_tree(root: &Path) -> Result<()> {
    println!("\n== launcher's dependencies");
    let file = list_path(root);
    let committed = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let committed: BTreeSet<String> = committed.lines().map(str::to_owned).collect();
    let actual = tree(root)?;
    for added in actual.difference(&committed) {
        println!("+ {added}");
    }
    for removed in committed.difference(&actual) {
        println!("- {removed}");
    }
    if actual != committed {
        bail!("the launcher's dependencies changed; if that is meant, run `cargo xtask deps` and commit the list");
    }
    println!("== launcher's dependencies: {} crates, as committed", actual.len());
    Ok(())
}

pub(crate) fn write_tree(root: &Path) -> Result<()> {
    let lines: Vec<String> = tree(root)?.into_iter().collect();
    let file = list_path(root);
    std::fs::write(&file, lines.join("\n") + "\n").with_context(|| format!("failed to write {}", file.display()))
}

fn list_path(root: &Path) -> PathBuf {
    root.join("crates/launcher/deps.txt")
}

/// `name vVERSION` of everything that is linked into the launcher or builds it.
fn tree(root: &Path) -> Result<BTreeSet<String>> {
    let mut command = cargo(root);
    command.args(["tree", "--locked", "--package", "stead-launcher", "--edges", "normal,build", "--prefix", "none"]);
    command.args(["--target", "x86_64-unknown-linux-gnu"]);
    let output = command.output().context("failed to start cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let words = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(words).filter(|l| !l.is_empty()).collect())
}

/// A run path in a program that root starts lets whoever owns that path give it libraries (CVE-2023-26031).
pub(crate) fn check_search_path(root: &Path) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = target.join("debug/stead-launcher");
    let output = match Command::new("readelf").arg("--dynamic").arg(&program).output() {
        Ok(output) => output,
        Err(e) => {
            println!("xtask: readelf can't be started ({e}): the launcher's library search path is not checked");
            return Ok(());
        }
    };
    if !output.status.success() {
        return step("launcher's library search path", Command::new("readelf").arg("--dynamic").arg(&program));
    }
    let dynamic = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = dynamic.lines().find(|l| l.contains("(RPATH)") || l.contains("(RUNPATH)")) {
        bail!("{} has a library search path of its own: {}", program.display(), line.trim());
    }
    println!("== launcher's library search path: none of its own");
    Ok(())
}
