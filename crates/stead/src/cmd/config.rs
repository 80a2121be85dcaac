//! `config check`: reads a configuration file as the service would, and says what is wrong with it.

use std::path::Path;

use serde_json::json;

use crate::cli::ConfigCheck;
use crate::failure::Failure;
use crate::farm::Programs;
use crate::out;
use crate::services::WorkerFile;

pub(crate) fn check(options: &ConfigCheck) -> Result<(), Failure> {
    let file = options.file.as_path();
    let kind = read(file)?;
    if options.json {
        out::json(&json!({"file": file, "kind": kind, "ok": true}));
    } else {
        out::say(format!("{}: fine, as a {kind}", file.display()));
    }
    Ok(())
}

/// Reads a file as its service would; returns what kind it is.
pub(super) fn read(file: &Path) -> Result<&'static str, Failure> {
    let kind = kind(file)?;
    match kind {
        "supervisor.toml" => {
            supervisor::Settings::load(Some(file)).map_err(|e| Failure::usage(e.to_string()))?;
        }
        "worker.toml" => {
            WorkerFile::load(file)?;
        }
        // The launcher's own parser, in the launcher's own program.
        _ => launcher_conf(file)?,
    }
    Ok(kind)
}

fn kind(file: &Path) -> Result<&'static str, Failure> {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or("");
    ["supervisor.toml", "worker.toml", "launcher.conf"].into_iter().find(|k| name.ends_with(k)).ok_or_else(|| {
        Failure::Usage {
            text: format!("{}: what kind of file this is, its name must say", file.display()),
            hint: Some("name it supervisor.toml, worker.toml or launcher.conf".into()),
        }
    })
}

fn launcher_conf(file: &Path) -> Result<(), Failure> {
    let launcher = Programs::beside_this_one()?.launcher;
    let answer = std::process::Command::new(&launcher)
        .arg("--check-conf")
        .arg(file)
        .output()
        .map_err(|e| Failure::file("start", &launcher, e))?;
    if answer.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.stderr).trim().trim_start_matches("stead-launcher: ").to_owned();
    Err(Failure::Usage { text, hint: None })
}
