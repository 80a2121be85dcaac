//! `qbwrk.conf`: the supervisor's settings for its workers, with sections, inheritance and macros.
//!
//! The file is read from top to bottom, and everything is bound where it stands: a section has what its parents have
//! *so far*, a macro means what is set *above*. Only the host's name (`$_`) is open until a host asks. So templates are
//! worked out once, and a host is a few look-ups.
//!
//! For one host, later wins: `[default]`, its platform's section, then every section that is it, in the order of the
//! file, each with its parents first (the last parent wins) and its own keys last. `self` and `this` are the section
//! that is being read.

use crate::conf::{check, known_key, of_password, written};
use crate::effective::{Effective, Origin, Setting, is_secret};
use crate::hosts::Pattern;
use crate::keys::{Key, Kind, Role, Standing};
use crate::lines::{self, Line, Statement};
use crate::near::nearest;
use crate::problem::{Findings, Problem};
use crate::value::{Form, Piece, Pieces, VALUE_MAX};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// Most settings, and bytes of values, that a file may make of its templates and macros.
const SETTINGS_MAX: usize = 1_000_000;
const BYTES_MAX: usize = 64 << 20;
/// Most sections from where a setting is written to where it applies.
const DEPTH_MAX: usize = 64;

/// The operating system of a worker, as the file calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    Linux,
    Osx,
    Winnt,
}

impl Platform {
    pub const ALL: [Self; 3] = [Self::Linux, Self::Osx, Self::Winnt];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Osx => "osx",
            Self::Winnt => "winnt",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == word)
    }
}

/// A setting whose value waits for nothing but the host's name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    known: Option<&'static Key>,
    form: Arc<Form>,
    line: u32,
    /// From the section it is written in to the one that has it.
    sections: Vec<Arc<str>>,
}

type Map = BTreeMap<Arc<str>, Bound>;

/// One `[…]` of the file, with what it has by then.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Section {
    pattern: Pattern,
    map: Map,
}

/// Sections that belong to all hosts, or to all of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Default,
    Platform(Platform),
    /// `[global_config]`.
    Global,
}

impl Layer {
    fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "default" => Some(Self::Default),
            "global_config" => Some(Self::Global),
            other => Platform::parse(other).map(Self::Platform),
        }
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QbWrk {
    file: Arc<str>,
    default: Map,
    platforms: HashMap<Platform, Map>,
    sections: Vec<Section>,
    /// Sections of one name, by that name in small letters.
    by_name: HashMap<String, Vec<usize>>,
    ranges: Vec<usize>,
    /// Names that are no hosts: said so, or inherited from. In small letters.
    templates: HashSet<String>,
    findings: Findings,
}

impl QbWrk {
    /// Reads a text; `file` is how it is called in findings.
    #[must_use]
    pub fn parse(file: &str, text: &str) -> Self {
        let mut findings = Findings::new(file);
        let lines = lines::read(text, true, &mut findings);
        let mut reader = Reader::new(findings);
        for line in lines {
            reader.take(line);
        }
        reader.finish()
    }

    #[must_use]
    pub const fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Keys that the file sets and that have no effect in Stead, each with the line that says it first.
    #[must_use]
    pub fn unused(&self) -> Vec<(&'static Key, u32)> {
        let maps = std::iter::once(&self.default).chain(self.platforms.values());
        let maps = maps.chain(self.sections.iter().map(|s| &s.map));
        let mut first: BTreeMap<u32, &'static Key> = BTreeMap::new();
        for bound in maps.flat_map(|map| map.values()) {
            if let Some(key) = bound.known.filter(|k| k.is_unused()) {
                first.entry(bound.line).or_insert(key);
            }
        }
        once_each(first.into_iter().map(|(line, key)| (key, line)))
    }

    /// What the file says for one host.
    #[must_use]
    pub fn resolve(&self, host: &str, platform: Platform) -> Effective {
        let (name, sections) = self.of_host(host);
        let maps = [Some(&self.default), self.platforms.get(&platform)];
        let maps = maps.into_iter().flatten().chain(sections.iter().map(|s| &s.map));
        let counts = |b: &Bound| b.known.is_some_and(|k| k.role == Role::Worker && k.standing != Standing::Bootstrap);
        let mut merged: BTreeMap<&Arc<str>, &Bound> = BTreeMap::new();
        for (key, bound) in maps.flatten() {
            merged.insert(key, bound);
        }
        let setting = |(key, bound): (&Arc<str>, &Bound)| Setting {
            key: key.clone(),
            known: bound.known,
            value: bound.form.for_host(&name),
            origin: Origin::Central { file: self.file.clone(), line: bound.line, sections: bound.sections.clone() },
        };
        let settings: Vec<Setting> = merged.into_iter().filter(|(_, b)| counts(b)).map(setting).collect();
        Effective::from_layers(name.clone(), settings)
    }

    /// Whether a section of the file is this host.
    #[must_use]
    pub fn has(&self, host: &str) -> bool {
        !self.of_host(host).1.is_empty()
    }

    /// The sections of a host in the order of the file, and its name as the first of them writes it. A host that is
    /// known by its full name is found by its short one.
    fn of_host(&self, host: &str) -> (String, Vec<&Section>) {
        let short = host.split_once('.').map(|(short, _)| short);
        for name in [Some(host), short].into_iter().flatten() {
            let mut at: Vec<usize> = self.by_name.get(&name.to_ascii_lowercase()).cloned().unwrap_or_default();
            at.extend(self.ranges.iter().filter(|i| self.sections[**i].pattern.matches(name).is_some()));
            at.sort_unstable();
            if let Some(first) = at.first() {
                let written = self.sections[*first].pattern.matches(name).unwrap_or_else(|| name.to_owned());
                return (written, at.into_iter().map(|i| &self.sections[i]).collect());
            }
        }
        (host.to_owned(), Vec::new())
    }

    /// How many hosts and templates the file names, counting hosts twice that it names twice.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.sections.iter().map(|s| u64::try_from(s.pattern.names().count()).unwrap_or(u64::MAX)).sum()
    }

    /// All names of sections, ranges written out, in the order of the file; each once.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let mut seen = HashSet::new();
        let all = self.sections.iter().flat_map(|s| s.pattern.names());
        all.filter(move |name| seen.insert(name.to_ascii_lowercase()))
    }

    /// The names that are hosts as far as one can tell: nothing inherits from them, and `templates` doesn't list them.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        self.names().filter(|n| !self.templates.contains(&n.to_ascii_lowercase()))
    }

    /// The file without templates and macros, as `qbconfigfile` prints it: what holds for all, for platforms, and for
    /// each host. It reads back to the same settings, but for passwords, which are not shown.
    #[must_use]
    pub fn expanded(&self) -> String {
        let mut out = String::new();
        let layers = Platform::ALL.iter().filter_map(|p| Some((p.as_str(), self.platforms.get(p)?)));
        for (name, map) in std::iter::once(("default", &self.default)).chain(layers) {
            if !map.is_empty() {
                let _ = writeln!(out, "[{name}]");
                for (key, bound) in map {
                    out.push_str(&written(key, &bound.form.written()));
                }
                out.push('\n');
            }
        }
        for name in self.names() {
            let (name, sections) = self.of_host(&name);
            let _ = writeln!(out, "[{name}]");
            let merged: BTreeMap<_, _> = sections.iter().flat_map(|s| &s.map).collect();
            for (key, bound) in merged {
                out.push_str(&written(key, &bound.form.for_host(&name).written()));
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        if !out.is_empty() {
            out.push('\n');
        }
        out
    }
}

/// Where what is read goes.
#[derive(Debug)]
enum Into {
    /// Before the first section, or in one that is not understood.
    Nowhere {
        said: bool,
    },
    Layer(Layer),
    Section,
}

/// The file so far.
#[derive(Debug)]
struct Reader {
    wrk: QbWrk,
    into: Into,
    /// The section that is being read, when it is one of hosts.
    current: Section,
    /// What its name is in findings and origins.
    title: Arc<str>,
    /// Which names were inherited from, and where first.
    inherited: HashMap<String, u32>,
    settings: usize,
    /// Bytes of values that macros stand for: of this setting, and of all.
    bytes: usize,
    bytes_of_all: usize,
    /// Lines of passwords, with what they are and whose they may be.
    passwords: Vec<(u32, String, Option<String>)>,
}

impl Reader {
    fn new(findings: Findings) -> Self {
        let wrk = QbWrk {
            file: findings.file().clone(),
            default: Map::new(),
            platforms: HashMap::new(),
            sections: Vec::new(),
            by_name: HashMap::new(),
            ranges: Vec::new(),
            templates: HashSet::new(),
            findings,
        };
        Self {
            wrk,
            into: Into::Nowhere { said: false },
            current: Section { pattern: Pattern::One(String::new()), map: Map::new() },
            title: "".into(),
            inherited: HashMap::new(),
            settings: 0,
            bytes: 0,
            bytes_of_all: 0,
            passwords: Vec::new(),
        }
    }

    fn take(&mut self, line: Line) {
        match line.what {
            Statement::Section { name, parents } => {
                self.end_section();
                self.begin_section(&name, &parents, line.number);
            }
            Statement::Setting { key, form } => self.set(&key, &form, line.number),
        }
    }

    fn finish(mut self) -> QbWrk {
        self.end_section();
        let default = self.wrk.default.get("proxy_account").map(|b| b.form.for_host("HOST").line());
        for (line, value, account) in std::mem::take(&mut self.passwords) {
            let account = account.or_else(|| default.clone()).unwrap_or_else(|| "qubeproxy".to_owned());
            of_password(&value, &account, line, &mut self.wrk.findings);
        }
        self.wrk.templates.extend(self.inherited.into_keys());
        self.wrk.findings.sort();
        self.wrk
    }

    // --- sections

    fn begin_section(&mut self, name: &str, parents: &[String], line: u32) {
        self.title = name.into();
        self.into = Into::Nowhere { said: true };
        if ["self", "this", "_"].contains(&name.to_ascii_lowercase().as_str()) {
            return self.found(line, Problem::Reserved(name.to_owned()));
        }
        let inherited = match Layer::of(name) {
            Some(layer) => {
                self.into = Into::Layer(layer);
                self.parents(parents, line)
            }
            None => match Pattern::parse(name) {
                Ok(pattern) => {
                    self.title = pattern.to_string().into();
                    self.into = Into::Section;
                    if let Some(by) = self.inherited.get(&name.to_ascii_lowercase()) {
                        let by = *by;
                        self.found(line, Problem::Late { section: name.to_owned(), by });
                    }
                    self.current = Section { pattern, map: Map::new() };
                    self.parents(parents, line)
                }
                Err(reason) => return self.found(line, Problem::BadSection { name: name.to_owned(), reason }),
            },
        };
        for (key, mut bound) in inherited {
            if bound.sections.len() >= DEPTH_MAX {
                return self.found(line, Problem::TooDeep { section: name.to_owned(), max: DEPTH_MAX });
            }
            bound.sections.push(self.title.clone());
            self.put(key, bound, line);
        }
    }

    fn end_section(&mut self) {
        if !matches!(std::mem::replace(&mut self.into, Into::Nowhere { said: true }), Into::Section) {
            return;
        }
        let empty = Section { pattern: Pattern::One(String::new()), map: Map::new() };
        let section = std::mem::replace(&mut self.current, empty);
        let account = section.map.get("proxy_account").map(|b| b.form.for_host("HOST").line());
        for (line, _, of) in &mut self.passwords {
            if of.is_none() && section.map.get("proxy_password").is_some_and(|b| b.line == *line) {
                of.clone_from(&account);
            }
        }
        let at = self.wrk.sections.len();
        match &section.pattern {
            Pattern::One(name) => self.wrk.by_name.entry(name.to_ascii_lowercase()).or_default().push(at),
            Pattern::Range { .. } => self.wrk.ranges.push(at),
        }
        self.wrk.sections.push(section);
    }

    /// What the parents have by now; the last one wins.
    fn parents(&mut self, parents: &[String], line: u32) -> Map {
        let mut all = Map::new();
        for parent in parents {
            match Layer::of(parent) {
                // Everything has it anyway, and below the platform's.
                Some(Layer::Default) => {}
                Some(Layer::Platform(platform)) => {
                    all.extend(self.wrk.platforms.get(&platform).cloned().unwrap_or_default());
                }
                Some(Layer::Global) => self.no_parent(parent, line),
                None => {
                    let (_, sections) = self.wrk.of_host(parent);
                    let known = !sections.is_empty();
                    let maps: Vec<Map> = sections.iter().map(|s| s.map.clone()).collect();
                    if !known {
                        self.no_parent(parent, line);
                    }
                    self.inherited.entry(parent.to_ascii_lowercase()).or_insert(line);
                    all.extend(maps.into_iter().flatten());
                }
            }
            if self.settings + all.len() > SETTINGS_MAX {
                self.found(line, Problem::TooMuch);
                return Map::new();
            }
        }
        all
    }

    fn no_parent(&mut self, parent: &str, line: u32) {
        let nearest = nearest(parent, self.wrk.by_name.keys().map(String::as_str)).map(str::to_owned);
        let problem = Problem::UnknownParent { section: self.title.to_string(), parent: parent.to_owned(), nearest };
        self.found(line, problem);
    }

    // --- settings

    fn set(&mut self, name: &str, form: &Form, line: u32) {
        match self.into {
            Into::Nowhere { said: true } => return,
            Into::Nowhere { said: false } => return self.found(line, Problem::NoSection(name.to_owned())),
            Into::Layer(Layer::Global) => return self.set_global(name, form, line),
            Into::Layer(_) | Into::Section => {}
        }
        let known = known_key(name, line, &mut self.wrk.findings);
        if let Some(known) = known {
            if known.standing == Standing::Bootstrap {
                self.found(line, Problem::Bootstrap(name.to_owned()));
            } else if known.role != Role::Worker {
                self.found(line, Problem::OtherRole { key: name.to_owned(), role: known.role.as_str() });
            }
        }
        self.bytes = 0;
        let form = form.map(|pieces| self.bind(name, known, pieces, line));
        if self.bytes > VALUE_MAX || form.size() > VALUE_MAX {
            return self.found(line, Problem::TooLong { key: name.to_owned() });
        }
        if self.bytes_of_all > BYTES_MAX {
            return self.found(line, Problem::TooMuch);
        }
        let value = form.for_host(&self.example_host());
        if let Some(known) = known.filter(|k| k.role == Role::Worker) {
            check(known, &value, line, &mut self.wrk.findings);
            if matches!(known.kind, Kind::Password) {
                self.passwords.push((line, value.line(), None));
            }
        }
        let bound = Bound { known, form: Arc::new(form), line, sections: vec![self.title.clone()] };
        self.put(name.into(), bound, line);
    }

    fn put(&mut self, key: Arc<str>, bound: Bound, line: u32) {
        if self.settings >= SETTINGS_MAX {
            return self.found(line, Problem::TooMuch);
        }
        self.settings += 1;
        let map = match self.into {
            Into::Layer(Layer::Default) => &mut self.wrk.default,
            Into::Layer(Layer::Platform(platform)) => self.wrk.platforms.entry(platform).or_default(),
            Into::Section => &mut self.current.map,
            Into::Layer(Layer::Global) | Into::Nowhere { .. } => return,
        };
        map.insert(key, bound);
    }

    fn set_global(&mut self, name: &str, form: &Form, line: u32) {
        let words = form.for_host("").words();
        match name {
            "templates" => self.wrk.templates.extend(words.iter().map(|w| w.to_ascii_lowercase())),
            // Hosts that Qube! is not to look up: Stead looks up none.
            "non_existent" => {}
            _ => {
                let nearest = nearest(name, ["templates", "non_existent"]).map(str::to_owned);
                self.found(line, Problem::UnknownKey { key: name.to_owned(), nearest, identity: false });
            }
        }
    }

    /// A host as which values are looked at while no host has asked yet.
    fn example_host(&self) -> String {
        let first = match self.into {
            Into::Section => self.current.pattern.names().next(),
            _ => None,
        };
        first.unwrap_or_else(|| "host".to_owned())
    }

    // --- macros

    /// Replaces macros by what they mean here.
    fn bind(&mut self, name: &str, known: Option<&'static Key>, pieces: &Pieces, line: u32) -> Pieces {
        let mut out = Pieces::new();
        for piece in pieces {
            let Piece::Ref { section, key, written } = piece else {
                out.push(piece.clone());
                continue;
            };
            if is_secret(key) && !known.is_some_and(Key::is_secret) {
                self.found(line, Problem::SecretElsewhere { key: name.to_owned(), written: written.clone() });
                continue;
            }
            let meant = self.look_up(section, key).and_then(|b| b.form.inner()).cloned();
            let Some(meant) = meant else {
                let identity = known.is_some_and(Key::is_identity);
                let problem = Problem::UnknownMacro { key: name.to_owned(), written: written.clone(), identity };
                self.found(line, problem);
                out.push(Piece::Text(written.clone()));
                continue;
            };
            let size = Form::Text(meant.clone()).size();
            self.bytes += size;
            self.bytes_of_all += size;
            // Said where the whole value is looked at.
            if self.bytes > VALUE_MAX || self.bytes_of_all > BYTES_MAX {
                return Pieces::new();
            }
            out.extend(meant);
        }
        out
    }

    /// What is set above for `$section.key`.
    fn look_up(&self, section: &str, key: &str) -> Option<&Bound> {
        let is_own = ["self", "this"].contains(&section);
        if is_own || section.eq_ignore_ascii_case(&self.title) {
            let own = match self.into {
                Into::Section => self.current.map.get(key),
                _ => None,
            };
            if own.is_some() {
                return own;
            }
        }
        let section = if is_own { &self.title } else { section };
        let of_layer = |layer: Layer| match layer {
            Layer::Default => self.wrk.default.get(key),
            Layer::Platform(platform) => self.wrk.platforms.get(&platform).and_then(|m| m.get(key)),
            Layer::Global => None,
        };
        let above = match Layer::of(section) {
            Some(layer) => of_layer(layer),
            None => {
                let (_, sections) = self.wrk.of_host(section);
                if sections.is_empty() && !is_own {
                    return None;
                }
                sections.into_iter().rev().find_map(|s| s.map.get(key))
            }
        };
        // Every section inherits it.
        above.or_else(|| self.wrk.default.get(key))
    }

    fn found(&mut self, line: u32, problem: Problem) {
        self.wrk.findings.add(line, problem);
    }
}

/// The first of each key.
pub(crate) fn once_each(all: impl Iterator<Item = (&'static Key, u32)>) -> Vec<(&'static Key, u32)> {
    let mut seen = HashSet::new();
    all.filter(|(key, _)| seen.insert(key.name)).collect()
}
