//! What the machine can do at all: processes started and reaped by a C program that does nothing else, with the same
//! pipes and the same switch of identity as a farm; output passed on by one that does nothing else; and what one
//! command costs by other ways.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/limits");
/// Any id without an account: the limit is about the calls, not the name.
const UID: &str = "61000";

pub(crate) struct Limits {
    folder: TempDir,
}

/// What spawning alone costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spawn {
    pub(crate) per_s: f64,
    /// CPU of parent and child together.
    pub(crate) cpu_us: f64,
}

/// How the limit switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    Switched,
    Kept,
}

impl Limits {
    /// Compiles the programs, in a folder on a real disk.
    pub(crate) fn build() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("stead-bench").tempdir_in("/var/tmp");
        let limits = Self { folder: folder.context("failed to make a folder")? };
        limits.cc("spawn", &[])?;
        limits.cc("relay", &[])?;
        limits.cc("lines", &["-static"])?;
        limits.cc("true_static", &["-static", "-nostdlib"])?;
        limits.cc("now_static", &["-static", "-nostdlib", "-fno-stack-protector"])?;
        Ok(limits)
    }

    fn cc(&self, name: &str, flags: &[&str]) -> Result<()> {
        let source = format!("{SOURCES}/{name}.c");
        let mut cc = Command::new("cc");
        cc.current_dir(&self.folder).arg("-O2").args(flags).args([&source, "-o", name]);
        let status = cc.status().context("failed to start cc")?;
        if status.success() { Ok(()) } else { bail!("cc {source}: {status}") }
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Tasks per second: vfork, two pipes drained, setgroups and setres*id, two in flight per core.
    pub(crate) fn spawn(&self, program: impl AsRef<Path>, tasks: u64, identity: Identity) -> Result<Spawn> {
        let cores = std::thread::available_parallelism()?.to_string();
        let mut command = Command::new(self.program("spawn"));
        command.current_dir(&self.folder);
        command.args(["-m", "vfork", "-o", "pipe", "-k", "2", "-j", &cores, "-n", &tasks.to_string(), "-p"]);
        command.arg(program.as_ref());
        if identity == Identity::Switched {
            command.args(["-u", UID]);
        }
        let text = output_of(&mut command)?;
        let mut words = text.split_whitespace().map(str::parse);
        let mut next = || words.next().context("the spawn limit printed too little");
        Ok(Spawn { per_s: next()??, cpu_us: next()?? })
    }

    /// GB/s from a process through a pipe, another process and a socket into a file.
    pub(crate) fn relay(&self, write_size: u32, mib: u64) -> Result<f64> {
        let mut command = Command::new(self.program("relay"));
        command.args([&write_size.to_string(), &mib.to_string()]).arg(self.folder.path().join("relayed"));
        Ok(output_of(&mut command)?.trim().parse()?)
    }
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().context("failed to start a limit")?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Tasks per second of other ways to run many commands, where they are installed: name and rate.
pub(crate) fn peers(tasks: u64) -> Result<Vec<(&'static str, f64)>> {
    let cores = std::thread::available_parallelism()?;
    let xargs = format!("seq {tasks} | xargs -P{cores} -n1 /bin/true");
    let with_sudo = format!("seq {tasks} | xargs -P{cores} -n1 sudo -n -u nobody /bin/true");
    let parallel = format!("seq {tasks} | parallel -j{cores} /bin/true");
    let mut rates = Vec::new();
    for (name, needs, script) in [
        ("peer_xargs_per_s", "xargs", xargs),
        ("peer_xargs_sudo_per_s", "sudo", with_sudo),
        ("peer_parallel_per_s", "parallel", parallel),
    ] {
        if is_there(needs) {
            let took = time(&["sh", "-c", &script])? / 1000.0;
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            rates.push((name, tasks as f64 / took));
        }
    }
    Ok(rates)
}

/// Milliseconds of one command: plain, and by `sudo` where it is installed. Medians of rounds in turn.
pub(crate) fn per_command(rounds: usize) -> Result<(f64, Option<f64>)> {
    let has_sudo = is_there("sudo");
    let (mut plain, mut sudo) = (vec![], vec![]);
    for _ in 0..rounds {
        plain.push(time(&["/bin/true"])?);
        if has_sudo {
            sudo.push(time(&["sudo", "-n", "-u", "nobody", "/bin/true"])?);
        }
    }
    let median = crate::statistics::median;
    Ok((median(&plain), (!sudo.is_empty()).then(|| median(&sudo))))
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn time(argv: &[&str]) -> Result<f64> {
    let started = Instant::now();
    let mut command = Command::new(argv[0]);
    let status = command.args(&argv[1..]).stdin(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = started.elapsed();
    if status.success() { Ok(took.as_secs_f64() * 1000.0) } else { bail!("{argv:?}: {status}") }
}
