//! The supervisor's answers as far as tables need them. `--json` prints the answers themselves, untouched.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) login_user: String,
    pub(crate) user: String,
    pub(crate) submitted_at: Option<String>,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) tasks: Counts,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) running: u64,
    pub(crate) complete: u64,
    pub(crate) failed: u64,
    pub(crate) killed: u64,
}

impl Job {
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state.as_str(), "complete" | "failed" | "killed" | "badlogin")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Task {
    pub(crate) step: Value,
    pub(crate) step_name: Option<String>,
    pub(crate) task: u64,
    pub(crate) frame: Option<i64>,
    pub(crate) params: BTreeMap<String, Value>,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    /// 0 to 100, and a line: what a running task says of itself.
    pub(crate) progress: Option<f64>,
    pub(crate) status: Option<String>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Task {
    /// Whether it makes this frame, alone or within a chunk.
    pub(crate) fn has_frame(&self, frame: i64) -> bool {
        let number = |name: &str| self.params.get(name).and_then(Value::as_str).and_then(|v| v.parse::<i64>().ok());
        let chunk = match (number("start"), number("end")) {
            (Some(start), Some(end)) => start.min(end)..=start.max(end),
            _ => return self.frame == Some(frame),
        };
        let step = number("step").unwrap_or(1).max(1);
        chunk.contains(&frame) && (frame - chunk.start()) % step == 0
    }

    /// What a person calls it.
    pub(crate) fn step_name(&self) -> String {
        self.step_name.clone().unwrap_or_else(|| self.step())
    }

    /// What the API understands.
    pub(crate) fn step(&self) -> String {
        match &self.step {
            Value::String(name) => name.clone(),
            Value::Null => "0".into(),
            other => other.to_string(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Attempt {
    pub(crate) state: String,
    pub(crate) worker: Option<String>,
    pub(crate) mode: Option<String>,
    pub(crate) login_user: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) run_as: Option<RunAs>,
    pub(crate) attested_by: Option<String>,
    pub(crate) proof: Option<Proof>,
    pub(crate) exit_code: Option<i64>,
    pub(crate) signal: Option<i64>,
    pub(crate) started_at: Option<String>,
    pub(crate) ended_at: Option<String>,
    pub(crate) reason: Option<String>,
}

/// Where a session's proof stands in the log of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Proof {
    pub(crate) host_key: String,
    pub(crate) log_sequence: u64,
}

impl Proof {
    /// As much of the host's key as people compare.
    pub(crate) fn key(&self) -> &str {
        self.host_key.get(..8).unwrap_or(&self.host_key)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RunAs {
    pub(crate) name: Option<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Vec<u32>>,
}

impl RunAs {
    pub(crate) fn short(&self) -> String {
        let name = self.name.as_deref().unwrap_or("?");
        self.uid.map_or_else(|| name.into(), |uid| format!("{name} ({uid})"))
    }

    /// `ada uid=1501 gid=1501 groups=1501,1600`
    pub(crate) fn long(&self) -> String {
        let mut text = self.name.clone().unwrap_or_else(|| "?".into());
        if let (Some(uid), Some(gid)) = (self.uid, self.gid) {
            text += &format!(" uid={uid} gid={gid}");
        }
        if let Some(groups) = &self.groups {
            text += &format!(" groups={}", groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
        }
        text
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) mode: String,
    pub(crate) proxy_account: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) slots: u64,
    pub(crate) used: u64,
    /// Of its host, over the last minute.
    pub(crate) load: Option<f64>,
    /// Who said what its settings are.
    pub(crate) settings: String,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FilesPage {
    pub(crate) entries: Vec<FileEntry>,
    pub(crate) more: bool,
    pub(crate) unreached: Vec<Unreached>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) size: u64,
    pub(crate) modified_at: String,
    pub(crate) mode: String,
    pub(crate) worker: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Unreached {
    pub(crate) worker: String,
    pub(crate) why: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Explanation {
    pub(crate) job: Option<u64>,
    pub(crate) login_user: Option<String>,
    pub(crate) user: Option<String>,
    /// How the user was found, before there is a job.
    pub(crate) rules: Vec<Rule>,
    /// Why nothing could be submitted at all.
    pub(crate) refused: Option<Refused>,
    pub(crate) workers: Vec<Verdict>,
    /// What really ran.
    pub(crate) sessions: Vec<Session>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    pub(crate) worker: String,
    pub(crate) mode: String,
    pub(crate) run_as: Option<RunAs>,
    pub(crate) verdict: String,
    pub(crate) refused: Option<Refused>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refused {
    pub(crate) rule: String,
    pub(crate) value: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) text: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Session {
    pub(crate) session: u64,
    pub(crate) purpose: String,
    pub(crate) worker: String,
    pub(crate) mode: String,
    pub(crate) state: String,
    pub(crate) account: String,
    pub(crate) run_as: Option<RunAs>,
    pub(crate) attested_by: Option<String>,
    pub(crate) proof: Option<Proof>,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Rule {
    pub(crate) rule: String,
    pub(crate) effect: String,
    pub(crate) text: String,
    pub(crate) source: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Me {
    pub(crate) login_user: String,
    pub(crate) uid: Option<u32>,
    pub(crate) roles: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) source: String,
    pub(crate) acting_as: Option<String>,
    pub(crate) problem: Option<Problem>,
    pub(crate) scopes: Vec<String>,
    pub(crate) expires_at: Option<String>,
}

/// Why somebody can't do anything now.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) text: String,
    pub(crate) hint: String,
}

/// A session or a token.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Credential {
    pub(crate) id: u64,
    pub(crate) name: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) client: Option<String>,
    pub(crate) created_at: Option<String>,
    pub(crate) last_used_at: Option<String>,
    pub(crate) expires_at: Option<String>,
    pub(crate) current: bool,
}

/// Reads the part of `value` that a table needs.
pub(crate) fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, crate::failure::Failure> {
    T::deserialize(value).map_err(|e| crate::failure::Failure::Answer(e.to_string()))
}
