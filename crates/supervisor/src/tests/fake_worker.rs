//! A worker that keeps to the protocol and checks that the supervisor does; its sessions run nothing, but write down
//! what they would have run. Its sessions outlive its connection, as real ones do.

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio_tungstenite::tungstenite::Message;
use warrant::files::{FileAnswer, FileRequest, REQUEST_MAX};
use warrant::proof::{Fact, Proof, RunAs};
use warrant::{Batch, Item, ItemKind, PublicKey, SecretKey, Signed, Warrant, hex, unhex};
use wire::{Account, End, FromWorker, Hello, Keep, Report, Reported, Reports, SessionEnd, Task, ToWorker};

type HowItEnds = Arc<dyn Fn(Task) -> End + Send + Sync>;
type Loses = Arc<dyn Fn(u64) -> bool + Send + Sync>;
type Settles = Arc<dyn Fn(Option<&str>) -> Option<Option<String>> + Send + Sync>;
type Refuses = Arc<dyn Fn(&Warrant) -> Option<(&'static str, &'static str)> + Send + Sync>;

/// What a fake worker does.
#[derive(Clone)]
pub(crate) struct Habits {
    pub(crate) hello: Hello,
    pub(crate) ends: HowItEnds,
    /// Kind and text of a refusal.
    pub(crate) refuses: Refuses,
    /// The rule or stage a refusal names.
    pub(crate) refuses_by: &'static str,
    /// What the launcher signed, if that is something else than what the worker says; "" is nothing.
    pub(crate) signs_refusals_as: Option<&'static str>,
    /// Batches that never reach their session, by their number.
    pub(crate) loses: Loses,
    /// A task takes one; given back never.
    pub(crate) permits: Arc<Semaphore>,
    /// A task takes its permit to end, not to begin: until then it runs.
    pub(crate) begins_at_once: bool,
    /// Signs proofs; whether they are true is up to `proves`.
    pub(crate) host_key: Option<Arc<SecretKey>>,
    /// The account that proofs name instead of the warrant's.
    pub(crate) proves: Option<&'static str>,
    /// Does not connect.
    pub(crate) stays_away: bool,
    /// Keeps its reports to itself.
    pub(crate) is_silent: bool,
    /// Job folders stay, whatever is asked.
    pub(crate) cannot_clean: bool,
    /// Recalls are on their way until [`FakeWorker::pass_recall`].
    pub(crate) is_slow: bool,
    /// What it answers to settings; nothing at all, if it returns nothing. As real workers do, it looks whether there is
    /// such an account.
    pub(crate) settles: Settles,
}

impl Habits {
    /// A desktop worker of ada's, whose tasks end well at once.
    pub(crate) fn of_ada(name: &str) -> Self {
        let mut hello = crate::dispatch::hello_for_tests(name);
        hello.owner.as_mut().expect("owner").uid = super::operator();
        Self {
            hello,
            ends: Arc::new(|_| End::Exited { code: 0 }),
            refuses: Arc::new(|_| None),
            refuses_by: "account_denied",
            signs_refusals_as: None,
            loses: Arc::new(|_| false),
            permits: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            begins_at_once: false,
            host_key: None,
            proves: None,
            stays_away: false,
            is_silent: false,
            is_slow: false,
            cannot_clean: false,
            settles: Arc::new(|account| {
                Some(account.filter(|a| *a == "ghost").map(|_| "there is no ghost".to_owned()))
            }),
        }
    }

    /// A worker that runs jobs as their user, with a launcher that proves it.
    pub(crate) fn in_user_mode(name: &str) -> Self {
        let mut habits = Self::of_ada(name);
        habits.hello.mode = "user".to_owned();
        habits.hello.owner = None;
        habits.set_key([7; 32]);
        habits
    }

    pub(crate) fn set_key(&mut self, seed: [u8; 32]) {
        let key = SecretKey::from_seed(&seed);
        self.hello.host_key = Some(hex(&key.public().to_bytes()));
        self.host_key = Some(Arc::new(key));
    }
}

/// What was seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// Tasks that ran to their end, in order, with their session.
    pub(crate) ran: Vec<(u64, Task)>,
    pub(crate) started: Vec<Task>,
    /// Environments, as `+name` and `-name`.
    pub(crate) environments: Vec<String>,
    pub(crate) warrants: BTreeMap<u64, Warrant>,
    /// Tasks of each batch, in order.
    pub(crate) batches: Vec<usize>,
    /// The batches themselves.
    pub(crate) whole: Vec<Batch>,
    /// What each batch brings for all of its tasks: variables and folder.
    pub(crate) surroundings: Vec<(BTreeMap<String, String>, Option<String>)>,
    pub(crate) batches_refused: usize,
    pub(crate) killed: Vec<u64>,
    pub(crate) cleaned: Vec<u64>,
    pub(crate) renewals: usize,
    /// Session and number of those that are on their way.
    pub(crate) recalls: VecDeque<(u64, u64)>,
    pub(crate) suspensions: usize,
    /// Requests for file work, answered by [`FakeWorker::answer`].
    pub(crate) asked: Vec<FileRequest>,
    pub(crate) refused: Option<String>,
    pub(crate) hellos: usize,
    /// Mode and account of the settings that were sent, in order.
    pub(crate) settings: Vec<(String, Option<String>)>,
    sessions: HashMap<u64, mpsc::UnboundedSender<Order>>,
    alive: Vec<u64>,
    keep: BTreeMap<u64, watch::Sender<Option<Keep>>>,
    keys: Vec<PublicKey>,
}

impl Seen {
    /// How often each task of step 0 ran.
    pub(crate) fn counts(&self) -> BTreeMap<u64, usize> {
        self.ran.iter().fold(BTreeMap::new(), |mut counts, (_, task)| {
            *counts.entry(task.index).or_default() += 1;
            counts
        })
    }
}

enum Order {
    Batch(Box<Batch>),
    Recall(u64),
    Cancel(Task),
    Suspend(bool),
    Finish,
    Kill,
}

#[derive(Clone)]
pub(crate) struct FakeWorker {
    habits: Arc<Mutex<Habits>>,
    seen: Arc<Mutex<Seen>>,
    socket: PathBuf,
    stop: watch::Sender<bool>,
    words: broadcast::Sender<(FromWorker, Vec<u8>)>,
}

impl FakeWorker {
    /// Connects, and connects again whenever the connection ends.
    pub(crate) fn start(data: &Path, habits: Habits) -> Self {
        let worker = Self {
            habits: Arc::new(Mutex::new(habits)),
            seen: Arc::default(),
            socket: data.join("run/worker.socket"),
            stop: watch::Sender::new(false),
            words: broadcast::Sender::new(64),
        };
        let this = worker.clone();
        tokio::spawn(async move {
            let mut stop = this.stop.subscribe();
            loop {
                tokio::select! {
                    _ = this.connection() => {}
                    _ = stop.wait_for(|s| *s) => return,
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        worker
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("lock")
    }

    pub(crate) fn habits(&self) -> MutexGuard<'_, Habits> {
        self.habits.lock().expect("lock")
    }

    pub(crate) fn permit(&self, tasks: usize) {
        let permits = self.habits().permits.clone();
        permits.add_permits(tasks);
    }

    /// The oldest recall that is on its way reaches its session.
    pub(crate) fn pass_recall(&self) {
        let (session, number) = self.seen().recalls.pop_front().expect("a recall");
        self.order(session, Order::Recall(number));
    }

    /// Says something on the channel.
    pub(crate) fn say(&self, message: FromWorker) {
        self.words.send((message, Vec::new())).expect("connected");
    }

    /// A session answers a request for file work.
    pub(crate) fn answer(&self, request: &FileRequest, answer: &FileAnswer) {
        let (session, sequence) = (request.session, request.sequence);
        self.words.send((FromWorker::Answered { session, sequence }, answer.encode())).expect("connected");
    }

    /// The connection ends for good; sessions are forgotten, as after a reboot.
    pub(crate) fn crash(&self) {
        let _ = self.stop.send(true);
    }

    async fn connection(&self) -> Option<()> {
        if self.habits().stays_away {
            return None;
        }
        let stream = UnixStream::connect(&self.socket).await.ok()?;
        let url = format!("ws://stead{}", wire::CHANNEL_PATH);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.ok()?;
        let (mut to, mut from) = socket.split();
        let hello = {
            let mut seen = self.seen();
            seen.hellos += 1;
            let mut hello = self.habits().hello.clone();
            hello.sessions.clone_from(&seen.alive);
            hello
        };
        let say = |message: FromWorker| Message::Binary(wire::encode_frame(&message, &[]).expect("frame").into());
        to.send(say(FromWorker::Hello(hello))).await.ok()?;
        let mut tick = tokio::time::interval(Duration::from_secs(3));
        let mut words = self.words.subscribe();
        loop {
            let message = tokio::select! {
                message = from.next() => message,
                word = words.recv() => {
                    let (word, payload) = word.expect("not too many");
                    to.send(Message::Binary(wire::encode_frame(&word, &payload).expect("frame").into())).await.ok()?;
                    continue;
                }
                _ = tick.tick() => {
                    to.send(say(FromWorker::Tick { tick: 1_000_000, load_milli: Some(1500) })).await.ok()?;
                    continue;
                }
            };
            let Message::Binary(frame) = message?.ok()? else { continue };
            let (message, payload) = wire::decode_frame::<ToWorker>(&frame).expect("understood");
            if let Some(answer) = self.hear(message, payload) {
                to.send(say(answer)).await.ok()?;
            }
        }
    }

    fn hear(&self, message: ToWorker, payload: &[u8]) -> Option<FromWorker> {
        let signed = |max| Signed::decode(payload, max).expect("signed");
        match message {
            ToWorker::Welcome { keys, keep, .. } => {
                let mut seen = self.seen();
                let key = |k: &String| PublicKey::from_bytes(&unhex(k)?.try_into().ok()?);
                seen.keys = keys.iter().map(|k| key(k).expect("key")).collect();
                let kept: Vec<u64> = keep.iter().map(|k| k.session).collect();
                for keep in keep {
                    let session = keep.session;
                    seen.keep[&session].send_replace(Some(keep));
                }
                seen.alive.retain(|s| kept.contains(s));
                seen.sessions.retain(|s, _| kept.contains(s));
            }
            ToWorker::Settings { number, mode, proxy_account } => {
                let settles = self.habits().settles.clone();
                let panic = settles(proxy_account.as_deref());
                self.seen().settings.push((mode, proxy_account));
                return panic.map(|panic| FromWorker::Settled { number, panic });
            }
            ToWorker::Open { session, .. } | ToWorker::Clean { session, .. } => {
                let warrant = Warrant::open(&signed(4096), &self.seen().keys).expect("warrant");
                assert_eq!((warrant.session, warrant.sequence), (session, session));
                assert!(warrant.not_after < warrant.lease_until);
                self.open(warrant, matches!(message, ToWorker::Clean { .. }));
            }
            ToWorker::Batch { session, sequence } => {
                let batch = Batch::open(&signed(warrant::batch::BATCH_MAX), &self.seen().keys).expect("batch");
                assert_eq!((batch.session, batch.sequence), (session, sequence));
                if (self.habits().loses)(sequence) {
                    return None;
                }
                self.order(session, Order::Batch(Box::new(batch)));
            }
            ToWorker::Renew { .. } => {
                warrant::Renewal::open(&signed(1024), &self.seen().keys).expect("renewal");
                self.seen().renewals += 1;
            }
            ToWorker::Cancel { session, task } => self.order(session, Order::Cancel(task)),
            ToWorker::Recall { session, number, .. } if self.habits().is_slow => {
                self.seen().recalls.push_back((session, number));
            }
            ToWorker::Recall { session, number, .. } => self.order(session, Order::Recall(number)),
            ToWorker::Suspend { session } => {
                self.order(session, Order::Suspend(true));
                self.seen().suspensions += 1;
            }
            ToWorker::Resume { session } => self.order(session, Order::Suspend(false)),
            ToWorker::Finish { session } => self.order(session, Order::Finish),
            ToWorker::Kill { session } => {
                self.seen().killed.push(session);
                self.order(session, Order::Kill);
            }
            ToWorker::Lookup { id, account } => {
                let account = (account != "ghost").then(|| self.account(&account));
                return Some(FromWorker::LookedUp { id, account, error: None });
            }
            ToWorker::Files { session } => {
                assert!(self.habits().hello.abilities.files, "its software is older, and says so");
                let request = FileRequest::open(&signed(REQUEST_MAX), &self.seen().keys).expect("request");
                assert_eq!(request.session, session);
                self.seen().asked.push(request);
            }
            ToWorker::Refused { reason } => self.seen().refused = Some(reason),
        }
        None
    }

    /// A desktop's is the one that its worker connects as.
    fn account(&self, name: &str) -> Account {
        let hello = self.habits().hello.clone();
        if let Some(owner) = hello.owner.filter(|_| hello.mode == "desktop") {
            return Account { name: name.to_owned(), ..owner };
        }
        Account { name: name.to_owned(), uid: 61_501, gid: 61_501, groups: vec![61_501, 61_600] }
    }

    fn order(&self, session: u64, order: Order) {
        if let Some(to) = self.seen().sessions.get(&session) {
            let _ = to.send(order);
        }
    }

    fn open(&self, warrant: Warrant, clean: bool) {
        let (to, orders) = mpsc::unbounded_channel();
        let (keep, kept) = watch::channel(Some(Keep { session: warrant.session, reported: 0, logged: 0 }));
        let habits = self.habits().clone();
        {
            let mut seen = self.seen();
            seen.sessions.insert(warrant.session, to);
            seen.alive.push(warrant.session);
            seen.keep.insert(warrant.session, keep);
            seen.warrants.insert(warrant.session, warrant.clone());
            if clean {
                seen.cleaned.push(warrant.job);
            }
        }
        let (spool, reports) = watch::channel(Vec::new());
        let session = Session {
            worker: self.clone(),
            warrant,
            habits,
            orders,
            spool,
            queue: VecDeque::new(),
            running: None,
            entered: Vec::new(),
            last: 0,
            finish: clean,
            suspended: false,
        };
        let number = session.warrant.session;
        tokio::spawn(self.clone().upload(number, reports, kept));
        tokio::spawn(session.run(clean));
    }

    /// Reports go until they are taken.
    async fn upload(
        self,
        session: u64,
        mut reports: watch::Receiver<Vec<Report>>,
        mut keep: watch::Receiver<Option<Keep>>,
    ) {
        let mut through = 0;
        let worker = self.habits().hello.name.clone();
        loop {
            if keep.has_changed().unwrap_or(false) {
                through = keep.borrow_and_update().as_ref().map_or(through, |k| k.reported);
            }
            let all = reports.borrow_and_update().clone();
            let new = all.get(usize::try_from(through).expect("small")..).unwrap_or_default().to_vec();
            if new.is_empty() {
                if matches!(all.last(), Some(Report::Ended { .. } | Report::Refused { .. })) {
                    let mut seen = self.seen();
                    seen.alive.retain(|s| *s != session);
                    seen.sessions.remove(&session);
                    return;
                }
                if reports.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let group = Reports { worker: worker.clone(), session, first: through + 1, reports: new };
            match self.post(&group).await {
                Some(reported) => through = reported.through,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn post(&self, group: &Reports) -> Option<Reported> {
        if self.habits().is_silent {
            return None;
        }
        let stream = UnixStream::connect(&self.socket).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let body = Full::new(bytes::Bytes::from(serde_json::to_vec(group).expect("json")));
        let request = Request::post(wire::REPORTS_PATH).header("host", "stead").body(body).expect("request");
        let response = sender.send_request(request).await.ok()?;
        let status = response.status();
        let bytes = response.into_body().collect().await.ok()?.to_bytes();
        assert!(status.is_success() || status.is_server_error(), "{status}: {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).ok()
    }
}

struct Session {
    worker: FakeWorker,
    warrant: Warrant,
    habits: Habits,
    orders: mpsc::UnboundedReceiver<Order>,
    spool: watch::Sender<Vec<Report>>,
    queue: VecDeque<(u64, Option<Item>)>,
    running: Option<Task>,
    entered: Vec<String>,
    last: u64,
    finish: bool,
    suspended: bool,
}

impl Session {
    fn report(&self, report: Report) {
        self.spool.send_modify(|all| all.push(report));
    }

    fn proof(&self, fact: Fact) -> Option<String> {
        let proof = Proof {
            worker: self.warrant.worker.clone(),
            incarnation: self.warrant.incarnation,
            session: self.warrant.session,
            job: self.warrant.job,
            fact,
            at_us: 1,
            log_sequence: 1,
            log_previous: [0; 32],
        };
        self.habits.host_key.as_ref().map(|key| hex(&proof.sign(key).encode()))
    }

    async fn run(mut self, clean: bool) {
        if let Some((kind, text)) = (self.habits.refuses)(&self.warrant) {
            let stage = if kind == "stage" { "setgroups" } else { self.habits.refuses_by }.to_owned();
            let signed = self.habits.signs_refusals_as.unwrap_or(&stage).to_owned();
            let fact = Fact::Refused { stage: signed, errno: 0, text: text.to_owned(), warrant: [0; 32] };
            let proof = self.proof(fact).filter(|_| self.habits.signs_refusals_as != Some(""));
            return self.report(Report::Refused {
                kind: kind.to_owned(),
                stage,
                errno: 0,
                text: text.to_owned(),
                hint: String::new(),
                proof,
            });
        }
        let name = match &self.warrant.account {
            warrant::Account::Named { name, .. } => name.to_string(),
            warrant::Account::Throwaway => "throwaway".to_owned(),
        };
        let mut run_as = self.worker.account(&name);
        if let Some(proved) = self.habits.proves {
            run_as.name = proved.to_owned();
        }
        let proof = self.proof(Fact::Started {
            login_user: self.warrant.login_user.to_string(),
            user: self.warrant.user.to_string(),
            mode: self.warrant.mode.as_str().to_owned(),
            run_as: RunAs {
                name: run_as.name.clone(),
                uid: run_as.uid,
                gid: run_as.gid,
                groups: run_as.groups.clone(),
            },
            warrant: [0; 32],
            pid: 1,
            pid_start: 1,
        });
        self.report(Report::Started { run_as, proof, at_us: 1_000_000 });
        if clean && self.habits.cannot_clean {
            return self.ended_with(SessionEnd::Left, "session ended with exit code 1", warrant::SessionEnd::Exited(1));
        }
        if clean {
            self.report(Report::Cleaned { job: self.warrant.job });
        }
        while !(self.finish && self.queue.is_empty() && self.running.is_none()) {
            let may_run = (self.running.is_some() || !self.queue.is_empty()) && !self.suspended;
            let permits = self.habits.permits.clone();
            let is_task = matches!(self.queue.front(), Some((_, Some(Item { kind: ItemKind::Task(_), .. }))));
            let needs_permit = self.running.is_some() || (is_task && !self.habits.begins_at_once);
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    // The worker forgot it.
                    None => return,
                    Some(Order::Kill) => return self.ended(SessionEnd::Killed),
                    Some(order) => self.obey(order),
                },
                () = async { if needs_permit { permits.acquire().await.expect("open").forget(); } }, if may_run => self.next(),
            }
        }
        self.ended(SessionEnd::Left);
    }

    fn ended(&self, end: SessionEnd) {
        let proved = if end == SessionEnd::Left { warrant::SessionEnd::Exited(0) } else { warrant::SessionEnd::Killed };
        self.ended_with(end, "", proved);
    }

    fn ended_with(&self, end: SessionEnd, text: &str, proved: warrant::SessionEnd) {
        let proof = self.proof(Fact::Ended { end: proved, cpu_us: 1, max_rss: 1 });
        self.report(Report::Ended { end, text: text.to_owned(), cpu_us: 1, max_rss: 1, proof });
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Batch(batch) => {
                assert_eq!(batch.job, self.warrant.job, "a batch of another job");
                if self.finish || batch.sequence != self.last + 1 {
                    self.worker.seen().batches_refused += 1;
                    return self.report(Report::BatchRefused { text: format!("{} is not next", batch.sequence) });
                }
                self.last = batch.sequence;
                let tasks = batch.items.iter().filter(|i| matches!(i.kind, ItemKind::Task(_))).count();
                let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).expect("text");
                let variables = batch.env.iter().map(|(name, value)| (text(name), text(value))).collect();
                let cwd = batch.cwd.as_ref().map(text);
                {
                    let mut seen = self.worker.seen();
                    seen.batches.push(tasks);
                    seen.surroundings.push((variables, cwd));
                }
                self.worker.seen().whole.push((*batch).clone());
                self.queue.extend(batch.items.into_iter().map(|i| (batch.sequence, Some(i))));
                self.queue.push_back((batch.sequence, None));
            }
            Order::Recall(number) => {
                let mut tasks = Vec::new();
                self.queue.retain(|(_, item)| match item.as_ref().map(|i| &i.kind) {
                    Some(ItemKind::Task(task)) => {
                        tasks.push((*task).into());
                        false
                    }
                    Some(ItemKind::Enter { .. }) => false,
                    Some(ItemKind::Exit { .. }) | None => true,
                });
                self.report(Report::Recalled { tasks, answers: number });
            }
            Order::Cancel(task) => {
                let before = self.queue.len();
                self.queue.retain(
                    |(_, i)| !matches!(i, Some(Item { kind: ItemKind::Task(t), .. }) if Task::from(*t) == task),
                );
                let is_running = self.running.take_if(|running| *running == task).is_some();
                if is_running || self.queue.len() < before {
                    self.end(task, End::Cancelled);
                }
            }
            Order::Suspend(is) => self.suspended = is,
            Order::Finish => self.finish = true,
            Order::Kill => {}
        }
    }

    fn next(&mut self) {
        if let Some(task) = self.running.take() {
            return self.run_through(task);
        }
        let Some((sequence, item)) = self.queue.pop_front() else { return };
        match item.map(|i| i.kind) {
            None => self.report(Report::BatchDone { sequence }),
            Some(ItemKind::Enter { name }) => {
                self.worker.seen().environments.push(format!("+{name}"));
                self.entered.push(name);
            }
            Some(ItemKind::Exit { name }) => {
                let entered = self.entered.iter().rposition(|e| *e == name);
                if let Some(at) = entered {
                    self.entered.remove(at);
                    self.worker.seen().environments.push(format!("-{name}"));
                }
                let end = match entered {
                    Some(_) => End::Exited { code: 0 },
                    None => End::Failed { text: "it was never entered".to_owned() },
                };
                self.report(Report::EnvironmentEnded { name, entered: false, end });
            }
            Some(ItemKind::Task(task)) => {
                let task = task.into();
                self.worker.seen().started.push(task);
                self.report(Report::TaskStarted { task, at_us: 1_000_000 });
                if self.habits.begins_at_once {
                    self.running = Some(task);
                } else {
                    self.run_through(task);
                }
            }
        }
    }

    fn run_through(&self, task: Task) {
        self.worker.seen().ran.push((self.warrant.session, task));
        self.end(task, (self.habits.ends)(task));
    }

    fn end(&self, task: Task, end: End) {
        let (started_us, ended_us) = (1_000_000, 1_002_000);
        self.report(Report::TaskEnded { task, end, started_us, ended_us, cpu_us: 1000, max_rss: 4096 });
    }
}
