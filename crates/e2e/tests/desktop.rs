//! Desktop user mode with a screen: a job's window really opens, with its owner's own cookie.

use e2e::{Farm, Stage, programs_or_skip, root_or_skip, until};
use std::os::unix::fs::chown;
use std::process::{Child, Command, Stdio};

/// A display of its own on the stage, which lets in only who has the cookie.
struct Screen {
    server: Child,
    display: String,
    cookie: &'static str,
}

const COOKIE_FILE: &str = "/home/ada/.Xauthority";

impl Screen {
    /// Starts the server, whose cookie only ada has.
    fn on(stage: &Stage) -> Self {
        let script = "\
            set -eu
            umask 077
            mkdir -p /tmp/x /tmp/.X11-unix; chmod 1777 /tmp/.X11-unix
            cookie=$(mcookie)
            xauth -q -f /tmp/x/server add :0 . $cookie
            exec Xvfb -screen 0 640x480x24 -noreset -nolisten tcp -auth /tmp/x/server -displayfd 1";
        let mut server = stage.command("sh");
        server.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = server.spawn().expect("Xvfb starts");
        let mut line = String::new();
        let stdout = server.stdout.as_mut().expect("stdout");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a display's number");
        let display = format!(":{}", line.trim());
        assert!(display.len() > 1, "Xvfb did not say its display");
        Self::give_cookie_to_ada(stage, &display);
        Self { server, display, cookie: COOKIE_FILE }
    }

    /// Ada's own copy, for the display that was chosen.
    fn give_cookie_to_ada(stage: &Stage, display: &str) {
        let script = "cookie=$(xauth -f /tmp/x/server list | awk 'NR==1 {print $NF}'); xauth -q -f $1 add $2 . $cookie";
        let made = stage.command("sh").args(["-c", script, "sh", COOKIE_FILE, display]).status().expect("sh starts");
        assert!(made.success());
        chown(stage.path(COOKIE_FILE), Some(1501), Some(1501)).expect("ada's cookie");
    }

    /// The screen's picture: number of colours.
    fn colours(&self, stage: &Stage) -> u32 {
        let mut shot = stage.command("sh");
        shot.args(["-c", "xwd -silent -root > /tmp/x/shot.xwd && convert xwd:/tmp/x/shot.xwd /tmp/x/shot.png && identify -format %k /tmp/x/shot.png"]);
        shot.env("DISPLAY", &self.display).env("XAUTHORITY", self.cookie);
        let output = shot.output().expect("sh starts");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of colours")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn a_job_opens_a_window_on_its_owners_screen() {
    if !root_or_skip() || !programs_or_skip(&["Xvfb", "xauth", "xlogo", "xwd", "convert", "identify", "mcookie"]) {
        return;
    }
    let stage = Stage::raise();
    let screen = Screen::on(&stage);
    let before = screen.colours(&stage);
    assert_eq!(before, 1, "an empty screen has one colour");
    let environment = format!(
        "export DISPLAY={} XAUTHORITY={COOKIE_FILE} WAYLAND_DISPLAY=wayland-7 DBUS_SESSION_BUS_ADDRESS=unix:path=/bus",
        screen.display
    );
    let farm = Farm::desktop("ada").on(stage).after(&environment).start();
    let job = farm.submit("ada", &["--", "xlogo", "-geometry", "640x480+0+0", "-bg", "navy", "-fg", "orange"]);
    until("a window", || (screen.colours(farm.stage()) > before).then_some(()));
    keep_picture(&farm);
    let printed = farm.output_of("ada", &[], "echo $DISPLAY $XAUTHORITY $WAYLAND_DISPLAY $DBUS_SESSION_BUS_ADDRESS");
    assert_eq!(printed.trim(), format!("{} {COOKIE_FILE} wayland-7 unix:path=/bus", screen.display));
    let _ = farm.stead_as("ada", &["kill", &job.to_string()]).ok();
    let _ = farm.ends(job, "killed");
    until("an empty screen", || (screen.colours(farm.stage()) == before).then_some(()));
}

/// In service mode there is no screen to reach, whoever started the farm.
#[test]
fn service_mode_has_no_screen() {
    if !root_or_skip() {
        return;
    }
    let farm =
        Farm::user_mode().after("export DISPLAY=:0 XAUTHORITY=/x WAYLAND_DISPLAY=w DBUS_SESSION_BUS_ADDRESS=d").start();
    let printed = farm.output_of("ada", &[], "env");
    for name in ["DISPLAY", "XAUTHORITY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"] {
        assert!(!printed.contains(&format!("{name}=")), "{printed}");
    }
}

/// The last look, where a person can look, too.
fn keep_picture(farm: &Farm) {
    if let Some(dir) = std::env::var_os("STEAD_E2E_KEEP") {
        let copied = Command::new("cp").arg(farm.path("/tmp/x/shot.png")).arg(dir).status();
        assert!(copied.is_ok_and(|s| s.success()));
    }
}

/// A worker of a person's own for a farm that is not theirs; ended with the test.
struct Desk(Child);

impl Desk {
    fn of_ada(farm: &Farm, screen: &Screen) -> Self {
        let mut worker = farm.command_as("ada", "stead");
        worker.args(["worker", "run", "--mode", "desktop", "--data", &farm.data()]);
        worker.env("HOME", "/home/ada").env("DISPLAY", &screen.display).env("XAUTHORITY", screen.cookie);
        Self(worker.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("stead starts"))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The line of `worker list` that is about desktop mode, as its state.
fn desk_line(farm: &Farm) -> Option<(String, String)> {
    let workers = farm.stead_as("bob", &["worker", "list", "--json"]).ok().json();
    let workers = workers.as_array().expect("workers").clone();
    let desk = workers.into_iter().find(|w| w["mode"] == "desktop")?;
    Some((desk["name"].as_str()?.to_owned(), format!("{} of {}", desk["state"].as_str()?, desk["owner"].as_str()?)))
}

/// One command each way, and only for whom root named.
#[test]
fn a_host_is_switched_to_desktop_mode_and_back() {
    if !root_or_skip() || !programs_or_skip(&["Xvfb", "xauth", "mcookie"]) {
        return;
    }
    let stage = Stage::raise();
    let screen = Screen::on(&stage);
    let farm = Farm::user_mode().on(stage).start();
    let data = farm.data();
    let mode = |who: &str, words: &[&str]| farm.stead_as(who, &[&["worker", "mode", "--data", &data], words].concat());
    let worker = |who: &str, more: &[&str]| {
        farm.stead_as(who, &[&["worker", "run", "--mode", "desktop", "--data", &data], more].concat())
    };

    assert_eq!(mode("bob", &[]).ok().out().trim(), "service");
    let _ = mode("ada", &["desktop", "--user", "ada"]).exits(3).complains(&["worker_mode_needs_root", "use sudo"]);
    let _ = worker("ada", &[]).exits(3).complains(&["desktop_owner_listed", "stead worker mode desktop --user ada"]);
    let _ = mode("root", &["desktop"]).exits(2).complains(&["--user is not said"]);
    let _ = mode("root", &["desktop", "--user", "root"]).exits(3).complains(&["desktop_owner_is_a_person"]);

    let switched = mode("root", &["desktop", "--user", "ada"]).ok().out();
    assert!(switched.contains("desktop-owners: ada (uid 1501)"), "{switched}");
    let entry = std::fs::read_to_string(farm.path("/etc/xdg/autostart/stead-desktop-worker.desktop")).expect("entry");
    assert!(entry.contains("\"worker\" \"run\" \"--mode\" \"desktop\" \"--with-login\""), "{entry}");
    assert_eq!(mode("bob", &[]).ok().out().trim(), "desktop: ada (uid 1501)");
    let _ = worker("bob", &[]).exits(3).complains(&["desktop_owner_listed"]);

    let desk = Desk::of_ada(&farm, &screen);
    let (name, state) = until("ada's worker", || desk_line(&farm));
    assert!(name.ends_with("-ada"), "{name}");
    assert_eq!(state, "idle of ada");
    let on_desk = &["--requires", "host.worker_mode=desktop,host.screen=1"];
    let printed = farm.output_of("ada", on_desk, "id -un; echo $DISPLAY $STEAD_WORKER");
    assert_eq!(printed.split_whitespace().take(2).collect::<Vec<_>>(), ["ada", &screen.display]);
    let bobs = farm.submit_sh("bob", on_desk, "true");
    let refused = farm.until_job(bobs, "a reason", |job| job["reason"].is_string());
    assert!(
        refused["reason"].as_str().expect("text").contains("desktop worker of ada does not take jobs of bob"),
        "{refused}"
    );
    assert_eq!(farm.output_of("bob", &[], "id -un").trim(), "bob", "the service works on");

    let back = mode("root", &["service"]).ok().out();
    assert!(back.contains("remove /etc/xdg/autostart/stead-desktop-worker.desktop"), "{back}");
    until("ada's worker to be sent away", || (desk_line(&farm)?.1 == "down of ada").then_some(()));
    let _ = worker("ada", &[]).exits(3).complains(&["desktop_owner_listed"]);
    assert!(!farm.path("/etc/xdg/autostart/stead-desktop-worker.desktop").exists());
    drop(desk);
    let records = || farm.stead_as("root", &["audit", "search", "--act", "desktop_owners", "--json"]).ok().out();
    let changes = |record: &str| record.matches("\"act\":\"desktop_owners\"").count();
    let record = until("both changes on record", || Some(records()).filter(|record| changes(record) == 2));
    assert!(record.contains("ada 1501"), "{record}");
}
