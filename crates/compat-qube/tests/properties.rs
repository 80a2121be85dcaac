//! Whatever stands in a file: nothing panics, the answer is always the same, and the expanded form reads back to the
//! same settings.

use compat_qube::{Effective, Platform, QbConf, QbWrk, SupervisorSettings, WorkerSettings};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What counts of an answer: values by key. Lines and sections change when a file is printed anew; passwords are not
/// printed at all.
fn values(effective: &Effective) -> BTreeMap<String, String> {
    let shown = effective.settings().filter(|s| !s.known.is_some_and(compat_qube::Key::is_secret));
    shown.map(|s| (s.key.to_string(), format!("{:?}", s.value))).collect()
}

fn look_at(text: &str) {
    let wrk = QbWrk::parse("f", text);
    assert_eq!(wrk, QbWrk::parse("f", text), "twice the same");
    for finding in wrk.findings() {
        assert!(finding.to_string().starts_with("f:"), "{finding}");
    }
    let _ = wrk.hosts().take(50).count();
    for host in wrk.names().take(20).chain(["other".to_owned(), String::new()]) {
        for platform in Platform::ALL {
            let effective = wrk.resolve(&host, platform);
            assert_eq!(effective, wrk.resolve(&host, platform));
            if let Err(wrong) = WorkerSettings::read(&effective) {
                assert!(!wrong.is_empty(), "a refusal has a reason");
            }
        }
    }
    let conf = QbConf::parse("c", text);
    let _ = (SupervisorSettings::read(&conf), conf.lookup());
    let again = QbConf::parse("c", &conf.expanded());
    let seen = |c: &QbConf| values(&Effective::of("h", Platform::Linux, Some(c), None));
    assert_eq!(seen(&conf), seen(&again));
    if wrk.size() <= 2000 {
        read_back(&wrk);
    }
}

fn read_back(wrk: &QbWrk) {
    let printed = wrk.expanded();
    let again = QbWrk::parse("g", &printed);
    for host in wrk.names().take(20).chain(["other".to_owned()]) {
        for platform in Platform::ALL {
            let (one, other) = (wrk.resolve(&host, platform), again.resolve(&host, platform));
            assert_eq!(values(&one), values(&other), "{host} of\n{printed}");
            assert_eq!(one.host, other.host);
        }
    }
    if !printed.contains("(hidden)") {
        assert_eq!(again.expanded(), printed, "nothing more to expand");
    }
}

fn line() -> impl Strategy<Value = String> {
    let section = prop::sample::select(vec![
        "default",
        "linux",
        "winnt",
        "farm",
        "gpu",
        "lin01",
        "LIN01",
        "lin[01-03]",
        "lin[1-3].x",
        "global_config",
        "self",
        "bad name",
        "x[3-1]",
        "lin01.x",
    ]);
    let parent =
        prop::sample::select(vec!["", ": farm", ": gpu farm", ": default linux", ": lin02", ": farm,gpu", ": nobody"]);
    let key = prop::sample::select(vec![
        "proxy_execution_mode",
        "proxy_account",
        "proxy_password",
        "worker_groups",
        "worker_cluster",
        "worker_path_map",
        "worker_cpus",
        "worker_port",
        "worker_clsuter",
        "templates",
        "worker_description",
        "worker_lookup",
        "root",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "user",
            "proxy",
            "'user'",
            "\"user\"",
            "$farm.proxy_account",
            "${gpu.worker_cluster}/x",
            "\"/l/${_}.log\"",
            "$self.worker_cpus",
            "$this.root",
            "{ a b }",
            "{\n \"a\" : \"$_\",\n \"\\\\\" = \"/\" }",
            "$_",
            "a # b",
            "\"#\"",
            "/farm",
            "-1",
            "0",
            "\"\\$_\"",
            "$x.y",
            "\"a\\\\\"",
            "{ }",
            "",
            "host.maya=1, host.nuke=2",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,12}",
        "\\PC{0,6}",
    ];
    prop_oneof![
        3 => (section, parent).prop_map(|(s, p)| format!("[{s}] {p}")),
        8 => (key, value).prop_map(|(k, v)| format!("{k} = {v}")),
        1 => "[ -~]{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn files_of_such_lines(lines in prop::collection::vec(line(), 0..25)) {
        look_at(&lines.join("\n"));
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        look_at(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text(text in "(\\PC|[\\[\\]{}$_.=:#\"\\\\\n\r\t]){0,120}") {
        look_at(&text);
    }
}

/// What fuzzing and properties have found once, and the committed corpus of the fuzz target.
#[test]
fn the_corpus() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/files");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        look_at(&String::from_utf8_lossy(&std::fs::read(&path).expect("readable")));
        seen += 1;
    }
    assert!(seen >= 5, "{} is nearly empty", folder.display());
}

/// A page of text can't become gigabytes.
#[test]
fn macros_that_double_are_stopped() {
    let mut text = format!("[a]\nk0 = {}\n", "x".repeat(1000));
    for i in 0..60 {
        text.push_str(&format!("k{} = $self.k{i}$self.k{i}\n", i + 1));
    }
    let wrk = QbWrk::parse("f", &text);
    let errors: Vec<String> = wrk.findings().errors().map(ToString::to_string).collect();
    assert!(errors.iter().any(|e| e.contains("longer than 65536 bytes")), "{errors:?}");
    let mut chain = String::from("[t0]\nworker_cpus = 1\n");
    for i in 0..70 {
        chain.push_str(&format!("[t{}] : t{i}\n", i + 1));
    }
    let wrk = QbWrk::parse("f", &chain);
    assert!(wrk.findings().errors().any(|e| e.to_string().contains("over more than 64 sections")));
}
