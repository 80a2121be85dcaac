//! What a proxy user carries, set once by an administrator and read anew at every dispatch: the row of `users` → what
//! its jobs get. A row that can't be understood lets nothing run: ignoring a limit would lift it.
//!
//! Says nothing of who may act as the proxy user: that is `policy`'s.

use crate::scheduler::Resources;
use job::{JobSpec, Requires};
use policy::{Kind, Refusal};
use std::collections::BTreeMap;
use store::{Raw, UserRow};

/// Bytes of all variables together: the commands need the rest of the room.
const ENVIRONMENT_MAX: usize = 128 << 10;
/// What says who one is comes from the account alone.
const IDENTITY: [&str; 6] = ["HOME", "USER", "LOGNAME", "SHELL", "PWD", "IFS"];

/// What jobs get that run as a user. Persons have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UserSettings {
    /// Beneath the job's own.
    environment: BTreeMap<String, String>,
    /// Where jobs work that don't say where.
    working_root: Option<String>,
    /// Besides what the job requires.
    pub(crate) workers: Requires,
    cores: Bounds,
    memory: Bounds,
}

/// What a job gets that asks for nothing, and the most it may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bounds {
    default: Option<u64>,
    max: Option<u64>,
}

impl Bounds {
    /// Asking for nothing in particular would have no bound at all: then the most is the bound.
    fn asks(self, asked: u64) -> Result<u64, u64> {
        match (asked, self.max) {
            (0, max) => Ok(self.default.or(max).unwrap_or(0)),
            (asked, Some(max)) if asked > max => Err(max),
            (asked, _) => Ok(asked),
        }
    }
}

impl UserSettings {
    /// What a job asks of a host that says it asks for so much.
    pub(crate) fn asks(&self, user: &str, asked: Resources) -> Result<Resources, Refusal> {
        let above = |rule: &str, what: &str, asked: String, max: String| Refusal {
            rule: rule.to_owned(),
            value: asked.clone(),
            text: format!("the job asks for {asked} {what}, and jobs of {user} get {max} at most"),
            hint: format!("ask for less, or have an administrator raise it: `stead users add {user}`"),
        };
        let cores = |milli: u64| crate::scheduler::cores(milli);
        let cpu_milli = self.cores.asks(asked.cpu_milli);
        let cpu_milli = cpu_milli.map_err(|max| above("max_cores", "cores", cores(asked.cpu_milli), cores(max)))?;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20).to_string();
        let memory = self.memory.asks(asked.memory);
        let memory =
            memory.map_err(|max| above("max_memory", "MiB of memory", mib(asked.memory), (max >> 20).to_string()))?;
        Ok(Resources { cpu_milli, memory })
    }

    /// The variables of a job: its own count for more. What begins like ours is not its to say.
    pub(crate) fn environment(&self, spec: &JobSpec) -> Vec<(Vec<u8>, Vec<u8>)> {
        let own = spec.env.iter().filter(|(name, _)| !name.starts_with("STEAD_"));
        let all: BTreeMap<&String, &String> = self.environment.iter().chain(own).collect();
        all.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    /// Where a job works.
    pub(crate) fn cwd(&self, spec: &JobSpec) -> Option<Vec<u8>> {
        spec.cwd.as_ref().or(self.working_root.as_ref()).map(|path| path.as_bytes().to_vec())
    }
}

/// Of the user whom jobs run as. Only proxy users carry anything.
pub(super) fn settings(row: Option<&Raw<UserRow>>) -> Result<UserSettings, Refusal> {
    match row {
        Some(Ok(row)) if row.kind == Kind::Proxy.as_str() => understood(row).map_err(|fault| bad(&row.name, &fault)),
        Some(Err(row)) => Err(bad(&row.key, &row.to_string())),
        None | Some(Ok(_)) => Ok(UserSettings::default()),
    }
}

fn bad(user: &str, fault: &str) -> Refusal {
    Refusal {
        rule: "user_settings".to_owned(),
        value: user.to_owned(),
        text: format!("what {user} carries can't be understood: {fault}"),
        hint: format!("an administrator puts it right: `stead users add {user}`, or the table users"),
    }
}

/// Also for those who write a row.
pub(crate) fn understood(row: &UserRow) -> Result<UserSettings, String> {
    Ok(UserSettings {
        environment: row.environment.as_deref().map_or(Ok(BTreeMap::new()), environment)?,
        working_root: row.working_root.as_deref().map(root).transpose()?,
        workers: Requires::parse(row.workers.as_deref().unwrap_or_default()).map_err(|e| format!("workers: {e}"))?,
        cores: bounds(("cpus_milli", row.default_cpus_milli, row.max_cpus_milli), |spec, n| {
            spec.cpus_milli = Some(u32::try_from(n).unwrap_or(u32::MAX));
        })?,
        memory: bounds(("memory", row.default_memory, row.max_memory), |spec, n| spec.memory = Some(n))?,
    })
}

/// The same checks that a job has to pass.
fn as_of_a_job(column: &str, set: impl FnOnce(&mut JobSpec)) -> Result<(), String> {
    let body = job::Body::Command(job::CommandBody { argv: vec!["true".to_owned()], ..job::CommandBody::default() });
    let mut spec = JobSpec::new(body);
    set(&mut spec);
    spec.check_options().map_err(|error| format!("{column}: {error}"))
}

fn environment(text: &str) -> Result<BTreeMap<String, String>, String> {
    let variables: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|_| "environment is no JSON object of text ({\"NAME\": \"value\"})".to_owned())?;
    if let Some(name) = variables.keys().find(|name| is_the_hosts(name)) {
        return Err(format!(
            "environment: {name} can't be set: it comes from the account, or changes what programs are"
        ));
    }
    let size: usize = variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if size > ENVIRONMENT_MAX {
        return Err(format!("environment has {size} bytes, at most {ENVIRONMENT_MAX} are possible"));
    }
    as_of_a_job("environment", |spec| spec.env = variables.clone())?;
    Ok(variables)
}

fn is_the_hosts(name: &str) -> bool {
    IDENTITY.contains(&name) || ["LD_", "STEAD_"].iter().any(|start| name.starts_with(start))
}

fn root(path: &str) -> Result<String, String> {
    as_of_a_job("working_root", |spec| spec.cwd = Some(path.to_owned()))?;
    Ok(path.to_owned())
}

fn bounds(
    (name, default, max): (&str, Option<u64>, Option<u64>),
    set: impl Fn(&mut JobSpec, u64),
) -> Result<Bounds, String> {
    for (word, value) in [("default", default), ("max", max)] {
        if let Some(value) = value {
            as_of_a_job(&format!("{word}_{name}"), |spec| set(spec, value))?;
        }
    }
    match (default, max) {
        (Some(default), Some(max)) if default > max => {
            Err(format!("default_{name} = {default} is above max_{name} = {max}"))
        }
        _ => Ok(Bounds { default, max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn row(kind: &str) -> UserRow {
        UserRow {
            name: "render".to_owned(),
            kind: kind.to_owned(),
            roles: String::new(),
            disabled: false,
            note: None,
            environment: None,
            working_root: None,
            workers: None,
            default_cpus_milli: None,
            max_cpus_milli: None,
            default_memory: None,
            max_memory: None,
            answers: None,
            created_at: None,
            created_by: None,
        }
    }

    #[test]
    fn what_cannot_be_understood_is_never_ignored() {
        for (change, part) in [
            ((|r| r.environment = Some("A=1".to_owned())) as fn(&mut UserRow), "no JSON object"),
            (|r| r.environment = Some(String::new()), "no JSON object"),
            (|r| r.environment = Some(r#"{"A": 1}"#.to_owned()), "no JSON object"),
            (|r| r.environment = Some(r#"["A"]"#.to_owned()), "no JSON object"),
            (|r| r.environment = Some(r#"{"": "x"}"#.to_owned()), "environment: \"\""),
            (|r| r.environment = Some(r#"{"A=B": "x"}"#.to_owned()), "A=B"),
            (|r| r.environment = Some(r#"{"A": "\u0000"}"#.to_owned()), "NUL"),
            (|r| r.environment = Some(r#"{"A": "@STEAD_FILES@"}"#.to_owned()), "STEAD_FILES"),
            (|r| r.environment = Some(r#"{"LD_PRELOAD": "/tmp/x.so"}"#.to_owned()), "LD_PRELOAD can't be set"),
            (|r| r.environment = Some(r#"{"HOME": "/root"}"#.to_owned()), "HOME can't be set"),
            (|r| r.environment = Some(r#"{"STEAD_JOB": "1"}"#.to_owned()), "STEAD_JOB can't be set"),
            (|r| r.environment = Some(format!(r#"{{"A": "{0}", "B": "{0}"}}"#, "x".repeat(70_000))), "bytes"),
            (|r| r.working_root = Some(String::new()), "working_root"),
            (|r| r.working_root = Some("shots".to_owned()), "working_root"),
            (|r| r.working_root = Some("/a\0b".to_owned()), "NUL"),
            (|r| r.workers = Some("a,,b".to_owned()), "workers"),
            (|r| r.default_cpus_milli = Some(0), "default_cpus_milli"),
            (|r| r.max_cpus_milli = Some(u64::MAX), "max_cpus_milli"),
            (|r| r.max_memory = Some(1), "max_memory"),
            (|r| (r.default_cpus_milli, r.max_cpus_milli) = (Some(2000), Some(1000)), "is above"),
        ] {
            let mut bad = row("proxy");
            change(&mut bad);
            let refusal = settings(Some(&Ok(bad.clone()))).expect_err(part);
            assert_eq!((refusal.rule.as_str(), refusal.value.as_str()), ("user_settings", "render"));
            assert!(refusal.text.contains(part), "{}", refusal.text);
            bad.kind = "login".to_owned();
            assert_eq!(settings(Some(&Ok(bad))), Ok(UserSettings::default()), "persons carry nothing");
        }
        assert_eq!(settings(None), Ok(UserSettings::default()));
    }

    #[test]
    fn a_bound_holds_for_jobs_that_ask_for_nothing_too() {
        let bounds = |default, max| Bounds { default, max };
        for (bounds, asked, gets) in [
            (bounds(None, None), 0, Ok(0)),
            (bounds(None, None), 7, Ok(7)),
            (bounds(Some(2), None), 0, Ok(2)),
            (bounds(Some(2), None), 7, Ok(7)),
            (bounds(None, Some(4)), 0, Ok(4)),
            (bounds(Some(2), Some(4)), 0, Ok(2)),
            (bounds(Some(2), Some(4)), 4, Ok(4)),
            (bounds(Some(2), Some(4)), 5, Err(4)),
        ] {
            assert_eq!(bounds.asks(asked), gets, "{bounds:?} {asked}");
        }
    }

    #[test]
    fn what_the_job_says_itself_counts_for_more() {
        let carried = UserRow {
            environment: Some(r#"{"A": "render", "B": "render"}"#.to_owned()),
            working_root: Some("/shots".to_owned()),
            ..row("proxy")
        };
        let settings = settings(Some(&Ok(carried))).expect("good");
        let body =
            job::Body::Command(job::CommandBody { argv: vec!["true".to_owned()], ..job::CommandBody::default() });
        let mut spec = JobSpec::new(body);
        assert_eq!(settings.cwd(&spec).as_deref(), Some(&b"/shots"[..]));
        spec.env = BTreeMap::from([("B".to_owned(), "job".to_owned())]);
        spec.cwd = Some("/own".to_owned());
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(settings.environment(&spec), [pair("A", "render"), pair("B", "job")]);
        assert_eq!(settings.cwd(&spec).as_deref(), Some(&b"/own"[..]));
    }
}
