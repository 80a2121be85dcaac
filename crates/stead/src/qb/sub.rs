//! `qbsub` in the words of `stead submit`. Pure: nothing is asked, nothing read but what is passed in.

use job::Frames;

use super::flight::{Flight, single_quoted};
use super::priority;
use super::requirements;
use super::words::{Known, Means, Rest, Words, missing, no_effect, read, unsupported, works};
use crate::failure::Failure;

const NO_MAIL: &str = "Stead sends no mail; `stead wait` and GET /api/v1/events say when a job has ended";
const BY_NAME: &str = "jobs are found by --name, user and state";
const NO_TYPES: &str = "Stead runs commands and OpenJD's templates (stead submit job.yaml)";

pub(super) const TABLE: [Known; 66] = [
    works("range", Some("FRAMES")),
    works("chunk", Some("N")),
    works("partitions", Some("N")),
    works("padding", Some("DIGITS")),
    works("reverse", None),
    missing("binary", None, "frames run in the order of the range, or with --reverse from its end"),
    works("name", Some("NAME")),
    works("priority", Some("1-9999")),
    works("cpus", Some("N")),
    missing("max_cpus", Some("N"), "a job's frames run wherever there is a free slot"),
    works("processors", Some("N")),
    works("user", Some("USER")),
    Known {
        name: "domain",
        value: Some("DOMAIN"),
        means: Means::Never("a job's user is one name; write it as the name service has it, --user NAME@DOMAIN"),
    },
    works("cluster", Some("/NAME")),
    works("groups", Some("NAME,NAME")),
    works("omitgroups", Some("NAME,NAME")),
    works("hosts", Some("HOST,HOST")),
    works("omithosts", Some("HOST,HOST")),
    works("requirements", Some("EXPRESSION")),
    works("reservations", Some("host.processors=N,host.memory=MB")),
    missing("restrictions", Some("CLUSTERS"), "use --cluster, which restricts the job to it"),
    missing("hostorder", Some("ORDER"), "a job runs on the worker that is free"),
    works("env", Some("NAME=VALUE,...")),
    works("flags", Some("FLAG,FLAG")),
    works("export_environment", None),
    works("status", Some("blocked|pending")),
    works("state", Some("blocked|pending")),
    works("retrywork", Some("N")),
    works("retrysubjob", Some("N")),
    missing("retryworkdelay", Some("SECONDS"), "a task that failed is tried again at once"),
    works("timelimit", Some("SECONDS")),
    works("subjobtimelimit", Some("SECONDS")),
    works("agendatimelimit", Some("SECONDS")),
    works("dependency", Some("link-complete-job-ID,link-done-job-ID")),
    works("waitfor", Some("ID,ID")),
    works("cwd", Some("DIR")),
    works("shell", Some("SHELL")),
    works("preflights", Some("PROGRAM,PROGRAM")),
    works("postflights", Some("PROGRAM,PROGRAM")),
    works("agenda_preflights", Some("PROGRAM,PROGRAM")),
    works("agenda_postflights", Some("PROGRAM,PROGRAM")),
    missing("mail", None, NO_MAIL),
    missing("mailaddress", Some("ADDRESS"), NO_MAIL),
    missing("callback", Some("CALLBACK"), "a job that is to follow another is submitted with --dependency"),
    missing("callbacks", Some("CALLBACKS"), "a job that is to follow another is submitted with --dependency"),
    missing("account", Some("TEXT"), "jobs carry no accounting text; it would not be a login account either"),
    missing("kind", Some("KIND"), BY_NAME),
    missing("label", Some("LABEL"), BY_NAME),
    missing("pid", Some("ID"), BY_NAME),
    missing("pgrp", Some("ID"), BY_NAME),
    missing("notes", Some("TEXT"), BY_NAME),
    missing("prod_show", Some("TEXT"), BY_NAME),
    missing("prod_shot", Some("TEXT"), BY_NAME),
    missing("prod_seq", Some("TEXT"), BY_NAME),
    missing("prod_client", Some("TEXT"), BY_NAME),
    missing("prod_dept", Some("TEXT"), BY_NAME),
    missing("type", Some("TYPE"), NO_TYPES),
    missing("prototype", Some("TYPE"), NO_TYPES),
    missing("package", Some("PACKAGE"), NO_TYPES),
    missing("xmlfile", Some("FILE"), NO_TYPES),
    missing("global", None, "a job belongs to the farm whose supervisor answers"),
    missing("agenda", Some("ITEMS"), "use --range, or stead submit --each FILE"),
    missing("queryonly", None, "`stead explain` says as whom and where a job would run"),
    no_effect("auto_wrangling", None, "a worker that fails everybody's jobs stops taking any by itself"),
    no_effect("verbose", None, "the job's number is what there is to say"),
    works("help", None),
];

/// Of the flags Qube! knows: name, bit, what becomes of it.
const FLAGS: [(&str, u32, Means); 16] = [
    ("uninterruptible", 1, Means::Missing("an urgent job may take a slot between two tasks of any other")),
    ("grid", 4, Means::Missing("instances of one job don't wait for one another")),
    ("auto_mount", 8, Means::NoEffect("drives are mounted on Windows")),
    ("export_environment", 16, Means::Works),
    ("expand", 32, Means::Missing("a job has as many tasks as it has frames")),
    ("host_list", 256, Means::Missing("instances of one job don't know of one another")),
    ("elite", 512, Means::Missing("nobody's job runs beside the slots")),
    ("mail", 1024, Means::Missing(NO_MAIL)),
    ("disable_windows_job_object", 2048, Means::NoEffect("job objects are Windows'")),
    ("disable_cpu_limit", 4096, Means::NoEffect("only --processors limits a job's cores")),
    ("disable_auto_complete", 8192, Means::Missing("a job is complete when its tasks are")),
    ("auto_wrangling", 16384, Means::NoEffect("a worker that fails everybody's jobs stops taking any by itself")),
    ("p_agenda", 32768, Means::Missing("frames run in the order of the range")),
    ("migrate_on_frame_retry", 65536, Means::Missing("a task is tried again wherever there is a free slot")),
    ("convert_path", 131_072, Means::Works),
    ("no_defaults", 524_288, Means::NoEffect("no flags are added to jobs")),
];

/// What `qbsub` says. `environment` is the caller's own, for `export_environment`.
pub(super) fn translate(
    words: &[String],
    environment: &mut dyn Iterator<Item = (String, String)>,
) -> Result<(Vec<String>, Vec<String>), Failure> {
    let mut given = read(&TABLE, words, Rest::Command)?;
    let mut out = Line { words: given.asking() };
    simple(&given, &mut out)?;
    workers(&given, &mut out)?;
    reservations(&mut given, &mut out)?;
    afters(&given, &mut out)?;
    variables(&mut given, &mut out, environment)?;
    let work = Work::of(&mut given, &mut out)?;
    let argv = work.command(&given, &mut out)?;
    let mut line = vec!["submit".to_owned()];
    line.append(&mut out.words);
    line.push("--".into());
    line.extend(argv);
    Ok((line, given.notes))
}

struct Line {
    words: Vec<String>,
}

impl Line {
    fn put(&mut self, option: &str, value: impl Into<String>) {
        self.words.extend([option.to_owned(), value.into()]);
    }
}

fn simple(given: &Words, out: &mut Line) -> Result<(), Failure> {
    for name in ["name", "cwd", "user"] {
        if let Some(value) = given.get(name) {
            out.put(&format!("--{name}"), value);
        }
    }
    if let Some(priority) = given.number("priority")? {
        out.words.push(format!("--priority={}", priority::to_stead(priority)?));
    }
    let retries = given.number("retrywork")?.max(given.number("retrysubjob")?);
    if let Some(retries) = retries {
        out.put("--retries", retries.to_string());
    }
    let limits = ["timelimit", "subjobtimelimit", "agendatimelimit"].map(|n| given.number(n));
    let limits: Result<Vec<_>, _> = limits.into_iter().collect();
    // Each is at most that long; a task is kept to the shortest.
    if let Some(limit) = limits?.into_iter().flatten().filter(|s| *s > 0).min() {
        out.put("--time-limit", limit.to_string());
    }
    match given.get("status").or(given.get("state")) {
        None | Some("pending") => {}
        Some("blocked") => out.words.push("--blocked".into()),
        Some(other) => {
            return Err(Failure::usage(format!("--status: a job is submitted pending or blocked, not {other}")));
        }
    }
    Ok(())
}

fn workers(given: &Words, out: &mut Line) -> Result<(), Failure> {
    let mut all: Vec<String> = Vec::new();
    let joined = |prefix: &str, names: &[String]| names.iter().map(|n| format!("{prefix}{n}")).collect::<Vec<_>>();
    match given.get("cluster") {
        None | Some("/") => {}
        Some(path) if path.starts_with('/') && !path.contains(['+', '*', ',', ' ']) => {
            all.push(format!("cluster:{path}"))
        }
        Some(other) => {
            return Err(unsupported(
                &format!("--cluster {other}"),
                "one cluster by its whole path, such as /film/hi, is",
            ));
        }
    }
    let groups = given.list("groups");
    if !groups.is_empty() {
        all.push(joined("group:", &groups).join("|"));
    }
    all.extend(joined("!group:", &given.list("omitgroups")));
    let hosts = given.list("hosts");
    if !hosts.is_empty() {
        all.push(format!("worker={}", hosts.join("|")));
    }
    all.extend(joined("!host.name=", &given.list("omithosts")));
    for expression in given.all("requirements").filter(|e| !e.trim().is_empty()) {
        all.push(requirements::translate(expression)?);
    }
    if !all.is_empty() {
        out.put("--requires", all.join(","));
    }
    Ok(())
}

fn reservations(given: &mut Words, out: &mut Line) -> Result<(), Failure> {
    let mut cpus = given.number("processors")?;
    for part in given.list("reservations") {
        let (name, value) = part.split_once('=').unwrap_or((&part, ""));
        match (name, value.parse::<u64>()) {
            ("host.processors" | "host.cpus", Ok(n)) if n > 0 => cpus = Some(n),
            ("host.memory", Ok(n)) if n > 0 => out.put("--mem", format!("{n}M")),
            ("host.processors" | "host.cpus" | "host.memory", _) => {
                given
                    .without(&format!("--reservations {part}"), "a number of cores, or of MB of memory, is reserved")?;
            }
            _ => given.without(&format!("--reservations {part}"), "Stead counts cores and memory, no licences")?,
        }
    }
    if let Some(cpus) = cpus {
        out.put("--cpus", cpus.to_string());
    }
    Ok(())
}

fn afters(given: &Words, out: &mut Line) -> Result<(), Failure> {
    for one in given.list("dependency") {
        let link = one.strip_prefix("link-").unwrap_or(&one);
        let known = [("complete-job-", "--after"), ("done-job-", "--after-any")];
        let found = known.iter().find_map(|(prefix, option)| Some((option, link.strip_prefix(prefix)?)));
        match found.and_then(|(option, id)| Some((option, id.parse::<u64>().ok()?))) {
            Some((option, id)) => out.put(option, id.to_string()),
            // Without what it waits for a job would begin too early.
            None => {
                return Err(unsupported(
                    &format!("--dependency {one}"),
                    "a job waits for link-complete-job-ID or link-done-job-ID",
                ));
            }
        }
    }
    for id in given.list("waitfor") {
        out.put("--after", id);
    }
    Ok(())
}

/// `--env`, and the caller's own with `export_environment`.
fn variables(
    given: &mut Words,
    out: &mut Line,
    environment: &mut dyn Iterator<Item = (String, String)>,
) -> Result<(), Failure> {
    let mut own = Vec::new();
    for text in given.all("env") {
        own.extend(pairs(text)?);
    }
    let (exports, converts) = flags(given)?;
    if converts {
        out.words.push("--convert-paths".into());
    }
    if exports {
        let mut secret = Vec::new();
        for (name, value) in environment {
            if own.iter().any(|(n, _)| *n == name) || !may_leave(&name, &value) {
                continue;
            }
            if is_secret(&name) {
                secret.push(name);
                continue;
            }
            own.push((name, value));
        }
        if !secret.is_empty() {
            secret.sort();
            given.notes.push(format!("export_environment leaves out what may be secret: {}", secret.join(", ")));
        }
    }
    own.sort();
    for (name, value) in own {
        out.put("--env", format!("{name}={value}"));
    }
    Ok(())
}

/// A comma begins another variable only where `NAME=` follows.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in text.split(',') {
        match (part.split_once('=').filter(|(name, _)| is_name(name)), pairs.last_mut()) {
            (Some((name, value)), _) => pairs.push((name.to_owned(), value.to_owned())),
            (None, Some((_, value))) => {
                value.push(',');
                value.push_str(part);
            }
            (None, None) => return Err(Failure::usage(format!("--env {text:?}: write NAME=VALUE,NAME=VALUE"))),
        }
    }
    if let Some((name, _)) = pairs.iter().find(|(name, _)| is_identity(name)) {
        return Err(Failure::usage(format!("--env: {name} says who somebody is, which only the account itself does")));
    }
    Ok(pairs)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_identity(name: &str) -> bool {
    ["HOME", "USER", "LOGNAME", "SHELL", "USERNAME", "MAIL"].contains(&name)
}

/// What a caller's environment may bring along: neither who they are, nor what is loaded into programs, nor what belongs
/// to their terminal, their screen, or their log-in here.
fn may_leave(name: &str, value: &str) -> bool {
    const HERE: [&str; 21] = [
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "TERM",
        "COLUMNS",
        "LINES",
        "TTY",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "DBUS_SESSION_BUS_ADDRESS",
        "TMPDIR",
        "BASH_ENV",
        "ENV",
        "IFS",
        "SUDO_USER",
        "SUDO_UID",
        "SUDO_GID",
        "SUDO_COMMAND",
        "KRB5CCNAME",
    ];
    let prefixes = ["LD_", "XDG_", "SSH_", "STEAD_", "SYSTEMD_", "BASH_FUNC_", "GLIBC_", "GIO_", "PAM_"];
    is_name(name)
        && !is_identity(name)
        && !HERE.contains(&name)
        && !prefixes.iter().any(|p| name.starts_with(p))
        && !value.contains('\0')
        && value.len() < 64 << 10
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "_PASS", "_PWD", "SECRET", "CREDENTIAL", "PRIVATE", "APIKEY", "_KEY"]
        .iter()
        .any(|s| name.contains(s))
}

/// Whether the environment goes along, and whether paths are converted.
fn flags(given: &mut Words) -> Result<(bool, bool), Failure> {
    let (mut exports, mut converts) = (given.has("export_environment"), false);
    for flag in given.list("flags") {
        let found: Vec<&(&str, u32, Means)> = match flag.parse::<u32>() {
            Ok(bits) => {
                let known = FLAGS.iter().fold(0, |all, (_, bit, _)| all | bit);
                if bits & !known != 0 {
                    return Err(Failure::usage(format!("--flags {bits}: the bits {} are no flags", bits & !known)));
                }
                FLAGS.iter().filter(|(_, bit, _)| bits & bit != 0).collect()
            }
            Err(_) => match FLAGS.iter().find(|(name, ..)| *name == flag) {
                Some(one) => vec![one],
                None => return Err(Failure::usage(format!("--flags: there is no flag {flag}"))),
            },
        };
        for (name, _, means) in found {
            match means {
                Means::Works if *name == "convert_path" => converts = true,
                Means::Works => exports = true,
                Means::NoEffect(why) => given.notes.push(format!("--flags {name} has no effect: {why}")),
                Means::Missing(why) | Means::Never(why) => given.without(&format!("--flags {name}"), why)?,
            }
        }
    }
    Ok((exports, converts))
}

/// What the tasks are.
struct Work {
    /// Frames of one task; none without a range.
    chunk: Option<u64>,
    padding: u64,
    /// Tasks of the same command.
    copies: bool,
}

impl Work {
    fn of(given: &mut Words, out: &mut Line) -> Result<Self, Failure> {
        let padding = given.number("padding")?.unwrap_or(0);
        if padding > 20 {
            return Err(Failure::usage(format!("--padding {padding}: a frame has at most 20 digits")));
        }
        let cpus = given.number("cpus")?.unwrap_or(1);
        let Some(range) = given.get("range").map(str::to_owned) else {
            for option in ["chunk", "partitions", "padding", "reverse"] {
                if given.has(option) {
                    return Err(Failure::usage(format!("--{option} is about frames, and there is no --range")));
                }
            }
            if cpus == 0 {
                return Err(Failure::usage("--cpus 0: a job has at least one instance"));
            }
            if cpus > 1 {
                out.words.push(format!("--frames=0-{}", cpus - 1));
            }
            return Ok(Self { chunk: None, padding: 0, copies: cpus > 1 });
        };
        if given.has("cpus") {
            given.notes.push(format!("--cpus {cpus} is no limit here: frames run wherever there is a free slot"));
        }
        let fail = |e: job::FramesError| Failure::usage(format!("--range: {e}"));
        let range = if given.has("reverse") { reversed(&range)? } else { range };
        let frames = Frames::parse(&range, 1).map_err(fail)?.frames();
        let chunk = match (given.number("chunk")?, given.number("partitions")?) {
            (Some(_), Some(_)) => {
                return Err(Failure::usage("--chunk and --partitions both say how many frames a task has"));
            }
            (Some(chunk), None) => chunk,
            (None, Some(0)) => return Err(Failure::usage("--partitions 0: there is at least one")),
            (None, Some(parts)) => frames.div_ceil(parts),
            (None, None) => 1,
        };
        Frames::parse(&range, chunk).map_err(fail)?;
        out.words.push(format!("--frames={range}"));
        if chunk > 1 {
            out.put("--chunk", chunk.to_string());
        }
        Ok(Self { chunk: Some(chunk), padding, copies: false })
    }

    /// The words of the command, with the tokens that Qube! replaces as Stead's placeholders.
    fn command(&self, given: &Words, out: &mut Line) -> Result<Vec<String>, Failure> {
        let argv = given.rest.clone();
        let Some(first) = argv.first() else {
            return Err(Failure::usage("there is no command: qbsub [OPTIONS] COMMAND"));
        };
        let shell = match (given.get("shell"), argv.len()) {
            (Some(shell), _) => Some(shell),
            // One word that is no program's name is a line for the shell.
            (None, 1) if first.contains(|c: char| c.is_whitespace() || "|&;<>()$`\\\"'*?[#~".contains(c)) => {
                Some("/bin/sh")
            }
            (None, _) => None,
        };
        let argv = match shell {
            Some(shell) => vec![shell.to_owned(), "-c".into(), argv.join(" ")],
            None => argv,
        };
        let argv = argv.iter().map(|word| self.filled(word)).collect::<Result<Vec<_>, _>>()?;
        let flight = Flight::of(given, self.chunk.is_some())?;
        for (option, line) in ["--session-enter", "--session-exit"].into_iter().zip(flight.around()) {
            out.words.extend(line.map(|line| format!("{option}={line}")));
        }
        if flight.is_empty() {
            return Ok(argv);
        }
        let script = self.escaped(&flight.script(self.chunk, self.padding));
        let script = self.filled_frames(&script);
        Ok([vec!["/bin/sh".to_owned(), "-c".into(), script, "qbsub".into()], argv].concat())
    }

    fn escaped(&self, text: &str) -> String {
        if self.chunk.is_none() && !self.copies { text.into() } else { text.replace('{', "{{").replace('}', "}}") }
    }

    fn filled(&self, word: &str) -> Result<String, Failure> {
        if self.chunk.is_none() {
            if word.contains("QB_FRAME_") {
                return Err(Failure::usage(format!("{word:?} names a frame, and there is no --range")));
            }
            return Ok(self.escaped(word));
        }
        if self.chunk.is_some_and(|c| c > 1) && word.contains("QB_FRAME_NUMBER") {
            return Err(Failure::usage(
                "QB_FRAME_NUMBER can't stand for the frames of a chunk: use QB_FRAME_START, QB_FRAME_END, QB_FRAME_STEP or QB_FRAME_RANGE",
            ));
        }
        Ok(self.filled_frames(&self.escaped(word)))
    }

    fn filled_frames(&self, text: &str) -> String {
        let field = |name: &str| match self.padding {
            0 => format!("{{{name}}}"),
            digits => format!("{{{name}:0{digits}}}"),
        };
        let single = self.chunk == Some(1);
        let (start, end) = if single { ("frame", "frame") } else { ("start", "end") };
        let range = if single { field("frame") } else { format!("{}-{}x{{step}}", field("start"), field("end")) };
        text.replace("QB_FRAME_NUMBER", &field("frame"))
            .replace("QB_FRAME_START", &field(start))
            .replace("QB_FRAME_END", &field(end))
            .replace("QB_FRAME_STEP", if single { "1" } else { "{step}" })
            .replace("QB_FRAME_RANGE", &range)
    }
}

/// The parts of a range from the last to the first, each from its end.
fn reversed(range: &str) -> Result<String, Failure> {
    let part = |text: &str| -> Result<String, Failure> {
        let text = text.trim();
        let frames = Frames::parse(text, job::TASKS_MAX).map_err(|e| Failure::usage(format!("--range: {e}")))?;
        let Some(chunk) = frames.chunk_at(0) else { return Ok(text.to_owned()) };
        if chunk.count == 1 {
            return Ok(chunk.first.to_string());
        }
        Ok(format!("{}-{}x{}", chunk.last, chunk.first, chunk.step.abs()))
    };
    let parts = range.split(',').rev().map(part).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.join(","))
}

/// A program of a flight check, as it stands in a shell's script.
pub(super) fn quoted_path(path: &str) -> Result<String, Failure> {
    if !path.starts_with('/') || path.contains("QB_FRAME_") {
        return Err(Failure::usage(format!(
            "{path:?} is no absolute path of a program (flight checks are /PATH,/PATH)"
        )));
    }
    Ok(single_quoted(path))
}
