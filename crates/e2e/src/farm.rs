//! A farm started by `stead dev`, and what a test does with it.

use crate::answer::Answer;
use crate::processes::{Role, Tree, lives, remove_control_groups, signal};
use crate::stage::{Stage, bin_dir, own};
use crate::{PATIENCE, is_root, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A job's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a farm is to be.
#[derive(Debug, Default)]
pub struct Builder {
    mode: &'static str,
    /// Whose `stead dev` it is; empty is the one who runs the test.
    owner: String,
    options: Vec<String>,
    /// Shell text in front of `exec stead dev`, to start it in a bad place.
    before: String,
    stage: Option<Stage>,
    /// Size of a file system for the data, as `mount` takes it.
    data_size: Option<&'static str>,
}

impl Builder {
    /// Another option of `stead dev`.
    #[must_use]
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|o| (*o).to_owned()));
        self
    }

    /// Shell commands that the process which becomes `stead dev` runs first.
    #[must_use]
    pub fn after(mut self, shell: &str) -> Self {
        self.before.push_str(shell);
        self
    }

    /// On a stage that the test has changed.
    #[must_use]
    pub fn on(mut self, stage: Stage) -> Self {
        self.stage = Some(stage);
        self
    }

    /// With data on a file system of this size.
    #[must_use]
    pub fn with_data_of(mut self, size: &'static str) -> Self {
        self.data_size = Some(size);
        self
    }

    /// Starts it and waits until it says that it is ready.
    #[track_caller]
    #[must_use]
    pub fn start(self) -> Farm {
        let mut farm = self.prepare();
        farm.start_again();
        farm
    }

    /// Starts it where it must refuse, and returns what it said.
    #[track_caller]
    #[must_use]
    pub fn refused(self) -> Answer {
        let mut farm = self.prepare();
        farm.dev_that_ends()
    }

    fn prepare(self) -> Farm {
        let place = match (self.stage, is_root()) {
            (Some(stage), _) => Place::Stage(stage),
            (None, true) => Place::Stage(Stage::raise()),
            (None, false) => Place::Here(tempfile::tempdir().expect("a temporary folder")),
        };
        let owner = match &place {
            Place::Stage(_) if self.owner.is_empty() => "root".to_owned(),
            Place::Stage(_) => self.owner,
            Place::Here(_) | Place::Gone => me(),
        };
        let farm = Farm {
            place,
            owner,
            mode: self.mode,
            options: self.options,
            before: self.before,
            dev: None,
            said: Arc::new(Mutex::new(String::new())),
            url: String::new(),
        };
        farm.make_data(self.data_size);
        farm
    }
}

#[derive(Debug)]
enum Place {
    Stage(Stage),
    /// Without root: as whoever runs the tests.
    Here(tempfile::TempDir),
    /// Ended.
    Gone,
}

/// A farm. It ends, with everything in it, when it is dropped.
#[derive(Debug)]
pub struct Farm {
    place: Place,
    owner: String,
    mode: &'static str,
    options: Vec<String>,
    before: String,
    dev: Option<Child>,
    /// What `stead dev` printed, to be shown when the test fails.
    said: Arc<Mutex<String>>,
    /// Where its HTTP is.
    pub url: String,
}

impl Farm {
    /// Service mode: each job as its user. Needs root.
    #[must_use]
    pub fn user_mode() -> Builder {
        Builder { mode: "user", ..Builder::default() }
    }

    /// Service mode: every job as `account`. Needs root.
    #[must_use]
    pub fn proxy_mode(account: &str) -> Builder {
        let builder = Builder { mode: "proxy", ..Builder::default() };
        builder.with(&["--proxy-account", account])
    }

    /// Desktop user mode: `owner`'s own farm. Without root: the one of whoever runs the tests.
    #[must_use]
    pub fn desktop(owner: &str) -> Builder {
        Builder { mode: "desktop", owner: owner.to_owned(), ..Builder::default() }
    }

    /// A farm for what does not depend on the mode: user mode as root, desktop mode otherwise. Jobs are submitted by
    /// [`Farm::someone`].
    #[must_use]
    pub fn any() -> Builder {
        if is_root() { Self::user_mode() } else { Self::desktop("") }
    }

    /// A person who may submit here.
    #[must_use]
    pub fn someone(&self) -> &str {
        if self.mode == "desktop" { &self.owner } else { "ada" }
    }

    // --- its life

    /// Starts `stead dev` on the same data, and waits until it is ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.dev.is_none(), "it runs already");
        let mut command = self.dev_command();
        let mut dev = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("stead dev starts");
        let lines = self.listen(dev.stdout.take().expect("stdout"), dev.stderr.take().expect("stderr"));
        self.dev = Some(dev);
        let Some(ready) = self.ready_line(&lines) else { panic!("stead dev did not become ready:\n{}", self.said()) };
        let url = ready.split_whitespace().find_map(|w| w.strip_prefix("url="));
        self.url = url.unwrap_or_else(|| panic!("no url= in {ready:?}")).to_owned();
        assert!(ready.contains("socket="), "no socket= in {ready:?}");
    }

    fn dev_command(&self) -> Command {
        let program = if self.before.is_empty() { "stead" } else { "sh" };
        let mut command = self.command_as(&self.owner, program);
        if !self.before.is_empty() {
            command.args(["-c", &format!("{}\nexec stead \"$@\"", self.before), "sh"]);
        }
        command.args(["dev", "--data", &self.data(), "--mode", self.mode]);
        // A test that has to know the port before chooses it.
        if !self.options.iter().any(|o| o == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(&self.options);
        command
    }

    fn listen(&self, out: impl Read + Send + 'static, err: impl Read + Send + 'static) -> Receiver<String> {
        let (send, lines) = channel();
        let keep =
            |from: Box<dyn Read + Send>, said: Arc<Mutex<String>>, send: Option<std::sync::mpsc::Sender<String>>| {
                std::thread::spawn(move || {
                    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                        let line = String::from_utf8_lossy(&line).into_owned();
                        said.lock().expect("no poison").push_str(&format!("{line}\n"));
                        if let Some(send) = &send {
                            drop(send.send(line));
                        }
                    }
                });
            };
        keep(Box::new(out), Arc::clone(&self.said), Some(send));
        keep(Box::new(err), Arc::clone(&self.said), None);
        lines
    }

    fn ready_line(&self, lines: &Receiver<String>) -> Option<String> {
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Some(left) = deadline.checked_duration_since(std::time::Instant::now()) {
            match lines.recv_timeout(left) {
                // On a terminal the launcher's own "ready with …" comes the same way.
                Ok(line) if line.starts_with("ready url=") => return Some(line),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
        None
    }

    fn dev_that_ends(&mut self) -> Answer {
        let mut command = self.dev_command();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("stead dev starts");
        let (out, err) = (child.stdout.take().expect("stdout"), child.stderr.take().expect("stderr"));
        let (out, err) = (std::thread::spawn(move || all(out)), std::thread::spawn(move || all(err)));
        let status = until("an end of stead dev", || child.try_wait().expect("its status"));
        let (stdout, stderr) = (out.join().expect("stdout"), err.join().expect("stderr"));
        Answer::new("stead dev".into(), Output { status, stdout, stderr })
    }

    /// What a second `stead dev` on the same data answers.
    #[track_caller]
    #[must_use]
    pub fn second_dev(&mut self) -> Answer {
        self.dev_that_ends()
    }

    /// Ends the services as a person does, by SIGTERM, and waits for it.
    #[track_caller]
    pub fn stop(&mut self) {
        for pid in self.processes().of(Role::Dev) {
            signal(pid, Signal::SIGTERM);
        }
        if let Some(dev) = &mut self.dev {
            until("an end of stead dev after SIGTERM", || dev.try_wait().expect("its status"));
        }
        self.dev = None;
    }

    /// `kill -9` of every process of a role. Returns how many there were.
    pub fn kill9(&self, role: Role) -> usize {
        let pids = self.processes().of(role);
        for pid in &pids {
            signal(*pid, Signal::SIGKILL);
        }
        pids.len()
    }

    /// `kill -9` of every process of these roles, before one of them can take another along. Each must be there.
    #[track_caller]
    pub fn kill9_all(&self, roles: &[Role]) {
        let tree = self.processes();
        for role in roles {
            assert!(!tree.of(*role).is_empty(), "no {role:?} to kill in {tree:#?}");
        }
        for pid in roles.iter().flat_map(|role| tree.of(*role)) {
            signal(pid, Signal::SIGKILL);
        }
    }

    /// Waits until the farm answers again after something in it was killed; starts it when it is gone.
    #[track_caller]
    pub fn heal(&mut self) {
        let mut quiet = 0;
        let ended = until("a farm that works, or its end", || {
            let dev = self.dev.as_mut().expect("a farm that was started");
            if dev.try_wait().expect("its status").is_some() {
                return Some(true);
            }
            let answers = self.stead_as(&self.owner.clone(), &["worker", "list", "--json"]);
            let workers = answers.code.filter(|c| *c == 0).map(|_| answers.json());
            let up = workers.is_some_and(|w| w.as_array().is_some_and(|w| !w.is_empty() && w.iter().all(ready)));
            quiet = if up { quiet + 1 } else { 0 };
            (quiet >= 2).then_some(false)
        });
        if ended {
            self.dev = None;
            self.start_again();
        }
    }

    // --- where things are

    /// The farm's folder, as its processes see it.
    #[must_use]
    pub fn data(&self) -> String {
        match &self.place {
            Place::Stage(_) => own("data"),
            Place::Here(dir) => dir.path().join("data").display().to_string(),
            Place::Gone => String::new(),
        }
    }

    /// A path as the farm's processes see it, to be opened by the test.
    #[must_use]
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        match &self.place {
            Place::Stage(stage) => stage.path(inside),
            Place::Here(_) | Place::Gone => inside.as_ref().to_owned(),
        }
    }

    /// A folder that people share through the group `film`, as its processes see it.
    #[must_use]
    pub fn shared(&self) -> String {
        own("shared")
    }

    /// The job's own folder, as the farm's processes see it.
    #[must_use]
    pub fn folder(&self, job: JobId) -> String {
        format!("{}/work/{job}", self.data())
    }

    /// The stage; only farms of root have one.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        match &self.place {
            Place::Stage(stage) => stage,
            Place::Here(_) | Place::Gone => panic!("no stage without root"),
        }
    }

    /// Everything that runs in the farm.
    #[must_use]
    pub fn processes(&self) -> Tree {
        match (&self.place, &self.dev) {
            (Place::Stage(stage), _) => stage.processes(),
            (Place::Here(_), Some(dev)) => Tree::descendants(pid_of(dev)),
            (Place::Here(_), None) | (Place::Gone, _) => Tree::default(),
        }
    }

    // --- what people type

    /// `stead ARGS` as this person, on this farm.
    #[must_use]
    pub fn stead_as(&self, who: &str, args: &[&str]) -> Answer {
        let mut command = self.command_as(who, "stead");
        run(command.args(args), &format!("{who}$ stead {}", args.join(" ")))
    }

    /// Any program as this person, with the farm's address in its environment.
    #[must_use]
    pub fn run_as(&self, who: &str, program: &str, args: &[&str]) -> Answer {
        let mut command = self.command_as(who, program);
        run(command.args(args), &format!("{who}$ {program} {}", args.join(" ")))
    }

    /// The same, to be started by the test itself.
    #[must_use]
    pub fn command_as(&self, who: &str, program: &str) -> Command {
        let mut command = match &self.place {
            Place::Stage(stage) => stage.command_as(who, program),
            Place::Here(_) | Place::Gone => {
                let program = if program == "stead" { bin_dir().join(program) } else { program.into() };
                let mut command = Command::new(program);
                command.stdin(Stdio::null());
                command
            }
        };
        command.env("STEAD_URL", format!("unix:{}/run/socket", self.data()));
        command
    }

    /// Submits and returns the job's number.
    #[track_caller]
    #[must_use]
    pub fn submit(&self, who: &str, args: &[&str]) -> JobId {
        let answer = self.stead_as(who, &[&["submit", "--json"], args].concat()).ok();
        JobId(answer.json()["job"].as_u64().unwrap_or_else(|| panic!("no job in {answer:?}")))
    }

    /// Submits a shell script.
    #[track_caller]
    #[must_use]
    pub fn submit_sh(&self, who: &str, options: &[&str], script: &str) -> JobId {
        self.submit(who, &[options, &["--", "sh", "-c", script]].concat())
    }

    /// Submits a shell script, waits for its end, and returns its standard output. It must complete.
    #[track_caller]
    #[must_use]
    pub fn output_of(&self, who: &str, options: &[&str], script: &str) -> String {
        let job = self.submit_sh(who, options, script);
        self.complete(job);
        self.log(job)
    }

    /// Waits for the job's end and returns it.
    #[track_caller]
    #[must_use]
    pub fn wait(&self, job: JobId) -> Value {
        self.until_job(job, "its end", |j| matches!(state(j), "complete" | "failed" | "killed" | "badlogin"))
    }

    /// Waits for the job's end, which must be `complete`.
    #[track_caller]
    pub fn complete(&self, job: JobId) {
        self.ends(job, "complete");
    }

    /// Waits for the job's end, which must be this state; returns the job.
    #[track_caller]
    pub fn ends(&self, job: JobId, expected: &str) -> Value {
        let ended = self.wait(job);
        assert_eq!(state(&ended), expected, "{ended:#}\n{:#}\n{}", self.tasks(job), self.everything_printed(job));
        ended
    }

    /// Waits until the job is as asked.
    #[track_caller]
    pub fn until_job(&self, job: JobId, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = crate::within_or(PATIENCE, || {
            last = self.job(job);
            is(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("job {job} did not reach {what}: {last:#}\n{:#}", self.tasks(job)))
    }

    /// The job, as the administrator sees it.
    #[track_caller]
    #[must_use]
    pub fn job(&self, job: JobId) -> Value {
        let jobs = self.stead_as(&self.owner, &["jobs", "--json", "--limit", "1000"]).ok().json();
        let jobs = jobs.as_array().expect("an array");
        jobs.iter().find(|j| j["id"] == job.0).cloned().unwrap_or_else(|| panic!("no job {job} in {jobs:#?}"))
    }

    #[track_caller]
    #[must_use]
    pub fn tasks(&self, job: JobId) -> Value {
        self.stead_as(&self.owner, &["tasks", &job.to_string(), "--json"]).ok().json()
    }

    /// All attempts of all tasks, in their order.
    #[track_caller]
    #[must_use]
    pub fn attempts(&self, job: JobId) -> Vec<Value> {
        let tasks = self.tasks(job);
        let tasks = tasks.as_array().expect("an array");
        tasks.iter().flat_map(|t| t["attempts"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// What all tasks wrote to their standard output.
    #[track_caller]
    #[must_use]
    pub fn log(&self, job: JobId) -> String {
        self.stead_as(&self.owner, &["logs", &job.to_string(), "--stdout"]).ok().out()
    }

    fn everything_printed(&self, job: JobId) -> String {
        self.stead_as(&self.owner, &["logs", &job.to_string()]).out()
    }

    /// What `stead dev` printed so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().expect("no poison").clone()
    }

    fn make_data(&self, size: Option<&str>) {
        let Place::Stage(stage) = &self.place else { return };
        let mut script = String::from("set -eu; ");
        if let Some(size) = size {
            script.push_str(&format!("mount -t tmpfs -o size={size},mode=755 data /mnt/data; "));
        }
        script.push_str("chown \"$1\" /mnt/data; chmod 755 /mnt/data");
        let mut command = stage.command("sh");
        drop(run(command.args(["-c", &script, "sh", &self.owner]), "make the data folder").ok());
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::say(&format!("what stead dev printed:\n{}", self.said()));
        }
        let left: Vec<i32> = self.processes().all().iter().map(|p| p.pid).collect();
        match std::mem::replace(&mut self.place, Place::Gone) {
            Place::Stage(stage) => drop(stage),
            Place::Here(_) | Place::Gone => end_all(&left),
        }
        if let Some(mut dev) = self.dev.take() {
            drop(dev.kill());
            drop(dev.wait());
        }
        if let Some((_, key)) = self.said().split_once("host key ") {
            remove_control_groups(key.split_whitespace().next().unwrap_or_default());
        }
    }
}

/// Without a namespace that ends them: every process by its id, until none is left.
fn end_all(pids: &[i32]) {
    for pid in pids {
        signal(*pid, Signal::SIGTERM);
    }
    let gone = |patience| crate::within_or(patience, || pids.iter().all(|p| !lives(*p)).then_some(()));
    if gone(Duration::from_secs(3)).is_none() {
        for pid in pids {
            signal(*pid, Signal::SIGKILL);
        }
    }
}

/// A job's or a task's state.
#[must_use]
pub fn state(of: &Value) -> &str {
    of["state"].as_str().unwrap_or("")
}

fn ready(worker: &Value) -> bool {
    matches!(state(worker), "idle" | "busy" | "locked")
}

fn run(command: &mut Command, named: &str) -> Answer {
    let output = command.output().unwrap_or_else(|e| panic!("failed to start `{named}`: {e}"));
    Answer::new(named.to_owned(), output)
}

fn all(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    drop(from.read_to_end(&mut bytes));
    bytes
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a process id")
}

fn me() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.expect("an account of one's own").name
}
