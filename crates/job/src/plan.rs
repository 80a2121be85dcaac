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
                let plan = TemplatePlan::new(body)?;
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
            Work::Command(_) => Vec::new(),
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
        let mut plan = Self { argv: argv?, space: body.space.clone() };
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
            Space::Each(lines) => lines.iter().map(String::len).max().unwrap_or(0),
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
            Space::Each(lines) => lines.get(usize::try_from(index).ok()?).map(|line| Values::Line(line)),
        }
    }

    fn task(&self, index: u64) -> Resolved {
        // A single command has no placeholders, so that any values will do.
        let values = self.values(index).unwrap_or(Values::Line(""));
        let argv = self.argv.iter().map(|p| p.fill(values).into_bytes()).collect();
        Resolved { argv, grace_ms: COMMAND_GRACE_MS, ..Resolved::default() }
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
