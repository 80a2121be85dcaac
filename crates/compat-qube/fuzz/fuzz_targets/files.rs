#![no_main]

use compat_qube::{Effective, Platform, QbConf, QbWrk, SupervisorSettings, WorkerSettings};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (wrk, conf) = (QbWrk::parse("f", &text), QbConf::parse("c", &text));
    for finding in wrk.findings().iter().chain(conf.findings()) {
        assert!(!finding.to_string().is_empty());
    }
    let _ = SupervisorSettings::read(&conf);
    let _ = WorkerSettings::read(&Effective::of("lin01", Platform::Linux, Some(&conf), Some(&wrk)));
    if wrk.size() <= 2000 {
        let printed = wrk.expanded();
        let again = QbWrk::parse("g", &printed).expanded();
        assert!(printed.contains("(hidden)") || again == printed);
    }
});
