//! Writing into `qbwrk.conf`: what one host is to have, with every other line, comment and order as they stand.
//!
//! What is written is read again before anybody gets it: the host has what was asked for and nothing else otherwise, and
//! every other host what it had. Where the host's own section can't do that, because others inherit from it or a later
//! section says otherwise, a section is added at the end; where that can't either, nothing is written.

use crate::lines::{self, Statement};
use crate::problem::Findings;
use crate::wrk::{Platform, QbWrk};
use std::collections::BTreeMap;

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

/// The text with what `host` is to have; `others` are hosts besides those that the file names.
pub fn with_settings(
    file: &str,
    text: &str,
    host: &str,
    settings: &[(&str, &str)],
    others: &[&str],
) -> Result<String, EditError> {
    let before = QbWrk::parse(file, text);
    if let Some(error) = before.findings().errors().next() {
        return Err(EditError::Broken(error.to_string()));
    }
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
    for (key, value) in settings {
        if value.chars().any(char::is_control) || value.is_empty() {
            return Err(EditError::Wrong(format!("the value of {key} is empty, or has control characters")));
        }
    }
    let in_place = settings.iter().try_fold(text.to_owned(), |text, (key, value)| set(&text, &section, key, value));
    let appended = appended(text, &section, settings);
    let mut wrong = None;
    for candidate in in_place.into_iter().chain([appended]) {
        match compared(file, &before, &candidate, host, settings, others) {
            Ok(true) => return Ok(candidate),
            Ok(false) => {}
            Err(error) => wrong = Some(error),
        }
    }
    Err(wrong.unwrap_or(EditError::Elsewhere { host: host.to_owned() }))
}

/// Whether the new text says what it is to say, and nothing else.
fn compared(
    file: &str,
    before: &QbWrk,
    text: &str,
    host: &str,
    settings: &[(&str, &str)],
    others: &[&str],
) -> Result<bool, EditError> {
    let after = QbWrk::parse(file, text);
    if let Some(error) = after.findings().errors().next() {
        return Err(EditError::Wrong(error.to_string()));
    }
    let mut wanted = values(before, host);
    wanted.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    if values(&after, host) != wanted {
        return Ok(false);
    }
    let section = before.resolve(host, Platform::Linux).host;
    let is_other = |name: &str| !name.eq_ignore_ascii_case(host) && !name.eq_ignore_ascii_case(&section);
    let named: Vec<String> = before.names().take(HOSTS_MAX + 1).collect();
    if named.len() > HOSTS_MAX {
        return Err(EditError::TooMany);
    }
    let all = named.iter().map(String::as_str).chain(others.iter().copied());
    // A name that is a platform or nobody's stands for all the rest.
    let mut all = all.chain(["another-host-of-no-section"]).filter(|name| is_other(name));
    Ok(all.all(|name| values(before, name) == values(&after, name)))
}

fn values(wrk: &QbWrk, host: &str) -> BTreeMap<String, String> {
    let effective = wrk.resolve(host, Platform::Linux);
    effective.settings().map(|s| (s.key.to_string(), s.value.line())).collect()
}

fn end_of_line(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn appended(text: &str, section: &str, settings: &[(&str, &str)]) -> String {
    let end = end_of_line(text);
    let mut out = text.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push_str(end);
    }
    if !out.is_empty() {
        out.push_str(end);
    }
    out.push_str(&format!("[{section}]{end}"));
    for (key, value) in settings {
        out.push_str(&format!("{key} = {}{end}", written(value)));
    }
    out
}

/// In the last section that is this host and nothing else; `None`: there is none, or it is not written plainly.
fn set(text: &str, section: &str, key: &str, value: &str) -> Option<String> {
    let read = lines::read(text, true, &mut Findings::new(""));
    let is_section =
        |what: &Statement| matches!(what, Statement::Section { name, .. } if name.eq_ignore_ascii_case(section));
    let at = read.iter().rposition(|line| is_section(&line.what))?;
    let own = read[at + 1..].iter().take_while(|line| matches!(line.what, Statement::Setting { .. }));
    let known = own.filter(|line| matches!(&line.what, Statement::Setting { key: k, .. } if k == key)).last();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let index = |number: u32| usize::try_from(number).ok()?.checked_sub(1);
    match known {
        Some(line) => {
            let line = lines.get_mut(index(line.number)?)?;
            *line = replaced(line, value)?;
        }
        None => {
            let header = index(read[at].number)?;
            let end = end_of_line(text);
            let first = lines.get_mut(header)?;
            if !first.ends_with('\n') {
                first.push_str(end);
            }
            let next = read.get(at + 1).filter(|l| matches!(l.what, Statement::Setting { .. }));
            let model = next.and_then(|l| lines.get(index(l.number)?)).cloned().unwrap_or_default();
            let indent: String = model.chars().take_while(|c| *c == ' ' || *c == '\t').collect();
            lines.insert(header + 1, format!("{indent}{key} = {}{end}", written(value)));
        }
    }
    Some(lines.concat())
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
        with_settings("qbwrk.conf", text, host, settings, &["lin-03", "elsewhere"])
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
