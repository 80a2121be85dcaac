//! `cargo xtask full`: what takes too long for every change. Keeps what it found in `docs/full.md`, to be committed.
//!
//! The page is written after each step. A step that fails ends it, and the page then says so: the last whole run is the
//! one that counts.

use crate::{Strictness, cargo, debian, everything, openid, root, step};
use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const PAGE: &str = "docs/full.md";
/// Kills of each kind; a round takes five seconds.
const ROUNDS: &str = "25";
/// Frames that Blender renders.
const FRAMES: usize = 8;

/// `bench`: arguments of the bench.
pub(crate) fn run(bench: &[&str]) -> Result<()> {
    let root = root();
    let mut page = Page::new(&root)?;
    let done = steps(&root, &mut page, bench);
    if let Err(error) = &done {
        writeln!(page.text, "\nIt ended early: {error:#}.")?;
    }
    page.write()?;
    println!("\nxtask: {PAGE} says what was found; commit it");
    done
}

fn steps(root: &Path, page: &mut Page, bench: &[&str]) -> Result<()> {
    let rounds = [("STEAD_E2E_ROUNDS", ROUNDS)];
    page.timed(&format!("everything of `cargo xtask ci`, with {ROUNDS} rounds of kills"), || {
        everything(Strictness::NothingSkipped, &[], &rounds)
    })?;
    page.timed("a build without OpenID Connect", || openid::lints_without(root))?;
    page.timed("a release build", || step("release build", cargo(root).args(["build", "--release", "--locked"])))?;
    let stead = root.join("target/release/stead");
    page.timed("the tour, as root", || {
        step("tour", Command::new(&stead).current_dir(root).args(["run", "examples/tour"]))
    })?;
    ensure!(debian::install("blender"), "Blender is missing (Debian package blender)");
    page.timed("Blender's frames, on a farm under a throwaway account", || blender(root, &stead))?;
    let what = if bench.is_empty() { "the whole bench" } else { "the bench with fewer tasks (`--quick`)" };
    let figures = page.timed(what, || figures(root, bench))?;
    write!(page.text, "\n## Bench\n\n```\n{}\n```\n", figures.trim_end())?;
    Ok(())
}

/// Renders the example in a folder of its own and counts the pictures that come back.
fn blender(root: &Path, stead: &Path) -> Result<()> {
    let folder = root.join("target/full-blender");
    match std::fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => std::fs::create_dir_all(&folder)?,
    }
    let mut run = Command::new(stead);
    run.current_dir(&folder).args(["run", "--mode", "proxy", "--proxy-account", "throwaway"]);
    run.arg(root.join("examples/blender/animation.yaml")).args(["-p", &format!("Frames=1-{FRAMES}")]);
    step("blender", &mut run)?;
    let pictures = pictures_below(&folder)?;
    ensure!(pictures >= FRAMES, "Blender was to render {FRAMES} frames, and {pictures} pictures came back");
    Ok(())
}

fn pictures_below(folder: &Path) -> Result<usize> {
    let mut pictures = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            pictures += pictures_below(&entry.path())?;
        } else if entry.path().extension().is_some_and(|e| e == "png") && entry.metadata()?.len() > 0 {
            pictures += 1;
        }
    }
    Ok(pictures)
}

fn figures(root: &Path, args: &[&str]) -> Result<String> {
    println!("\n== bench");
    let mut bench = cargo(root);
    bench.args(["run", "--release", "--locked", "--quiet", "-p", "bench", "--"]).args(args).stderr(Stdio::inherit());
    let output = bench.output().context("failed to start the bench")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    ensure!(output.status.success(), "bench: {}", output.status);
    Ok(text)
}

/// What is committed.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn new(root: &Path) -> Result<Self> {
        let said = |program: &str, args: &[&str]| -> Result<String> {
            let output = Command::new(program).current_dir(root).args(args).output();
            let output = output.with_context(|| format!("failed to start {program}"))?;
            ensure!(output.status.success(), "{program}: {}", output.status);
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let commit = said("git", &["rev-parse", "--short=12", "HEAD"])?;
        let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?;
        let system = said("uname", &["-srm"])?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let text = format!(
            "# The last run of `cargo xtask full`\n\nWritten by it; not edited by hand.\n\n\
             * commit {commit}\n* begun {date}\n* {system}, {cores} cores\n\n\
             | step | took |\n|---|---|\n"
        );
        Ok(Self { path: root.join(PAGE), text })
    }

    fn timed<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let done = work();
        let took = started.elapsed().as_secs();
        let how = if done.is_ok() { format!("{took} s") } else { format!("failed after {took} s") };
        writeln!(self.text, "| {what} | {how} |")?;
        self.write()?;
        done
    }

    fn write(&self) -> Result<()> {
        std::fs::write(&self.path, &self.text).with_context(|| format!("failed to write {}", self.path.display()))
    }
}
