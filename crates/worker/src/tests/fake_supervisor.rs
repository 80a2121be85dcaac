//! A supervisor that keeps what it is sent, checks that nothing comes twice or with a gap, and can be cut off.

use super::{FARM, farm_key, farm_public};
use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use warrant::names::{AccountName, LoginUser, User};
use warrant::{Account, Batch, Limits, Mode, Purpose, Warrant, hex, unhex};
use wire::{FromWorker, Hello, Keep, Report, Reported, Reports, ToWorker};

/// What the supervisor has of one session.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept {
    pub(crate) reports: Vec<Report>,
    pub(crate) log: Vec<u8>,
}

impl Kept {
    pub(crate) fn over(&self) -> bool {
        matches!(self.reports.last(), Some(Report::Ended { .. } | Report::Refused { .. }))
    }
}

/// A session the test wants: opened, given its batches, finished.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) job: u64,
    pub(crate) mode: Mode,
    pub(crate) account: String,
    pub(crate) user: String,
    pub(crate) batches: Vec<Batch>,
    /// Finished when all batches are done.
    pub(crate) finish: bool,
    /// It removes the job's folder instead.
    pub(crate) clean: bool,
}

#[derive(Default)]
pub(crate) struct Books {
    pub(crate) sessions: BTreeMap<u64, Kept>,
    pub(crate) wanted: BTreeMap<u64, Wanted>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) heard: Vec<FromWorker>,
    /// Answers 500 to the next requests: before storing what they bring, or after.
    pub(crate) failures: VecDeque<bool>,
    pub(crate) faults: Vec<String>,
    pub(crate) requests: usize,
    /// Sessions that were refused and are wanted again under a new number: from → to.
    pub(crate) again: BTreeMap<u64, u64>,
    to_worker: Option<mpsc::UnboundedSender<Vec<u8>>>,
    incarnation: [u8; 16],
    next: u64,
    cut: Option<watch::Sender<u64>>,
}

#[derive(Clone)]
pub(crate) struct Supervisor {
    books: Arc<Mutex<Books>>,
}

/// The supervisor and what keeps it going.
pub(crate) struct Serving {
    pub(crate) supervisor: Supervisor,
    runtime: Runtime,
    socket: PathBuf,
}

impl Serving {
    pub(crate) fn start(dir: &Path) -> Self {
        let books = Books { next: 1, cut: Some(watch::Sender::new(0)), ..Books::default() };
        let supervisor = Supervisor { books: Arc::new(Mutex::new(books)) };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let serving = Self { supervisor, runtime, socket: dir.join("worker.socket") };
        let inner = dir.join("inner.socket");
        serving.runtime.block_on(async {
            let listener = UnixListener::bind(&inner).unwrap();
            let app = Router::new()
                .route(wire::CHANNEL_PATH, get(channel))
                .route(wire::REPORTS_PATH, post(reports))
                .route("/worker/v1/logs/{session}", put(logs))
                .with_state(serving.supervisor.clone());
            tokio::spawn(async move { axum::serve(listener, app.into_make_service()).await.unwrap() });
            let front = UnixListener::bind(&serving.socket).unwrap();
            tokio::spawn(pass_on(front, inner, serving.supervisor.clone()));
        });
        serving
    }
}

/// Bytes go through here, so that connections can be cut at any of them.
async fn pass_on(front: UnixListener, inner: PathBuf, supervisor: Supervisor) {
    loop {
        let (near, _) = front.accept().await.unwrap();
        let Ok(far) = UnixStream::connect(&inner).await else { continue };
        let mut cuts = supervisor.books().cut.as_ref().unwrap().subscribe();
        tokio::spawn(async move {
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            tokio::select! {
                () = copy(near_in, far_out) => {}
                () = copy(far_in, near_out) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

/// In small pieces, so that a cut may fall within a message.
async fn copy(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
    let mut piece = vec![0; 4096];
    while let Ok(n) = from.read(&mut piece).await {
        if n == 0 || to.write_all(&piece[..n]).await.is_err() {
            return;
        }
    }
}

impl Supervisor {
    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    /// Cuts all connections where they are.
    pub(crate) fn cut(&self) {
        self.books().cut.as_ref().unwrap().send_modify(|n| *n += 1);
    }

    /// Opens a session; the number is its own.
    pub(crate) fn want(&self, wanted: Wanted) -> u64 {
        let mut books = self.books();
        let session = books.next;
        books.next += 1;
        books.wanted.insert(session, wanted);
        books.give(session, true);
        session
    }

    pub(crate) fn order(&self, message: &ToWorker, payload: &[u8]) {
        self.books().tell(message, payload);
    }

    pub(crate) fn kept(&self, session: u64) -> Kept {
        self.books().sessions.get(&session).cloned().unwrap_or_default()
    }

    /// The session that in the end stood for the one wanted.
    pub(crate) fn last(&self, mut session: u64) -> u64 {
        let books = self.books();
        while let Some(again) = books.again.get(&session) {
            session = *again;
        }
        session
    }

    pub(crate) fn wait_connected(&self) {
        super::eventually("the worker is connected", || {
            self.books().to_worker.as_ref().is_some_and(|t| !t.is_closed())
        });
    }

    /// The worker's last word on itself is that it can work.
    pub(crate) fn well(&self) -> bool {
        let books = self.books();
        let panic = |m: &FromWorker| if let FromWorker::Panic { reason } = m { Some(reason.clone()) } else { None };
        let since = books.heard.iter().rev().find_map(panic);
        since.unwrap_or_else(|| books.hellos.last().and_then(|h| h.panic.clone())).is_none()
    }

    fn state(&self, session: u64) -> String {
        let kept = self.kept(session);
        let books = self.books();
        format!(
            "session {session}, {} reports, last {:?}, {} batches done, {} bytes of log, hellos {:?}, heard {:?}, again {:?}",
            kept.reports.len(),
            kept.reports.last(),
            books.done(session),
            kept.log.len(),
            books.hellos.iter().map(|h| (&h.sessions, &h.incarnation[..2], &h.panic)).collect::<Vec<_>>(),
            books.heard.iter().filter(|m| !matches!(m, FromWorker::Progress { .. })).collect::<Vec<_>>(),
            books.again,
        )
    }

    pub(crate) fn wait_over(&self, session: u64) -> Kept {
        let over = || self.kept(self.last(session)).over();
        super::eventually_or("the session is over", over, || self.state(self.last(session)));
        let kept = self.kept(self.last(session));
        assert_eq!(self.books().faults, Vec::<String>::new());
        kept
    }
}

impl Books {
    fn tell(&self, message: &ToWorker, payload: &[u8]) {
        if let Some(to) = &self.to_worker {
            let _ = to.send(wire::encode_frame(message, payload).unwrap());
        }
    }

    fn done(&self, session: u64) -> u64 {
        let reports = self.sessions.get(&session).map(|k| k.reports.as_slice()).unwrap_or_default();
        reports.iter().filter(|r| matches!(r, Report::BatchDone { .. })).count() as u64
    }

    /// Says what the worker may not have heard.
    fn give(&self, session: u64, open: bool) {
        let wanted = self.wanted[&session].clone();
        if open {
            let warrant = warrant(session, &wanted, self.incarnation).sign(&farm_key()).encode();
            let job = wanted.job;
            match wanted.clean {
                true => self.tell(&ToWorker::Clean { session, job }, &warrant),
                false => self.tell(&ToWorker::Open { session, job, lease_until: u64::MAX }, &warrant),
            }
        }
        let done = self.done(session);
        for (sequence, batch) in (1..).zip(&wanted.batches).filter(|(n, _)| *n > done) {
            let batch = Batch { session, sequence, ..batch.clone() }.sign(&farm_key()).encode();
            self.tell(&ToWorker::Batch { session, sequence }, &batch);
        }
        if wanted.finish && done == wanted.batches.len() as u64 {
            self.tell(&ToWorker::Finish { session }, &[]);
        }
    }

    fn greet(&mut self, hello: Hello) {
        self.incarnation = unhex(&hello.incarnation).unwrap().try_into().unwrap();
        let (known, unknown): (Vec<u64>, Vec<u64>) = self
            .wanted
            .keys()
            .copied()
            .filter(|s| !self.sessions.get(s).is_some_and(Kept::over))
            .partition(|s| hello.sessions.contains(s));
        let keep = known.iter().map(|session| {
            let kept = self.sessions.get(session).cloned().unwrap_or_default();
            Keep { session: *session, reported: kept.reports.len() as u64, logged: kept.log.len() as u64 }
        });
        let farm = hex(&FARM);
        let keys = vec![hex(&farm_public().to_bytes())];
        self.tell(&ToWorker::Welcome { farm, keys, keep: keep.collect() }, &[]);
        for session in known {
            self.give(session, false);
        }
        for session in unknown {
            if self.sessions.get(&session).is_some_and(|k| !k.reports.is_empty()) {
                self.faults.push(format!("session {session} was lost"));
            }
            self.give(session, true);
        }
        self.hellos.push(hello);
    }

    fn store(&mut self, sent: Reports) -> u64 {
        let session = sent.session;
        let kept = self.sessions.entry(session).or_default();
        let have = kept.reports.len() as u64;
        for (number, report) in (sent.first..).zip(sent.reports) {
            let next = kept.reports.len() as u64 + 1;
            if number > next {
                self.faults.push(format!("session {session}: report {number} came when {next} was next"));
            } else if number == next {
                kept.reports.push(report);
            } else if kept.reports[usize::try_from(number - 1).unwrap()] != report {
                self.faults.push(format!("session {session}: report {number} changed"));
            }
        }
        let now = kept.reports.len() as u64;
        if now > have {
            self.react(session);
        }
        now
    }

    fn react(&mut self, session: u64) {
        let Some(wanted) = self.wanted.get(&session).cloned() else { return };
        if let Some(Report::Refused { kind, .. }) = self.sessions[&session].reports.last() {
            if kind == "warrant" && wanted.finish {
                let again = self.next;
                self.next += 1;
                self.again.insert(session, again);
                self.wanted.insert(again, wanted);
                self.give(again, true);
            }
        } else if wanted.finish && !wanted.clean && self.done(session) == wanted.batches.len() as u64 {
            self.tell(&ToWorker::Finish { session }, &[]);
        }
    }

    fn fails(&mut self) -> Option<bool> {
        self.requests += 1;
        self.failures.pop_front()
    }
}

fn warrant(session: u64, wanted: &Wanted, incarnation: [u8; 16]) -> Warrant {
    Warrant {
        farm: FARM,
        worker: super::WORKER.to_owned(),
        incarnation,
        sequence: session,
        not_after: u64::MAX,
        lease_until: u64::MAX,
        purpose: if wanted.clean { Purpose::Clean } else { Purpose::Run },
        session,
        job: wanted.job,
        login_user: LoginUser::parse(&wanted.user).unwrap(),
        user: User::parse(&wanted.user).unwrap(),
        account: Account::Named { name: AccountName::parse(&wanted.account).unwrap(), uid: None },
        mode: wanted.mode,
        shared: false,
        grant: None,
        policy_version: [0; 32],
        limits: Limits::default(),
        umask: 0o027,
        submitter_signature: Vec::new(),
        password: None,
    }
}

async fn channel(State(supervisor): State<Supervisor>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.max_message_size(wire::FRAME_MAX).on_upgrade(move |socket| talk(supervisor, socket))
}

async fn talk(supervisor: Supervisor, mut socket: WebSocket) {
    let (to, mut from) = mpsc::unbounded_channel::<Vec<u8>>();
    loop {
        tokio::select! {
            frame = from.recv() => {
                let Some(frame) = frame else { return };
                if socket.send(Message::Binary(frame.into())).await.is_err() { return }
            }
            message = socket.recv() => match message {
                Some(Ok(Message::Binary(frame))) => {
                    let mut books = supervisor.books();
                    match wire::decode_frame::<FromWorker>(&frame).unwrap().0 {
                        FromWorker::Hello(hello) => {
                            books.to_worker = Some(to.clone());
                            books.greet(hello);
                        }
                        FromWorker::NewIncarnation { incarnation, .. } => {
                            books.incarnation = unhex(&incarnation).unwrap().try_into().unwrap();
                            books.heard.push(FromWorker::NewIncarnation { incarnation, tick: 0, sealing_key: None });
                        }
                        other => books.heard.push(other),
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

async fn reports(State(supervisor): State<Supervisor>, body: Bytes) -> Response {
    let mut books = supervisor.books();
    let fails = books.fails();
    if fails == Some(false) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let sent: Reports = serde_json::from_slice(&body).unwrap();
    assert!(sent.reports.len() <= 1000 && sent.worker == super::WORKER);
    let through = books.store(sent);
    if fails == Some(true) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    axum::Json(Reported { through }).into_response()
}

#[derive(Deserialize)]
struct Offset {
    offset: u64,
}

async fn logs(
    State(supervisor): State<Supervisor>,
    UrlPath(session): UrlPath<u64>,
    Query(Offset { offset }): Query<Offset>,
    body: Bytes,
) -> Response {
    let mut books = supervisor.books();
    let fails = books.fails();
    if fails == Some(false) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let have = books.sessions.get(&session).map_or(0, |k| k.log.len() as u64);
    if offset != have {
        return (StatusCode::CONFLICT, axum::Json(serde_json::json!({ "have": have }))).into_response();
    }
    books.sessions.entry(session).or_default().log.extend_from_slice(&body);
    match fails {
        Some(true) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}
