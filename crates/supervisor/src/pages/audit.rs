//! The audit for auditors: searched a page at a time, the newest first, with whether it holds.

use super::{Fields, Html, Sent, Visit, moment, reason, see, text, times};
use crate::api::{ApiError, App};
use crate::audit::Act;
use crate::auditor::{AuditPage as Found, AuditQuery};
use crate::clock;
use crate::error::ServiceError;
use crate::identity::micros;
use axum::extract::{Query, State};
use axum::response::Response;
use web::pages::{AuditAsked, AuditPage, AuditRow, ChainState, Checked};
use web::{Frame, Nav, State as Shown, Text};

/// Rows of a page.
const PAGE: usize = 50;
/// Of what else a record says, beside it.
const DETAILS: usize = 120;
const OUTCOMES: [&str; 5] = ["ok", "intent", "refused", "failed", "unknown"];

fn asked(fields: &Fields) -> AuditAsked {
    let get = |name| fields.get(name).unwrap_or_default().trim().to_owned();
    AuditAsked {
        actor: get("actor"),
        user: get("as"),
        act: get("act"),
        outcome: get("outcome"),
        object: get("object"),
        job: get("job"),
        since: get("since"),
        until: get("until"),
        before: get("before"),
    }
}

/// What the page asks, as the API would be asked.
fn query(asked: &AuditAsked) -> Result<AuditQuery, ServiceError> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let number = |what: &'static str, text: &str| {
        let wrong = || ServiceError::input(what, format!("{text:?} is no number"));
        some(text).map(|text| text.parse::<u64>().map_err(|_| wrong())).transpose()
    };
    Ok(AuditQuery {
        since: ago("since", &asked.since)?,
        until: ago("until", &asked.until)?,
        actor: some(&asked.actor),
        user: some(&asked.user),
        act: some(&asked.act),
        outcome: some(&asked.outcome),
        object: some(&asked.object),
        job: number("job", &asked.job)?,
        before: number("before", &asked.before)?,
        last: Some(PAGE + 1),
        ..AuditQuery::default()
    })
}

/// A time that was: `2h` and `3d` ago, or in full.
fn ago(what: &'static str, text: &str) -> Result<Option<String>, ServiceError> {
    if text.is_empty() || micros(text).is_ok() {
        return Ok((!text.is_empty()).then(|| text.to_owned()));
    }
    let wrong = || ServiceError::input(what, format!("{text:?} is no time: write 2h, 3d or 2026-11-30T18:00:00Z"));
    let unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    let seconds = job::parse_duration(text).ok().filter(|_| unit).ok_or_else(wrong)?;
    let before = i64::try_from(seconds).ok().and_then(|s| s.checked_mul(1_000_000)).ok_or_else(wrong)?;
    let at = clock::now().checked_sub(before).filter(|at| *at >= 0).ok_or_else(wrong)?;
    Ok(Some(clock::rfc3339_seconds(at)))
}

pub(super) async fn page(
    State(app): State<App>,
    visit: Visit,
    Query(fields): Query<Vec<(String, String)>>,
) -> Result<Html, ApiError> {
    let asked = asked(&Fields(fields));
    let state = app.service.audit_state(&visit.caller).await?;
    let chain = ChainState {
        records: state.records,
        waiting: state.waiting,
        signed: state.signed_at.map(moment),
        anchored: state.anchored_at.map(moment),
        checked: state.checked.map(|(at, report)| Checked {
            at: moment(at),
            up_to: report.last_seq,
            checkpoints: report.checkpoints,
            findings: report.findings.iter().map(finding).collect(),
            notes: report.notes.iter().map(Text::from).collect(),
        }),
    };
    let mut page = AuditPage {
        frame: frame(&visit, &asked),
        problem: None,
        acts: Act::ALL.iter().map(|act| act.as_str()).collect(),
        outcomes: OUTCOMES.to_vec(),
        rows: Vec::new(),
        before: None,
        chain,
        query: asked,
    };
    let found = match query(&page.query) {
        Ok(query) => app.service.audit_page(&visit.caller, &query).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(mut found) => {
            // The newest are on top.
            found.reverse();
            let more = found.len() > PAGE;
            found.truncate(PAGE);
            page.before = if more { found.last().map(|f| f.line.seq) } else { None };
            page.rows = found.iter().map(row).collect();
        }
        Err(error @ ServiceError::Input { .. }) => page.problem = Some(reason(&error.into())),
        Err(error) => return Err(error.into()),
    }
    Html::of(&page)
}

fn finding(finding: &crate::audit::Finding) -> Text {
    let number = finding.seq.map(|seq| format!("record {seq}, ")).unwrap_or_default();
    format!("{number}{}:{}: {}", finding.file.display(), finding.line, finding.what).into()
}

fn frame(visit: &Visit, asked: &AuditAsked) -> Frame {
    let pairs = [
        ("actor", &asked.actor),
        ("as", &asked.user),
        ("act", &asked.act),
        ("outcome", &asked.outcome),
        ("object", &asked.object),
        ("job", &asked.job),
        ("since", &asked.since),
        ("until", &asked.until),
    ];
    let given = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let api: String = given().map(|(name, value)| format!("&{name}={}", web::encoded(value))).collect();
    // The command has no option for the object.
    let cli = given().filter(|(name, _)| *name != "object");
    let cli: String = cli.map(|(name, value)| format!(" --{name} {}", super::jobs::quoted(value))).collect();
    Frame {
        api: Some(format!("/api/v1/audit?last={PAGE}{api}").into()),
        cli: Some(match asked.since.is_empty() && asked.until.is_empty() {
            true => format!("stead audit tail -n {PAGE}{cli}").into(),
            false => format!("stead audit search{cli}").into(),
        }),
        ..visit.frame("Audit", Nav::Audit)
    }
}

fn row(found: &Found) -> AuditRow {
    let line = &found.line;
    let some = |text: &Option<String>| text.as_ref().map(Text::from);
    let details: Vec<String> = line.details.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut details: String = details.join(" ").chars().take(DETAILS + 1).collect();
    if details.chars().count() > DETAILS {
        details.pop();
        details.push('…');
    }
    AuditRow {
        seq: line.seq,
        at: times(&line.time),
        act: text(&line.act),
        outcome: Shown::of(&line.outcome),
        login_user: some(&line.login_user),
        user: some(&line.user).filter(|user| Some(user) != some(&line.login_user).as_ref()),
        run_as: some(&line.run_as).filter(|account| Some(account) != some(&line.user).as_ref()),
        grant: line.grant,
        job: line.job,
        object: some(&line.object),
        details: details.into(),
        json: text(&found.text),
    }
}

/// Has the whole chain checked; the page then says what came of it.
pub(super) async fn verify(State(app): State<App>, visit: Visit, _: Sent) -> Result<Response, ApiError> {
    app.service.verify_audit(&visit.caller).await?;
    Ok(see("/audit"))
}
