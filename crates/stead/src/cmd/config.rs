//! `config check`, `show` and `reload`: what is wrong with configuration files, what comes of them, and that the farm goes
//! by them.

use std::path::Path;

use compat_qube::{Effective, Findings, Platform, QbConf, QbWrk, Setting, WorkerSettings};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{Common, ConfigCheck, ConfigKind, ConfigShow, PlatformArg};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::farm::Programs;
use crate::model;
use crate::out::{self, Colour, Target};
use crate::services::WorkerFile;

pub(crate) fn check(options: &ConfigCheck) -> Result<(), Failure> {
    let file = options.file.as_path();
    let kind = options.kind.map_or_else(|| kind(file), Ok)?;
    match kind {
        ConfigKind::QbWrk => {
            let wrk = qbwrk(file)?;
            of_qube(options, kind, wrk.findings(), &wrk.unused(), &|| wrk.expanded())
        }
        ConfigKind::Qb => {
            let conf = qb(file)?;
            of_qube(options, kind, conf.findings(), &conf.unused(), &|| conf.expanded())
        }
        _ if options.expand => {
            Err(Failure::usage("--expand is for qb.conf and qbwrk.conf: other files have nothing to expand"))
        }
        kind => {
            check_own(file, kind)?;
            fine(options, kind);
            Ok(())
        }
    }
}

fn fine(options: &ConfigCheck, kind: ConfigKind) {
    if options.json {
        out::json(&json!({"file": options.file, "kind": word(kind), "ok": true}));
    } else {
        out::say(format!("{}: fine, as a {}", options.file.display(), word(kind)));
    }
}

/// Reads a file of Stead's own as its service would; returns what kind it is.
pub(super) fn read(file: &Path) -> Result<&'static str, Failure> {
    let kind = kind(file)?;
    check_own(file, kind)?;
    Ok(word(kind))
}

fn check_own(file: &Path, kind: ConfigKind) -> Result<(), Failure> {
    match kind {
        ConfigKind::Supervisor => {
            supervisor::Settings::load(Some(file)).map_err(|e| Failure::usage(e.to_string()))?;
        }
        ConfigKind::Worker => {
            WorkerFile::load(file)?;
        }
        // The launcher's own parser, in the launcher's own program.
        ConfigKind::Launcher => launcher_conf(file)?,
        ConfigKind::QbWrk | ConfigKind::Qb => {}
    }
    Ok(())
}

fn kind(file: &Path) -> Result<ConfigKind, Failure> {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let kinds = [ConfigKind::Supervisor, ConfigKind::Worker, ConfigKind::Launcher, ConfigKind::QbWrk, ConfigKind::Qb];
    // Backups and drafts, too: qbwrk.conf.new.
    let found = kinds.into_iter().find(|k| name.ends_with(word(*k)) || name.starts_with(word(*k)));
    found.ok_or_else(|| Failure::Usage {
        text: format!("{}: what kind of file this is, its name must say", file.display()),
        hint: Some(format!("say it with --kind {}", kinds.map(word).join(", or "))),
    })
}

fn word(kind: ConfigKind) -> &'static str {
    match kind {
        ConfigKind::Supervisor => "supervisor.toml",
        ConfigKind::Worker => "worker.toml",
        ConfigKind::Launcher => "launcher.conf",
        ConfigKind::QbWrk => "qbwrk.conf",
        ConfigKind::Qb => "qb.conf",
    }
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

// --- Qube!'s files

fn text(file: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(file).map_err(|e| Failure::file("read", file, e))?;
    // Old files may hold comments in any encoding.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn qbwrk(file: &Path) -> Result<QbWrk, Failure> {
    Ok(QbWrk::parse(&file.display().to_string(), &text(file)?))
}

fn qb(file: &Path) -> Result<QbConf, Failure> {
    Ok(QbConf::parse(&file.display().to_string(), &text(file)?))
}

/// Says all that was found, as `qbconfigfile` does; errors make the exit code 1.
fn of_qube(
    options: &ConfigCheck,
    kind: ConfigKind,
    findings: &Findings,
    unused: &[(&'static compat_qube::Key, u32)],
    expanded: &dyn Fn() -> String,
) -> Result<(), Failure> {
    if options.json {
        let not_used: Vec<Value> =
            unused.iter().map(|(key, line)| json!({"key": key.name, "line": line, "note": key.note})).collect();
        let list: Vec<Value> = findings.iter().map(finding_json).collect();
        let expanded = options.expand.then(expanded);
        out::json(&json!({
            "file": options.file, "kind": word(kind), "ok": !findings.has_errors(), "findings": list,
            "expanded": expanded, "not_used": not_used,
        }));
    } else {
        say_findings(findings);
        say_unused(options, unused);
        if options.expand {
            out::raw(expanded().as_bytes());
        } else if !findings.has_errors() {
            out::say(format!("{}: fine, as a {}", options.file.display(), word(kind)));
        }
    }
    if findings.has_errors() { Err(Failure::Reported(1)) } else { Ok(()) }
}

/// What the file need not be changed for.
fn say_unused(options: &ConfigCheck, unused: &[(&'static compat_qube::Key, u32)]) {
    for (key, line) in unused {
        let note = if key.note.is_empty() { String::new() } else { format!(": {}", key.note) };
        out::note(format!("{}:{line}: {} is accepted and has no effect{note}", options.file.display(), key.name));
    }
}

fn finding_json(finding: &compat_qube::Finding) -> Value {
    json!({
        "file": &*finding.file, "line": finding.line, "level": finding.problem.level().as_str(),
        "text": finding.problem.to_string(),
    })
}

fn say_findings(findings: &Findings) {
    for finding in findings {
        out::note(out::plain(&finding.to_string()));
    }
}

pub(crate) async fn show(options: &ConfigShow) -> Result<(), Failure> {
    if options.qbwrk_conf.is_none() && options.qb_conf.is_none() {
        return show_running(options).await;
    }
    let worker = options.worker.as_deref().ok_or_else(|| Failure::Usage {
        text: "which worker's settings, the files don't say".into(),
        hint: Some("name it: --worker lin-07".into()),
    })?;
    let central = options.qbwrk_conf.as_deref().map(qbwrk).transpose()?;
    let local = options.qb_conf.as_deref().map(qb).transpose()?;
    let findings = [central.as_ref().map(QbWrk::findings), local.as_ref().map(QbConf::findings)];
    let mut wrong = false;
    for findings in findings.into_iter().flatten().filter(|f| f.has_errors()) {
        say_findings(findings);
        wrong = true;
    }
    if wrong {
        return Err(Failure::Reported(1));
    }
    let platform = match options.platform {
        PlatformArg::Linux => Platform::Linux,
        PlatformArg::Osx => Platform::Osx,
        PlatformArg::Winnt => Platform::Winnt,
    };
    let effective = Effective::of(worker, platform, local.as_ref(), central.as_ref());
    let settings = WorkerSettings::read(&effective).map_err(|wrong| Failure::Usage {
        text: wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        hint: None,
    })?;
    if central.as_ref().is_some_and(|c| !c.has(worker)) && !options.common.json {
        out::note(format!("no section of the file is {worker}: it has what all workers have"));
    }
    let one = |s: &Setting| json!({"key": &*s.key, "value": s.shown(), "from": s.origin.to_string()});
    let list: Vec<Value> = effective.all().iter().map(one).collect();
    let account =
        matches!(settings.mode, compat_qube::ExecutionMode::Proxy).then(|| settings.proxy_account.to_string());
    print_settings(
        options,
        &json!({
            "worker": worker, "mode": settings.mode.as_str(), "proxy_account": account, "slots": settings.slots,
            "labels": settings.labels(), "said_by": effective.said_by(), "settings": list,
        }),
    )
}

/// What is in force.
async fn show_running(options: &ConfigShow) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let path = match &options.worker {
        Some(worker) => format!("/api/v1/workers/{}/configuration", escape(worker)),
        None => "/api/v1/configuration".to_owned(),
    };
    print_settings(options, &client.get(&path).await?)
}

fn print_settings(options: &ConfigShow, answer: &Value) -> Result<(), Failure> {
    if options.common.json {
        out::json(answer);
        return Ok(());
    }
    let shown: Shown = model::read(answer)?;
    for file in &shown.files {
        out::say(format!("{}  sha256 {}", file.path, file.sha256));
    }
    shown.warnings.iter().for_each(|w| out::note(out::plain(w)));
    let row = |s: &ShownSetting| vec![s.key.clone(), s.value.clone(), s.from.clone()];
    let rows: Vec<Vec<String>> = shown.settings.iter().map(row).collect();
    out::say(out::listing(&["KEY", "VALUE", "FROM"], &rows, None, &Target::stdout()));
    if let Some(worker) = &shown.worker {
        let who = match (shown.mode.as_str(), &shown.proxy_account) {
            ("user", _) => "each job as its user".to_owned(),
            (_, Some(account)) => format!("all jobs as {account}"),
            _ => "jobs as its owner".to_owned(),
        };
        let text = out::plain(&format!("{worker} runs {who}"));
        out::say(out::paint(&text, Colour::Bold, out::colours()));
    }
    if let Some(trouble) = &shown.trouble {
        out::note(out::plain(trouble));
    }
    Ok(())
}

/// Either view, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Shown {
    worker: Option<String>,
    mode: String,
    proxy_account: Option<String>,
    files: Vec<ShownFile>,
    warnings: Vec<String>,
    settings: Vec<ShownSetting>,
    trouble: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ShownFile {
    path: String,
    sha256: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ShownSetting {
    key: String,
    value: String,
    from: String,
}

/// What came of a reload.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reloaded {
    files: Vec<ShownFile>,
    warnings: Vec<String>,
    changes: Vec<String>,
    changed: usize,
    workers: usize,
    told: usize,
    late: Vec<String>,
}

pub(crate) async fn reload(options: &Common) -> Result<(), Failure> {
    let client = Client::locate(options.data.as_deref())?;
    let answer: Value = client.post("/api/v1/configuration/reload", &json!({})).await?;
    if options.json {
        out::json(&answer);
        return Ok(());
    }
    let reloaded: Reloaded = model::read(&answer)?;
    if reloaded.files.is_empty() {
        out::note("the supervisor knows of no qb.conf and no qbwrk.conf: name them in supervisor.toml");
    }
    reloaded.warnings.iter().for_each(|w| out::note(out::plain(w)));
    reloaded.changes.iter().for_each(|c| out::say(out::plain(c)));
    if reloaded.changed > reloaded.changes.len() {
        out::say(format!("… and {} more", reloaded.changed - reloaded.changes.len()));
    }
    let Reloaded { changed, workers, told, .. } = reloaded;
    out::say(format!("{changed} changes; {workers} workers have them, {told} of them run jobs as somebody else now"));
    if !reloaded.late.is_empty() {
        out::note(format!("these have not answered yet, and take no jobs until they do: {}", reloaded.late.join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, text: &str) -> Result<(), Failure> {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("written");
        check(&ConfigCheck { json: true, kind: None, expand: false, file })
    }

    #[test]
    fn errors_of_qubes_files_are_exit_code_1_and_warnings_are_not() {
        assert!(checked("qbwrk.conf", "[lin01]\nworker_clsuter = /a\n").is_ok(), "a warning");
        assert!(checked("qb.conf", "worker_cpus = 2\n").is_ok());
        let wrong = checked("qbwrk.conf.new", "[lin01]\nproxy_execution_mode = usr\n");
        assert!(matches!(wrong, Err(Failure::Reported(1))), "{wrong:?}");
        let wrong = checked("qb.conf", "supervisor_flags = enforce_pasword\n");
        assert!(matches!(wrong, Err(Failure::Reported(1))), "{wrong:?}");
        let unclear = checked("my-workers", "").expect_err("what is it?");
        assert!(unclear.hint().is_some_and(|h| h.contains("--kind")), "{unclear}");
        let wrong = checked("supervisor.toml", "colour = 1").expect_err("unknown");
        assert_eq!(wrong.exit(), 2);
    }
}
