//! `qbhosts`, `qblock`, `qbunlock`, `qbusers`, and what `qbadmin`, `qbconfigfile`, `qblogin` and `qbhash` are called here.

use serde_json::{Value, json};

use super::words::{Known, Means, Rest, Words, help, missing, no_effect, read, unsupported, works};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::model::{self, Worker};
use crate::out::{self, Target};

const NO_FIELD: &str = "workers are chosen by their names, --active, --down or --panic";

const CHOOSES: [Known; 9] = [
    works("active", None),
    works("down", None),
    works("panic", None),
    works("all", None),
    missing("cluster", Some("CLUSTER"), NO_FIELD),
    missing("group", Some("GROUP"), NO_FIELD),
    missing("resources", Some("EXPRESSION"), NO_FIELD),
    missing("flags", Some("FLAG"), NO_FIELD),
    works("help", None),
];

const SHOWS: [Known; 3] = [
    missing("xml", None, "--json prints JSON"),
    missing("delimit", Some("C"), "--json prints JSON"),
    no_effect("long", None, "everything that is known is shown"),
];

const LOCKS: [Known; 2] = [
    missing("range", Some("SLOTS"), "a worker is locked as a whole"),
    missing("purge", None, "what runs comes to its end; `stead block` and `stead kill` end jobs"),
];

/// Qube!'s word: it is up, away, or can't.
fn state(worker: &Worker) -> &'static str {
    match worker.state.as_str() {
        "down" | "offline" => "down",
        "panic" => "panic",
        _ => "active",
    }
}

fn is_locked(worker: &Worker) -> bool {
    matches!(worker.state.as_str(), "locked" | "drained")
}

async fn chosen(given: &Words, client: &Client) -> Result<Vec<Worker>, Failure> {
    let answer: Value = client.get("/api/v1/workers").await?;
    let workers: Vec<Worker> = model::read(&answer)?;
    if let Some(name) = given.rest.iter().find(|n| !workers.iter().any(|w| w.name == **n)) {
        return Err(Failure::usage(format!("there is no worker {name}")));
    }
    let states: Vec<&str> = ["active", "down", "panic"].into_iter().filter(|s| given.has(s)).collect();
    let fits = |w: &Worker| {
        (given.rest.is_empty() || given.rest.contains(&w.name)) && (states.is_empty() || states.contains(&state(w)))
    };
    Ok(workers.into_iter().filter(fits).collect())
}

pub(super) async fn hosts(words: &[String]) -> Result<(), Failure> {
    let table = [&CHOOSES[..], &SHOWS[..]].concat();
    let given = read(&table, words, Rest::Mixed)?;
    if given.has("help") {
        out::say(help("qbhosts [OPTIONS] [HOST...]", &table));
        return Ok(());
    }
    given.tell();
    let client = super::client(&given)?;
    if given.has("json") {
        let answer: Value = client.get("/api/v1/workers").await?;
        out::json(&answer);
        return Ok(());
    }
    let workers = chosen(&given, &client).await?;
    if workers.is_empty() {
        out::note("no workers");
        return Ok(());
    }
    let rows: Vec<_> = workers.iter().map(row).collect();
    out::say(out::listing(&HEADERS, &rows, Some(1), &Target::stdout()));
    Ok(())
}

const HEADERS: [&str; 7] = ["NAME", "STATE", "LOCKED", "PROCESSORS", "WORKER MODE", "PROXY MODE", "REASON"];

fn row(worker: &Worker) -> Vec<String> {
    let (mode, proxy) = match (worker.mode.as_str(), &worker.proxy_account) {
        ("desktop", _) => ("desktop", "-".to_owned()),
        (mode, Some(account)) => ("service", format!("{mode} ({account})")),
        (mode, None) => ("service", mode.to_owned()),
    };
    vec![
        worker.name.clone(),
        state(worker).into(),
        if is_locked(worker) { "yes" } else { "-" }.into(),
        format!("{}/{}", worker.used, worker.slots),
        mode.into(),
        proxy,
        worker.reason.clone().unwrap_or_default(),
    ]
}

/// `qblock` and `qbunlock`.
pub(super) async fn lock(command: &str, words: &[String]) -> Result<(), Failure> {
    let table = [&CHOOSES[..], &LOCKS[..]].concat();
    let given = read(&table, words, Rest::Mixed)?;
    if given.has("help") {
        out::say(help(&format!("{command} [OPTIONS] HOST...: give it no more jobs, or again"), &table));
        return Ok(());
    }
    given.tell();
    if given.rest.is_empty() && !["all", "active", "down", "panic"].iter().any(|o| given.has(o)) {
        return Err(Failure::usage(format!("{command}: which workers? HOST..., or --all")));
    }
    let client = super::client(&given)?;
    let locks = command == "qblock";
    for worker in chosen(&given, &client).await? {
        let path = format!("/api/v1/workers/{}/drain", escape(&worker.name));
        let _: Value = client.post(&path, &json!({"drained": locks})).await?;
        out::say(format!("{}: {}", worker.name, if locks { "locked" } else { "unlocked" }));
    }
    Ok(())
}

const ONE_ACT: &str =
    "there are no permissions for single acts: everybody looks after their own jobs, an administrator after all";

const USERS: [Known; 35] = [
    works("list", None),
    works("add", None),
    works("delete", None),
    works("set", None),
    works("drop", None),
    works("admin", None),
    works("impersonate", None),
    works("auditor", None),
    missing("member", None, "groups are the directory's"),
    missing(
        "group",
        Some("GROUP"),
        "groups are the directory's, and grants may be given to them: stead grants add group:NAME",
    ),
    missing("sudo", None, "an administrator is one for all jobs"),
    missing("lock", None, "workers are locked by administrators (--admin)"),
    missing("all", None, ONE_ACT),
    missing("submitjob", None, ONE_ACT),
    missing("submitcallback", None, ONE_ACT),
    missing("submitglobalcallback", None, ONE_ACT),
    missing("kill", None, ONE_ACT),
    missing("remove", None, ONE_ACT),
    missing("modify", None, ONE_ACT),
    missing("preempt", None, ONE_ACT),
    missing("block", None, ONE_ACT),
    missing("interrupt", None, ONE_ACT),
    missing("unblock", None, ONE_ACT),
    missing("suspend", None, ONE_ACT),
    missing("resume", None, ONE_ACT),
    missing("bump", None, ONE_ACT),
    missing("migrate", None, ONE_ACT),
    missing("retry", None, ONE_ACT),
    missing("requeue", None, ONE_ACT),
    missing("shove", None, ONE_ACT),
    missing("fail", None, ONE_ACT),
    missing("retire", None, ONE_ACT),
    missing("complete", None, ONE_ACT),
    missing("reset", None, ONE_ACT),
    works("help", None),
];

/// What `qbusers` was asked for.
#[derive(Debug)]
pub(super) enum Users {
    /// A line for `stead`.
    List(Vec<String>),
    Change(Change),
    /// The help was printed.
    Told,
}

#[derive(Debug)]
pub(super) struct Change {
    given: Words,
    mode: &'static str,
    roles: Vec<String>,
}

pub(super) fn users(words: &[String]) -> Result<Users, Failure> {
    let given = read(&USERS, words, Rest::Mixed)?;
    if given.has("help") {
        out::say(help("qbusers --list | --add|--delete|--set --admin|--impersonate USER... | --drop USER...", &USERS));
        return Ok(Users::Told);
    }
    given.tell();
    let modes: Vec<&str> = ["list", "add", "delete", "set", "drop"].into_iter().filter(|m| given.has(m)).collect();
    let mode = match modes.as_slice() {
        [] => "list",
        [one] => one,
        _ => return Err(Failure::usage("qbusers does one of --list, --add, --delete, --set and --drop")),
    };
    if mode == "list" {
        return Ok(Users::List([vec!["users".into(), "list".into()], given.asking()].concat()));
    }
    if given.rest.is_empty() {
        return Err(Failure::usage(format!("qbusers --{mode}: whom?")));
    }
    let roles: Vec<String> =
        ["admin", "impersonate", "auditor"].into_iter().filter(|r| given.has(r)).map(Into::into).collect();
    if roles.is_empty() && ["add", "delete"].contains(&mode) {
        return Err(Failure::usage(format!("qbusers --{mode}: which permission? --admin, --impersonate or --auditor")));
    }
    Ok(Users::Change(Change { given, mode, roles }))
}

impl Change {
    pub(super) async fn make(&self) -> Result<(), Failure> {
        let client = super::client(&self.given)?;
        for user in &self.given.rest {
            let path = format!("/api/v1/users/{}", escape(user));
            if self.mode == "drop" {
                let _: Value = client.delete(&path).await?;
                out::say(format!("{user}: dropped"));
                continue;
            }
            let before = match client.get::<Value>(&path).await {
                Ok(answer) => named(&answer["roles"]),
                Err(Failure::Api { status: 404, .. }) => Vec::new(),
                Err(other) => return Err(other),
            };
            let after = changed(self.mode, before, &self.roles);
            let answer: Value = client.post("/api/v1/users", &json!({"name": user, "roles": after})).await?;
            out::say(format!("{user}: {}", out::or_dash(Some(&named(&answer["roles"]).join(", ")))));
        }
        Ok(())
    }
}

fn named(roles: &Value) -> Vec<String> {
    roles.as_array().into_iter().flatten().filter_map(|r| r.as_str().map(Into::into)).collect()
}

fn changed(mode: &str, before: Vec<String>, roles: &[String]) -> Vec<String> {
    match mode {
        "add" => {
            let more = roles.iter().filter(|r| !before.contains(r)).cloned().collect::<Vec<_>>();
            [before, more].concat()
        }
        "delete" => before.into_iter().filter(|r| !roles.contains(r)).collect(),
        _ => roles.to_vec(),
    }
}

// --- other names of Stead's own commands

/// What `--help` of one of those that only translate prints.
pub(super) fn other_help(command: &str, words: &[String]) -> Option<String> {
    if !words.iter().any(|word| matches!(word.as_str(), "--help" | "-help")) {
        return None;
    }
    let (usage, table): (&str, &[Known]) = match command {
        "qbadmin" => ("qbadmin worker|supervisor --reconfigure|--reread|--configuration", &ADMIN),
        "qbconfigfile" => ("qbconfigfile FILE...: without templates and macros, and what is wrong", &CONFIG_FILE),
        "qblogin" => ("qblogin [OPTIONS] [USER]: asks for the password twice", &LOGIN),
        "qbhash" => ("qbhash ACCOUNT: its password's sealed form, for proxy_password", &HASH),
        _ => return None,
    };
    Some(help(usage, table))
}

/// `qbadmin`, `qbconfigfile`, `qblogin` and `qbhash`, as `stead` is told it.
pub(super) fn other_name(command: &str, words: &[String]) -> Result<Vec<String>, Failure> {
    match command {
        "qbadmin" => admin(words),
        "qbconfigfile" => config_file(words),
        "qblogin" => login(words),
        "qbhash" => hash(words),
        other => Err(super::unknown(other)),
    }
}

const ADMIN: [Known; 15] = [
    works("reconfigure", None),
    works("reread", None),
    works("configuration", None),
    missing("assignments", Some("HOST"), "stead jobs --state running and stead worker list say what runs"),
    missing("remove", Some("HOST"), "a worker that doesn't dial any more is down; nothing needs to be removed"),
    missing("unremove", Some("HOST"), "a worker is known when it dials"),
    missing("refresh", Some("HOST"), "a worker is heard of every few seconds"),
    missing("reboot", Some("HOST"), "the host's own administrators look after it"),
    missing("shutdown", Some("HOST"), "the host's own administrators look after it: systemctl stop stead-worker"),
    missing("clearbanned", None, "who may dial as a worker is --worker-user's to say"),
    missing("set", Some("FLAG"), "the supervisor takes submissions while it runs"),
    missing("unset", Some("FLAG"), "the supervisor takes submissions while it runs"),
    missing("list", None, "stead jobs lists jobs"),
    missing("find", Some("HOST"), "stead worker list lists workers"),
    works("help", None),
];

fn admin(words: &[String]) -> Result<Vec<String>, Failure> {
    let given = read(&ADMIN, words, Rest::Mixed)?;
    let of = |line: &[&str]| Ok([line.iter().map(|w| (*w).to_owned()).collect(), given.asking()].concat());
    let (what, names) = given.rest.split_first().map_or(("", &[][..]), |(w, n)| (w.as_str(), n));
    let worker = !what.is_empty() && "worker".starts_with(what);
    let supervisor = !what.is_empty() && "supervisor".starts_with(what);
    match (worker, supervisor, names) {
        // All workers at once, whichever was named.
        (true, _, _) if given.has("reconfigure") => of(&["config", "reload"]),
        (_, true, []) if given.has("reread") => of(&["config", "reload"]),
        (true, _, [host]) if given.has("configuration") => {
            Ok(["config", "show", "--worker", host].map(Into::into).to_vec())
        }
        (_, true, []) if given.has("configuration") => of(&["doctor"]),
        _ if !what.is_empty() && "local".starts_with(what) => {
            Err(unsupported("qbadmin local", "stead config show says what holds for a worker"))
        }
        _ => Err(Failure::usage("qbadmin worker --reconfigure, worker --configuration HOST, or supervisor --reread")),
    }
}

const CONFIG_FILE: [Known; 1] = [works("help", None)];

fn config_file(words: &[String]) -> Result<Vec<String>, Failure> {
    let given = read(&CONFIG_FILE, words, Rest::Mixed)?;
    if given.rest.is_empty() {
        return Err(Failure::usage("which file? qbconfigfile FILE"));
    }
    Ok([vec!["config".into(), "check".into(), "--expand".into()], given.rest].concat())
}

const NOT_AN_ARGUMENT: Means =
    Means::Never("everybody on the host can see the arguments of a program; it is asked for");

const LOGIN: [Known; 6] = [
    works("user", Some("USER")),
    works("domain", Some("DOMAIN")),
    Known { name: "password", value: Some("PASSWORD"), means: NOT_AN_ARGUMENT },
    works("check", None),
    works("display", None),
    works("help", None),
];

fn login(words: &[String]) -> Result<Vec<String>, Failure> {
    let given = read(&LOGIN, words, Rest::Mixed)?;
    let mut line: Vec<String> = vec!["password".into(), "set".into()];
    line.extend(given.get("data").map(|d| ["--data".into(), d.to_owned()]).into_iter().flatten());
    for name in ["check", "display"] {
        if given.has(name) {
            line.push(format!("--{name}"));
        }
    }
    if let Some(domain) = given.get("domain") {
        line.extend(["--domain".into(), domain.into()]);
    }
    match (given.get("user"), given.rest.as_slice()) {
        (None, []) => {}
        (Some(user), []) => line.push(user.into()),
        (None, [user]) => line.push(user.clone()),
        _ => return Err(Failure::usage("qblogin is for one user: qblogin [USER]")),
    }
    Ok(line)
}

const HASH: [Known; 3] = [
    Known { name: "password", value: Some("PASSWORD"), means: NOT_AN_ARGUMENT },
    works("user", Some("ACCOUNT")),
    works("help", None),
];

fn hash(words: &[String]) -> Result<Vec<String>, Failure> {
    let given = read(&HASH, words, Rest::Mixed)?;
    let account = given.get("user").or(given.rest.first().map(String::as_str)).ok_or_else(|| Failure::Usage {
        text: "qbhash needs the account: a sealed password is good for that account alone".into(),
        hint: Some("qbhash ACCOUNT, with the value of proxy_account".into()),
    })?;
    Ok(["password", "hash", account].map(Into::into).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        line.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn other_names_of_steads_commands() {
        for (qube, stead) in [
            ("qbadmin worker --reconfigure", "config reload"),
            ("qbadmin w -reconfigure lin-07", "config reload"),
            ("qbadmin s --reread", "config reload"),
            ("qbadmin worker --configuration lin-07", "config show --worker lin-07"),
            ("qbconfigfile /etc/qbwrk.conf", "config check --expand /etc/qbwrk.conf"),
            ("qblogin", "password set"),
            ("qblogin ada", "password set ada"),
            ("qblogin --display render", "password set --display render"),
            ("qblogin --user ada --domain STUDIO --check", "password set --check --domain STUDIO ada"),
            ("qbhash qubeproxy", "password hash qubeproxy"),
        ] {
            let words = split(qube);
            assert_eq!(other_name(&words[0], &words[1..]).expect(qube), split(stead), "{qube}");
        }
    }

    #[test]
    fn each_lists_its_options_and_what_is_not_there() {
        for (command, part) in [
            ("qbadmin", "--reboot HOST                not supported"),
            ("qbconfigfile", "qbconfigfile FILE"),
            ("qblogin", "--password PASSWORD          not supported: everybody"),
            ("qbhash", "--password PASSWORD          not supported: everybody"),
        ] {
            for word in ["--help", "-help"] {
                let text = other_help(command, &split(word)).expect(command);
                assert!(text.contains(part), "{command}: {text}");
            }
            assert_eq!(other_help(command, &split("help")), None);
        }
    }

    #[test]
    fn what_has_no_meaning_here_is_named() {
        for (qube, part) in [
            ("qbadmin worker --reboot lin-07", "--reboot isn't supported"),
            ("qbadmin local --configuration", "qbadmin local isn't supported"),
            ("qbadmin", "qbadmin worker --reconfigure"),
            ("qblogin --password x", "--password isn't supported: everybody on the host"),
            ("qbhash --password x", "--password isn't supported"),
            ("qbhash", "needs the account"),
            ("qblogin ada bob", "one user"),
            ("qbconfigfile", "which file"),
        ] {
            let words = split(qube);
            let failure = other_name(&words[0], &words[1..]).expect_err(qube);
            assert_eq!(failure.exit(), 2);
            assert!(failure.to_string().contains(part), "{qube}: {failure}");
        }
    }

    #[test]
    fn roles_are_added_taken_and_set() {
        let of = |mode: &str| changed(mode, split("admin auditor"), &split("impersonate admin")).join(" ");
        assert_eq!(of("add"), "admin auditor impersonate");
        assert_eq!(of("delete"), "auditor");
        assert_eq!(of("set"), "impersonate admin");
    }

    #[test]
    fn a_worker_is_one_line_in_qubes_words() {
        let worker = |mode: &str, state: &str, account: Option<&str>| Worker {
            name: "lin-07".into(),
            state: state.into(),
            mode: mode.into(),
            proxy_account: account.map(Into::into),
            slots: 8,
            used: 2,
            reason: None,
            ..Worker::default()
        };
        let of = |w: &Worker| row(w).join(" ");
        assert_eq!(of(&worker("proxy", "busy", Some("qubeproxy"))), "lin-07 active - 2/8 service proxy (qubeproxy) ");
        assert_eq!(of(&worker("user", "locked", None)), "lin-07 active yes 2/8 service user ");
        assert_eq!(of(&worker("desktop", "panic", None)), "lin-07 panic - 2/8 desktop - ");
        assert_eq!(row(&worker("user", "down", None)).len(), HEADERS.len());
    }
}
