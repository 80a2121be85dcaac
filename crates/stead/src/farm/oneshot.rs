//! `stead run`: a farm that ends with its job.

use std::path::{Path, PathBuf};

use super::desktop::Desktop;
use super::guard::{self, collect, settle, temporary};
use super::handover::{self, OutDir};
use super::host::{Host, HostPlan};
use super::play::{Outcome, Show, Submitter, play};
use super::programs::Programs;
use super::ready::workers_there;
use super::report;
use super::setup::Setup;
use super::shutdown::Shutdown;
use super::tour;
use crate::cli::{ModeArg, Run};
use crate::client::Client;
use crate::cmd;
use crate::failure::Failure;
use crate::out::{self, Target};
use crate::submission::{Sources, request};

/// Longest path of a folder whose sockets can still be named.
const PATH_MAX: usize = 60;

pub(crate) fn run(options: &Run) -> Result<(), Failure> {
    let root = nix::unistd::geteuid().is_root();
    if options.inner.data.is_some() {
        return foreground(options);
    }
    if options.target.as_deref().is_some_and(Path::is_dir) {
        return tour::tour(options);
    }
    // Mistakes are told before anything is made.
    let sources = Sources::open(options.target.as_ref(), &options.command, &options.job)?;
    let setup = Setup::new(&options.farm, PathBuf::new(), root, String::new())?;
    setup.remarks().iter().for_each(out::note);
    if root {
        drop(sources);
        needs_identity(options, &setup)?;
        return guard::run(options, &name(options));
    }
    by_a_person(options, sources)
}

/// Root is no identity: what root submits in user mode needs a name.
fn needs_identity(options: &Run, setup: &Setup) -> Result<(), Failure> {
    if setup.mode == warrant::Mode::Proxy || options.job.user.is_some() {
        return Ok(());
    }
    Err(Failure::Refused {
        rule: "root_is_no_identity",
        text: "root is an administrator, not somebody to run jobs as".into(),
        hint: "say as whom: --user NAME; or --mode proxy --proxy-account throwaway: as an id that nobody has".into(),
    })
}

/// How the folder of outputs is called.
fn name(options: &Run) -> String {
    let stem = |path: &Path| path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let named = options.job.name.clone();
    let named = named.or_else(|| options.target.as_deref().and_then(stem));
    named.or_else(|| options.command.first().and_then(|c| stem(Path::new(c)))).unwrap_or_else(|| "job".into())
}

fn by_a_person(options: &Run, sources: Sources) -> Result<(), Failure> {
    let spec = sources.spec(&options.job)?;
    let request = request(&spec, &options.job)?;
    let show = Show::of(&spec, options.json);
    let data = temporary(&temporary_parent(), 0o700)?;
    let mut farm = options.farm.clone();
    farm.listen.get_or_insert("127.0.0.1:0".into());
    let listen = farm.listen.clone().unwrap_or_default();
    let setup = Setup::new(&farm, data.clone(), false, listen)?.quiet();
    let played = crate::single_threaded(on_desktop(&setup, options.acting.acting_as.as_deref(), &request, show));
    let result = finish(options, played, &data);
    // Whatever happened, nothing is left.
    handover::clear(&data).and(result)
}

fn finish(options: &Run, played: Result<Outcome, Failure>, data: &Path) -> Result<(), Failure> {
    let outcome = played?;
    let out = if options.no_out { None } else { Some(OutDir::create(&options.out, &name(options))?) };
    let path = out.as_ref().map(|o| o.path.display().to_string());
    tell(options, &outcome, path.as_deref());
    if let Some(out) = out {
        let copied = collect(data, None, &out)?;
        settle(&out, &copied)?;
    }
    outcome.result()
}

/// The farm's folder holds whole jobs, so it is where temporary files are, unless that is too deep for sockets.
fn temporary_parent() -> PathBuf {
    let dir = std::env::temp_dir();
    if dir.is_absolute() && dir.as_os_str().len() <= PATH_MAX { dir } else { "/tmp".into() }
}

/// The summary: beside a command's own output it goes to standard error.
fn tell(options: &Run, outcome: &Outcome, out_path: Option<&str>) {
    if options.json {
        out::json(&outcome.json(out_path));
        return;
    }
    let to_stderr = options.target.is_none() && options.job.frames.is_none() && options.job.each.is_none();
    if to_stderr {
        out::note(format!("\n{}", report::table(&outcome.lines, &Target::stderr())));
    } else {
        out::say(report::table(&outcome.lines, &Target::stdout()));
    }
}

pub(super) async fn on_desktop(
    setup: &Setup,
    acting_as: Option<&str>,
    request: &serde_json::Value,
    show: Show,
) -> Result<Outcome, Failure> {
    let programs = Programs::beside_this_one()?;
    let mut shutdown = Shutdown::new()?;
    let mut farm = tokio::select! {
        farm = Desktop::start(setup, &programs) => farm?,
        () = shutdown.asked() => return Err(interrupted()),
    };
    let client = Client::at_socket(&farm.ready.socket);
    let submitter = Submitter::Us(client.clone().acting_as(acting_as)?);
    let played = tokio::select! {
        played = play(&client, submitter, request, show) => played,
        () = shutdown.asked() => Err(interrupted()),
        failure = farm.watch() => Err(failure),
    };
    farm.stop().await;
    played
}

fn interrupted() -> Failure {
    Failure::Incomplete { job: 1, state: "killed".into(), reason: Some("it was interrupted".into()) }
}

/// The process that gives up root and runs the farm; `guard` started it.
fn foreground(options: &Run) -> Result<(), Failure> {
    guard::unblock_signals();
    if options.inner.scene.is_some() {
        return tour::scene(options);
    }
    let sources = Sources::open(options.target.as_ref(), &options.command, &options.job)?;
    let setup = inner_setup(options)?;
    let host = Host::start(&HostPlan { setup: &setup, programs: &Programs::beside_this_one()?, end_sessions: true })?;
    // From here on this process is nobody in particular.
    let spec = sources.spec(&options.job)?;
    let request = request(&spec, &options.job)?;
    let show = Show::of(&spec, options.json);
    let outcome = crate::single_threaded(on_host(host, &setup, Part::of(options), &request, show))?;
    tell(options, &outcome, options.inner.out_path.as_deref());
    outcome.result()
}

pub(super) fn inner_setup(options: &Run) -> Result<Setup, Failure> {
    let data = options.inner.data.clone().unwrap_or_default();
    let root = nix::unistd::geteuid().is_root();
    let listen = options.farm.listen.clone().unwrap_or("127.0.0.1:0".into());
    Ok(Setup::new(&options.farm, data, root, listen)?.quiet())
}

/// Who submits the job, and as whom.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Somebody else than this process.
    pub(super) helper: Option<Submitter>,
    pub(super) acting_as: Option<String>,
    /// Whom the farm's operator, who is this process, lets act so.
    pub(super) grant_to: Option<String>,
}

impl Part {
    fn of(options: &Run) -> Self {
        Self { acting_as: options.acting.acting_as.clone(), ..Self::default() }
    }
}

/// Plays a job on a farm whose services `stead-launcher host` looks after.
pub(super) async fn on_host(
    host: Host,
    setup: &Setup,
    part: Part,
    request: &serde_json::Value,
    show: Show,
) -> Result<Outcome, Failure> {
    let mut shutdown = Shutdown::new()?;
    let mut host = host.attach()?;
    let client = Client::at_socket(setup.socket());
    let played = async {
        host.until_ready().await?;
        workers_there(&client, &setup.workers).await?;
        if let (Some(login), Some(proxy)) = (&part.grant_to, &part.acting_as) {
            cmd::let_act(&client, login, proxy).await?;
        }
        let submitter = match part.helper {
            Some(helper) => helper,
            None => Submitter::Us(client.clone().acting_as(part.acting_as.as_deref())?),
        };
        play(&client, submitter, request, show).await
    };
    let played = tokio::select! {
        played = played => played,
        () = shutdown.asked() => Err(interrupted()),
    };
    let stopped = host.stop().await;
    let outcome = played?;
    stopped?;
    Ok(outcome)
}

/// The options that a scene of a tour stands for.
pub(super) fn mode_arg(mode: warrant::Mode) -> ModeArg {
    match mode {
        warrant::Mode::User => ModeArg::User,
        warrant::Mode::Proxy => ModeArg::Proxy,
        warrant::Mode::Desktop => ModeArg::Desktop,
    }
}
