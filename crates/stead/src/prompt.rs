//! Asks a person for a password at their terminal, without showing it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

use crate::failure::Failure;

/// More than anybody's has.
const PASSWORD_MAX: u64 = 4096;

/// The terminal as it was, given back whatever happens.
struct Quiet<'a>(&'a File, Termios);

impl<'a> Quiet<'a> {
    /// Nothing typed is shown, and ^C comes as what it is, so that nobody ends with a terminal that shows nothing.
    fn new(terminal: &'a File) -> nix::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        // ^C ends the line.
        quiet.control_chars[SpecialCharacterIndices::VEOL as usize] = 3;
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(terminal, before))
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // There is nobody to tell.
        let _ = tcsetattr(self.0, SetArg::TCSAFLUSH, &self.1);
    }
}

/// Asks at the terminal that started us.
pub(crate) fn password(question: &str) -> Result<String, Failure> {
    let no_terminal = |e: std::io::Error| Failure::Usage {
        text: format!("there is no terminal to ask for a password at: {e}"),
        hint: Some("give it on standard input with --password-stdin, or use a token (STEAD_TOKEN_FILE)".into()),
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
    let line = {
        // Before the question: what is typed ahead isn't shown either.
        let _quiet = Quiet::new(&terminal).map_err(|e| no_terminal(e.into()))?;
        let asked = (&terminal).write_all(question.as_bytes());
        asked.map_err(no_terminal)?;
        first_line(&terminal)
    };
    // The line's end wasn't shown either.
    let _ = writeln!(terminal);
    line
}

/// Asks for a new one, twice.
pub(crate) fn new_password(question: &str) -> Result<String, Failure> {
    let new = password(question)?;
    if password("the same again: ")? == new {
        Ok(new)
    } else {
        Err(Failure::usage("these are two different passwords"))
    }
}

/// The first line of what is given.
pub(crate) fn first_line(from: impl Read) -> Result<String, Failure> {
    next_line(&mut BufReader::new(from))
}

/// The next line of what is given.
pub(crate) fn next_line(from: &mut impl BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    let read = from.take(PASSWORD_MAX).read_line(&mut line);
    read.map_err(|e| Failure::system("read the password", e))?;
    // ^C, ^\ and ^Z.
    if line.contains(['\u{3}', '\u{1c}', '\u{1a}']) {
        return Err(Failure::usage("given up"));
    }
    let password = line.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(Failure::usage("no password was given"));
    }
    Ok(password.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        for (input, expected) in [
            ("secret\n", Some("secret")),
            ("secret", Some("secret")),
            (" with blanks \r\nmore\n", Some(" with blanks ")),
            ("\n", None),
            ("", None),
            ("half\u{3}\n", None),
        ] {
            assert_eq!(first_line(input.as_bytes()).ok().as_deref(), expected, "{input:?}");
        }
        let mut two = b"old\nnew\n".as_slice();
        assert_eq!(
            [next_line(&mut two), next_line(&mut two)].map(Result::ok),
            [Some("old".into()), Some("new".into())]
        );
        assert!(next_line(&mut two).is_err());
    }
}
