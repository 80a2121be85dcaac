//! What the machine can do at all: processes started and reaped by a C program that does nothing else, with the same
//! pipes and the same switch of identity as a farm; and what one command costs by other ways.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;

const SPAWN_C: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/limits/spawn.c");
const TRUE_C: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/limits/true_static.c");
/// Any id without an account: the limit is about the calls, not the name.
const UID: &str = "61000";

pub(crate) struct Limits {
    folder: TempDir,
}

impl Limits {
    /// Compiles the two programs.
    pub(crate) fn build() -> Result<Self> {
        let limits = Self { folder: tempfile::tempdir().context("failed to make a folder")? };
        limits.cc(&["-O2", SPAWN_C, "-o", "spawn"])?;
        limits.cc(&["-O2", "-static", "-nostdlib", TRUE_C, "-o", "true_static"])?;
        Ok(limits)
    }

    fn cc(&self, args: &[&str]) -> Result<()> {
        let status = Command::new("cc").current_dir(&self.folder).args(args).status().context("failed to start cc")?;
        if status.success() { Ok(()) } else { bail!("cc {args:?}: {status}") }
    }

    pub(crate) fn static_true(&self) -> PathBuf {
        self.folder.path().join("true_static")
    }

    /// Tasks per second: vfork, two pipes drained, setgroups and setres*id, as many in flight as there are cores.
    pub(crate) fn spawn_rate(&self, program: impl AsRef<Path>, tasks: u64) -> Result<f64> {
        let cores = std::thread::available_parallelism()?.to_string();
        let output = Command::new(self.folder.path().join("spawn"))
            .current_dir(&self.folder)
            .args(["-m", "vfork", "-o", "pipe", "-u", UID, "-k", "2", "-j", &cores, "-n", &tasks.to_string(), "-p"])
            .arg(program.as_ref())
            .stderr(Stdio::inherit())
            .output()
            .context("failed to start the spawn limit")?;
        let text = String::from_utf8(output.stdout)?;
        let rate = text.split_whitespace().next().context("the spawn limit printed nothing")?;
        Ok(rate.parse()?)
    }
}

/// Milliseconds that one command takes, started and waited for: medians of rounds in turn.
pub(crate) struct PerCommand {
    pub(crate) plain: f64,
    /// As another uid, by `setpriv`'s system calls alone.
    pub(crate) switched: f64,
    pub(crate) sudo: Option<f64>,
}

pub(crate) fn per_command(rounds: usize) -> Result<PerCommand> {
    let has_sudo = Command::new("sudo").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    let (mut plain, mut switched, mut sudo) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        plain.push(time(&["/bin/true"])?);
        let with = time(&["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups", "/bin/true"])?;
        let without = time(&["setpriv", "/bin/true"])?;
        switched.push(plain.last().copied().unwrap_or(f64::NAN) + (with - without));
        if has_sudo {
            sudo.push(time(&["sudo", "-n", "-u", "nobody", "/bin/true"])?);
        }
    }
    let median = crate::statistics::median;
    Ok(PerCommand {
        plain: median(&plain),
        switched: median(&switched),
        sudo: (!sudo.is_empty()).then(|| median(&sudo)),
    })
}

fn time(argv: &[&str]) -> Result<f64> {
    let started = Instant::now();
    let status = Command::new(argv[0]).args(&argv[1..]).stdin(Stdio::null()).status()?;
    let took = started.elapsed();
    if status.success() { Ok(took.as_secs_f64() * 1000.0) } else { bail!("{argv:?}: {status}") }
}
