//! `stead install` and `stead uninstall`: what an administrator wants after `dev`.
//!
//! Installing is a list of steps, each idempotent; what was made is written down, and uninstalling undoes that.

mod files;
mod mode;
mod steps;

pub(crate) use mode::mode;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::files::{BIN, DATA, ETC, LIB, TMPFILES, UNITS};
use self::steps::{Made, Place, Step};
use crate::cli::{Install, InstallHow, Part, Uninstall};
use crate::failure::Failure;
use crate::farm::{self, Programs};
use crate::out;

/// Outlives the programs: a later purge still knows what was made.
const MANIFEST: &str = "/var/lib/stead/installed.json";
const AUTOSTART: &str = "autostart/stead.desktop";

pub(crate) fn install(options: &Install) -> Result<(), Failure> {
    if options.part == Part::Desktop {
        return install_desktop(&options.how);
    }
    let place = place(&options.how)?;
    if options.part == Part::Worker {
        beside_its_supervisor(&place)?;
    }
    let steps = steps(options.part, &place)?;
    tell(&steps.iter().map(Step::say).collect::<Vec<_>>(), &options.how);
    if options.how.dry_run {
        return Ok(());
    }
    let mut made = manifest(&place);
    for step in &steps {
        let done = step.act(&place, &mut made);
        // Also what was made before a step failed can be undone.
        write_manifest(&place, &made)?;
        done?;
    }
    if place.live && !has_systemd() && !options.how.json {
        out::note(
            "systemd doesn't run here: start the three services yourself, as the units in /etc/systemd/system say",
        );
    }
    Ok(())
}

fn place(how: &InstallHow) -> Result<Place, Failure> {
    let live = how.root.is_none();
    if live && !how.dry_run && !nix::unistd::geteuid().is_root() {
        return Err(Failure::Refused {
            rule: "install_needs_root",
            text: "installing services needs root".into(),
            hint: "use sudo; `stead install desktop` needs none; --dry-run shows what would be done".into(),
        });
    }
    Ok(Place { root: how.root.clone().unwrap_or_else(|| "/".into()), live })
}

/// A worker reaches its supervisor through a socket on the same host; there is no other way in this version.
fn beside_its_supervisor(place: &Place) -> Result<(), Failure> {
    if place.at(UNITS).join("stead-supervisor.service").is_file() {
        return Ok(());
    }
    Err(Failure::Refused {
        rule: "worker_beside_supervisor",
        text: "this version runs a worker only on the host of its supervisor, and none is installed here".into(),
        hint: "`stead install` makes both; a farm of several hosts can't be joined yet".into(),
    })
}

fn tell(lines: &[String], how: &InstallHow) {
    if how.json {
        out::json(&json!({"steps": lines, "done": !how.dry_run}));
    } else {
        lines.iter().for_each(out::say);
    }
}

fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn steps(part: Part, place: &Place) -> Result<Vec<Step>, Failure> {
    let (supervisor, worker) = (part != Part::Worker, part != Part::Supervisor);
    let programs = Programs::beside_this_one()?;
    let mut steps = accounts(supervisor, worker);
    steps.extend(folders(supervisor, worker));
    steps.extend(programs_at(&programs));
    steps.extend(names());
    let settings = |name: &str, text: String| Step::Settings { path: format!("{ETC}/{name}"), text };
    let unit = |name: &str, text: String| Step::Owned { path: format!("{UNITS}/{name}.service"), text };
    let host = supervisor::host_name();
    let mut units = Vec::new();
    if worker {
        steps.push(settings("worker.toml", files::worker_toml(&host)));
        steps.push(settings("launcher.conf", files::LAUNCHER_CONF.into()));
        steps.push(unit("stead-launcher", files::launcher_unit(&host)));
        steps.push(unit("stead-worker", files::worker_unit()));
        units.extend(["stead-launcher.service", "stead-worker.service"]);
    }
    if supervisor {
        steps.push(settings("supervisor.toml", files::SUPERVISOR_TOML.into()));
        steps.push(unit("stead-supervisor", files::supervisor_unit()));
        steps.push(unit("stead-checker", files::checker_unit()));
        steps.push(Step::Owned { path: TMPFILES.into(), text: files::TMPFILES_CONF.into() });
        units.splice(..0, ["stead-checker.service", "stead-supervisor.service"]);
    }
    steps.push(Step::Keys);
    if place.live && supervisor::Desks::path(&place.at(DATA)).exists() {
        out::note(
            "this host's worker is in desktop mode and stays so: `stead worker mode service` brings the service back",
        );
        units.retain(|unit| !mode::SERVICES.contains(unit));
    }
    steps.extend(start(place, supervisor, &units));
    Ok(steps)
}

/// `stead`, and the names by which Qube!'s people know it unless something else has them.
fn names() -> Vec<Step> {
    let target = format!("{LIB}/stead");
    let folder = BIN.trim_end_matches("stead");
    let other = |name: &&str| Step::OtherName { path: format!("{folder}{name}"), target: target.clone() };
    let mut names = vec![Step::Link { path: BIN.into(), target: target.clone() }];
    names.extend(crate::qb::NAMES.iter().map(other));
    names
}

fn accounts(supervisor: bool, worker: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if supervisor {
        steps.push(Step::Account { name: "stead", home: DATA, person: false });
    }
    if worker {
        steps.push(Step::Account { name: "stead-worker", home: DATA, person: false });
        steps.push(Step::Account { name: "qubeproxy", home: "/var/lib/qubeproxy", person: true });
    }
    steps
}

/// As `stead-launcher host` lays a farm out.
fn folders(supervisor: bool, worker: bool) -> Vec<Step> {
    let dir = |path, mode, user, group| Step::Dir { path, mode, user, group };
    let run_group = if supervisor { "stead" } else { "root" };
    let mut steps = vec![
        dir(ETC, 0o755, "root", "root"),
        dir(LIB, 0o755, "root", "root"),
        dir(DATA, 0o755, "root", "root"),
        dir("/var/lib/stead/launcher", 0o700, "root", "root"),
        dir("/var/lib/stead/work", 0o711, "root", "root"),
        dir("/var/lib/stead/run", 0o1775, "root", run_group),
    ];
    if supervisor {
        steps.push(dir("/var/lib/stead/supervisor", 0o700, "stead", "stead"));
    }
    if worker {
        steps.push(dir("/var/lib/stead/worker", 0o700, "stead-worker", "stead-worker"));
    }
    steps
}

fn programs_at(programs: &Programs) -> Vec<Step> {
    let program =
        |from: &PathBuf, name: &str, mode| Step::Program { from: from.clone(), to: format!("{LIB}/{name}"), mode };
    vec![
        program(&programs.stead, "stead", 0o755),
        program(&programs.launcher, "stead-launcher", 0o755),
        // Not readable: a session starts non-dumpable, so that others of its account can't trace it.
        program(&programs.session, "stead-session", 0o711),
    ]
}

fn start(place: &Place, supervisor: bool, units: &[&str]) -> Vec<Step> {
    let command = |words: &[&str]| Step::Command { words: words.iter().map(|w| (*w).to_owned()).collect() };
    let mut steps = Vec::new();
    if !place.live || !has_systemd() {
        return steps;
    }
    if supervisor {
        steps.push(command(&["systemd-tmpfiles", "--create", TMPFILES]));
    }
    steps.push(command(&["systemctl", "daemon-reload"]));
    // None on a host that is switched to desktop mode.
    if !units.is_empty() {
        steps.push(command(&[&["systemctl", "enable", "--quiet"], units].concat()));
        steps.push(command(&[&["systemctl", "restart"], units].concat()));
    }
    steps
}

fn manifest(place: &Place) -> Made {
    let text = std::fs::read_to_string(place.at(MANIFEST)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn write_manifest(place: &Place, made: &Made) -> Result<(), Failure> {
    let path = place.at(MANIFEST);
    if !path.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    let text = serde_json::to_string_pretty(made).map_err(|e| Failure::Answer(e.to_string()))?;
    std::fs::write(&path, text).map_err(|e| Failure::file("write", path, e))
}

// --- back

pub(crate) fn uninstall(options: &Uninstall) -> Result<(), Failure> {
    if options.part == Part::Desktop {
        return uninstall_desktop(&options.how);
    }
    let place = place(&options.how)?;
    let manifest_path = place.at(MANIFEST);
    if !manifest_path.is_file() {
        return Err(Failure::Refused {
            rule: "only_what_was_installed",
            text: format!("{} is missing: nothing was installed here by `stead install`", manifest_path.display()),
            hint: "files of a package are removed by the package's own tool".into(),
        });
    }
    let mut made = manifest(&place);
    let going = going(options, &place, &made);
    tell(&going.iter().map(Undo::say).collect::<Vec<_>>(), &options.how);
    if options.how.dry_run {
        return Ok(());
    }
    for undo in &going {
        undo.act(&mut made)?;
    }
    // With every program gone, their folder goes too.
    let lib = place.at(LIB);
    if std::fs::remove_dir(&lib).is_ok() {
        made.dirs.retain(|p| *p != lib);
    }
    write_manifest(&place, &made)
}

#[derive(Debug)]
enum Undo {
    Command(Vec<String>),
    File(PathBuf),
    Settings(PathBuf),
    Data(PathBuf),
    Dir(PathBuf),
    Account(String),
}

impl Undo {
    fn say(&self) -> String {
        match self {
            Self::Command(words) => words.join(" "),
            Self::File(path) | Self::Settings(path) | Self::Dir(path) => format!("remove {}", path.display()),
            Self::Data(path) => format!("remove {} and all jobs in it", path.display()),
            Self::Account(name) => format!("remove the account {name}"),
        }
    }

    fn act(&self, made: &mut Made) -> Result<(), Failure> {
        match self {
            // What is not there any more can't be stopped, and needs not be.
            Self::Command(words) => {
                let _ = steps::run(words);
            }
            Self::File(path) => {
                remove(path)?;
                made.files.retain(|p| p != path);
            }
            Self::Settings(path) => {
                remove(path)?;
                made.settings.retain(|p| p != path);
            }
            Self::Data(path) => {
                farm::clear(path)?;
                made.dirs.retain(|p| !p.starts_with(path));
            }
            Self::Dir(path) => {
                // Not ours alone when something is left in it.
                let _ = std::fs::remove_dir(path);
                made.dirs.retain(|p| p != path);
            }
            Self::Account(name) => {
                let home = Path::new("/var/lib").join(name);
                steps::run(&["userdel".into(), name.clone()])?;
                if home.is_dir() {
                    farm::clear(&home)?;
                }
                made.accounts.retain(|n| n != name);
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Failure::file("remove", path, e)),
        _ => Ok(()),
    }
}

fn going(options: &Uninstall, place: &Place, made: &Made) -> Vec<Undo> {
    let of = |path: &Path| belongs(options.part, path);
    let units: Vec<String> = made
        .files
        .iter()
        .filter(|f| of(f) && f.extension().is_some_and(|e| e == "service"))
        .filter_map(|f| f.file_name().and_then(|n| n.to_str()).map(Into::into))
        .collect();
    let mut going = Vec::new();
    let live_units = place.live && has_systemd() && !units.is_empty();
    if live_units {
        let words = ["systemctl", "disable", "--now", "--quiet"].map(Into::into);
        going.push(Undo::Command(words.into_iter().chain(units).collect()));
    }
    going.extend(made.files.iter().filter(|f| of(f)).cloned().map(Undo::File));
    if live_units {
        going.push(Undo::Command(["systemctl", "daemon-reload"].map(Into::into).to_vec()));
    }
    if options.purge {
        going.extend(made.settings.iter().filter(|f| of(f)).cloned().map(Undo::Settings));
        let data = place.at(DATA);
        if options.part == Part::All && data.is_dir() && made.dirs.contains(&data) {
            going.push(Undo::Data(data));
        }
        let dirs = made.dirs.iter().rev().filter(|d| options.part == Part::All && !d.starts_with(place.at(DATA)));
        going.extend(dirs.cloned().map(Undo::Dir));
        going.extend(made.accounts.iter().filter(|n| account_of(options.part, n)).cloned().map(Undo::Account));
    }
    going
}

/// Which part a file is of; programs are needed by every part and go with the last.
fn belongs(part: Part, path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let supervisor =
        ["stead-supervisor.service", "stead-checker.service", "supervisor.toml", "stead.conf"].contains(&name);
    let worker = [
        "stead-worker.service",
        "stead-launcher.service",
        "worker.toml",
        "launcher.conf",
        "stead-desktop-worker.desktop",
        "desktop-owners",
    ]
    .contains(&name);
    match part {
        Part::All => true,
        Part::Supervisor => supervisor,
        Part::Worker => worker,
        Part::Desktop => false,
    }
}

fn account_of(part: Part, name: &str) -> bool {
    match part {
        Part::All => true,
        Part::Supervisor => name == "stead",
        Part::Worker => name != "stead",
        Part::Desktop => false,
    }
}

// --- a person's own

fn autostart_file(how: &InstallHow) -> Result<PathBuf, Failure> {
    if nix::unistd::geteuid().is_root() && how.root.is_none() {
        return Err(Failure::Refused {
            rule: "desktop_never_root",
            text: "a desktop worker is a person's own, and root is nobody's person".into(),
            hint: "type it as the person whose worker it is to be".into(),
        });
    }
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|h| h.join(".config")));
    let config = config.ok_or_else(|| Failure::usage("neither HOME nor XDG_CONFIG_HOME is set"))?;
    let config = match &how.root {
        Some(root) => root.join(config.strip_prefix("/").unwrap_or(&config)),
        None => config,
    };
    Ok(config.join(AUTOSTART))
}

fn install_desktop(how: &InstallHow) -> Result<(), Failure> {
    let path = autostart_file(how)?;
    let programs = Programs::beside_this_one()?;
    tell(&[format!("write {}", path.display())], how);
    if how.dry_run {
        return Ok(());
    }
    let step = Step::Owned { path: String::new(), text: files::autostart(&programs.stead.display().to_string()) };
    let place = Place { root: path, live: false };
    step.act(&place, &mut Made::default())
}

fn uninstall_desktop(how: &InstallHow) -> Result<(), Failure> {
    let path = autostart_file(how)?;
    tell(&[format!("remove {}", path.display())], how);
    if how.dry_run { Ok(()) } else { remove(&path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn staged() -> (tempfile::TempDir, Place, Vec<Step>) {
        let dir = tempfile::tempdir().expect("tempdir");
        let programs = dir.path().join("build");
        std::fs::create_dir(&programs).expect("dir");
        for name in ["stead", "stead-launcher", "stead-session"] {
            std::fs::write(programs.join(name), name).expect("file");
        }
        let place = Place { root: dir.path().join("root"), live: false };
        let programs = Programs {
            stead: programs.join("stead"),
            launcher: programs.join("stead-launcher"),
            session: programs.join("stead-session"),
        };
        let mut steps = accounts(true, true);
        steps.extend(folders(true, true));
        steps.extend(programs_at(&programs));
        steps.extend(names());
        steps.push(Step::Settings { path: format!("{ETC}/worker.toml"), text: files::worker_toml("w") });
        steps.push(Step::Owned { path: format!("{UNITS}/stead-worker.service"), text: files::worker_unit() });
        steps.push(Step::Keys);
        (dir, place, steps)
    }

    fn act_all(place: &Place, steps: &[Step]) -> Made {
        let mut made = manifest(place);
        for step in steps {
            step.act(place, &mut made).expect("done");
        }
        write_manifest(place, &made).expect("written");
        made
    }

    fn mode(place: &Place, path: &str) -> u32 {
        std::fs::metadata(place.at(path)).expect(path).permissions().mode() & 0o7777
    }

    #[test]
    fn a_second_time_changes_nothing_and_keeps_settings_and_keys() {
        let (_dir, place, steps) = staged();
        let first = act_all(&place, &steps);
        let key = std::fs::read(place.at("/var/lib/stead/supervisor/warrant.key")).expect("key");
        std::fs::write(place.at("/etc/stead/worker.toml"), "mine").expect("edit");
        std::fs::write(place.at("/etc/systemd/system/stead-worker.service"), "broken").expect("edit");
        assert_eq!(act_all(&place, &steps), first);
        assert_eq!(std::fs::read(place.at("/var/lib/stead/supervisor/warrant.key")).expect("key"), key);
        assert_eq!(std::fs::read_to_string(place.at("/etc/stead/worker.toml")).expect("conf"), "mine");
        assert_ne!(
            std::fs::read_to_string(place.at("/etc/systemd/system/stead-worker.service")).expect("unit"),
            "broken"
        );
    }

    #[test]
    fn modes_are_as_the_launcher_expects_them() {
        let (_dir, place, steps) = staged();
        act_all(&place, &steps);
        for (path, expected) in [
            ("/var/lib/stead/supervisor", 0o700),
            ("/var/lib/stead/worker", 0o700),
            ("/var/lib/stead/launcher", 0o700),
            ("/var/lib/stead/work", 0o711),
            ("/var/lib/stead/run", 0o1775),
            ("/var/lib/stead/supervisor/warrant.key", 0o600),
            ("/usr/local/lib/stead/stead-session", 0o711),
        ] {
            assert_eq!(mode(&place, path), expected, "{path}");
        }
    }

    #[test]
    fn the_pinned_key_is_the_supervisors() {
        let (_dir, place, steps) = staged();
        act_all(&place, &steps);
        let read = |p: &str| std::fs::read_to_string(place.at(p)).expect(p).trim().to_owned();
        let seed: [u8; 32] =
            warrant::unhex(&read("/var/lib/stead/supervisor/warrant.key")).expect("hex").try_into().expect("32");
        let public = warrant::SecretKey::from_seed(&seed).public().to_bytes();
        assert_eq!(read("/var/lib/stead/launcher/trusted.keys"), warrant::hex(&public));
        assert_eq!(read("/var/lib/stead/launcher/farm"), read("/var/lib/stead/supervisor/farm"));
    }

    #[test]
    fn uninstalling_undoes_what_was_made_and_keeps_data_unless_purged() {
        let undo = |purge: bool| {
            let (dir, place, steps) = staged();
            std::fs::create_dir_all(place.at(ETC)).expect("theirs");
            std::fs::write(place.at("/etc/stead/theirs"), "x").expect("theirs");
            act_all(&place, &steps);
            let how = InstallHow { root: Some(place.root.clone()), dry_run: false, json: true };
            uninstall(&Uninstall { part: Part::All, purge, how }).expect("uninstalled");
            (dir, place)
        };
        let (_dir, place) = undo(false);
        assert!(!place.at(LIB).exists() && std::fs::symlink_metadata(place.at(BIN)).is_err());
        assert!(!place.at("/etc/systemd/system/stead-worker.service").exists());
        assert!(
            place.at("/etc/stead/worker.toml").exists() && place.at("/var/lib/stead/supervisor/warrant.key").exists()
        );
        // What is left is still known.
        let left = manifest(&place);
        assert!(left.files.is_empty() && left.settings.len() == 1 && left.dirs.contains(&place.at(DATA)), "{left:?}");
        // Root removes folders of others only as those others, which a test as root can't be here.
        if !nix::unistd::geteuid().is_root() {
            let (_dir, place) = undo(true);
            assert!(!place.at(DATA).exists() && !place.at("/etc/stead/worker.toml").exists());
            assert!(place.at("/etc/stead/theirs").exists());
        }
    }

    #[test]
    fn a_worker_without_its_supervisor_is_refused_not_half_installed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let install_worker = || {
            let how = InstallHow { root: Some(dir.path().into()), dry_run: true, json: true };
            install(&Install { part: Part::Worker, how })
        };
        let refused = install_worker().expect_err("no supervisor");
        assert!(matches!(refused, Failure::Refused { rule: "worker_beside_supervisor", .. }), "{refused:?}");
        let units = dir.path().join(UNITS.trim_start_matches('/'));
        std::fs::create_dir_all(&units).expect("units");
        std::fs::write(units.join("stead-supervisor.service"), "").expect("unit");
        // Beside the tests there are no programs, which is what is missed next.
        let next = install_worker();
        assert!(!matches!(next, Err(Failure::Refused { rule: "worker_beside_supervisor", .. })), "{next:?}");
        assert!(!dir.path().join("etc/stead").exists());
    }

    #[test]
    fn qubes_names_are_links_unless_something_else_is_there() {
        let (_dir, place, steps) = staged();
        let (sub, jobs) = (place.at("/usr/local/bin/qbsub"), place.at("/usr/local/bin/qbjobs"));
        std::fs::create_dir_all(sub.parent().expect("a folder")).expect("a folder");
        std::fs::write(&sub, "Qube!'s own").expect("a file");
        std::os::unix::fs::symlink("/usr/local/pfx/qube/bin/qbjobs", &jobs).expect("a link");
        act_all(&place, &steps);
        let made = act_all(&place, &steps);
        assert_eq!(std::fs::read_to_string(&sub).expect("a file"), "Qube!'s own");
        assert_eq!(std::fs::read_link(&jobs).expect("a link"), Path::new("/usr/local/pfx/qube/bin/qbjobs"));
        let kill = place.at("/usr/local/bin/qbkill");
        assert_eq!(std::fs::read_link(&kill).expect("a link"), Path::new(&format!("{LIB}/stead")));
        assert!(made.files.contains(&kill) && !made.files.contains(&sub) && !made.files.contains(&jobs));
    }

    #[test]
    fn nothing_is_uninstalled_that_was_not_installed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let how = InstallHow { root: Some(dir.path().into()), dry_run: false, json: true };
        assert_eq!(uninstall(&Uninstall { part: Part::All, purge: true, how }).map_err(|e| e.exit()), Err(3));
    }
}
