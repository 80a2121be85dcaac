//! From a template's text and the values of its parameters to a job.

use std::collections::HashMap;
use std::sync::Arc;

use openjd_expr::path_mapping::PathFormat;
use openjd_expr::symbol_table::SymbolTable;
use openjd_expr::{ExprType, ExprValue, FunctionLibrary, HostContext};
use openjd_model::error::{ModelError, PathElement};
use openjd_model::job::{Job, StepParameterSpace, TaskParamRange, TaskParameter};
use openjd_model::template::{
    Action, EmbeddedFile, Environment, EnvironmentActions, EnvironmentScript, HostRequirements, JobParameterDefinition,
    JobTemplate, RangeConstraint, StepActions, StepParameterSpaceDefinition, StepScript, StepTemplate,
    TaskParameterDefinition,
};
use openjd_model::{
    CallerLimits, DocumentType, JobParameterType, JobParameterValues, ModelExtension, PathParameterOptions,
    StepParameterSpaceIterator,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Language;
use super::problem::{TemplateError, from_model, problem, tidy};
use super::resolve;
use crate::JOBDIR_MARKER;
use crate::spec::{JobError, TemplateBody, refuse_markers};

const SOURCE_MAX: usize = 1 << 20;
const STEPS_MAX: usize = 1000;
const ENVIRONMENTS_MAX: usize = 1000;
/// A chunk is worked out value by value.
const CHUNK_MAX: usize = 100_000;
/// Contiguous chunks of values that don't follow each other are counted one by one.
const ISOLATED_MAX: u64 = 100_000;
/// What this release runs. `WRAP_ACTIONS` needs more of a session than it has.
const EXTENSIONS: &[&str] = &["EXPR", "FEATURE_BUNDLE_1", "REDACTED_ENV_VARS", "TASK_CHUNKING"];

pub(super) struct Made {
    pub(super) job: Job,
    /// What holds in the whole job: its parameters and the session.
    pub(super) scope: SymbolTable,
    pub(super) language: Language,
}

pub(super) fn create(body: &TemplateBody) -> Result<Made, JobError> {
    for (name, value) in &body.parameters {
        refuse_markers(&format!("the parameter {name}"), value)?;
    }
    let template = decode(&body.source)?;
    let values = parameters(&template, body)?;
    let context = template.default_validation_context();
    let invalid = |error: ModelError| from_model(&error, &body.source);
    if let Some(unchunked) = without_contiguous(&template) {
        refuse_isolated(&openjd_model::create_job(&unchunked, &values, &context).map_err(invalid)?, &template)?;
    }
    let job = openjd_model::create_job(&template, &values, &context).map_err(invalid)?;
    let profile = context.profile.to_expr_profile(HostContext::WithRules(Arc::new(Vec::new())));
    let language = Language {
        library: FunctionLibrary::for_profile(&profile),
        expressions: context.profile.has_extension(ModelExtension::Expr),
        path_rules: body.source.contains("PathMappingRulesFile"),
    };
    Ok(Made { job, scope: scope(&values)?, language })
}

/// A parameter that a template asks for, as somebody fills it in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateParameter {
    pub name: String,
    /// As the template has it: `INT`, `PATH`, ...
    pub kind: String,
    pub description: Option<String>,
    pub default: Option<String>,
    /// Empty: any value.
    pub allowed: Vec<String>,
    pub min: Option<String>,
    pub max: Option<String>,
}

/// What a template asks for, in its order.
pub fn template_parameters(source: &str) -> Result<Vec<TemplateParameter>, JobError> {
    let (document, _) = read(source)?;
    let definitions = document.get("parameterDefinitions").and_then(Value::as_array);
    Ok(definitions.into_iter().flatten().map(parameter).collect())
}

fn parameter(definition: &Value) -> TemplateParameter {
    let text = |key: &str| definition.get(key).filter(|value| !value.is_null()).map(as_text);
    TemplateParameter {
        name: text("name").unwrap_or_default(),
        kind: text("type").unwrap_or_default().to_ascii_uppercase(),
        description: text("description"),
        default: text("default"),
        allowed: definition.get("allowedValues").and_then(Value::as_array).into_iter().flatten().map(as_text).collect(),
        min: text("minValue"),
        max: text("maxValue"),
    }
}

fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn decode(source: &str) -> Result<JobTemplate, JobError> {
    read(source).map(|(_, template)| template)
}

/// As it was written, and as it is understood.
fn read(source: &str) -> Result<(Value, JobTemplate), JobError> {
    if source.len() > SOURCE_MAX {
        return Err(TemplateError::TooLarge { size: source.len(), max: SOURCE_MAX }.into());
    }
    let limits = CallerLimits {
        max_step_count: Some(STEPS_MAX),
        max_env_count: Some(ENVIRONMENTS_MAX),
        ..CallerLimits::default()
    };
    let kind = if source.trim_start().starts_with('{') { DocumentType::Json } else { DocumentType::Yaml };
    let document = openjd_model::template::parse::document_string_to_object(source, kind, &limits)
        .map_err(|e| TemplateError::Syntax { message: syntax(&e) })?;
    refuse_markers_in(&document)?;
    match openjd_model::decode_job_template(document.clone(), Some(EXTENSIONS), &limits) {
        Ok(template) => Ok((document, template)),
        Err(error) => Err(structure(&document, &error, source).into()),
    }
}

fn syntax(error: &ModelError) -> String {
    let text = tidy(&error.to_string());
    let preamble = text.find("key-value pairs. ").map_or(0, |at| at + "key-value pairs. ".len());
    text[preamble..].trim_start_matches("error: ").to_owned()
}

fn refuse_markers_in(value: &Value) -> Result<(), JobError> {
    match value {
        Value::String(text) => refuse_markers("the template", text),
        Value::Array(items) => items.iter().try_for_each(refuse_markers_in),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            refuse_markers("the template", key)?;
            refuse_markers_in(value)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// The model reports the wrong shape of a part without saying where it is: find the innermost part that it refuses.
fn structure(document: &Value, error: &ModelError, source: &str) -> TemplateError {
    let ModelError::DecodeValidation(_) = error else {
        return with_extensions_named(from_model(error, source));
    };
    match misshapen(document) {
        Some((path, message)) => TemplateError::Invalid { problems: vec![problem(&path, tidy(&message), source)] },
        None => from_model(error, source),
    }
}

fn with_extensions_named(mut error: TemplateError) -> TemplateError {
    if let TemplateError::Invalid { problems } = &mut error {
        for problem in problems.iter_mut().filter(|p| p.message.starts_with("Unsupported extension")) {
            problem.message = format!("{} (supported: {})", problem.message, EXTENSIONS.join(", "));
        }
    }
    error
}

type Misshapen = (Vec<PathElement>, String);

fn misshapen(document: &Value) -> Option<Misshapen> {
    each::<JobParameterDefinition>(document, "parameterDefinitions", nothing)
        .or_else(|| each::<Environment>(document, "jobEnvironments", in_environment))
        .or_else(|| each::<StepTemplate>(document, "steps", in_step))
}

fn in_step(step: &Value) -> Option<Misshapen> {
    one::<StepScript>(step, "script", |script| {
        let run = |actions: &Value| one::<Action>(actions, "onRun", nothing);
        one::<StepActions>(script, "actions", run).or_else(|| each::<EmbeddedFile>(script, "embeddedFiles", nothing))
    })
    .or_else(|| each::<Environment>(step, "stepEnvironments", in_environment))
    .or_else(|| one::<HostRequirements>(step, "hostRequirements", nothing))
    .or_else(|| {
        one::<StepParameterSpaceDefinition>(step, "parameterSpace", |space| {
            each::<TaskParameterDefinition>(space, "taskParameterDefinitions", nothing)
        })
    })
}

fn in_environment(environment: &Value) -> Option<Misshapen> {
    one::<EnvironmentScript>(environment, "script", |script| {
        let run = |actions: &Value| {
            one::<Action>(actions, "onEnter", nothing).or_else(|| one::<Action>(actions, "onExit", nothing))
        };
        one::<EnvironmentActions>(script, "actions", run)
            .or_else(|| each::<EmbeddedFile>(script, "embeddedFiles", nothing))
    })
}

const fn nothing(_: &Value) -> Option<Misshapen> {
    None
}

/// The field, if it is misshapen, and within it what `inside` finds.
fn one<T: DeserializeOwned>(
    parent: &Value,
    field: &str,
    inside: impl Fn(&Value) -> Option<Misshapen>,
) -> Option<Misshapen> {
    let part = parent.get(field)?;
    let error = serde_json::from_value::<T>(part.clone()).err()?;
    let found = inside(part).unwrap_or_else(|| (Vec::new(), error.to_string()));
    Some(below(PathElement::Field(field.into()), found))
}

/// The first misshapen item of a list, and within it what `inside` finds.
fn each<T: DeserializeOwned>(
    parent: &Value,
    field: &str,
    inside: impl Fn(&Value) -> Option<Misshapen>,
) -> Option<Misshapen> {
    parent.get(field)?.as_array()?.iter().enumerate().find_map(|(index, item)| {
        let error = serde_json::from_value::<T>(item.clone()).err()?;
        let found = inside(item).unwrap_or_else(|| (Vec::new(), error.to_string()));
        Some(below(PathElement::Field(field.into()), below(PathElement::Index(index), found)))
    })
}

fn below(element: PathElement, (mut path, message): Misshapen) -> Misshapen {
    path.insert(0, element);
    (path, message)
}

/// Values given and defaults. Paths stay as they were written: a relative one is relative to where the task runs.
fn parameters(template: &JobTemplate, body: &TemplateBody) -> Result<JobParameterValues, JobError> {
    let given: HashMap<String, ExprValue> =
        body.parameters.iter().map(|(name, value)| (name.clone(), ExprValue::String(value.clone()))).collect();
    let options = PathParameterOptions {
        job_template_dir: "",
        current_working_dir: "",
        path_format: PathFormat::Posix,
        allow_template_dir_walk_up: true,
        allow_uri_path_values: true,
    };
    openjd_model::preprocess_job_parameters(template, &given, &[], &options).map_err(|error| {
        let text = match &error {
            ModelError::DecodeValidation(text) | ModelError::Compatibility(text) => text.clone(),
            other => other.to_string(),
        };
        TemplateError::Parameters { problems: text.lines().map(tidy).collect() }.into()
    })
}

fn scope(values: &JobParameterValues) -> Result<SymbolTable, JobError> {
    let mut scope =
        openjd_model::build_symbol_table(values).map_err(|e| resolve::failed("the job", "a parameter", &e))?;
    for (name, value) in values {
        let path = match (value.param_type, &value.value) {
            (JobParameterType::Path, path) => resolve::path(&path.to_display_string()),
            (JobParameterType::ListPath, list) => {
                let paths = list.list_elements().unwrap_or_default();
                let paths = paths.iter().map(|p| resolve::path(&p.to_display_string())).collect();
                ExprValue::make_list(paths, ExprType::PATH).map_err(|e| resolve::failed("the job", name, &e))?
            }
            _ => continue,
        };
        resolve::set(&mut scope, &format!("Param.{name}"), path)?;
    }
    resolve::set(&mut scope, "Session.WorkingDirectory", resolve::path(JOBDIR_MARKER))?;
    // Paths are the same on every host of a farm, or the job's own business.
    resolve::set(&mut scope, "Session.HasPathMappingRules", ExprValue::Bool(false))?;
    let rules = format!("{}/{}", crate::FILES_MARKER, resolve::PATH_RULES_FILE);
    resolve::set(&mut scope, "Session.PathMappingRulesFile", resolve::path(&rules))?;
    Ok(scope)
}

/// The model counts contiguous chunks by walking over every value that stands alone, before anyone can look at the
/// range. The same template with other chunks shows the range first.
fn without_contiguous(template: &JobTemplate) -> Option<JobTemplate> {
    let mut other = template.clone();
    let mut changed = false;
    for step in &mut other.steps {
        for definition in step.parameter_space.iter_mut().flat_map(|s| &mut s.task_parameter_definitions) {
            if let TaskParameterDefinition::CHUNK_INT(chunked) = definition {
                changed |= chunked.chunks.range_constraint == RangeConstraint::Contiguous;
                chunked.chunks.range_constraint = RangeConstraint::Noncontiguous;
            }
        }
    }
    changed.then_some(other)
}

fn refuse_isolated(job: &Job, template: &JobTemplate) -> Result<(), JobError> {
    for (step, written) in job.steps.iter().zip(&template.steps) {
        let contiguous = written.parameter_space.iter().flat_map(|s| &s.task_parameter_definitions).any(|d| {
            matches!(d, TaskParameterDefinition::CHUNK_INT(c) if c.chunks.range_constraint == RangeConstraint::Contiguous)
        });
        let definitions = step.parameter_space.iter().flat_map(|s| s.task_parameter_definitions.values());
        for definition in definitions.filter(|_| contiguous) {
            let TaskParameter::ChunkInt { range: TaskParamRange::RangeExpr(range), .. } = definition else { continue };
            let isolated = range.ranges().iter().filter(|r| r.step() != 1).map(|r| r.len() as u64);
            let values = isolated.fold(0u64, u64::saturating_add);
            if values > ISOLATED_MAX {
                return Err(TemplateError::ChunksNotContiguous { step: step.name.clone(), values }.into());
            }
        }
    }
    Ok(())
}

/// A step's space with chunks of the size written: a size that follows the measured run time would make the number of
/// a task depend on when it is asked for.
pub(super) fn space(step: &str, space: &StepParameterSpace) -> Result<StepParameterSpaceIterator, JobError> {
    let chunks = space.task_parameter_definitions.values().find_map(|definition| match definition {
        TaskParameter::ChunkInt { chunks, .. } => Some(chunks.default_task_count),
        _ => None,
    });
    if let Some(size) = chunks.filter(|size| !(1..=CHUNK_MAX).contains(size)) {
        return Err(TemplateError::ChunkSize { step: step.into(), size, max: CHUNK_MAX }.into());
    }
    StepParameterSpaceIterator::new_with_chunk_override(space, chunks)
        .map_err(|e| resolve::failed(&format!("step {step:?}"), "the parameter space", &e))
}
