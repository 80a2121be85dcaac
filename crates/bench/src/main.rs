//! What a farm costs, beside what the machine can do at all: `cargo run --release -p bench -- [--json] [--quick]`.
//!
//! Every figure stands beside a limit or a peer measured in the same run, because a machine's speed drifts. The farm
//! is a real one: `stead dev` as root with accounts of its own, every safety on. Nothing here asserts a time; what is
//! asserted is that the measured tasks really ran as the account they should.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod farm;
mod limits;
mod statistics;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};
use statistics::median;

const USAGE: &str = "\
usage: cargo run --release -p bench -- [--json] [--quick]

  --json   one JSON object instead of a table
  --quick  a tenth of the tasks and three rounds: for a look, not for quoting

Needs root (its accounts live in a private mount namespace), cc, and the release build of the programs.";

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Size {
    rounds: usize,
    tasks: u64,
    latencies: usize,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| !["--json", "--quick"].contains(&a.as_str())) {
        eprintln!("{USAGE}");
        std::process::exit(2);
    }
    let flag = |name: &str| args.iter().any(|a| a == name);
    ensure!(e2e::is_root(), "failed to start: the bench needs root\n\n{USAGE}");
    let size = if flag("--quick") {
        Size { rounds: 3, tasks: 2_000, latencies: 21 }
    } else {
        Size { rounds: 5, tasks: 20_000, latencies: 101 }
    };
    let figures = measure(size)?;
    if flag("--json") {
        println!("{}", Value::Object(figures));
    } else {
        for (name, value) in &figures {
            println!("{name:<28} {value}");
        }
    }
    Ok(())
}

/// One round measures the limit and the farm in turn, so that both see the same machine.
fn measure(size: Size) -> Result<Map<String, Value>> {
    let limits = limits::Limits::build()?;
    let farm = farm::BenchFarm::start()?;
    let (mut limit_true, mut farm_true, mut limit_static, mut farm_static) = (vec![], vec![], vec![], vec![]);
    for round in 1..=size.rounds {
        eprintln!("round {round} of {}", size.rounds);
        limit_true.push(limits.spawn_rate("/bin/true", size.tasks)?);
        farm_true.push(farm.rate("/bin/true", size.tasks)?);
        limit_static.push(limits.spawn_rate(limits.static_true(), size.tasks)?);
        farm_static.push(farm.rate(farm.static_true(&limits)?, size.tasks)?);
    }
    let latencies = farm.submit_to_start(size.latencies)?;
    let commands = limits::per_command(50)?;
    let submit = farm.submit_million()?;

    let ratios = |farm: &[f64], limit: &[f64]| median(&farm.iter().zip(limit).map(|(f, l)| f / l).collect::<Vec<_>>());
    let mut figures = Map::new();
    let mut put = |name: &str, value: f64| figures.insert(name.to_owned(), json!((value * 1000.0).round() / 1000.0));
    put("limit_true_per_s", median(&limit_true));
    put("true_per_s", median(&farm_true));
    put("true_vs_limit", ratios(&farm_true, &limit_true));
    put("limit_static_per_s", median(&limit_static));
    put("static_per_s", median(&farm_static));
    put("static_vs_limit", ratios(&farm_static, &limit_static));
    put("submit_to_start_p50_ms", statistics::percentile(&latencies, 50));
    put("submit_to_start_p99_ms", statistics::percentile(&latencies, 99));
    put("plain_exec_ms", commands.plain);
    put("switched_exec_ms", commands.switched);
    put("switch_vs_plain", commands.switched / commands.plain);
    if let Some(sudo) = commands.sudo {
        put("sudo_vs_plain", sudo / commands.plain);
    }
    put("submit_million_ms", submit);
    Ok(figures)
}
