//! `qb.conf`: one host's own settings.

use crate::effective::{Lookup, Origin, Setting, is_secret};
use crate::keys::{KEYS, Key, key};
use crate::lines::{self, Statement};
use crate::near::nearest;
use crate::problem::{Findings, Problem};
use crate::secret::{ProxyPassword, SealedBy};
use crate::value::Value;
use crate::worker;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QbConf {
    settings: BTreeMap<Arc<str>, Setting>,
    findings: Findings,
}

impl QbConf {
    /// Reads a text; `file` is how it is called in findings. Of a key that is given twice the later value holds.
    #[must_use]
    pub fn parse(file: &str, text: &str) -> Self {
        let mut findings = Findings::new(file);
        let mut settings = BTreeMap::new();
        for line in lines::read(text, false, &mut findings) {
            match line.what {
                Statement::Section { name, .. } => findings.add(line.number, Problem::SectionHere(name)),
                Statement::Setting { key: name, form } => {
                    let value = form.for_host("");
                    let known = known_key(&name, line.number, &mut findings);
                    if let Some(known) = known {
                        check(known, &value, line.number, &mut findings);
                    }
                    let origin = Origin::Local { file: findings.file().clone(), line: line.number };
                    let name: Arc<str> = name.into();
                    settings.insert(name.clone(), Setting { key: name, known, value, origin });
                }
            }
        }
        let mut conf = Self { settings, findings };
        conf.look_at_password();
        conf.findings.sort();
        conf
    }

    /// Settings that were said in other ways besides, later than the file's: key, value as a file has it, and where.
    /// What can't be read is a finding, as in a file.
    pub fn say(&mut self, said: impl IntoIterator<Item = (String, String, String, u32)>) {
        for (name, value, file, line) in said {
            let form = match crate::value::parse(&value, false) {
                Ok((form, _)) => form,
                Err(problem) => {
                    self.findings.add(line, problem);
                    continue;
                }
            };
            let origin = Origin::Local { file: file.into(), line };
            let name: Arc<str> = name.into();
            let setting = Setting { key: name.clone(), known: key(&name), value: form.for_host(""), origin };
            self.settings.insert(name, setting);
        }
    }

    /// What a worker tells its supervisor of its own settings: key, value as a file has it, and where. No passwords.
    pub fn for_supervisor(&self) -> impl Iterator<Item = (String, String, String, u32)> {
        let of_worker = |s: &&Setting| {
            s.known.is_some_and(|k| k.role == crate::Role::Worker && k.standing != crate::Standing::Bootstrap)
        };
        let told = self.settings.values().filter(of_worker).filter(|s| !is_secret(&s.key));
        told.map(|s| {
            let (file, line) = s.origin.place();
            (s.key.to_string(), s.value.written(), file.to_string(), line)
        })
    }

    #[must_use]
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Keys that the file sets and that have no effect in Stead, each with its line.
    #[must_use]
    pub fn unused(&self) -> Vec<(&'static Key, u32)> {
        let unused = |s: &Setting| Some((s.known.filter(|k| k.is_unused())?, s.origin.place().1));
        let mut all: Vec<_> = self.settings.values().filter_map(unused).collect();
        all.sort_by_key(|(_, line)| *line);
        all
    }

    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.settings.values()
    }

    #[must_use]
    pub fn set(&self, name: &str) -> Option<&Setting> {
        self.settings.get(name)
    }

    /// `worker_lookup`. A value that is none is an error of the file.
    #[must_use]
    pub fn lookup(&self) -> Lookup {
        self.set("worker_lookup").and_then(|s| Lookup::read(&s.value).ok()).unwrap_or_default()
    }

    fn look_at_password(&mut self) {
        let account = self.set("proxy_account").map_or_else(|| "qubeproxy".to_owned(), |s| s.value.line());
        let Some(Setting { value, origin, .. }) = self.set("proxy_password") else { return };
        let (value, line) = (value.line(), origin.place().1);
        if ProxyPassword::new(&value).sealed_by() == SealedBy::Stead {
            self.findings.add(line, Problem::PasswordHere { account: account.clone() });
        }
        of_password(&value, &account, line, &mut self.findings);
    }

    /// All settings once more, sorted; passwords as a comment.
    #[must_use]
    pub fn expanded(&self) -> String {
        let mut out = String::new();
        for setting in self.settings.values() {
            out.push_str(&written(&setting.key, &setting.value.written()));
        }
        out
    }
}

/// One setting as a line of a file.
pub(crate) fn written(key: &str, value: &str) -> String {
    if is_secret(key) { format!("# {key} = (hidden)\n") } else { format!("{key} = {value}\n") }
}

/// The key of this name, or a finding.
pub(crate) fn known_key(name: &str, line: u32, findings: &mut Findings) -> Option<&'static Key> {
    let known = key(name);
    if known.is_none() {
        let near = nearest(name, KEYS.iter().map(|k| k.name));
        let identity = near.and_then(key).is_some_and(Key::is_identity);
        let nearest = near.map(str::to_owned);
        findings.add(line, Problem::UnknownKey { key: name.to_owned(), nearest, identity });
    }
    known
}

pub(crate) fn check(known: &Key, value: &Value, line: u32, findings: &mut Findings) {
    if let Err(bad) = worker::check(known, value) {
        findings.add(line, bad.problem(known, value));
    }
}

pub(crate) fn of_password(value: &str, account: &str, line: u32, findings: &mut Findings) {
    let account = account.to_owned();
    match ProxyPassword::new(value).sealed_by() {
        SealedBy::Qube => findings.add(line, Problem::SealedByQube { account }),
        SealedBy::Nobody if !value.is_empty() => findings.add(line, Problem::NotSealed { account }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_and_a_misspelt_precedence_are_refused() {
        let conf = QbConf::parse("qb.conf", "worker_cpus = 2\n[lin01]\nworker_lookup = supervisor;local\n");
        let wrong: Vec<String> = conf.findings().errors().map(ToString::to_string).collect();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].starts_with("qb.conf:2: error: [lin01]: qb.conf has no sections"));
        assert!(wrong[1].contains("qb.conf:3") && wrong[1].ends_with("(did you mean supervisor,local?)"), "{wrong:?}");
        assert_eq!(conf.lookup(), Lookup::LocalSupervisor);
    }

    #[test]
    fn what_a_worker_tells_reads_back_without_passwords() {
        let text = "worker_lookup = local\nworker_path_map = {\n \"a b\" : \"$x.y\"\n}\nproxy_password = hunter2\nworker_cpus = 3\n";
        let mut conf = QbConf::parse("qb.conf", text);
        conf.say([("worker_cpus".to_owned(), "5".to_owned(), "--slots".to_owned(), 0)]);
        let told: Vec<_> = conf.for_supervisor().collect();
        assert!(!format!("{told:?}").contains("hunter2"), "{told:?}");
        let mut again = QbConf::parse("", "");
        again.say(told);
        for key in ["worker_cpus", "worker_path_map"] {
            assert_eq!(again.set(key), conf.set(key), "{key}");
        }
        assert_eq!(again.settings().count(), 2);
        assert_eq!(again.set("worker_cpus").map(|s| s.origin.to_string()).as_deref(), Some("--slots"));
    }

    #[test]
    fn no_text_made_of_it_has_a_password() {
        let text = "proxy_password = hunter2\nproxy_pasword = hunter2\nmail_password = hunter2\n\
                    worker_drive_map = {X:|U:hunter2@\\\\S\\T}\nMY_SECRET = hunter2\nworker_lookup = x\n";
        let conf = QbConf::parse("qb.conf", text);
        let findings: String = conf.findings().iter().map(|f| format!("{f} {f:?}")).collect();
        let all = format!("{findings} {} {conf:?}", conf.expanded());
        assert!(!all.contains("hunter2"), "{all}");
        assert!(findings.contains("proxy_password is not sealed"), "{findings}");
    }
}
