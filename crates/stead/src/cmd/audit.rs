//! `audit verify`, `tail`, `search`, `export`, `whence`: what an auditor asks.
//!
//! `verify` reads the files itself where it can: it needs no supervisor, and believes none.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use supervisor::{Report, VerifyOptions, verify_dir, verify_files, verify_launches};

use crate::cli::{AuditFilter, AuditSearch, AuditTail, AuditVerify, AuditWhence, Common};
use crate::client::{Client, with_query};
use crate::failure::{Exit, Failure};
use crate::farm::default_data;
use crate::out::{self, Target};

pub(crate) async fn verify(options: &AuditVerify) -> Result<(), Failure> {
    let how = VerifyOptions {
        anchors: options.anchor.clone(),
        first_key: options.key.as_ref().map(|k| k.trim().to_lowercase()),
        since: options.since.as_deref().map(|t| since(t, Timestamp::now())).transpose()?.map(Timestamp::as_microsecond),
        ..VerifyOptions::default()
    };
    let report = if options.files.is_empty() {
        of_farm(options, &how).await?
    } else {
        read(verify_files(&options.files, &how))?
    };
    let found = report["findings"].as_array().map_or(0, Vec::len);
    if options.common.json {
        out::json(&report);
    } else {
        present(&report);
    }
    if found == 0 { Ok(()) } else { Err(Failure::Reported(Exit::Failed as u8)) }
}

fn read(report: std::io::Result<Report>) -> Result<Value, Failure> {
    let report = report.map_err(|e| Failure::system("verify the audit", e))?;
    serde_json::to_value(report).map_err(|e| Failure::Answer(e.to_string()))
}

/// From its files, or by asking the supervisor for whom those are closed.
async fn of_farm(options: &AuditVerify, how: &VerifyOptions) -> Result<Value, Failure> {
    let data = data_of(options)?;
    let audit = data.join("supervisor/audit");
    match std::fs::read_dir(&audit) {
        Ok(_) => {
            let mut report = verify_dir(&audit, how);
            if options.workers
                && let Ok(report) = &mut report
            {
                let launches = verify_launches(&audit, &logs(&data, options), report);
                launches.map_err(|e| Failure::system("read the launchers' logs", e))?;
            }
            read(report)
        }
        Err(e) if reads_files(options, how) && options.common.data.is_none() && e.kind() == ErrorKind::NotFound => {
            Err(Failure::usage(format!(
                "there is no farm in {}: to hold an audit against anchors, a key, a time or the launchers' logs its files \
                 are read; name the farm's folder by --data DIR",
                data.display()
            )))
        }
        Err(e) if reads_files(options, how) => Err(Failure::file("read the audit in", audit, e)),
        Err(_) => Client::locate(options.common.data.as_deref())?.get("/api/v1/audit/verify").await,
    }
}

/// What the supervisor can't be asked for.
fn reads_files(options: &AuditVerify, how: &VerifyOptions) -> bool {
    options.workers || !how.anchors.is_empty() || how.first_key.is_some() || how.since.is_some()
}

fn data_of(options: &AuditVerify) -> Result<PathBuf, Failure> {
    options.common.data.clone().map_or_else(default_data, Ok)
}

fn logs(data: &Path, options: &AuditVerify) -> Vec<PathBuf> {
    let own = data.join("launcher/log/launches");
    let own = Some(own).filter(|own| own.exists() || options.launch_log.is_empty());
    own.into_iter().chain(options.launch_log.iter().cloned()).collect()
}

fn present(report: &Value) {
    for finding in report["findings"].as_array().into_iter().flatten() {
        let file = finding["file"].as_str().unwrap_or("?");
        let line = finding["line"].as_u64().filter(|n| *n > 0).map(|n| format!(":{n}")).unwrap_or_default();
        let record = finding["seq"].as_u64().map(|n| format!("record {n}: ")).unwrap_or_default();
        let what = finding["what"].as_str().unwrap_or("?");
        out::say(out::plain(&format!("{file}{line}: {record}{what}")));
    }
    for note in report["notes"].as_array().into_iter().flatten() {
        out::note(format!("note: {}", out::plain(note.as_str().unwrap_or("?"))));
    }
    let count = |key: &str| report[key].as_u64().unwrap_or(0);
    let found = report["findings"].as_array().map_or(0, Vec::len);
    out::say(format!(
        "{}: {} records, {} in another's name, {} checkpoints, {} records since the last one",
        if found == 0 { "the audit holds".to_owned() } else { format!("{found} findings") },
        count("records"),
        count("proxied"),
        count("checkpoints"),
        count("unsigned")
    ));
    if let Some(key) = report["first_key"].as_str() {
        out::say(format!("chain {}, first key {key}", report["chain"].as_str().unwrap_or("?")));
    }
}

pub(crate) async fn tail(options: &AuditTail) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let last = vec![("last", Some(options.lines.to_string()))];
    let shown = print(&client, &query(&options.filter, last), options.common.json).await?;
    if options.follow {
        let after = vec![("follow", Some("true".to_owned())), ("after", shown.or(Some(0)).map(|n| n.to_string()))];
        print(&client, &query(&options.filter, after), options.common.json).await?;
    }
    Ok(())
}

pub(crate) async fn search(options: &AuditSearch) -> Result<(), Failure> {
    give(options, options.common.json).await
}

pub(crate) async fn export(options: &AuditSearch) -> Result<(), Failure> {
    give(options, true).await
}

async fn give(options: &AuditSearch, json: bool) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let now = Timestamp::now();
    let time = |t: &Option<String>| t.as_deref().map(|t| since(t, now)).transpose();
    let times = vec![
        ("since", time(&options.since)?.map(|t| t.to_string())),
        ("until", time(&options.until)?.map(|t| t.to_string())),
    ];
    print(&client, &query(&options.filter, times), json).await.map(|_| ())
}

fn query(filter: &AuditFilter, mut parts: Vec<(&'static str, Option<String>)>) -> String {
    parts.extend([
        ("actor", filter.actor.clone()),
        ("as", filter.user.clone()),
        ("act", filter.act.clone()),
        ("outcome", filter.outcome.clone()),
        ("job", filter.job.map(|j| j.to_string())),
        ("proxied", filter.proxied.then(|| "true".to_owned())),
    ]);
    with_query("/api/v1/audit", &parts)
}

/// Prints records as they come; returns the number of the last one.
async fn print(client: &Client, path: &str, json: bool) -> Result<Option<u64>, Failure> {
    let mut body = client.stream(path).await?.into_body();
    let (mut rest, mut last) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Failure::Broken(e.to_string()))?;
        rest.extend_from_slice(frame.data_ref().map_or(&[], |d| d));
        let Some(end) = rest.iter().rposition(|b| *b == b'\n') else { continue };
        let lines: Vec<u8> = rest.drain(..=end).collect();
        if json {
            out::raw(&lines);
        }
        for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let record: Value = serde_json::from_slice(line).map_err(|e| Failure::Answer(e.to_string()))?;
            last = record["seq"].as_u64().or(last);
            if !json {
                out::say(sentence(&record));
            }
        }
    }
    Ok(last)
}

/// A record in one line: number, time, who, what, what came of it, and the rest.
fn sentence(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let who = match (record["login_user"].as_str(), record["user"].as_str()) {
        (Some(login), Some(user)) => out::who(login, user),
        (Some(login), None) => login.to_owned(),
        _ => text("channel"),
    };
    let mut rest = Vec::new();
    rest.extend(record["job"].as_u64().map(|job| format!("job {job}")));
    rest.extend(record["object"].as_str().map(str::to_owned));
    rest.extend(record["run_as"].as_str().map(|account| format!("runs as {account}")));
    rest.extend(record["grant"].as_u64().map(|grant| format!("grant {grant}")));
    let told = ["name", "reason", "rule", "why", "session", "end", "op", "table", "row", "count", "of", "asked"];
    for key in told {
        let value = &record["details"][key];
        rest.extend(value.as_str().map(|v| format!("{key}={v}")).or(value.as_u64().map(|v| format!("{key}={v}"))));
    }
    let time = out::time(record["time"].as_str());
    let what = format!("{} {} {:8}", record["seq"], time, text("outcome"));
    out::plain(&format!("{what} {:16} {:16} {}", who, text("act"), rest.join(", "))).trim_end().to_owned()
}

pub(crate) async fn whence(options: &AuditWhence) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let parts = match process(&options.what)? {
        Some(parts) => parts,
        None => file(Path::new(&options.what))?,
    };
    let answer: Value = client.get(&with_query("/api/v1/audit/whence", &parts)).await?;
    present_whence(&answer, &options.common);
    match answer["label"].as_str() {
        Some("none") => Err(Failure::Reported(Exit::NotFound as u8)),
        _ => Ok(()),
    }
}

type Parts = Vec<(&'static str, Option<String>)>;

fn file(path: &Path) -> Result<Parts, Failure> {
    // The entry itself, not what a link points to: whoever made it is asked for.
    let meta = std::fs::symlink_metadata(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Failure::usage(format!(
            "there is no file {}; a process is named by HOST:PID or HOST:PID@TIME, PID being a number",
            path.display()
        )),
        _ => Failure::file("look at", path, e),
    })?;
    let (parent, name) =
        (path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")), path.file_name());
    let parent = std::fs::canonicalize(parent).map_err(|e| Failure::file("look at", path, e))?;
    let whole = match name {
        Some(name) => parent.join(name),
        None => std::fs::canonicalize(path).map_err(|e| Failure::file("look at", path, e))?,
    };
    let changed = meta.mtime().saturating_mul(1_000_000).saturating_add(meta.mtime_nsec() / 1000);
    let time = Timestamp::from_microsecond(changed).map_err(|e| Failure::usage(e.to_string()))?;
    Ok(vec![
        ("path", Some(whole.display().to_string())),
        ("uid", Some(meta.uid().to_string())),
        ("time", Some(time.to_string())),
    ])
}

/// `HOST:PID[@TIME]`; of a process of this host also where it comes from.
fn process(what: &str) -> Result<Option<Parts>, Failure> {
    if what.contains('/') {
        return Ok(None);
    }
    let (place, time) = what.split_once('@').map_or((what, None), |(place, time)| (place, Some(time)));
    let Some((host, pid)) = place.rsplit_once(':') else { return Ok(None) };
    let Ok(pid) = pid.parse::<u32>() else { return Ok(None) };
    let time = time.map(|t| since(t, Timestamp::now())).transpose()?;
    let own = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_default();
    let is_here = host == "localhost" || host == own;
    let line = if is_here && time.is_none() { ancestors(pid) } else { vec![pid] };
    let uid = is_here.then(|| std::fs::metadata(format!("/proc/{pid}")).ok().map(|m| m.uid().to_string())).flatten();
    let pids = line.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    Ok(Some(vec![
        ("host", Some(host.to_owned())),
        ("pids", Some(pids)),
        ("uid", uid.filter(|_| time.is_none())),
        ("time", time.map(|t| t.to_string())),
    ]))
}

fn ancestors(pid: u32) -> Vec<u32> {
    let mut line = vec![pid];
    while let Some(parent) = parent(line[line.len() - 1]).filter(|p| *p > 1 && line.len() < 100) {
        line.push(parent);
    }
    line
}

fn parent(pid: u32) -> Option<u32> {
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{pid}/status")).ok()?.read_to_string(&mut text).ok()?;
    text.lines().find_map(|l| l.strip_prefix("PPid:")?.trim().parse().ok())
}

fn present_whence(answer: &Value, common: &Common) {
    if common.json {
        out::json(answer);
        return;
    }
    let label = answer["label"].as_str().unwrap_or("?");
    out::note(format!("{label}: {}", out::plain(answer["why"].as_str().unwrap_or("?"))));
    let rows: Vec<Vec<String>> = answer["found"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|b| {
            let text = |key: &str| b[key].as_str().unwrap_or("-").to_owned();
            let number = |key: &str| b[key].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
            vec![
                label.to_owned(),
                number("job"),
                number("session"),
                out::who(&text("login_user"), &text("user")),
                format!("{} (uid {})", text("run_as"), number("uid")),
                by_grant(b),
                text("worker"),
                out::time(b["started"].as_str()),
                out::time(b["ended"].as_str()),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let headers = ["LABEL", "JOB", "SESSION", "WHO", "RAN AS", "GRANT", "WORKER", "FROM", "UNTIL"];
        out::say(out::table_or_blocks(&headers, &rows, None, &Target::stdout()));
    }
    // Whoever reads may have gone.
    let _ = std::io::stdout().flush();
}

/// The grant's number and who gave it: `7 by root`.
fn by_grant(behind: &Value) -> String {
    let Some(grant) = behind["grant"].as_u64() else { return "-".to_owned() };
    let giver = behind["given_by"].as_str().unwrap_or("nobody known");
    let outside = if behind["grant_changed_outside"] == true { ", row changed outside" } else { "" };
    format!("{grant} by {giver}{outside}")
}

/// `2h`, `3d`, `90s`, `15m`, `today`, `yesterday` (UTC), or RFC 3339.
fn since(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let wrong = || Failure::Usage {
        text: format!("{text:?} is no time"),
        hint: Some("write 2h, 3d, today, yesterday (UTC) or 2026-11-22T10:00:00Z".into()),
    };
    let day = 86_400;
    let midnight = now.as_second().div_euclid(day) * day;
    let second = match text {
        "today" => midnight,
        "yesterday" => midnight - day,
        _ => {
            let unit = text
                .bytes()
                .last()
                .and_then(|b| [(b's', 1), (b'm', 60), (b'h', 3600), (b'd', day)].into_iter().find(|u| u.0 == b));
            match unit {
                Some((_, unit)) if text.len() > 1 && text[..text.len() - 1].bytes().all(|b| b.is_ascii_digit()) => {
                    let n: i64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
                    let ago = SignedDuration::from_secs(n.checked_mul(unit).ok_or_else(wrong)?);
                    return now.checked_sub(ago).map_err(|_| wrong());
                }
                _ => return text.parse().map_err(|_| wrong()),
            }
        }
    };
    Timestamp::from_second(second).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_shown_with_its_giver() {
        use serde_json::json;
        for (behind, shown) in [
            (json!({ "grant": null, "given_by": null, "grant_changed_outside": false }), "-"),
            (json!({ "grant": 7, "given_by": "root", "grant_changed_outside": false }), "7 by root"),
            (json!({ "grant": 7, "given_by": "eve", "grant_changed_outside": true }), "7 by eve, row changed outside"),
            (
                json!({ "grant": 7, "given_by": null, "grant_changed_outside": true }),
                "7 by nobody known, row changed outside",
            ),
        ] {
            assert_eq!(by_grant(&behind), shown);
        }
    }

    #[test]
    fn words_for_times() {
        let now: Timestamp = "2026-11-22T10:11:12Z".parse().expect("time");
        for (text, expected) in [
            ("today", "2026-11-22T00:00:00Z"),
            ("yesterday", "2026-11-21T00:00:00Z"),
            ("2h", "2026-11-22T08:11:12Z"),
            ("3d", "2026-11-19T10:11:12Z"),
            ("2026-11-01T01:02:03+01:00", "2026-11-01T00:02:03Z"),
        ] {
            assert_eq!(since(text, now).expect(text).to_string(), expected);
        }
        for wrong in ["", "h", "-2h", "tomorrow", "2026-11-01", "99999999999999999999d", "é"] {
            assert!(since(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_a_process_and_what_a_file() {
        let parts = |what: &str| process(what).expect("understood").map(|p| (p[0].1.clone(), p[1].1.clone()));
        assert_eq!(parts("node:7@2026-11-22T10:00:00Z"), Some((Some("node".into()), Some("7".into()))));
        for file in ["/a/b:7", "a.png", "node:x", "./node:7"] {
            assert_eq!(parts(file), None, "{file}");
        }
        assert!(process("node:7@noon").is_err());
    }

    #[test]
    fn a_record_is_one_harmless_line() {
        let record = serde_json::json!({"seq": 7, "time": "2026-11-22T10:00:00.123Z", "act": "submit", "outcome": "intent",
            "login_user": "ada", "user": "render", "job": 3, "details": {"name": "x\n\u{1b}[31m"}});
        let line = sentence(&record);
        assert_eq!(
            line,
            "7 2026-11-22 10:00:00 intent   ada as render    submit           job 3, name=x\\n\\u{1b}[31m"
        );
    }
}
