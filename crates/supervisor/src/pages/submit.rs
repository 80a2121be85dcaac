//! The form that submits a job, and what would become of it.

use super::job::{refused, verdicts};
use super::{Fields, Html, Visit, reason, rules, see, text};
use crate::api::{ApiError, App};
use crate::error::ServiceError;
use crate::service::Submission;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use job::{Body, CommandBody, Frames, JobSpec, Requires, Space, TemplateBody};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use web::pages::{Parameter, Preview, SubmitPage};
use web::{Nav, Text};

/// In front of the name of a template's parameter.
const PARAMETER: &str = "param.";

fn wrong(what: &'static str, problem: impl ToString) -> ServiceError {
    ServiceError::input(what, problem)
}

/// The form with what was typed into it.
fn filled(visit: &Visit, fields: &Fields) -> Result<SubmitPage, ApiError> {
    let get = |name| fields.get(name).unwrap_or_default().to_owned();
    let mut frame = visit.frame("New job", Nav::Jobs);
    frame.api = Some("/api/v1/jobs".into());
    let is_template = fields.get("kind") == Some("template");
    let command = get("command");
    frame.cli = Some(command_line(fields, is_template).into());
    let roles = visit.caller.principal.roles;
    let request_id = match fields.get("request_id") {
        Some(id) => id.to_owned(),
        None => random()?,
    };
    Ok(SubmitPage {
        frame,
        is_template,
        command,
        frames: get("frames"),
        template: get("template"),
        parameters: if is_template { parameters(fields) } else { Vec::new() },
        name: get("name"),
        priority: get("priority"),
        retries: get("retries"),
        time_limit: get("time_limit"),
        requires: get("requires"),
        cpus: get("cpus"),
        memory: get("memory"),
        cwd: get("cwd"),
        user: get("user"),
        may_name: (roles.admin || roles.impersonate) && visit.caller.acting.is_none(),
        request_id,
        ..SubmitPage::default()
    })
}

/// Makes a second press of a button the same job.
pub(super) fn random() -> Result<String, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| wrong("random", "the system has none"))?;
    Ok(format!("web-{}", warrant::hex(&bytes)))
}

/// The same at a terminal.
fn command_line(fields: &Fields, is_template: bool) -> String {
    let option = |name: &str, option: &str| {
        fields.get(name).map(|value| format!(" {option} {}", super::jobs::quoted(value))).unwrap_or_default()
    };
    let options = [
        option("name", "--name"),
        option("priority", "--priority"),
        option("retries", "--retries"),
        option("time_limit", "--time-limit"),
        option("requires", "--requires"),
        option("cpus", "--cpus"),
        option("memory", "--mem"),
        option("cwd", "--cwd"),
        option("user", "--user"),
    ]
    .concat();
    if is_template {
        let given: Vec<String> =
            fields.under(PARAMETER).map(|(n, v)| format!(" -p {}", super::jobs::quoted(&format!("{n}={v}")))).collect();
        return format!("stead submit{options}{} template.yaml", given.concat());
    }
    let frames = option("frames", "--frames");
    format!("stead submit{options}{frames} -- {}", fields.get("command").unwrap_or("COMMAND"))
}

/// The fields of a template's parameters; none for a template that isn't understood.
fn parameters(fields: &Fields) -> Vec<Parameter> {
    let Ok(asked) = job::template_parameters(fields.get("template").unwrap_or_default()) else { return Vec::new() };
    let given: BTreeMap<&str, &str> = fields.under(PARAMETER).collect();
    let field = |p: job::TemplateParameter| Parameter {
        value: given.get(p.name.as_str()).map(|v| (*v).to_owned()).or_else(|| p.default.clone()).unwrap_or_default(),
        is_required: p.default.is_none(),
        name: p.name.into(),
        kind: p.kind.into(),
        description: p.description.map(Text::from),
        allowed: p.allowed,
        min: p.min,
        max: p.max,
    };
    asked.into_iter().map(field).collect()
}

/// What is submitted, or what is wrong with it.
fn submission(fields: &Fields) -> Result<Submission, ServiceError> {
    let body = if fields.get("kind") == Some("template") { template(fields)? } else { command(fields)? };
    let number = |name: &'static str| {
        let value = fields.get(name).map(str::trim);
        value.map(|v| v.parse().map_err(|_| wrong(name, format!("{v:?} is no whole number")))).transpose()
    };
    let mut spec = JobSpec::new(body);
    spec.name = fields.get("name").map(str::to_owned);
    spec.cwd = fields.get("cwd").map(str::to_owned);
    spec.priority = number("priority")?.unwrap_or(0);
    spec.retries = fields
        .get("retries")
        .map(|v| v.trim().parse().map_err(|_| wrong("retries", format!("{v:?} is no whole number"))))
        .transpose()?
        .unwrap_or(0);
    spec.time_limit_s = fields
        .get("time_limit")
        .map(|v| job::parse_duration(v.trim()).map_err(|e| wrong("time_limit", e)))
        .transpose()?;
    spec.requires = Requires::parse(fields.get("requires").unwrap_or_default()).map_err(|e| wrong("requires", e))?;
    spec.cpus_milli =
        fields.get("cpus").map(|v| job::parse_cores(v.trim()).map_err(|e| wrong("cpus", e))).transpose()?;
    spec.memory =
        fields.get("memory").map(|v| job::parse_size(v.trim()).map_err(|e| wrong("memory", e))).transpose()?;
    let json = RawValue::from_string(spec.to_json()?).map_err(|e| wrong("spec", e))?;
    Ok(Submission {
        blocked: false,
        spec: json,
        user: fields.get("user").map(|u| u.trim().to_owned()),
        request_id: fields.get("request_id").map(str::to_owned),
        resubmits: None,
    })
}

fn command(fields: &Fields) -> Result<Body, ServiceError> {
    let argv = words(fields.get("command").unwrap_or_default()).map_err(|e| wrong("command", e))?;
    if argv.is_empty() {
        return Err(wrong("command", "there is none"));
    }
    let space = match fields.get("frames").map(str::trim).filter(|f| !f.is_empty()) {
        Some(frames) => Space::Frames(Frames::parse(frames, 1).map_err(|e| wrong("frames", e))?),
        None => Space::Single,
    };
    Ok(Body::Command(CommandBody { argv, space, ..CommandBody::default() }))
}

fn template(fields: &Fields) -> Result<Body, ServiceError> {
    // Browsers send line ends as CR LF.
    let source = fields.get("template").unwrap_or_default().replace("\r\n", "\n");
    if source.trim().is_empty() {
        return Err(wrong("template", "there is none"));
    }
    let parameters = fields.under(PARAMETER).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    Ok(Body::Template(TemplateBody { source, parameters }))
}

/// Words as a shell would have them: quotes, and backslashes; nothing else means anything.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().push(rest.next().ok_or("it ends with a backslash")?);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

pub(super) async fn page(visit: Visit) -> Result<Html, ApiError> {
    Html::of(&filled(&visit, &Fields::default())?)
}

/// The template's parameters as fields.
pub(super) async fn read_parameters(visit: Visit, fields: Fields) -> Result<Html, ApiError> {
    let mut page = filled(&visit, &fields)?;
    if let Err(error) = job::template_parameters(&fields.get("template").unwrap_or_default().replace("\r\n", "\n")) {
        page.problem = Some(reason(&ServiceError::from(error).into()));
    }
    Html::of(&page)
}

pub(super) async fn preview(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Html, ApiError> {
    let mut page = filled(&visit, &fields)?;
    let previewed = match submission(&fields) {
        Ok(submission) => app.service.preview(&visit.caller, submission).await,
        Err(error) => Err(error),
    };
    match previewed {
        Ok(view) => {
            page.preview = Some(Preview {
                name: text(&view.name),
                tasks: view.tasks,
                login_user: text(&view.login_user),
                user: view.user.as_ref().map(Text::from),
                rules: rules(&view.rules),
                refused: view.refused.as_ref().map(refused),
                runs: view.workers.iter().any(|v| v.verdict == "run"),
                verdicts: verdicts(view.workers),
            });
        }
        Err(error) => page.problem = Some(reason(&error.into())),
    }
    Html::of(&page)
}

pub(super) async fn submit(State(app): State<App>, visit: Visit, fields: Fields) -> Result<Response, ApiError> {
    let submitted = match submission(&fields) {
        Ok(submission) => app.service.submit(&visit.caller, submission).await,
        Err(error) => Err(error),
    };
    match submitted {
        Ok(job) => Ok(see(&format!("/jobs/{job}"))),
        Err(error) => {
            let error = ApiError::from(error);
            let mut page = filled(&visit, &fields)?;
            page.problem = Some(reason(&error));
            let mut response = Html::of(&page)?.into_response();
            *response.status_mut() = error.status;
            Ok(response)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_and_nothing_else() {
        for (text, expected) in [
            ("a b  c", vec!["a", "b", "c"]),
            (" 'a b' \"c d\"e '' ", vec!["a b", "c de", ""]),
            (r#"a\ b "\"" '\'"#, vec!["a b", "\"", "\\"]),
            ("rm -rf $HOME; id | `x` > y & *", vec!["rm", "-rf", "$HOME;", "id", "|", "`x`", ">", "y", "&", "*"]),
            ("", vec![]),
        ] {
            assert_eq!(words(text).expect("words"), expected, "{text}");
        }
        for bad in ["'a", "\"a", "a\\"] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
