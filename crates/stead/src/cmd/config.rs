//! `config check` and `config show`: read configuration files as the services would, and say what is wrong with them
//! and what comes of them.

use std::path::Path;

use compat_qube::{Effective, Findings, Platform, QbConf, QbWrk, Setting, WorkerSettings};
use serde_json::{Value, json};

use crate::cli::{ConfigCheck, ConfigKind, ConfigShow, PlatformArg};
use crate::failure::Failure;
use crate::farm::Programs;
use crate::out::{self, Colour, Target};
use crate::services::WorkerFile;

pub(crate) fn check(options: &ConfigCheck) -> Result<(), Failure> {
    let file = options.file.as_path();
    let kind = options.kind.map_or_else(|| kind(file), Ok)?;
    match kind {
        ConfigKind::QbWrk => {
            let wrk = qbwrk(file)?;
            of_qube(options, kind, wrk.findings(), &|| wrk.expanded())
        }
        ConfigKind::Qb => {
            let conf = qb(file)?;
            of_qube(options, kind, conf.findings(), &|| conf.expanded())
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
    expanded: &dyn Fn() -> String,
) -> Result<(), Failure> {
    if options.json {
        let list: Vec<Value> = findings.iter().map(finding_json).collect();
        let expanded = options.expand.then(expanded);
        out::json(&json!({
            "file": options.file, "kind": word(kind), "ok": !findings.has_errors(), "findings": list,
            "expanded": expanded,
        }));
    } else {
        say_findings(findings);
        if options.expand {
            out::raw(expanded().as_bytes());
        } else if !findings.has_errors() {
            out::say(format!("{}: fine, as a {}", options.file.display(), word(kind)));
        }
    }
    if findings.has_errors() { Err(Failure::Reported(1)) } else { Ok(()) }
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

pub(crate) fn show(options: &ConfigShow) -> Result<(), Failure> {
    if options.qbwrk_conf.is_none() && options.qb_conf.is_none() {
        return Err(Failure::Usage {
            text: "there is no file to look at".into(),
            hint: Some("name one: --qbwrk-conf /etc/qbwrk.conf, --qb-conf FILE".into()),
        });
    }
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
    let effective = Effective::of(&options.worker, platform, local.as_ref(), central.as_ref());
    let settings = WorkerSettings::read(&effective).map_err(|wrong| Failure::Usage {
        text: wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        hint: None,
    })?;
    if central.as_ref().is_some_and(|c| !c.has(&options.worker)) && !options.json {
        out::note(format!("no section of the file is {}: it has what all workers have", options.worker));
    }
    print_settings(options, &effective, &settings);
    Ok(())
}

fn print_settings(options: &ConfigShow, effective: &Effective, settings: &WorkerSettings) {
    let all = effective.all();
    if options.json {
        let one = |s: &Setting| json!({"key": &*s.key, "value": s.shown(), "from": s.origin.to_string()});
        let list: Vec<Value> = all.iter().map(one).collect();
        return out::json(&json!({
            "worker": options.worker, "mode": settings.mode.as_str(), "settings": list, "labels": settings.labels(),
        }));
    }
    let row = |s: &Setting| vec![s.key.to_string(), s.shown(), s.origin.to_string()];
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    out::say(out::listing(&["KEY", "VALUE", "FROM"], &rows, None, &Target::stdout()));
    let who = match settings.mode {
        compat_qube::ExecutionMode::User => "each job as its user".to_owned(),
        compat_qube::ExecutionMode::Proxy => format!("all jobs as {}", settings.proxy_account),
    };
    out::say(out::paint(&format!("{} runs {who}", options.worker), Colour::Bold, out::colours()));
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
