//! `stead`: the command line, the services as it starts them, and whole farms on one machine (`dev`, `run`).
//!
//! Only wires: decisions are the supervisor's (`policy`), identities the launcher's.

#![forbid(unsafe_code)]

mod cli;
mod client;
mod cmd;
mod credentials;
mod failure;
mod farm;
mod install;
mod model;
mod out;
mod prompt;
mod qb;
mod services;
mod submission;
mod times;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tracing_subscriber::EnvFilter;

use cli::{Audit, Cli, Command, Grants, Internal, PasswordCommand, Policy, Users, Worker};
use failure::Failure;

fn main() -> ExitCode {
    name_this_process();
    let cli = match Cli::try_parse_from(qb::renamed(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let json = wants_json(&cli.command);
    log(&cli.command);
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure, json);
            ExitCode::from(failure.exit())
        }
    }
}

/// A process started by `/proc/self/exe` would be called `exe`.
fn name_this_process() {
    // Only a name in lists of processes.
    let _ = nix::sys::prctl::set_name(c"stead");
}

fn usage(error: &clap::Error) -> ExitCode {
    // To a closed standard output there is nothing to print.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(failure::Exit::Usage as u8),
    }
}

fn tell(failure: &Failure, json: bool) {
    match failure {
        Failure::Reported(_) => {}
        _ if json => out::note(failure.to_json()),
        _ => out::note(failure.sentence()),
    }
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Run(o) => o.json,
        Command::Submit(o) => o.common.json,
        Command::Jobs(o) => o.common.json,
        Command::Tasks(o) => o.common.json,
        Command::Logs(o) => o.json,
        Command::Files(o) => o.common.json,
        Command::Wait(o) => o.common.json,
        Command::Kill(o)
        | Command::Retry(o)
        | Command::Requeue(o)
        | Command::Block(o)
        | Command::Unblock(o)
        | Command::Suspend(o)
        | Command::Resume(o) => o.common.json,
        Command::Explain(o) => o.common.json,
        Command::As(o) => o.common.json,
        Command::Grants(o) => match o.as_ref() {
            Grants::Add(o) => o.common.json,
            Grants::Request(o) => o.common.json,
            Grants::Approve(o) => o.common.json,
            Grants::Revoke(o) => o.common.json,
            Grants::List(o) => o.common.json,
        },
        Command::Policy(Policy::Diff(o)) => o.common.json,
        Command::Users(o) => match o.as_ref() {
            Users::Add(o) => o.common.json,
            Users::List(o) => o.common.json,
            Users::Show(o) | Users::Remove(o) => o.common.json,
            Users::MayAct(o) | Users::MayBeActedAs(o) => o.common.json,
            Users::Password(o) => o.common.json,
        },
        Command::Login(o) => o.json,
        Command::Web(o) => o.common.json,
        Command::Logout(o) => o.json,
        Command::Sessions(cli::Sessions::List(o)) | Command::Tokens(cli::Tokens::List(o)) => o.common.json,
        Command::Sessions(cli::Sessions::Revoke(o)) | Command::Tokens(cli::Tokens::Revoke(o)) => o.common.json,
        Command::Tokens(cli::Tokens::Create(o)) => o.common.json,
        Command::Password(o) => match o {
            PasswordCommand::Set(o) => o.common.json,
            PasswordCommand::List(o) | PasswordCommand::RotateKey(o) => o.json,
            PasswordCommand::Delete(o) => o.common.json,
            PasswordCommand::Hash(o) => o.common.json,
        },
        Command::Remove(o) => o.common.json,
        Command::Resubmit(o) => o.common.json,
        Command::Whoami(o) | Command::Worker(Worker::List(o)) => o.json,
        Command::Doctor(o) => o.json,
        Command::Worker(Worker::Drain(o)) => o.common.json,
        Command::Worker(Worker::Mode(o)) => o.json,
        Command::Config(cli::Config::Check(o)) => o.json,
        Command::Config(cli::Config::Show(o)) => o.common.json,
        Command::Config(cli::Config::Reload(o)) => o.json,
        Command::Audit(Audit::Verify(o)) => o.common.json,
        Command::Audit(Audit::Tail(o)) => o.common.json,
        Command::Audit(Audit::Search(o) | Audit::Export(o)) => o.common.json,
        Command::Audit(Audit::Whence(o)) => o.common.json,
        Command::Install(o) => o.how.json,
        Command::Uninstall(o) => o.how.json,
        Command::Dev(_)
        | Command::Worker(Worker::Run(_))
        | Command::Supervisor(_)
        | Command::Openapi
        | Command::Qb(_)
        | Command::Completions(_)
        | Command::Internal(_) => false,
    }
}

/// To standard error; services say more than commands do.
fn log(command: &Command) {
    let service = matches!(command, Command::Supervisor(_) | Command::Worker(Worker::Run(_)));
    let default = if service { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    if std::env::var_os("STEAD_LOG").is_some_and(|v| v == "json") {
        layer.json().init();
    } else {
        layer.with_ansi(out::wants_colour(terminal)).init();
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(o) => farm::run(&o),
        Command::Dev(o) => farm::dev(&o),
        Command::Supervisor(o) => services::supervisor(&o),
        Command::Worker(Worker::Run(o)) => services::worker(&o),
        Command::Worker(Worker::List(o)) => single_threaded(cmd::workers(&o)),
        Command::Worker(Worker::Drain(o)) => single_threaded(cmd::drain(&o)),
        Command::Worker(Worker::Mode(o)) => install::mode(&o),
        Command::Submit(o) => single_threaded(cmd::submit(&o)),
        Command::Jobs(o) => single_threaded(cmd::jobs(&o)),
        Command::Tasks(o) => single_threaded(cmd::tasks(&o)),
        Command::Logs(o) => single_threaded(cmd::logs(&o)),
        Command::Files(o) => single_threaded(cmd::files(&o)),
        Command::Wait(o) => single_threaded(cmd::wait(&o)),
        Command::Kill(o) => single_threaded(cmd::act("kill", &o)),
        Command::Retry(o) => single_threaded(cmd::act("retry", &o)),
        Command::Requeue(o) => single_threaded(cmd::act("requeue", &o)),
        Command::Remove(o) => single_threaded(cmd::remove(&o)),
        Command::Block(o) => single_threaded(cmd::act("block", &o)),
        Command::Unblock(o) => single_threaded(cmd::act("unblock", &o)),
        Command::Suspend(o) => single_threaded(cmd::act("suspend", &o)),
        Command::Resume(o) => single_threaded(cmd::act("resume", &o)),
        Command::Explain(o) => single_threaded(cmd::explain(&o)),
        Command::As(o) => single_threaded(cmd::acting(&o)),
        Command::Grants(o) => single_threaded(cmd::grants(&o)),
        Command::Users(o) => single_threaded(cmd::users(&o)),
        Command::Password(o) => single_threaded(cmd::password(&o)),
        Command::Resubmit(o) => single_threaded(cmd::resubmit(&o)),
        Command::Policy(Policy::Diff(o)) => single_threaded(cmd::policy_diff(&o)),
        Command::Whoami(o) => single_threaded(cmd::whoami(&o)),
        Command::Login(o) => single_threaded(cmd::login(&o)),
        Command::Web(o) => single_threaded(cmd::web(&o.common)),
        Command::Logout(o) => single_threaded(cmd::logout(&o)),
        Command::Sessions(o) => single_threaded(cmd::sessions(&o)),
        Command::Tokens(o) => single_threaded(cmd::tokens(&o)),
        Command::Doctor(o) => single_threaded(cmd::doctor(&o)),
        Command::Config(cli::Config::Check(o)) => cmd::config::check(&o),
        Command::Config(cli::Config::Show(o)) => single_threaded(cmd::config::show(&o)),
        Command::Config(cli::Config::Reload(o)) => single_threaded(cmd::config::reload(&o)),
        Command::Audit(Audit::Verify(o)) => single_threaded(cmd::audit::verify(&o)),
        Command::Audit(Audit::Tail(o)) => single_threaded(cmd::audit::tail(&o)),
        Command::Audit(Audit::Search(o)) => single_threaded(cmd::audit::search(&o)),
        Command::Audit(Audit::Export(o)) => single_threaded(cmd::audit::export(&o)),
        Command::Audit(Audit::Whence(o)) => single_threaded(cmd::audit::whence(&o)),
        Command::Qb(o) => qb::run(&o.words),
        Command::Install(o) => install::install(&o),
        Command::Uninstall(o) => install::uninstall(&o),
        Command::Openapi => {
            out::raw(supervisor::openapi().as_bytes());
            Ok(())
        }
        Command::Completions(o) => {
            let mut script = Vec::new();
            clap_complete::generate(o.shell, &mut Cli::command(), "stead", &mut script);
            out::raw(&script);
            Ok(())
        }
        Command::Internal(o) => internal(o),
    }
}

fn internal(command: Internal) -> Result<(), Failure> {
    farm::unblock_signals();
    match command {
        Internal::SubmitAs { account, acting_as, socket } => farm::submit_as(&account, acting_as.as_deref(), &socket),
        Internal::Remove { uid, gid } => farm::remove_as(uid, gid),
        Internal::SendTree { uid, gid, only } => farm::send_as(uid, gid, only.as_deref()),
        Internal::ReceiveTree { uid } => farm::receive_as(uid),
        Internal::ReadTour => farm::read_tour(),
        Internal::PresentTour => farm::present_tour(),
    }
}

/// Runs a story to its end on this thread alone: processes started by it are children of the main thread, whose
/// end is what the kernel takes for the end of the parent.
fn single_threaded<T>(story: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::system("start", e))?.block_on(story)
}
