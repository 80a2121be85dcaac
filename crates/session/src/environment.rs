//! The environment of an item, from the account's own at the bottom to what only the session may say at the top.
//!
//! Also remembers which OpenJD environments are entered, as their `openjd_env` lines are a layer of it.

use crate::place::Place;
use crate::sys::{CStrings, Pid};
use crate::text::{CannotStart, quoted};
use std::borrow::Cow;
use std::collections::BTreeMap;

pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Only the account's base environment says who somebody is and where at home.
const IDENTITY: [&[u8]; 4] = [b"HOME", b"USER", b"LOGNAME", b"SHELL"];
const OURS: &[u8] = b"STEAD_";
/// Of ours, what a batch brings: the supervisor signed it, and puts nothing of a job's there.
const HANDED: [&[u8]; 3] = [b"STEAD_TOKEN_FILE", b"STEAD_URL", NICE];
const NICE: &[u8] = b"STEAD_NICE";
const NICE_MAX: u8 = 19;
/// Of an item, not of the session, so never taken from below.
const OF_ITEM: [&[u8]; 3] = [b"STEAD_STEP", b"STEAD_TASK", b"STEAD_ATTEMPT"];

/// The entered OpenJD environments, outermost first.
#[derive(Debug, Default)]
pub(crate) struct Environments {
    entered: Vec<Layer>,
    failed: Option<String>,
}

#[derive(Debug)]
struct Layer {
    name: String,
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What `onEnter` left running on purpose: tasks talk to it, `onExit` stops it.
    processes: Vec<Pid>,
}

impl Environments {
    /// From the start of `onEnter` on: what it sets counts even for its exit after it failed.
    pub(crate) fn enter(&mut self, name: &str) {
        self.entered.push(Layer { name: name.to_owned(), changes: Vec::new(), processes: Vec::new() });
    }

    pub(crate) fn exit(&mut self, name: &str) {
        if let Some(at) = self.entered.iter().rposition(|l| l.name == name) {
            self.entered.remove(at);
        }
    }

    pub(crate) fn is_entered(&self, name: &str) -> bool {
        self.entered.iter().any(|l| l.name == name)
    }

    /// A variable set (`Some`) or removed by the environment entered last.
    pub(crate) fn change(&mut self, name: Vec<u8>, value: Option<Vec<u8>>) {
        if let Some(layer) = self.entered.last_mut() {
            layer.changes.retain(|(n, _)| *n != name);
            layer.changes.push((name, value));
        }
    }

    /// Processes that go on while tasks run and after: all but those of the environment that is being left.
    pub(crate) fn kept(&self, leaving: Option<&str>) -> Vec<Pid> {
        let layers = self.entered.iter().filter(|l| leaving != Some(l.name.as_str()));
        layers.flat_map(|l| l.processes.iter().copied()).collect()
    }

    /// The environment entered last left these behind.
    pub(crate) fn keep(&mut self, processes: Vec<Pid>) {
        if let Some(layer) = self.entered.last_mut() {
            layer.processes.extend(processes);
        }
    }

    /// A child has ended. If it was kept, `heirs` are asked for: what it had started is now ours to keep.
    pub(crate) fn ended(&mut self, pid: Pid, heirs: impl FnOnce(Vec<Pid>) -> Vec<Pid>) -> bool {
        let all = self.kept(None);
        let Some(layer) = self.entered.iter_mut().find(|l| l.processes.contains(&pid)) else { return false };
        layer.processes.retain(|p| *p != pid);
        layer.processes.extend(heirs(all));
        true
    }

    /// Remembers the first environment that could not be entered; no task starts after it.
    pub(crate) fn fail(&mut self, text: String) {
        self.failed.get_or_insert(text);
    }

    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}

/// The layers of one item's environment, lowest first.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    pub(crate) base: &'a Pairs,
    pub(crate) batch: &'a Pairs,
    pub(crate) environments: &'a Environments,
    pub(crate) item: &'a Pairs,
    /// The item runs in another folder than the base environment's PWD says.
    pub(crate) moved: bool,
    /// What the session itself says: STEAD_JOB, STEAD_TASK …
    pub(crate) own: &'a [(&'static str, Cow<'a, [u8]>)],
}

/// A layered environment, ready to be written for the kernel.
pub(crate) type Variables<'a> = BTreeMap<&'a [u8], Cow<'a, [u8]>>;

impl<'a> Layers<'a> {
    pub(crate) fn build(&self, place: &Place) -> Result<Variables<'a>, CannotStart> {
        let mut all = Variables::new();
        for (name, value) in self.base {
            let stale = OF_ITEM.contains(&name.as_slice()) || (self.moved && name == b"PWD");
            if !stale {
                all.insert(name, Cow::Borrowed(value));
            }
        }
        for (name, value) in self.batch {
            if HANDED.contains(&name.as_slice()) && !value.contains(&0) {
                all.insert(name, place.fill(value));
                continue;
            }
            set(&mut all, name, Some(place.fill(value)))?;
        }
        for (name, value) in self.item {
            set(&mut all, name, Some(place.fill(value)))?;
        }
        for layer in &self.environments.entered {
            for (name, value) in &layer.changes {
                set(&mut all, name, value.as_deref().map(Cow::Borrowed))?;
            }
        }
        for (name, value) in self.own {
            all.insert(name.as_bytes(), value.clone());
        }
        Ok(all)
    }
}

/// By how much a batch's processes give way to others.
pub(crate) fn nice(batch: &Pairs) -> u8 {
    let said = batch.iter().rev().find(|(name, _)| name == NICE);
    let number = said.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse::<u8>().ok());
    number.unwrap_or(0).min(NICE_MAX)
}

fn set<'a>(all: &mut Variables<'a>, name: &'a [u8], value: Option<Cow<'a, [u8]>>) -> Result<(), CannotStart> {
    let refuse = |what: &str| {
        let text = format!("the environment variable {} {what}", quoted(name));
        Err(CannotStart { stage: "environment", errno: libc::EINVAL, text })
    };
    if name.is_empty() {
        return refuse("has an empty name");
    }
    if name.contains(&b'=') {
        return refuse("has a \"=\" in its name");
    }
    if name.contains(&0) {
        return refuse("has a NUL byte in its name");
    }
    if value.as_ref().is_some_and(|v| v.contains(&0)) {
        return refuse("has a NUL byte in its value");
    }
    if IDENTITY.contains(&name) || name.starts_with(OURS) {
        return Ok(());
    }
    match value {
        Some(value) => drop(all.insert(name, value)),
        None => drop(all.remove(name)),
    }
    Ok(())
}

/// `NAME=value` strings for the kernel.
pub(crate) fn write(all: &Variables<'_>, out: &mut CStrings) {
    out.clear();
    for (name, value) in all {
        // A NUL cannot be here: `set` refuses it, and the base comes from the kernel.
        let _ = out.push(&[name, b"=", value]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Pairs {
        list.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect()
    }

    fn built(
        base: &Pairs,
        batch: &Pairs,
        environments: &Environments,
        item: &Pairs,
    ) -> Result<Vec<String>, CannotStart> {
        let place = Place::new(b"/job".to_vec(), 1);
        let own = [("STEAD_TASK", Cow::Borrowed(&b"4"[..]))];
        let layers = Layers { base, batch, environments, item, moved: true, own: &own };
        let mut out = CStrings::default();
        write(&layers.build(&place)?, &mut out);
        Ok(out.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect())
    }

    #[test]
    fn upper_layers_win_and_reserved_names_stay() {
        let base = pairs(&[
            ("HOME", "/home/ada"),
            ("PATH", "/bin"),
            ("PWD", "/old"),
            ("STEAD_TASK", "old"),
            ("STEAD_STEP", "9"),
        ]);
        let batch = pairs(&[("PATH", "/opt/bin:/bin"), ("HOME", "/root"), ("A", "batch"), ("B", "@STEAD_JOBDIR@/b")]);
        let item = pairs(&[("A", "item"), ("D", "template's"), ("STEAD_JOB", "666"), ("SHELL", "/bin/evil")]);
        let mut environments = Environments::default();
        environments.enter("outer");
        environments.change(b"C".to_vec(), Some(b"outer".to_vec()));
        environments.change(b"D".to_vec(), Some(b"set by onEnter".to_vec()));
        environments.change(b"USER".to_vec(), Some(b"root".to_vec()));
        environments.enter("inner");
        environments.change(b"C".to_vec(), Some(b"inner".to_vec()));
        environments.change(b"B".to_vec(), None);
        let want = ["A=item", "C=inner", "D=set by onEnter", "HOME=/home/ada", "PATH=/opt/bin:/bin", "STEAD_TASK=4"];
        assert_eq!(built(&base, &batch, &environments, &item).unwrap(), want);
        environments.exit("inner");
        let want = [
            "A=item",
            "B=/job/b",
            "C=outer",
            "D=set by onEnter",
            "HOME=/home/ada",
            "PATH=/opt/bin:/bin",
            "STEAD_TASK=4",
        ];
        assert_eq!(built(&base, &batch, &environments, &item).unwrap(), want);
    }

    #[test]
    fn nobody_takes_more_than_their_share() {
        for (text, nice_value) in [("5", 5), ("19", 19), ("20", 19), ("255", 19), ("256", 0), ("-5", 0), ("", 0)] {
            assert_eq!(nice(&pairs(&[("A", "3"), ("STEAD_NICE", text)])), nice_value, "{text}");
        }
        assert_eq!(nice(&pairs(&[("NICE", "5")])), 0);
    }

    #[test]
    fn impossible_names_and_values_are_refused() {
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0y")] {
            let refused = built(&Pairs::new(), &Pairs::new(), &Environments::default(), &pairs(&[(name, value)]));
            assert_eq!(refused.unwrap_err().stage, "environment", "{name:?}={value:?}");
        }
    }

    #[test]
    fn a_failed_environment_is_named_once() {
        let mut environments = Environments::default();
        environments.fail("first".to_owned());
        environments.fail("second".to_owned());
        assert_eq!(environments.failure(), Some("first"));
    }
}
