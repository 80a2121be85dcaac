//! What stands on a qb command's line: options by one table per command, so that each that Qube! knows has a meaning
//! here, or is refused by its name.

use crate::failure::Failure;
use crate::out;

/// What becomes of an option.
#[derive(Debug, Clone, Copy)]
pub(super) enum Means {
    Works,
    /// Taken, and said to change nothing.
    NoEffect(&'static str),
    /// Refused by its name; with `--lenient` only said.
    Missing(&'static str),
    /// Refused, whatever else stands there: to leave it out could run something as somebody else.
    Never(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) name: &'static str,
    /// What its value is called; none for a switch.
    pub(super) value: Option<&'static str>,
    pub(super) means: Means,
}

/// A switch, or an option with a value, that works.
pub(super) const fn works(name: &'static str, value: Option<&'static str>) -> Known {
    Known { name, value, means: Means::Works }
}

pub(super) const fn no_effect(name: &'static str, value: Option<&'static str>, why: &'static str) -> Known {
    Known { name, value, means: Means::NoEffect(why) }
}

pub(super) const fn missing(name: &'static str, value: Option<&'static str>, why: &'static str) -> Known {
    Known { name, value, means: Means::Missing(why) }
}

/// What every qb command takes, besides its own.
const EVERYWHERE: [Known; 4] =
    [works("data", Some("DIR")), works("as", Some("PROXYUSER")), works("json", None), works("lenient", None)];

/// Where options may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Anywhere; `--` ends them.
    Mixed,
    /// Before the first other word: what follows is a command.
    Command,
}

#[derive(Debug, Default)]
pub(super) struct Words {
    given: Vec<(&'static str, String)>,
    pub(super) rest: Vec<String>,
    /// For the person, on standard error.
    pub(super) notes: Vec<String>,
}

impl Words {
    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(n, _)| *n == name)
    }

    /// The last one counts, as in Qube!.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Values with commas, each once given.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.all(name).flat_map(|v| v.split(',')).map(str::trim).filter(|v| !v.is_empty()).map(Into::into).collect()
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let parse = |text: &str| text.parse().map_err(|_| Failure::usage(format!("--{name}: {text:?} is no number")));
        self.get(name).map(parse).transpose()
    }

    /// `--data` and `--as`, as Stead's own commands take them.
    pub(super) fn asking(&self) -> Vec<String> {
        let of = |name: &'static str| self.get(name).map(|v| [format!("--{name}"), v.to_owned()]);
        [of("data"), of("as")].into_iter().flatten().flatten().collect()
    }

    pub(super) fn tell(&self) {
        self.notes.iter().for_each(out::note);
    }
}

/// Reads a line. One dash does as well as two, as in Qube!.
pub(super) fn read(table: &[Known], words: &[String], rest: Rest) -> Result<Words, Failure> {
    let mut read = Words::default();
    let mut open: Vec<(&Known, &'static str)> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(option) = option(word) else {
            read.rest.push(word.clone());
            if rest == Rest::Command {
                read.rest.extend(words.by_ref().cloned());
            }
            continue;
        };
        if option.is_empty() {
            read.rest.extend(words.by_ref().cloned());
            break;
        }
        let (name, value) = option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v.to_owned())));
        let known = find(table, name)?;
        let value = match (known.value, value) {
            (None, None) => String::new(),
            (None, Some(_)) => return Err(Failure::usage(format!("--{name} takes no value"))),
            (Some(_), Some(value)) => value,
            (Some(what), None) => {
                words.next().cloned().ok_or_else(|| Failure::usage(format!("--{name} needs a value: {what}")))?
            }
        };
        match known.means {
            Means::Works => {}
            Means::NoEffect(why) => read.notes.push(format!("--{name} has no effect: {why}")),
            Means::Missing(why) => open.push((known, why)),
            Means::Never(why) => return Err(unsupported(&format!("--{name}"), why)),
        }
        read.given.push((known.name, value));
    }
    for (known, why) in open {
        read.without(&format!("--{}", known.name), why)?;
    }
    Ok(read)
}

impl Words {
    /// Something that isn't there is an error or, with `--lenient`, a remark.
    pub(super) fn without(&mut self, what: &str, why: &str) -> Result<(), Failure> {
        if !self.has("lenient") {
            return Err(unsupported(what, why));
        }
        self.notes.push(format!("{what} is left out: {why}"));
        Ok(())
    }
}

pub(super) fn unsupported(what: &str, why: &str) -> Failure {
    Failure::Usage {
        text: format!("{what} isn't supported: {why}"),
        hint: Some("leave it out; docs/compat-qube.md says what works and what differs".into()),
    }
}

/// The word behind one dash or two; nothing behind `--` itself.
fn option(word: &str) -> Option<&str> {
    match word.strip_prefix("--") {
        Some(name) => Some(name),
        None => word.strip_prefix('-').filter(|n| n.starts_with(|c: char| c.is_ascii_alphabetic())),
    }
}

fn find<'a>(table: &'a [Known], name: &str) -> Result<&'a Known, Failure> {
    let of = |known: &&Known| known.name == name;
    table.iter().find(of).or_else(|| EVERYWHERE.iter().find(of)).ok_or_else(|| Failure::Usage {
        text: format!("there is no option --{name}"),
        hint: Some("--help lists them".into()),
    })
}

/// What `--help` prints.
pub(super) fn help(usage: &str, table: &[Known]) -> String {
    let mut text = format!("{usage}\n\n");
    for known in table.iter().chain(&EVERYWHERE) {
        let value = known.value.map(|v| format!(" {v}")).unwrap_or_default();
        let remark = match known.means {
            Means::Works => String::new(),
            Means::NoEffect(why) => format!("no effect: {why}"),
            Means::Missing(why) | Means::Never(why) => format!("not supported: {why}"),
        };
        text += format!("  {:28} {remark}", format!("--{}{value}", known.name)).trim_end();
        text.push('\n');
    }
    text += "\nOne dash does as well as two. --lenient leaves out what isn't supported, and says so.";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: [Known; 4] = [
        works("name", Some("NAME")),
        works("long", None),
        missing("mail", None, "no mail is sent"),
        Known { name: "domain", value: Some("D"), means: Means::Never("no domains") },
    ];

    fn split(line: &str) -> Vec<String> {
        line.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn one_dash_and_two() {
        for line in ["--name a --long 1 2", "-name a -long 1 2", "--name=a 1 --long 2", "1 -name=a 2 -long"] {
            let words = read(&TABLE, &split(line), Rest::Mixed).expect(line);
            assert_eq!((words.get("name"), words.has("long")), (Some("a"), true), "{line}");
            assert_eq!(words.rest, ["1", "2"], "{line}");
        }
    }

    #[test]
    fn a_commands_own_options_are_its_own() {
        let words = read(&TABLE, &split("-name a render -name b --long"), Rest::Command).expect("read");
        assert_eq!((words.get("name"), words.rest.join(" ")), (Some("a"), "render -name b --long".into()));
        let words = read(&TABLE, &split("-- -render -name b"), Rest::Command).expect("read");
        assert_eq!(words.rest, ["-render", "-name", "b"]);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (line, text) in [
            ("--mail", "--mail isn't supported: no mail is sent"),
            ("--nome x", "there is no option --nome"),
            ("--name", "--name needs a value: NAME"),
            ("--long=1", "--long takes no value"),
            ("--lenient --domain x", "--domain isn't supported: no domains"),
        ] {
            let failure = read(&TABLE, &split(line), Rest::Mixed).expect_err(line);
            assert_eq!((failure.exit(), failure.to_string().as_str()), (2, text), "{line}");
        }
        let words = read(&TABLE, &split("--mail --lenient"), Rest::Mixed).expect("lenient");
        assert_eq!(words.notes, ["--mail is left out: no mail is sent"]);
        assert!(help("qbx", &TABLE).contains("--mail                       not supported: no mail is sent"));
    }
}
