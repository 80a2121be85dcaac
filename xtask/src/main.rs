//! The tasks of people who build Stead: `cargo xtask test|ci|full|deps|servers`.
//!
//! `test` is what a person runs, `ci` the same where nothing may be skipped, `full` adds what takes long. It starts
//! other programs and looks at how they end; it builds and checks nothing itself.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod debian;
mod full;
mod launcher;
mod openid;
mod python;
mod servers;

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

const USAGE: &str = "\
usage: cargo xtask TASK

  test [FILTER…]  format, lints, documents, build, all tests; installs what the tests need when root
  ci [FILTER…]    the same, and what would be skipped is a failure
  full            ci with long crash tests, the tour, Blender, the whole bench; writes docs/full.md
                  (--quick-bench: the bench with fewer tasks, and the page says so)
  deps            write the launcher's tree of dependencies to crates/launcher/deps.txt
  servers         make what tests need that are started in another way: OpenLDAP, Samba, an OpenID provider, Linkis's client";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first().map(|(task, rest)| (task.as_str(), rest)) {
        Some(("test", filter)) => everything(Strictness::SkipAndSay, filter, &[]),
        Some(("ci", filter)) => everything(Strictness::NothingSkipped, filter, &[]),
        Some(("full", [])) => full::run(&[]),
        Some(("full", [quick])) if quick == "--quick-bench" => full::run(&["--quick"]),
        Some(("deps", [])) => launcher::write_tree(&root()),
        Some(("servers", [])) => servers::unpack(&root())
            .and_then(|()| openid::provider(&root()))
            .and_then(|()| python::linkis_client(&root())),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("\nxtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// What becomes of a check that this machine can't make.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    SkipAndSay,
    NothingSkipped,
}

/// All checks, the cheap ones first, the tests last.
fn everything(strictness: Strictness, filter: &[String], env: &[(&str, &str)]) -> Result<()> {
    let root = root();
    prepare(&root, strictness)?;
    step("format", cargo(&root).args(["fmt", "--all", "--check"]))?;
    step("lints", cargo(&root).args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    step(
        "documents",
        cargo(&root).env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--workspace", "--no-deps", "--locked"]),
    )?;
    launcher::check_tree(&root)?;
    licences(&root, strictness)?;
    // The end-to-end tests start the programs that people start, so these must be built first.
    step("build", cargo(&root).args(["build", "--workspace", "--bins", "--locked"]))?;
    launcher::check_search_path(&root)?;
    step("documents' examples", cargo(&root).args(["test", "--workspace", "--doc", "--locked", "--quiet"]))?;
    tests(&root, strictness, filter, env)
}

fn prepare(root: &Path, strictness: Strictness) -> Result<()> {
    let lacking = debian::install_missing();
    for package in &lacking {
        println!("xtask: {} is missing: {} can't be tested here", package.name, package.used_for);
    }
    let root_lacking = !debian::is_root();
    if root_lacking {
        println!("xtask: not root: the tests on real accounts in a private mount namespace will say that they skip");
    }
    let servers = servers::unpack(root);
    if let Err(e) = &servers {
        println!("xtask: accounts of LDAP and of a domain can't be tested here: no directory servers: {e:#}");
    }
    let provider = openid::provider(root);
    if let Err(e) = &provider {
        println!("xtask: signing in at a real OpenID provider can't be tested here: {e:#}");
    }
    let client = python::linkis_client(root);
    if let Err(e) = &client {
        println!("xtask: Linkis's own client can't be tested here: {e:#}");
    }
    let all_servers = servers.is_ok() && provider.is_ok() && client.is_ok();
    if strictness == Strictness::NothingSkipped && (root_lacking || !lacking.is_empty() || !all_servers) {
        bail!("this run may skip nothing (run as root, on Debian or with the packages named above)");
    }
    Ok(())
}

fn tests(root: &Path, strictness: Strictness, filter: &[String], env: &[(&str, &str)]) -> Result<()> {
    let mut tests = cargo(root);
    if has_cargo("nextest") {
        tests.args(["nextest", "run", "--workspace", "--locked"]);
        if strictness == Strictness::NothingSkipped {
            tests.args(["--profile", "ci"]);
        }
    } else {
        println!("xtask: cargo-nextest is missing (cargo install cargo-nextest --locked): using cargo test");
        tests.args(["test", "--workspace", "--bins", "--lib", "--tests", "--locked", "--no-fail-fast"]);
    }
    tests.args(filter).envs(env.iter().copied());
    if strictness == Strictness::NothingSkipped {
        tests.env("CI", "true");
    }
    step("tests", &mut tests)
}

fn licences(root: &Path, strictness: Strictness) -> Result<()> {
    if has_cargo("deny") {
        return step("licences", cargo(root).args(["deny", "--offline", "check", "bans", "licenses", "sources"]));
    }
    if strictness == Strictness::SkipAndSay {
        println!("xtask: cargo-deny is missing: licences and sources of dependencies are not checked");
    }
    Ok(())
}

fn has_cargo(subcommand: &str) -> bool {
    let mut probe = Command::new(cargo_path());
    probe.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|s| s.success())
}

/// Runs one step and tells how long it took.
fn step(name: &str, command: &mut Command) -> Result<()> {
    println!("\n== {name}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("failed to start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    println!("== {name}: {:.0} s", started.elapsed().as_secs_f32());
    Ok(())
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(cargo_path());
    command.current_dir(root);
    command
}

fn cargo_path() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// The workspace's folder: the parent of this crate's.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    here.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
