//! `stead-launcher checker`: is this the password of that name? Asked by the supervisor, which is never root.
//!
//! One question per connection, from the supervisor's account and from nobody else. Each is asked in a child of its own
//! ([`crate::question`]) with a deadline: what modules of PAM do, leak or break ends with it. This process only takes
//! questions, counts wrong answers ([`crate::throttle`]) and wipes; it loads no module and looks up no account.

use crate::account::service_uid;
use crate::complaints::Complaints;
use crate::conf::{self, Conf};
use crate::fatal::Fatal;
use crate::folder::{self, root};
use crate::question::{self, Ask};
use crate::serve::listen;
use crate::switch;
use crate::sys::{self, Errno, Res, as_fd, say};
use crate::throttle::{Bucket, Guess, Throttle};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use warrant::LoginUser;
use warrant::checker_wire::{ANSWER_MAX, Answer, QUESTION_MAX, Question, Word};
use zeroize::{Zeroize as _, Zeroizing};

/// Questions asked at once; the others wait on their connections.
const ASKED_MAX: usize = 4;
const WAITING_MAX: usize = 64;
/// Children that were killed and don't end, as some wait in the kernel: with more of them nothing is asked.
const ENDING_MAX: usize = 32;
/// How long PAM may take.
const PATIENCE_MS: u64 = 15_000;
/// How long a connection may wait for its turn, or say nothing.
const WAITING_PATIENCE_MS: u64 = 30_000;
/// Connections taken per turn: strangers who come without end keep nobody waiting.
const ACCEPTS_PER_TURN: usize = 64;

/// What `checker` was asked to do.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) state: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) supervisor_uid: Option<u32>,
    pub(crate) supervisor_user: Option<String>,
    pub(crate) conf: Option<PathBuf>,
}

/// A connection whose question was not read yet: its password stays in the kernel.
struct Waiting {
    conn: OwnedFd,
    deadline: u64,
}

/// A question that a child asks.
struct Asked {
    conn: OwnedFd,
    name: String,
    bucket: Bucket,
    pid: i32,
    result: OwnedFd,
    deadline: u64,
}

struct Checker {
    conf: Conf,
    conf_path: Option<PathBuf>,
    state: String,
    supervisor: u32,
    listener: OwnedFd,
    signals: OwnedFd,
    waiting: VecDeque<Waiting>,
    asked: Vec<Asked>,
    /// Children whose answer was had or given up, until they are collected.
    ending: Vec<i32>,
    throttle: Throttle,
    /// Where a question lies between the kernel and the child.
    landing: Zeroizing<Vec<u8>>,
    complaints: Complaints,
    /// Held, not used.
    _lock: OwnedFd,
}

/// Runs until asked to stop.
pub(crate) fn serve(options: &Options) -> Result<(), Fatal> {
    let mut checker = Checker::start(options)?;
    if !sys::is_quiet() {
        say!("checker: ready for questions of uid {}", checker.supervisor);
    }
    while checker.turn() {}
    checker.stop();
    Ok(())
}

impl Checker {
    fn start(options: &Options) -> Result<Self, Fatal> {
        if sys::euid() != 0 {
            return Err(Fatal::NotRoot);
        }
        let step = |what| move |errno| Fatal::Step { what, errno };
        let supervisor = service_uid(options.supervisor_uid, options.supervisor_user.as_deref().unwrap_or("stead"))?;
        let conf = conf::load(options.conf.as_deref())?;
        let parent = |path: &Path| path.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        let run = folder::walk(&parent(&options.socket), false, false)?;
        let socket = options.socket.file_name().and_then(|n| n.to_str()).unwrap_or("checker.socket").to_owned();

        sys::harden().map_err(step("harden this process"))?;
        // What a module leaves behind comes to us when its child is killed.
        sys::become_subreaper().map_err(step("become subreaper"))?;
        let watched = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGHUP];
        let signals = sys::signal_fd(&watched).map_err(step("watch signals"))?;

        let name = options.state.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let state = folder::walk(&parent(&options.state), false, false)?.folder(name, root(0o700))?;
        let lock = state.lock("lock", Duration::from_secs(5))?;
        clear(Path::new(&state.path));
        Ok(Self {
            conf,
            conf_path: options.conf.clone(),
            state: state.path,
            supervisor,
            listener: listen(&run, &socket)?,
            signals,
            waiting: VecDeque::new(),
            asked: Vec::new(),
            ending: Vec::new(),
            throttle: Throttle::default(),
            // Room for one byte more than a question has: what is longer shows.
            landing: Zeroizing::new(vec![0; QUESTION_MAX + 1]),
            complaints: Complaints::default(),
            _lock: lock,
        })
    }

    /// `false`: asked to stop.
    fn turn(&mut self) -> bool {
        let mut fds = vec![self.signals.as_raw_fd(), self.listener.as_raw_fd()];
        fds.extend(self.asked.iter().map(|a| a.result.as_raw_fd()));
        if self.has_room() {
            fds.extend(self.waiting.iter().map(|w| w.conn.as_raw_fd()));
        }
        if let Err(e) = sys::wait_readable(&fds, self.patience()) {
            say!("poll: {e}");
            std::thread::sleep(Duration::from_millis(100));
        }
        for signal in sys::signals(as_fd(&self.signals)) {
            match signal {
                libc::SIGTERM | libc::SIGINT => return false,
                libc::SIGHUP => self.reload(),
                _ => {}
            }
        }
        self.hear_children();
        self.reap();
        self.deadlines();
        self.accept();
        self.hear_supervisor();
        true
    }

    fn has_room(&self) -> bool {
        self.asked.len() < ASKED_MAX && self.ending.len() < ENDING_MAX
    }

    fn patience(&self) -> Option<u64> {
        let deadlines = self.asked.iter().map(|a| a.deadline).chain(self.waiting.iter().map(|w| w.deadline));
        deadlines.min().map(|at| at.saturating_sub(sys::boot_ms()).saturating_add(1))
    }

    /// The last good policy stays whole.
    fn reload(&mut self) {
        match conf::load(self.conf_path.as_deref()) {
            Ok(conf) => {
                self.conf = conf;
                say!("checker: launcher.conf was read again");
            }
            Err(e) => say!("checker: launcher.conf was not taken, the old one stays: {e}"),
        }
    }

    // ---- the supervisor's side -----------------------------------------------------------------------------------

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Ok(Some((conn, uid))) = sys::accept(as_fd(&self.listener)) else { return };
            if uid != self.supervisor {
                self.complaints.say(&format!("checker: refused a connection of uid {uid}"));
            } else if self.waiting.len() >= WAITING_MAX {
                self.complaints.say(&format!("checker: refused a connection: {WAITING_MAX} are waiting"));
            } else {
                let deadline = sys::boot_ms().saturating_add(WAITING_PATIENCE_MS);
                self.waiting.push_back(Waiting { conn, deadline });
            }
        }
    }

    /// Reads questions as long as there is room to ask them, the oldest connection first.
    fn hear_supervisor(&mut self) {
        for _ in 0..self.waiting.len() {
            if !self.has_room() {
                return;
            }
            let Some(waiting) = self.waiting.pop_front() else { return };
            match sys::receive_into(as_fd(&waiting.conn), &mut self.landing) {
                Ok(None) => self.waiting.push_back(waiting),
                Ok(Some(0)) | Err(_) => {}
                Ok(Some(len)) => self.take(waiting.conn, len),
            }
            // Whatever it was: what is refused for its length may hold a password, too.
            self.landing.as_mut_slice().zeroize();
        }
    }

    /// A question lies in the landing place.
    fn take(&mut self, conn: OwnedFd, len: usize) {
        // Whoever gave up waiting needs no answer.
        if sys::is_hung_up(as_fd(&conn)) {
            return;
        }
        let question = self.landing.get(..len).map(Question::decode);
        let Some(Ok(question)) = question else {
            self.complaints.say("checker: closed a connection: a question that can't be read");
            return;
        };
        let (name, word) = (question.name.to_owned(), usable(&question));
        let answer = match word {
            Err(why) => Answer::new(Word::Wrong, why),
            Ok(name) => match self.throttle.admit(name.as_str(), sys::boot_ms()) {
                Err(wait) => Answer {
                    word: Word::Limited,
                    retry_ms: u32::try_from(wait).unwrap_or(u32::MAX),
                    text: "too many wrong answers".to_owned(),
                },
                Ok(bucket) => match self.ask(&name, len) {
                    Ok((pid, result)) => {
                        let deadline = sys::boot_ms().saturating_add(PATIENCE_MS);
                        self.asked.push(Asked { conn, name: name.as_str().to_owned(), bucket, pid, result, deadline });
                        return;
                    }
                    Err(e) => {
                        self.throttle.settle(name.as_str(), bucket, Guess::Unknown);
                        Answer::new(Word::Unavailable, format!("fork: {e}"))
                    }
                },
            },
        };
        self.reply(&conn, &name, &answer);
    }

    fn reply(&mut self, conn: &OwnedFd, name: &str, answer: &Answer) {
        if answer.word != Word::Yes {
            // A name may be a password that went into the wrong field; only names that are names are repeated.
            let name = LoginUser::parse(name).map_or_else(|_| "no name".to_owned(), |n| n.to_string());
            self.complaints.say(&format!("checker: {name}: {}: {}", answer.word.as_str(), answer.text));
        }
        if let Err(e) = sys::send(as_fd(conn), &answer.encode(), &[]) {
            self.complaints.say(&format!("checker: nobody takes an answer: {e}"));
        }
    }

    // ---- the children --------------------------------------------------------------------------------------------

    /// Forks the child that asks.
    fn ask(&self, name: &LoginUser, len: usize) -> Res<(i32, OwnedFd)> {
        let (read, write) = sys::packet_pair()?;
        let parent = std::process::id();
        match sys::fork()? {
            Some(pid) => Ok((pid, read)),
            None => {
                let answer = prepare(&write, parent).map_or_else(
                    |(step, errno)| Answer::new(Word::Unavailable, format!("{step}: {errno}")),
                    |()| {
                        let question = self.landing.get(..len).map(Question::decode);
                        let password = question.and_then(Result::ok).map_or(&b""[..], |q| q.password);
                        let confdir = self.confdir(std::process::id().cast_signed());
                        question::answer(&Ask {
                            name,
                            password,
                            uid_floor: self.conf.uid_floor,
                            confdir: &confdir,
                            keep: None,
                        })
                    },
                );
                let _ = sys::send(as_fd(&write), &answer.encode(), &[]);
                sys::exit(0)
            }
        }
    }

    fn confdir(&self, pid: i32) -> PathBuf {
        Path::new(&self.state).join(pid.to_string())
    }

    fn hear_children(&mut self) {
        let mut i = 0;
        while let Some(asked) = self.asked.get(i) {
            match hear(asked) {
                None => i += 1,
                Some(answer) => self.end(i, &answer),
            }
        }
    }

    /// The answer to the question at `index` goes out. Its child has nothing more to say: the caller ends it.
    fn settle(&mut self, index: usize, answer: &Answer) -> i32 {
        let asked = self.asked.remove(index);
        let guess = match answer.word {
            Word::Yes | Word::Expired | Word::MustChange | Word::Refused => Guess::Right,
            Word::Wrong | Word::Unknown | Word::Locked => Guess::Wrong,
            Word::DirectoryDown if answer.retry_ms == question::COUNTED_MS => Guess::Wrong,
            Word::Unavailable | Word::DirectoryDown | Word::Limited => Guess::Unknown,
        };
        self.throttle.settle(&asked.name, asked.bucket, guess);
        self.reply(&asked.conn, &asked.name, answer);
        asked.pid
    }

    fn end(&mut self, index: usize, answer: &Answer) {
        let pid = self.settle(index, answer);
        kill_tree(pid);
        self.ending.push(pid);
    }

    fn reap(&mut self) {
        let mut reaped = false;
        while let Some(child) = sys::reap() {
            reaped = true;
            // Its answer came since the channels were looked at, or never: what it started may hold the channel open.
            let asked = self.asked.iter().enumerate().find(|(_, a)| a.pid == child.pid);
            if let Some((i, answer)) = asked.map(|(i, a)| (i, hear(a))) {
                self.settle(i, &answer.unwrap_or_else(died));
            } else if !self.ending.contains(&child.pid) {
                continue;
            }
            self.ending.retain(|pid| *pid != child.pid);
            let _ = std::fs::remove_dir_all(self.confdir(child.pid));
        }
        // What modules left came to us. What that starts meanwhile comes when it dies, and wakes us again.
        if reaped && self.asked.is_empty() && self.ending.is_empty() {
            kill_below(std::process::id().cast_signed());
        }
    }

    fn deadlines(&mut self) {
        let now = sys::boot_ms();
        while let Some(late) = self.asked.iter().position(|a| a.deadline <= now) {
            self.end(late, &Answer::new(Word::Unavailable, format!("PAM took more than {} s", PATIENCE_MS / 1000)));
        }
        self.waiting.retain(|w| w.deadline > now);
    }

    fn stop(mut self) {
        while !self.asked.is_empty() {
            self.end(0, &Answer::new(Word::Unavailable, "the checker is being stopped"));
        }
        kill_below(std::process::id().cast_signed());
        clear(Path::new(&self.state));
    }
}

/// What the child has said, if it has.
fn hear(asked: &Asked) -> Option<Answer> {
    let mut buffer = [0_u8; ANSWER_MAX + 1];
    match sys::receive_into(as_fd(&asked.result), &mut buffer) {
        Ok(None) => None,
        Ok(Some(0)) | Err(_) => Some(died()),
        Ok(Some(len)) => Some(buffer.get(..len).map(Answer::decode).and_then(Result::ok).unwrap_or_else(died)),
    }
}

pub(crate) fn died() -> Answer {
    Answer::new(Word::Unavailable, "the child that asks PAM ended without an answer")
}

/// In the child: a process that modules may use, with nothing of the checker's but the way back.
pub(crate) fn prepare(way_back: &OwnedFd, parent: u32) -> Result<(), (&'static str, Errno)> {
    sys::die_with_parent(libc::SIGKILL);
    if std::os::unix::process::parent_id() != parent {
        return Err(("parent", Errno(libc::ESRCH)));
    }
    switch::default_signals().map_err(|(s, e)| (s.name(), e))?;
    sys::set_session();
    sys::null_stdio().map_err(|e| ("stdio", e))?;
    // The checker's own descriptors stay behind in memory but are never used again: this process ends by `exit`.
    sys::close_all_but(&[way_back.as_raw_fd()]);
    Ok(())
}

/// Kills a child that was not collected yet, and all that it started.
pub(crate) fn kill_tree(pid: i32) {
    kill_below(pid);
    let _ = sys::kill(pid, libc::SIGKILL);
}

pub(crate) fn kill_below(pid: i32) {
    for below in sys::descendants(pid, &[]) {
        let _ = sys::kill(below, libc::SIGKILL);
    }
}

/// What can't be asked at all.
fn usable(question: &Question<'_>) -> Result<LoginUser, String> {
    if question.password.is_empty() {
        return Err("an empty password is none".to_owned());
    }
    if question.password.contains(&0) {
        return Err("a password can't contain a NUL".to_owned());
    }
    LoginUser::parse(question.name).map_err(|e| e.to_string())
}

/// Removes the folders of questions that an earlier checker left.
fn clear(state: &Path) {
    for entry in std::fs::read_dir(state).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
