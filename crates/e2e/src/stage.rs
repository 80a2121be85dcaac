//! Mount and PID namespaces with accounts of their own, and what may be started in them.

use crate::processes::{Tree, signal};
use crate::until;
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// An account that exists only on a stage.
#[derive(Debug, Clone)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
    /// Other groups, by name.
    pub groups: Vec<String>,
}

/// Group ids that have a name of their own on every stage.
const GROUPS: &[(&str, u32)] = &[
    ("root", 0),
    ("shadow", 42),
    ("disk", 6),
    ("docker", 998),
    ("sudo", 27),
    ("film", 1600),
    ("secret", 1601),
    ("nogroup", 65534),
];

impl Account {
    fn new(name: &str, uid: u32, gid: u32) -> Self {
        Self { name: name.into(), uid, gid, home: format!("/home/{name}"), shell: "/bin/sh".into(), groups: Vec::new() }
    }

    fn groups(mut self, groups: &[&str]) -> Self {
        self.groups = groups.iter().map(|g| (*g).to_owned()).collect();
        self
    }

    fn shell(mut self, shell: &str) -> Self {
        shell.clone_into(&mut self.shell);
        self
    }

    fn home(mut self, home: &str) -> Self {
        home.clone_into(&mut self.home);
        self
    }
}

/// The accounts of every stage: people, the farm's own, and those that must be refused.
#[must_use]
pub fn accounts() -> Vec<Account> {
    vec![
        Account::new("root", 0, 0).home("/root"),
        Account::new("nobody", 65534, 65534).home("/nonexistent").shell("/usr/sbin/nologin"),
        Account::new("ada", 1501, 1501).groups(&["film", "secret"]),
        Account::new("bob", 1502, 1502).groups(&["film"]),
        Account::new("qubeproxy", 1503, 1503).shell("/usr/sbin/nologin"),
        // Root by another name.
        Account::new("toor", 0, 0).home("/root"),
        // A service of the system, below the floor.
        Account::new("daemon-like", 200, 200).shell("/usr/sbin/nologin"),
        Account::new("homeless", 1510, 1510).home("/nonexistent"),
        Account::new("shellless", 1511, 1511).shell(""),
        Account::new("nologin", 1515, 1515).shell("/usr/sbin/nologin"),
        // Root's own group as the primary one.
        Account::new("wheeled", 1512, 0),
        Account::new("powerful", 1513, 1513).groups(&["docker", "shadow", "sudo", "disk"]),
        // A name that looks like a number.
        Account::new("1001", 1514, 1514),
    ]
}

/// Where a stage keeps what is its own.
const OWN: &str = "/mnt";

/// Namespaces, and a first process in them that only collects the dead. It ends with the test, however that ends: it
/// waits for the end of a pipe that the test holds.
#[derive(Debug)]
pub struct Stage {
    unshare: Child,
    held: Option<ChildStdin>,
    door: Door,
}

impl Stage {
    /// Raises a stage with [`accounts`]. Needs root.
    #[must_use]
    pub fn raise() -> Self {
        Self::raise_with(&accounts())
    }

    /// Raises a stage with these accounts. Needs root.
    #[must_use]
    pub fn raise_with(accounts: &[Account]) -> Self {
        Self::set(accounts, None)
    }

    /// Raises a stage with [`accounts`], the directory servers' programs in their proper places, and a network and a
    /// host name of its own. Needs [`crate::servers_or_skip`].
    #[must_use]
    pub fn raise_with_servers() -> Self {
        Self::set(&accounts(), Some(&crate::directory::unpacked().expect("the unpacked servers")))
    }

    fn set(accounts: &[Account], servers: Option<&Path>) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]);
        if servers.is_some() {
            unshare.args(Door::NETWORK);
        }
        unshare.args(["sh", "-euc", SET_UP, "stage"]).arg(bin_dir());
        for text in [passwd(accounts), group(accounts), shadow(accounts), homes(accounts)] {
            unshare.arg(text);
        }
        unshare.args(servers);
        unshare.env("PATH", PATH).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut unshare = unshare.spawn().expect("unshare starts");
        let mut said = BufReader::new(unshare.stdout.take().expect("its standard output"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a word from the stage");
        assert_eq!(line.trim(), "set", "the stage was not set");
        let pid = unshare.id();
        let init = until("the stage's first process", || {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            children.split_whitespace().next()?.parse().ok()
        });
        let held = unshare.stdin.take();
        Self { unshare, held, door: Door { init, network: servers.is_some() } }
    }

    /// A path on the stage, as the test may open it.
    #[must_use]
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.door.path(inside)
    }

    /// `program` on the stage as root, with nothing in its environment but PATH.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.door.command(program)
    }

    /// `program` on the stage, as `who` after logging in: a name, or a number that no account has.
    #[must_use]
    pub fn command_as(&self, who: &str, program: &str) -> Command {
        let mut command = self.door.enter();
        if who != "root" {
            command.args(["setpriv", "--inh-caps=-all"]);
            if who.starts_with('#') {
                let id = who.trim_start_matches('#');
                command.args(["--reuid", id, "--regid", id, "--clear-groups"]);
            } else {
                command.args(["--reuid", who, "--regid", &self.gid(who).to_string(), "--init-groups"]);
            }
            command.arg("--");
        }
        command.arg(program).env("USER", who).env("LOGNAME", who).env("HOME", format!("/home/{who}"));
        command
    }

    /// The group of an account: of the stage's own, or of a directory's.
    fn gid(&self, who: &str) -> u32 {
        let passwd = std::fs::read_to_string(self.path("/etc/passwd")).expect("the stage's passwd");
        if let Some(line) = passwd.lines().find(|l| l.starts_with(&format!("{who}:"))) {
            return line.split(':').nth(3).and_then(|gid| gid.parse().ok()).expect("its group");
        }
        let id = self.command("id").args(["-g", "--", who]).output().expect("id starts");
        String::from_utf8_lossy(&id.stdout).trim().parse().unwrap_or_else(|_| panic!("no account {who}: {id:?}"))
    }

    /// The way in, for what lives on the stage and is kept beside it.
    pub(crate) fn door(&self) -> Door {
        self.door.clone()
    }

    /// Every process on the stage but the first, however deep in namespaces of its own.
    pub(crate) fn processes(&self) -> Tree {
        Tree::below(self.door.init)
    }
}

impl Drop for Stage {
    /// Ends the first process of the PID namespace; the kernel ends the others before that one is gone.
    fn drop(&mut self) {
        signal(self.door.init, Signal::SIGKILL);
        drop(self.held.take());
        drop(self.unshare.kill());
        drop(self.unshare.wait());
    }
}

/// The way into a stage.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// The stage's first process, as the test sees it.
    init: i32,
    /// Whether it has a network and a host name of its own.
    network: bool,
}

impl Door {
    const NETWORK: [&str; 2] = ["--net", "--uts"];

    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let root = PathBuf::from(format!("/proc/{}/root", self.init));
        root.join(inside.strip_prefix("/").unwrap_or(inside))
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.enter();
        command.arg(program);
        command
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--mount", "--pid"]);
        if self.network {
            command.args(Self::NETWORK);
        }
        command.args(["--wd=/", "--"]);
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").stdin(Stdio::null());
        command
    }
}

/// What people on a stage find their programs by.
pub(crate) const PATH: &str = "/mnt/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/games";

/// Arguments: programs' folder, passwd, group, shadow, lines "name uid gid home", unpacked servers or nothing.
const SET_UP: &str = r#"
umask 022
# Programs first: their folder may be below one that is covered next.
mount -t tmpfs -o mode=755 stead-e2e /mnt
mkdir /mnt/bin /mnt/etc /mnt/etc.work /mnt/data /mnt/shared
mount --bind "$1" /mnt/bin
below=
if [ -n "${6-}" ]; then
  mkdir /mnt/servers; mount --bind "$6" /mnt/servers; below=/mnt/servers/etc:
  for part in usr var; do
    mkdir /mnt/$part /mnt/$part.work
    mount -t overlay -o "lowerdir=/mnt/servers/$part:/$part,upperdir=/mnt/$part,workdir=/mnt/$part.work" $part /$part
  done
  ip link set lo up
fi
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=755 home /home
# No daemon of the host answers for accounts: nscd, nslcd, sssd and systemd have their sockets below /run.
mount -t tmpfs -o mode=755 run /run
if [ -d /var/lib/sss ]; then mount -t tmpfs sss /var/lib/sss; fi
mount -t overlay -o lowerdir=${below}/etc,upperdir=/mnt/etc,workdir=/mnt/etc.work etc /etc
printf %s "$2" > /etc/passwd
printf %s "$3" > /etc/group
printf %s "$4" > /etc/shadow; chmod 600 /etc/shadow
printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n' > /etc/nsswitch.conf
printf %s "$5" | while read -r uid gid home; do
  mkdir -p "$home"; chown "$uid:$gid" "$home"; chmod 700 "$home"
done
chown root:1600 /mnt/shared; chmod 2770 /mnt/shared
cd /
exec 3<&0 </dev/null
cat <&3 >/dev/null &
echo set
exec >/dev/null 3<&-
wait
"#;

fn passwd(accounts: &[Account]) -> String {
    accounts.iter().fold(String::new(), |mut text, a| {
        let _ = writeln!(text, "{}:x:{}:{}::{}:{}", a.name, a.uid, a.gid, a.home, a.shell);
        text
    })
}

fn group(accounts: &[Account]) -> String {
    let mut text = String::new();
    for (name, gid) in GROUPS {
        let members: Vec<&str> =
            accounts.iter().filter(|a| a.groups.iter().any(|g| g == name)).map(|a| a.name.as_str()).collect();
        let _ = writeln!(text, "{name}:x:{gid}:{}", members.join(","));
    }
    for a in accounts.iter().filter(|a| GROUPS.iter().all(|(_, gid)| *gid != a.gid)) {
        let _ = writeln!(text, "{}:x:{}:", a.name, a.gid);
    }
    text
}

/// Nobody has a password; nobody's is locked in the way that ends an account.
fn shadow(accounts: &[Account]) -> String {
    accounts.iter().fold(String::new(), |mut text, a| {
        let _ = writeln!(text, "{}:*:19000:0:99999:7:::", a.name);
        text
    })
}

fn homes(accounts: &[Account]) -> String {
    accounts.iter().filter(|a| a.home.starts_with("/home/")).fold(String::new(), |mut text, a| {
        let _ = writeln!(text, "{} {} {}", a.uid, a.gid, a.home);
        text
    })
}

/// Where `stead`, `stead-launcher` and `stead-session` are: `STEAD_BIN_DIR`, or where this workspace is built.
#[must_use]
pub(crate) fn bin_dir() -> PathBuf {
    let dir = std::env::var_os("STEAD_BIN_DIR").map_or_else(built, PathBuf::from);
    for program in ["stead", "stead-launcher", "stead-session"] {
        assert!(dir.join(program).is_file(), "{} is missing: run `cargo build` first", dir.join(program).display());
    }
    dir
}

/// `target/debug/deps/TEST` → `target/debug`; a program such as the bench is beside them already.
fn built() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let dir = test.parent().expect("a target folder");
    let dir = if dir.ends_with("deps") { dir.parent().expect("a target folder") } else { dir };
    dir.to_owned()
}

/// The stage's own folder, as the farm sees it.
#[must_use]
pub(crate) fn own(name: &str) -> String {
    format!("{OWN}/{name}")
}
