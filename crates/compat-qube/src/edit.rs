//! Writing into `qbwrk.conf`: what one host is to have, with every other line, comment and order as they stand.
//!
//! What is written is read again before anybody gets it: the host has what was asked for and nothing else otherwise, and
//! every other host what it had. Where the host's own section can't do that, because others inherit from it or a later
//! section says otherwise, a section is added at the end; where that can't either, nothing is written.

use crate::lines::{self, Line, Statement};
use crate::problem::Findings;
use crate::wrk::{Platform, QbWrk};
use std::collections::{BTreeMap, HashMap, HashSet};

/// More hosts are not compared one by one.
const HOSTS_MAX: usize = 20_000;

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("the file has an error already: {0}")]
    Broken(String),
    #[error("{0:?} is no name that a section can have")]
    NoSection(String),
    #[error("{0}")]
    Wrong(String),
    #[error(
        "a section of the file says otherwise of {host} in a way that one more section can't change: edit it by hand"
    )]
    Elsewhere { host: String },
    #[error("the file names more than {HOSTS_MAX} hosts: edit it by hand")]
    TooMany,
}

/// The text with what each of these hosts is to have; `others` are hosts besides those that the file names.
///
/// Compared once, however many they are: each in its own section where that says it and nothing else, or else in one at
/// the end. Where neither does for all of them together, one after the other.
pub fn with_settings_of(
    file: &str,
    text: &str,
    hosts: &[&str],
    settings: &[(&str, &str)],
    others: &[&str],
) -> Result<String, EditError> {
    let before = QbWrk::parse(file, text);
    if let Some(error) = before.findings().errors().next() {
        return Err(EditError::Broken(error.to_string()));
    }
    for (key, value) in settings {
        if value.chars().any(char::is_control) || value.is_empty() {
            return Err(EditError::Wrong(format!("the value of {key} is empty, or has control characters")));
        }
    }
    let sections = hosts.iter().map(|host| section_of(&before, host)).collect::<Result<Vec<_>, _>>()?;
    let wanted: Vec<(&str, &str)> = hosts.iter().copied().zip(sections.iter().map(String::as_str)).collect();
    let mut plain = Plain::read(text);
    let (in_place, at_end): (Vec<&str>, Vec<&str>) =
        sections.iter().map(String::as_str).partition(|section| plain.set(section, settings));
    let all: Vec<&str> = sections.iter().map(String::as_str).collect();
    let candidates = [(plain.text(), at_end), (text.to_owned(), all)];
    let mut wrong = None;
    for (mut candidate, at_end) in candidates.into_iter().skip(usize::from(in_place.is_empty())) {
        at_end.iter().for_each(|section| append(&mut candidate, section, settings));
        match compared(file, &before, &candidate, &wanted, settings, others) {
            Ok(true) => return Ok(candidate),
            Ok(false) => {}
            Err(error) => wrong = Some(error),
        }
    }
    match (hosts, wrong) {
        (_, Some(error)) => Err(error),
        ([host], None) => Err(EditError::Elsewhere { host: (*host).to_owned() }),
        (hosts, None) => hosts
            .iter()
            .try_fold(text.to_owned(), |text, host| with_settings_of(file, &text, &[host], settings, others)),
    }
}

/// The name of the section of its own that a host has, or would have.
fn section_of(before: &QbWrk, host: &str) -> Result<String, EditError> {
    let section = before.resolve(host, Platform::Linux).host;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_layer = ["default", "global_config", "self", "this", "_"].iter().any(|w| section.eq_ignore_ascii_case(w));
    if section.is_empty()
        || !section.chars().all(is_name)
        || is_layer
        || Platform::parse(&section.to_ascii_lowercase()).is_some()
    {
        return Err(EditError::NoSection(section));
    }
    Ok(section)
}

/// Whether the new text says what it is to say, and nothing else. `wanted`: hosts and their sections.
fn compared(
    file: &str,
    before: &QbWrk,
    text: &str,
    wanted: &[(&str, &str)],
    settings: &[(&str, &str)],
    others: &[&str],
) -> Result<bool, EditError> {
    let after = QbWrk::parse(file, text);
    if let Some(error) = after.findings().errors().next() {
        return Err(EditError::Wrong(error.to_string()));
    }
    let are_set = wanted.iter().all(|(host, _)| {
        let mut wanted = values(before, host);
        wanted.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        values(&after, host) == wanted
    });
    if !are_set {
        return Ok(false);
    }
    let ours: HashSet<String> =
        wanted.iter().flat_map(|(host, section)| [host, section]).map(|name| name.to_ascii_lowercase()).collect();
    let named: Vec<String> = before.names().take(HOSTS_MAX + 1).collect();
    if named.len() > HOSTS_MAX {
        return Err(EditError::TooMany);
    }
    let all = named.iter().map(String::as_str).chain(others.iter().copied());
    // A name that is a platform or nobody's stands for all the rest.
    let mut all = all.chain(["another-host-of-no-section"]).filter(|name| !ours.contains(&name.to_ascii_lowercase()));
    Ok(all.all(|name| values(before, name) == values(&after, name)))
}

fn values(wrk: &QbWrk, host: &str) -> BTreeMap<String, String> {
    let effective = wrk.resolve(host, Platform::Linux);
    effective.settings().map(|s| (s.key.to_string(), s.value.line())).collect()
}

fn end_of_line(text: &str) -> &'static str {
    // The first line's is the file's.
    if text.split_inclusive('\n').next().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" }
}

fn append(text: &mut String, section: &str, settings: &[(&str, &str)]) {
    let end = end_of_line(text);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(end);
    }
    if !text.is_empty() {
        text.push_str(end);
    }
    text.push_str(&format!("[{section}]{end}"));
    for (key, value) in settings {
        text.push_str(&format!("{key} = {}{end}", written(value)));
    }
}

/// A text with its lines, and what is to stand in them.
struct Plain {
    read: Vec<Line>,
    lines: Vec<String>,
    /// Where in `read` the last section of each name begins, by that name in small letters.
    sections: HashMap<String, usize>,
    /// Lines to come behind a line.
    new: BTreeMap<usize, String>,
    end: &'static str,
}

impl Plain {
    fn read(text: &str) -> Self {
        let read = lines::read(text, true, &mut Findings::new(""));
        let name = |(at, line): (usize, &Line)| match &line.what {
            Statement::Section { name, .. } => Some((name.to_ascii_lowercase(), at)),
            Statement::Setting { .. } => None,
        };
        let sections = read.iter().enumerate().filter_map(name).collect();
        let lines = text.split_inclusive('\n').map(str::to_owned).collect();
        Self { sections, read, lines, new: BTreeMap::new(), end: end_of_line(text) }
    }

    /// In the last section that is this host and nothing else. False: there is none, or it is not written plainly; then
    /// nothing was set.
    fn set(&mut self, section: &str, settings: &[(&str, &str)]) -> bool {
        let Some(at) = self.sections.get(&section.to_ascii_lowercase()).copied() else { return false };
        let (mut changed, mut added) = (Vec::new(), String::new());
        for (key, value) in settings {
            match self.written_in(at, key) {
                Some(number) => {
                    let line = index(number).and_then(|i| Some((i, replaced(self.lines.get(i)?, value)?)));
                    let Some(line) = line else { return false };
                    changed.push(line);
                }
                None => added.insert_str(0, &format!("{}{key} = {}{}", self.indent(at), written(value), self.end)),
            }
        }
        let Some(header) = index(self.read[at].number).filter(|i| *i < self.lines.len()) else { return false };
        for (i, line) in changed {
            self.lines[i] = line;
        }
        if !added.is_empty() {
            if !self.lines[header].ends_with('\n') {
                self.lines[header].push_str(self.end);
            }
            self.new.insert(header, added);
        }
        true
    }

    /// The line of a key in the section that begins there.
    fn written_in(&self, at: usize, key: &str) -> Option<u32> {
        let own = self.read[at + 1..].iter().take_while(|line| matches!(line.what, Statement::Setting { .. }));
        let is_it = |line: &&Line| matches!(&line.what, Statement::Setting { key: k, .. } if k == key);
        own.filter(is_it).last().map(|line| line.number)
    }

    /// As the section's first line has it.
    fn indent(&self, at: usize) -> String {
        let next = self.read.get(at + 1).filter(|line| matches!(line.what, Statement::Setting { .. }));
        let model = next.and_then(|line| self.lines.get(index(line.number)?)).map_or("", String::as_str);
        model.chars().take_while(|c| *c == ' ' || *c == '\t').collect()
    }

    fn text(&self) -> String {
        let new = |i: usize| self.new.get(&i).map_or("", String::as_str);
        self.lines.iter().enumerate().flat_map(|(i, line)| [line.as_str(), new(i)]).collect()
    }
}

fn index(number: u32) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

/// The line with another value: what is before it and its comment stay.
fn replaced(line: &str, value: &str) -> Option<String> {
    let body = line.trim_end_matches(['\r', '\n']);
    let (code, end) = (lines::without_comment(body).ok()?, &line[body.len()..]);
    let (before, old) = code.split_once('=')?;
    if old.trim_start().starts_with('{') {
        return None;
    }
    let lead: String = old.chars().take_while(|c| c.is_whitespace()).collect();
    let trail = if old.trim().is_empty() { "" } else { &old[old.trim_end().len()..] };
    Some(format!("{before}={lead}{}{trail}{}{end}", written(value), &body[code.len()..]))
}

/// As it stands in a file.
fn written(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# The farm.\n[default]\nproxy_execution_mode = user   # everybody as themself\n\n[base]\n\tworker_cpus = 8\n\n[lin-[01-10]] : base\nproxy_account = comp\n\n[lin-07]   # the odd one\n\tproxy_execution_mode=proxy # until May\n";

    fn edit(text: &str, host: &str, settings: &[(&str, &str)]) -> Result<String, EditError> {
        with_settings_of("qbwrk.conf", text, &[host], settings, &["lin-03", "elsewhere"])
    }

    #[test]
    fn several_at_once_are_as_one_after_the_other() {
        let settings = [("proxy_execution_mode", "proxy"), ("proxy_account", "render")];
        let hosts = ["lin-07", "lin-03", "new-1"];
        let at_once = with_settings_of("qbwrk.conf", FILE, &hosts, &settings, &[]).expect("text");
        let by_one = hosts.iter().fold(FILE.to_owned(), |text, host| edit(&text, host, &settings).expect("text"));
        assert_eq!(at_once, by_one);
        // b has what a has unless somebody sees to it: the section at the end does, for both.
        let parent = "[a]\nproxy_account = one\n[b] : a\nworker_cpus = 2\n";
        let both = with_settings_of("qbwrk.conf", parent, &["a", "c"], &[("proxy_account", "two")], &[]);
        assert_eq!(both.expect("text"), format!("{parent}\n[a]\nproxy_account = two\n\n[c]\nproxy_account = two\n"));
        let wrong = with_settings_of("qbwrk.conf", FILE, &["lin-07", "default"], &settings, &[]);
        assert!(matches!(wrong, Err(EditError::NoSection(_))));
    }

    /// One comparison for all: one for each takes minutes.
    #[test]
    fn ten_thousand_hosts_are_written_at_once() {
        let names: Vec<String> = (0..10_000).map(|n| format!("lin-{n:05}")).collect();
        let file: String = names.iter().map(|n| format!("[{n}]\nproxy_account = one\n")).collect();
        let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
        let new = with_settings_of("qbwrk.conf", &file, &hosts, &[("proxy_account", "two")], &hosts).expect("text");
        assert_eq!(new, file.replace("one", "two"));
    }

    #[test]
    fn only_what_was_asked_for_is_other() {
        let after =
            edit(FILE, "lin-07", &[("proxy_execution_mode", "user"), ("proxy_account", "render")]).expect("text");
        let expected = FILE.replace(
            "[lin-07]   # the odd one\n\tproxy_execution_mode=proxy # until May\n",
            "[lin-07]   # the odd one\n\tproxy_account = render\n\tproxy_execution_mode=user # until May\n",
        );
        assert_eq!(after, expected);
        assert_eq!(edit(&after, "lin-07", &[("proxy_account", "render")]).expect("text"), after, "nothing to do");
    }

    #[test]
    fn a_host_of_a_range_or_of_none_gets_a_section_of_its_own() {
        let after = edit(FILE, "LIN-03", &[("proxy_execution_mode", "proxy")]).expect("text");
        assert_eq!(after, format!("{FILE}\n[lin-03]\nproxy_execution_mode = proxy\n"));
        let after = edit("", "lin-09", &[("worker_host_domain", "STUDIO")]).expect("text");
        assert_eq!(after, "[lin-09]\nworker_host_domain = STUDIO\n");
        // By its short name, or its sections would be others.
        let after = edit(FILE, "lin-04.farm.example", &[("proxy_execution_mode", "proxy")]).expect("text");
        assert!(after.ends_with("\n[lin-04]\nproxy_execution_mode = proxy\n"), "{after}");
    }

    #[test]
    fn those_that_inherit_or_come_later_keep_theirs() {
        let parent = "[a]\nproxy_account = one\n[b] : a\nworker_cpus = 2\n";
        let after = edit(parent, "a", &[("proxy_account", "two")]).expect("text");
        assert_eq!(after, format!("{parent}\n[a]\nproxy_account = two\n"), "b keeps what a had");
        let later = "[a-1]\nproxy_account = one\n[a-[1-3]]\nproxy_account = all\n";
        let after = edit(later, "a-1", &[("proxy_account", "two")]).expect("text");
        assert_eq!(after, format!("{later}\n[a-1]\nproxy_account = two\n"));
    }

    #[test]
    fn lines_of_windows_and_values_that_need_quotes() {
        let text = "[w]\r\nproxy_account = old\r\n";
        let after = edit(text, "w", &[("proxy_account", "render"), ("worker_groups", "fast,gpu")]).expect("text");
        assert!(after.contains("\r\nworker_groups = \"fast,gpu\"\r\n"), "{after:?}");
        assert!(after.lines().all(|l| !l.contains('\r')) && after.matches("\r\n").count() == 3, "{after:?}");
    }

    #[test]
    fn what_can_not_be_is_not_written() {
        let wrong =
            |text: &str, host: &str, key: &str, value: &str| edit(text, host, &[(key, value)]).expect_err("refused");
        assert!(matches!(wrong("[a\n", "a", "proxy_account", "x"), EditError::Broken(_)));
        assert!(matches!(wrong(FILE, "default", "proxy_account", "x"), EditError::NoSection(_)));
        assert!(matches!(wrong(FILE, "linux", "proxy_account", "x"), EditError::NoSection(_)));
        assert!(matches!(wrong(FILE, "a]\n[default", "proxy_account", "x"), EditError::NoSection(_)));
        assert!(matches!(wrong(FILE, "lin-07", "proxy_account", "x\n[default]"), EditError::Wrong(_)));
        assert!(matches!(wrong(FILE, "lin-07", "proxy_execution_mode", "root"), EditError::Wrong(_)));
        assert!(matches!(wrong(FILE, "lin-07", "proxy_account", "x # y\" = {"), EditError::Wrong(_)));
    }
}
