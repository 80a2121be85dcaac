//! A job worked out: its steps, how many tasks they have, and each task down to the last argument.
//!
//! Built once per job; answers for any task in the same time, however many there are.

use std::fmt;

use crate::frames::Frames;
use crate::pattern::{Field, Pattern, Values};
use crate::requires::Requires;
use crate::spec::{
    ARGUMENT_MAX, Body, COMMAND_MAX, CommandBody, JobError, JobSpec, Space, check_lines, check_name, refuse_markers,
};
use crate::template::TemplatePlan;

/// Between SIGTERM and SIGKILL when a command is cancelled.
pub const COMMAND_GRACE_MS: u32 = 5000;
/// Digits and sign of any frame, chunk or step.
const NUMBER_MAX: usize = 20;

/// A job that can be run.
pub struct Plan {
    name: String,
    steps: Vec<StepInfo>,
    time_limit_ms: u64,
    work: Work,
}

enum Work {
    Command(CommandPlan),
    Template(Box<TemplatePlan>),
}

/// What the scheduler has to know of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInfo {
    pub name: String,
    pub tasks: u64,
    /// Steps that must be complete before this one starts.
    pub depends_on: Vec<u32>,
    /// Thousandths of a core for each task; `None` if nothing was asked for.
    pub cpus_milli: Option<u32>,
    /// Bytes for each task.
    pub memory: Option<u64>,
    pub requires: Requires,
}

/// Something to run, with nothing left to fill in but the two markers for folders of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    pub argv: Vec<Vec<u8>>,
    /// Variables of the template's environments. Those of the job itself (`JobSpec::env`) are not repeated here.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    pub files: Vec<warrant::File>,
    /// 0 = none.
    pub timeout_ms: u64,
    /// Between SIGTERM and SIGKILL; 0 = SIGKILL at once.
    pub grace_ms: u32,
}

/// An environment of a template, entered before a session's first task and left after its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedEnvironment {
    pub name: String,
    pub enter: Option<Resolved>,
    pub exit: Option<Resolved>,
    /// Already part of `Resolved::env` of everything that runs within.
    pub variables: Vec<(String, String)>,
}

impl Plan {
    /// Checks everything that can be checked before a task runs.
    pub fn new(spec: &JobSpec) -> Result<Self, JobError> {
        spec.check_options()?;
        let time_limit_ms = spec.time_limit_s.unwrap_or(0) * 1000;
        let (work, default_name, steps) = match &spec.body {
            Body::Command(body) => {
                let plan = CommandPlan::new(body, spec.env_size())?;
                let (name, steps) = (default_name(&body.argv[0]), vec![plan.step(spec)]);
                (Work::Command(plan), name, steps)
            }
            Body::Template(body) => {
                let plan = TemplatePlan::new(body, spec.env_size())?;
                let (name, steps) = (plan.name().to_owned(), plan.steps(spec)?);
                (Work::Template(Box::new(plan)), name, steps)
            }
        };
        let name = spec.name.clone().unwrap_or(default_name);
        check_name(&name)?;
        let plan = Self { name, steps, time_limit_ms, work };
        plan.try_ends()?;
        Ok(plan)
    }

    /// Works out the first and last task of each step, so that most of what could fail later is known at submission.
    fn try_ends(&self) -> Result<(), JobError> {
        if let Work::Template(_) = &self.work {
            for (step, info) in (0u32..).zip(&self.steps) {
                self.task(step, 0)?;
                self.task(step, info.tasks - 1)?;
            }
        }
        Ok(())
    }

    /// As submitted, or else after the template or the command's program.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn steps(&self) -> &[StepInfo] {
        &self.steps
    }

    /// What to run for a task.
    pub fn task(&self, step: u32, index: u64) -> Result<Resolved, JobError> {
        self.check(step, index)?;
        let mut resolved = match &self.work {
            Work::Command(plan) => plan.task(index),
            Work::Template(plan) => plan.task(step, index)?,
        };
        resolved.timeout_ms = match (resolved.timeout_ms, self.time_limit_ms) {
            (0, limit) | (limit, 0) => limit,
            (one, other) => one.min(other),
        };
        Ok(resolved)
    }

    /// In the order of entering; to be left in the reverse order.
    #[must_use]
    pub fn environments(&self, step: u32) -> Vec<ResolvedEnvironment> {
        match &self.work {
            Work::Template(plan) => plan.environments(step),
            Work::Command(plan) => plan.environment(self.time_limit_ms).into_iter().collect(),
        }
    }

    /// The parameters of a task by name, for people.
    #[must_use]
    pub fn params(&self, step: u32, index: u64) -> Vec<(String, String)> {
        if self.check(step, index).is_err() {
            return Vec::new();
        }
        match &self.work {
            Work::Command(plan) => plan.params(index),
            Work::Template(plan) => plan.params(step, index),
        }
    }

    /// The (first) frame of a task, if the step has frames.
    #[must_use]
    pub fn frame(&self, step: u32, index: u64) -> Option<i64> {
        self.check(step, index).ok()?;
        match &self.work {
            Work::Command(plan) => plan.frames()?.frame_at(index),
            Work::Template(plan) => plan.frame(step, index),
        }
    }

    /// The (first) task that covers a frame.
    #[must_use]
    pub fn index_of_frame(&self, step: u32, frame: i64) -> Option<u64> {
        self.check(step, 0).ok()?;
        match &self.work {
            Work::Command(plan) => plan.frames()?.index_of(frame),
            Work::Template(plan) => plan.index_of_frame(step, frame),
        }
    }

    #[must_use]
    pub fn step_by_name(&self, name: &str) -> Option<u32> {
        self.steps.iter().position(|s| s.name == name).and_then(|p| u32::try_from(p).ok())
    }

    fn check(&self, step: u32, index: u64) -> Result<(), JobError> {
        let info = usize::try_from(step)
            .ok()
            .and_then(|s| self.steps.get(s))
            .ok_or(JobError::NoStep { step, steps: self.steps.len() })?;
        if index >= info.tasks {
            return Err(JobError::NoTask { step: info.name.clone(), index, tasks: info.tasks });
        }
        Ok(())
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("name", &self.name).field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// `/usr/bin/povray` → `povray`.
fn default_name(program: &str) -> String {
    let base = program.rsplit('/').find(|part| !part.is_empty()).unwrap_or(program);
    let name: String = base.chars().filter(|c| !c.is_control()).take(100).collect();
    if check_name(&name).is_ok() { name } else { "command".into() }
}

/// Refuses what Linux can't start.
pub(crate) fn check_sizes(sizes: impl IntoIterator<Item = usize>, env_size: usize) -> Result<(), JobError> {
    let mut total = env_size;
    for (position, size) in sizes.into_iter().enumerate() {
        if size > ARGUMENT_MAX {
            return Err(JobError::ArgumentTooLong { position, size });
        }
        total = total.saturating_add(size + 1);
    }
    if total > COMMAND_MAX { Err(JobError::CommandTooLong { size: total }) } else { Ok(()) }
}

struct CommandPlan {
    argv: Vec<Pattern>,
    space: Space,
    session_enter: Vec<String>,
    session_exit: Vec<String>,
}

impl CommandPlan {
    fn new(body: &CommandBody, env_size: usize) -> Result<Self, JobError> {
        check_argv(&body.argv)?;
        let known = match &body.space {
            Space::Single => None,
            Space::Frames(_) => Some(Field::FRAMES),
            Space::Each(lines) => {
                check_lines(lines)?;
                Some(Field::EACH)
            }
        };
        let argv: Result<Vec<Pattern>, _> = body
            .argv
            .iter()
            .map(|argument| known.map_or_else(|| Ok(Pattern::literal(argument)), |k| Pattern::parse(argument, k)))
            .collect();
        let (session_enter, session_exit) = (body.session_enter.clone(), body.session_exit.clone());
        for (key, argv) in [("session_enter", &session_enter), ("session_exit", &session_exit)] {
            let checked = if argv.is_empty() { Ok(()) } else { check_argv(argv) };
            let checked = checked.and_then(|()| check_sizes(argv.iter().map(String::len), env_size));
            checked.map_err(|error| JobError::Around { key, error: Box::new(error) })?;
        }
        let mut plan = Self { argv: argv?, space: body.space.clone(), session_enter, session_exit };
        plan.fit_to_space()?;
        check_sizes(plan.argv.iter().map(|p| p.size_max(plan.value_max())), env_size)?;
        Ok(plan)
    }

    /// What the command must, and must not, use of its placeholders.
    fn fit_to_space(&mut self) -> Result<(), JobError> {
        let uses = |field| self.argv.iter().any(|p| p.uses(field));
        match &self.space {
            Space::Single => {}
            Space::Frames(frames) => {
                if frames.chunk() > 1 && uses(Field::Frame) {
                    return Err(JobError::FrameInChunk { chunk: frames.chunk() });
                }
                if frames.needs_step() && (uses(Field::Start) || uses(Field::End)) && !uses(Field::Step) {
                    return Err(JobError::StepUnused { text: frames.text().into() });
                }
            }
            // As xargs does: without a placeholder the line is the last argument.
            Space::Each(_) if !uses(Field::Line) => self.argv.push(Pattern::parse("{line}", Field::EACH)?),
            Space::Each(_) => {}
        }
        Ok(())
    }

    fn value_max(&self) -> usize {
        match &self.space {
            Space::Single => 0,
            Space::Frames(_) => NUMBER_MAX,
            Space::Each(lines) => lines.iter().map(str::len).max().unwrap_or(0),
        }
    }

    fn step(&self, spec: &JobSpec) -> StepInfo {
        let tasks = match &self.space {
            Space::Single => 1,
            Space::Frames(frames) => frames.tasks(),
            Space::Each(lines) => lines.len() as u64,
        };
        StepInfo {
            name: "command".into(),
            tasks,
            depends_on: Vec::new(),
            cpus_milli: spec.cpus_milli,
            memory: spec.memory,
            requires: spec.requires.clone(),
        }
    }

    fn frames(&self) -> Option<&Frames> {
        match &self.space {
            Space::Frames(frames) => Some(frames),
            Space::Single | Space::Each(_) => None,
        }
    }

    fn values(&self, index: u64) -> Option<Values<'_>> {
        match &self.space {
            Space::Single => None,
            Space::Frames(frames) => {
                frames.chunk_at(index).map(|c| Values::Frames { start: c.first, end: c.last, step: c.step })
            }
            Space::Each(lines) => lines.get(usize::try_from(index).ok()?).map(Values::Line),
        }
    }

    fn task(&self, index: u64) -> Resolved {
        // A single command has no placeholders, so that any values will do.
        let values = self.values(index).unwrap_or(Values::Line(""));
        let argv = self.argv.iter().map(|p| p.fill(values).into_bytes()).collect();
        Resolved { argv, grace_ms: COMMAND_GRACE_MS, ..Resolved::default() }
    }

    /// What runs around a session's tasks; each of the two may take as long as a task.
    fn environment(&self, timeout_ms: u64) -> Option<ResolvedEnvironment> {
        let action = |argv: &[String]| {
            let argv: Vec<Vec<u8>> = argv.iter().map(|a| a.clone().into_bytes()).collect();
            (!argv.is_empty()).then(|| Resolved { argv, timeout_ms, grace_ms: COMMAND_GRACE_MS, ..Resolved::default() })
        };
        let (enter, exit) = (action(&self.session_enter), action(&self.session_exit));
        let is_there = enter.is_some() || exit.is_some();
        is_there.then(|| ResolvedEnvironment { name: "session".into(), enter, exit, variables: Vec::new() })
    }

    fn params(&self, index: u64) -> Vec<(String, String)> {
        let pair = |field: Field, value: String| (field.as_str().to_owned(), value);
        match (self.values(index), self.frames()) {
            (Some(Values::Line(line)), _) => vec![pair(Field::Line, line.to_owned())],
            (Some(Values::Frames { start, .. }), Some(frames)) if frames.chunk() == 1 => {
                vec![pair(Field::Frame, start.to_string())]
            }
            (Some(Values::Frames { start, end, step }), _) => {
                [(Field::Start, start), (Field::End, end), (Field::Step, step)]
                    .map(|(field, value)| pair(field, value.to_string()))
                    .to_vec()
            }
            (None, _) => Vec::new(),
        }
    }
}

fn check_argv(argv: &[String]) -> Result<(), JobError> {
    match argv.first() {
        None => return Err(JobError::NoCommand),
        Some(program) if program.is_empty() => return Err(JobError::EmptyProgram),
        Some(_) => {}
    }
    for (position, argument) in argv.iter().enumerate() {
        if argument.contains('\0') {
            return Err(JobError::ArgumentNul { position });
        }
        refuse_markers(&format!("argument {position}"), argument)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_space(argv: &[&str], space: Space) -> JobSpec {
        let argv = argv.iter().map(|a| (*a).to_owned()).collect();
        JobSpec::new(Body::Command(CommandBody { argv, space, ..CommandBody::default() }))
    }

    #[test]
    fn what_stands_around_a_sessions_tasks_is_an_environment() {
        let words = |argv: &[&str]| argv.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
        let around = |enter: &[&str], exit: &[&str]| {
            let (session_enter, session_exit) = (words(enter), words(exit));
            let body = CommandBody { argv: words(&["r"]), session_enter, session_exit, ..CommandBody::default() };
            Plan::new(&JobSpec { time_limit_s: Some(9), ..JobSpec::new(Body::Command(body)) })
        };
        assert_eq!(around(&[], &[]).expect("a plan").environments(0), []);
        let plan = around(&["a", "{frame}"], &[]).expect("a plan");
        let [environment] = plan.environments(0).try_into().expect("one");
        let enter = environment.enter.expect("an enter");
        assert_eq!((enter.argv, enter.timeout_ms), (vec![b"a".to_vec(), b"{frame}".to_vec()], 9000));
        assert!(environment.exit.is_none());
        let refused = |enter: &[&str], exit: &[&str]| around(enter, exit).map(drop).expect_err("refused").to_string();
        assert_eq!(refused(&[""], &[]), format!("session_enter: {}", JobError::EmptyProgram));
        assert!(refused(&["a"], &["b", "c\0"]).starts_with("session_exit: argument 1"));
        let long = "x".repeat(ARGUMENT_MAX + 1);
        assert!(refused(&["a", &long], &[]).starts_with("session_enter: "));
    }

    fn frames(argv: &[&str], text: &str, chunk: u64) -> JobSpec {
        with_space(argv, Space::Frames(Frames::parse(text, chunk).expect(text)))
    }

    fn each(argv: &[&str], lines: &[&str]) -> JobSpec {
        with_space(argv, Space::Each(lines.iter().collect()))
    }

    fn argv(plan: &Plan, index: u64) -> Vec<String> {
        let resolved = plan.task(0, index).expect("resolves");
        resolved.argv.into_iter().map(|a| String::from_utf8(a).expect("text")).collect()
    }

    #[test]
    fn a_single_command_is_taken_as_it_is() {
        let plan = Plan::new(&JobSpec::command(["/usr/bin/awk", "{print $1}", "{frame}", "{{", ""])).expect("good");
        assert_eq!(plan.name(), "awk");
        assert_eq!(argv(&plan, 0), ["/usr/bin/awk", "{print $1}", "{frame}", "{{", ""]);
        assert_eq!(plan.steps()[0].tasks, 1);
        assert_eq!(plan.params(0, 0), []);
        assert_eq!(plan.frame(0, 0), None);
        assert_eq!(plan.task(0, 0).expect("good").grace_ms, COMMAND_GRACE_MS);
        assert_eq!(plan.step_by_name("command"), Some(0));
    }

    #[test]
    fn frames_are_filled_in() {
        let plan = Plan::new(&frames(&["r", "-o{frame:04}", "{{x}}"], "1-10x3,20", 1)).expect("good");
        assert_eq!(plan.steps()[0].tasks, 5);
        assert_eq!(argv(&plan, 2), ["r", "-o0007", "{x}"]);
        assert_eq!(plan.params(0, 4), [("frame".into(), "20".into())]);
        assert_eq!(
            (plan.frame(0, 4), plan.index_of_frame(0, 20), plan.index_of_frame(0, 2)),
            (Some(20), Some(4), None)
        );

        let plan = Plan::new(&frames(&["r", "{start}", "{end}", "{step}"], "1-10x3,20", 3)).expect("good");
        assert_eq!(argv(&plan, 0), ["r", "1", "7", "3"]);
        assert_eq!(argv(&plan, 1), ["r", "10", "10", "1"]);
        let params = [("start", "1"), ("end", "7"), ("step", "3")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(plan.params(0, 0), params);

        let same = Plan::new(&frames(&["/bin/true"], "1-1000000", 10)).expect("good");
        assert_eq!((same.steps()[0].tasks, argv(&same, 99_999)), (100_000, vec!["/bin/true".to_owned()]));
    }

    #[test]
    fn lines_are_filled_in() {
        let plan = Plan::new(&each(&["cp", "{line}", "{line}.bak"], &["a b", "{frame}"])).expect("good");
        assert_eq!(argv(&plan, 0), ["cp", "a b", "a b.bak"]);
        assert_eq!(argv(&plan, 1), ["cp", "{frame}", "{frame}.bak"]);
        assert_eq!(plan.params(0, 1), [("line".into(), "{frame}".into())]);
        let plan = Plan::new(&each(&["gzip", "-9"], &["a"])).expect("good");
        assert_eq!(argv(&plan, 0), ["gzip", "-9", "a"]);
        assert_eq!(crate::each_lines("a\r\n\n  \nb c\n"), ["a", "b c"].into_iter().collect());
    }

    #[test]
    fn options_reach_the_step_and_the_task() {
        let mut spec = JobSpec::command(["x"]);
        spec.name = Some("night shift".into());
        spec.cpus_milli = Some(1500);
        spec.memory = Some(1 << 30);
        spec.time_limit_s = Some(90);
        spec.requires = Requires::parse("gpu").expect("good");
        let plan = Plan::new(&spec).expect("good");
        assert_eq!(plan.name(), "night shift");
        let step = &plan.steps()[0];
        assert_eq!((step.cpus_milli, step.memory, step.requires.as_str()), (Some(1500), Some(1 << 30), "gpu"));
        assert_eq!(plan.task(0, 0).expect("good").timeout_ms, 90_000);
    }

    #[test]
    fn beyond_the_last_there_is_nothing() {
        let plan = Plan::new(&frames(&["r"], "1-3", 1)).expect("good");
        let error = |step, index| plan.task(step, index).expect_err("none").to_string();
        assert_eq!(error(1, 0), "there is no step 1, the job has 1");
        assert_eq!(error(0, 3), r#"step "command" has no task 3, the last one is 2"#);
        assert_eq!(plan.params(0, 3), []);
        assert_eq!((plan.frame(0, 3), plan.frame(7, 0), plan.index_of_frame(7, 1)), (None, None, None));
        assert_eq!(plan.environments(7), []);
    }

    /// One wrong thing, and what the person who submitted it reads.
    #[test]
    fn bad_input_gets_a_clear_sentence() {
        type Change = fn(&mut JobSpec);
        let changed: &[(Change, &str)] = &[
            (
                |s| s.name = Some(" ".into()),
                "the job's name is empty (leave it out to have it named after its command)",
            ),
            (
                |s| s.name = Some("a\nb".into()),
                r"the job's name contains the control character '\n' (a name is one line of printable text)",
            ),
            (
                |s| s.name = Some("a\0b".into()),
                r"the job's name contains the control character '\0' (a name is one line of printable text)",
            ),
            (
                |s| s.name = Some("a\u{202e}b".into()),
                r"the job's name contains the control character '\u{202e}' (a name is one line of printable text)",
            ),
            (|s| s.name = Some("é".repeat(201)), "the job's name has 201 characters, at most 200 are allowed"),
            (
                |s| s.priority = 10_001,
                "priority 10001 is not possible (-10000 to 10000; higher runs first, 0 is usual)",
            ),
            (
                |s| s.cwd = Some("here".into()),
                r#"the working directory "here" is not absolute (begin it with /, or leave it out for the job's own folder)"#,
            ),
            (|s| s.cwd = Some("/a\0".into()), "the working directory contains a NUL character, which no path can"),
            (|s| s.cwd = Some("/".repeat(4096)), "the working directory has 4096 bytes, at most 4095 are possible"),
            (|s| s.umask = Some(0o1000), "umask 1000 is not possible (000 to 777)"),
            (|s| s.retries = 1001, "1001 retries are too many (at most 1000)"),
            (
                |s| s.time_limit_s = Some(0),
                "a time limit of 0 s is not possible (1 to 31622400; leave it out for none)",
            ),
            (|s| s.cpus_milli = Some(0), "0 thousandths of a core are not possible (1 to 1000000)"),
            (|s| s.memory = Some(1), "1 bytes of memory are not enough to start a program (at least 1048576)"),
            (
                |s| s.env = [("1A".into(), String::new())].into(),
                r#""1A" is not the name of an environment variable (letters, digits and _, not beginning with a digit)"#,
            ),
            (
                |s| s.env = [("A=B".into(), String::new())].into(),
                r#""A=B" is not the name of an environment variable (letters, digits and _, not beginning with a digit)"#,
            ),
            (
                |s| s.env = [("A".into(), "\0".into())].into(),
                "the environment variable A contains a NUL character, which no program can be given",
            ),
            (
                |s| s.env = [("A".into(), "x".repeat(131_072))].into(),
                "the environment variable A has 131074 bytes with its name, at most 131071 are possible",
            ),
            (
                |s| s.env = [("A".into(), "@STEAD_FILES@/x".into())].into(),
                "the environment variable A contains @STEAD_FILES@, which Stead replaces by a folder of the host (write \
                 it differently)",
            ),
            (
                |s| s.after = vec![crate::After { job: 1, any: false }; 1001],
                "the job waits for 1001 jobs, at most 1000 are allowed",
            ),
        ];
        for (change, sentence) in changed {
            let mut spec = JobSpec::command(["x"]);
            change(&mut spec);
            assert_eq!(&Plan::new(&spec).expect_err(sentence).to_string(), sentence);
        }
    }

    #[test]
    fn bad_commands_get_a_clear_sentence() {
        let mebibyte = "x".repeat(1 << 20);
        let many: Vec<String> = vec!["y".repeat(100_000); 21];
        for (spec, sentence) in [
            (JobSpec::command(Vec::<String>::new()), "there is no command (put it after --)"),
            (JobSpec::command([""]), "the command's first word is empty (it is the program to run)"),
            (JobSpec::command(["x", "a\0b"]), "argument 1 contains a NUL character, which no program can be given"),
            (
                JobSpec::command(["x", &mebibyte]),
                "argument 1 has up to 1048576 bytes, at most 131071 are possible (put long data in a file and pass its \
                 name)",
            ),
            (
                JobSpec::command(many),
                "arguments and environment have up to 2100021 bytes together, at most 2097152 are possible (put long \
                 data in a file and pass its name)",
            ),
            (
                JobSpec::command(["x", "@STEAD_JOBDIR@"]),
                "argument 1 contains @STEAD_JOBDIR@, which Stead replaces by a folder of the host (write it differently)",
            ),
            (
                frames(&["x", "{frme}"], "1", 1),
                r#"unknown placeholder {frme} in "{frme}" (there is {frame}, {start}, {end}, {step}; write {{ for a literal brace)"#,
            ),
            (
                each(&["x", "{frame}"], &["a"]),
                r#"unknown placeholder {frame} in "{frame}" (there is {line}; write {{ for a literal brace)"#,
            ),
            (
                frames(&["x", "{frame}"], "1-9", 3),
                "{frame} can't stand for the 3 frames of a chunk (use {start} and {end}, or no --chunk)",
            ),
            (
                frames(&["x", "{start}", "{end}"], "1-9x2", 3),
                r#"the chunks of "1-9x2" leave frames out, but the command doesn't use {step}, so that it would run those too (pass {step} to it, or use no --chunk)"#,
            ),
            (each(&["x"], &[]), "there are no lines to make tasks of (empty lines don't count)"),
            (each(&["x"], &["a", "b\0"]), "line 2 contains a NUL character, which no program can be given"),
            (
                each(&["x", "{line}{line}"], &["a", &mebibyte[..70_000]]),
                "argument 1 has up to 140000 bytes, at most 131071 are possible (put long data in a file and pass its \
                 name)",
            ),
        ] {
            assert_eq!(Plan::new(&spec).expect_err(sentence).to_string(), sentence);
        }
    }

    #[test]
    fn stored_form_is_stable() {
        let mut spec = frames(&["r", "{frame}"], "1-3", 1);
        spec.env = [("A".into(), "b".into())].into();
        spec.after = vec![crate::After { job: 7, any: true }];
        spec.requires = Requires::parse("gpu").expect("good");
        let json = r#"{"v":1,"priority":0,"env":{"A":"b"},"retries":0,"requires":"gpu","after":[{"job":7,"any":true}],"body":{"command":{"argv":["r","{frame}"],"space":{"frames":{"text":"1-3","chunk":1}}}}}"#;
        assert_eq!(spec.to_json().expect("json"), json);
        assert_eq!(JobSpec::from_json(json).expect("back"), spec);
        let least = JobSpec::from_json(r#"{"v":1,"body":{"command":{"argv":["x"]}}}"#).expect("least");
        assert_eq!(least, JobSpec::command(["x"]));
        for (json, reason) in [
            (r#"{"v":2,"body":{"command":{"argv":["x"]}}}"#, "its version is 2, this release knows 1"),
            (r#"{"v":1,"user":"root","body":{"command":{"argv":["x"]}}}"#, "unknown field `user`"),
            (r#"{"v":1,"body":{"command":{"argv":["x"],"space":{"frames":{"text":"3-"}}}}}"#, "is not a frame range"),
        ] {
            let error = JobSpec::from_json(json).expect_err(reason).to_string();
            assert!(error.starts_with("the job's description can't be read: ") && error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_can_be_run(
            argv in prop::collection::vec("[a{}frmesndlip:04]{0,12}|\\PC{0,6}", 0..4),
            space in prop_oneof![
                Just(Space::Single),
                ("[-0-9x,]{1,12}", 1u64..5)
                    .prop_filter_map("a range", |(t, c)| Frames::parse(&t, c).ok().map(Space::Frames)),
                prop::collection::vec("\\PC{0,8}", 0..3).prop_map(|lines| Space::Each(lines.into_iter().collect())),
            ],
        ) {
            let spec = JobSpec::new(Body::Command(CommandBody { argv, space, ..CommandBody::default() }));
            prop_assert_eq!(&JobSpec::from_json(&spec.to_json().expect("json")).expect("back"), &spec);
            if let Ok(plan) = Plan::new(&spec) {
                let last = plan.steps()[0].tasks - 1;
                let resolved = plan.task(0, last).expect("the last task");
                prop_assert!(!resolved.argv.is_empty());
                prop_assert!(plan.task(0, last + 1).is_err());
                if let Some(frame) = plan.frame(0, last) {
                    prop_assert_eq!(plan.index_of_frame(0, frame), Some(last));
                }
            }
        }
    }
}
