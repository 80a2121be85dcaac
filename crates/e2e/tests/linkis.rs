//! Linkis's own client, as it comes from PyPI, at a farm on real accounts: it signs in, runs code, has rows and errors, and
//! what it runs for somebody who acts as another runs as that other.

use e2e::{Account, Farm, Stage, accounts, linkis_python, programs_or_skip, root_or_skip, typed};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const RENDER: u32 = 1520;
const SECRET: &str = "a first password";

/// Asks by the client's two faces. Arguments: address, name, password, runType, code, columns with commas.
const CLIENT: &str = r#"
import asyncio, json, logging, sys
from linkis_python_sdk.config.config import LinkisConfig
from linkis_python_sdk.client import LinkisClient
from linkis_python_sdk.asyncio import client as other

logging.disable(logging.CRITICAL)
address, name, password, run_type, code, columns = sys.argv[1:7]
conf = LinkisConfig(address, name, password)
query = {"columns": [{"column": column} for column in columns.split(",")]}
first = LinkisClient(conf).execute_code(code, query, run_type, run_type)
Client = next(c for n, c in vars(other).items() if n.endswith("LinkisClient") and not n.startswith("I"))
second = asyncio.run(Client(conf).execute_code(code, query, run_type, run_type))
print(json.dumps([{"rows": rows, "total": total, "error": error} for rows, total, error in (first, second)]))
"#;

struct Site {
    farm: Farm,
    python: PathBuf,
}

impl Site {
    /// Real accounts, passwords of the farm's own, a database, and the proxy user render.
    fn start(python: PathBuf) -> Self {
        let mut all = accounts();
        let bob = all.iter().find(|a| a.name == "bob").cloned().expect("bob");
        let home = "/home/render".to_owned();
        all.push(Account { name: "render".into(), uid: RENDER, gid: RENDER, home, groups: Vec::new(), ..bob });
        let stage = Stage::raise_with(&all);
        let sql = r#"sql = { command = ["sqlite3", "-csv", "-header", "/etc/sales.db"], result = "csv" }"#;
        let conf = format!("own_accounts = true\n[linkis.run]\n{sql}\n");
        std::fs::write(stage.path("/mnt/supervisor.toml"), conf).expect("settings");
        let rows = "CREATE TABLE sales (id INTEGER, price REAL, name TEXT); \
                    INSERT INTO sales VALUES (1, 2.5, 'one'), (2, 3.0, 'two, \"quoted\"'), (3, 4.25, NULL);";
        let farm = Farm::user_mode().on(stage).with(&["--slots", "2", "--supervisor-conf", "/mnt/supervisor.toml"]);
        let site = Self { farm: farm.start(), python };
        let _ = site.farm.run_as("root", "sqlite3", &["/etc/sales.db", rows]).ok();
        let _ = site.farm.stead_as("root", &["users", "add", "render", "--type", "proxy"]).ok();
        for name in ["ada", "bob"] {
            let mut command = site.farm.command_as("root", "stead");
            command.args(["users", "password", name, "--password-stdin"]);
            let _ = typed(command, &format!("{SECRET}\n")).ok();
        }
        site
    }

    /// What both faces of the client return, which has to be the same.
    #[track_caller]
    fn runs(&self, name: &str, password: &str, (run_type, code): (&str, &str), columns: &str) -> Value {
        // Cookies of addresses are not kept by its other face.
        let address = self.farm.url.replace("127.0.0.1", "localhost") + "/api/rest_j/v1";
        let mut client = Command::new("timeout");
        client
            .arg("120")
            .arg(&self.python)
            .args(["-I", "-c", CLIENT, &address, name, password, run_type, code, columns]);
        let done = client.output().expect("it runs");
        let (said, wrong) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{}: {said} {wrong}", done.status);
        let both: Value = serde_json::from_str(said.trim()).unwrap_or_else(|e| panic!("{e}: {said} {wrong}"));
        assert_eq!(both[0], both[1], "both faces");
        both[0].clone()
    }

    #[track_caller]
    fn rows(&self, name: &str, code: (&str, &str), columns: &str) -> Value {
        let got = self.runs(name, SECRET, code, columns);
        assert_eq!(got["error"], "", "{code:?}: {got}");
        got["rows"].clone()
    }

    #[track_caller]
    fn error(&self, name: &str, password: &str, code: (&str, &str)) -> String {
        let got = self.runs(name, password, code, "line");
        assert_eq!((&got["rows"], &got["total"]), (&json!([]), &json!(0)), "{got}");
        got["error"].as_str().expect("text").to_owned()
    }
}

fn lines(lines: &[&str]) -> Value {
    lines.iter().map(|line| json!({ "line": line })).collect()
}

#[test]
fn the_real_client_runs_code_as_whom_it_should() {
    if !root_or_skip() || !programs_or_skip(&["sqlite3", "timeout"]) {
        return;
    }
    let Some(python) = linkis_python() else { return };
    assert!(Path::new(&python).is_file());
    let site = Site::start(python);
    assert_eq!(site.rows("ada", ("shell", "id -un; echo '{frame} é'"), "line"), lines(&["ada", "{frame} é"]));
    assert_eq!(site.rows("bob", ("python", "import getpass\nprint(getpass.getuser())"), "line"), lines(&["bob"]));
    let sold = site.rows("ada", ("sql", "SELECT id, price, name FROM sales ORDER BY id"), "id,price,name");
    assert_eq!(
        sold,
        json!([
            { "id": 1, "price": 2.5, "name": "one" },
            { "id": 2, "price": 3.0, "name": "two, \"quoted\"" },
            { "id": 3, "price": 4.25, "name": "" },
        ])
    );
    let many = site.rows("ada", ("shell", "seq 20000"), "line");
    let many = many.as_array().expect("rows");
    assert_eq!((many.len(), &many[0]["line"], &many[19_999]["line"]), (20_000, &json!("1"), &json!("20000")));

    // Errors are sentences, and nobody asks for ever.
    let wrong = site.error("ada", SECRET, ("python", "raise ValueError('no such frame')"));
    assert!(wrong.contains("ValueError: no such frame"), "{wrong}");
    let wrong = site.error("ada", SECRET, ("shell", "exit 7"));
    assert!(wrong.contains('7'), "{wrong}");
    let wrong = site.error("ada", SECRET, ("hql", "show tables"));
    assert!(wrong.contains("there is no command for the runType \"hql\""), "{wrong}");
    let wrong = site.error("ada", "a wrong password", ("shell", "true"));
    assert!(wrong.contains("the name or the password is wrong"), "{wrong}");

    // The client knows nothing of it: she acts as render, and so does what it submits for her.
    let _ = site.farm.stead_as("root", &["grants", "add", "ada", "render"]).ok();
    let _ = site.farm.stead_as("ada", &["as", "render"]).ok();
    assert_eq!(site.rows("ada", ("shell", "id -un; id -u"), "line"), lines(&["render", "1520"]));
    let jobs = site.farm.stead_as("ada", &["jobs", "--json"]).ok().json();
    let job = &jobs[0];
    assert_eq!((&job["login_user"], &job["user"]), (&json!("ada"), &json!("render")), "{jobs:#}");
    let _ = site.farm.stead_as("root", &["grants", "revoke", "1"]).ok();
    let wrong = site.error("ada", SECRET, ("shell", "id -un"));
    assert!(wrong.contains("you act as render, and that right is gone"), "{wrong}");
    let audit = site.farm.stead_as("root", &["audit", "search", "--json"]).ok().out();
    assert!(!audit.contains("stead_s_") && !audit.contains(SECRET), "a secret on record");
}
