//! `stead worker mode`: whether this host works for everybody as a service, or for those who are logged in.
//!
//! Root's command, on the host itself: it says who may have a desktop worker (a list in the farm's folder, which the
//! supervisor follows), has it started at log-in, and stops or starts the services. Nothing of a person's is written:
//! the entry stands where the system's own are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{User, geteuid};
use serde_json::{Value, json};
use supervisor::{Desk, Desks};
use warrant::AccountName;

use super::files::{self, DATA, ETC, UNITS};
use super::steps::{self, Made, Place, Step};
use super::{has_systemd, manifest, remove, write_manifest};
use crate::cli::{HostMode, WorkerMode};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::farm::Programs;
use crate::model::{self, Worker};
use crate::out;
use crate::services::WorkerFile;

const AUTOSTART: &str = "/etc/xdg/autostart/stead-desktop-worker.desktop";
pub(super) const SERVICES: [&str; 2] = ["stead-worker.service", "stead-launcher.service"];
const LOOK: Duration = Duration::from_secs(1);

/// One act of switching, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    /// The service's worker finishes what it runs and takes nothing new.
    Drain(String),
    Command(Vec<&'static str>),
    List(Desks),
    Autostart(String),
    RemoveAutostart,
    Undrain(String),
}

/// The host as it is.
struct Found {
    data: PathBuf,
    desks: Desks,
    has_services: bool,
    /// The service's worker, by its settings.
    name: Option<String>,
    /// The one that was drained for desktop mode.
    drained: Option<String>,
}

pub(crate) fn mode(options: &WorkerMode) -> Result<(), Failure> {
    let found = Found::here(options)?;
    let plan = match options.mode {
        None if options.user.is_empty() && options.accept.is_empty() => return tell(&found, options),
        None => return Err(Failure::usage("--user and --accept are for `stead worker mode desktop`")),
        Some(HostMode::Service) => service(&found, options)?,
        Some(HostMode::Desktop) => desktop(&found, options, &Programs::beside_this_one()?.stead)?,
    };
    if !options.dry_run && !geteuid().is_root() {
        return Err(Failure::Refused {
            rule: "worker_mode_needs_root",
            text: "what this host runs, and who may have a worker on it, is root's to say".into(),
            hint: "use sudo; --dry-run shows what would be done; for a farm of your own: `stead install desktop`"
                .into(),
        });
    }
    if !options.json {
        plan.iter().for_each(|act| out::say(act.say(&found.data)));
    }
    if !options.dry_run {
        crate::single_threaded(carry_out(&plan, &found.data))?;
    }
    if options.json {
        let steps: Vec<_> = plan.iter().map(|act| act.say(&found.data)).collect();
        out::json(&json!({"steps": steps, "done": !options.dry_run}));
    } else if !options.dry_run {
        advise(&found, options);
    }
    Ok(())
}

impl Found {
    fn here(options: &WorkerMode) -> Result<Self, Failure> {
        let data = options.data.clone().unwrap_or_else(|| DATA.into());
        let has_services = has_systemd() && Path::new(UNITS).join(SERVICES[0]).is_file();
        let conf = Path::new(ETC).join("worker.toml");
        let said = if has_services && conf.is_file() { WorkerFile::load(&conf)?.name } else { None };
        let name = has_services.then(|| said.unwrap_or_else(supervisor::host_name));
        let drained = manifest(&host()).drained;
        let desks = match Desks::read(&data, 0) {
            Ok(desks) => desks,
            // It is replaced.
            Err(error) if options.mode.is_some() => {
                out::note(error);
                Desks::default()
            }
            Err(error) => return Err(Failure::Answer(error.to_string())),
        };
        Ok(Self { data, desks, has_services, name, drained })
    }

    fn is_desktop(&self) -> bool {
        self.desks != Desks::default()
    }
}

fn host() -> Place {
    Place { root: "/".into(), live: true }
}

fn desktop(found: &Found, options: &WorkerMode, program: &Path) -> Result<Vec<Act>, Failure> {
    let desks = asked(options)?;
    let mut plan = Vec::new();
    if found.has_services {
        if !options.now {
            plan.extend(found.name.clone().map(Act::Drain));
        }
        plan.push(Act::Command(["systemctl", "disable", "--now", "--quiet"].into_iter().chain(SERVICES).collect()));
    }
    plan.push(Act::List(desks));
    plan.push(Act::Autostart(files::worker_autostart(
        &program.display().to_string(),
        &found.data.display().to_string(),
    )));
    Ok(plan)
}

fn service(found: &Found, options: &WorkerMode) -> Result<Vec<Act>, Failure> {
    if !options.user.is_empty() || !options.accept.is_empty() {
        return Err(Failure::usage("--user and --accept are for `stead worker mode desktop`"));
    }
    let mut plan = vec![Act::RemoveAutostart, Act::List(Desks::default())];
    if found.has_services {
        plan.push(Act::Command(["systemctl", "enable", "--now", "--quiet"].into_iter().chain(SERVICES).collect()));
        // What somebody else drained stays so.
        plan.extend(found.drained.clone().map(Act::Undrain));
    }
    Ok(plan)
}

/// The people who were named, as this host knows them.
fn asked(options: &WorkerMode) -> Result<Desks, Failure> {
    let everybody = options.user.iter().any(|user| user == "everybody");
    let names: Vec<&String> = options.user.iter().filter(|user| *user != "everybody").collect();
    if names.is_empty() && !everybody {
        return Err(Failure::Usage {
            text: "whose desktop is it? --user is not said".into(),
            hint: Some("--user NAME (several: NAME,NAME), or --user everybody for all who log in here".into()),
        });
    }
    if names.is_empty() && !options.accept.is_empty() {
        return Err(Failure::Usage {
            text: "--accept needs a --user by name: whoever is logged in must not take others' jobs".into(),
            hint: None,
        });
    }
    for user in &options.accept {
        warrant::LoginUser::parse(user).map_err(|e| Failure::usage(format!("--accept {user:?}: {e}")))?;
    }
    let people = names.into_iter().map(|name| person(name, &options.accept)).collect::<Result<_, _>>()?;
    Ok(Desks { people, everybody })
}

fn person(name: &str, accept: &[String]) -> Result<Desk, Failure> {
    let owner = AccountName::parse(name).map_err(|e| Failure::usage(format!("--user {name:?}: {e}")))?;
    let found = User::from_name(name).map_err(|e| Failure::system("look up an account", e))?;
    let unknown = || Failure::Identity(format!("there is no account {name} on this host"));
    // A directory may answer for another spelling.
    let uid = found.filter(|user| user.name == name).ok_or_else(unknown)?.uid.as_raw();
    let desk = Desk { owner, uid, accept: accept.to_vec() };
    let list = Desks { people: vec![desk.clone()], everybody: false };
    if list.takes(uid) {
        return Ok(desk);
    }
    Err(Failure::Refused {
        rule: "desktop_owner_is_a_person",
        text: format!("{name} (uid {uid}) is an account of the system, and a desktop is a person's"),
        hint: "name the person who logs in there; persons' uids begin at 1000".into(),
    })
}

impl Act {
    fn say(&self, data: &Path) -> String {
        match self {
            Self::Drain(name) => format!("let {name} finish what it runs and take nothing new (--now doesn't wait)"),
            Self::Command(words) => words.join(" "),
            Self::List(desks) => match whose(desks).as_str() {
                "" => format!("remove {}", Desks::path(data).display()),
                people => format!("write {}: {people}", Desks::path(data).display()),
            },
            Self::Autostart(_) => format!("write {AUTOSTART}"),
            Self::RemoveAutostart => format!("remove {AUTOSTART}"),
            Self::Undrain(name) => format!("let {name} take jobs again"),
        }
    }
}

async fn carry_out(plan: &[Act], data: &Path) -> Result<(), Failure> {
    let place = host();
    let mut made = manifest(&place);
    let mut done = Ok(());
    for act in plan {
        done = carry_out_one(act, data, &place, &mut made).await;
        if done.is_err() {
            break;
        }
    }
    // What was done until then is undone by it.
    write_manifest(&place, &made)?;
    done
}

async fn carry_out_one(act: &Act, data: &Path, place: &Place, made: &mut Made) -> Result<(), Failure> {
    let client = Client::at_socket(data.join("run/socket"));
    match act {
        Act::Drain(name) => drained(&client, name, place, made).await,
        Act::Undrain(name) => {
            drain(&client, name, false).await?;
            made.drained = None;
            Ok(())
        }
        Act::Command(words) => steps::run(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()),
        Act::List(desks) if *desks == Desks::default() => forget(&Desks::path(data), made),
        Act::List(desks) => write(&Desks::path(data), desks.text(), place, made),
        Act::Autostart(text) => write(Path::new(AUTOSTART), text.clone(), place, made),
        Act::RemoveAutostart => forget(Path::new(AUTOSTART), made),
    }
}

fn write(path: &Path, text: String, place: &Place, made: &mut Made) -> Result<(), Failure> {
    Step::Owned { path: path.display().to_string(), text }.act(place, made)
}

fn forget(path: &Path, made: &mut Made) -> Result<(), Failure> {
    made.files.retain(|p| p != path);
    remove(path)
}

async fn drain(client: &Client, name: &str, drained: bool) -> Result<(), Failure> {
    let path = format!("/api/v1/workers/{}/drain", escape(name));
    client.post::<Value>(&path, &json!({"drained": drained})).await.map(drop)
}

async fn workers(client: &Client) -> Result<Vec<Worker>, Failure> {
    model::read(&client.get("/api/v1/workers").await?)
}

/// Until it runs nothing any more. It stays drained when this is given up.
async fn drained(client: &Client, name: &str, place: &Place, made: &mut Made) -> Result<(), Failure> {
    match workers(client).await?.iter().find(|w| w.name == name) {
        // It never said hello.
        None => return Ok(()),
        // Somebody's own doing, and theirs to end.
        Some(worker) if worker.state == "locked" => {}
        Some(_) => {
            drain(client, name, true).await?;
            made.drained = Some(name.to_owned());
            // Waiting may be given up with ^C.
            write_manifest(place, made)?;
        }
    }
    let mut said = None;
    loop {
        let workers = workers(client).await?;
        // One that is away runs nothing that could be waited for.
        let used = workers.iter().find(|w| w.name == name && w.state != "down").map_or(0, |w| w.used);
        if used == 0 {
            return Ok(());
        }
        if said.replace(used) != Some(used) {
            out::note(format!("{name} still runs in {used} of its slots; ^C leaves it drained"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn advise(found: &Found, options: &WorkerMode) {
    if !found.has_services {
        out::note("no service worker of `stead install` is started by systemd here: end or start that yourself");
    }
    if options.mode == Some(HostMode::Desktop) {
        let data =
            if found.data == Path::new(DATA) { String::new() } else { format!(" --data {}", found.data.display()) };
        out::say(format!(
            "it starts at the next log-in; before that, as that person: stead worker run --mode desktop{data}"
        ));
    }
}

fn whose(desks: &Desks) -> String {
    let mut words: Vec<String> = Vec::new();
    if desks.everybody {
        words.push("everybody who logs in".into());
    }
    words.extend(desks.people.iter().map(|desk| {
        let accept =
            if desk.accept.is_empty() { String::new() } else { format!(", takes jobs of {}", desk.accept.join(" ")) };
        format!("{} (uid {}{accept})", desk.owner, desk.uid)
    }));
    words.join("; ")
}

fn tell(found: &Found, options: &WorkerMode) -> Result<(), Failure> {
    let mode = if found.is_desktop() { "desktop" } else { "service" };
    if options.json {
        let owners = found.desks.people.iter();
        let owners: Vec<_> =
            owners.map(|d| json!({"name": d.owner.as_str(), "uid": d.uid, "accept": d.accept})).collect();
        out::json(&json!({"mode": mode, "owners": owners, "everybody": found.desks.everybody}));
    } else if found.is_desktop() {
        out::say(format!("desktop: {}", whose(&found.desks)));
    } else {
        out::say(mode);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> WorkerMode {
        use clap::Parser as _;
        let words = ["stead", "worker", "mode"].iter().chain(words);
        match crate::cli::Cli::parse_from(words).command {
            crate::cli::Command::Worker(crate::cli::Worker::Mode(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    fn found(has_services: bool) -> Found {
        let name = has_services.then(|| "lin-07".to_owned());
        Found { data: "/var/lib/stead".into(), desks: Desks::default(), has_services, drained: name.clone(), name }
    }

    /// What is done, in order, as it is said.
    fn said(plan: Result<Vec<Act>, Failure>) -> Vec<String> {
        let plan = plan.expect("a plan");
        plan.iter()
            .map(|act| act.say(Path::new(DATA)))
            .map(|line| line.split(" (").next().unwrap_or("").into())
            .collect()
    }

    #[test]
    fn the_service_ends_what_it_runs_before_it_stops_and_is_back_with_one_command() {
        let list = Act::List(Desks::default());
        assert_eq!(
            said(service(&found(true), &options(&["service"]))),
            [
                "remove /etc/xdg/autostart/stead-desktop-worker.desktop",
                "remove /var/lib/stead/desktop-owners",
                "systemctl enable --now --quiet stead-worker.service stead-launcher.service",
                "let lin-07 take jobs again",
            ]
        );
        assert!(service(&found(false), &options(&["service"])).expect("a plan").contains(&list));
        // A wrangler had drained it.
        let others = Found { drained: None, ..found(true) };
        assert_eq!(said(service(&others, &options(&["service"]))).len(), 3);

        let to_desktop = |has_services, words: &[&str]| {
            let words = [&["desktop", "--user", "everybody"], words].concat();
            said(desktop(&found(has_services), &options(&words), Path::new("/usr/lib/stead/stead")))
        };
        let list = "write /var/lib/stead/desktop-owners: everybody who logs in";
        let autostart = "write /etc/xdg/autostart/stead-desktop-worker.desktop";
        let stop = "systemctl disable --now --quiet stead-worker.service stead-launcher.service";
        let drain = "let lin-07 finish what it runs and take nothing new";
        assert_eq!(to_desktop(true, &[]), [drain, stop, list, autostart]);
        assert_eq!(to_desktop(true, &["--now"]), [stop, list, autostart]);
        assert_eq!(to_desktop(false, &[]), [list, autostart]);
        let everybody = asked(&options(&["desktop", "--user", "everybody"])).expect("a list").text();
        assert!(everybody.ends_with("\neverybody\n"), "{everybody}");
    }

    #[test]
    fn whose_desktop_it_is_has_to_be_said_and_has_to_be_a_persons() {
        let refused = |words: &[&str]| asked(&options(words)).expect_err("refused").to_string();
        assert!(refused(&["desktop"]).contains("--user is not said"));
        assert!(refused(&["desktop", "--user", "nobody-of-that-name"]).contains("no account nobody-of-that-name"));
        assert!(refused(&["desktop", "--user", "a/b"]).contains("a/b"));
        for system in ["root", "daemon", "nobody"] {
            assert!(refused(&["desktop", "--user", system]).contains("an account of the system"), "{system}");
        }
        assert!(refused(&["desktop", "--user", "everybody", "--accept", "any"]).contains("--accept needs"));
        assert!(service(&found(false), &options(&["service", "--user", "ada"])).is_err());
    }
}
