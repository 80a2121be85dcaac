//! `stead run examples/tour`: the same job again and again, each time as somebody else.
//!
//! As root, the tour's people exist only in a private mount namespace. Root's own process here reads nothing of the
//! tour: one that became nobody reads it and says what scenes there are, one per scene plays it, one that became
//! nobody writes the page at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use job::JobSpec;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode as Bits;
use nix::unistd::{User, chown};
use serde::{Deserialize, Serialize};
use warrant::{AccountName, Mode};

use super::guard::{self, attend, collect, temporary};
use super::handover::{self, FOLDER, OutDir};
use super::host::{Host, HostPlan, inheritable};
use super::identity;
use super::oneshot::{Part, inner_setup, mode_arg, on_desktop, on_host};
use super::play::{Outcome, Show, Submitter};
use super::programs::{Programs, myself};
use super::report::{self, Line};
use super::setup::Setup;
use crate::cli::Run;
use crate::failure::Failure;
use crate::out::{self, Colour, Target};
use crate::submission::{Input, request};

const FILE: &str = "tour.toml";
/// Most bytes of what the reading process says.
const PLAN_MAX: u64 = 1 << 20;
/// Daemons that would answer for accounts behind the private files' back: their sockets' folders are hidden.
const NAME_SERVICES: [&str; 4] = ["/run/nscd", "/run/nslcd", "/var/lib/sss/pipes", "/run/systemd/userdb"];

/// `tour.toml`; its head says what the keys mean.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tour {
    passwd: Option<String>,
    group: Option<String>,
    proxy_account: Option<String>,
    #[serde(default)]
    scene: Vec<Scene>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scene {
    title: String,
    mode: String,
    submit_as: String,
    act_as: Option<String>,
    template: String,
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    caption: String,
    outputs: Option<String>,
}

/// What root needs to know of a tour, and no more.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    passwd: String,
    group: String,
    proxy_account: Option<String>,
    scenes: Vec<Cast>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Cast {
    mode: String,
    submit_as: String,
    act_as: Option<String>,
    outputs: Option<String>,
}

/// A scene's report, for the last page.
#[derive(Debug, Serialize, Deserialize)]
struct Played {
    number: usize,
    title: String,
    caption: String,
    folder: String,
    lines: Vec<Line>,
}

pub(super) fn tour(options: &Run) -> Result<(), Failure> {
    let target = options.target.clone().unwrap_or_default();
    let absent = |e| Failure::Input { file: target.display().to_string(), text: format!("can't be opened: {e}") };
    let folder: OwnedFd = File::open(&target).map_err(absent)?.into();
    if nix::unistd::geteuid().is_root() { by_root(options, folder) } else { by_a_person(options, &folder) }
}

// --- reading

fn open_in(folder: BorrowedFd<'_>, name: &str) -> Result<Input, Failure> {
    let fail = |text: String| Failure::Input { file: name.into(), text };
    if name.contains('/') || name == ".." {
        return Err(fail("belongs beside tour.toml".into()));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = openat(folder, name, flags, Bits::empty()).map_err(|e| fail(format!("can't be opened: {e}")))?;
    Ok(Input::of(name, file.into()))
}

fn load(folder: BorrowedFd<'_>) -> Result<Tour, Failure> {
    let text = open_in(folder, FILE)?.read()?.into_text();
    let tour: Tour = toml::from_str(&text)
        .map_err(|e| Failure::Input { file: FILE.into(), text: e.to_string().trim_end().into() })?;
    for scene in &tour.scene {
        let wrong =
            |text: String| Failure::Input { file: FILE.into(), text: format!("scene {:?}: {text}", scene.title) };
        Mode::parse(&scene.mode).ok_or_else(|| wrong(format!("mode = {:?} is no mode", scene.mode)))?;
        AccountName::parse(&scene.submit_as).map_err(|e| wrong(format!("submit_as = {:?}: {e}", scene.submit_as)))?;
        if let Some(name) = &scene.act_as {
            AccountName::parse(name).map_err(|e| wrong(format!("act_as = {name:?}: {e}")))?;
            if scene.mode == "desktop" {
                return Err(wrong("act_as has no place in desktop mode: everything runs as its owner".into()));
            }
        }
    }
    Ok(tour)
}

fn scene_request(folder: BorrowedFd<'_>, scene: &Scene) -> Result<serde_json::Value, Failure> {
    let template = open_in(folder, &scene.template)?.read()?.into_text();
    let spec = JobSpec::template(template, scene.parameters.clone());
    job::Plan::new(&spec).map_err(|e| Failure::Input { file: scene.template.clone(), text: e.to_string() })?;
    request(&spec, &crate::cli::JobOptions::default())
}

/// The process that reads for root: its standard input is the tour's folder.
pub(crate) fn read() -> Result<(), Failure> {
    identity::become_nobody()?;
    let stdin = std::io::stdin();
    let folder = stdin.as_fd();
    let tour = load(folder)?;
    let text = |name: &Option<String>| match name {
        Some(name) => Ok(open_in(folder, name)?.read()?.into_text()),
        None => Ok(String::new()),
    };
    let cast = |s: &Scene| Cast {
        mode: s.mode.clone(),
        submit_as: s.submit_as.clone(),
        act_as: s.act_as.clone(),
        outputs: s.outputs.clone(),
    };
    let plan = Plan {
        passwd: text(&tour.passwd)?,
        group: text(&tour.group)?,
        proxy_account: tour.proxy_account.clone(),
        scenes: tour.scene.iter().map(cast).collect(),
    };
    out::say(serde_json::to_string(&plan).map_err(|e| Failure::Answer(e.to_string()))?);
    Ok(())
}

// --- as a person

fn by_a_person(options: &Run, folder: &OwnedFd) -> Result<(), Failure> {
    let tour = load(folder.as_fd())?;
    let scenes: Vec<_> = tour.scene.iter().filter(|s| s.mode == "desktop").enumerate().collect();
    if scenes.is_empty() {
        return Err(Failure::Input {
            file: FILE.into(),
            text: "has no desktop scene, and the others need root".into(),
        });
    }
    out::note(
        "Not root: desktop mode only, and you play the person's part. As root, the same job is played by all of them.\n",
    );
    let gallery = OutDir::create(&options.out, "tour")?;
    let mut all = Vec::new();
    for (number, scene) in scenes {
        let request = scene_request(folder.as_fd(), scene)?;
        let data = temporary(&std::env::temp_dir(), 0o700)?;
        let setup = person_setup(options, data.clone())?;
        announce(number, &scene.title);
        let outcome = crate::single_threaded(on_desktop(&setup, None, &request, Show::Bar));
        let result = outcome.and_then(|outcome| {
            let name = scene_folder(number, &scene.mode);
            let out = gallery.within(&name)?;
            collect(&data, scene.outputs.as_deref(), &out)?;
            out.hand_over()?;
            conclude(scene, &outcome);
            all.push(played(number, scene, &name, &outcome));
            outcome.result()
        });
        handover::clear(&data).and(result)?;
    }
    let mut page = gallery.file("index.html")?;
    last_page(&mut page, &all)?;
    gallery.hand_over()?;
    say_where(&gallery.path, &all);
    Ok(())
}

fn person_setup(options: &Run, data: PathBuf) -> Result<Setup, Failure> {
    let mut farm = options.farm.clone();
    farm.mode = Some(mode_arg(Mode::Desktop));
    Ok(Setup::new(&farm, data, false, farm.listen.clone().unwrap_or("127.0.0.1:0".into()))?.quiet())
}

fn scene_folder(number: usize, mode: &str) -> String {
    format!("{}-{mode}", number + 1)
}

fn announce(number: usize, title: &str) {
    let title = out::paint(&out::plain(title), Colour::Bold, out::colours());
    out::say(format!("{}. {title}", number + 1));
}

fn conclude(scene: &Scene, outcome: &Outcome) {
    out::say(report::table(&outcome.lines, &Target::stdout()));
    out::say(format!("{}\n", out::plain(&scene.caption)));
}

fn played(number: usize, scene: &Scene, folder: &str, outcome: &Outcome) -> Played {
    Played {
        number,
        title: scene.title.clone(),
        caption: scene.caption.clone(),
        folder: folder.into(),
        lines: outcome.lines.clone(),
    }
}

// --- as root

fn by_root(options: &Run, folder: OwnedFd) -> Result<(), Failure> {
    let programs = Programs::beside_this_one()?;
    let plan = read_by_nobody(&folder)?;
    let gallery = OutDir::create(&options.out, "tour")?;
    let base = temporary(Path::new("/tmp"), 0o755)?;
    let played = (|| {
        stage(&base, &plan, &programs)?;
        play_all(options, &plan, folder, &base, &gallery)
    })();
    // The namespace's mounts hold what is below; they end with this process.
    let cleared = clear_stage(&base);
    gallery.hand_over()?;
    played.and(cleared)
}

fn read_by_nobody(folder: &OwnedFd) -> Result<Plan, Failure> {
    let fail = |e| Failure::system("start the process that reads the tour", e);
    let stdin = folder.try_clone().map_err(fail)?;
    let mut child =
        myself().args(["internal", "read-tour"]).stdin(stdin).stdout(Stdio::piped()).spawn().map_err(fail)?;
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(PLAN_MAX).read_to_end(&mut text).map_err(fail)?;
    }
    match child.wait().map_err(fail)?.code() {
        Some(0) => {}
        code => return Err(Failure::Reported(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(1))),
    }
    let plan: Plan = serde_json::from_slice(&text).map_err(|e| Failure::Answer(e.to_string()))?;
    for scene in &plan.scenes {
        for name in std::iter::once(&scene.submit_as).chain(&scene.act_as) {
            AccountName::parse(name).map_err(|e| Failure::Answer(e.to_string()))?;
        }
    }
    Ok(plan)
}

/// A mount namespace of our own, in which the tour's people exist. Nothing of it is seen outside.
fn stage(base: &Path, plan: &Plan, programs: &Programs) -> Result<(), Failure> {
    let fail = |what| move |e: nix::Error| Failure::system(what, e);
    unshare(CloneFlags::CLONE_NEWNS).map_err(fail("make a private mount namespace"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(fail("make the mounts private"))?;
    let etc = base.join("etc");
    std::fs::create_dir(&etc).map_err(|e| Failure::file("create the folder", &etc, e))?;
    let nsswitch = "passwd: files\ngroup: files\nshadow: files\nhosts: files\n";
    for (name, text) in [("passwd", plan.passwd.as_str()), ("group", &plan.group), ("nsswitch.conf", nsswitch)] {
        let (file, over) = (etc.join(name), Path::new("/etc").join(name));
        std::fs::write(&file, text).map_err(|e| Failure::file("write", &file, e))?;
        if over.exists() {
            mount(Some(&file), &over, none, MsFlags::MS_BIND, none).map_err(fail("mount the tour's accounts"))?;
        }
    }
    for hidden in NAME_SERVICES.iter().filter(|dir| Path::new(dir).is_dir()) {
        mount(Some("none"), *hidden, Some("tmpfs"), MsFlags::empty(), none).map_err(fail("hide a name service"))?;
    }
    // The tour's people can't pass a private home, where the programs may be.
    let (from, to) = (programs.stead.parent().unwrap_or(Path::new("/")), base.join("bin"));
    std::fs::create_dir(&to).map_err(|e| Failure::file("create the folder", &to, e))?;
    mount(Some(from), &to, none, MsFlags::MS_BIND, none).map_err(fail("mount the programs"))
}

fn clear_stage(base: &Path) -> Result<(), Failure> {
    // Lazily: nothing of ours uses it any more. When it was never mounted there is nothing to undo.
    let _ = nix::mount::umount2(&base.join("bin"), nix::mount::MntFlags::MNT_DETACH);
    for name in ["passwd", "group", "nsswitch.conf"] {
        let _ = nix::mount::umount2(&Path::new("/etc").join(name), nix::mount::MntFlags::MNT_DETACH);
    }
    guard::clear(base)
}

fn play_all(options: &Run, plan: &Plan, folder: OwnedFd, base: &Path, gallery: &OutDir) -> Result<(), Failure> {
    let fail = |e| Failure::system("start the process that writes the page", e);
    let (reports, write_end) = std::io::pipe().map_err(fail)?;
    // The page travels as standard error: a descriptor that needs no number.
    let page = gallery.file("index.html")?;
    let mut presenter =
        myself().args(["internal", "present-tour"]).stdin(reports).stderr(page).spawn().map_err(fail)?;
    let (folder, reports) = (inheritable(folder)?, inheritable(write_end.into())?);
    let mut result = Ok(());
    for (number, cast) in plan.scenes.iter().enumerate() {
        result = play_one(options, plan, number, cast, (&folder, &reports), base, gallery);
        if result.is_err() {
            break;
        }
    }
    drop(reports);
    let presented = presenter.wait().map_err(fail)?;
    out::say(format!("\n{}", gallery.path.join("index.html").display()));
    match (result, presented.success()) {
        (Ok(()), true) => Ok(()),
        (Ok(()), false) => Err(Failure::Reported(1)),
        (failed, _) => failed,
    }
}

fn play_one(
    options: &Run,
    plan: &Plan,
    number: usize,
    cast: &Cast,
    (folder, reports): (&OwnedFd, &OwnedFd),
    base: &Path,
    gallery: &OutDir,
) -> Result<(), Failure> {
    let data = temporary(base, 0o755)?;
    let mut command = Command::new(base.join("bin/stead"));
    command.args(["run", "--inner"]).arg(&data);
    command.args(["--scene", &number.to_string(), "--out-path", &scene_folder(number, &cast.mode)]);
    command.args(["--tour-fd", &folder.as_raw_fd().to_string(), "--report-fd", &reports.as_raw_fd().to_string()]);
    command.args(["--mode", &cast.mode]);
    command.args(cast.act_as.iter().map(|name| format!("--as={name}")));
    if let Some(slots) = options.farm.slots {
        command.args(["--slots", &slots.to_string()]);
    }
    match cast.mode.as_str() {
        "desktop" => {
            as_desktop_owner(&mut command, &cast.submit_as, &data)?;
        }
        "proxy" => {
            let account = plan.proxy_account.as_deref().unwrap_or("qubeproxy");
            command.args(["--proxy-account", account, "--submit-as", &cast.submit_as]);
        }
        _ => {
            command.args(["--submit-as", &cast.submit_as]);
        }
    }
    attend(command)?;
    let out = gallery.within(&scene_folder(number, &cast.mode))?;
    collect(&data, cast.outputs.as_deref(), &out)?;
    out.hand_over()
}

/// The scene's process becomes the owner of a farm: the folder and the environment are that person's.
fn as_desktop_owner(command: &mut Command, account: &str, data: &Path) -> Result<(), Failure> {
    let user = User::from_name(account)
        .map_err(|e| Failure::system("look up the tour's people", e))?
        .filter(|user| !user.uid.is_root())
        .ok_or_else(|| Failure::Identity(format!("the tour's passwd has no person {account}")))?;
    chown(data, Some(user.uid), Some(user.gid)).map_err(|e| Failure::file("give away", data, e))?;
    command.args(["--become-account", account]).env_clear();
    for name in ["PATH", "TERM", "LANG", "NO_COLOR", "COLUMNS", "RUST_LOG"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("HOME", &user.dir).env("USER", account).env("LOGNAME", account).env("SHELL", &user.shell);
    Ok(())
}

/// One scene, in the process that plays it. It is root until the account it needs is in place.
pub(super) fn scene(options: &Run) -> Result<(), Failure> {
    let inner = &options.inner;
    let folder = reopen(inner.tour_fd, OFlag::O_RDONLY | FOLDER)?;
    let mut report = File::from(reopen(inner.report_fd, OFlag::O_WRONLY)?);
    let number = inner.scene.unwrap_or_default();
    let outcome = match (&inner.become_account, &inner.submit_as) {
        (Some(account), _) => {
            identity::become_account(account)?;
            let setup = inner_setup(options)?;
            let (scene, request) = numbered(folder.as_fd(), number)?;
            announce(number, &scene.title);
            (crate::single_threaded(on_desktop(&setup, None, &request, Show::Bar))?, scene)
        }
        (None, account) => {
            let setup = inner_setup(options)?;
            let programs = Programs::beside_this_one()?;
            let plan = HostPlan { setup: &setup, programs: &programs, end_sessions: true };
            let socket = setup.socket();
            let acting_as = options.acting.acting_as.clone();
            let helper = || account.as_deref().map(|a| Submitter::helper(a, acting_as.as_deref(), &socket)).transpose();
            let (host, helper) = Host::start_with(&plan, helper)?;
            let (scene, request) = numbered(folder.as_fd(), number)?;
            announce(number, &scene.title);
            let grant_to = acting_as.as_ref().and(account.clone());
            let part = Part { helper, acting_as, grant_to };
            (crate::single_threaded(on_host(host, &setup, part, &request, Show::Bar))?, scene)
        }
    };
    let (outcome, scene) = outcome;
    conclude(&scene, &outcome);
    let played = played(number, &scene, inner.out_path.as_deref().unwrap_or(""), &outcome);
    let line = serde_json::to_string(&played).map_err(|e| Failure::Answer(e.to_string()))?;
    writeln!(report, "{line}").map_err(|e| Failure::system("report the scene", e))?;
    outcome.result()
}

fn numbered(folder: BorrowedFd<'_>, number: usize) -> Result<(Scene, serde_json::Value), Failure> {
    let tour = load(folder)?;
    let scene = tour.scene.into_iter().nth(number);
    let scene =
        scene.ok_or_else(|| Failure::Input { file: FILE.into(), text: format!("has no scene {}", number + 1) })?;
    let request = scene_request(folder, &scene)?;
    Ok((scene, request))
}

/// A descriptor that was left open for us, as one that closes with an exec.
fn reopen(number: Option<i32>, flags: OFlag) -> Result<OwnedFd, Failure> {
    let path = format!("/proc/self/fd/{}", number.unwrap_or(-1));
    let flags = (flags - OFlag::O_NOFOLLOW) | OFlag::O_CLOEXEC;
    nix::fcntl::open(path.as_str(), flags, Bits::empty()).map_err(|e| Failure::system("use an open descriptor", e))
}

// --- the last page

/// The process that presents: it reads reports from its standard input and writes the page to its standard error.
pub(crate) fn present() -> Result<(), Failure> {
    identity::become_nobody()?;
    let mut all = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Failure::system("read the scenes' reports", e))?;
        all.push(serde_json::from_str::<Played>(&line).map_err(|e| Failure::Answer(e.to_string()))?);
    }
    say_table(&all);
    last_page(&mut std::io::stderr().lock(), &all)
}

fn say_table(all: &[Played]) {
    let rows: Vec<Vec<String>> = all
        .iter()
        .flat_map(|p| {
            p.lines.iter().map(move |line| {
                let mut row = vec![(p.number + 1).to_string()];
                row.extend(line.cells());
                row
            })
        })
        .collect();
    let headers: Vec<&str> = std::iter::once("SCENE").chain(report::HEADERS).collect();
    out::say(out::table_or_blocks(&headers, &rows, Some(2), &Target::stdout()));
}

fn say_where(gallery: &Path, all: &[Played]) {
    if all.len() > 1 {
        say_table(all);
    }
    out::say(gallery.join("index.html").display());
    for played in all {
        out::say(gallery.join(&played.folder).join("sheet.png").display());
    }
}

fn last_page(to: &mut impl Write, all: &[Played]) -> Result<(), Failure> {
    to.write_all(page(all).as_bytes()).map_err(|e| Failure::system("write the page", e))
}

fn page(all: &[Played]) -> String {
    let mut html = String::from(HEAD);
    for played in all {
        let folder = html_text(&played.folder);
        html += &format!(
            "<section><h2>{}. {}</h2><p>{}</p>\n<a href=\"{folder}/index.html\"><img src=\"{folder}/sheet.png\" alt=\"contact sheet\"></a>\n<table><tr>",
            played.number + 1,
            html_text(&played.title),
            html_text(&played.caption)
        );
        report::HEADERS.iter().for_each(|h| html += &format!("<th>{}</th>", html_text(h)));
        for line in &played.lines {
            html += "</tr>\n<tr>";
            line.cells().iter().for_each(|c| html += &format!("<td>{}</td>", html_text(c)));
        }
        html += "</tr></table></section>\n";
    }
    html
}

const HEAD: &str = "<!doctype html>
<meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">
<title>Who ran what, and why</title>
<style>
:root { color-scheme: dark; background: #18181c; color: #e8e6e3; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin: 2.5rem 0 .3rem } p { color: #aaa8a4; margin: 0 0 .8rem }
img { width: 100%; border-radius: 6px; display: block }
table { border-collapse: collapse; margin-top: .8rem; font-size: .85rem; width: 100% }
th { text-align: left; color: #8d8b87; font-weight: 500 } th, td { padding: .25rem .8rem .25rem 0; vertical-align: top }
section { overflow-x: auto }
</style>
<h1>The same job, as different people</h1>
<p>A picture leads to its animation. Each table says as whom the job's processes really ran, as it was read back from
the kernel, who attests that, and which rule decided it.</p>
";

fn html_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("tempdir");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("file");
        }
        let fd = File::open(dir.path()).expect("folder").into();
        (dir, fd)
    }

    const SCENE: &str = "[[scene]]\ntitle='t'\nmode='user'\nsubmit_as='ada'\ntemplate='j.yaml'\ncaption='c'\n";

    #[test]
    fn a_tour_is_read_strictly() {
        let read = |text: &str| {
            let (_dir, fd) = folder(&[(FILE, text)]);
            load(fd.as_fd()).map(|t| t.scene.len()).map_err(|e| e.to_string())
        };
        assert_eq!(read(SCENE), Ok(1));
        assert!(read(&SCENE.replace("user", "root")).is_err_and(|e| e.contains("no mode")));
        assert!(read(&SCENE.replace("ada", "a b")).is_err_and(|e| e.contains("submit_as")));
        let acting = |mode: &str, name: &str| read(&format!("{}act_as='{name}'\n", SCENE.replace("user", mode)));
        assert_eq!(acting("user", "render"), Ok(1));
        assert!(acting("user", "-x").is_err_and(|e| e.contains("act_as")));
        assert!(acting("desktop", "render").is_err_and(|e| e.contains("desktop")));
        assert!(read("colour = 1").is_err_and(|e| e.contains("colour")));
    }

    #[test]
    fn a_tour_reaches_only_what_is_beside_it() {
        let (_dir, fd) = folder(&[]);
        for name in ["../x", "/etc/passwd", ".."] {
            assert!(open_in(fd.as_fd(), name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_tour_of_the_examples_is_one() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tour");
        let fd: OwnedFd = File::open(examples).expect("the example").into();
        let tour = load(fd.as_fd()).expect("a tour");
        let modes: Vec<_> = tour.scene.iter().map(|s| s.mode.as_str()).collect();
        assert_eq!(modes, ["user", "user", "proxy", "user", "desktop"]);
        for scene in &tour.scene {
            scene_request(fd.as_fd(), scene).expect("a job");
        }
    }

    #[test]
    fn nothing_of_a_report_is_markup() {
        let played = Played {
            number: 0,
            title: "<script>".into(),
            caption: "\"&".into(),
            folder: "1-user".into(),
            lines: Vec::new(),
        };
        let html = page(&[played]);
        assert!(html.contains("&lt;script&gt;") && html.contains("&quot;&amp;") && !html.contains("<script>"));
    }
}
