//! What a farm costs, beside what the machine can do at all: `cargo run --release -p bench -- [--json] [--quick]`.
//!
//! Every figure stands beside a limit or a peer measured in the same run, because a machine's speed drifts. The farm
//! is a real one: `stead dev` as root with accounts of its own and its data on a disk, every safety on. Nothing here
//! asserts a time; what is asserted is that the measured tasks really ran as the account they should, and that nothing
//! acknowledged is lost when the supervisor is killed in one of the runs.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod cpu;
mod farm;
mod http;
mod limits;
mod people;
mod pretend;
mod statistics;

use anyhow::{Result, bail, ensure};
use farm::{BenchFarm, ratio};
use limits::{Identity, Limits};
use serde_json::{Map, Value, json};
use statistics::{median, percentile};

const USAGE: &str = "\
usage: cargo run --release -p bench -- [--json] [--quick] [--only GROUP,…]

  --json   one JSON object instead of a table
  --quick  fewer tasks and three rounds: for a look, not for quoting
  --only   of: rates single latency dispatch log isolated cost crash peers people pages qube

Needs root (its accounts live in a private mount namespace), cc, and the release build of the programs. Nothing runs
with a real-time claim to the processors: sessions could not join a control group that has no share of that. So quote
ratios, and figures of a machine that does nothing else.";

/// How much is measured.
#[derive(Debug, Clone)]
struct Size {
    rounds: usize,
    tasks: u64,
    static_tasks: u64,
    jobs: u64,
    latencies: usize,
    dispatched: u64,
    log_mib: u64,
    decisions: u64,
    listed: u64,
    only: Vec<String>,
}

impl Size {
    fn of(args: &[String]) -> Result<Self> {
        let flag = |name: &str| args.iter().any(|a| a == name);
        let only = args.iter().position(|a| a == "--only").and_then(|i| args.get(i + 1));
        let only = only.map(|o| o.split(',').map(str::to_owned).collect()).unwrap_or_default();
        Ok(if flag("--quick") {
            Self {
                rounds: 3,
                tasks: 4_000,
                static_tasks: 10_000,
                jobs: 500,
                latencies: 31,
                dispatched: 100_000,
                log_mib: 128,
                decisions: 2_000,
                listed: 2_000,
                only,
            }
        } else {
            Self {
                rounds: 5,
                tasks: 100_000,
                static_tasks: 100_000,
                jobs: 10_000,
                latencies: 101,
                dispatched: 500_000,
                log_mib: 512,
                decisions: 20_000,
                listed: 10_000,
                only,
            }
        })
    }

    fn has(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|o| o == group)
    }
}

/// Name and value, in the order in which they were measured.
#[derive(Debug, Default)]
struct Figures(Map<String, Value>);

impl Figures {
    fn put(&mut self, name: &str, value: f64) {
        eprintln!("  {name} {value:.3}");
        self.0.insert(name.to_owned(), json!((value * 1000.0).round() / 1000.0));
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [word, socket] = &args[..]
        && word == http::HOLD
    {
        return http::hold(socket);
    }
    let known = |a: &String| ["--json", "--quick", "--only"].contains(&a.as_str()) || !a.starts_with('-');
    if !args.iter().all(known) {
        eprintln!("{USAGE}");
        std::process::exit(2);
    }
    ensure!(e2e::is_root(), "failed to start: the bench needs root\n\n{USAGE}");
    let figures = measure(&Size::of(&args)?)?.0;
    if args.iter().any(|a| a == "--json") {
        println!("{}", Value::Object(figures));
    } else {
        for (name, value) in &figures {
            println!("{name:<32} {value}");
        }
    }
    Ok(())
}

fn measure(size: &Size) -> Result<Figures> {
    let limits = Limits::build()?;
    let mut figures = Figures::default();
    if size.has("peers") {
        peers(size, &mut figures)?;
    }
    if size.has("people") {
        decisions(size, &mut figures)?;
    }
    if size.has("pages") {
        pages(size, &mut figures)?;
    }
    if size.has("qube") {
        let of = pretend::reconfigure(if size.rounds < 5 { 11 } else { 51 })?;
        figures.put("reconfigure_50_workers_ms", percentile(&of, 50));
        figures.put("reconfigure_50_workers_p99_ms", percentile(&of, 99));
    }
    if size.has("dispatch") {
        supervisor(size, &mut figures)?;
    }
    if ["latency", "rates", "single", "cost", "crash", "log"].iter().any(|g| size.has(g)) {
        let mut farm = BenchFarm::start(&limits)?;
        // Caches and batches are as warm as in a farm that lives.
        farm.rate("/bin/true", 200)?;
        if size.has("latency") {
            latencies(size, &mut farm, &mut figures)?;
        }
        if size.has("rates") {
            rates(size, &limits, &mut farm, &mut figures)?;
        }
        if size.has("single") {
            single(size, &limits, &mut farm, &mut figures)?;
        }
        if size.has("cost") {
            cost(size, &limits, &mut farm, &mut figures)?;
        }
        if size.has("log") {
            logs(size, &limits, &mut farm, &mut figures)?;
        }
        if size.has("crash") {
            let program = farm.program("true_static");
            figures.put(
                "static_per_s_with_a_killed_supervisor",
                farm.rate_with_a_killed_supervisor(&program, size.tasks)?,
            );
        }
    }
    if size.has("isolated") {
        isolated(size, &limits, &mut figures)?;
    }
    figures.put("load", load()?);
    ensure!(!figures.0.is_empty(), "there is nothing of that name to measure\n\n{USAGE}");
    Ok(figures)
}

/// How many processes wanted to run at the end, on average over five minutes: what the figures are worth.
fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().nth(1).unwrap_or_default().parse()?)
}

fn peers(size: &Size, figures: &mut Figures) -> Result<()> {
    let (plain, sudo) = limits::per_command(if size.rounds < 5 { 21 } else { 51 })?;
    figures.put("plain_exec_ms", plain);
    if let Some(sudo) = sudo {
        figures.put("sudo_vs_plain", sudo / plain);
    }
    for (name, rate) in limits::peers(1000)? {
        figures.put(name, rate);
    }
    Ok(())
}

/// What a decision costs, among so many people and grants that no table fits where its reading is free.
fn decisions(size: &Size, figures: &mut Figures) -> Result<()> {
    let of = people::measure(size.decisions)?;
    figures.put("decision_us", percentile(&of.pure, 50));
    figures.put("decision_p99_us", percentile(&of.pure, 99));
    figures.put("decision_with_reads_us", percentile(&of.with_reads, 50));
    figures.put("decision_with_reads_p99_us", percentile(&of.with_reads, 99));
    figures.put("decision_remembered_us", percentile(&of.remembered, 50));
    figures.put("decision_remembered_p99_us", percentile(&of.remembered, 99));
    Ok(())
}

/// What the web UI costs the supervisor, from the question to the last byte.
fn pages(size: &Size, figures: &mut Figures) -> Result<()> {
    let of = pretend::pages(size.listed, 21)?;
    figures.put("jobs_page_ms", percentile(&of.lists, 50));
    figures.put("jobs_page_p99_ms", percentile(&of.lists, 99));
    figures.put("job_page_ms", percentile(&of.job, 50));
    figures.put("ran_as_page_ms", percentile(&of.ran_as, 50));
    figures.put("jobs_page_busy_ms", percentile(&of.busy, 50));
    figures.put("jobs_page_busy_p99_ms", percentile(&of.busy, 99));
    figures.put("jobs_page_busy_changes_per_s", of.changes_per_s);
    Ok(())
}

fn supervisor(size: &Size, figures: &mut Figures) -> Result<()> {
    let of = pretend::measure(size.rounds, size.dispatched)?;
    figures.put("dispatch_per_s", of.dispatch_per_s);
    figures.put("dispatch_supervisor_cpu_us", of.dispatch_supervisor_us);
    figures.put("bytes_per_queued_task", of.bytes_per_queued_task);
    figures.put("bytes_per_distinct_task", of.bytes_per_distinct_task);
    figures.put("submit_million_ms", of.submit_million_ms);
    figures.put("submit_million_distinct_ms", of.submit_million_distinct_ms);
    figures.put("recovery_ms", of.recovery_ms);
    figures.put("store_bytes_per_task", of.store_bytes_per_task);
    Ok(())
}

fn latencies(size: &Size, farm: &mut BenchFarm, figures: &mut Figures) -> Result<()> {
    let cli = farm.submit_to_start_cli(size.latencies)?;
    figures.put("submit_to_start_p50_ms", percentile(&cli, 50));
    figures.put("submit_to_start_p99_ms", percentile(&cli, 99));
    let open = farm.submit_to_start(size.latencies)?;
    figures.put("submit_to_start_open_p50_ms", percentile(&open, 50));
    figures.put("submit_to_start_open_p99_ms", percentile(&open, 99));
    let million = farm.queue_million()?;
    let open = farm.submit_to_start(size.latencies)?;
    figures.put("submit_to_start_million_p50_ms", percentile(&open, 50));
    figures.put("submit_to_start_million_p99_ms", percentile(&open, 99));
    farm.kill(million)?;
    Ok(())
}

/// One round measures the limit and the farm in turn, so that both see the same machine.
fn rates(size: &Size, limits: &Limits, farm: &mut BenchFarm, figures: &mut Figures) -> Result<()> {
    let (mut limit, mut kept, mut ours) = (vec![], vec![], vec![]);
    let (mut limit_static, mut ours_static) = (vec![], vec![]);
    let (own, program) = (limits.program("true_static"), farm.program("true_static"));
    for round in 1..=size.rounds {
        eprintln!("round {round} of {}", size.rounds);
        limit.push(limits.spawn("/bin/true", size.tasks.min(10_000), Identity::Switched)?.per_s);
        ours.push(farm.rate("/bin/true", size.tasks)?);
        kept.push(limits.spawn("/bin/true", size.tasks.min(10_000), Identity::Kept)?.per_s);
        limit_static.push(limits.spawn(&own, size.static_tasks, Identity::Switched)?.per_s);
        ours_static.push(farm.rate(&program, size.static_tasks)?);
    }
    figures.put("limit_true_per_s", median(&limit));
    figures.put("true_per_s", median(&ours));
    figures.put("true_vs_limit", ratio(&ours, &limit));
    figures.put("limit_static_per_s", median(&limit_static));
    figures.put("static_per_s", median(&ours_static));
    figures.put("static_vs_limit", ratio(&ours_static, &limit_static));
    figures.put("switch_vs_plain", ratio(&kept, &limit));
    Ok(())
}

fn single(size: &Size, limits: &Limits, farm: &mut BenchFarm, figures: &mut Figures) -> Result<()> {
    let (mut limit, mut ours) = (vec![], vec![]);
    for _ in 0..size.rounds.min(3) {
        limit.push(limits.spawn("/bin/true", size.tasks.min(5_000), Identity::Switched)?.per_s);
        ours.push(farm.single_task_jobs("/bin/true", size.jobs)?);
    }
    figures.put("single_task_jobs_per_s", median(&ours));
    figures.put("single_task_jobs_vs_limit", ratio(&ours, &limit));
    Ok(())
}

fn cost(size: &Size, limits: &Limits, farm: &mut BenchFarm, figures: &mut Figures) -> Result<()> {
    let (own, program) = (limits.program("true_static"), farm.program("true_static"));
    let (mut beyond, mut parts) = (vec![], vec![]);
    for _ in 0..size.rounds {
        let limit = limits.spawn(&own, size.static_tasks, Identity::Switched)?;
        let cost = farm.cost(&program, size.static_tasks)?;
        beyond.push(cost.all() - limit.cpu_us);
        parts.push((cost, limit));
    }
    let middle = |of: fn(&(farm::Cost, limits::Spawn)) -> f64| median(&parts.iter().map(of).collect::<Vec<_>>());
    figures.put("farm_cpu_us", median(&beyond));
    figures.put("supervisor_cpu_us", middle(|(c, _)| c.supervisor_us));
    figures.put("worker_cpu_us", middle(|(c, _)| c.worker_us));
    figures.put("session_cpu_us", middle(|(c, _)| c.session_us));
    figures.put("launcher_cpu_us", middle(|(c, _)| c.launcher_us));
    figures.put("task_cpu_us", middle(|(c, _)| c.task_us));
    figures.put("limit_static_cpu_us", middle(|(_, l)| l.cpu_us));
    Ok(())
}

fn logs(size: &Size, limits: &Limits, farm: &mut BenchFarm, figures: &mut Figures) -> Result<()> {
    let (mut limit, mut ours, mut lines, mut pages, mut searches) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..size.rounds {
        limit.push(limits.relay(65_500, size.log_mib)?);
        ours.push(farm.log_rate(65_500, size.log_mib)?.0 / 1e9);
        let (rate, job) = farm.log_rate(100, size.log_mib / 4)?;
        lines.push(rate / 100.0);
        let (page, search) = farm.log_page(job)?;
        pages.push(page);
        searches.push(search);
    }
    figures.put("limit_log_gb_s", median(&limit));
    figures.put("log_gb_s", median(&ours));
    figures.put("log_vs_limit", ratio(&ours, &limit));
    figures.put("log_lines_per_s", median(&lines));
    figures.put("log_page_ms", median(&pages));
    figures.put("log_search_ms", median(&searches));
    Ok(())
}

/// Sessions in a control group and namespaces of their own, against spawning with nothing of that.
fn isolated(size: &Size, limits: &Limits, figures: &mut Figures) -> Result<()> {
    let mut farm = BenchFarm::start_isolated(limits)?;
    let (mut limit, mut ours) = (vec![], vec![]);
    for _ in 0..size.rounds {
        limit.push(limits.spawn("/bin/true", size.tasks.min(10_000), Identity::Switched)?.per_s);
        ours.push(farm.rate("/bin/true", size.tasks.min(20_000))?);
    }
    if ours.is_empty() {
        bail!("nothing was measured");
    }
    figures.put("isolated_per_s", median(&ours));
    figures.put("isolated_vs_limit", ratio(&ours, &limit));
    Ok(())
}
