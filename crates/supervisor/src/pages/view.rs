//! From the words of the services to those of the crate `web`.

use crate::api::ApiError;
use crate::clock;
use crate::identity::micros;
use job::{Counts, TaskState};
use policy::{Effect, Rule};
use web::{Badge, Bar, Moment, Reason, RuleLine, Rules, State, Text};

pub(crate) fn text(text: &str) -> Text {
    Text::from(text)
}

/// A time in µs since 1970.
pub(crate) fn moment(at: i64) -> Moment {
    Moment::new(clock::rfc3339_seconds(at), at, clock::now())
}

/// A time as the views have it.
pub(crate) fn times(rfc3339: &str) -> Option<Moment> {
    micros(rfc3339).ok().map(moment)
}

pub(crate) fn reason(error: &ApiError) -> Reason {
    let text = |t: &Option<String>| t.as_ref().map(Text::from);
    Reason {
        text: Text::from(&error.message),
        rule: text(&error.rule),
        value: text(&error.value),
        hint: text(&error.hint),
    }
}

pub(crate) fn rules(rules: &[Rule]) -> Rules {
    let line = |rule: &Rule| RuleLine {
        effect: match rule.effect {
            Effect::Selects => "selects",
            Effect::Allows => "allows",
            Effect::Refuses => "refuses",
            Effect::Waits => "waits",
        },
        rule: Text::from(&rule.rule),
        text: Text::from(&rule.text),
        source: Text::from(&rule.source),
    };
    Rules { lines: rules.iter().map(line).collect() }
}

/// By what right a job carries its user's name, in a word.
pub(crate) fn badge(via: &str) -> Badge {
    match via {
        "own" => Badge { word: "own", means: "the submitter's own name" },
        "grant" => Badge { word: "acting", means: "a proxy user, whom the submitter may act as by a grant" },
        "impersonate" => Badge { word: "by role", means: "named by somebody with the role impersonate" },
        "admin" => Badge { word: "by admin", means: "named by an administrator" },
        "operator" => Badge { word: "by operator", means: "named by whoever runs the farm" },
        _ => Badge { word: "unknown", means: "a right that this release doesn't know" },
    }
}

/// Tasks by state: what needs somebody's eyes first.
pub(crate) fn counts(counts: &Counts) -> Bar {
    let order = [
        TaskState::Failed,
        TaskState::Complete,
        TaskState::Running,
        TaskState::Suspended,
        TaskState::Blocked,
        TaskState::Killed,
        TaskState::Pending,
    ];
    Bar { total: counts.total, parts: order.map(|s| (State::of(s.as_str()), counts.get(s))).to_vec() }
}
