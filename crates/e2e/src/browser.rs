//! A real browser, by WebDriver: Debian's Chromium through its chromedriver. Only what the tests of the pages need.

use crate::{Farm, say, until};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Finds what WCAG calls faults; taken as its authors released it (`vendor/SHA256SUMS`).
const AXE: &str = include_str!("../vendor/axe-core-4.14.1.min.js");
/// It is root's in CI, reaches nothing but the farm, and leaves nothing behind.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
];

/// One window. Ends with the test.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    #[must_use]
    pub fn start() -> Self {
        let mut driver = Command::new("chromedriver");
        driver.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null());
        let mut driver = driver.spawn().expect("chromedriver starts");
        let said = BufReader::new(driver.stdout.take().expect("its standard output"));
        let port = said.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let profile = tempfile::tempdir().expect("a folder for its profile");
        let mut browser = Self { driver, port: port.expect("a port"), session: String::new(), _profile: profile };
        let folder = format!("--user-data-dir={}", browser._profile.path().display());
        let flags: Vec<&str> = FLAGS.iter().copied().chain([folder.as_str()]).collect();
        let asked = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": { "args": flags }, "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = browser.call("POST", "/session", &asked);
        browser.session = made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}")).to_owned();
        browser
    }

    /// What WebDriver answers; an error is a value, too.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" || method == "DELETE" { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("chromedriver listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("asked");
        // It keeps the connection: the answer is as long as it says.
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).expect("a head");
            let line = line.trim().to_ascii_lowercase();
            if let Some(said) = line.strip_prefix("content-length:") {
                length = said.trim().parse().expect("a length");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).expect("a body");
        let said = serde_json::from_slice::<Value>(&body);
        said.unwrap_or_else(|e| panic!("{method} {path}: {e}: {}", String::from_utf8_lossy(&body)))["value"].take()
    }

    fn within(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    #[track_caller]
    fn sure(&self, path: &str, body: &Value) -> Value {
        let answer = self.within("POST", path, body);
        assert!(answer["error"].is_null(), "{path} {body}: {answer}");
        answer
    }

    #[track_caller]
    pub fn go(&self, url: &str) {
        self.sure("/url", &json!({ "url": url }));
    }

    #[track_caller]
    pub fn back(&self) {
        self.sure("/back", &json!({}));
    }

    /// Signed in by the address that `stead web` gives, which takes no password. Returns where the farm is.
    #[track_caller]
    pub fn enter(&self, farm: &Farm, who: &str) -> String {
        let url = farm.stead_as(who, &["web"]).ok().out();
        self.go(url.trim());
        self.until_said("Go on only if");
        assert_eq!(self.js("return location.hash"), "", "the code has left the address");
        self.click("form[data-fragment] button");
        self.until_js("return location.pathname == '/jobs'");
        self.js("return location.origin").as_str().expect("an address").to_owned()
    }

    /// What a script answers; `return` included.
    #[track_caller]
    #[must_use]
    pub fn js(&self, script: &str) -> Value {
        self.sure("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a script gives to its last argument, sooner or later.
    #[track_caller]
    #[must_use]
    pub fn js_later(&self, script: &str) -> Value {
        self.sure("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// The text of the page as it is seen.
    #[must_use]
    pub fn text(&self) -> String {
        self.js("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page says so.
    #[track_caller]
    pub fn until_said(&self, words: &str) {
        let mut last = String::new();
        let said = crate::within_or(crate::PATIENCE, || {
            last = self.text();
            last.contains(words).then_some(())
        });
        assert!(said.is_some(), "{words:?} is not on the page: {last}");
    }

    /// Waits until a script says something that is true.
    #[track_caller]
    pub fn until_js(&self, script: &str) {
        until(script, || (self.js(script) == Value::Bool(true)).then_some(()));
    }

    #[track_caller]
    fn element(&self, css: &str) -> String {
        let found = until(css, || {
            let found = self.within("POST", "/element", &json!({ "using": "css selector", "value": css }));
            found.as_object()?.iter().find(|(key, _)| key.starts_with("element-")).map(|(_, id)| id.clone())
        });
        found.as_str().expect("an id").to_owned()
    }

    #[track_caller]
    pub fn click(&self, css: &str) {
        let id = self.element(css);
        // The page's foot is above what scrolls under it, as for a person.
        let _ = self.js(&format!("document.querySelector({}).scrollIntoView({{ block: 'center' }})", json!(css)));
        self.sure(&format!("/element/{id}/click"), &json!({}));
    }

    /// Clicks what asks first; returns what it asked, and answers so.
    #[track_caller]
    pub fn click_and_say(&self, css: &str, yes: bool) -> String {
        self.click(css);
        let asked = until("a question", || self.within("GET", "/alert/text", &Value::Null).as_str().map(str::to_owned));
        self.sure(if yes { "/alert/accept" } else { "/alert/dismiss" }, &json!({}));
        asked
    }

    #[track_caller]
    pub fn write(&self, css: &str, text: &str) {
        let id = self.element(css);
        self.sure(&format!("/element/{id}/value"), &json!({ "text": text }));
    }

    /// Presses keys, one after another: characters, or WebDriver's names for others ([`ENTER`], [`TAB`]).
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        let each = keys.iter().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })));
        let actions: Vec<Value> = each.collect();
        self.sure("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// What axe finds on the page, in both widths: nothing.
    #[track_caller]
    pub fn is_accessible(&self) {
        for (width, height) in [(1280, 900), (390, 844)] {
            let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
            self.sure("/goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": size }));
            let wide = self.js("return document.documentElement.scrollWidth > innerWidth");
            assert_eq!(wide, false, "{} is wider than {width}", self.js("return location.href"));
            self.sure("/execute/sync", &json!({ "script": format!("{AXE};window.axe=axe;"), "args": [] }));
            let script = "const done = arguments[0]; axe.run().then(r => done({ passes: r.passes.length, found: \
                          r.violations.map(v => [v.id, ...v.nodes.map(n => n.html)]) }))";
            let found = self.sure("/execute/async", &json!({ "script": script, "args": [] }));
            assert!(found["passes"].as_u64().is_some_and(|n| n > 5), "axe looked: {found}");
            assert_eq!(found["found"], json!([]), "{} at {width}", self.js("return location.href"));
        }
        self.sure("/goog/cdp/execute", &json!({ "cmd": "Emulation.clearDeviceMetricsOverride", "params": {} }));
    }

    /// Keeps pictures of the page in both widths, where `STEAD_SCREENS` names a folder for them.
    pub fn shows(&self, name: &str) {
        let Some(folder) = std::env::var_os("STEAD_SCREENS") else { return };
        for (width, height) in [(1280, 900), (390, 844)] {
            let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
            self.sure("/goog/cdp/execute", &json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": size }));
            let taken = self.within("GET", "/screenshot", &Value::Null);
            let picture = from_base64(taken.as_str().expect("a picture"));
            let path = std::path::Path::new(&folder).join(format!("{name}-{width}.png"));
            std::fs::write(&path, picture).expect("kept");
        }
        self.sure("/goog/cdp/execute", &json!({ "cmd": "Emulation.clearDeviceMetricsOverride", "params": {} }));
    }

    /// Pages are asked for as by somebody who likes them dark, from now on.
    #[track_caller]
    pub fn is_dark(&self) {
        let params = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
        self.sure("/goog/cdp/execute", &json!({ "cmd": "Emulation.setEmulatedMedia", "params": params }));
    }

    /// What the browser complained about: of scripts and of the content security policy, nothing.
    #[track_caller]
    pub fn has_no_complaints(&self) {
        let said = self.sure("/se/log", &json!({ "type": "browser" }));
        let mut bad = said.as_array().cloned().unwrap_or_default();
        bad.retain(|entry| {
            let text = entry["message"].as_str().unwrap_or_default();
            // An answer that isn't 200 is a complaint, too.
            !text.contains("Failed to load resource") && !text.contains("ERR_")
        });
        assert!(bad.is_empty(), "{bad:?}");
    }
}

/// As WebDriver sends pictures.
fn from_base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|b| DIGITS.iter().position(|d| *d == b));
    let (mut out, mut bits, mut have) = (Vec::new(), 0_usize, 0_u32);
    for digit in digits {
        (bits, have) = ((bits << 6 | digit) & 0xffff, have + 6);
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from(bits >> have & 0xff).unwrap_or_default());
        }
    }
    out
}

/// Keys that are no characters.
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
pub const TAB: &str = "\u{e004}";

impl Drop for Browser {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say("the browser's page is gone with the test; `chromedriver` and Chromium are Debian's");
        } else {
            drop(self.within("DELETE", "", &Value::Null));
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    #[test]
    fn pictures_come_as_digits() {
        assert_eq!(super::from_base64("iVBORw0KGgo="), b"\x89PNG\r\n\x1a\n");
        assert_eq!(super::from_base64("YWI="), b"ab");
    }

    #[test]
    fn axe_is_what_its_authors_released() {
        let sums = include_str!("../vendor/SHA256SUMS");
        let found: String = Sha256::digest(super::AXE).iter().map(|b| format!("{b:02x}")).collect();
        assert!(sums.lines().any(|line| line == format!("{found}  axe-core-4.14.1.min.js")), "{found}");
    }
}
