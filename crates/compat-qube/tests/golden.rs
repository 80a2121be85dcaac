//! What is made of whole files, as committed texts: `golden/NAME.conf` and `golden/NAME.txt`. `STEAD_UPDATE=1` rewrites
//! the texts; look at the difference then.

use compat_qube::{Effective, Lookup, Platform, QbConf, QbWrk, SupervisorSettings, WorkerSettings};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Compares with the committed text, or writes it.
fn settle(name: &str, made: &str) {
    let path = folder().join(name);
    if std::env::var_os("STEAD_UPDATE").is_some() {
        std::fs::write(&path, made).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "{} is not what is made now; STEAD_UPDATE=1 rewrites it. Now:\n{made}", path.display());
}

fn findings(out: &mut String, findings: &compat_qube::Findings) {
    for finding in findings {
        let _ = writeln!(out, "{finding}");
    }
    if findings.is_empty() {
        out.push_str("nothing is wrong\n");
    }
}

fn effective(out: &mut String, effective: &Effective) {
    for setting in effective.all() {
        let _ = writeln!(out, "  {} = {}    # {}", setting.key, setting.shown(), setting.origin);
    }
    match WorkerSettings::read(effective) {
        Ok(settings) => {
            let _ = writeln!(out, "  => {} as {}", settings.mode.as_str(), settings.proxy_account);
            let _ = writeln!(out, "  => {:?} slots, labels {}", settings.slots, settings.labels().join(" "));
        }
        Err(wrong) => wrong.iter().for_each(|w| {
            let _ = writeln!(out, "  => {w}");
        }),
    }
}

/// The hosts that are shown: the first line says `# hosts: NAME/PLATFORM …`.
fn hosts(text: &str) -> Vec<(String, Platform)> {
    let line = text.lines().next().and_then(|l| l.strip_prefix("# hosts:")).expect("the first line names hosts");
    let host = |word: &str| {
        let (name, platform) = word.split_once('/').expect("NAME/PLATFORM");
        (name.to_owned(), Platform::parse(platform).expect("a platform"))
    };
    line.split_whitespace().map(host).collect()
}

fn central(name: &str) {
    let text = read(&format!("{name}.conf"));
    let wrk = QbWrk::parse(&format!("{name}.conf"), &text);
    let mut out = String::from("=== found\n");
    findings(&mut out, wrk.findings());
    for (host, platform) in hosts(&text) {
        let _ = writeln!(out, "=== {host} ({})", platform.as_str());
        effective(&mut out, &wrk.resolve(&host, platform));
    }
    let _ = write!(out, "=== expanded\n{}", wrk.expanded());
    settle(&format!("{name}.txt"), &out);
}

#[test]
fn documents_examples() {
    central("documents");
}

#[test]
fn documents_slips() {
    central("slips");
}

#[test]
fn a_studio() {
    let text = read("studio.conf");
    assert!(text.lines().count() >= 400, "a real one");
    central("studio");
    assert!(!QbWrk::parse("studio.conf", &text).findings().has_errors());
}

#[test]
fn mistakes() {
    central("mistakes");
}

#[test]
fn own_file() {
    let text = read("own.conf");
    let conf = QbConf::parse("own.conf", &text);
    let mut out = String::from("=== found\n");
    findings(&mut out, conf.findings());
    match SupervisorSettings::read(&conf) {
        Ok(settings) => {
            let _ = writeln!(out, "=== supervisor\n{settings:#?}");
        }
        Err(wrong) => wrong.iter().for_each(|w| {
            let _ = writeln!(out, "=> {w}");
        }),
    }
    let _ = write!(out, "=== expanded\n{}", conf.expanded());
    settle("own.txt", &out);
}

/// Every order of whose word counts, with a value that only one of them says and one that both say.
#[test]
fn precedence() {
    let central = "[default]\nproxy_execution_mode = user\nworker_groups = central\nworker_port = 1\n";
    let central = QbWrk::parse("qbwrk.conf", central);
    let mut out = String::new();
    for lookup in [None, Some("local"), Some("supervisor"), Some("supervisor,local"), Some("local, supervisor")] {
        let line = lookup.map_or_else(String::new, |l| format!("worker_lookup = {l}\n"));
        let own = format!("{line}proxy_execution_mode = proxy\nproxy_account = render\nworker_port = 2\n");
        let own = QbConf::parse("qb.conf", &own);
        assert!(!own.findings().has_errors(), "{:?}", own.findings());
        let _ = writeln!(out, "=== worker_lookup: {}", lookup.unwrap_or("not said"));
        assert_eq!(own.lookup(), lookup.and_then(Lookup::parse).unwrap_or_default());
        effective(&mut out, &Effective::of("lin01", Platform::Linux, Some(&own), Some(&central)));
    }
    settle("precedence.txt", &out);
}

/// The table of `docs/compat-qube.md`.
#[test]
fn the_documented_keys_are_these() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compat-qube.md");
    let text = std::fs::read_to_string(&path).expect("docs/compat-qube.md");
    let (before, rest) = text.split_once("<!-- keys -->\n").expect("a mark before");
    let (_, after) = rest.split_once("<!-- /keys -->").expect("a mark after");
    let made = format!("{before}<!-- keys -->\n{}<!-- /keys -->{after}", compat_qube::keys_as_markdown());
    if std::env::var_os("STEAD_UPDATE").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    assert!(text == made || std::env::var_os("STEAD_UPDATE").is_some(), "STEAD_UPDATE=1 rewrites docs/compat-qube.md");
}

/// Nothing is silent: what a file sets and has no effect is listed, once, with its line and what Stead does instead.
#[test]
fn what_has_no_effect_is_listed() {
    let text = "[default]\nworker_cpus = 2\nworker_logpath = /a\n[lin01]\nworker_logpath = /b\nworker_drive_map = X\n";
    let names = |all: Vec<(&'static compat_qube::Key, u32)>| -> Vec<(&str, u32)> {
        all.into_iter().map(|(key, line)| (key.name, line)).collect()
    };
    assert_eq!(names(QbWrk::parse("f", text).unused()), [("worker_logpath", 3), ("worker_drive_map", 6)]);
    let conf = "supervisor_flags = 0\nmail_host = m\nsupervisor_default_security = 17\nworker_lookup = local\n";
    assert_eq!(names(QbConf::parse("f", conf).unused()), [("mail_host", 2), ("supervisor_default_security", 3)]);
    for key in compat_qube::KEYS.iter().filter(|k| k.is_unused()) {
        assert_eq!(key.is_identity(), key.standing == compat_qube::Standing::Checked, "{}", key.name);
    }
}
