//! Qube!'s commands as other names of `stead`: `qbsub …`, by a link to the program, or `stead qb sub …`.
//!
//! A translation and nothing more: what is typed becomes Stead's own commands and requests, and whatever has no meaning
//! here is refused by its name. No right, no state and no decision lives here. docs/compat-qube.md says what differs.

mod act;
mod farm;
mod flight;
mod jobs;
mod priority;
mod requirements;
mod sub;
mod words;

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;

use crate::cli::{Asking, Cli, Command, Submit};
use crate::client::Client;
use crate::cmd;
use crate::failure::Failure;
use crate::out;
use words::{Words, help};

/// The commands that work, as `stead install` links them.
pub(crate) const NAMES: [&str; 22] = [
    "qbsub",
    "qbjobs",
    "qbhosts",
    "qbkill",
    "qbretry",
    "qbblock",
    "qbunblock",
    "qbsuspend",
    "qbresume",
    "qbinterrupt",
    "qbrequeue",
    "qbremove",
    "qbmodify",
    "qbout",
    "qberr",
    "qblock",
    "qbunlock",
    "qbusers",
    "qbadmin",
    "qbconfigfile",
    "qblogin",
    "qbhash",
];

/// Known to Qube!'s people, and not here.
const MISSING: [(&str, &str); 11] = [
    ("qbmigrate", "qbinterrupt ends what runs, which runs again where there is a free slot"),
    ("qbpreempt", "an urgent job gets slots by its priority"),
    ("qbbump", "jobs run in the order of their priority and number"),
    ("qbshove", "every pending job is looked at whenever something changes"),
    ("qbcomplete", "nobody says of a job that it is complete but its tasks"),
    ("qbfail", "qbkill ends a job"),
    ("qbretire", "a worker's slot ends with its tasks; qblock keeps new ones away"),
    ("qbreset", "qbretry runs failed and killed tasks again"),
    ("qbwrk", "stead worker list lists workers"),
    ("qbping", "stead doctor says whether the farm works"),
    ("qbhist", "stead audit search --job ID says who did what"),
];

/// `qbsub -x` becomes `stead qb sub -x` when the program was called by that name.
pub(crate) fn renamed(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|a| Path::new(a).file_name()).and_then(|n| n.to_str()).map(str::to_owned);
    if let Some(name) = name
        && (NAMES.contains(&name.as_str()) || MISSING.iter().any(|(n, _)| *n == name))
    {
        arguments.splice(..1, ["stead".into(), "qb".into(), name.into()]);
    }
    arguments
}

pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    let Some((name, words)) = words.split_first() else {
        return Err(Failure::usage(format!("which? {}", NAMES.join(", "))));
    };
    let command = if name.starts_with("qb") { name.clone() } else { format!("qb{name}") };
    match command.as_str() {
        "qbsub" => submit(words),
        "qbjobs" => crate::single_threaded(jobs::show(words)),
        "qbhosts" => crate::single_threaded(farm::hosts(words)),
        "qbkill" | "qbretry" | "qbblock" | "qbunblock" | "qbsuspend" | "qbresume" | "qbinterrupt" | "qbrequeue"
        | "qbremove" => crate::single_threaded(act::act(&command, words)),
        "qbmodify" => crate::single_threaded(act::modify(words)),
        "qbout" | "qberr" => crate::single_threaded(act::output(&command, words)),
        "qblock" | "qbunlock" => crate::single_threaded(farm::lock(&command, words)),
        "qbusers" => users(words),
        "qbadmin" | "qbconfigfile" | "qblogin" | "qbhash" => match farm::other_help(&command, words) {
            Some(text) => {
                crate::out::say(text);
                Ok(())
            }
            None => stead(&farm::other_name(&command, words)?),
        },
        _ => Err(unknown(&command)),
    }
}

fn unknown(command: &str) -> Failure {
    match MISSING.iter().find(|(name, _)| *name == command) {
        Some((name, why)) => Failure::Usage {
            text: format!("{name} isn't supported: {why}"),
            hint: Some("docs/compat-qube.md says what works and what differs".into()),
        },
        None => Failure::Usage {
            text: format!("there is no command {command}"),
            hint: Some(format!("there are {}", NAMES.join(", "))),
        },
    }
}

/// Another command of this program.
fn stead(words: &[String]) -> Result<(), Failure> {
    crate::run(parsed(words)?)
}

fn parsed(words: &[String]) -> Result<Command, Failure> {
    let line = std::iter::once("stead").chain(words.iter().map(String::as_str));
    Cli::try_parse_from(line).map(|cli| cli.command).map_err(|e| Failure::usage(e.to_string().trim_end().to_owned()))
}

fn users(words: &[String]) -> Result<(), Failure> {
    match farm::users(words)? {
        farm::Users::List(line) => stead(&line),
        farm::Users::Change(change) => crate::single_threaded(change.make()),
        farm::Users::Told => Ok(()),
    }
}

fn submit(words: &[String]) -> Result<(), Failure> {
    // What stands behind the command's name is the command's.
    if words.iter().take_while(|w| w.starts_with('-')).any(|w| ["-h", "-help", "--help"].contains(&w.as_str())) {
        out::say(help("qbsub [OPTIONS] COMMAND", &sub::TABLE));
        return Ok(());
    }
    let (line, notes) = sub::translate(words, &mut own_environment())?;
    notes.iter().for_each(out::note);
    let Command::Submit(submit) = parsed(&line)? else {
        return Err(Failure::usage("qbsub submits a job"));
    };
    crate::single_threaded(sent(&submit))
}

/// Scripts read the number.
async fn sent(submit: &Submit) -> Result<(), Failure> {
    let (_, job) = cmd::send(submit).await?;
    out::say(job);
    Ok(())
}

/// What is no text can't be handed on, as JSON holds text.
fn own_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn client(given: &Words) -> Result<Client, Failure> {
    let mut asking = Asking { data: given.get("data").map(Into::into), ..Asking::default() };
    asking.acting.acting_as = given.get("as").map(Into::into);
    Client::of(&asking)
}

#[cfg(test)]
mod tests;
