//! The farm under measurement: as people start it, every safety on.

use crate::limits::Limits;
use anyhow::{Context as _, Result, ensure};
use e2e::{Farm, JobId};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

const WHO: &str = "ada";

pub(crate) struct BenchFarm {
    farm: Farm,
}

impl BenchFarm {
    pub(crate) fn start() -> Result<Self> {
        let farm = Farm::user_mode().start();
        Ok(Self { farm })
    }

    /// The static program, where jobs can reach it. Returns the path as jobs see it.
    pub(crate) fn static_true(&self, limits: &Limits) -> Result<PathBuf> {
        let inside = format!("{}/true_static", self.farm.shared());
        let outside = self.farm.path(&inside);
        if !outside.exists() {
            std::fs::copy(limits.static_true(), &outside).context("failed to hand the program to the farm")?;
        }
        Ok(PathBuf::from(inside))
    }

    /// Tasks per second of one array job, from its submission to its end, every task as its user.
    pub(crate) fn rate(&self, program: impl AsRef<Path>, tasks: u64) -> Result<f64> {
        let program = program.as_ref().to_str().context("the program's path")?.to_owned();
        let range = format!("1-{tasks}");
        let started = Instant::now();
        let job = self.farm.submit(WHO, &["--frames", &range, "--", &program]);
        self.farm.complete(job);
        let seconds = started.elapsed().as_secs_f64();
        self.check(job)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        Ok(tasks as f64 / seconds)
    }

    /// A rate counts only if the work was done by whom it should.
    fn check(&self, job: JobId) -> Result<()> {
        let tasks = self.farm.tasks(job);
        let sample = tasks.pointer("/0/attempts/0/run_as/uid").and_then(Value::as_u64);
        ensure!(sample == Some(1501), "a measured task did not run as {WHO}: {sample:?}");
        Ok(())
    }

    /// Milliseconds from before the client is started to the first instruction of the task, of an idle farm.
    pub(crate) fn submit_to_start(&self, times: usize) -> Result<Vec<f64>> {
        (0..times)
            .map(|_| {
                let asked = SystemTime::now();
                let job = self.farm.submit(WHO, &["--", "date", "+%s%N"]);
                self.farm.complete(job);
                let started: u64 = self.farm.log(job).trim().parse().context("failed to read the task's clock")?;
                let asked = u64::try_from(asked.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())?;
                #[expect(clippy::cast_precision_loss, reason = "a difference of moments")]
                Ok(started.saturating_sub(asked) as f64 / 1e6)
            })
            .collect()
    }

    /// Milliseconds to submit an array of a million tasks that nobody runs yet, client included.
    pub(crate) fn submit_million(&self) -> Result<f64> {
        let blocker = self.farm.submit(WHO, &["--", "sleep", "600"]);
        let after = blocker.0.to_string();
        let started = Instant::now();
        let job = self.farm.submit(WHO, &["--after", &after, "--frames", "1-1000000", "--", "/bin/true"]);
        let took = started.elapsed().as_secs_f64() * 1000.0;
        for job in [job, blocker] {
            let killed = self.farm.stead_as(WHO, &["kill", &job.0.to_string()]);
            ensure!(killed.code == Some(0), "failed to kill job {}", job.0);
        }
        Ok(took)
    }
}
