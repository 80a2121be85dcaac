//! How long a file takes: `cargo run --release -p compat-qube --example resolve -- FILE [HOSTS]`.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

use compat_qube::{Platform, QbWrk, WorkerSettings};
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let file = args.next().unwrap_or_else(|| "crates/compat-qube/tests/golden/studio.conf".to_owned());
    let hosts: usize = args.next().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let begun = Instant::now();
    let wrk = QbWrk::parse(&file, &text);
    let read = begun.elapsed();
    let names: Vec<String> = wrk.hosts().collect();
    let begun = Instant::now();
    let mut settings = 0;
    for name in names.iter().cycle().take(hosts) {
        let effective = wrk.resolve(name, Platform::Linux);
        settings += effective.settings().count();
        assert!(WorkerSettings::read(&effective).is_ok(), "{name}");
    }
    let resolved = begun.elapsed();
    println!("{} lines read in {read:?}; {hosts} hosts, {settings} settings in {resolved:?}", text.lines().count());
}
