//! The pages in a real browser on a real farm.

use e2e::{Browser, ENTER, Farm, Role, programs_or_skip, root_or_skip};

/// Signed in by the address that `stead web` gives, which takes no password. Returns where the farm is.
#[track_caller]
fn enter(browser: &Browser, farm: &Farm, who: &str) -> String {
    let url = farm.stead_as(who, &["web"]).ok().out();
    browser.go(url.trim());
    browser.until_said("Go on only if");
    assert_eq!(browser.js("return location.hash"), "", "the code has left the address");
    browser.click("form[data-fragment] button");
    browser.until_js("return location.pathname == '/jobs'");
    let origin = browser.js("return location.origin");
    origin.as_str().expect("an address").to_owned()
}

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
    let at = enter(&browser, &farm, "ada");
    browser.until_said("No jobs yet");
    browser.is_accessible();

    browser.go(&format!("{at}/jobs/new"));
    let hostile = "</pre><script>document.title='owned'</script>";
    browser.write(
        "#command",
        &format!("sh -c 'echo \"{hostile}\"; printf \"\\033[31mred\\033[0m\\n\"; sleep 3; echo last words'"),
    );
    browser.write("#frames", "1-2");
    browser.click("button[formaction='/jobs/new/preview']");
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
fn acting_is_on_every_page_until_it_is_revoked_elsewhere() {
    if !can_run() {
        return;
    }
    let farm = Farm::user_mode().start();
    drop(farm.stead_as("root", &["users", "add", "render", "--type", "proxy"]).ok());
    drop(farm.stead_as("root", &["grants", "add", "ada", "render", "--until", "3h", "--reason", "shot 40"]).ok());
    let browser = Browser::start();
    let at = enter(&browser, &farm, "ada");
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
    let _at = enter(&browser, &farm, "ada");
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
    let at = enter(&browser, &farm, "ada");
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
    browser.press(&["u"]);
    browser.until_said("You may act as nobody but yourself");
    assert!(browser.js("return location.origin") == at.as_str());
    browser.has_no_complaints();
}
