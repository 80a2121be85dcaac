//! Every screen of a farm that is in use: twenty people, thirty workers, five hundred jobs and a render that failed.
//! axe looks at each in both widths; `STEAD_SCREENS=FOLDER` keeps pictures.

use e2e::{Account, Browser, Farm, JobId, Stage, accounts, programs_or_skip, root_or_skip};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;

const ARTISTS: [&str; 17] = [
    "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim", "lena", "mallory", "niaj", "olivia",
    "peggy", "rupert", "sybil", "trent",
];
/// Who is acted as.
const PROXIES: [(&str, &str); 4] = [
    ("render", "final frames; ask a wrangler"),
    ("comp", "compositing"),
    ("lookdev", "turntables and shaders"),
    ("sim", "caches of cloth and water"),
];
const WORKERS: u32 = 30;
const JOBS: usize = 500;
/// From here on they wait for a worker that there isn't, and then run for as long as anybody looks.
const WAITING: usize = JOBS - 16;
const RUNNING: usize = JOBS - 8;

fn stage() -> Stage {
    let mut all = accounts();
    let names = ARTISTS.iter().chain(PROXIES.iter().map(|(name, _)| name)).chain(["eve"].iter());
    for (n, name) in (2001..).zip(names) {
        all.push(Account {
            name: (*name).to_owned(),
            uid: n,
            gid: n,
            home: format!("/home/{name}"),
            shell: "/bin/sh".to_owned(),
            groups: vec!["film".to_owned()],
        });
    }
    Stage::raise_with(&all)
}

const QBWRK: &str = "\
# The farm of the film department. Ask a wrangler before you change anything.

[default]
proxy_execution_mode = user      # everybody as themself
worker_groups        = film

# Bought for the commercials: everything runs as one account there.
[lin-21]
proxy_execution_mode = proxy
proxy_account        = qubeproxy
[lin-22]
proxy_execution_mode = proxy
proxy_account        = qubeproxy

# The account was removed in October; nobody has told this host.
[lin-30]
proxy_execution_mode = proxy
proxy_account        = oldproxy
";

/// A farm of hosts called lin, whatever this one is called.
fn farm() -> Farm {
    let stage = stage();
    for folder in ["/etc/stead", "/mnt/conf"] {
        std::fs::create_dir_all(stage.path(folder)).expect("a folder");
    }
    let write = |path: &str, text: &str| std::fs::write(stage.path(path), text).expect("a settings file");
    write("/etc/stead/supervisor.toml", "qbwrk_conf = \"/mnt/conf/qbwrk.conf\"\n");
    write("/mnt/conf/qbwrk.conf", QBWRK);
    let workers = WORKERS.to_string();
    let with = ["--supervisor-conf", "/etc/stead/supervisor.toml", "--workers", &workers, "--slots", "2"];
    let named = "exec unshare --uts sh -c 'hostname lin; exec stead \"$@\"' sh \"$@\"";
    let farm = Farm::user_mode().on(stage).with(&with).after(named).start();
    let own = std::fs::metadata(farm.path(format!("{}/supervisor", farm.data()))).expect("its folder").uid();
    for path in ["/mnt/conf", "/mnt/conf/qbwrk.conf"] {
        std::os::unix::fs::chown(farm.path(path), Some(own), None).expect("given");
    }
    farm
}

fn people(farm: &Farm) {
    let root = |args: &[&str]| drop(farm.stead_as("root", args).ok());
    root(&["users", "add", "ada", "--role", "admin", "--note", "wrangler"]);
    root(&["users", "add", "bob", "--note", "head of lighting"]);
    root(&["users", "add", "eve", "--role", "auditor", "--note", "internal audit"]);
    for (proxy, note) in PROXIES {
        root(&["users", "add", proxy, "--type", "proxy", "--note", note, "--answers", "bob"]);
    }
    for (n, name) in ARTISTS.iter().enumerate() {
        let note = ["lighting", "compositing", "effects", "layout", "assets"][n % 5];
        root(&["users", "add", name, "--note", note]);
    }
    for (login, proxy, until, reason) in [
        ("ada", "render", "8h", "night watch"),
        ("bob", "comp", "3d", "sq040 while Kim is away"),
        ("carol", "render", "3d", "sq040 finals"),
        ("dave", "lookdev", "10d", "new oak shader"),
        ("grace", "sim", "2h", "the flood in sq110"),
        ("group:film", "render", "30d", "dailies"),
        ("heidi", "comp", "5d", "sq080"),
        ("judy", "render", "1d", "hand over of sq020"),
        ("lena", "sim", "14d", "cloth of the crowd"),
        ("niaj", "lookdev", "7d", "turntables"),
        ("peggy", "comp", "1d", "sq010"),
        ("trent", "render", "12h", "trailer"),
    ] {
        root(&["grants", "add", login, proxy, "--until", until, "--reason", reason]);
    }
    drop(farm.stead_as("ivan", &["grants", "request", "lookdev", "--until", "5d", "--reason", "the oak again"]).ok());
    drop(farm.stead_as("olivia", &["grants", "request", "render", "--reason", "finals of sq110"]).ok());
    root(&["grants", "revoke", "11"]);
    root(&["users", "add", "zoe", "--disable", "--note", "left in October"]);
}

/// The tour's animation, of which three frames miss a texture.
fn broken_render(farm: &Farm) -> JobId {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tour/animation.yaml");
    let text = std::fs::read_to_string(here).expect("the example");
    let name = "name: \"animation {{Param.Palette}}\"";
    let begins = "            export LC_ALL=C\n            F=$1 ";
    assert!(text.contains(name) && text.matches(begins).count() == 1, "the example is another");
    let text = text.replace(name, "name: sq040_sh0120_lighting_v017");
    let fails = "            echo \"frame $1: scene loaded, 3 balls, 1 floor\"\n            \
                 case $1 in 9 | 10 | 17) i=0; while [ $i -lt 40 ]; do i=$((i + 1)); echo \"tile $i of 96: 64 samples\"; done; \
                 echo \"Error: /proj/sq040/tex/oak_bark.1007.tif: no such file\" >&2; exit 3 ;; esac\n";
    let text = text.replace(begins, &format!("{fails}{begins}"));
    std::fs::write(farm.path("/tmp/sq040.yaml"), text).expect("a template");
    farm.submit("ada", &["/tmp/sq040.yaml", "-p", "Frames=24", "-p", "Width=96", "-p", "Height=54", "--priority", "60"])
}

/// Submits what a farm has on a Tuesday, each job as its artist.
fn jobs(farm: &Farm, which: std::ops::Range<usize>) {
    let shots = |n: usize| format!("sq{:03}_sh{:04}", n * 7 % 12 * 10 + 10, n * 37 % 40 * 10 + 10);
    let tasks = ["lighting", "comp", "anim_preview", "fx_smoke", "sim_cloth", "turntable", "denoise", "texbake"];
    let mut scripts = std::collections::BTreeMap::<&str, String>::new();
    for n in which {
        let who = ARTISTS[n * 5 % ARTISTS.len()];
        let name = format!("{}_{}_v{:03}", shots(n), tasks[n % tasks.len()], n % 23 + 1);
        let what = match n {
            // The newest are what people look at.
            RUNNING.. => "--frames 1-48 -- sh -c 'test {frame} -le 38 || exec sleep 86000'",
            WAITING.. => "--frames 1-96 --requires gpu -- true",
            _ if n % 29 == 3 => "--frames 1-6 -- sh -c 'test {frame} != 4'",
            _ if n % 41 == 5 => "--blocked --frames 1-24 -- true",
            _ if n % 53 == 7 => "-- sh -c 'kill -SEGV $$'",
            _ => "--frames 1-4 -- true",
        };
        let priority = n * 13 % 90;
        let script = scripts.entry(who).or_default();
        let _ = writeln!(script, "stead submit --json --name {name} --priority {priority} {what}");
    }
    let each = scripts.iter().map(|(who, script)| {
        std::thread::spawn({
            let mut command = farm.command_as(who, "sh");
            command.args(["-euc", script]);
            move || command.output().expect("a shell")
        })
    });
    for done in each.collect::<Vec<_>>() {
        let done = done.join().expect("a thread");
        assert!(done.status.success(), "{done:?}");
    }
}

/// How many jobs there are of a state.
fn count(farm: &Farm, state: &str) -> usize {
    let all = farm.stead_as("root", &["jobs", "--state", state, "--limit", "1000", "--json"]).ok().json();
    all.as_array().map_or(0, Vec::len)
}

#[test]
fn every_screen_of_a_farm_in_use() {
    if !root_or_skip() || !programs_or_skip(&["chromium", "chromedriver"]) {
        return;
    }
    let farm = farm();
    people(&farm);
    let failing = broken_render(&farm);
    drop(farm.ends(failing, "failed"));
    jobs(&farm, 0..RUNNING);
    let by_hand =
        farm.submit("carol", &["--as", "render", "--name", "sq040_sh0120_final", "--frames", "1-8", "--", "id"]);
    let no_account = farm.submit("ada", &["--user", "nologin", "--name", "asset_sync", "--", "true"]);
    drop(farm.stead_as("root", &["worker", "drain", "lin-7"]).ok());
    drop(farm.stead_as("root", &["worker", "drain", "lin-12"]).ok());
    drop(farm.wait(no_account));
    farm.complete(by_hand);
    e2e::until("an end of what can end", || (count(&farm, "running") + count(&farm, "pending") == 8).then_some(()));
    jobs(&farm, RUNNING..JOBS - 3);
    e2e::until("five that run", || (count(&farm, "running") == 5).then_some(()));

    let browser = Browser::start();
    let origin = farm.url.clone();
    let look = |page: &str, name: &str, said: &str| {
        browser.go(&format!("{origin}{page}"));
        browser.until_said(said);
        browser.is_accessible();
        browser.shows(name);
    };
    look("/login", "login", "Sign in");
    let _ = browser.enter(&farm, "ada");
    let (job, log) = (format!("/jobs/{failing}"), format!("/jobs/{failing}/log?at=error#wanted"));
    for (page, name, said) in [
        ("/jobs", "jobs", "running"),
        ("/jobs?state=failed", "jobs-failed", "fx_smoke"),
        (&job, "job", "exit 3"),
        (&format!("{job}/ran-as"), "ran-as", "as decided"),
        (&log, "log", "oak_bark"),
        (&format!("{job}/results?path=frames"), "results", "0024.png"),
        ("/workers", "workers", "lin-30"),
        ("/workers/lin-21", "worker", "qubeproxy"),
        ("/account-check?account=carol", "account-check", "the same"),
        ("/users", "users", "final frames"),
        ("/users/render", "user", "Who may act as it"),
        ("/grants", "grants", "the oak again"),
        ("/grants/matrix", "matrix", "group:film"),
        ("/grants/new?login_user=frank&proxy_user=sim", "new-grant", "What it would change"),
        ("/grants/3/revoke", "revoke", "carol"),
        ("/may-act", "may-act", "Who may be acted as"),
        ("/what-if?user=carol&as=render", "what-if", "would submit as render"),
        ("/audit", "audit", "submit"),
        ("/settings", "settings", "A worker that takes jobs"),
        ("/me", "me", "ada"),
        ("/credentials", "credentials", "missing"),
        ("/nothing", "not-here", "Not here"),
    ] {
        look(page, name, said);
    }
    browser.go(&format!("{origin}{job}/results"));
    // What ran as the proxy account lies in another folder.
    let shown = "const all = [...document.querySelectorAll('#contacts img')]; \
                 return all.length > 9 && all.every(i => i.complete && i.naturalWidth == 96)";
    browser.until_js(&format!("document.querySelector('#contacts')?.scrollIntoView({{ block: 'end' }}); {shown}"));
    browser.go(&format!("{origin}/jobs/new"));
    browser.write("#command", "render shot_040.blend --frame {frame}");
    browser.write("#frames", "1-96");
    browser.click("p.buttons button[formaction='/jobs/new/preview']");
    browser.until_js("return !!document.querySelector('#preview .verdict')");
    browser.is_accessible();
    browser.shows("new");
    browser.go(&format!("{origin}/worker-config?worker=lin-1&worker=lin-2"));
    browser.click("#mode option[value=proxy]");
    browser.write("#proxy_account", "qubeproxy");
    browser.click("#config button[value=preview]");
    browser.until_said("user -> proxy");
    browser.is_accessible();
    browser.shows("worker-config");
    browser.go(&format!("{origin}/jobs"));
    browser.click("details.chip summary");
    browser.until_said("night watch");
    browser.is_accessible();
    browser.shows("acting-menu");
    browser.click(".chip .acts button");
    browser.until_js("return document.body.dataset.acting == 'render'");
    look("/jobs", "acting", "acting as render");
    browser.is_dark();
    for (page, name, said) in [("/jobs", "acting-dark", "acting as render"), ("/as", "as-dark", "night watch")] {
        look(page, name, said);
    }
    browser.click("#acting button");
    browser.until_js("return !document.querySelector('#acting')");
    look(&job, "job-dark", "exit 3");
    browser.has_no_complaints();
}
