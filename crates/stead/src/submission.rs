//! From options to a job: what `submit` and `run` have in common.
//!
//! Files are opened in one step and read in another, so that a program started by root can open what only root may
//! open, and read it when it is no longer root.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use job::{After, Body, CommandBody, Frames, JobSpec, Plan, Requires, Space};
use nix::fcntl::OFlag;
use serde_json::{Value, json};

use crate::cli::JobOptions;
use crate::failure::Failure;

/// Most bytes of a template or a file of lines: what the supervisor takes.
const INPUT_MAX: u64 = 16 << 20;

/// A file of the person's, opened but not yet read.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    file: File,
}

impl Input {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = std::fs::OpenOptions::new()
            .read(true)
            // Opening a FIFO must not wait for somebody to write to it.
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(|e| Failure::Input { file: path.display().to_string(), text: unreadable(&e) })?;
        Ok(Self { name: path.display().to_string(), file })
    }

    pub(crate) fn of(name: impl Into<String>, file: File) -> Self {
        Self { name: name.into(), file }
    }

    pub(crate) fn read(self) -> Result<Text, Failure> {
        let fail = |text: String| Failure::Input { file: self.name.clone(), text };
        if !self.file.metadata().map_err(|e| fail(unreadable(&e)))?.is_file() {
            return Err(fail("is not a file".into()));
        }
        let mut bytes = Vec::new();
        (&self.file).take(INPUT_MAX + 1).read_to_end(&mut bytes).map_err(|e| fail(unreadable(&e)))?;
        if bytes.len() as u64 > INPUT_MAX {
            return Err(fail(format!("has more than {} MiB", INPUT_MAX >> 20)));
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            fail(format!("is not UTF-8 text (byte {} is the first that is not)", e.utf8_error().valid_up_to()))
        })?;
        Ok(Text { name: self.name, text })
    }
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "can't be read by you".into(),
        _ => format!("can't be read: {error}"),
    }
}

#[derive(Debug)]
pub(crate) struct Text {
    name: String,
    text: String,
}

impl Text {
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// Everything a job is made of, opened.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) template: Option<Input>,
    each: Option<Input>,
    command: Vec<String>,
}

impl Sources {
    pub(crate) fn open(template: Option<&PathBuf>, command: &[String], options: &JobOptions) -> Result<Self, Failure> {
        match (template, command) {
            (None, []) => return Err(no_job()),
            (Some(file), [_, ..]) => {
                return Err(Failure::Usage {
                    text: format!("both a template ({}) and a command are given", file.display()),
                    hint: Some("a command stands behind --, alone: stead submit -- COMMAND".into()),
                });
            }
            _ => {}
        }
        let template = template.map(|path| Input::open(path).map_err(|e| maybe_a_command(e, path))).transpose()?;
        let each = options.each.as_deref().map(Input::open).transpose()?;
        Ok(Self { template, each, command: command.to_vec() })
    }

    /// Reads the files and makes the job, checked as far as that is possible here.
    pub(crate) fn spec(self, options: &JobOptions) -> Result<JobSpec, Failure> {
        let template_name = self.template.as_ref().map(|t| t.name.clone());
        let body = self.body(options)?;
        let mut spec = JobSpec::new(body);
        apply(&mut spec, options)?;
        match Plan::new(&spec) {
            Ok(_) => Ok(spec),
            Err(e) => Err(match template_name {
                Some(file) => Failure::Input { file, text: e.to_string() },
                None => Failure::usage(e.to_string()),
            }),
        }
    }

    fn body(self, options: &JobOptions) -> Result<Body, Failure> {
        let Some(template) = self.template else {
            if !options.parameter.is_empty() {
                return Err(Failure::usage("-p gives values to a template's parameters, but there is no template"));
            }
            let space = space(options, self.each)?;
            let [session_enter, session_exit] = [&options.session_enter, &options.session_exit]
                .map(|line| line.as_ref().map_or_else(Vec::new, |l| vec!["/bin/sh".into(), "-c".into(), l.clone()]));
            return Ok(Body::Command(CommandBody { argv: self.command, space, session_enter, session_exit }));
        };
        if options.session_enter.is_some() || options.session_exit.is_some() {
            return Err(Failure::Usage {
                text: "--session-enter and --session-exit are for a command; a template has environments of its own"
                    .into(),
                hint: Some("say it in the template: jobEnvironments, with onEnter and onExit".into()),
            });
        }
        if options.frames.is_some() || options.each.is_some() {
            return Err(Failure::Usage {
                text: "--frames and --each make tasks of a command; a template says itself what its tasks are".into(),
                hint: Some("pass a range with -p NAME=VALUE if the template has a parameter for it".into()),
            });
        }
        let parameters = pairs(&options.parameter, "-p")?;
        Ok(Body::Template(job::TemplateBody { source: template.read()?.text, parameters }))
    }
}

fn no_job() -> Failure {
    Failure::Usage {
        text: "there is nothing to run".into(),
        hint: Some(
            "give a command behind --, or a job template: stead submit -- COMMAND, stead submit job.yaml".into(),
        ),
    }
}

/// `stead submit ls` was probably meant to run `ls`.
fn maybe_a_command(failure: Failure, path: &Path) -> Failure {
    match failure {
        Failure::Input { file, text } if !path.exists() => Failure::Usage {
            text: format!("{file}: {text}"),
            hint: Some(format!("a command stands behind --, as in `stead run -- {file}` or `stead submit -- {file}`")),
        },
        other => other,
    }
}

fn space(options: &JobOptions, each: Option<Input>) -> Result<Space, Failure> {
    if let Some(range) = &options.frames {
        return Ok(Space::Frames(
            Frames::parse(range, options.chunk.unwrap_or(1)).map_err(|e| Failure::usage(e.to_string()))?,
        ));
    }
    let Some(each) = each else { return Ok(Space::Single) };
    let text = each.read()?;
    let lines = job::each_lines(&text.text);
    if lines.is_empty() {
        return Err(Failure::Input { file: text.name, text: "has no lines to make tasks of".into() });
    }
    Ok(Space::Each(lines))
}

fn apply(spec: &mut JobSpec, options: &JobOptions) -> Result<(), Failure> {
    let usage = |option: &str, e: &dyn std::fmt::Display| Failure::usage(format!("{option}: {e}"));
    spec.name.clone_from(&options.name);
    spec.priority = options.priority.unwrap_or(0);
    spec.env = pairs(&options.env, "--env")?;
    spec.cwd.clone_from(&options.cwd);
    spec.retries = options.retries.unwrap_or(0);
    (spec.token, spec.convert_paths) = (options.token, options.convert_paths);
    spec.umask = options.umask.as_deref().map(umask).transpose()?;
    spec.time_limit_s = options
        .time_limit
        .as_deref()
        .map(|t| job::parse_duration(t).map_err(|e| usage("--time-limit", &e)))
        .transpose()?;
    spec.cpus_milli =
        options.cpus.as_deref().map(|t| job::parse_cores(t).map_err(|e| usage("--cpus", &e))).transpose()?;
    spec.memory = options.mem.as_deref().map(|t| job::parse_size(t).map_err(|e| usage("--mem", &e))).transpose()?;
    if let Some(expression) = &options.requires {
        spec.requires = Requires::parse(expression).map_err(|e| usage("--requires", &e))?;
    }
    let after = options.after.iter().map(|job| After { job: *job, any: false });
    spec.after = after.chain(options.after_any.iter().map(|job| After { job: *job, any: true })).collect();
    Ok(())
}

fn umask(text: &str) -> Result<u32, Failure> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| Failure::usage(format!("--umask: {text:?} is no mask (three octal digits, such as 022)")))
}

pub(crate) fn pairs(texts: &[String], option: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut pairs = BTreeMap::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::usage(format!("{option} {text:?}: write NAME=VALUE")))?;
        if pairs.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::usage(format!("{option} gives {name} twice")));
        }
    }
    Ok(pairs)
}

/// The body of a submission. The request's number makes sending it twice the same as sending it once.
pub(crate) fn request(spec: &JobSpec, options: &JobOptions) -> Result<Value, Failure> {
    let mut number = [0u8; 16];
    getrandom::fill(&mut number).map_err(|e| Failure::system("draw a random number", std::io::Error::other(e)))?;
    let mut spec = serde_json::to_value(spec).map_err(|e| Failure::usage(e.to_string()))?;
    // The usual one is the site's to say.
    if let (None, Some(fields)) = (options.priority, spec.as_object_mut()) {
        fields.remove("priority");
    }
    Ok(json!({
        "spec": spec, "user": options.user, "request_id": warrant::hex(&number),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &str) -> Sources {
        Sources { command: words.split(' ').map(Into::into).collect(), ..Sources::default() }
    }

    #[test]
    fn options_become_the_spec() {
        let options = JobOptions {
            frames: Some("1-10".into()),
            chunk: Some(5),
            env: vec!["A=1=2".into()],
            umask: Some("027".into()),
            time_limit: Some("5m".into()),
            cpus: Some("0.5".into()),
            mem: Some("1G".into()),
            after: vec![3],
            after_any: vec![4],
            ..JobOptions::default()
        };
        let spec = command("render {start} {end}").spec(&options).expect("spec");
        assert_eq!((spec.umask, spec.time_limit_s, spec.cpus_milli), (Some(0o27), Some(300), Some(500)));
        assert_eq!((spec.memory, spec.env["A"].as_str()), (Some(1 << 30), "1=2"));
        assert_eq!(spec.after, [After { job: 3, any: false }, After { job: 4, any: true }]);
        assert_eq!(Plan::new(&spec).expect("plan").steps()[0].tasks, 2);
    }

    #[test]
    fn bad_options_are_usage_errors_that_name_the_option() {
        let with = |change: fn(&mut JobOptions)| {
            let mut options = JobOptions::default();
            change(&mut options);
            let failure = command("a").spec(&options).expect_err("refused");
            assert_eq!(failure.exit(), 2, "{failure}");
            failure.to_string()
        };
        assert!(with(|o| o.umask = Some("888".into())).contains("--umask"));
        assert!(with(|o| o.time_limit = Some("soon".into())).contains("--time-limit"));
        assert!(with(|o| o.mem = Some("much".into())).contains("--mem"));
        assert!(with(|o| o.env = vec!["A".into()]).contains("NAME=VALUE"));
        assert!(with(|o| o.env = vec!["A=1".into(), "A=2".into()]).contains("twice"));
        assert!(with(|o| o.parameter = vec!["A=1".into()]).contains("no template"));
        assert!(with(|o| o.frames = Some("1-".into())).contains("1-"));
    }

    #[test]
    fn a_command_without_dashes_is_understood() {
        let failure = Sources::open(Some(&"ls".into()), &[], &JobOptions::default()).expect_err("no such file");
        assert!(failure.sentence().to_string().contains("stead submit -- ls"), "{}", failure.sentence());
        assert_eq!(Sources::open(None, &[], &JobOptions::default()).expect_err("nothing").exit(), 2);
    }
}
