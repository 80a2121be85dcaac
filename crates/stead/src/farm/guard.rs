//! Root's small process around a one-shot farm.
//!
//! It makes the folders, starts the process that gives up root and runs the farm, waits for it, and hands the job's
//! files over. It parses nothing and speaks with nobody.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, mkdtemp};

use super::handover::{self, OutDir};
use super::programs::myself;
use super::tree::Copied;
use crate::cli::Run;
use crate::failure::Failure;
use crate::out;

/// How long a launcher takes at most to end its sessions and services.
const ENDING: Duration = Duration::from_secs(25);

pub(super) fn run(options: &Run, name: &str) -> Result<(), Failure> {
    let out = if options.no_out { None } else { Some(OutDir::create(&options.out, name)?) };
    let data = temporary(Path::new("/tmp"), 0o755)?;
    let mut command = myself();
    command.args(["run", "--inner"]).arg(&data);
    if let Some(out) = &out {
        command.arg("--out-path").arg(&out.path);
    }
    // What was typed behind `stead run`.
    command.args(std::env::args_os().skip(2));
    let ended = attend(command);
    if let Some(out) = out {
        let copied = collect(&data, None, &out)?;
        settle(&out, &copied)?;
    }
    clear(&data)?;
    ended
}

/// Where the farm's process was killed, the launcher is still ending what it had started.
pub(super) fn clear(data: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + ENDING;
    loop {
        match handover::clear(data) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            done => return done,
        }
    }
}

/// A new folder that only we can put anything into.
pub(super) fn temporary(parent: &Path, mode: u32) -> Result<PathBuf, Failure> {
    let path = mkdtemp(&parent.join("stead-XXXXXX")).map_err(|e| Failure::file("create a folder in", parent, e))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
        .map_err(|e| Failure::file("set the mode of", &path, e))?;
    Ok(path)
}

/// Copies what the jobs of a farm that has ended left in their folders.
pub(super) fn collect(data: &Path, only: Option<&str>, out: &OutDir) -> Result<Copied, Failure> {
    let work = data.join("work");
    let mut total = Copied::default();
    let Ok(entries) = std::fs::read_dir(&work) else { return Ok(total) };
    for entry in entries {
        let entry = entry.map_err(|e| Failure::file("list", &work, e))?;
        if !is_job(&entry.file_name()) {
            continue;
        }
        let copied = handover::copy(&entry.path(), only, out)?;
        total.files += copied.files;
        total.bytes += copied.bytes;
        total.special += copied.special;
        total.closed += copied.closed;
    }
    Ok(total)
}

fn is_job(name: &OsStr) -> bool {
    name.to_str().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Hands over, and says so; a job that left nothing leaves no folder.
pub(super) fn settle(out: &OutDir, copied: &Copied) -> Result<(), Failure> {
    if copied.files == 0 && out.remove_if_empty() {
        return Ok(());
    }
    out.hand_over()?;
    let some = |n: u64, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
    let mut line = format!("{}: {}, {}", out.path.display(), some(copied.files, "file"), out::bytes(copied.bytes));
    if copied.special > 0 {
        line += &format!("; not copied: {}", some(copied.special, "link or special file"));
    }
    if copied.closed > 0 {
        line += &format!("; not readable: {}", copied.closed);
    }
    out::note(line);
    Ok(())
}

/// Runs a child to its end, passing on the signals that ask to end.
pub(super) fn attend(mut command: Command) -> Result<(), Failure> {
    let fail = |e: nix::Error| Failure::system("wait for the farm", e);
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block().map_err(fail)?;
    // A group of its own, so that ^C reaches it once: through us. The child unblocks the signals itself.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(|e| Failure::system("start the farm", e))?;
    loop {
        if let Some(status) = child.try_wait().map_err(|e| Failure::system("wait for the farm", e))? {
            return match status.code() {
                Some(0) => Ok(()),
                Some(code) => Err(Failure::Reported(u8::try_from(code).unwrap_or(1))),
                None => Err(Failure::ServiceEnded { program: "the farm".into(), said: Some(status.to_string()) }),
            };
        }
        match set.wait().map_err(fail)? {
            Signal::SIGCHLD => {}
            other => pass_on(&child, other),
        }
    }
}

fn pass_on(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // Gone already is as good.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Undoes what [`attend`] left blocked in its children.
pub(crate) fn unblock_signals() {
    // Nothing else could be done about a failure, and there is none for a valid set.
    let _ = SigSet::all().thread_unblock();
}
