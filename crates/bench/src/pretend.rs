//! A supervisor alone, with a worker that only pretends: its tasks end at once and well. What is left is dispatch and
//! completion: leases, decisions, signatures, reports, the store, every bit of it durable.

use crate::cpu::{resident, used_us};
use crate::farm::array;
use crate::http::{Connection, body_of, known_as};
use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use job::{Body, CommandBody, JobSpec, Space};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use warrant::{Batch, ItemKind, PublicKey, Signed, unhex};
use wire::{Abilities, Account, FromWorker, Hello, ToWorker};

/// The system account `daemon`, which every host has: whose farm this is, and whose desktop its worker pretends to be.
const OWNER: u32 = 1;
const SLOTS: u32 = 8;
const MILLION: u64 = 1_000_000;

/// Figures of a supervisor.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) bytes_per_queued_task: f64,
    pub(crate) bytes_per_distinct_task: f64,
    pub(crate) submit_million_ms: f64,
    pub(crate) submit_million_distinct_ms: f64,
    pub(crate) dispatch_per_s: f64,
    pub(crate) dispatch_supervisor_us: f64,
    pub(crate) recovery_ms: f64,
    pub(crate) store_bytes_per_task: f64,
}

/// Runs everything that needs no task to run. `tasks` are completed twice.
pub(crate) fn measure(rounds: usize, tasks: u64) -> Result<Figures> {
    let mut farm = Supervisor::start()?;
    let mut figures = Figures::default();
    let mut person = farm.person()?;
    // What the first job of all makes room for is no cost of a million tasks.
    let first = person.submit(&array("/bin/true", 10)?)?;
    person.kill(first)?;
    let distinct = distinct_million();
    let (mut array_ms, mut distinct_ms, mut array_b, mut distinct_b) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let (ms, bytes, job) = farm.queue(&mut person, &body_of(&array("/bin/true", MILLION)?))?;
        array_ms.push(ms);
        array_b.push(bytes);
        person.kill(job)?;
        let (ms, bytes, job) = farm.queue(&mut person, &distinct)?;
        distinct_ms.push(ms);
        distinct_b.push(bytes);
        person.kill(job)?;
    }
    let median = crate::statistics::median;
    figures.submit_million_ms = median(&array_ms);
    figures.submit_million_distinct_ms = median(&distinct_ms);
    // The first rounds pay for room that later ones use again.
    let largest = |all: &[f64]| all.iter().copied().fold(0.0, f64::max);
    figures.bytes_per_queued_task = largest(&array_b);
    figures.bytes_per_distinct_task = largest(&distinct_b);
    farm.restart()?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rates = Vec::new();
    let mut cpu = Vec::new();
    let before = farm.store_size()?;
    for _ in 0..rounds {
        let used = used_us(farm.pid()).context("no supervisor")?;
        let job = person_of(&farm)?.submit(&array("/bin/true", tasks)?)?;
        let started = Instant::now();
        runtime.block_on(work(&farm.socket(), Some(tasks)))?;
        person_of(&farm)?.complete(job)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let tasks = tasks as f64;
        rates.push(tasks / started.elapsed().as_secs_f64());
        cpu.push((used_us(farm.pid()).context("no supervisor")? - used) / tasks);
    }
    figures.dispatch_per_s = median(&rates);
    figures.dispatch_supervisor_us = median(&cpu);
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let stored = (farm.store_size()? - before) as f64 / (tasks * rounds as u64) as f64;
    figures.store_bytes_per_task = stored;

    let mut recoveries = Vec::new();
    for _ in 0..rounds {
        let job = person_of(&farm)?.submit(&array("/bin/true", MILLION)?)?;
        let acknowledged = runtime.block_on(work(&farm.socket(), Some(tasks.min(MILLION / 2))))?;
        let ms = farm.kill_and_restart()?;
        let view = person_of(&farm)?.get(&format!("/api/v1/jobs/{job}"))?;
        let complete = view["tasks"]["complete"].as_u64().context("no counters")?;
        ensure!(complete >= acknowledged, "{acknowledged} completions were acknowledged, {complete} are known: {view}");
        recoveries.push(ms);
        person_of(&farm)?.kill(job)?;
    }
    figures.recovery_ms = median(&recoveries);
    Ok(figures)
}

/// Milliseconds of each look at a page.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// Whichever list takes longest: newest first, by name, of a state, searched.
    pub(crate) lists: Vec<f64>,
    pub(crate) job: Vec<f64>,
    pub(crate) ran_as: Vec<f64>,
    /// The list of jobs while tasks end, and how many did in a second.
    pub(crate) busy: Vec<f64>,
    pub(crate) changes_per_s: f64,
}

/// Pages of a store with `jobs` jobs, each of a hundred tasks, of which the first fifth is complete.
pub(crate) fn pages(jobs: u64, looks: usize) -> Result<Looks> {
    let farm = Supervisor::start()?;
    let mut person = farm.person()?;
    for n in 0..jobs {
        person.submit(&JobSpec {
            name: Some(format!("shot {:04} of {n}", n * 7919 % 1000)),
            ..array("/bin/true", 100)?
        })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(&farm.socket(), Some(jobs / 5 * 100)))?;
    // A connection that said nothing for so long is closed.
    let mut person = farm.person()?;
    let mut found = Looks::default();
    for _ in 0..looks {
        let mut longest: f64 = 0.0;
        for list in ["/jobs", "/jobs?sort=name", "/jobs?state=complete", "/jobs?q=0077", "/jobs?page=40"] {
            longest = longest.max(look(&mut person, list)?);
        }
        found.lists.push(longest);
        found.job.push(look(&mut person, "/jobs/7")?);
        found.ran_as.push(look(&mut person, "/jobs/7/ran-as")?);
    }
    busy(&farm, &mut person, jobs / 5 * 100, looks, &mut found)?;
    Ok(found)
}

/// Looks at the list while a worker ends tasks as fast as they are given to it.
fn busy(farm: &Supervisor, person: &mut Connection, tasks: u64, looks: usize, found: &mut Looks) -> Result<()> {
    let socket = farm.socket();
    let began = Instant::now();
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work(&socket, Some(tasks)))
    });
    while found.busy.len() < looks || !worker.is_finished() {
        found.busy.push(look(person, "/jobs")?);
        if worker.is_finished() && found.changes_per_s == 0.0 {
            found.changes_per_s = per_second(tasks, began.elapsed());
        }
    }
    let ended = worker.join().map_err(|_| anyhow::anyhow!("the worker is gone"))??;
    ensure!(ended >= tasks, "{ended} of {tasks} tasks ended");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
fn per_second(tasks: u64, took: Duration) -> f64 {
    tasks as f64 / took.as_secs_f64()
}

/// Milliseconds until all of a page is there.
pub(crate) fn look(person: &mut Connection, page: &str) -> Result<f64> {
    let started = Instant::now();
    let text = person.text(page)?;
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    ensure!(text.contains("</html>"), "{page} is no page");
    Ok(ms)
}

const QBWRK: &str = "qbwrk.conf";
/// Workers that are told.
const TOLD: usize = 50;

/// Milliseconds until so many workers that run jobs as their users run them as another account, and back: from the
/// command to the answer, which comes when each has said that it goes by the new settings.
pub(crate) fn reconfigure(rounds: usize) -> Result<Vec<f64>> {
    let text = |mode: &str| {
        let hosts = (0..TOLD).map(|n| format!("[lin-{n:03}] : farm\nworker_properties = \"host.rack={n}\"\n"));
        format!("[farm]\nproxy_execution_mode = {mode}\nproxy_account = daemon\n{}", hosts.collect::<String>())
    };
    let farm = Supervisor::of_qube(&text("user"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for n in 0..TOLD {
        let stream = {
            let _inside = runtime.enter();
            connect(&farm.socket())?
        };
        let worker = runtime.block_on(join(stream, format!("lin-{n:03}")))?;
        runtime.spawn(worker);
    }
    let mut person = farm.person()?;
    let mut all = Vec::new();
    for mode in ["proxy", "user"].into_iter().cycle().take(rounds.max(2)) {
        fs::write(farm.disk.path().join(QBWRK), text(mode))?;
        let started = Instant::now();
        let answer = person.reload()?;
        all.push(started.elapsed().as_secs_f64() * 1000.0);
        ensure!(answer["told"] == TOLD && answer["late"] == serde_json::json!([]), "not all were told: {answer}");
    }
    Ok(all)
}

/// A worker in service mode that does as it is told, and runs nothing.
async fn join(stream: UnixStream, name: String) -> Result<impl Future<Output = Result<()>>> {
    let url = format!("ws://supervisor{}", wire::CHANNEL_PATH);
    let (socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    let (mut to, mut from) = socket.split();
    let mut hello = hello();
    let key = warrant::SecretKey::from_seed(&warrant::sha256(&[name.as_bytes()])).public();
    (hello.host_key, hello.owner) = (Some(warrant::hex(&key.to_bytes())), None);
    (hello.name, hello.mode) = (name, "user".to_owned());
    to.send(Message::Binary(wire::encode_frame(&FromWorker::Hello(hello), &[])?.into())).await?;
    // The first word says that it was taken in.
    let welcome = from.next().await.context("the supervisor hung up")??;
    let Message::Binary(frame) = welcome else { bail!("no welcome") };
    if let (ToWorker::Refused { reason }, _) = wire::decode_frame::<ToWorker>(&frame)? {
        bail!("the supervisor refused the worker: {reason}");
    }
    Ok(async move {
        while let Some(message) = from.next().await {
            let Message::Binary(frame) = message? else { continue };
            if let (ToWorker::Settings { number, .. }, _) = wire::decode_frame::<ToWorker>(&frame)? {
                let settled = FromWorker::Settled { number, panic: None };
                to.send(Message::Binary(wire::encode_frame(&settled, &[])?.into())).await?;
            }
        }
        Ok(())
    })
}

fn person_of(farm: &Supervisor) -> Result<Connection> {
    farm.person()
}

/// A million tasks of different arguments.
fn distinct_million() -> Vec<u8> {
    let lines = (0..MILLION).map(|n| format!("shot-{n}")).collect();
    let argv = vec!["/bin/true".to_owned(), "{line}".to_owned()];
    body_of(&JobSpec::new(Body::Command(CommandBody { argv, space: Space::Each(lines), ..CommandBody::default() })))
}

struct Supervisor {
    child: Child,
    disk: TempDir,
}

impl Supervisor {
    fn start() -> Result<Self> {
        let disk = tempfile::Builder::new().prefix("stead-bench").tempdir_in("/var/tmp")?;
        fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o755))?;
        chown(disk.path(), Some(OWNER), Some(OWNER))?;
        let child = spawn(disk.path(), None)?;
        Ok(Self { child, disk })
    }

    /// One that goes by this `qbwrk.conf`.
    fn of_qube(text: &str) -> Result<Self> {
        let disk = tempfile::Builder::new().prefix("stead-bench").tempdir_in("/var/tmp")?;
        fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o755))?;
        chown(disk.path(), Some(OWNER), Some(OWNER))?;
        let file = disk.path().join(QBWRK);
        fs::write(&file, text)?;
        let child = spawn(disk.path(), Some(&file))?;
        Ok(Self { child, disk })
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(0)
    }

    fn socket(&self) -> PathBuf {
        self.disk.path().join("run/worker.socket")
    }

    fn person(&self) -> Result<Connection> {
        Connection::open(&self.disk.path().join("run/socket"), OWNER)
    }

    fn store_size(&self) -> Result<u64> {
        Ok(fs::metadata(self.disk.path().join("supervisor/store.db"))?.len())
    }

    fn restart(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM)?;
        self.child.wait()?;
        self.child = spawn(self.disk.path(), None)?;
        Ok(())
    }

    /// Milliseconds from the start of another supervisor to its first answer about jobs.
    fn kill_and_restart(&mut self) -> Result<f64> {
        kill(Pid::from_raw(self.pid()), Signal::SIGKILL)?;
        self.child.wait()?;
        let started = Instant::now();
        self.child = spawn(self.disk.path(), None)?;
        self.person()?.get("/api/v1/jobs?limit=1")?;
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    }

    /// Milliseconds and bytes of memory that a submission takes.
    fn queue(&self, person: &mut Connection, body: &[u8]) -> Result<(f64, f64, u64)> {
        let before = resident(self.pid()).context("no supervisor")?;
        let started = Instant::now();
        let job = person.submit_body(body)?;
        let ms = started.elapsed().as_secs_f64() * 1000.0;
        std::thread::sleep(Duration::from_millis(200));
        let after = resident(self.pid()).context("no supervisor")?;
        #[expect(clippy::cast_precision_loss, reason = "a million")]
        Ok((ms, (after - before) / MILLION as f64, job))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts one, and waits until it says that it is ready.
fn spawn(data: &Path, qbwrk: Option<&Path>) -> Result<Child> {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={OWNER}"), &format!("--regid={OWNER}"), "--clear-groups", "--inh-caps=-all", "--"]);
    command
        .arg(bin_dir()?.join("stead"))
        .args(["supervisor", "--operator", "daemon", "--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    if let Some(file) = qbwrk {
        command.arg("--qbwrk-conf").arg(file);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    let mut child = command.spawn().context("failed to start a supervisor")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    if !line.starts_with("ready ") {
        drop(child.kill());
        bail!("the supervisor did not become ready: {line:?}, {}", child.wait()?);
    }
    Ok(child)
}

/// Where the programs are: as for the end-to-end tests, or beside this one.
fn bin_dir() -> Result<PathBuf> {
    match std::env::var_os("STEAD_BIN_DIR") {
        Some(dir) => Ok(dir.into()),
        None => Ok(std::env::current_exe()?.parent().context("a folder")?.to_owned()),
    }
}

// ---- the worker

/// Connects as the farm's owner, and works until so many tasks are acknowledged. Returns how many were.
async fn work(socket: &Path, until: Option<u64>) -> Result<u64> {
    let stream = connect(socket)?;
    let url = format!("ws://supervisor{}", wire::CHANNEL_PATH);
    let (socket_, _) = tokio_tungstenite::client_async(url, stream).await?;
    let (mut to, mut from) = socket_.split();
    to.send(Message::Binary(wire::encode_frame(&FromWorker::Hello(hello()), &[])?.into())).await?;
    let (done, mut acknowledged) = mpsc::unbounded_channel();
    let mut sessions: HashMap<u64, mpsc::UnboundedSender<ToDo>> = HashMap::new();
    let mut keys = Vec::new();
    let mut total = 0;
    // Whoever says nothing for 15 s is taken for gone.
    let mut ticks = tokio::time::interval(Duration::from_secs(4));
    loop {
        let message = tokio::select! {
            _ = ticks.tick() => {
                let tick = wire::encode_frame(&FromWorker::Tick { tick: 1_000_000, load_milli: Some(1500) }, &[])?;
                to.send(Message::Binary(tick.into())).await?;
                continue;
            }
            message = from.next() => message.context("the supervisor hung up")??,
            Some(tasks) = acknowledged.recv() => {
                total += tasks;
                if until.is_some_and(|until| total >= until) {
                    return Ok(total);
                }
                continue;
            }
        };
        let Message::Binary(frame) = message else { continue };
        let (message, payload) = wire::decode_frame::<ToWorker>(&frame)?;
        match message {
            ToWorker::Welcome { keys: hex, .. } => {
                let key = |k: &String| PublicKey::from_bytes(&unhex(k)?.try_into().ok()?);
                keys = hex.iter().filter_map(key).collect();
            }
            ToWorker::Open { session, .. } => {
                let (orders, received) = mpsc::unbounded_channel();
                let sender = handshake(socket).await?;
                tokio::spawn(pretend(session, sender, received, done.clone()));
                sessions.insert(session, orders);
            }
            ToWorker::Batch { session, .. } => {
                let signed = Signed::decode(payload, warrant::batch::BATCH_MAX)?;
                let batch = Batch::open(&signed, &keys)?;
                if let Some(to) = sessions.get(&session) {
                    let _ = to.send(ToDo::Batch(Box::new(batch)));
                }
            }
            ToWorker::Finish { session } | ToWorker::Kill { session } => {
                if let Some(to) = sessions.remove(&session) {
                    let _ = to.send(ToDo::Leave);
                }
            }
            ToWorker::Refused { reason } => bail!("the supervisor refused the worker: {reason}"),
            _ => {}
        }
    }
}

enum ToDo {
    Batch(Box<Batch>),
    Leave,
}

/// A session that says that all went well, a batch in a request.
async fn pretend(
    session: u64,
    mut sender: SendRequest<Full<bytes::Bytes>>,
    mut orders: mpsc::UnboundedReceiver<ToDo>,
    done: mpsc::UnboundedSender<u64>,
) -> Result<()> {
    let mut next = 1;
    let mut reports = format!(
        r#"{{"started":{{"run_as":{{"name":"daemon","uid":{OWNER},"gid":{OWNER},"groups":[]}},"proof":null,"at_us":1}}}}"#
    );
    let mut count = 1;
    loop {
        let (mut tasks, over) = match orders.recv().await {
            Some(ToDo::Batch(batch)) => (report(&batch, &mut reports, &mut count), false),
            Some(ToDo::Leave) | None => (0, true),
        };
        if over {
            reports.push_str(r#",{"ended":{"end":"left","text":"","cpu_us":0,"max_rss":0,"proof":null}}"#);
            count += 1;
        }
        // What is there already goes along.
        while let Ok(ToDo::Batch(batch)) = orders.try_recv() {
            tasks += report(&batch, &mut reports, &mut count);
        }
        let list = reports.trim_start_matches(',');
        let body = format!(r#"{{"worker":"pretend","session":{session},"first":{next},"reports":[{list}]}}"#);
        let request = Request::post(wire::REPORTS_PATH).header("host", "supervisor").body(Full::new(body.into()))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let answered = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answered));
        next += count;
        let _ = done.send(tasks);
        if over {
            return Ok(());
        }
        reports.clear();
        count = 0;
    }
}

/// Two reports for a task, as a real worker makes them, and one for the batch.
fn report(batch: &Batch, reports: &mut String, count: &mut u64) -> u64 {
    let mut tasks = 0;
    for item in &batch.items {
        let ItemKind::Task(task) = item.kind else { continue };
        let name = format!(r#"{{"step":{},"index":{},"epoch":{}}}"#, task.step, task.index, task.epoch);
        let _ = write!(reports, r#",{{"task_started":{{"task":{name},"at_us":1000000}}}}"#);
        let _ = write!(
            reports,
            r#",{{"task_ended":{{"task":{name},"end":{{"exited":{{"code":0}}}},"started_us":1000000,"ended_us":1000100,"cpu_us":90,"max_rss":4096}}}}"#
        );
        tasks += 1;
        *count += 2;
    }
    let _ = write!(reports, r#",{{"batch_done":{{"sequence":{}}}}}"#, batch.sequence);
    *count += 1;
    tasks
}

async fn handshake(socket: &Path) -> Result<SendRequest<Full<bytes::Bytes>>> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connect(socket)?)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// As the farm's owner: the supervisor takes workers of no other account.
fn connect(socket: &Path) -> Result<UnixStream> {
    let connected = known_as(OWNER, || std::os::unix::net::UnixStream::connect(socket))??;
    connected.set_nonblocking(true)?;
    Ok(UnixStream::from_std(connected)?)
}

fn hello() -> Hello {
    Hello {
        version: wire::VERSION,
        name: "pretend".to_owned(),
        mode: "desktop".to_owned(),
        proxy_account: None,
        owner: Some(Account { name: "daemon".to_owned(), uid: OWNER, gid: OWNER, groups: Vec::new() }),
        accept: Vec::new(),
        panic: None,
        slots: SLOTS,
        labels: Vec::new(),
        cores: SLOTS,
        memory: 8 << 30,
        incarnation: "00".repeat(16),
        tick: 1_000_000,
        host_key: None,
        abilities: Abilities::default(),
        sealing_key: None,
        own: wire::Own::default(),
        settings: 0,
        sessions: Vec::new(),
    }
}
