//! Whether the directory of this host answers, for look-ups of both services: an outage is never "no such account".
//!
//! The C library passes on only the last service's word: of `ldap files` it says "not found" while the LDAP server is down,
//! and leaves that server's groups out of a list without a word; winbind says "not found" of everybody without its domain.
//! Asking each service by itself would change how this whole process looks names up, so a program of its own does it:
//! `stead-launcher directory`, which needs no root. Where it isn't beside this one, the C library's word is all there is.
//! Looks nothing up itself, and decides nothing.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the services may take.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
const SILENT: &str = "the host's account directory does not answer";
const ESRCH: i32 = 3;

type Answer = Result<(), String>;

/// When it was asked last, and what it said.
static LAST: Mutex<Option<(Instant, Answer)>> = Mutex::new(None);

/// Of one entry. That there is none counts only if it is so before and after everybody answered: an outage may have ended
/// meanwhile. Blocks.
pub fn one<T>(look: impl Fn() -> io::Result<Option<T>>) -> Result<Option<T>, String> {
    one_while(look, answers)
}

/// Of a list in order, which an outage makes shorter, unless what was found is `enough`. Blocks.
pub fn list<T: PartialEq>(look: impl Fn() -> io::Result<T>, enough: impl Fn(&T) -> bool) -> Result<T, String> {
    list_while(look, enough, answers)
}

fn one_while<T>(look: impl Fn() -> io::Result<Option<T>>, answers: impl Fn() -> Answer) -> Result<Option<T>, String> {
    if let Some(found) = look().map_err(|e| failure(&e))? {
        return Ok(Some(found));
    }
    answers()?;
    look().map_err(|e| failure(&e))
}

fn list_while<T: PartialEq>(
    look: impl Fn() -> io::Result<T>,
    enough: impl Fn(&T) -> bool,
    answers: impl Fn() -> Answer,
) -> Result<T, String> {
    let found = look().map_err(|e| failure(&e))?;
    if enough(&found) {
        return Ok(found);
    }
    answers()?;
    let again = look().map_err(|e| failure(&e))?;
    if again == found {
        Ok(found)
    } else {
        Err("the host's account directory says one thing and then another".to_owned())
    }
}

/// Whether every service answers, asked after this was called.
fn answers() -> Answer {
    let called = Instant::now();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, answer)) = last.as_ref().filter(|(asked, _)| *asked >= called) {
        return answer.clone();
    }
    let asked = Instant::now();
    let answer = beside_us().map_or(Ok(()), ask);
    *last = Some((asked, answer.clone()));
    answer
}

/// What an error of the C library says of a look-up.
fn failure(error: &io::Error) -> String {
    match error.kind() {
        // How name services say that they can't ask anybody; "No such file" would mislead.
        io::ErrorKind::NotFound => SILENT.to_owned(),
        _ if error.raw_os_error() == Some(ESRCH) => SILENT.to_owned(),
        _ => format!("{SILENT}: {error}"),
    }
}

fn beside_us() -> Option<PathBuf> {
    let launcher = std::env::current_exe().ok()?.with_file_name("stead-launcher");
    launcher.is_file().then_some(launcher)
}

fn ask(launcher: PathBuf) -> Answer {
    let mut command = Command::new(launcher);
    command.arg("directory").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|e| format!("the host's account directory can't be asked: {e}"))?;
    ended(child, PATIENCE)
}

fn ended(mut child: Child, patience: Duration) -> Answer {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(PAUSE),
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) | Err(_) => return Err(said(child)),
        }
    }
    // It may have ended meanwhile.
    let _ = child.kill();
    let _ = child.wait();
    Err(format!("{SILENT} within {} s", patience.as_secs()))
}

fn said(child: Child) -> String {
    let said =
        child.wait_with_output().map(|o| String::from_utf8_lossy(&o.stderr).trim().to_owned()).unwrap_or_default();
    let said = said.trim_start_matches("stead-launcher: ");
    if said.is_empty() { SILENT.to_owned() } else { said.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn shell(script: &str, patience: Duration) -> Answer {
        let mut command = Command::new("sh");
        ended(command.args(["-c", script]).stderr(Stdio::piped()).spawn().expect("started"), patience)
    }

    /// Answers one after the other.
    fn says<T: Clone>(answers: &[io::Result<T>]) -> impl Fn() -> io::Result<T> {
        let at = Cell::new(0);
        move || match answers.get(at.replace(at.get() + 1)).expect("asked once too often") {
            Ok(answer) => Ok(answer.clone()),
            Err(e) => Err(io::Error::from_raw_os_error(e.raw_os_error().expect("a number"))),
        }
    }

    #[test]
    fn only_a_good_end_is_an_answer() {
        assert_eq!(shell("exit 0", PATIENCE), Ok(()));
        let down = "ldap does not answer";
        assert_eq!(shell(&format!("echo 'stead-launcher: {down}' >&2; exit 1"), PATIENCE), Err(down.to_owned()));
        for silent in ["exit 1", "exit 2", "kill -9 $$"] {
            assert!(shell(silent, PATIENCE).is_err_and(|said| said.contains("does not answer")), "{silent}");
        }
        let late = shell("exec sleep 86396", Duration::from_millis(20));
        assert!(late.is_err_and(|said| said.contains("within")), "the time is over");
    }

    #[test]
    fn nobody_is_unknown_while_the_directory_is_down() {
        let (up, down) = (|| Ok(()), || Err("down".to_owned()));
        assert_eq!(one_while(says(&[Ok(Some(7))]), down), Ok(Some(7)), "who is found is found");
        assert_eq!(one_while(says::<Option<u8>>(&[Ok(None)]), down), Err("down".to_owned()));
        assert_eq!(one_while(says::<Option<u8>>(&[Ok(None), Ok(None)]), up), Ok(None));
        assert_eq!(one_while(says(&[Ok(None), Ok(Some(7))]), up), Ok(Some(7)), "it came back in between");
        for number in [2, 3, 5, 111] {
            let error = || Err(io::Error::from_raw_os_error(number));
            let said = one_while(says::<Option<u8>>(&[error()]), up).expect_err("an error is an outage");
            assert!(said.contains("does not answer"), "{said}");
            assert!(one_while(says::<Option<u8>>(&[Ok(None), error()]), up).is_err());
        }
    }

    #[test]
    fn a_list_is_whole_or_an_outage() {
        let (up, down) = (|| Ok(()), || Err("down".to_owned()));
        let has_b = |found: &Vec<char>| found.contains(&'b');
        assert_eq!(list_while(says(&[Ok(vec!['b'])]), has_b, down), Ok(vec!['b']), "what was looked for is there");
        assert_eq!(list_while(says(&[Ok(vec!['a'])]), has_b, down), Err("down".to_owned()));
        assert_eq!(list_while(says(&[Ok(vec!['a']), Ok(vec!['a'])]), has_b, up), Ok(vec!['a']));
        assert!(list_while(says(&[Ok(vec!['a']), Ok(vec!['a', 'b'])]), has_b, up).is_err(), "it came back in between");
        assert!(list_while(says(&[Ok(vec!['a', 'c']), Ok(vec!['a'])]), has_b, up).is_err(), "it went away in between");
    }
}
