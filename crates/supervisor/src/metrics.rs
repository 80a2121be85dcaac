//! Figures for whoever watches the farm, in Prometheus' text format. Counting is one addition per request, batch or group,
//! never per task; what stands in the store is counted there when it is asked for. No name of a person, a job, a worker
//! or a file is in them. `docs/operating.md` has the table, and a test that both are the same.

use crate::audit;
use crate::caller::Caller;
use crate::error::ServiceError;
use crate::service::Service;
use policy::Principal;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use store::{Counted, Histogram};

/// Words told apart in one counter, and their length: they come from a closed list, but not all from ours.
const WORDS_MAX: usize = 64;
const WORD_MAX: usize = 64;
const OTHER: &str = "other";

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One number for each word.
#[derive(Debug, Default)]
pub(crate) struct Words(Mutex<BTreeMap<String, u64>>);

impl Words {
    pub(crate) fn count(&self, word: &str) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = words.get_mut(word) {
            *count += 1;
        } else {
            let word = if words.len() < WORDS_MAX && word.len() <= WORD_MAX { word } else { OTHER };
            *words.entry(word.to_owned()).or_default() += 1;
        }
    }

    fn get(&self) -> Vec<(String, f64)> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.iter().map(|(word, n)| (word.clone(), float(*n))).collect()
    }
}

/// What is counted as it happens. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) submit: Histogram,
    pub(crate) sessions: Counter,
    pub(crate) dispatched: Counter,
    pub(crate) reports: Counter,
    pub(crate) report_groups: Counter,
    pub(crate) ended: Counter,
    pub(crate) launch_failures: Words,
    pub(crate) badlogins: Counter,
    pub(crate) passwords: Words,
    pub(crate) refused: Words,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            submit: Histogram::new(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]),
            sessions: Counter::default(),
            dispatched: Counter::default(),
            reports: Counter::default(),
            report_groups: Counter::default(),
            ended: Counter::default(),
            launch_failures: Words::default(),
            badlogins: Counter::default(),
            passwords: Words::default(),
            refused: Words::default(),
        }
    }
}

impl std::ops::Deref for Metrics {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The page that is being written.
#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "gauge", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "counter", help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn words(&mut self, name: &str, kind: &str, help: &str, label: &str, words: &[(String, f64)]) {
        self.head(name, kind, help);
        for (word, value) in words {
            let _ = writeln!(self.0, "{name}{{{label}=\"{}\"}} {value}", escaped(word));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, Counted { buckets, sum, count }: &Counted) {
        self.head(name, "histogram", help);
        for (bound, n) in buckets {
            let _ = writeln!(self.0, "{name}_bucket{{le=\"{bound}\"}} {n}");
        }
        let _ = writeln!(self.0, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

/// As the format wants it in quotes.
fn escaped(word: &str) -> String {
    word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Service {
    /// All figures, as text: for administrators as themselves, also by a token that is good for nothing else.
    pub(crate) async fn figures(&self, caller: &Caller) -> Result<String, ServiceError> {
        caller.needs(caller.principal.scopes.metrics, "metrics")?;
        if caller.acting.is_some() || caller.is_bound() || !self.is_administrator(&caller.principal).await? {
            return Err(ServiceError::AdminOnly("see the farm's figures"));
        }
        let mut page = Page::default();
        self.work(&mut page).await?;
        self.workers_by_state(&mut page).await?;
        self.requests(&mut page);
        self.storage(&mut page);
        of_audit(&mut page, self.audit.state());
        process(&mut page);
        Ok(page.0)
    }

    /// By their row: the credential carries no role when it is for figures alone.
    async fn is_administrator(&self, principal: &Principal) -> Result<bool, ServiceError> {
        let people = self.identity.people(principal.login_user.as_str(), None).await?;
        let mut whole = principal.clone();
        whole.scopes.manage = true;
        Ok(policy::admit(&whole, &people).map_err(ServiceError::Refused)?.admin)
    }

    async fn work(&self, page: &mut Page) -> Result<(), ServiceError> {
        let states = self.store.by_state().await?;
        let jobs: Vec<_> = states.jobs.iter().map(|(state, n)| (state.clone(), float(*n))).collect();
        page.words("stead_jobs", "gauge", "Jobs that are kept, by state.", "state", &jobs);
        let tasks: Vec<_> = states.tasks.iter().map(|(state, n)| ((*state).to_owned(), float(*n))).collect();
        page.words("stead_tasks", "gauge", "Tasks of jobs that are kept, by state.", "state", &tasks);
        let ready = self.store.ready(1000, crate::clock::now()).await?;
        page.gauge(
            "stead_ready_steps",
            "Steps with tasks that could start now (1000 at most).",
            float(ready.len() as u64),
        );
        let tasks = ready.iter().map(|r| r.count).sum();
        page.gauge("stead_ready_tasks", "Tasks of those steps: the depth of the queue.", float(tasks));
        let live = self.dispatcher.live_sessions() as u64;
        page.gauge("stead_sessions", "Sessions that are alive.", float(live));
        let m = &self.metrics;
        let counters = [
            ("stead_sessions_opened_total", "Sessions that were opened.", &m.sessions),
            ("stead_tasks_dispatched_total", "Tasks that were given to sessions.", &m.dispatched),
            ("stead_tasks_ended_total", "Ends of tasks that sessions reported.", &m.ended),
            ("stead_reports_total", "Reports of sessions that were stored.", &m.reports),
            ("stead_report_groups_total", "Groups in which reports came.", &m.report_groups),
            ("stead_badlogins_total", "Jobs whose account was refused.", &m.badlogins),
        ];
        for (name, help, counter) in counters {
            page.counter(name, help, float(counter.get()));
        }
        let help = "Launches that a host refused or that failed there, by stage.";
        page.words("stead_launch_failures_total", "counter", help, "stage", &m.launch_failures.get());
        Ok(())
    }

    async fn workers_by_state(&self, page: &mut Page) -> Result<(), ServiceError> {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let (mut slots, mut used) = (0, 0);
        for worker in self.all_workers().await? {
            *counts.entry((worker.state, worker.mode)).or_default() += 1;
            slots += u64::from(worker.slots);
            used += worker.used as u64;
        }
        page.head("stead_workers", "gauge", "Workers that are known, by state and mode.");
        for ((state, mode), n) in counts {
            let _ = writeln!(page.0, "stead_workers{{state=\"{state}\",mode=\"{mode}\"}} {n}");
        }
        page.gauge("stead_slots", "Slots of workers that are known.", float(slots));
        page.gauge("stead_slots_used", "Slots in which a session lives.", float(used));
        Ok(())
    }

    fn requests(&self, page: &mut Page) {
        let m = &self.metrics;
        let help = "Time from a submission's body to its durable acknowledgement.";
        page.histogram("stead_submit_seconds", help, &m.submit.counted());
        let help = "Answers about passwords: ok, or the rule that refused.";
        page.words("stead_password_answers_total", "counter", help, "outcome", &m.passwords.get());
        let help = "Requests that were refused, by the rule that did.";
        page.words("stead_refused_requests_total", "counter", help, "rule", &m.refused.get());
    }

    fn storage(&self, page: &mut Page) {
        let stats = self.store.stats();
        let help = "Changes that were committed together.";
        page.histogram("stead_store_group_size", help, &stats.group.counted());
        let help = "Time of a commit of the store, mostly the disk's fsync.";
        page.histogram("stead_store_commit_seconds", help, &stats.commit.counted());
        let stand = self.room.stand();
        page.gauge("stead_disk_free_bytes", "Free on the file system of store and audit.", float(stand.free));
        page.gauge("stead_disk_floor_bytes", "With less free nothing is begun.", float(stand.floor));
        page.gauge("stead_disk_ballast_bytes", "Kept back for endings, as far as it is left.", float(stand.left));
        let is_short = f64::from(u8::from(stand.is_short));
        page.gauge("stead_disk_full", "1 while only endings and reports are taken.", is_short);
    }
}

fn of_audit(page: &mut Page, state: &audit::State) {
    page.gauge("stead_audit_records", "Number of the last record of the audit.", float(state.records()));
    let help = "Records of endings that wait for room on the disk.";
    page.gauge("stead_audit_waiting_records", help, float(state.waiting()));
    let times = [
        (
            "stead_audit_checkpoint_age_seconds",
            "Time since this supervisor last signed a checkpoint.",
            state.signed_at(),
        ),
        ("stead_audit_anchor_age_seconds", "Time since a checkpoint reached the anchor.", state.anchored_at()),
    ];
    for (name, help, at) in times {
        page.head(name, "gauge", help);
        if let Some(at) = at {
            let since = u64::try_from(crate::clock::now() - at).unwrap_or(0);
            let _ = writeln!(page.0, "{name} {}", float(since) / 1e6);
        }
    }
}

/// What the kernel says of this process.
fn process(page: &mut Page) {
    let cpu = getrusage_seconds();
    page.counter("process_cpu_seconds_total", "Processor time of the supervisor.", cpu);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let resident = kib.unwrap_or(0_u64).saturating_mul(1024);
    page.gauge("process_resident_memory_bytes", "Memory of the supervisor.", float(resident));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    page.gauge("process_open_fds", "File descriptors that are open.", float(open));
}

fn getrusage_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let seconds = |t: nix::sys::time::TimeVal| {
        let micros = t.tv_sec().saturating_mul(1_000_000).saturating_add(t.tv_usec());
        float(u64::try_from(micros).unwrap_or(0)) / 1e6
    };
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()))
}

#[expect(clippy::cast_precision_loss, reason = "the format has no other numbers")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_bounded_and_written_safely() {
        let words = Words::default();
        for n in 0..100 {
            words.count(&format!("word {n:03}"));
        }
        words.count("a\"b\\\n");
        assert_eq!(words.get().len(), WORDS_MAX + 1);
        assert!(words.get().contains(&(OTHER.to_owned(), 37.0)));
        let words = Words::default();
        words.count(&"w".repeat(WORD_MAX + 1));
        assert_eq!(words.get(), [(OTHER.to_owned(), 1.0)]);
        let mut page = Page::default();
        page.words("x", "counter", "Help.", "rule", &[("a\"b\\\n".to_owned(), 2.0)]);
        assert_eq!(page.0, "# HELP x Help.\n# TYPE x counter\nx{rule=\"a\\\"b\\\\\\n\"} 2\n");
    }
}
