//! The host's word on a password, through `stead-launcher checker`: root asks PAM, the supervisor never is root.
//!
//! A connection per question. Before the password goes out the kernel is asked whether root listens there. Whatever goes
//! wrong is "nobody could tell"; only where no checker was ever started is signing in by password said to be off.

use super::password::{Denial, Password, Passwords, Verdict};
use futures_util::future::BoxFuture;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, send, socket, sockopt,
};
use policy::LoginUser;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;
use warrant::checker_wire::{ANSWER_MAX, Answer, QUESTION_MAX, Question, Word};
use warrant::codec::DecodeError;
use zeroize::Zeroizing;

/// The checker gives PAM 15 s; the rest is for waiting until it is our turn.
const PATIENCE: Duration = Duration::from_secs(25);

#[derive(Debug)]
pub(crate) struct Checker {
    path: PathBuf,
    /// Who must be listening: root.
    uid: u32,
}

#[derive(Debug, thiserror::Error)]
enum CheckerError {
    #[error("there is no checker at {}", .0.display())]
    Missing(PathBuf),
    #[error("the process listening at {} runs as uid {uid}, not as uid {expected}", path.display())]
    Peer { path: PathBuf, uid: u32, expected: u32 },
    #[error("the checker did not answer within {} s", PATIENCE.as_secs())]
    Slow,
    #[error("the checker closed the connection without an answer")]
    Closed,
    #[error("the checker can't be asked: {0}")]
    Io(#[from] io::Error),
    #[error("the checker can't be understood: {0}")]
    Malformed(#[from] DecodeError),
}

impl From<nix::Error> for CheckerError {
    fn from(e: nix::Error) -> Self {
        Self::Io(e.into())
    }
}

impl Checker {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, uid: 0 }
    }

    async fn ask(&self, name: &LoginUser, password: &Password) -> Result<Answer, CheckerError> {
        let conn = watched(self.connect()?)?;
        // Never grows, so nothing of it is left behind by growing.
        let mut question = Zeroizing::new(Vec::with_capacity(QUESTION_MAX));
        Question { name: name.as_str(), password: password.as_bytes() }.encode_into(&mut question)?;
        conn.async_io(Interest::WRITABLE, |fd| {
            send(fd.as_raw_fd(), &question, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT).map_err(Into::into)
        })
        .await?;
        let mut answer = [0; ANSWER_MAX + 1];
        let length = conn
            .async_io(Interest::READABLE, |fd| {
                recv(fd.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).map_err(Into::into)
            })
            .await?;
        match answer.get(..length).filter(|bytes| !bytes.is_empty()) {
            None => Err(CheckerError::Closed),
            Some(bytes) => Ok(Answer::decode(bytes)?),
        }
    }

    fn connect(&self) -> Result<OwnedFd, CheckerError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        match connect(fd.as_raw_fd(), &UnixAddr::new(&self.path)?) {
            Err(nix::Error::ENOENT) => return Err(CheckerError::Missing(self.path.clone())),
            other => other?,
        }
        let uid = getsockopt(&fd, sockopt::PeerCredentials)?.uid();
        if uid == self.uid { Ok(fd) } else { Err(self.wrong_peer(uid)) }
    }

    fn wrong_peer(&self, uid: u32) -> CheckerError {
        CheckerError::Peer { path: self.path.clone(), uid, expected: self.uid }
    }
}

impl Passwords for Checker {
    fn is_off(&self) -> Option<String> {
        // Without its path: strangers read it.
        let words =
            "Signing in with a password is off here: nobody may ask the host about passwords (no checker runs).";
        (!self.path.exists()).then(|| words.to_owned())
    }

    fn check<'a>(&'a self, name: &'a LoginUser, password: &'a Password) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            match timeout(PATIENCE, self.ask(name, password)).await.unwrap_or(Err(CheckerError::Slow)) {
                Ok(answer) => verdict(name, &answer),
                Err(CheckerError::Missing(path)) => Err(off(&path)),
                Err(error) => {
                    tracing::error!(%error, login_user = %name, "a password could not be checked");
                    Err(Denial::Unavailable)
                }
            }
        })
    }
}

fn verdict(name: &LoginUser, answer: &Answer) -> Verdict {
    let Answer { word, retry_ms, text } = answer;
    match word {
        Word::Yes => {}
        Word::Unavailable | Word::DirectoryDown => {
            tracing::error!(login_user = %name, text, "a password could not be checked")
        }
        _ => tracing::info!(login_user = %name, word = word.as_str(), text, "a password was not taken"),
    }
    match word {
        Word::Yes => Ok(()),
        Word::Wrong | Word::Unknown | Word::Locked => Err(Denial::Wrong),
        Word::Expired => Err(Denial::Expired),
        Word::MustChange => Err(Denial::MustChange),
        Word::Refused => Err(Denial::Refused),
        Word::Unavailable => Err(Denial::Unavailable),
        Word::DirectoryDown => Err(Denial::DirectoryDown),
        Word::Limited => Err(Denial::Limited { retry_after: Duration::from_millis((*retry_ms).into()) }),
    }
}

fn off(path: &Path) -> Denial {
    Denial::Off {
        why: format!("nobody here may ask the host about passwords: there is no checker at {}", path.display()),
        hint: "start stead-checker.service, or `stead dev` as root; or keep the farm's own accounts: \
               own_accounts = true in supervisor.toml",
    }
}

/// A descriptor whose readiness can be waited for.
#[expect(
    deprecated,
    reason = "its replacement is unsafe for the sake of types that lend descriptors; this one owns it"
)]
fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

#[cfg(test)]
mod tests {
    use super::super::password::tests::password;
    use super::*;
    use nix::sys::socket::{Backlog, accept, bind, listen};
    use zeroize::Zeroize as _;

    fn ada() -> LoginUser {
        LoginUser::parse("ada").expect("name")
    }

    /// A checker of this process's own: answers each question with the next of `answers` (none: hangs up), and says how
    /// many questions were as expected.
    fn fake(path: &Path, answers: Vec<Option<Vec<u8>>>, expected: Vec<u8>) -> std::thread::JoinHandle<usize> {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("socket");
        bind(fd.as_raw_fd(), &UnixAddr::new(path).expect("path")).expect("bound");
        listen(&fd, Backlog::new(8).expect("backlog")).expect("listening");
        std::thread::spawn(move || {
            let mut seen = 0;
            for answer in answers {
                let conn = accept(fd.as_raw_fd()).expect("connection");
                let mut question = [0; QUESTION_MAX];
                let length = recv(conn, &mut question, MsgFlags::empty()).expect("question");
                let read = Question::decode(&question[..length]).expect("question");
                let same = read.password.iter().map(|b| b ^ 0x55).eq(expected.iter().copied());
                seen += usize::from(read.name == "ada" && same);
                question.zeroize();
                if let Some(answer) = answer {
                    send(conn, &answer, MsgFlags::MSG_NOSIGNAL).expect("answered");
                }
                nix::unistd::close(conn).expect("closed");
            }
            seen
        })
    }

    fn coded(text: &str) -> Vec<u8> {
        text.bytes().map(|b| b ^ 0x55).collect()
    }

    fn here(dir: &tempfile::TempDir) -> Checker {
        Checker { path: dir.path().join("checker.socket"), uid: nix::unistd::geteuid().as_raw() }
    }

    #[tokio::test]
    async fn each_word_is_its_verdict_and_every_mistake_nobody_could_tell() {
        let dir = tempfile::tempdir().expect("dir");
        let checker = here(&dir);
        let limited = Answer { word: Word::Limited, retry_ms: 1500, text: String::new() };
        let retry_after = Duration::from_millis(1500);
        let word = |word| Some(Answer::new(word, "log").encode());
        let cases = vec![
            (word(Word::Yes), Ok(())),
            (word(Word::Wrong), Err(Denial::Wrong)),
            (word(Word::Unknown), Err(Denial::Wrong)),
            (word(Word::Locked), Err(Denial::Wrong)),
            (word(Word::Expired), Err(Denial::Expired)),
            (word(Word::MustChange), Err(Denial::MustChange)),
            (word(Word::Refused), Err(Denial::Refused)),
            (word(Word::Unavailable), Err(Denial::Unavailable)),
            (word(Word::DirectoryDown), Err(Denial::DirectoryDown)),
            (Some(limited.encode()), Err(Denial::Limited { retry_after })),
            (Some(vec![1]), Err(Denial::Unavailable)),
            (Some(vec![77; 20]), Err(Denial::Unavailable)),
            (Some(vec![1; 4096]), Err(Denial::Unavailable)),
            (None, Err(Denial::Unavailable)),
        ];
        let (answers, verdicts): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
        let many = answers.len();
        let fake = fake(&checker.path, answers, coded("secret"));
        for want in verdicts {
            assert_eq!(checker.check(&ada(), &password("secret")).await, want);
        }
        assert_eq!(fake.join().expect("fake"), many, "each question came as it was asked");
        // It listens no more, but it was there: that is no farm without passwords.
        assert_eq!(checker.check(&ada(), &password("secret")).await, Err(Denial::Unavailable));
    }

    #[tokio::test]
    async fn without_a_checker_it_is_off_and_says_what_would_change_it() {
        let dir = tempfile::tempdir().expect("dir");
        let denial = here(&dir).check(&ada(), &password("secret")).await.expect_err("off");
        assert_eq!(denial.rule(), "password_sign_in");
        assert!(denial.to_string().contains("no checker at"), "{denial}");
        assert!(denial.hint().contains("own_accounts") && denial.hint().contains("stead-checker.service"));
    }

    #[tokio::test]
    async fn a_password_goes_to_root_only() {
        let dir = tempfile::tempdir().expect("dir");
        let checker = Checker { uid: 4242, ..here(&dir) };
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("socket");
        bind(fd.as_raw_fd(), &UnixAddr::new(&checker.path).expect("path")).expect("bound");
        listen(&fd, Backlog::new(8).expect("backlog")).expect("listening");
        assert_eq!(checker.check(&ada(), &password("secret")).await, Err(Denial::Unavailable));
        let conn = accept(fd.as_raw_fd()).expect("connection");
        let mut bytes = [0; 64];
        assert_eq!(recv(conn, &mut bytes, MsgFlags::empty()), Ok(0), "nothing was sent");
        nix::unistd::close(conn).expect("closed");
    }

    /// The needle is only ever in memory as a password: what is looked for is coded.
    #[tokio::test]
    async fn a_password_that_was_checked_is_nowhere_in_memory() {
        let needle = coded("Canary-77/").repeat(3);
        let decoded = || Password::new(Zeroizing::new(needle.iter().map(|b| char::from(b ^ 0x55)).collect()));
        let kept = decoded();
        assert!(is_in_memory(&needle), "one that is kept is found");
        drop(kept);
        let dir = tempfile::tempdir().expect("dir");
        let checker = here(&dir);
        let answers = vec![Some(Answer::new(Word::Yes, "").encode()), Some(Answer::new(Word::Wrong, "").encode())];
        let fake = fake(&checker.path, answers, needle.clone());
        assert_eq!(checker.check(&ada(), &decoded()).await, Ok(()));
        assert_eq!(checker.check(&ada(), &decoded()).await, Err(Denial::Wrong));
        assert_eq!(fake.join().expect("fake"), 2);
        assert!(!is_in_memory(&needle));
    }

    fn is_in_memory(coded: &[u8]) -> bool {
        use std::os::unix::fs::FileExt as _;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let memory = std::fs::File::open("/proc/self/mem").expect("mem");
        // The last page read must not be what is found; it is coded at once.
        let mut page = vec![0; 1 << 16];
        let mut found = false;
        for line in maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|p| p.starts_with("rw"))) {
            let range = line.split(' ').next().and_then(|r| r.split_once('-')).expect("a range");
            let [from, to] = [range.0, range.1].map(|n| u64::from_str_radix(n, 16).expect("hex"));
            for at in (from..to).step_by((1 << 16) - 64) {
                let n = memory.read_at(&mut page, at).unwrap_or(0).min(usize::try_from(to - at).expect("size"));
                page[..n].iter_mut().for_each(|b| *b ^= 0x55);
                found |= page[..n].windows(coded.len()).any(|w| w == coded);
                page.fill(0);
            }
        }
        found
    }
}
