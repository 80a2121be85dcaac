//! Logging an account on with its password, on a host whose `launcher.conf` says `requires_password`.
//!
//! Once per session and in a child of its shepherd, which ends with its answer: libpam and its modules see the password
//! and nothing of them stays. The same look-up, rules and PAM service as the checker's. Opens no PAM session; of
//! the credentials that a module may get only a Kerberos ticket is kept (`ticket`): see `docs/passwords.md`.

use crate::account::Identity;
use crate::checker;
use crate::question::{self, Ask};
use crate::refusal::Refusal;
use crate::shepherd::Task;
use crate::sys::{self, Errno, as_fd};
use crate::ticket::{Keep, Ticket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use warrant::checker_wire::{ANSWER_MAX, Answer, Word};
use warrant::launcher_wire::RefusalKind;
use warrant::secret::Secret;
use warrant::{Account, LoginUser, Purpose};

/// How long PAM may take: less than the launch may.
const PATIENCE_MS: u64 = 15_000;

/// Whether a session of this purpose is logged on here. Not to clear away: that is the farm's own errand.
pub(crate) fn is_needed(task: &Task) -> bool {
    task.conf.requires_password && task.warrant.purpose != Purpose::Clean
}

/// Asks PAM once; notes what the log should say besides. Whatever comes of it, the password is gone from this process
/// afterwards.
pub(crate) fn log_on(task: &Task, identity: &Identity, notes: &mut Vec<String>) -> Result<Option<Ticket>, Refusal> {
    let password = task.password.take();
    if !is_needed(task) {
        return Ok(None);
    }
    if matches!(task.warrant.account, Account::Throwaway) {
        let (text, hint) =
            ("a throwaway account has no password", "requires_password in launcher.conf of the host decides");
        return Err(Refusal::new(RefusalKind::LocalPolicy, "throwaway_not_allowed", text, hint));
    }
    let Some(password) = password else {
        let text = "this host logs accounts on with their passwords, and the warrant brings none";
        let hint =
            "requires_password in launcher.conf of the host decides; the supervisor learns of it from the worker";
        return Err(Refusal::new(RefusalKind::Transient, "password_missing", text, hint));
    };
    sys::guard(password.expose());
    let confdir = Path::new(&task.sessions_path).join(format!("pam-{}", task.warrant.session));
    let out_of = |e| Refusal::stage("ticket", e, "the host is out of something; see its log");
    let ticket = Ticket::place(&task.tickets, &task.tickets_path, task.warrant.session).map_err(out_of)?;
    let answer = ask(task, identity, &password, &confdir, &ticket);
    drop(password);
    let _ = std::fs::remove_dir_all(&confdir);
    verdict(&identity.name, &answer)?;
    Ok(given(task, &answer, ticket, notes))
}

/// The ticket, if there is one that the session would see.
fn given(task: &Task, answer: &Answer, ticket: Ticket, notes: &mut Vec<String>) -> Option<Ticket> {
    if !ticket.is_there() {
        // With a "yes" PAM says nothing but why there is none.
        notes.extend(answer.text.contains("ticket").then(|| answer.text.clone()));
        return None;
    }
    if task.is_shared() && ticket.is_covered() {
        notes.push(format!("the session has no ticket: it doesn't see {}", task.tickets_path));
        return None;
    }
    Some(ticket)
}

fn ask(task: &Task, identity: &Identity, password: &Secret, confdir: &PathBuf, ticket: &Ticket) -> Answer {
    let unavailable = |what: &str, e: Errno| Answer::new(Word::Unavailable, format!("{what}: {e}"));
    let Ok(name) = LoginUser::parse(&identity.name) else {
        return Answer::new(Word::Unknown, "the directory's name is no name");
    };
    // Of an earlier try that was killed.
    let _ = std::fs::remove_dir_all(confdir);
    let (read, write) = match sys::packet_pair() {
        Ok(pair) => pair,
        Err(e) => return unavailable("socket", e),
    };
    let parent = std::process::id();
    let pid = match sys::fork() {
        Err(e) => return unavailable("fork", e),
        Ok(Some(pid)) => pid,
        Ok(None) => {
            sys::guard(password.expose());
            let keep = Some(Keep { path: &ticket.path, uid: identity.uid, gid: identity.gid });
            let ask = Ask { name: &name, password: password.expose(), uid_floor: task.conf.uid_floor, confdir, keep };
            let answer = match checker::prepare(&write, parent) {
                Ok(()) => question::answer(&ask),
                Err((step, e)) => unavailable(step, e),
            };
            let _ = sys::send(as_fd(&write), &answer.encode(), &[]);
            sys::exit(0)
        }
    };
    drop(write);
    let answer = await_answer(&read);
    checker::kill_tree(pid);
    collect(pid);
    answer
}

fn await_answer(from: &OwnedFd) -> Answer {
    let until = sys::boot_ms().saturating_add(PATIENCE_MS);
    let mut buffer = [0_u8; ANSWER_MAX + 1];
    loop {
        match sys::receive_into(as_fd(from), &mut buffer) {
            Ok(None) => {}
            Ok(Some(0)) | Err(_) => return checker::died(),
            Ok(Some(len)) => {
                return buffer.get(..len).map(Answer::decode).and_then(Result::ok).unwrap_or_else(checker::died);
            }
        }
        let left = until.saturating_sub(sys::boot_ms());
        if left == 0 {
            return Answer::new(Word::Unavailable, format!("PAM took more than {} s", PATIENCE_MS / 1000));
        }
        let _ = sys::wait_readable(&[from.as_raw_fd()], Some(left));
    }
}

/// The child, and what its modules left to us: killed, so it doesn't take long.
fn collect(pid: i32) {
    let own = std::process::id().cast_signed();
    for _ in 0..2500 {
        checker::kill_below(own);
        while sys::reap().is_some() {}
        if sys::proc_stat(pid).is_none() && sys::descendants(own, &[]).is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// What PAM's word means for the job: never a second try with a password that was refused, and never a refusal of the
/// account for what is the host's or the directory's trouble.
fn verdict(name: &str, answer: &Answer) -> Result<(), Refusal> {
    const RIGHT: &str = "whoever keeps the accounts can put that right";
    let refuse = |kind, stage: &str, text: String, hint: &str| Err(Refusal::new(kind, stage, text, hint));
    let bad = RefusalKind::BadLogin;
    match answer.word {
        Word::Yes => Ok(()),
        Word::Wrong => refuse(bad, "password_wrong", format!("the password of {name} is wrong"), "set the right one"),
        Word::MustChange => {
            let text = format!("the password of {name} has expired and must be changed");
            refuse(bad, "password_expired", text, "change it where you usually do, then set the new one")
        }
        Word::Locked => refuse(bad, "account_locked", format!("{name} is locked"), RIGHT),
        Word::Expired => refuse(bad, "account_expired", format!("{name} is expired"), RIGHT),
        Word::Refused => {
            let text = format!("this host doesn't let {name} log on ({})", answer.text);
            refuse(
                RefusalKind::LocalPolicy,
                "logon_refused",
                text,
                "the account rules of the host decide (PAM, service stead)",
            )
        }
        Word::Unknown => {
            let text = format!("PAM of this host knows no account {name} ({})", answer.text);
            refuse(RefusalKind::Account, "logon_unknown", text, "see PAM's service stead on the host")
        }
        Word::DirectoryDown => {
            let text = format!("the directory that knows the password of {name} does not answer: {}", answer.text);
            refuse(RefusalKind::Transient, "directory", text, "the job is tried again when it does")
        }
        Word::Unavailable | Word::Limited => {
            let text = format!("whether the password of {name} is right can't be told now: {}", answer.text);
            refuse(
                RefusalKind::Transient,
                "logon_unavailable",
                text,
                "the job is tried again; see PAM's modules on the host",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_accounts_own_is_a_bad_login() {
        let kind = |word| verdict("ada", &Answer::new(word, "said")).err().map(|r| r.kind);
        assert_eq!(kind(Word::Yes), None);
        for word in [Word::Wrong, Word::MustChange, Word::Locked, Word::Expired] {
            assert_eq!(kind(word), Some(RefusalKind::BadLogin), "{word:?}");
        }
        assert_eq!(kind(Word::Refused), Some(RefusalKind::LocalPolicy));
        assert_eq!(kind(Word::Unknown), Some(RefusalKind::Account));
        for word in [Word::Unavailable, Word::Limited] {
            assert_eq!(kind(word), Some(RefusalKind::Transient), "{word:?}");
        }
    }

    #[test]
    fn whoever_reads_of_a_wrong_password_reads_nothing_else_of_pam() {
        let refusal = verdict("ada", &Answer::new(Word::Wrong, "a module's words")).expect_err("wrong");
        assert!(!refusal.text.contains("module"), "{}", refusal.text);
    }
}
