//! Flight checks of a job's own: programs that run before and after its command, as the same account, on the same worker,
//! in the same process tree.
//!
//! Before: the first that fails stops the rest and the command. After: they run however the command ended, and the first
//! that fails stops the rest. Each failure fails the task. With frames, those of an instance stand around all that one
//! session runs.

use super::sub::quoted_path;
use super::words::Words;
use crate::failure::Failure;

#[derive(Debug, Default)]
pub(super) struct Flight {
    before: Vec<String>,
    after: Vec<String>,
    /// Of the process tree that takes many frames of a job.
    instance_before: Vec<String>,
    instance_after: Vec<String>,
}

impl Flight {
    pub(super) fn of(given: &Words, has_frames: bool) -> Result<Self, Failure> {
        let quoted = |names: &[&str]| {
            names.iter().flat_map(|n| given.list(n)).map(|p| quoted_path(&p)).collect::<Result<Vec<_>, _>>()
        };
        if has_frames {
            return Ok(Self {
                before: quoted(&["agenda_preflights"])?,
                after: quoted(&["agenda_postflights"])?,
                instance_before: quoted(&["preflights"])?,
                instance_after: quoted(&["postflights"])?,
            });
        }
        Ok(Self {
            before: quoted(&["preflights", "agenda_preflights"])?,
            // The inner ones come first.
            after: quoted(&["agenda_postflights", "postflights"])?,
            ..Self::default()
        })
    }

    /// Lines for a shell, around all that one process tree runs.
    pub(super) fn around(&self) -> [Option<String>; 2] {
        let line = |kind: &str, programs: &[String]| {
            let run = |program: &String| {
                format!(
                    "{program} || {{ c=$?; echo \"{kind} check \"{program}\" failed with exit code $c\" >&2; exit $c; }}\n"
                )
            };
            let lines: String = programs.iter().map(run).collect();
            (!programs.is_empty()).then(|| format!("export QBJOBID=\"$STEAD_JOB\" QBSUBID=\"$STEAD_SESSION\"\n{lines}"))
        };
        [line("preflight", &self.instance_before), line("postflight", &self.instance_after)]
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// A script of POSIX' shell around `"$@"`. The frame's tokens are filled in by the caller.
    pub(super) fn script(&self, chunk: Option<u64>, padding: u64) -> String {
        let mut script = String::from(HEAD);
        if let Some(frames) = chunk {
            let names = ["NUMBER", "START", "END", "STEP", "RANGE"];
            // The frames of a chunk have no single number. The names are in halves: they are no tokens themselves.
            for name in names.iter().skip(usize::from(frames > 1)) {
                script += &format!("f=QB_FRAME; export \"${{f}}_{name}\"='QB_FRAME_{name}'\n");
            }
            script += &format!("f=QB_FRAME; export \"${{f}}_PADDING\"='{padding}'\n");
        }
        for program in &self.before {
            script += &format!("before {program}\n");
        }
        script += COMMAND;
        for program in &self.after {
            script += &format!("after {program}\n");
        }
        script += "exit \"$code\"\n";
        script
    }
}

const HEAD: &str = r#"code=0 done=0
export QBJOBID="$STEAD_JOB" QBSUBID="$STEAD_TASK"
before() { [ "$code" -eq 0 ] || return 0; "$1" || { code=$?; echo "preflight check $1 failed with exit code $code" >&2; }; }
after() { [ "$done" -eq 0 ] || return 0; "$1" || { done=$?; echo "postflight check $1 failed with exit code $done" >&2; [ "$code" -ne 0 ] || code=$done; }; }
"#;

const COMMAND: &str = r#"if [ "$code" -eq 0 ]; then "$@"; code=$?; export QB_SYSTEM_EXIT_CODE="$code"; fi
if [ "$code" -eq 0 ]; then s=complete; else s=failed; fi
f=QB_FRAME; export "${f}_STATUS=$s" QB_INSTANCE_STATUS="$s"
"#;

pub(super) fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
