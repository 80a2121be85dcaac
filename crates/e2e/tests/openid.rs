//! Signing in at a real OpenID provider, from a terminal: with a browser beside it, and with one on another machine.

use e2e::{Answer, Farm, JobId, Stage, openid_python, root_or_skip, until};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

/// The provider: a program of its own on this machine's loopback, whose people all have the password `right`.
struct Provider {
    process: Child,
    issuer: String,
    _folder: tempfile::TempDir,
}

impl Provider {
    #[track_caller]
    fn start(python: &Path, redirect: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../supervisor/src/tests/openid_provider.py");
        let mut command = Command::new(python);
        command.arg(script).arg(folder.path()).args([redirect, "public"]).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut issuer = String::new();
        BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut issuer).expect("a line");
        assert!(issuer.starts_with("http://"), "the provider says where it is: {issuer:?}");
        Self { process, issuer: issuer.trim().to_owned(), _folder: folder }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A person's browser: keeps cookies, follows, fills in the form of the provider. Arguments: the address, a name, how the
/// person's click on the last link is to be made (`click`; anything else: it is only shown). Prints the last page.
const BROWSER: &str = r#"
import http.cookiejar, re, sys, urllib.error, urllib.parse, urllib.request

address, name, last = sys.argv[1:4]
jar = http.cookiejar.CookieJar()
browser = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar))

def page(at, data=None):
    try:
        answer = browser.open(urllib.request.Request(at, data, {"Referer": at}), timeout=50)
    except urllib.error.HTTPError as refused:
        answer = refused
    return answer.geturl(), answer.read().decode()

at, text = page(address)
form = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text)
if form:
    fields = {"csrfmiddlewaretoken": form[1], "username": name, "password": "right"}
    at, text = page(at, urllib.parse.urlencode(fields).encode())
print(text)
link = re.search(r'href="(http://127\.0\.0\.1:[^"]+)"', text)
if link:
    link = link[1].replace("&amp;", "&")
    print("link", link)
    if last == "click":
        print(page(link)[1])
"#;

#[track_caller]
fn browse(farm: &Farm, address: &str, name: &str, last: &str) -> String {
    farm.run_as("ada", "python3", &["-I", "-c", BROWSER, address, name, last]).ok().out()
}

/// `stead login --oidc` of bob's terminal, while it waits for a browser.
struct Terminal {
    process: Child,
    typed: ChildStdin,
    said: Arc<Mutex<String>>,
}

impl Terminal {
    #[track_caller]
    fn open(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, keep) = (BufReader::new(process.stderr.take().expect("a pipe")), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                keep.lock().expect("no poison").push_str(&(line + "\n"));
            }
        });
        let typed = process.stdin.take().expect("a pipe");
        Self { process, typed, said }
    }

    fn said(&self) -> String {
        self.said.lock().expect("no poison").clone()
    }

    /// The address to open, and the word to compare.
    #[track_caller]
    fn asks(&self) -> (String, String) {
        until("an address and a word", || {
            let said = self.said();
            let address = said.split_whitespace().find(|w| w.starts_with("http://"))?.to_owned();
            let (_, word) = said.split_once("has to show ")?;
            Some((address, word.get(..9)?.to_owned()))
        })
    }

    #[track_caller]
    fn types(&mut self, line: &str) {
        self.typed.write_all(format!("{line}\n").as_bytes()).expect("typed");
    }

    /// How it ended, and what it printed.
    #[track_caller]
    fn ends(mut self) -> Answer {
        let status = until("the end of stead login", || self.process.try_wait().expect("its status"));
        let mut stdout = Vec::new();
        self.process.stdout.take().expect("a pipe").read_to_end(&mut stdout).expect("read");
        let stderr = self.said().into_bytes();
        Answer::new("stead login --oidc".into(), std::process::Output { status, stdout, stderr })
    }
}

fn over_tcp(farm: &Farm, args: &[&str]) -> Command {
    let mut command = farm.command_as("bob", "stead");
    command.env("STEAD_URL", &farm.url).args(args);
    command
}

#[track_caller]
fn stead(farm: &Farm, args: &[&str]) -> Answer {
    e2e::typed(over_tcp(farm, args), "")
}

fn login(farm: &Farm) -> Command {
    over_tcp(farm, &["login", "--oidc", &farm.url])
}

/// A farm and its provider, which know each other.
#[track_caller]
fn farm_with_provider(python: &Path) -> (Farm, Provider) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").port();
    let listen = format!("127.0.0.1:{port}");
    let provider = Provider::start(python, &format!("http://{listen}/api/v1/oidc/callback"));
    let stage = Stage::raise();
    let settings = format!(
        "[oidc]\nissuer = {:?}\nclient_id = \"stead\"\nrequired_claim = {{ name = \"groups\", value = \"farm\" }}\n",
        provider.issuer
    );
    std::fs::write(stage.path("/mnt/supervisor.toml"), settings).expect("settings");
    let options = ["--slots", "2", "--listen", &listen, "--supervisor-conf", "/mnt/supervisor.toml"];
    (Farm::user_mode().with(&options).on(stage).start(), provider)
}

/// The session is ada's, whoever is at the terminal, and her job runs as her.
#[track_caller]
fn works_and_leaves(farm: &Farm) {
    let me = stead(farm, &["whoami", "--json"]).ok().json();
    assert_eq!((&me["login_user"], &me["user"], &me["channel"]), (&"ada".into(), &"ada".into(), &"tcp".into()), "{me}");
    let job = stead(farm, &["submit", "--json", "--", "id", "-un"]).ok().json()["job"].as_u64().expect("a number");
    farm.complete(JobId(job));
    assert_eq!(stead(farm, &["logs", &job.to_string(), "--stdout"]).ok().out().trim(), "ada");
    let _ = stead(farm, &["logout", &farm.url]).ok();
    let _ = stead(farm, &["whoami"]).exits(3);
}

#[test]
fn a_person_signs_in_at_a_provider_from_a_terminal() {
    let Some(python) = openid_python().filter(|_| root_or_skip()) else { return };
    let (farm, provider) = farm_with_provider(&python);

    // No screen: the address is opened by hand, in a browser of the same machine.
    let terminal = Terminal::open(login(&farm));
    let (address, word) = terminal.asks();
    let page = browse(&farm, &address, "ada", "click");
    assert!(page.contains(&word) && page.contains("Go back to your terminal"), "{word} in {page}");
    assert!(terminal.ends().ok().out().contains("as ada"));
    works_and_leaves(&farm);

    // In a browser of another machine the last link leads nowhere: its address comes back by hand.
    let mut terminal = Terminal::open(login(&farm));
    let (address, word) = terminal.asks();
    let page = browse(&farm, &address, "ada", "only look");
    assert!(page.contains(&word), "{word} in {page}");
    let link = page.lines().find_map(|l| l.strip_prefix("link ")).expect("a link");
    terminal.types(&link.replace("state=", "state=another"));
    until("a word on what is no such address", || terminal.said().contains("not the address").then_some(()));
    terminal.types(link);
    let _ = terminal.ends().ok();
    works_and_leaves(&farm);
    // Whoever saw that address has nothing of it: the code was used, and was never anybody else's.
    let mut terminal = Terminal::open(login(&farm));
    let (_, query) = link.split_once('?').expect("a query");
    let (code, _) = query.split_once("&state=").expect("a state");
    let (address, _) = terminal.asks();
    let state = address.split_once("state=").expect("its own state").1;
    let (state, _) = state.split_once('&').unwrap_or((state, ""));
    terminal.types(&format!("http://127.0.0.1:1/?{code}&state={state}"));
    let _ = terminal.ends().exits(3).complains(&["oidc_code"]);

    // Where there is a screen, the browser is started.
    let bin = farm.path("/mnt/shared/bin");
    std::fs::create_dir(&bin).expect("a folder");
    std::fs::write(bin.join("browser.py"), BROWSER).expect("a browser");
    let opener = "#!/bin/sh\nexec python3 -I /mnt/shared/bin/browser.py \"$1\" ada click\n";
    std::fs::write(bin.join("xdg-open"), opener).expect("an opener");
    std::fs::set_permissions(bin.join("xdg-open"), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    std::fs::set_permissions(&bin, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut command = login(&farm);
    command.env("DISPLAY", ":0").env("PATH", "/mnt/shared/bin:/mnt/bin:/usr/bin:/bin");
    let _ = Terminal::open(command).ends().ok();
    works_and_leaves(&farm);

    // Those whom the provider knows and who are nobody here.
    let terminal = Terminal::open(login(&farm));
    let _ = browse(&farm, &terminal.asks().0, "root", "click");
    let _ = terminal.ends().exits(3).complains(&["system_account"]);
    let mut terminal = Terminal::open(login(&farm));
    let page = browse(&farm, &terminal.asks().0, "not a name", "click");
    assert!(page.contains("login_name"), "{page}");
    drop(terminal.process.kill());
    drop(terminal.process.wait());
    drop(provider);
    let audit = farm.stead_as("root", &["audit", "search", "--json"]).ok().out();
    assert!(audit.contains("\"by\":\"oidc\"") || audit.contains("\"by\": \"oidc\""), "{audit}");
    assert!(!audit.contains(code.trim_start_matches("code=")), "a code on record");
}

/// Said at the terminal, and not only in a browser.
#[test]
fn a_farm_without_a_provider_says_so_at_once() {
    if !root_or_skip() {
        return;
    }
    let farm = Farm::user_mode().start();
    let _ = Terminal::open(login(&farm)).ends().exits(3).complains(&["not configured"]);
}
