//! The farm under measurement: as people start it, on a real disk, every safety on.

use crate::cpu::{Watch, used_us};
use crate::http::{Connection, body_of};
use crate::limits::Limits;
use crate::pretend::look;
use crate::statistics::median;
use anyhow::{Context as _, Result, ensure};
use e2e::{Account, Builder, Farm, Role, Stage};
use job::{Body, CommandBody, Frames, JobSpec, Requires, Space};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Who submits.
const ADA: u32 = 1501;
/// People of the run in which many submit.
const PEOPLE: u32 = 50;
const FIRST_PERSON: u32 = 2001;
const PROXY: u32 = 1503;
/// How long a measured run may take.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) struct BenchFarm {
    farm: Farm,
    /// The account that jobs run as here, when it isn't the one of who submits.
    proxy: Option<u32>,
    ada: Connection,
    root: Connection,
    /// Gone after the farm is.
    _disk: TempDir,
}

/// What a run cost the farm, per task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) supervisor_us: f64,
    pub(crate) worker_us: f64,
    pub(crate) session_us: f64,
    pub(crate) launcher_us: f64,
    /// The tasks themselves, from the moment they were made.
    pub(crate) task_us: f64,
}

impl Cost {
    pub(crate) fn all(self) -> f64 {
        self.supervisor_us + self.worker_us + self.session_us + self.launcher_us + self.task_us
    }
}

impl BenchFarm {
    /// Each job as its user.
    pub(crate) fn start(limits: &Limits) -> Result<Self> {
        Self::build(Farm::user_mode(), None, limits)
    }

    /// Each job as an account that several share: a session has namespaces of its own.
    pub(crate) fn start_isolated(limits: &Limits) -> Result<Self> {
        Self::build(Farm::proxy_mode("qubeproxy"), Some(PROXY), limits)
    }

    fn build(builder: Builder, proxy: Option<u32>, limits: &Limits) -> Result<Self> {
        let disk = tempfile::Builder::new().prefix("stead-bench").tempdir_in("/var/tmp")?;
        fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o755))?;
        let folder = disk.path().display();
        let mount = format!("mountpoint -q /mnt/data || mount --bind '{folder}' /mnt/data");
        let farm = builder.on(Stage::raise_with(&accounts())).after(&mount).start();
        let (ada, root) = (Connection::of(&farm, "ada")?, Connection::of(&farm, "root")?);
        for program in ["true_static", "now_static", "lines"] {
            let inside = farm.path(format!("{}/{program}", farm.shared()));
            fs::copy(limits.program(program), &inside).context("failed to hand a program to the farm")?;
            fs::set_permissions(&inside, fs::Permissions::from_mode(0o755))?;
        }
        // Jobs of all people read it.
        fs::set_permissions(farm.path(farm.shared()), fs::Permissions::from_mode(0o755))?;
        Ok(Self { farm, proxy, ada, root, _disk: disk })
    }

    /// A program that was handed over, as jobs see it.
    pub(crate) fn program(&self, name: &str) -> String {
        format!("{}/{name}", self.farm.shared())
    }

    /// Tasks per second of one array job, from its submission to its end, every task as its user.
    pub(crate) fn rate(&mut self, program: &str, tasks: u64) -> Result<f64> {
        let spec = array(program, tasks)?;
        let started = Instant::now();
        let job = self.ada.submit(&spec)?;
        self.ada.complete(job)?;
        let seconds = started.elapsed().as_secs_f64();
        self.check(job, self.proxy.unwrap_or(ADA), tasks)?;
        Ok(per(tasks, seconds))
    }

    /// A rate counts only if the work was done by whom it should: the accounts of some tasks, as read back.
    fn check(&mut self, job: u64, uid: u32, tasks: u64) -> Result<()> {
        for task in [0, tasks / 3, tasks - 1] {
            let attempt = self.attempt(job, task)?;
            let (ran_as, by) = (attempt.pointer("/run_as/uid").and_then(Value::as_u64), &attempt["attested_by"]);
            ensure!(ran_as == Some(uid.into()), "task {task} of job {job} did not run as {uid}: {attempt:#}");
            ensure!(by == "launcher", "nobody saw as whom task {task} of job {job} ran: {attempt:#}");
        }
        Ok(())
    }

    fn attempt(&mut self, job: u64, task: u64) -> Result<Value> {
        let tasks = self.root.get(&format!("/api/v1/jobs/{job}/tasks?limit=1{}", before(task)))?;
        let found = tasks.pointer("/0").filter(|t| t["task"] == task).with_context(|| format!("no task {task}"))?;
        found.pointer("/attempts/0").cloned().with_context(|| format!("task {task} has no attempt"))
    }

    /// Jobs of one task each per second, submitted by many people at once.
    pub(crate) fn single_task_jobs(&mut self, program: &str, jobs: u64) -> Result<f64> {
        let people = FIRST_PERSON..FIRST_PERSON + PEOPLE;
        let connections: Result<Vec<Connection>> =
            people.map(|uid| Connection::of(&self.farm, &format!("person{uid}"))).collect();
        let body = body_of(&JobSpec::command([program]));
        let each = jobs / u64::from(PEOPLE);
        let started = Instant::now();
        let submitting: Vec<_> = connections?
            .into_iter()
            .map(|mut connection| {
                let body = body.clone();
                std::thread::spawn(move || -> Result<u64> {
                    let mut last = 0;
                    for _ in 0..each {
                        last = connection.submit_body(&body)?;
                    }
                    Ok(last)
                })
            })
            .collect();
        let last: Result<Vec<u64>> = submitting.into_iter().map(|t| t.join().expect("no panic")).collect();
        let last = last?;
        while !self.is_idle()? {
            ensure!(started.elapsed() < PATIENCE, "jobs of one task did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let seconds = started.elapsed().as_secs_f64();
        for (person, job) in (FIRST_PERSON..).zip(last) {
            self.root.complete(job)?;
            self.check(job, person, 1)?;
        }
        Ok(per(each * u64::from(PEOPLE), seconds))
    }

    fn is_idle(&mut self) -> Result<bool> {
        let waiting = self.root.get("/api/v1/jobs?state=pending,running&limit=1")?;
        Ok(waiting.as_array().is_some_and(Vec::is_empty))
    }

    /// What the farm uses of the machine for a task.
    pub(crate) fn cost(&mut self, program: &str, tasks: u64) -> Result<Cost> {
        let tree = self.farm.processes();
        let (supervisor, worker, launcher) =
            (tree.of(Role::Supervisor), tree.of(Role::Worker), tree.of(Role::Launcher));
        let services = [supervisor, worker, launcher];
        let used = |pids: &Vec<i32>| pids.iter().filter_map(|pid| used_us(*pid)).sum::<f64>();
        let before = services.each_ref().map(used);
        let (mut sessions, mut shepherds) = (Watch::default(), Watch::default());
        let job = self.ada.submit(&array(program, tasks)?)?;
        let (mut pids, mut looks) = (Vec::new(), 0u32);
        while self.root.get(&format!("/api/v1/jobs/{job}"))?["ended_at"].is_null() {
            // All processes are looked through now and then only: that costs as much as some tasks.
            if pids.is_empty() || looks.is_multiple_of(16) {
                let tree = self.farm.processes();
                pids = tree.of(Role::Session);
                shepherds.look(&tree.of(Role::Shepherd));
            }
            looks += 1;
            sessions.look(&pids);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ada.complete(job)?;
        let after = services.each_ref().map(used);
        let each = |us: f64| us / count(tasks);
        let [supervisor_us, worker_us, launcher] = [0, 1, 2].map(|i| each(after[i] - before[i]));
        let none = Watch::default();
        Ok(Cost {
            supervisor_us,
            worker_us,
            session_us: each(sessions.since(&none)),
            launcher_us: launcher + each(shepherds.since(&none)),
            task_us: self.task_cpu_us(job, tasks)?,
        })
    }

    fn task_cpu_us(&mut self, job: u64, tasks: u64) -> Result<f64> {
        let some = self.root.get(&format!("/api/v1/jobs/{job}/tasks?limit=500{}", before(tasks / 2)))?;
        let some = some.as_array().context("no list of tasks")?;
        let cpu: Vec<f64> =
            some.iter().filter_map(|t| t.pointer("/attempts/0/cpu_s")?.as_f64()).map(|s| s * 1e6).collect();
        Ok(cpu.iter().sum::<f64>() / count(cpu.len() as u64))
    }

    /// Milliseconds from before the submission to the first instruction of the task, of an idle farm: by an open
    /// connection.
    pub(crate) fn submit_to_start(&mut self, times: usize) -> Result<Vec<f64>> {
        let spec = JobSpec::command([self.program("now_static")]);
        let body = body_of(&spec);
        (0..times)
            .map(|_| {
                self.settle()?;
                let asked = now_ns()?;
                let job = self.ada.submit_body(&body)?;
                self.since(asked, job)
            })
            .collect()
    }

    /// The same by the command-line client, its own start included.
    pub(crate) fn submit_to_start_cli(&mut self, times: usize) -> Result<Vec<f64>> {
        let program = self.program("now_static");
        (0..times)
            .map(|_| {
                self.settle()?;
                // Entering the farm's namespaces is the bench's own affair: a shell there notes when it starts the client.
                let script = format!("date +%s%N; exec stead submit --json -- {program}");
                let answer = self.farm.run_as("ada", "sh", &["-c", &script]).ok().out();
                let (asked, rest) = answer.split_once('\n').context("no clock")?;
                let answer: Value = serde_json::from_str(rest)?;
                self.since(asked.parse()?, answer["job"].as_u64().context("no job")?)
            })
            .collect()
    }

    fn since(&mut self, asked: u64, job: u64) -> Result<f64> {
        self.ada.complete(job)?;
        let said = self.ada.text(&format!("/api/v1/jobs/{job}/logs"))?;
        let started = u64::from_str_radix(said.trim(), 16).context("failed to read the task's clock")?;
        #[expect(clippy::cast_precision_loss, reason = "a difference of moments")]
        Ok(started.saturating_sub(asked) as f64 / 1e6)
    }

    /// Until no session is left from before.
    fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.root.get("/api/v1/farm")?["sessions_live"] != 0 {
            ensure!(Instant::now() < deadline, "sessions did not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(15));
        Ok(())
    }

    /// A million tasks of a low priority that are ready, and for which no worker here is good enough.
    pub(crate) fn queue_million(&mut self) -> Result<u64> {
        let requires = Requires::parse("label-that-no-worker-has")?;
        self.ada.submit(&JobSpec { priority: -100, requires, ..array("/bin/true", 1_000_000)? })
    }

    pub(crate) fn kill(&mut self, job: u64) -> Result<()> {
        self.ada.kill(job)?;
        self.settle()
    }

    /// Bytes per second from a task to the supervisor's store; and the job that wrote them.
    pub(crate) fn log_rate(&mut self, write_size: u32, mib: u64) -> Result<(f64, u64)> {
        self.settle()?;
        let writes = (mib << 20) / u64::from(write_size);
        let total = writes * u64::from(write_size);
        let (size, writes) = (write_size.to_string(), writes.to_string());
        let started = Instant::now();
        let job = self.ada.submit(&JobSpec::command([self.program("lines"), size, writes]))?;
        self.ada.complete(job)?;
        let kept = self.farm.path(format!("{}/supervisor/logs/{job}", self.farm.data()));
        while folder_size(&kept)? < total {
            ensure!(started.elapsed() < PATIENCE, "not all output arrived");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((per(total, started.elapsed().as_secs_f64()), job))
    }

    /// Milliseconds until the page of a job's log is there, and until a search in it is.
    pub(crate) fn log_page(&mut self, job: u64) -> Result<(f64, f64)> {
        let page = look(&mut self.ada, &format!("/jobs/{job}/log"))?;
        Ok((page, look(&mut self.ada, &format!("/jobs/{job}/log?q=nowhere"))?))
    }

    /// An array job while the supervisor is killed once: every task must be complete all the same.
    pub(crate) fn rate_with_a_killed_supervisor(&mut self, program: &str, tasks: u64) -> Result<f64> {
        let started = Instant::now();
        let job = self.ada.submit(&array(program, tasks)?)?;
        while self.root.get(&format!("/api/v1/jobs/{job}"))?["tasks"]["complete"].as_u64() < Some(tasks / 3) {
            ensure!(started.elapsed() < PATIENCE, "a third of the tasks did not complete");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.farm.kill9_all(&[Role::Supervisor]);
        self.farm.heal();
        self.reconnect()?;
        self.ada.complete(job)?;
        let seconds = started.elapsed().as_secs_f64();
        let done = self.root.get(&format!("/api/v1/jobs/{job}"))?;
        ensure!(done["tasks"]["complete"] == tasks, "tasks were lost with the supervisor: {done}");
        self.check(job, self.proxy.unwrap_or(ADA), tasks)?;
        Ok(per(tasks, seconds))
    }

    fn reconnect(&mut self) -> Result<()> {
        (self.ada, self.root) = (Connection::of(&self.farm, "ada")?, Connection::of(&self.farm, "root")?);
        Ok(())
    }
}

/// The accounts of every stage, and many people.
fn accounts() -> Vec<Account> {
    let people = (FIRST_PERSON..FIRST_PERSON + PEOPLE).map(|uid| {
        let name = format!("person{uid}");
        let home = format!("/home/{name}");
        Account { name, uid, gid: uid, home, shell: "/bin/sh".to_owned(), groups: vec!["film".to_owned()] }
    });
    e2e::accounts().into_iter().chain(people).collect()
}

/// A command as so many tasks.
pub(crate) fn array(program: &str, tasks: u64) -> Result<JobSpec> {
    let space = Space::Frames(Frames::parse(&format!("1-{tasks}"), 1)?);
    Ok(JobSpec::new(Body::Command(CommandBody { argv: vec![program.to_owned()], space, ..CommandBody::default() })))
}

/// The cursor of a list that begins with this task.
fn before(task: u64) -> String {
    if task == 0 { String::new() } else { format!("&after=0.{}", task - 1) }
}

fn folder_size(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path: PathBuf = entry?.path();
        size += if path.extension().is_some_and(|e| e == "log") { fs::metadata(path)?.len() } else { 0 };
    }
    Ok(size)
}

fn now_ns() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

#[expect(clippy::cast_precision_loss, reason = "a figure")]
fn count(n: u64) -> f64 {
    n as f64
}

fn per(n: u64, seconds: f64) -> f64 {
    count(n) / seconds
}

/// Quotients of figures that were measured in turn.
pub(crate) fn ratio(ours: &[f64], limit: &[f64]) -> f64 {
    median(&ours.iter().zip(limit).map(|(o, l)| o / l).collect::<Vec<_>>())
}
