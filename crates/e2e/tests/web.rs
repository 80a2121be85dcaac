//! The pages in a real browser on a real farm.

use e2e::{Browser, ENTER, ESCAPE, Farm, Role, Stage, TAB, programs_or_skip, root_or_skip, typed};
use std::os::unix::fs::MetadataExt as _;

fn can_run() -> bool {
    root_or_skip() && programs_or_skip(&["chromium", "chromedriver"])
}

#[test]
fn preview_submit_log_and_the_tick() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    let browser = Browser::start();
    browser.go(&{
        let url = farm.stead_as("ada", &["web"]).ok().out();
        url.split("/login").next().expect("an address").to_owned()
    });
    browser.until_said("Please sign in");
    browser.is_accessible();
    let at = browser.enter(&farm, "ada");
    browser.until_said("No jobs yet");
    browser.is_accessible();

    browser.go(&format!("{at}/jobs/new"));
    let hostile = "</pre><script>document.title='owned'</script>";
    browser.write(
        "#command",
        &format!("sh -c 'echo \"{hostile}\"; printf \"\\033[31mred\\033[0m\\n\"; sleep 3; echo last words'"),
    );
    browser.write("#frames", "1-2");
    browser.click("p.buttons button[formaction='/jobs/new/preview']");
    browser.until_js("return document.querySelector('#preview .verdict')?.innerText.includes('run as ada') ?? false");
    browser.is_accessible();
    browser.click("#submit button.primary");
    browser.until_js("return /^\\/jobs\\/\\d+$/.test(location.pathname)");
    let job = browser.js("return location.pathname").as_str().expect("path").to_owned();

    browser.go(&format!("{at}{job}/log"));
    browser.until_said("last words");
    browser.until_js("return document.querySelector('#lines .f1')?.innerText == 'red'");
    assert!(browser.text().contains("</pre><script>"), "as text");
    assert_ne!(browser.js("return document.title"), "owned");
    browser.is_accessible();
    browser.until_said("complete");

    browser.go(&format!("{at}{job}/ran-as"));
    browser.until_said("as decided");
    browser.until_said("read it back from the kernel and signed it");
    browser.is_accessible();
    browser.go(&format!("{at}{job}"));
    browser.until_js("return document.querySelectorAll('#tasks tbody .tick').length == 2");
    browser.is_accessible();
    browser.has_no_complaints();
}

#[test]
fn a_template_is_uploaded_and_its_parameters_are_fields() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    browser.go(&format!("{at}/jobs/new"));
    browser.click("input[name=kind][value=template]");
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tour/animation.yaml");
    let template = std::fs::canonicalize(template).expect("the example");
    browser.write("#file", &template.display().to_string());
    // Nothing else is pressed: the fields come by themselves, with what the template says of each.
    browser.until_js("return !!document.querySelector('#parameters [name=\"param.Frames\"]')");
    browser.until_said("from 1 to 96");
    let palette = "return [...document.querySelectorAll('[name=\"param.Palette\"] option')].map(o => o.value).join()";
    assert_eq!(browser.js(palette), "ember,lagoon,moss,dusk");
    browser.is_accessible();
    // What is wrong with one is said where it is, in lines as they are, and what was typed stays.
    let broken = farm.path("/tmp/broken.yaml");
    std::fs::write(&broken, "specificationVersion: jobtemplate-2023-09\nname: [\n").expect("a file");
    let whole = browser.js("return document.querySelector('#template').value");
    browser.write("#file", &broken.display().to_string());
    browser
        .until_js("return document.querySelector('#problem .reason-more')?.innerText.includes('2 | name: [') ?? false");
    assert!(!browser.text().contains('␊'), "{}", browser.text());
    assert_eq!(browser.js("return document.querySelector('input[name=kind]:checked').value"), "template");
    assert_eq!(
        browser.js("return document.querySelector('#template').value.split('\\n')[1]"),
        "name: [",
        "as it was uploaded"
    );
    browser.is_accessible();
    browser.write("#file", &template.display().to_string());
    browser.until_js("return !!document.querySelector('#parameters')");
    assert_eq!(browser.js("return document.querySelector('#template').value"), whole);
    let set = |field: &str, value: &str| {
        let _ = browser.js(&format!("document.querySelector('[name=\"param.{field}\"]').value = ''"));
        browser.write(&format!("[name='param.{field}']"), value);
    };
    set("Frames", "1000");
    browser.click("#submit button.primary");
    browser.until_js("return document.querySelector('#problem')?.innerText.includes('96') ?? false");
    browser.is_accessible();
    for (field, value) in [("Frames", "2"), ("Width", "16"), ("Height", "16")] {
        set(field, value);
    }
    browser.click("[name='param.Palette'] option:nth-child(3)");
    browser.click("p.buttons button[formaction='/jobs/new/preview']");
    browser.until_js("return document.querySelector('#preview .verdict')?.innerText.includes('run as ada') ?? false");
    browser.until_said("animation moss");
    browser.click("#submit button.primary");
    browser.until_js("return /^\\/jobs\\/\\d+$/.test(location.pathname)");
    browser.until_said("Palette=moss");
    browser.until_said("complete");
    browser.is_accessible();
    browser.has_no_complaints();
}

/// A contact sheet of what the job left in a folder that nobody else may enter; what only calls itself a picture is none.
#[test]
fn frames_are_shown_as_pictures_under_the_jobs_own_account() {
    if !can_run() {
        return;
    }
    const DOT: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let farm = Farm::user_mode().start();
    let script = format!(
        "mkdir -p frames; echo {DOT} | base64 -d > frames/frame-{{frame}}.png; chmod 600 frames/*.png; \
         mkdir -p frames/more; cp frames/frame-{{frame}}.png frames/more/; \
         head -c 9000000 /dev/zero > frames/heavy.png; echo '<script>document.title=\"owned\"</script>' > frames/evil.png; echo fine > 'frames/<b>notes.txt'"
    );
    let job = farm.submit_sh("ada", &["--name", "shot", "--frames", "1-3"], &script);
    farm.complete(job);
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    browser.go(&format!("{at}/jobs/{job}"));
    browser.click(".tabs a[href$='/results']");
    // All that there is lies in one folder.
    browser.until_js("return location.search == '?path=frames'");
    browser.until_js(
        "return [...document.querySelectorAll('#contacts img')].filter(i => i.complete && i.naturalWidth == 1).length == 3",
    );
    browser.until_said("<b>notes.txt");
    browser.until_said("read as ada");
    browser.is_accessible();
    let asked = |path: &str| {
        let script = "const done = arguments[0]; fetch('PATH').then(async r => done([r.status, \
                      r.headers.get('content-type'), r.headers.get('x-content-type-options'), \
                      r.headers.get('content-security-policy')]))";
        browser.js_later(&script.replace("PATH", path))
    };
    let evil = asked(&format!("/jobs/{job}/picture?path=frames/evil.png"));
    assert_eq!(evil[0], 400, "{evil}");
    let good = asked(&format!("/jobs/{job}/picture?path=frames/frame-1.png"));
    assert_eq!((&good[0], &good[1], &good[2]), (&200.into(), &"image/png".into(), &"nosniff".into()), "{good}");
    assert!(good[3].as_str().is_some_and(|policy| policy.contains("default-src 'none'")), "{good}");
    assert_ne!(browser.js("return document.title"), "owned");
    let chain = std::fs::read_to_string(farm.path(format!("{}/supervisor/audit/chain", farm.data()))).expect("audit");
    // The sheet is on record, once; what isn't on it is by itself, and what is no picture of it not at all.
    let downloads = |chain: &str| chain.matches("\"act\":\"download\"").count();
    assert!(chain.contains("\"first\":\"evil.png\"") && chain.contains("\"pictures\":4"), "{chain}");
    assert_eq!(downloads(&chain), 1, "{chain}");
    assert!(browser.text().contains("show its 8 M"), "{}", browser.text());
    let other = asked(&format!("/jobs/{job}/picture?path=frames/more/frame-1.png"));
    assert_eq!(other[0], 200, "{other}");
    let chain = std::fs::read_to_string(farm.path(format!("{}/supervisor/audit/chain", farm.data()))).expect("audit");
    assert!(downloads(&chain) == 2 && chain.contains("frames/more/frame-1.png"), "{chain}");
    // It is nobody else's, whatever they ask for.
    let bob = Browser::start();
    let _ = bob.enter(&farm, "bob");
    for page in ["results", "results?path=frames", "picture?path=frames/frame-1.png"] {
        bob.go(&format!("{at}/jobs/{job}/{page}"));
        bob.until_said("Not here");
    }
    browser.has_no_complaints();
}

/// What is wanted of a long log is on the screen, wherever in it it is.
#[test]
fn a_long_log_is_searched_and_its_first_error_found() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    let script = "seq -f 'pixel %.0f of the frame is done' 1 12344; echo 'Error: texture oak.tif is missing'; \
                  seq -f 'pixel %.0f of the frame is black' 12346 40000; echo 'Error: another one'; exit 3";
    let job = farm.submit_sh("ada", &["--name", "black"], script);
    drop(farm.ends(job, "failed"));
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    browser.go(&format!("{at}/jobs/{job}"));
    browser.until_said("exit 3");
    browser.click("#trouble a[href*='at=error']");
    let seen = "const line = document.querySelector('li.wanted'); if (!line) return false; \
                const at = line.getBoundingClientRect(), log = line.closest('ol').getBoundingClientRect(); \
                return at.top >= log.top && at.bottom <= log.bottom && line.innerText.includes('oak.tif')";
    browser.until_js(seen);
    assert_eq!(browser.js("return document.querySelector('li.wanted').value"), 12345);
    browser.is_accessible();
    browser.go(&format!("{at}/jobs/{job}/log"));
    browser.until_said("another one");
    browser.until_said("40001 lines");
    let lines = browser.js("return document.querySelector('#lines').innerText");
    assert!(!lines.as_str().expect("lines").contains("oak.tif"), "only the end of it is sent");
    browser.press(&["/"]);
    browser.press(&["3", "9", "9", "9", "9", ENTER]);
    browser.until_js("return document.querySelector('.found a')?.innerText == '39999'");
    browser.is_accessible();
    browser.click(".found a");
    browser.until_js(
        "return document.querySelector('#L39999')?.innerText.includes('pixel 39999 of the frame is black') ?? false",
    );
    browser.go(&format!("{at}/jobs/{job}/log?q=no+such+words"));
    browser.until_said("Nothing matches");
    browser.has_no_complaints();
}

/// What is over is tried again but held back, or goes with all that it left; both are asked about first.
#[test]
fn jobs_are_requeued_and_removed() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    let jobs = ["one", "two", "three"].map(|name| farm.submit_sh("ada", &["--name", name], "echo x > left"));
    jobs.iter().for_each(|job| farm.complete(*job));
    let [one, two, three] = jobs;
    let left = |job| farm.path(farm.folder(job)).exists();
    assert!(jobs.into_iter().all(left), "each has a folder");
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    browser.go(&format!("{at}/jobs/{one}"));
    let asked = browser.click_and_say("button[value=requeue]", false);
    assert!(asked.contains("nothing of it starts before somebody unblocks it"), "{asked}");
    browser.write("#head input[name=reason]", "wrong scene");
    let _ = browser.click_and_say("button[value=requeue]", true);
    browser.until_said("Nothing of it starts before it is unblocked");
    browser.until_said("requeued by ada: wrong scene");
    browser.until_js("return !document.querySelector('#head button[value=remove]')");
    browser.is_accessible();
    browser.click("#head button[value=unblock]");
    farm.complete(one);
    browser.until_js("return !!document.querySelector('#head button[value=remove]')");

    browser.go(&format!("{at}/jobs"));
    browser.until_said("three");
    for job in [two, three] {
        browser.click(&format!("#job-{job} .pick input"));
    }
    let _ = browser.click_and_say("#act button[value=remove]", false);
    browser.until_said("2 selected");
    let asked = browser.click_and_say("#act button[value=remove]", true);
    assert!(asked.contains("their folders on the workers go for good"), "{asked}");
    browser.until_said(&format!("Removed: {three}, {two}."));
    browser.is_accessible();
    browser.until_js("return document.querySelectorAll('tr[data-row]').length == 1");
    e2e::until("two folders less", || (!left(two) && !left(three)).then_some(()));
    // By itself, too; what the audit says of it stays.
    browser.go(&format!("{at}/jobs/{one}"));
    let _ = browser.click_and_say("#head button[value=remove]", true);
    browser.until_said(&format!("Removed: {one}."));
    browser.is_accessible();
    browser.click("#acted .only-alone a");
    browser.until_said("No jobs yet");
    let chain = std::fs::read_to_string(farm.path(format!("{}/supervisor/audit/chain", farm.data()))).expect("audit");
    assert_eq!(chain.matches("\"act\":\"remove\"").count(), 3, "{chain}");
    browser.has_no_complaints();
}

#[test]
fn acting_is_on_every_page_until_it_is_revoked_elsewhere() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    drop(farm.stead_as("root", &["users", "add", "render", "--type", "proxy"]).ok());
    drop(farm.stead_as("root", &["grants", "add", "ada", "render", "--until", "3h", "--reason", "shot 40"]).ok());
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    browser.click("details.chip summary");
    browser.until_said("shot 40");
    browser.is_accessible();
    browser.click(".chip .acts button");
    browser.until_js("return document.body.dataset.acting == 'render'");
    // The host has no such account: what the pages say of that is looked at, too.
    let job = farm.submit_sh("ada", &[], "true");
    drop(farm.ends(job, "badlogin"));
    for page in [
        "/jobs",
        "/jobs/new",
        "/as",
        &format!("/jobs/{job}"),
        &format!("/jobs/{job}/ran-as"),
        &format!("/jobs/{job}/log"),
        "/nothing",
    ] {
        browser.go(&format!("{at}{page}"));
        browser.until_js("return document.querySelector('#acting').innerText.includes('acting as render')");
        browser.is_accessible();
    }
    browser.go(&format!("{at}/jobs/{job}"));
    browser.until_said("create the account there");
    browser.go(&format!("{at}/jobs"));
    browser.until_js("return document.querySelector('#live').dataset.state == 'live'");
    drop(farm.stead_as("root", &["grants", "revoke", "1"]).ok());
    // Nobody touches the page: it notices.
    browser.until_said("Refused");
    browser.until_said("acting as nobody");
    browser.is_accessible();
    browser.click("#acting button");
    browser.until_js("return location.pathname == '/jobs' && !document.querySelector('#acting')");
    browser.has_no_complaints();
}

#[test]
fn a_page_is_live_again_after_the_supervisor() {
    if !can_run() {
        return;
    }
    // The port stays the same: a browser knows no other.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let mut farm = Farm::user_mode().with(&["--listen", &free.to_string()]).start();
    let browser = Browser::start();
    let _at = browser.enter(&farm, "ada");
    browser.until_js("return document.querySelector('#live').dataset.state == 'live'");
    let killed = farm.kill9(Role::Supervisor);
    assert_eq!(killed, 1);
    browser.until_js("return document.querySelector('#live').dataset.state == 'stale'");
    farm.heal();
    browser.until_js("return document.querySelector('#live').dataset.state == 'live'");
    let job = farm.submit("ada", &["--name", "after the restart", "--", "true"]);
    browser.until_said("after the restart");
    farm.complete(job);
    browser.until_js("return document.querySelector('#list .is-ok')?.innerText.includes('complete') ?? false");
}

#[test]
fn the_keyboard_is_enough() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    let first = farm.submit("ada", &["--name", "the first", "--", "sleep", "86000"]);
    let second = farm.submit("ada", &["--name", "the second", "--", "true"]);
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    browser.press(&["?"]);
    browser.until_js("return document.querySelector('#help').open");
    browser.is_accessible();
    browser.press(&[ENTER]);
    browser.until_js("return !document.querySelector('#help').open");
    // The newest is on top.
    browser.press(&["j", "j", "x"]);
    browser.until_said("1 selected");
    browser.until_js(&format!("return document.querySelector('tr[data-here]').id == 'job-{first}'"));
    // What is selected outlives what happens meanwhile.
    let third = farm.submit("ada", &["--name", "the third", "--", "true"]);
    browser.until_said("the third");
    browser.until_said("1 selected");
    browser.press(&["k", ENTER]);
    browser.until_js(&format!("return location.pathname == '/jobs/{second}'"));
    browser.press(&["g", "j"]);
    browser.until_js("return location.pathname == '/jobs'");
    browser.press(&["/"]);
    browser.press(&["t", "h", "i", "r", "d", ENTER]);
    browser.until_js("return location.search.includes('q=third')");
    browser.until_js(&format!(
        "return document.querySelectorAll('tr[data-row]').length == 1 && !!document.querySelector('#job-{third}')"
    ));
    browser.press(&["n"]);
    browser.until_js("return location.pathname == '/jobs/new'");
    // Enter looks what would become of it; only the button submits.
    tab_to(&browser, "command");
    browser.press(&["t", "r", "u", "e", ENTER]);
    browser.until_js("return document.querySelector('#preview .verdict')?.innerText.includes('run as ada') ?? false");
    tab_to(&browser, "submit-it");
    browser.press(&[ENTER]);
    browser.until_js("return /^\\/jobs\\/\\d+$/.test(location.pathname)");
    browser.until_said("complete");
    browser.press(&["n"]);
    browser.until_js("return location.pathname == '/jobs/new'");
    browser.press(&["u"]);
    browser.until_said("You may act as nobody but yourself");
    assert!(browser.js("return location.origin") == at.as_str());
    browser.has_no_complaints();
}

/// Presses the tabulator until this has the focus.
#[track_caller]
fn tab_to(browser: &Browser, id: &str) {
    let is_there = || browser.js("return document.activeElement.id") == id;
    assert!(
        (0..60).any(|_| is_there() || {
            browser.press(&[TAB]);
            is_there()
        }),
        "#{id} is not reached"
    );
}

/// An administrator with a name: root is nobody in a browser.
fn administrator(farm: &Farm, who: &str) {
    drop(farm.stead_as("root", &["users", "add", who, "--role", "admin"]).ok());
}

/// As many tasks as a farm ends in some seconds are few looks at the list, and leave the browser to its person.
#[test]
fn a_busy_farm_keeps_no_browser_busy() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().with(&["--slots", "4"]).start();
    let browser = Browser::start();
    let _at = browser.enter(&farm, "ada");
    for n in 1..=60 {
        let _ = farm.submit("ada", &["--blocked", "--name", &format!("shot {n}"), "--", "true"]);
    }
    browser.until_said("shot 60");
    browser.until_js("return document.querySelector('#live').dataset.state == 'live'");
    let _ = browser.js("window.busy = 0; window.began = performance.now(); performance.clearResourceTimings(); \
         new PerformanceObserver(l => { for (const e of l.getEntries()) window.busy += e.duration; })\
         .observe({ type: 'longtask' }); return true");
    let job = farm.submit("ada", &["--name", "many", "--frames", "1-3000", "--", "true"]);
    browser.until_js(&format!("return !!document.querySelector('#job-{job} .is-go')"));
    // It answers its person meanwhile.
    browser.press(&["j", "j"]);
    browser.until_js("return !!document.querySelector('tr[data-here]')");
    browser.until_js(&format!("return !!document.querySelector('#job-{job} .is-ok')"));
    let seen = browser.js("return { ms: performance.now() - window.began, busy: window.busy, \
         looks: performance.getEntriesByType('resource').filter(e => e.initiatorType == 'fetch').length }");
    let figure = |name: &str| seen[name].as_f64().unwrap_or_else(|| panic!("no {name} in {seen}"));
    let (seconds, busy, looks) = (figure("ms") / 1000.0, figure("busy") / 1000.0, figure("looks"));
    let rate = 3000.0 / seconds;
    e2e::say(&format!("{rate:.0} changes/s: {looks} looks and {busy:.2} s of long tasks in {seconds:.1} s"));
    assert!(looks >= 2.0 && looks <= seconds / 0.7 + 2.0, "{looks} looks in {seconds} s");
    assert!(busy < seconds / 2.0, "{busy} of {seconds} s");
    assert_eq!(browser.js("return !!document.querySelector('tr[data-here]')"), true, "the chosen row stays chosen");
    browser.has_no_complaints();
}

/// What is filtered, sorted and leafed to stands in the address: it stays when the list changes, and Back leads to it.
#[test]
fn what_is_looked_at_stays_in_the_address() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    let many = "for n in $(seq 1 55); do stead submit --blocked --name \"shot $n\" -- true; done; stead submit -- true";
    drop(farm.run_as("ada", "sh", &["-euc", many]).ok());
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    browser.click("#chips a[href*='state=blocked']");
    browser.until_js("return location.search == '?state=blocked'");
    browser.click("th a[href*='sort=oldest']");
    browser.until_js("return location.search == '?state=blocked&sort=oldest'");
    browser.click(".pages a[rel=next]");
    let here = "return location.search == '?state=blocked&sort=oldest&page=2' && document.querySelectorAll('tr[data-row]').length == ";
    browser.until_js(&format!("{here}5"));
    browser.until_js("return document.querySelector('#live').dataset.state == 'live'");
    let newest = farm.submit("ada", &["--blocked", "--name", "one more", "--", "true"]);
    browser.until_js(&format!("{here}6"));
    assert_eq!(browser.js("return [...document.querySelectorAll('tr[data-row]')].pop().id"), format!("job-{newest}"));
    browser.click(&format!("#job-{newest} .name a"));
    browser.until_js(&format!("return location.pathname == '/jobs/{newest}'"));
    browser.back();
    browser.until_js(&format!("{here}6"));
    browser.until_js("return document.querySelector('#live').dataset.state == 'live'");
    browser.is_accessible();
    browser.go(&format!("{at}/jobs?state=blocked&page=9"));
    browser.until_said("There is no page 9");
    browser.has_no_complaints();
}

/// A password of the proxy account is typed once, is in the file sealed, and on no page.
#[test]
fn a_proxy_password_is_written_and_never_shown() {
    if !can_run() {
        return;
    }
    const PASSWORD: &str = "k4nary-Swordfish#7";
    let farm = with_central_file(1);
    administrator(&farm, "ada");
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    let name = farm.stead_as("root", &["worker", "list", "--json"]).ok().json()[0]["name"].clone();
    browser.go(&format!("{at}/worker-config?worker={}", name.as_str().expect("a name")));
    browser.write("#proxy_password", PASSWORD);
    browser.click("#config button[value=preview]");
    // A password is some account's.
    browser.until_said("whose it is");
    browser.write("#proxy_account", "qubeproxy");
    browser.write("#proxy_password", PASSWORD);
    browser.click("#config button[value=preview]");
    browser
        .until_js("return document.querySelector('#preview .changes')?.innerText.includes('proxy_password') ?? false");
    browser.is_accessible();
    let shown = |what: &str| {
        let html = browser.js("return document.documentElement.outerHTML").to_string();
        assert!(!html.contains("Swordfish") && !html.contains("stead-sealed"), "{what}: {html}");
    };
    shown("the preview");
    assert_eq!(browser.js("return document.querySelector('#proxy_password').value"), "");
    let conf = || std::fs::read_to_string(farm.path("/mnt/conf/qbwrk.conf")).expect("qbwrk.conf");
    assert!(!conf().contains("proxy_password"), "only looked at");
    browser.write("#proxy_password", PASSWORD);
    browser.click("#save");
    browser.until_said("in force");
    shown("the page that saved it");
    assert!(conf().contains("proxy_password = \"stead-sealed:") && !conf().contains("Swordfish"), "{}", conf());
    for page in [format!("/workers/{}", name.as_str().expect("a name")), "/audit".to_owned()] {
        browser.go(&format!("{at}{page}"));
        browser.until_said("proxy_password");
        shown(&page);
    }
    browser.has_no_complaints();
}

#[test]
fn a_grant_is_given_used_and_ended_in_browsers() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    administrator(&farm, "ada");
    let (admin, bob) = (Browser::start(), Browser::start());
    let at = admin.enter(&farm, "ada");
    admin.press(&["g", "s"]);
    admin.until_js("return location.pathname == '/users'");
    admin.write("#name", "render");
    admin.click("input[name=type][value=proxy]");
    admin.click("main form[action='/users'] button");
    admin.until_js("return location.pathname == '/users/render'");
    admin.is_accessible();
    admin.go(&format!("{at}/grants/new?login_user=bob&proxy_user=render"));
    admin.write("#until", "3h");
    admin.write("#reason", "shot </td><script>document.title='owned'</script> 40");
    admin.click("button[value=foresee]");
    admin.until_said("none would run otherwise");
    admin.is_accessible();
    admin.click("button[value=give]");
    admin.until_js("return location.pathname == '/grants' && !!document.querySelector('#grant-1 .is-ok')");
    assert_ne!(admin.js("return document.title"), "owned");
    admin.is_accessible();

    let _ = bob.enter(&farm, "bob");
    bob.click("details.chip summary");
    bob.click(".chip .acts button");
    bob.until_js("return document.body.dataset.acting == 'render'");
    let job = farm.submit_sh("bob", &["--blocked"], "true");
    bob.until_said(&job.to_string());
    bob.until_js("return document.querySelector('#live').dataset.state == 'live'");

    admin.go(&format!("{at}/grants"));
    admin.click("#grant-1 a.danger");
    admin.until_said("1 job would have no right");
    admin.is_accessible();
    admin.click("#revoke form button[value='']");
    admin.until_said("Grant 1 is revoked");
    admin.is_accessible();
    // Nobody touches the other's page: it notices, and does nothing until they go on as themself.
    bob.until_said("acting as nobody");
    bob.go(&format!("{at}/jobs/new"));
    bob.until_said("Refused");
    bob.click("#acting button");
    bob.until_js("return !document.querySelector('#acting')");
    bob.go(&format!("{at}/grants?all=yes"));
    bob.until_said("ended by ada");
    bob.is_accessible();
    for page in ["/grants/matrix", "/may-act", "/users", "/what-if?user=bob&as=render"] {
        admin.go(&format!("{at}{page}"));
        admin.is_accessible();
    }
    admin.until_said("could submit nothing so");
    admin.has_no_complaints();
    bob.has_no_complaints();
}

#[test]
fn a_password_that_is_missing_is_set_and_the_job_submitted_again() {
    if !can_run() {
        return;
    }
    const PASSWORD: &str = "k4nary-Swordfish#7";
    let stage = Stage::raise();
    let mut shell = stage.command("sh");
    shell.arg("-s");
    let set_up = format!(
        "set -eu; echo 'ada:{PASSWORD}' | chpasswd; mkdir -p /etc/stead; \
         echo 'requires_password = true' > /etc/stead/launcher.conf; \
         printf 'auth required pam_unix.so\\naccount required pam_unix.so\\n' > /etc/pam.d/stead"
    );
    drop(typed(shell, &set_up).ok());
    let farm = Farm::user_mode().on(stage).start();
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    let job = farm.submit("ada", &["--name", "needs a password", "--", "id", "-un"]);
    drop(farm.ends(job, "badlogin"));
    browser.go(&format!("{at}/jobs/{job}"));
    browser.until_said("the farm has no password of ada");
    browser.click("#trouble a");
    browser.until_js("return document.querySelector('#account')?.value == 'ada'");
    browser.until_said("missing");
    browser.write("#password", PASSWORD);
    browser.write("#again", "something else");
    browser.click("#set button.primary");
    browser.until_said("not the same");
    browser.is_accessible();
    browser.write("#password", PASSWORD);
    browser.write("#again", PASSWORD);
    browser.click("#set button.primary");
    browser.until_said("is kept");
    browser.is_accessible();
    browser.click("#states form[action='/credentials/check'] button");
    browser.until_said("The password of ada is right");
    browser.go(&format!("{at}/jobs/{job}"));
    browser.click("form[action$='/resubmit'] button");
    browser
        .until_js(&format!("return /^\\/jobs\\/\\d+$/.test(location.pathname) && location.pathname != '/jobs/{job}'"));
    browser.until_said("complete");
    let again = browser.js("return location.pathname").as_str().expect("path").to_owned();
    browser.go(&format!("{at}{again}/ran-as"));
    browser.until_said("as decided");
    browser.has_no_complaints();
}

/// A farm of so many workers with a qbwrk.conf that belongs to its supervisor.
fn with_central_file(workers: u32) -> Farm {
    let stage = Stage::raise();
    let write = |path: &str, text: &str| std::fs::write(stage.path(path), text).expect("a settings file");
    for folder in ["/etc/stead", "/mnt/conf"] {
        std::fs::create_dir_all(stage.path(folder)).expect("a folder");
    }
    write("/etc/stead/supervisor.toml", "qbwrk_conf = \"/mnt/conf/qbwrk.conf\"\n");
    write(
        "/mnt/conf/qbwrk.conf",
        "# The farm's workers.\n[default]\nproxy_execution_mode = user   # everybody as themself\n",
    );
    let workers = workers.to_string();
    let with = ["--supervisor-conf", "/etc/stead/supervisor.toml", "--workers", &workers, "--slots", "2"];
    let farm = Farm::user_mode().on(stage).with(&with).start();
    let own = std::fs::metadata(farm.path(format!("{}/supervisor", farm.data()))).expect("its folder").uid();
    for path in ["/mnt/conf", "/mnt/conf/qbwrk.conf"] {
        std::os::unix::fs::chown(farm.path(path), Some(own), None).expect("given");
    }
    farm
}

/// One with an administrator, and much in its tables.
fn peopled() -> Farm {
    let farm = with_central_file(3);
    administrator(&farm, "ada");
    let root = |args: &[&str]| drop(farm.stead_as("root", args).ok());
    for (proxy, note) in [("render", "final frames"), ("comp", "compositing"), ("lookdev", "looks"), ("sim", "caches")]
    {
        root(&["users", "add", proxy, "--type", "proxy", "--note", note, "--answers", "bob"]);
    }
    root(&["users", "add", "eve", "--role", "auditor", "--note", "internal audit"]);
    for name in ["carol", "dave", "frank", "grace", "heidi", "ivan", "judy", "mallory", "olivia", "peggy"] {
        root(&["users", "add", name, "--note", "artist"]);
    }
    for (login, proxy, until) in [
        ("ada", "render", "8h"),
        ("bob", "comp", "3d"),
        ("carol", "render", "3d"),
        ("dave", "lookdev", "10d"),
        ("grace", "sim", "2h"),
        ("group:film", "render", "30d"),
        ("peggy", "comp", "1d"),
    ] {
        root(&["grants", "add", login, proxy, "--until", until, "--reason", "shot 40"]);
    }
    drop(farm.stead_as("bob", &["grants", "request", "lookdev", "--reason", "the new shader"]).ok());
    root(&["grants", "revoke", "7"]);
    farm
}

#[test]
fn what_an_administrator_looks_after() {
    if !can_run() {
        return;
    }
    let farm = peopled();
    let job = farm.submit("bob", &["--name", "turntable", "--", "true"]);
    farm.complete(job);
    let browser = Browser::start();
    let at = browser.enter(&farm, "ada");
    for (page, name, said) in [
        ("/users", "users", "final frames"),
        ("/users/render", "user", "Who may act as it"),
        ("/grants", "grants", "the new shader"),
        ("/grants/matrix", "matrix", "group:film"),
        ("/grants/new?login_user=dave&proxy_user=sim", "new-grant", "What it would change"),
        ("/may-act", "may-act", "Who may be acted as"),
        ("/what-if?user=carol&as=render", "what-if", "would submit as render"),
        ("/account-check?account=bob", "account-check", "the same"),
        ("/credentials", "credentials", "missing"),
        ("/settings", "settings", "A worker that takes jobs"),
    ] {
        browser.go(&format!("{at}{page}"));
        browser.until_said(said);
        browser.is_accessible();
        browser.shows(name);
    }
    browser.press(&["g", "w"]);
    browser.until_js("return location.pathname == '/workers' && document.querySelectorAll('tbody tr').length == 3");
    browser.is_accessible();
    browser.shows("workers");
    // By the right button or the ⋮ of a row it is about that one, or about all that are selected with it; by the keyboard, too.
    let menu = "const r = document.querySelectorAll('tbody tr'); r[1].querySelector('.name').dispatchEvent(\
                new MouseEvent('contextmenu', { bubbles: true, cancelable: true })); \
                return document.querySelectorAll('details.dots[open]').length";
    assert_eq!(browser.js(menu), 1);
    let shown = "return document.querySelector('details.dots[open] [data-picked]')?.search.split('&').length == COUNT";
    browser.until_js(&shown.replace("COUNT", "1"));
    browser.is_accessible();
    browser.press(&[ESCAPE]);
    browser.until_js("return !document.querySelector('details.dots[open]')");
    browser.press(&["j", "x", "j", "x", "m"]);
    browser.until_js(&shown.replace("COUNT", "2"));
    browser.press(&[ENTER]);
    browser.until_js(
        "return location.pathname == '/worker-config' && document.querySelectorAll('[name=worker]').length == 2",
    );
    browser.go(&format!("{at}/workers"));
    // The first of them runs everybody's jobs as one account from now on.
    let name =
        browser.js("return document.querySelector('tbody .name a').innerText").as_str().expect("a name").to_owned();
    browser.press(&["j", "x"]);
    browser.until_said("1 selected");
    browser.click("button[formaction='/worker-config']");
    browser.until_said("Config on Supervisor");
    browser.click("#mode option[value=proxy]");
    browser.write("#proxy_account", "qubeproxy");
    browser.click("#config button[value=preview]");
    browser.until_said("proxy_execution_mode: user -> proxy");
    browser.until_said("turntable");
    browser.is_accessible();
    browser.shows("worker-config");
    let conf = || std::fs::read_to_string(farm.path("/mnt/conf/qbwrk.conf")).expect("qbwrk.conf");
    assert!(!conf().contains("qubeproxy"), "only looked at");
    browser.click("#save");
    browser.until_said("in force");
    browser.is_accessible();
    assert!(
        conf().starts_with("# The farm's workers.\n[default]\nproxy_execution_mode = user   # everybody as themself\n")
    );
    assert!(
        conf().ends_with(&format!("\n[{name}]\nproxy_execution_mode = proxy\nproxy_account = qubeproxy\n")),
        "{}",
        conf()
    );
    browser.go(&format!("{at}/workers/{name}"));
    browser.until_said("/mnt/conf/qbwrk.conf");
    browser.until_js("return document.querySelector('main').innerText.includes('proxy mode qubeproxy')");
    browser.until_js("return document.querySelector('#can-become').innerText.includes('yes')");
    browser.is_accessible();
    browser.shows("worker");
    browser.click("main button[value=drain]");
    browser.until_said("it is drained");
    browser.press(&["g", "a"]);
    browser.until_said("Nobody has had the chain checked");
    browser.click("form[action='/audit/verify'] button");
    browser.until_said("checked to record");
    browser.until_said("configuration");
    browser.is_accessible();
    browser.go(&format!("{at}/audit?act=grant_give&actor=root"));
    browser.until_said("group:film as render");
    browser.click("tbody tr:first-child summary");
    browser.is_accessible();
    browser.shows("audit");
    browser.go(&format!("{at}/settings"));
    browser.write("#check-text", "lease_second = 60");
    browser.click("#check-it");
    browser.until_said("did you mean \"lease_seconds\"?");
    browser.is_accessible();
    let _ = browser.js("document.querySelector('#check-text').value = ''");
    browser.write("#check-text", "lease_seconds = 60");
    browser.click("#check-it");
    browser.until_said("lease_seconds: 300 → 60");
    browser.is_accessible();
    browser.go(&format!("{at}/me"));
    browser.write("#token-name", "nightly build");
    browser.click("#new-token button");
    browser.until_js("return document.querySelector('#secret')?.innerText.length > 30");
    browser.is_accessible();
    // Not the one that was just made: this is looked at by everybody.
    browser.go(&format!("{at}/me"));
    browser.until_said("nightly build");
    browser.shows("me");
    browser.has_no_complaints();
}
