//! `users`: people, and the proxy users they act as.

use std::io::BufReader;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cli::{RoleArg, TypeArg, UserAdd, UserList, UserPassword, Users};
use crate::client::{Client, escape, with_query};
use crate::failure::Failure;
use crate::model;
use crate::out::{self, Target, plain};
use crate::prompt;
use crate::submission::pairs;

mod lists;

const PAGE: &str = "/api/v1/users";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    roles: Vec<String>,
    disabled: bool,
    note: Option<String>,
    environment: Option<Value>,
    working_root: Option<String>,
    workers: Option<String>,
    default_cpus_milli: Option<u64>,
    max_cpus_milli: Option<u64>,
    default_memory: Option<u64>,
    max_memory: Option<u64>,
    answers: Vec<String>,
    created_at: Option<String>,
    created_by: Option<String>,
    fault: Option<String>,
}

pub(crate) async fn users(options: &Users) -> Result<(), Failure> {
    let (common, name) = match options {
        Users::List(o) => return list(o).await,
        Users::Password(o) => return password(o).await,
        Users::MayAct(o) => return lists::list("may-act", o).await,
        Users::MayBeActedAs(o) => return lists::list("may-be-acted-as", o).await,
        Users::Add(o) => (&o.common, &o.name),
        Users::Show(o) | Users::Remove(o) => (&o.common, &o.name),
    };
    let client = Client::of(common)?;
    let path = format!("{PAGE}/{}", escape(name));
    let answer: Value = match options {
        Users::Add(o) => client.post(PAGE, &change(o)?).await?,
        Users::Remove(_) => client.delete(&path).await?,
        _ => client.get(&path).await?,
    };
    if common.json {
        out::json(&answer);
    } else if matches!(options, Users::Remove(_)) {
        out::say(format!("{} is removed, with all grants, tokens and sessions", plain(name)));
    } else {
        out::say(card(&model::read(&answer)?));
    }
    Ok(())
}

/// One's own by the old one; somebody's by an administrator.
async fn password(options: &UserPassword) -> Result<(), Failure> {
    let client = Client::locate(options.common.data.as_deref())?;
    let account = |name: &str| format!("/api/v1/accounts/{}", escape(name));
    let mut lines = BufReader::new(std::io::stdin());
    let mut from_stdin = || prompt::next_line(&mut lines);
    let answer: Value = match &options.name {
        Some(name) if options.remove => client.delete(&account(name)).await?,
        Some(name) => {
            let new = match options.password_stdin {
                true => from_stdin()?,
                false => prompt::new_password(&format!("new password of {}: ", plain(name)))?,
            };
            client.put(&account(name), &json!({ "password": new })).await?
        }
        None => {
            let (old, new) = match options.password_stdin {
                true => (from_stdin()?, from_stdin()?),
                false => (prompt::password("your password now: ")?, prompt::new_password("your new password: ")?),
            };
            client.put("/api/v1/password", &json!({ "old": old, "new": new })).await?
        }
    };
    if options.common.json {
        out::json(&answer);
        return Ok(());
    }
    let name = plain(answer["account"].as_str().or(options.name.as_deref()).unwrap_or_default());
    match options.remove {
        true => out::say(format!("{name} has no password here any more; all sessions and tokens have ended")),
        false => out::say(format!("the password of {name} is changed; all sessions and tokens have ended")),
    }
    Ok(())
}

/// Only what was said is sent: the rest stays.
fn change(options: &UserAdd) -> Result<Value, Failure> {
    let mut change = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            change.insert(name.into(), value);
        }
    };
    let text = |text: &Option<String>| text.clone().map(Value::String);
    set("name", Some(json!(options.name)));
    set("type", options.kind.map(|k| json!(if k == TypeArg::Proxy { "proxy" } else { "login" })));
    set("roles", roles(&options.role)?);
    let disabled = if options.disable { Some(true) } else { options.enable.then_some(false) };
    set("disabled", disabled.map(Value::Bool));
    set("environment", some(&options.env).map(|env| pairs(&env, "--env").map(|p| json!(p))).transpose()?);
    set("answers", some(&options.answers).map(|names| json!(names)));
    set("working_root", text(&options.working_root));
    set("workers", text(&options.requires));
    set("note", text(&options.note));
    let cores = |option: &str, text: &Option<String>| number(option, text, |t| job::parse_cores(t).map(u64::from));
    let size = |option: &str, text: &Option<String>| number(option, text, job::parse_size);
    set("default_cpus_milli", cores("--default-cpus", &options.default_cpus)?);
    set("max_cpus_milli", cores("--max-cpus", &options.max_cpus)?);
    set("default_memory", size("--default-mem", &options.default_mem)?);
    set("max_memory", size("--max-mem", &options.max_mem)?);
    Ok(Value::Object(change))
}

/// What an option was given: not at all is `None`, an empty text takes it away.
fn some(texts: &[String]) -> Option<Vec<String>> {
    (!texts.is_empty()).then(|| texts.iter().filter(|t| !t.is_empty()).cloned().collect())
}

fn roles(given: &[RoleArg]) -> Result<Option<Value>, Failure> {
    let word = |role: &RoleArg| match role {
        RoleArg::Admin => Some("admin"),
        RoleArg::Impersonate => Some("impersonate"),
        RoleArg::Auditor => Some("auditor"),
        RoleArg::None => None,
    };
    let words: Vec<_> = given.iter().filter_map(word).collect();
    match (given.len(), words.len()) {
        (0, _) => Ok(None),
        (all, some) if some == 0 || some == all => Ok(Some(json!(words))),
        _ => Err(Failure::usage("--role none stands alone")),
    }
}

fn number(
    option: &str,
    text: &Option<String>,
    parse: impl Fn(&str) -> Result<u64, job::UnitError>,
) -> Result<Option<Value>, Failure> {
    match text.as_deref() {
        None => Ok(None),
        Some("" | "0") => Ok(Some(json!(0))),
        Some(text) => parse(text).map(|n| Some(json!(n))).map_err(|e| Failure::usage(format!("{option}: {e}"))),
    }
}

async fn list(options: &UserList) -> Result<(), Failure> {
    let client = Client::of(&options.common)?;
    let parameters = [("limit", options.page.limit.map(|n| n.to_string())), ("after", options.page.after.clone())];
    let answer: Value = client.get(&with_query(PAGE, &parameters)).await?;
    if options.common.json {
        out::json(&answer);
        return Ok(());
    }
    let users: Vec<User> = model::read(&answer)?;
    if users.is_empty() {
        out::note("no users: everybody who is known to this host is an ordinary person here");
        return Ok(());
    }
    let rows: Vec<_> = users.iter().map(row).collect();
    out::say(out::listing(&["NAME", "TYPE", "ROLES", "STATE", "ANSWERED BY", "NOTE"], &rows, None, &Target::stdout()));
    Ok(())
}

fn row(user: &User) -> Vec<String> {
    vec![
        user.name.clone(),
        out::or_dash(user.kind.as_deref()),
        out::or_dash(Some(&user.roles.join(", "))),
        if user.disabled { "disabled".into() } else { "-".into() },
        out::or_dash(Some(&user.answers.join(", "))),
        user.fault.clone().or_else(|| user.note.clone()).unwrap_or_default(),
    ]
}

/// Only what is set.
fn card(user: &User) -> String {
    let cores = |milli: Option<u64>| milli.map(|m| format!("{}.{:03}", m / 1000, m % 1000)).map(without_zeros);
    let limits = |default: Option<String>, max: Option<String>| match (default, max) {
        (None, None) => None,
        (default, max) => Some(format!(
            "{} unless asked for, {} at most",
            default.unwrap_or_else(|| "no limit".into()),
            max.unwrap_or_else(|| "any number".into())
        )),
    };
    let words = |list: &[String]| (!list.is_empty()).then(|| list.join(", "));
    let environment = user.environment.as_ref().and_then(Value::as_object).filter(|e| !e.is_empty());
    let variable = |(name, value): (&String, &Value)| format!("{name}={}", value.as_str().unwrap_or("?"));
    let made = user.created_by.as_ref().map(|by| format!("by {by}, {}", out::time(user.created_at.as_deref())));
    let lines = [
        ("type", user.kind.clone()),
        ("roles", words(&user.roles)),
        ("state", user.disabled.then(|| "disabled".into())),
        ("answered by", words(&user.answers)),
        ("variables", environment.map(|e| e.iter().map(variable).collect::<Vec<_>>().join(" "))),
        ("works in", user.working_root.clone()),
        ("only on", user.workers.clone()),
        ("cores", limits(cores(user.default_cpus_milli), cores(user.max_cpus_milli))),
        ("memory", limits(user.default_memory.map(out::bytes), user.max_memory.map(out::bytes))),
        ("note", user.note.clone()),
        ("made", made),
        ("wrong", user.fault.clone()),
    ];
    let text = lines.into_iter().filter_map(|(name, value)| Some((name, value?)));
    text.fold(format!("{:13}{}", "name", plain(&user.name)), |card, (name, value)| {
        format!("{card}\n{name:13}{}", plain(&value))
    })
}

fn without_zeros(number: String) -> String {
    number.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn sent(line: &str) -> Result<Value, Failure> {
        match Cli::try_parse_from(line.split(' ')).expect("parsed").command {
            Command::Users(users) => match *users {
                Users::Add(add) => change(&add),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_was_said_is_changed() {
        assert_eq!(sent("stead users add n").expect("sent"), json!({"name": "n"}));
        assert_eq!(
            sent(
                "stead users add n --type proxy --disable --env A=1 --answers ada,bob --max-cpus 2.5 --default-mem 1G"
            )
            .expect("sent"),
            json!({"name": "n", "type": "proxy", "disabled": true, "environment": {"A": "1"}, "answers": ["ada", "bob"],
                "max_cpus_milli": 2500, "default_memory": 1 << 30})
        );
        assert_eq!(
            sent("stead users add n --role none --enable --max-mem 0 --answers ").expect("sent"),
            json!({"name": "n", "roles": [], "disabled": false, "max_memory": 0, "answers": []})
        );
        for wrong in ["--role none --role admin", "--env A", "--max-cpus many", "--default-mem lots"] {
            assert_eq!(sent(&format!("stead users add n {wrong}")).expect_err(wrong).exit(), 2);
        }
    }

    #[test]
    fn a_card_has_what_is_set() {
        let user = json!({"name": "render", "type": "proxy", "roles": [], "answers": ["ada"], "max_cpus_milli": 2500,
            "environment": {"A": "1"}, "note": "a\u{1b}b"});
        assert_eq!(
            card(&model::read(&user).expect("user")),
            "name         render\ntype         proxy\nanswered by  ada\nvariables    A=1\n\
             cores        no limit unless asked for, 2.5 at most\nnote         a\\u{1b}b"
        );
    }
}
