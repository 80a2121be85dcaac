//! From a script with expressions to arguments, files and times.

use openjd_expr::ExprValue;
use openjd_expr::format_string::{FormatString, FormatStringOptions};
use openjd_expr::path_mapping::PathFormat;
use openjd_expr::symbol_table::{SerializedSymbolTable, SymbolTable};
use openjd_model::job::{Action, CancelationMode, EmbeddedFile};
use openjd_model::types::{EndOfLine, TaskParameterType};

use super::Language;
use super::problem::{TemplateError, tidy};
use crate::FILES_MARKER;
use crate::plan::{Resolved, check_sizes};
use crate::spec::{JobError, check_variable};

/// Where `Session.PathMappingRulesFile` is, below the session's files.
pub(super) const PATH_RULES_FILE: &str = "path-mapping.json";
const PATH_RULES: &str = "{\"version\": \"pathmapping-1.0\", \"path_mapping_rules\": []}\n";
/// They travel in every batch.
const FILES_MAX: usize = 8 << 20;
const TIMEOUT_MAX_S: u64 = 366 * 86_400;
const NOTIFY_MAX_S: u64 = 600;

/// What the specification says an action has when it says nothing itself.
#[derive(Clone, Copy)]
pub(super) struct Usual {
    what: &'static str,
    timeout_s: u64,
    notify_s: u64,
}

pub(super) const TASK_ACTION: Usual = Usual { what: "onRun", timeout_s: 0, notify_s: 120 };
pub(super) const ENTER_ACTION: Usual = Usual { what: "onEnter", timeout_s: 0, notify_s: 30 };
/// Leaving must come to an end, since the slot waits for it.
pub(super) const EXIT_ACTION: Usual = Usual { what: "onExit", timeout_s: 300, notify_s: 30 };

/// A step's or environment's script, apart from its actions.
pub(super) struct Script<'a> {
    /// For error messages.
    pub(super) place: String,
    /// `Task.File` or `Env.File`.
    pub(super) kind: &'static str,
    /// Where its files go, below the session's files.
    pub(super) folder: String,
    pub(super) let_bindings: Option<&'a [String]>,
    pub(super) files: &'a [EmbeddedFile],
}

/// All that a script's expressions can refer to, and its files.
pub(super) struct Scope<'a> {
    symbols: SymbolTable,
    place: String,
    files: Vec<warrant::File>,
    language: &'a Language,
}

impl<'a> Scope<'a> {
    pub(super) fn enter(
        mut symbols: SymbolTable,
        script: &Script<'_>,
        language: &'a Language,
    ) -> Result<Self, JobError> {
        refuse_same_files(script)?;
        for file in script.files {
            let place = format!("{FILES_MARKER}/{}/{}", script.folder, file_name(file));
            set(&mut symbols, &format!("{}.{}", script.kind, file.name), path(&place))?;
        }
        if let Some(bindings) = script.let_bindings {
            symbols =
                openjd_model::evaluate_let_bindings(bindings, &symbols, Some(&language.library), PathFormat::Posix)
                    .map_err(|e| failed(&script.place, "let", &e))?;
        }
        let mut scope = Self { symbols, place: script.place.clone(), files: Vec::new(), language };
        let mut size = 0;
        for file in script.files {
            let file = scope.file(&script.folder, file)?;
            size += file.data.len();
            // Before the next one is worked out: each may be large.
            if size > FILES_MAX {
                return Err(TemplateError::FilesTooLarge { place: scope.place, size, max: FILES_MAX }.into());
            }
            scope.files.push(file);
        }
        Ok(scope)
    }

    /// An action of the script, with the script's files.
    pub(super) fn run(
        &self,
        action: &Action,
        usual: Usual,
        variables: &[(String, String)],
    ) -> Result<Resolved, JobError> {
        let what = usual.what;
        let command = self.text(&action.command, &format!("the command of {what}"))?;
        if command.is_empty() {
            return Err(TemplateError::EmptyCommand { place: self.place.clone() }.into());
        }
        let mut argv = vec![command];
        for (position, argument) in action.args.iter().flatten().enumerate() {
            argv.extend(self.arguments(argument, &format!("args[{position}] of {what}"))?);
        }
        if argv.iter().any(|a| a.contains('\0')) {
            return Err(TemplateError::Nul { place: self.place.clone(), what: what.into() }.into());
        }
        let env_size = variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        check_sizes(argv.iter().map(String::len), env_size)?;
        let timeout = self.seconds(action.timeout.as_ref(), &format!("the timeout of {what}"), TIMEOUT_MAX_S)?;
        let grace_ms = self.grace_ms(action.cancelation.as_ref(), usual)?;
        Ok(Resolved {
            argv: argv.into_iter().map(String::into_bytes).collect(),
            env: variables.iter().map(|(n, v)| (n.clone().into_bytes(), v.clone().into_bytes())).collect(),
            files: self.all_files(),
            timeout_ms: timeout.unwrap_or(usual.timeout_s) * 1000,
            grace_ms,
        })
    }

    /// In the order of their names.
    pub(super) fn variables<'v>(
        &self,
        variables: impl Iterator<Item = (&'v String, &'v FormatString)>,
    ) -> Result<Vec<(String, String)>, JobError> {
        let mut resolved = Vec::new();
        for (name, value) in variables {
            let value = self.text(value, &format!("the variable {name}"))?;
            check_variable_size(name, &value)?;
            resolved.push((name.clone(), value));
        }
        resolved.sort();
        Ok(resolved)
    }

    fn all_files(&self) -> Vec<warrant::File> {
        let mut files = self.files.clone();
        if self.language.path_rules {
            let (path, data) = (PATH_RULES_FILE.into(), PATH_RULES.into());
            files.push(warrant::File { path, data, executable: false });
        }
        files
    }

    fn file(&self, folder: &str, file: &EmbeddedFile) -> Result<warrant::File, JobError> {
        let what = format!("the embedded file {}", file.name);
        let text = file.data.as_ref().map(|d| self.text(d, &what)).transpose()?.unwrap_or_default();
        let text = match file.end_of_line {
            Some(EndOfLine::Lf) => text.replace("\r\n", "\n"),
            Some(EndOfLine::Crlf) => text.replace("\r\n", "\n").replace('\n', "\r\n"),
            // The hosts' own ends of line are LF, and so is what YAML yields.
            Some(EndOfLine::Auto) | None => text,
        };
        let path = format!("{folder}/{}", file_name(file)).into_bytes();
        Ok(warrant::File { path, data: text.into_bytes(), executable: file.runnable.unwrap_or(false) })
    }

    fn options(&self) -> FormatStringOptions<'_> {
        FormatStringOptions::new().with_path_format(PathFormat::Posix).with_library(&*self.language.library)
    }

    fn text(&self, text: &FormatString, what: &str) -> Result<String, JobError> {
        text.resolve_string_with(&self.symbols, &self.options()).map_err(|e| failed(&self.place, what, &e))
    }

    /// One argument; with expressions a list is several and `null` is none.
    fn arguments(&self, text: &FormatString, what: &str) -> Result<Vec<String>, JobError> {
        if !self.language.expressions {
            return Ok(vec![self.text(text, what)?]);
        }
        let value = text.resolve_with(&self.symbols, &self.options()).map_err(|e| failed(&self.place, what, &e))?;
        Ok(match (&value, value.list_elements()) {
            (ExprValue::Null, _) => Vec::new(),
            (_, Some(list)) => {
                list.iter().filter(|v| !matches!(v, ExprValue::Null)).map(ExprValue::to_display_string).collect()
            }
            (one, None) => vec![one.to_display_string()],
        })
    }

    fn seconds(&self, text: Option<&FormatString>, what: &str, max: u64) -> Result<Option<u64>, JobError> {
        let Some(text) = text else { return Ok(None) };
        let value = self.text(text, what)?;
        // An expression may come to null, which is as if nothing had been said.
        if value.trim().is_empty() {
            return Ok(None);
        }
        match value.trim().parse() {
            Ok(seconds) if (1..=max).contains(&seconds) => Ok(Some(seconds)),
            _ => Err(TemplateError::Seconds { place: self.place.clone(), what: what.into(), value, max }.into()),
        }
    }

    fn grace_ms(&self, mode: Option<&CancelationMode>, usual: Usual) -> Result<u32, JobError> {
        let what = format!("notifyPeriodInSeconds of {}", usual.what);
        let seconds = match mode {
            None | Some(CancelationMode::Terminate) => 0,
            Some(CancelationMode::NotifyThenTerminate { notify_period_in_seconds: period }) => {
                self.seconds(period.as_ref(), &what, NOTIFY_MAX_S)?.unwrap_or(usual.notify_s)
            }
            Some(CancelationMode::DeferredMode { mode, notify_period_in_seconds: period }) => {
                match self.text(mode, "the cancelation mode")?.as_str() {
                    "" | "TERMINATE" => 0,
                    "NOTIFY_THEN_TERMINATE" => {
                        self.seconds(period.as_ref(), &what, NOTIFY_MAX_S)?.unwrap_or(usual.notify_s)
                    }
                    other => {
                        let (place, value) = (self.place.clone(), other.to_owned());
                        return Err(TemplateError::CancelationMode { place, value }.into());
                    }
                }
            }
        };
        Ok(u32::try_from(seconds * 1000).unwrap_or(u32::MAX))
    }
}

/// A variable of an environment may well name the session's folders.
fn check_variable_size(name: &str, value: &str) -> Result<(), JobError> {
    let plain = value.replace(FILES_MARKER, "").replace(crate::JOBDIR_MARKER, "");
    check_variable(name, &plain)
}

fn refuse_same_files(script: &Script<'_>) -> Result<(), JobError> {
    for (index, file) in script.files.iter().enumerate() {
        if let Some(other) = script.files[..index].iter().find(|o| file_name(o) == file_name(file)) {
            return Err(TemplateError::SameFile {
                place: script.place.clone(),
                one: other.name.clone(),
                other: file.name.clone(),
                filename: file_name(file).into(),
            }
            .into());
        }
    }
    Ok(())
}

/// The model has checked that it is no path.
fn file_name(file: &EmbeddedFile) -> &str {
    file.filename.as_deref().unwrap_or(&file.name)
}

pub(super) fn path(text: &str) -> ExprValue {
    ExprValue::new_path(text, PathFormat::Posix)
}

/// A task parameter's value, and the same as it was written.
pub(super) fn task_value(kind: TaskParameterType, value: &ExprValue) -> (ExprValue, ExprValue) {
    if kind == TaskParameterType::Path {
        let text = value.to_display_string();
        return (path(&text), ExprValue::String(text));
    }
    (value.clone(), value.clone())
}

pub(super) fn set(symbols: &mut SymbolTable, name: &str, value: ExprValue) -> Result<(), JobError> {
    symbols.set(name, value).map_err(|e| failed("the template", name, &e))
}

/// Adds what the model worked out for a step or environment: `let`, `Job.Name`, `Step.Name`.
pub(super) fn add(
    symbols: &mut SymbolTable,
    worked_out: Option<&SerializedSymbolTable>,
    place: &str,
) -> Result<(), JobError> {
    if let Some(table) = worked_out {
        symbols.merge_from(&table.to_symtab(PathFormat::Posix).map_err(|e| failed(place, "let", &e))?);
    }
    Ok(())
}

pub(super) fn failed(place: &str, what: &str, error: &dyn std::fmt::Display) -> JobError {
    TemplateError::Resolve { place: place.into(), what: what.into(), message: tidy(&error.to_string()) }.into()
}
