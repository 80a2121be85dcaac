//! Finding an item's program as the account, and saying in one sentence why it could not be started.

use crate::place::Place;
use crate::sys::{CStrings, HasNul, Program, SpawnError};
use crate::text::{Account, CannotStart, quoted, why};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Where programs are looked for when the item has no PATH: the system's own default.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// One item's program, arguments and folder, ready for the kernel. Used again for the next item.
#[derive(Debug, Default)]
pub(crate) struct Command {
    programs: CStrings,
    argv: CStrings,
    pub(crate) env: CStrings,
    cwd: Option<CString>,
    pub(crate) nice: u8,
}

impl Command {
    /// `path` is the item's own PATH.
    pub(crate) fn fill(
        &mut self,
        argv: &[Vec<u8>],
        cwd: Option<&[u8]>,
        path: Option<&[u8]>,
        place: &Place,
    ) -> Result<(), CannotStart> {
        let refuse = |stage, text| Err(CannotStart { stage, errno: libc::EINVAL, text });
        self.argv.clear();
        for (i, arg) in argv.iter().enumerate() {
            if self.argv.push(&[&place.fill(arg)]) == Err(HasNul) {
                return refuse("exec", format!("argument {i} of the command contains a NUL byte"));
            }
        }
        self.cwd = match cwd.map(|c| CString::new(place.fill(c))) {
            None => None,
            Some(Ok(cwd)) => Some(cwd),
            Some(Err(_)) => return refuse("cwd", "the working directory's path contains a NUL byte".to_owned()),
        };
        let name = self.argv.get(0).unwrap_or_default();
        if name.is_empty() {
            return refuse("exec", "the command is empty".to_owned());
        }
        candidates(name, path.unwrap_or(DEFAULT_PATH), &mut self.programs);
        Ok(())
    }

    pub(crate) fn program(&self) -> Program<'_> {
        Program {
            programs: &self.programs,
            argv: &self.argv,
            env: &self.env,
            cwd: self.cwd.as_deref(),
            nice: self.nice,
        }
    }

    /// The sentence for the owner of what `spawn` answered.
    pub(crate) fn explain(&self, error: SpawnError, path: Option<&[u8]>, account: &Account) -> CannotStart {
        let (stage, errno, text) = match error {
            SpawnError::Pipe { errno } => {
                ("pipe", errno, format!("no pipe for its output could be made: {}", why(errno)))
            }
            SpawnError::Process { errno } => ("limit", errno, limit(errno, account)),
            SpawnError::Prepare { errno } => {
                ("pipe", errno, format!("its descriptors could not be set: {}", why(errno)))
            }
            SpawnError::Cwd { errno } => {
                let cwd = self.cwd.as_ref().map_or(&b""[..], |c| c.as_bytes());
                ("cwd", errno, cannot_enter(cwd, errno, account))
            }
            SpawnError::Exec { errno: libc::EAGAIN, .. } => ("limit", libc::EAGAIN, limit(libc::EAGAIN, account)),
            SpawnError::Exec { errno, program } => ("exec", errno, self.cannot_execute(errno, program, path, account)),
        };
        CannotStart { stage, errno, text }
    }

    fn cannot_execute(&self, errno: i32, program: usize, path: Option<&[u8]>, account: &Account) -> String {
        let shown = quoted(self.programs.get(program).unwrap_or_default());
        match errno {
            libc::ENOENT => self.not_found(path),
            libc::EACCES => self.denied(program, account),
            libc::E2BIG => self.too_long(),
            libc::ENOEXEC => format!(
                "{shown} is no program of this machine: it has no \"#!\" line and is no executable of this architecture"
            ),
            libc::ETXTBSY => format!("{shown} is being written to by another process"),
            _ => format!("{shown} could not be executed: {}", why(errno)),
        }
    }

    fn not_found(&self, path: Option<&[u8]>) -> String {
        for program in self.programs.iter() {
            if self.seen_from_cwd(program).exists() {
                return self.bad_interpreter(program);
            }
        }
        let name = self.argv.get(0).unwrap_or_default();
        if name.contains(&b'/') {
            return format!("command not found: {}", quoted(name));
        }
        let searched = path.unwrap_or(DEFAULT_PATH);
        let searched = searched.get(..600).unwrap_or(searched);
        format!("command not found: {} (searched {})", quoted(name), String::from_utf8_lossy(searched).escape_debug())
    }

    /// The file is there, so what is missing is what the kernel starts to read it.
    fn bad_interpreter(&self, program: &[u8]) -> String {
        match first_line(&self.seen_from_cwd(program)) {
            Some(line) if line.starts_with(b"#!") => {
                let line = line.get(2..).unwrap_or_default().trim_ascii();
                let dos = if line.ends_with(b"\r") { " (its lines end like those of DOS)" } else { "" };
                let interpreter = line.split(|b| *b == b' ' || *b == b'\t').next().unwrap_or_default();
                format!("bad interpreter: {} names {}, which does not exist{dos}", quoted(program), quoted(interpreter))
            }
            _ => format!("{} needs a program loader that does not exist on this machine", quoted(program)),
        }
    }

    fn denied(&self, program: usize, account: &Account) -> String {
        let name = self.programs.get(program).unwrap_or_default();
        let found = self.seen_from_cwd(name);
        let reason = match std::fs::metadata(&found) {
            Ok(m) if m.is_dir() => "it is a directory".to_owned(),
            Ok(m) if m.permissions().mode() & 0o111 == 0 => "it has no execute permission".to_owned(),
            Ok(_) => "its permissions, its interpreter's, or a file system mounted noexec forbid it".to_owned(),
            Err(_) => match first_unreachable(&found) {
                Some(part) => format!("{} may not be searched", quoted(part.as_os_str().as_bytes())),
                None => "a directory of its path may not be searched".to_owned(),
            },
        };
        format!("permission denied: {} may not be executed by {account}: {reason}", quoted(name))
    }

    fn too_long(&self) -> String {
        const ONE: usize = 128 << 10;
        let longest = self.argv.iter().chain(self.env.iter()).map(<[u8]>::len).max().unwrap_or(0);
        let all = self.argv.total_bytes().saturating_add(self.env.total_bytes());
        let which = if longest >= ONE {
            format!("the longest argument or variable has {longest} bytes, at most {} are allowed", ONE - 1)
        } else {
            format!("together they have {all} bytes in {} strings", self.argv.len().saturating_add(self.env.len()))
        };
        format!("arguments and environment are too long for the kernel: {which}; pass them in a file instead")
    }

    /// Relative programs are the task's, so seen from its working directory.
    fn seen_from_cwd(&self, program: &[u8]) -> PathBuf {
        let program = Path::new(OsStr::from_bytes(program));
        match &self.cwd {
            Some(cwd) => Path::new(OsStr::from_bytes(cwd.as_bytes())).join(program),
            None => program.to_owned(),
        }
    }
}

/// The files that may be meant by `name`, in the order they are tried.
fn candidates(name: &[u8], path: &[u8], out: &mut CStrings) {
    out.clear();
    // Neither can contain a NUL: they come from strings that were pushed already, or from the environment.
    if name.contains(&b'/') {
        let _ = out.push(&[name]);
        return;
    }
    for dir in path.split(|b| *b == b':') {
        // An empty element of PATH is the current folder.
        let _ = if dir.is_empty() { out.push(&[b"./", name]) } else { out.push(&[dir, b"/", name]) };
    }
}

fn limit(errno: i32, account: &Account) -> String {
    if errno == libc::EAGAIN {
        format!("no further process could be started as {account}: the limit of processes is reached")
    } else {
        format!("no further process could be started as {account}: {}", why(errno))
    }
}

/// Also used for the sentence's sake by tests.
fn cannot_enter(cwd: &[u8], errno: i32, account: &Account) -> String {
    let path = Path::new(OsStr::from_bytes(cwd));
    let at = match first_unreachable(path) {
        Some(part) if part != path => format!(" ({})", quoted(part.as_os_str().as_bytes())),
        _ => String::new(),
    };
    format!("the working directory {} cannot be entered by {account}: {}{at}", quoted(cwd), why(errno))
}

/// The first part of a path that cannot be looked at or, being a folder, not be passed through.
fn first_unreachable(path: &Path) -> Option<PathBuf> {
    let mut parts: Vec<&Path> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
    parts.reverse();
    for pair in parts.windows(2) {
        if let [parent, child] = pair
            && let Err(e) = std::fs::metadata(child)
        {
            let blame = if e.kind() == std::io::ErrorKind::PermissionDenied { parent } else { child };
            return Some((*blame).to_owned());
        }
    }
    None
}

fn first_line(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    // A pipe in a program's place would block: only a regular file is read, and the opening waits for nothing.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    let open = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    open.ok()?.take(256).read_to_end(&mut start).ok()?;
    start.split(|b| *b == b'\n').next().map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(name: &str, path: &str) -> Vec<String> {
        let mut out = CStrings::default();
        candidates(name.as_bytes(), path.as_bytes(), &mut out);
        out.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()
    }

    fn ada() -> Account {
        Account { name: "ada".to_owned(), uid: 1005 }
    }

    fn command(argv: &[&str], path: &[u8]) -> Command {
        let mut command = Command::default();
        let argv: Vec<Vec<u8>> = argv.iter().map(|a| a.as_bytes().to_vec()).collect();
        command.fill(&argv, None, Some(path), &Place::new(b"/job".to_vec(), 1)).unwrap();
        command
    }

    #[test]
    fn a_name_is_searched_and_a_path_is_not() {
        assert_eq!(tried("povray", "/usr/bin:/bin"), ["/usr/bin/povray", "/bin/povray"]);
        assert_eq!(tried("povray", ":/bin"), ["./povray", "/bin/povray"]);
        assert_eq!(tried("./povray", "/bin"), ["./povray"]);
        assert_eq!(tried("/opt/povray", "/bin"), ["/opt/povray"]);
    }

    #[test]
    fn not_found_says_where_was_searched() {
        let command = command(&["povrayy"], b"/usr/local/bin:/usr/bin:/bin");
        let error = SpawnError::Exec { errno: libc::ENOENT, program: 0 };
        let cannot = command.explain(error, Some(b"/usr/local/bin:/usr/bin:/bin"), &ada());
        assert_eq!(cannot.text, "command not found: \"povrayy\" (searched /usr/local/bin:/usr/bin:/bin)");
        assert_eq!((cannot.stage, cannot.errno), ("exec", libc::ENOENT));
    }

    #[test]
    fn a_missing_interpreter_is_no_missing_command() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("render");
        std::fs::write(&script, "#!/opt/none/python -u\r\nprint(1)\n").unwrap();
        let command = command(&[script.to_str().unwrap()], b"/bin");
        let text = command.explain(SpawnError::Exec { errno: libc::ENOENT, program: 0 }, None, &ada()).text;
        assert!(text.starts_with("bad interpreter: ") && text.contains("\"/opt/none/python\""), "{text}");
    }

    #[test]
    fn a_file_without_the_execute_bit_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        std::fs::write(&file, "x").unwrap();
        let command = command(&[file.to_str().unwrap()], b"/bin");
        let text = command.explain(SpawnError::Exec { errno: libc::EACCES, program: 0 }, None, &ada()).text;
        assert!(text.contains("ada (uid 1005)") && text.contains("no execute permission"), "{text}");
    }

    #[test]
    fn nul_and_emptiness_are_refused_before_anything_runs() {
        let place = Place::new(b"/job".to_vec(), 1);
        let mut command = Command::default();
        for argv in [vec![], vec![Vec::new()], vec![b"a\0b".to_vec()]] {
            assert_eq!(command.fill(&argv, None, None, &place).unwrap_err().stage, "exec");
        }
        assert_eq!(command.fill(&[b"a".to_vec()], Some(b"/x\0"), None, &place).unwrap_err().stage, "cwd");
    }

    #[test]
    fn the_part_of_a_path_that_stops_is_named() {
        let text = cannot_enter(b"/no/such/place", libc::ENOENT, &ada());
        assert_eq!(
            text,
            "the working directory \"/no/such/place\" cannot be entered by ada (uid 1005): \
             no such file or directory (\"/no\")"
        );
    }
}
