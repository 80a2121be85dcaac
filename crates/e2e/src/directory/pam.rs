//! What the farm's own checker says of a name and a password: it asks PAM, and PAM the directory.

use super::{Daemon, fed, script, write};
use crate::stage::Door;

/// The checker's words; `docs/identity.md` has their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    Wrong,
    Unknown,
    Locked,
    Expired,
    MustChange,
    Refused,
    Unavailable,
    Limited,
    DirectoryDown,
}

/// By their numbers on the socket, from 1.
const WORDS: [Verdict; 10] = [
    Verdict::Yes,
    Verdict::Wrong,
    Verdict::Unknown,
    Verdict::Locked,
    Verdict::Expired,
    Verdict::MustChange,
    Verdict::Refused,
    Verdict::Unavailable,
    Verdict::Limited,
    Verdict::DirectoryDown,
];

/// An id that the checker takes questions from, and that is nobody's on a stage.
const ASKER: &str = "1700";
const SOCKET: &str = "/mnt/checker/run/checker.socket";

/// A checker on a stage, asked as the supervisor asks it.
#[derive(Debug)]
pub(super) struct Checker {
    door: Door,
    /// Ended with the stage.
    _daemon: Daemon,
}

impl Checker {
    /// Starts it, with these modules' opinion of passwords and of accounts in `/etc/pam.d/stead`.
    #[track_caller]
    pub(super) fn start(door: &Door, auth: &str, account: &str) -> Self {
        write(door, "/etc/pam.d/stead", &format!("auth required {auth}\naccount required {account}\n"));
        script(door, "mkdir -p /mnt/checker/run", &[]);
        let mut command = door.command("stead-launcher");
        command.args(["checker", "--state", "/mnt/checker/state", "--socket", SOCKET, "--supervisor-uid", ASKER]);
        let mut daemon = Daemon::start(door, "checker", command);
        daemon.until(&format!("test -S {SOCKET}"));
        Self { door: door.clone(), _daemon: daemon }
    }

    #[track_caller]
    pub(super) fn ask(&self, name: &str, password: &str) -> Verdict {
        let mut command = self.door.command("python3");
        // Isolated: it would look up whose home it has, as setpriv would its numbers, in a directory that may be down.
        command.args(["-I", "-c", CLIENT, SOCKET, ASKER, name]);
        let output = fed(command, password);
        let number = String::from_utf8_lossy(&output.stdout).trim().parse::<usize>().ok();
        let word = number.and_then(|n| WORDS.get(n.checked_sub(1)?).copied());
        word.unwrap_or_else(|| panic!("no answer from the checker: {output:?}"))
    }
}

/// Arguments: the socket, the id to ask as, the name. The password is on standard input, the number of the answer's word on the output.
const CLIENT: &str = r#"
import os, socket, struct, sys

asker = int(sys.argv[2])
os.setgroups([])
os.setresgid(asker, asker, asker)
os.setresuid(asker, asker, asker)
checker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
checker.connect(sys.argv[1])
text = lambda t: struct.pack("<I", len(t)) + t
checker.send(b"\x01" + text(sys.argv[3].encode()) + text(sys.stdin.buffer.read()))
print(checker.recv(4096)[0])
"#;
