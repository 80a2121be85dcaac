//! Real frames: POV-Ray as two people and as the proxy account, and the tour with nothing but a shell.

use e2e::{Farm, JobId, Stage, programs_or_skip, root_or_skip};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const FRAMES: usize = 24;

/// The example's template, handed in like a person's own file.
fn example(farm: &Farm, name: &str) -> String {
    let text = std::fs::read(repository().join("examples").join(name)).expect("the example");
    let inside = format!("/tmp/{}", name.replace('/', "-"));
    std::fs::write(farm.path(&inside), text).expect("a template");
    inside
}

fn repository() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("a workspace").to_owned()
}

/// Renders POV-Ray's example and looks at every frame.
#[track_caller]
fn renders(farm: &Farm, who: &str, uid: u32) {
    let template = example(farm, "povray/animation.yaml");
    let job = farm.submit(who, &[&template, "-p", &format!("Frames=1-{FRAMES}"), "-p", "Width=96", "-p", "Height=54"]);
    let ended = farm.wait(job);
    assert_eq!(
        e2e::state(&ended),
        "complete",
        "{ended:#}\n{}",
        farm.stead_as("root", &["logs", &job.to_string()]).out()
    );
    let frames = frames(farm, job);
    assert_eq!(frames.len(), FRAMES);
    for frame in &frames {
        let meta = frame.metadata().expect("a frame");
        assert_eq!((meta.uid(), meta.gid()), (uid, uid), "{}", frame.display());
        is_a_picture(frame, "96x54");
    }
    differ(&frames[0], &frames[FRAMES / 3]);
    let attempts = farm.attempts(job);
    assert!(attempts.iter().all(|a| a["run_as"]["uid"] == uid && a["login_user"] == who), "{attempts:#?}");
}

fn frames(farm: &Farm, job: JobId) -> Vec<PathBuf> {
    let dir = farm.path(farm.folder(job)).join("frames");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten();
    let number = |p: &PathBuf| p.file_stem()?.to_str()?.strip_prefix("frame-")?.parse::<u32>().ok();
    let named = |p: &PathBuf| number(p).is_some();
    let mut frames: Vec<PathBuf> = entries.map(|e| e.path()).filter(named).collect();
    frames.sort();
    frames
}

/// It decodes without a complaint, has this size, and is not of one colour.
#[track_caller]
fn is_a_picture(file: &Path, size: &str) {
    let mut identify = Command::new("identify");
    identify.args(["-regard-warnings", "-format", "%wx%h %k %[fx:standard_deviation]"]).arg(file);
    let output = identify.output().expect("identify starts");
    assert!(output.status.success(), "{}: {output:?}", file.display());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = text.split(' ').collect();
    assert_eq!(words[0], size, "{}", file.display());
    let (colours, deviation): (u32, f64) = (words[1].parse().expect("colours"), words[2].parse().expect("deviation"));
    assert!(colours > 100 && deviation > 0.05, "{} is blank: {text}", file.display());
}

#[track_caller]
fn differ(one: &Path, other: &Path) {
    assert_ne!(
        std::fs::read(one).expect("a frame"),
        std::fs::read(other).expect("a frame"),
        "an animation that stands still"
    );
}

#[test]
fn povray_as_two_people_in_user_mode() {
    if !root_or_skip() || !programs_or_skip(&["povray", "identify"]) {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "2"]).start();
    renders(&farm, "ada", 1501);
    renders(&farm, "bob", 1502);
}

#[test]
fn povray_in_proxy_mode() {
    if !root_or_skip() || !programs_or_skip(&["povray", "identify"]) {
        return;
    }
    let farm = Farm::proxy_mode("qubeproxy").with(&["--slots", "2"]).start();
    renders(&farm, "bob", 1503);
}

#[test]
fn povray_on_ones_own_desktop() {
    if !root_or_skip() || !programs_or_skip(&["povray", "identify"]) {
        return;
    }
    let farm = Farm::desktop("ada").with(&["--slots", "2"]).start();
    renders(&farm, "ada", 1501);
}

/// The first of the README's two commands, as root: every scene, with the accounts of the tour.
#[test]
fn the_tour_as_root() {
    if !root_or_skip() || !programs_or_skip(&["identify"]) {
        return;
    }
    let (stage, printed) = tour("root", "/mnt/data");
    for name in ["ada", "bob", "qubeproxy", "1501", "1502", "1503", "1504", "ada acts as render by grant 1"] {
        assert!(printed.contains(name), "no {name} in:\n{printed}");
    }
    let sheets = sheets(&stage, "/mnt/data");
    assert_eq!(sheets.len(), 5, "{sheets:?}\n{printed}");
    for sheet in &sheets {
        // The scene of acting as another is short.
        let is_short = sheet.components().any(|c| c.as_os_str() == "4-user");
        is_a_picture(sheet, if is_short { "796x80" } else { "796x308" });
        // Handed to the caller.
        assert_eq!(sheet.metadata().expect("a sheet").uid(), 0);
        let page = std::fs::read_to_string(sheet.with_file_name("index.html")).expect("a page");
        assert_eq!(page.matches("data:image/png;base64,").count(), if is_short { 6 } else { FRAMES });
    }
    // Nothing is created on the host it ran on: no account, and no process is left.
    let passwd = std::fs::read_to_string(stage.path("/etc/passwd")).expect("passwd");
    assert!(!passwd.contains("who lights scenes"), "{passwd}");
}

/// The same as a normal person: as oneself.
#[test]
fn the_tour_as_a_person() {
    if !root_or_skip() || !programs_or_skip(&["identify"]) {
        return;
    }
    let (stage, printed) = tour("bob", "/home/bob");
    assert!(printed.contains("bob") && printed.contains("1502") && !printed.contains("1501"), "{printed}");
    let sheets = sheets(&stage, "/home/bob");
    assert_eq!(sheets.len(), 1, "{sheets:?}");
    is_a_picture(&sheets[0], "796x308");
    assert_eq!(sheets[0].metadata().expect("a sheet").uid(), 1502);
}

#[track_caller]
fn tour(who: &str, cwd: &str) -> (Stage, String) {
    let stage = Stage::raise();
    // A clone in a private place: jobs never read it.
    let clone = stage.path(cwd).join("clone");
    std::fs::create_dir(&clone).expect("a folder");
    for entry in std::fs::read_dir(repository().join("examples/tour")).expect("the tour").flatten() {
        std::fs::copy(entry.path(), clone.join(entry.file_name())).expect("a copy");
    }
    let mut run = stage.command_as(who, "sh");
    run.args(["-c", &format!("cd {cwd} && stead run clone")]);
    let output = run.output().expect("it starts");
    let printed = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{printed}", output.status);
    (stage, printed)
}

/// The contact sheets below what was handed over.
fn sheets(stage: &Stage, cwd: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![stage.path(cwd).join("stead-out")];
    while let Some(dir) = dirs.pop() {
        for path in std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|n| n == "sheet.png") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
