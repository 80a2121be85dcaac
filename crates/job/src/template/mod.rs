//! OpenJD 2023-09 job templates, through `openjd-model`: read, checked, made into a job, and worked out task by task.
//!
//! Environments and scripts are resolved here and not on the host, so that what the supervisor signs is exactly what
//! runs. The two folders that only the host knows stand as markers in what comes out.

mod create;
mod problem;
mod resolve;
#[cfg(test)]
mod tests;

use openjd_expr::symbol_table::SymbolTable;
use openjd_expr::{ExprValue, FunctionLibrary};
use openjd_model::StepParameterSpaceIterator;
use openjd_model::TaskParameterSet;
use openjd_model::job::{Environment, HostRequirements, Step, TaskParameter};

use crate::frames::TASKS_MAX;
use crate::plan::{Resolved, ResolvedEnvironment, StepInfo};
use crate::requires::Requires;
use crate::spec::{JobError, JobSpec, TemplateBody};

pub use create::{TemplateParameter, template_parameters};
pub use problem::{TemplateError, TemplateProblem};
use resolve::{Scope, Script};

/// A frame of a step with several parameters is looked for in this many tasks.
const FRAME_SEARCH_MAX: u64 = 100_000;

/// A template's job, ready to be worked out.
pub(crate) struct TemplatePlan {
    name: String,
    steps: Vec<StepPlan>,
    /// Entered before those of a step.
    environments: Vec<ResolvedEnvironment>,
    /// What holds in the whole job: its parameters and the session.
    scope: SymbolTable,
    language: Language,
    /// What every task's batch may have to carry.
    load: Load,
}

/// Most bytes of a batch with one task: its environments' actions and its own, with their files and variables.
const LOAD_MAX: usize = 16 << 20;

/// How much batches of a job carry. All its environments count at once: so much is kept of them as well.
#[derive(Clone, Default)]
struct Load {
    size: usize,
    biggest: (String, usize),
}

impl Load {
    fn add(&mut self, part: String, size: usize) -> Result<(), JobError> {
        self.size = self.size.saturating_add(size);
        if size > self.biggest.1 {
            self.biggest = (part, size);
        }
        if self.size <= LOAD_MAX {
            return Ok(());
        }
        let (part, part_size) = self.biggest.clone();
        Err(TemplateError::BatchTooLarge { size: self.size, max: LOAD_MAX, part, part_size }.into())
    }
}

/// How expressions are understood.
pub(crate) struct Language {
    pub(crate) library: std::sync::Arc<FunctionLibrary>,
    /// The `EXPR` extension: lists flatten into several arguments, `null` into none.
    pub(crate) expressions: bool,
    /// Whether something asks for the file of path mapping rules.
    pub(crate) path_rules: bool,
}

struct StepPlan {
    step: Step,
    space: Option<StepParameterSpaceIterator>,
    tasks: u64,
    /// What the step has beyond the job's scope.
    scope: SymbolTable,
    environments: Vec<ResolvedEnvironment>,
    /// Those of all its environments, of the job's as well.
    variables: Vec<(String, String)>,
    frame: Option<String>,
}

impl TemplatePlan {
    /// `env_size`: bytes of the job's own variables.
    pub(crate) fn new(body: &TemplateBody, env_size: usize) -> Result<Self, JobError> {
        let mut load = Load::default();
        load.add("the job's own variables".into(), env_size)?;
        let create::Made { job, scope, language } = create::create(body)?;
        let environments = Environments { folder: "job".into(), scope: &scope, language: &language, outer: &[] }
            .resolve(job.job_environments.as_deref().unwrap_or_default(), &mut load)?;
        let outer = variables_of(&environments);
        let mut steps = Vec::new();
        for (number, step) in (0..).zip(job.steps) {
            let base = Base { scope: &scope, language: &language, outer: &outer };
            steps.push(StepPlan::new(number, step, &base, &mut load)?);
        }
        Ok(Self { name: job.name, steps, environments, scope, language, load })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn steps(&self, spec: &JobSpec) -> Result<Vec<StepInfo>, JobError> {
        self.steps.iter().map(|plan| self.step_info(plan, spec)).collect()
    }

    fn step_info(&self, plan: &StepPlan, spec: &JobSpec) -> Result<StepInfo, JobError> {
        let depends_on = plan.step.dependencies.iter().flatten().filter_map(|dependency| {
            let position = self.steps.iter().position(|s| s.step.name == dependency.depends_on)?;
            u32::try_from(position).ok()
        });
        let wants = Wants::of(plan.step.host_requirements.as_ref())?;
        Ok(StepInfo {
            name: plan.step.name.clone(),
            tasks: plan.tasks,
            depends_on: depends_on.collect(),
            cpus_milli: spec.cpus_milli.max(wants.cpus_milli),
            memory: spec.memory.max(wants.memory),
            requires: spec.requires.and(&wants.requires),
        })
    }

    pub(crate) fn task(&self, step: u32, index: u64) -> Result<Resolved, JobError> {
        let plan = self.step(step).ok_or(JobError::NoStep { step, steps: self.steps.len() })?;
        let mut symbols = self.scope.clone();
        symbols.merge_from(&plan.scope);
        for (parameter, value) in plan.parameters(index).iter().flatten() {
            let (value, raw) = resolve::task_value(value.param_type, &value.value);
            resolve::set(&mut symbols, &format!("Task.Param.{parameter}"), value)?;
            resolve::set(&mut symbols, &format!("Task.RawParam.{parameter}"), raw)?;
        }
        let script = Script {
            place: format!("step {:?}", plan.step.name),
            kind: "Task.File",
            folder: format!("step{step}"),
            let_bindings: plan.step.script.let_bindings.as_deref(),
            files: plan.step.script.embedded_files.as_deref().unwrap_or_default(),
        };
        let scope = Scope::enter(symbols, &script, &self.language)?;
        let resolved = scope.run(&plan.step.script.actions.on_run, resolve::TASK_ACTION, &plan.variables)?;
        self.load.clone().add(script.place, size(&resolved))?;
        Ok(resolved)
    }

    /// In the order of entering: those of the job, then those of the step.
    pub(crate) fn environments(&self, step: u32) -> Vec<ResolvedEnvironment> {
        let of_step = self.step(step).map(|s| s.environments.as_slice()).unwrap_or_default();
        self.environments.iter().chain(of_step).cloned().collect()
    }

    pub(crate) fn params(&self, step: u32, index: u64) -> Vec<(String, String)> {
        let Some(plan) = self.step(step) else { return Vec::new() };
        let Some(values) = plan.parameters(index) else { return Vec::new() };
        let names = plan.step.parameter_space.iter().flat_map(|s| s.task_parameter_definitions.keys());
        names.filter_map(|name| Some((name.clone(), values.get(name)?.value.to_display_string()))).collect()
    }

    pub(crate) fn frame(&self, step: u32, index: u64) -> Option<i64> {
        let plan = self.step(step)?;
        first_frame(&plan.parameters(index)?.get(plan.frame.as_ref()?)?.value)
    }

    pub(crate) fn index_of_frame(&self, step: u32, frame: i64) -> Option<u64> {
        let plan = self.step(step)?;
        let name = plan.frame.as_ref()?;
        let covers = |index: u64| {
            let values = plan.parameters(index);
            values.is_some_and(|v| v.get(name).is_some_and(|v| contains_frame(&v.value, frame)))
        };
        if plan.frames_ascend() {
            let after = first_where(plan.tasks, |index| self.frame(step, index).is_none_or(|first| first > frame));
            return after.checked_sub(1).filter(|index| covers(*index));
        }
        (0..plan.tasks.min(FRAME_SEARCH_MAX)).find(|index| covers(*index))
    }

    fn step(&self, step: u32) -> Option<&StepPlan> {
        self.steps.get(usize::try_from(step).ok()?)
    }
}

impl StepPlan {
    fn new(number: u32, step: Step, base: &Base<'_>, load: &mut Load) -> Result<Self, JobError> {
        let Base { scope: base, language, outer } = *base;
        let mut scope = SymbolTable::new();
        resolve::add(&mut scope, step.resolved_symtab.as_ref(), &step.name)?;
        let space = step.parameter_space.as_ref().map(|s| create::space(&step.name, s)).transpose()?;
        let tasks = space.as_ref().map_or(Ok(1), |s| u64::try_from(s.len())).unwrap_or(u64::MAX);
        if tasks == 0 || tasks > TASKS_MAX {
            return Err(TemplateError::TaskCount { step: step.name, tasks }.into());
        }
        let environments = match step.step_environments.as_deref() {
            None => Vec::new(),
            Some(environments) => {
                let mut whole = base.clone();
                whole.merge_from(&scope);
                Environments { folder: format!("step{number}"), scope: &whole, language, outer }
                    .resolve(environments, load)?
            }
        };
        let variables = merged(outer.iter().cloned().chain(variables_of(&environments)));
        let frame = frame_parameter(&step);
        Ok(Self { step, space, tasks, scope, environments, variables, frame })
    }

    /// `None` when the step has no parameters.
    fn parameters(&self, index: u64) -> Option<TaskParameterSet> {
        self.space.as_ref()?.get(usize::try_from(index).ok()?)
    }

    /// Frames that are alone in their space, and a range expression, are in ascending order.
    fn frames_ascend(&self) -> bool {
        let Some(space) = &self.step.parameter_space else { return false };
        let mut definitions = space.task_parameter_definitions.values();
        match (definitions.next(), definitions.next()) {
            (Some(TaskParameter::Int { range, .. } | TaskParameter::ChunkInt { range, .. }), None) => {
                matches!(range, openjd_model::job::TaskParamRange::RangeExpr(_))
            }
            _ => false,
        }
    }
}

/// What steps have of their job.
struct Base<'a> {
    scope: &'a SymbolTable,
    language: &'a Language,
    /// Variables of the job's environments.
    outer: &'a [(String, String)],
}

/// What environments of one job or step have in common.
struct Environments<'a> {
    /// Begins the names of the folders of their embedded files.
    folder: String,
    scope: &'a SymbolTable,
    language: &'a Language,
    /// Variables of the environments around them.
    outer: &'a [(String, String)],
}

impl Environments<'_> {
    /// In the order of entering. Each sees the variables of those before it, and its own.
    fn resolve(&self, environments: &[Environment], load: &mut Load) -> Result<Vec<ResolvedEnvironment>, JobError> {
        let mut outer = self.outer.to_vec();
        let mut resolved = Vec::new();
        for (number, environment) in environments.iter().enumerate() {
            let one = self.one(environment, format!("{}-env{number}", self.folder), &outer)?;
            let actions = [&one.enter, &one.exit].into_iter().flatten().map(size).sum();
            load.add(format!("environment {:?}", one.name), actions)?;
            outer = merged(outer.into_iter().chain(one.variables.iter().cloned()));
            resolved.push(one);
        }
        Ok(resolved)
    }

    fn one(
        &self,
        environment: &Environment,
        folder: String,
        outer: &[(String, String)],
    ) -> Result<ResolvedEnvironment, JobError> {
        let name = &environment.name;
        let mut symbols = self.scope.clone();
        resolve::add(&mut symbols, environment.resolved_symtab.as_ref(), name)?;
        let script = environment.script.as_ref();
        let of_script = Script {
            place: format!("environment {name:?}"),
            kind: "Env.File",
            folder,
            let_bindings: script.and_then(|s| s.let_bindings.as_deref()),
            files: script.and_then(|s| s.embedded_files.as_deref()).unwrap_or_default(),
        };
        let scope = Scope::enter(symbols, &of_script, self.language)?;
        let variables = scope.variables(environment.variables.iter().flatten())?;
        let within = merged(outer.iter().chain(&variables).cloned());
        let actions = script.map(|s| &s.actions);
        let run = |action: Option<&_>, usual| action.map(|a| scope.run(a, usual, &within)).transpose();
        Ok(ResolvedEnvironment {
            name: name.clone(),
            enter: run(actions.and_then(|a| a.on_enter.as_ref()), resolve::ENTER_ACTION)?,
            exit: run(actions.and_then(|a| a.on_exit.as_ref()), resolve::EXIT_ACTION)?,
            variables,
        })
    }
}

fn size(action: &Resolved) -> usize {
    let argv: usize = action.argv.iter().map(Vec::len).sum();
    let env: usize = action.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    argv + env + action.files.iter().map(|f| f.path.len() + f.data.len()).sum::<usize>()
}

fn variables_of(environments: &[ResolvedEnvironment]) -> Vec<(String, String)> {
    merged(environments.iter().flat_map(|e| e.variables.iter().cloned()))
}

/// Later ones win; in the order of names.
fn merged(variables: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    variables.collect::<std::collections::BTreeMap<_, _>>().into_iter().collect()
}

/// The one parameter of whole numbers that is called `Frame`.
fn frame_parameter(step: &Step) -> Option<String> {
    let space = step.parameter_space.as_ref()?;
    let mut names = space.task_parameter_definitions.iter().filter_map(|(name, definition)| {
        let whole = matches!(definition, TaskParameter::Int { .. } | TaskParameter::ChunkInt { .. });
        (whole && name.eq_ignore_ascii_case("frame")).then(|| name.clone())
    });
    names.next().filter(|_| names.next().is_none())
}

fn first_frame(value: &ExprValue) -> Option<i64> {
    match value {
        ExprValue::Int(frame) => Some(*frame),
        ExprValue::RangeExpr(range) => range.get(0),
        _ => None,
    }
}

fn contains_frame(value: &ExprValue, frame: i64) -> bool {
    match value {
        ExprValue::Int(one) => *one == frame,
        ExprValue::RangeExpr(range) => range.contains(frame),
        _ => false,
    }
}

/// The first of `0..count` for which `holds`, which from there on always does; `count` if for none.
fn first_where(count: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// What a step's `hostRequirements` come to.
#[derive(Default)]
struct Wants {
    cpus_milli: Option<u32>,
    memory: Option<u64>,
    requires: Requires,
}

impl Wants {
    fn of(requirements: Option<&HostRequirements>) -> Result<Self, JobError> {
        let mut wants = Self::default();
        let mut parts = Vec::new();
        let Some(requirements) = requirements else { return Ok(wants) };
        for amount in requirements.amounts.iter().flatten() {
            // A maximum says what a task can make use of, and refuses no host.
            let Some(min) = amount.min.filter(|min| *min > 0.0) else { continue };
            match amount.name.to_ascii_lowercase().as_str() {
                "amount.worker.vcpu" => wants.cpus_milli = Some(whole_u32(min * 1000.0)),
                "amount.worker.memory" => wants.memory = Some(whole_u64(min * 1_048_576.0)),
                name => parts.push(amount_label(name, min)),
            }
        }
        for attribute in requirements.attributes.iter().flatten() {
            let name = attribute.name.to_ascii_lowercase();
            let label = |value: &String| attribute_label(&name, value);
            parts.extend(attribute.all_of.iter().flatten().map(label));
            if let Some(any) = &attribute.any_of {
                parts.push(any.iter().map(label).collect::<Vec<_>>().join("|"));
            }
        }
        wants.requires = Requires::parse(&parts.join(","))?;
        Ok(wants)
    }
}

/// One of something is its name; more is to be promised by a label such as `gpu>=2`.
fn amount_label(name: &str, min: f64) -> String {
    let name = name.strip_prefix("amount.worker.").or_else(|| name.strip_prefix("amount.")).unwrap_or(name);
    if min <= 1.0 { name.into() } else { format!("{name}>={min}") }
}

fn attribute_label(name: &str, value: &str) -> String {
    match name {
        "attr.worker.os.family" | "attr.worker.cpu.arch" => value.to_ascii_lowercase(),
        _ => {
            let name = name.strip_prefix("attr.worker.").or_else(|| name.strip_prefix("attr.")).unwrap_or(name);
            format!("{name}={value}")
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, rounded up, and `as` saturates")]
fn whole_u64(value: f64) -> u64 {
    value.ceil() as u64
}

fn whole_u32(value: f64) -> u32 {
    u32::try_from(whole_u64(value)).unwrap_or(u32::MAX)
}
