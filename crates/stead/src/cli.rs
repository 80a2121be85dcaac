//! The command line: what can be typed, and what `--help` says about it. Does nothing itself.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "stead",
    version,
    about = "A job farm that runs every job as the right person",
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "\
Try it:
  stead run -- echo hello                 one job on a farm that ends with it
  stead dev                               a farm on this machine, until ^C
  stead submit --frames 1-100 -- render {frame}
  stead explain 1                         as whom it ran, and by which rules

Exit codes: 2 usage, 3 refused by policy, 4 not found or not visible, 5 the job did not complete, 6 no supervisor."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one job on a farm of its own that ends with it
    Run(Box<Run>),
    /// Run a farm on this machine until ^C
    Dev(Box<Dev>),
    /// Submit a job
    Submit(Box<Submit>),
    /// List jobs
    Jobs(Jobs),
    /// List a job's tasks and who ran them
    Tasks(Tasks),
    /// Show what a job or a task printed
    Logs(Logs),
    /// List the files in a job's folder, or take one
    Files(Files),
    /// Wait until jobs have ended
    Wait(Wait),
    /// End a job or some of its tasks, for good
    Kill(Act),
    /// Run failed and killed tasks again
    Retry(Act),
    /// Try a job that is over again, held back before anything starts
    Requeue(Act),
    /// Remove jobs that are over, with their output and folders; the audit keeps its records
    Remove(Remove),
    /// Submit a job again, as a new job
    Resubmit(Resubmit),
    /// Hold a job back; what runs is ended and will run again
    Block(Act),
    /// Let a blocked job go on; it is decided anew
    Unblock(Act),
    /// Stop a job where it is
    Suspend(Act),
    /// Let a suspended job go on
    Resume(Act),
    /// As whom a job runs on each worker, or would, and by which rules
    Explain(Explain),
    /// Who you are to the supervisor
    Whoami(Asking),
    /// Act as a proxy user from now on, or as yourself again
    As(As),
    /// Who may act as whom, until when
    #[command(subcommand)]
    Grants(Box<Grants>),
    /// People, and the proxy users they act as
    #[command(subcommand)]
    Users(Box<Users>),
    /// The address that opens the pages in a browser, signed in as you, once
    Web(Web),
    /// Sign in at a supervisor whose socket is not here
    Login(Login),
    /// End the session of `login`
    Logout(Logout),
    /// Who is signed in as you, and where
    #[command(subcommand)]
    Sessions(Sessions),
    /// Tokens for scripts
    #[command(subcommand)]
    Tokens(Tokens),
    /// Passwords of the accounts that jobs run as, where workers need them
    #[command(subcommand)]
    Password(PasswordCommand),
    /// What a change of grants, users or workers would do
    #[command(subcommand)]
    Policy(Policy),
    /// Look after the workers
    #[command(subcommand)]
    Worker(Worker),
    /// Who did what, as whom, by whose leave; and whether the record of it holds
    #[command(subcommand)]
    Audit(Audit),
    /// Check this machine and the farm, and say in words what is wrong
    Doctor(Common),
    /// Check configuration files
    #[command(subcommand)]
    Config(Config),
    /// Install the services on this machine
    Install(Install),
    /// Remove what `stead install` put there
    Uninstall(Uninstall),
    /// The service that authenticates, decides, stores and schedules
    Supervisor(Supervisor),
    /// Print the OpenAPI document of the supervisor's HTTP interface
    Openapi,
    /// Qube!'s commands: qb sub, qb jobs, qb hosts, qb kill ...; the same as qbsub, qbjobs, qbhosts, qbkill ...
    Qb(Qb),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Parts of the commands above that need a process of their own.
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

/// What every command that asks the supervisor takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask the farm that lives in DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// What commands take that can be given as another.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Asking {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask the farm that lives in DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) acting: Acting,
}

/// As whom a command is given.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Acting {
    /// Act as a proxy user, by a grant, for this command alone
    #[arg(long = "as", value_name = "PROXYUSER")]
    pub(crate) acting_as: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead login
  stead login http://127.0.0.1:7878 --user ada
  stead login --password-stdin < password-file
  stead login --oidc

The session is kept for the address, in a file of yours alone (~/.config/stead/credentials), and used when STEAD_URL names
that address. Scripts use a token instead: STEAD_TOKEN_FILE=FILE (or STEAD_TOKEN), made by `stead tokens create`.")]
pub(crate) struct Login {
    /// Where [default: STEAD_URL, or http://127.0.0.1:7878]
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// As whom [default: your name here]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Read the password from standard input instead of the terminal
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Sign in with a browser, at the OpenID provider that the supervisor names
    #[arg(long, conflicts_with_all = ["user", "password_stdin"])]
    pub(crate) oidc: bool,
    /// Sign a browser in instead of this terminal, by the socket: as `stead web`
    #[arg(long, conflicts_with_all = ["url", "user", "password_stdin", "oidc"])]
    pub(crate) web: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead web
  xdg-open is not called: what stands on a command line can be read by others on this machine.

The code behind the # is good once, for two minutes. The supervisor's socket has to be here: the kernel says who you are.")]
pub(crate) struct Web {
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// Where [default: STEAD_URL, or http://127.0.0.1:7878]
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whose sessions or tokens.
#[derive(Debug, Args)]
pub(crate) struct Credentials {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Those of somebody else (administrators)
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Credential {
    #[command(flatten)]
    pub(crate) common: Common,
    /// As the list names it
    #[arg(value_name = "ID", required = true)]
    pub(crate) id: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stead tokens create ci --scope read,submit --expires 30d > token")]
pub(crate) struct MakeToken {
    #[command(flatten)]
    pub(crate) common: Common,
    /// What it is for
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What it is good for: read, submit, control (kill, retry …), manage (what needs a role; sessions and tokens), metrics (the farm's figures, for administrators)
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = "read,submit")]
    pub(crate) scope: Vec<String>,
    /// Until when: 30d, 12h, or 2026-11-30T18:00:00Z [default: 90d]
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sessions {
    /// List them
    List(Credentials),
    /// End them
    Revoke(Credential),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// List them
    List(Credentials),
    /// Make one; it is shown once
    Create(MakeToken),
    /// End them
    Revoke(Credential),
}

/// How a listing is cut into pieces.
#[derive(Debug, Clone, Args)]
pub(crate) struct Page {
    /// At most N rows
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Go on after this row
    #[arg(long, value_name = "ROW")]
    pub(crate) after: Option<String>,
}

/// What a job is, in all its forms.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct JobOptions {
    /// One task per frame: 1-100, 1-100x5, 1,3,7-9. {frame} {start} {end} {step} act in the command
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub(crate) frames: Option<String>,
    /// N frames per task, {start} to {end}
    #[arg(long, value_name = "N", requires = "frames")]
    pub(crate) chunk: Option<u64>,
    /// One task per line of FILE; {line} acts in the command
    #[arg(long, value_name = "FILE", conflicts_with = "frames")]
    pub(crate) each: Option<PathBuf>,
    /// A shell's line that runs before the first task on a worker, as the tasks do; if it fails, they don't run
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub(crate) session_enter: Option<String>,
    /// A shell's line that runs after the last task on a worker, however they ended
    #[arg(long, value_name = "LINE", allow_hyphen_values = true)]
    pub(crate) session_exit: Option<String>,
    /// A job parameter of the template
    #[arg(short = 'p', long = "parameter", value_name = "NAME=VALUE")]
    pub(crate) parameter: Vec<String>,
    /// The job's name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// An environment variable of the job
    #[arg(long, value_name = "K=V")]
    pub(crate) env: Vec<String>,
    /// Run in DIR instead of the job's own folder
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// File mode creation mask, octal
    #[arg(long, value_name = "MASK")]
    pub(crate) umask: Option<String>,
    /// Try a failed task N times more
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// End a task that runs longer: 90, 5m, 1h30m
    #[arg(long, value_name = "TIME")]
    pub(crate) time_limit: Option<String>,
    /// Cores a task gets, enforced where the host can: 2, 0.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Memory a task gets: 512M, 4G
    #[arg(long, value_name = "SIZE")]
    pub(crate) mem: Option<String>,
    /// Labels or the name of the workers that may run it
    #[arg(long, value_name = "EXPR")]
    pub(crate) requires: Option<String>,
    /// Higher runs first
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) priority: Option<i32>,
    /// Start when JOB is complete
    #[arg(long, value_name = "JOB")]
    pub(crate) after: Vec<u64>,
    /// Start when JOB has ended, however
    #[arg(long, value_name = "JOB")]
    pub(crate) after_any: Vec<u64>,
    /// Run as USER (needs the role impersonate; the record names you both)
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Have paths in its command, variables and folder as each worker's worker_path_map (qbwrk.conf) says
    #[arg(long)]
    pub(crate) convert_paths: bool,
    /// Give its tasks a token to submit and read as the job's user while they run ($STEAD_TOKEN_FILE)
    #[arg(long)]
    pub(crate) token: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead submit -- povray +Iscene.pov +Oout.png
  stead submit --frames 1-240 --chunk 10 -- render --from {start} --to {end}
  stead submit --each shots.txt --retries 2 -- transcode {line}
  stead submit job.yaml -p Scene=/film/a.blend     an OpenJD 2023-09 job template
  stead submit --mem 4G --cpus 2 --time-limit 2h --follow -- make -j2
  stead submit --after 41 -- notify-the-team")]
pub(crate) struct Submit {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[command(flatten)]
    pub(crate) job: JobOptions,
    /// Hold it back until it is unblocked
    #[arg(long, conflicts_with_all = ["wait", "follow"])]
    pub(crate) blocked: bool,
    /// Wait until the job has ended; exit code 5 unless it is complete
    #[arg(long)]
    pub(crate) wait: bool,
    /// Show its output as it comes, then as --wait
    #[arg(long, conflicts_with = "wait")]
    pub(crate) follow: bool,
    /// Job template (YAML or JSON)
    #[arg(value_name = "TEMPLATE")]
    pub(crate) template: Option<PathBuf>,
    /// Command to run
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Each job as its user (needs root)
    User,
    /// Each job as the proxy account (needs root)
    Proxy,
    /// Each job as the owner of this farm
    Desktop,
}

/// How a farm on this machine is set up.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FarmOptions {
    /// Plain HTTP for this machine [default: 127.0.0.1:7878, or a free port if that is taken]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// As whom jobs run [default: desktop; for root: user]
    #[arg(long)]
    pub(crate) mode: Option<ModeArg>,
    /// Account of proxy mode; `throwaway` is an id that nobody has [default: qubeproxy]
    #[arg(long, value_name = "NAME|throwaway")]
    pub(crate) proxy_account: Option<String>,
    /// Desktop mode: take these people's jobs too, and run them as you (`any`: everybody's)
    #[arg(long, value_name = "USER", num_args = 1.., value_delimiter = ',')]
    pub(crate) accept: Vec<String>,
    /// Settings of the supervisor
    #[arg(long, value_name = "FILE")]
    pub(crate) supervisor_conf: Option<PathBuf>,
    /// Tasks at once per worker [default: number of cores]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// Labels of the workers
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: Vec<String>,
    /// Number of workers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) workers: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead dev                                  as yourself: jobs run as you
  sudo stead dev                             jobs run as whoever submits them
  sudo stead dev --mode proxy                jobs run as the account qubeproxy
  stead dev --data /tmp/farm --listen 127.0.0.1:9000 --workers 2

It prints `ready url=… socket=…` when jobs can be submitted. ^C or SIGTERM ends the services. In user and proxy mode
what runs goes on and is taken over by the next `stead dev` on the same directory.")]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) farm: FarmOptions,
    /// Where the farm keeps everything [default: ~/.local/share/stead; for root: /var/lib/stead]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Desktop mode: end with the login session in which it was started
    #[arg(long)]
    pub(crate) with_login: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead run -- echo hello
  stead run --frames 1-24 -- povray +Iscene.pov +Oframe-{frame}.png
  stead run template.yaml -p Frames=1-10
  stead run examples/tour                    the tour: an animation, and who rendered it
  sudo stead run --user ada -- id            as ada
  sudo stead run --mode proxy --proxy-account throwaway -- id
                                             as an id that nobody has

What the job leaves in its own folder is copied to ./stead-out/NAME/ and belongs to you.")]
pub(crate) struct Run {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) farm: FarmOptions,
    #[command(flatten)]
    pub(crate) acting: Acting,
    #[command(flatten)]
    pub(crate) job: JobOptions,
    /// Where the job's files are handed over
    #[arg(long, value_name = "DIR", default_value = "stead-out")]
    pub(crate) out: PathBuf,
    /// Don't hand over any files
    #[arg(long)]
    pub(crate) no_out: bool,
    #[command(flatten)]
    pub(crate) inner: Inner,
    /// Job template, or a folder with a tour.toml
    #[arg(value_name = "TEMPLATE|TOUR")]
    pub(crate) target: Option<PathBuf>,
    /// Command to run
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead jobs
  stead jobs --state running,pending --user ada
  stead jobs --json --limit 20")]
pub(crate) struct Jobs {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[command(flatten)]
    pub(crate) page: Page,
    /// Only jobs that run as USER
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only jobs that LOGIN submitted
    #[arg(long, value_name = "LOGIN")]
    pub(crate) login_user: Option<String>,
    /// Only jobs in these states
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(crate) state: Vec<String>,
    /// Only jobs with TEXT in their name, or with that number
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
    /// In this order: newest, oldest, priority or name
    #[arg(long, value_name = "ORDER")]
    pub(crate) sort: Option<String>,
    /// Leave the first N out: with --search and --sort instead of --after
    #[arg(long, value_name = "N", conflicts_with = "after")]
    pub(crate) skip: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead tasks 42
  stead tasks 42 --state failed
  stead tasks 42.render --json")]
pub(crate) struct Tasks {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[command(flatten)]
    pub(crate) page: Page,
    /// Only this step (index or name)
    #[arg(long)]
    pub(crate) step: Option<String>,
    /// Only tasks in these states
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub(crate) state: Vec<String>,
    /// JOB, or a task of it: JOB.TASK, JOB.STEP.TASK, JOB:FRAME
    #[arg(value_name = "JOB[.TASK]")]
    pub(crate) job: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead logs 42                 all tasks, in the order it came
  stead logs 42.7 --stderr      what task 7 complained about
  stead logs 42:105 --attempt 1 the first try of frame 105
  stead logs -f 42              as it comes, until the job ends")]
pub(crate) struct Logs {
    /// Ask the farm that lives in DIR
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) acting: Acting,
    /// Print one JSON object: {"job", "end", "text"}
    #[arg(long, conflicts_with = "follow")]
    pub(crate) json: bool,
    /// Go on until it ends
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only standard output
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Only standard error
    #[arg(long)]
    pub(crate) stderr: bool,
    /// A certain try of the task [default: the last one]
    #[arg(long, value_name = "N")]
    pub(crate) attempt: Option<u32>,
    /// Put [step.task] in front of each line
    #[arg(long)]
    pub(crate) prefix: bool,
    #[arg(value_name = "JOB[.TASK]")]
    pub(crate) job: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead files 42                      what lies in the job's folder
  stead files 42 out                  in its folder `out`
  stead files 42 out/0001.png -o .    take a file
  stead files 42 notes.txt -o -       show it")]
pub(crate) struct Files {
    #[command(flatten)]
    pub(crate) common: Asking,
    /// Take the file, into FILE (`-`: standard output, `.`: under its own name); a file that is there stays as it is
    #[arg(short, long, value_name = "FILE", requires = "path")]
    pub(crate) output: Option<PathBuf>,
    /// On this worker, where the job ran on several
    #[arg(long, value_name = "WORKER")]
    pub(crate) worker: Option<String>,
    #[arg(value_name = "JOB")]
    pub(crate) job: u64,
    /// Below the job's folder
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead wait 42 && echo done
  stead wait 42 43 --timeout 1h")]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) common: Asking,
    /// Give up after this time (exit code 5)
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
    #[arg(required = true, value_name = "JOB")]
    pub(crate) jobs: Vec<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[arg(required = true, value_name = "JOB")]
    pub(crate) jobs: Vec<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead kill 42 --reason \"wrong scene\"
  stead retry 42.7 42.8          tasks 7 and 8 only
  stead block 42:105             one frame")]
pub(crate) struct Act {
    #[command(flatten)]
    pub(crate) common: Asking,
    /// Kept with the job and in the audit record
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// JOB, or tasks of it: JOB.TASK, JOB.STEP.TASK, JOB:FRAME
    #[arg(required = true, value_name = "JOB[.TASK]")]
    pub(crate) targets: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead explain 42
  stead explain --as render            before submitting: as whom would it run, and where?
  stead explain --user ada --as render --worker lin-07 --at tomorrow
                                       for administrators and auditors: what would ada get?")]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) common: Common,
    /// What USER would get, for administrators and auditors; else: if you submitted it as USER
    #[arg(long, conflicts_with = "job")]
    pub(crate) user: Option<String>,
    /// Acting as PROXYUSER
    #[arg(long = "as", value_name = "PROXYUSER")]
    pub(crate) acting_as: Option<String>,
    /// Then instead of now: 18:00 (UTC), tomorrow, 2h, 3d, 2026-11-30T18:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "job")]
    pub(crate) at: Option<String>,
    /// With this priority: a site may keep high ones for administrators
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "job")]
    pub(crate) priority: Option<i32>,
    /// Only this worker
    #[arg(long, value_name = "NAME")]
    pub(crate) worker: Option<String>,
    #[arg(value_name = "JOB")]
    pub(crate) job: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead as                 as whom do I act?
  stead as render          act as render, in every command and browser, until I end it
  stead as --clear         be myself again
  stead as --list          whom may I act as, and until when?

For one command alone: --as, as in `stead jobs --as render`.")]
pub(crate) struct As {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Be yourself again
    #[arg(long, conflicts_with_all = ["list", "proxy_user"])]
    pub(crate) clear: bool,
    /// Those you may act as
    #[arg(long, conflicts_with = "proxy_user")]
    pub(crate) list: bool,
    #[arg(value_name = "PROXYUSER")]
    pub(crate) proxy_user: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Grants {
    /// Let somebody act as a proxy user
    #[command(after_help = "\
Examples:
  stead grants add ada render --until 18:00 --reason \"the night shots\"
  stead grants add group:artists render --until 30d --workers farm --jobs 'shot-*'
  stead grants add bob comp --from tomorrow --until 3d

For administrators and those who answer for the proxy user.")]
    Add(GrantAdd),
    /// Ask to be let act as a proxy user
    #[command(after_help = "\
Examples:
  stead grants request render --until 3d --reason \"shot 12\"")]
    Request(GrantRequest),
    /// Say yes to a grant that was asked for
    #[command(after_help = "\
Examples:
  stead grants list            which are asked for?
  stead grants approve 7")]
    Approve(GrantApprove),
    /// End a grant: what waits for it is blocked, what runs comes to its end
    #[command(after_help = "\
Examples:
  stead grants revoke 7
  stead grants revoke 7 --kill      what runs by it ends, too")]
    Revoke(GrantRevoke),
    /// List grants: your own; for administrators all
    #[command(after_help = "\
Examples:
  stead grants list
  stead grants list --login ada --all
  stead grants list --proxy render --json")]
    List(GrantList),
}

/// What a grant is good for.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GrantTerms {
    /// Until then: 18:00 (UTC), tomorrow, 2h, 3d, 2026-11-30T18:00:00Z [default: until it is revoked]
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Not before then [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Why; kept with the grant
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only on workers with these labels, as --requires
    #[arg(long, value_name = "LABELS")]
    pub(crate) workers: Option<String>,
    /// Only for jobs of such names: 'shot-*,comp-?'
    #[arg(long, value_name = "PATTERNS")]
    pub(crate) jobs: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct GrantAdd {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[command(flatten)]
    pub(crate) terms: GrantTerms,
    /// Who may act, or group:NAME
    #[arg(value_name = "LOGIN")]
    pub(crate) login: String,
    /// As whom
    #[arg(value_name = "PROXYUSER")]
    pub(crate) proxy: String,
}

#[derive(Debug, Args)]
pub(crate) struct GrantRequest {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[command(flatten)]
    pub(crate) terms: GrantTerms,
    /// As whom
    #[arg(value_name = "PROXYUSER")]
    pub(crate) proxy: String,
}

#[derive(Debug, Args)]
pub(crate) struct GrantApprove {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[arg(value_name = "GRANT")]
    pub(crate) id: u64,
}

#[derive(Debug, Args)]
pub(crate) struct GrantRevoke {
    #[command(flatten)]
    pub(crate) common: Asking,
    /// End what runs by it, too
    #[arg(long)]
    pub(crate) kill: bool,
    #[arg(value_name = "GRANT")]
    pub(crate) id: u64,
}

#[derive(Debug, Args)]
pub(crate) struct GrantList {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[command(flatten)]
    pub(crate) page: Page,
    /// Only those of LOGIN (or group:NAME)
    #[arg(long, value_name = "LOGIN")]
    pub(crate) login: Option<String>,
    /// Only those for PROXYUSER
    #[arg(long, value_name = "PROXYUSER")]
    pub(crate) proxy: Option<String>,
    /// Those that ended, too
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead resubmit 42
  stead resubmit 42 --as render

A new job is made like the one that is there, and decided anew. What can't be retried can be submitted again: a job that
is `badlogin`, once its account or password is right.")]
pub(crate) struct Resubmit {
    #[command(flatten)]
    pub(crate) common: Common,
    /// As this proxy user, for this command alone
    #[arg(long = "as", value_name = "PROXYUSER")]
    pub(crate) acting_as: Option<String>,
    #[arg(value_name = "JOB")]
    pub(crate) job: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PasswordCommand {
    /// Keep the password of an account, for workers that log it on with one
    #[command(after_help = "\
Examples:
  stead password set
  stead password set --check
  stead password set render                   as an administrator, or as who answers for render
  stead password set ada --domain STUDIO      as an administrator
  stead password set ada --password-stdin < password-file

Only workers whose launcher.conf says requires_password = true need one. It is asked for twice and not shown, never
given as an argument, kept sealed, and sent to one worker's launcher for one session at a time.")]
    Set(PasswordSet),
    /// Whose passwords are current, stale or missing
    List(Common),
    /// Take a password away; jobs that need it are refused
    Delete(PasswordDelete),
    /// Seal all passwords under a new key, and forget the old one
    RotateKey(Common),
    /// Print the sealed form of a password for a configuration file (proxy_password); nothing is kept
    Hash(PasswordHash),
}

#[derive(Debug, Args)]
pub(crate) struct PasswordSet {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Say whether the one that is kept is right, as far as the supervisor's host can tell, and what workers said of it
    #[arg(long, conflicts_with_all = ["display", "password_stdin"])]
    pub(crate) check: bool,
    /// Print the sealed form for a configuration file (proxy_password) and keep nothing
    #[arg(long)]
    pub(crate) display: bool,
    /// Another way to name the account
    #[arg(long, value_name = "ACCOUNT", conflicts_with = "account")]
    pub(crate) user: Option<String>,
    /// The account's domain (administrators only)
    #[arg(long)]
    pub(crate) domain: Option<String>,
    /// Read the password from standard input instead of the terminal
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Whose [default: one's own]
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordDelete {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Whose, with DOMAIN\\ in front if it has one [default: one's own]
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordHash {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Read the password from standard input instead of the terminal
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The account whose password it is: it is good for no other
    #[arg(value_name = "ACCOUNT")]
    pub(crate) account: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// Make a user, or change one: what isn't named stays as it is
    #[command(after_help = "\
Examples:
  stead users add render --type proxy --answers ada --note \"final frames\"
  stead users add render --max-cpus 8 --max-mem 16G --env OCIO=/lib/ocio/config.ocio
  stead users add ada --role admin
  stead users add ada --role none
  stead users add bob --disable

An option that may be given several times replaces what was there. An empty text, or 0, takes a setting away.")]
    Add(Box<UserAdd>),
    /// List the users that the farm has rows for
    List(UserList),
    /// Show one user
    Show(UserShow),
    /// Remove a user, their grants, tokens and sessions
    Remove(UserShow),
    /// List 1: who may act as another at all
    #[command(after_help = "\
Examples:
  stead users may-act                          who is in it?
  stead users may-act ada group:artists        they may
  stead users may-act bob --no                 he may not, whoever gives him a grant
  stead users may-act bob --forget             the list says nothing of him any more

For administrators. Besides, it takes a grant: `stead grants add`.")]
    MayAct(Listing),
    /// List 2: which proxy users may be acted as at all
    #[command(after_help = "\
Examples:
  stead users may-be-acted-as
  stead users may-be-acted-as render --no      nobody acts as render for the time being

For administrators.")]
    MayBeActedAs(Listing),
    /// Set a password of the farm's own accounts (own_accounts in supervisor.toml)
    #[command(after_help = "\
Examples:
  stead users password
  stead users password ada
  stead users password ada --password-stdin < password-file
  stead users password ada --remove

Without NAME one's own is changed, which takes the old one; with it an administrator sets somebody's. All sessions and
tokens of that person end. On standard input the old one comes first, each on a line of its own.")]
    Password(UserPassword),
}

/// One of the two lists.
#[derive(Debug, Args)]
pub(crate) struct Listing {
    #[command(flatten)]
    pub(crate) common: Asking,
    /// They may not
    #[arg(long, requires = "names", conflicts_with = "forget")]
    pub(crate) no: bool,
    /// Say nothing of them any more
    #[arg(long, requires = "names")]
    pub(crate) forget: bool,
    /// Who may [default: show the list]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UserPassword {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Read from standard input instead of the terminal
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Take the account away: nobody signs in by it any more
    #[arg(long, requires = "name", conflicts_with = "password_stdin")]
    pub(crate) remove: bool,
    /// Whose [default: one's own]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypeArg {
    /// A person
    Login,
    /// Acted as by others; acts as nobody
    Proxy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Manages users, grants, workers and everybody's jobs
    Admin,
    /// Submits as other people
    Impersonate,
    /// Reads the audit
    Auditor,
    /// No role
    None,
}

#[derive(Debug, Args)]
pub(crate) struct UserAdd {
    #[command(flatten)]
    pub(crate) common: Asking,
    /// [default: login]
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<TypeArg>,
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Vec<RoleArg>,
    /// May do nothing here any more
    #[arg(long, conflicts_with = "enable")]
    pub(crate) disable: bool,
    /// May work here again
    #[arg(long)]
    pub(crate) enable: bool,
    /// An environment variable of what runs as this user
    #[arg(long, value_name = "K=V")]
    pub(crate) env: Vec<String>,
    /// Where it works, unless the job says so
    #[arg(long, value_name = "DIR")]
    pub(crate) working_root: Option<String>,
    /// Labels or the name of the workers it may run on
    #[arg(long, value_name = "EXPR")]
    pub(crate) requires: Option<String>,
    /// Cores of a task that asks for none
    #[arg(long, value_name = "N")]
    pub(crate) default_cpus: Option<String>,
    /// The most cores a task may ask for
    #[arg(long, value_name = "N")]
    pub(crate) max_cpus: Option<String>,
    /// Memory of a task that asks for none
    #[arg(long, value_name = "SIZE")]
    pub(crate) default_mem: Option<String>,
    /// The most memory a task may ask for
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_mem: Option<String>,
    /// Who answers for this proxy user: gives, approves and ends its grants
    #[arg(long, value_name = "LOGIN", value_delimiter = ',')]
    pub(crate) answers: Vec<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct UserList {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[command(flatten)]
    pub(crate) page: Page,
}

#[derive(Debug, Args)]
pub(crate) struct UserShow {
    #[command(flatten)]
    pub(crate) common: Asking,
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Which of the last jobs would run as somebody else, or not at all
    #[command(after_help = "\
Examples:
  stead policy diff change.toml
  stead policy diff change.toml --jobs 5000 --json

change.toml, of which every part may be missing:
  revoke = [7]                          grants to end

  [[grants]]                            grants to add
  login_user = \"ada\"
  proxy_user = \"render\"                from, until, workers, jobs as in a grant

  [users.bob]
  disabled = true                       type, roles

  [workers.lin-07]
  mode = \"proxy\"                        proxy_account, accept, labels

Nothing is changed. For administrators.")]
    Diff(PolicyDiff),
}

#[derive(Debug, Args)]
pub(crate) struct PolicyDiff {
    #[command(flatten)]
    pub(crate) common: Asking,
    /// So many of the last jobs
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) jobs: u32,
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Worker {
    /// The host service that offers slots and drives sessions
    #[command(after_help = "\
Examples:
  stead worker run --data ~/.local/share/stead --name desk --mode desktop
  stead worker run --data /var/lib/stead --name render-3 --launcher /var/lib/stead/run/launcher.socket --mode user")]
    Run(Box<WorkerRun>),
    /// List the workers
    List(Asking),
    /// Let a worker finish what it runs and take nothing new
    #[command(after_help = "\
Examples:
  stead worker drain render-3
  stead worker drain render-3 --undo")]
    Drain(Drain),
    /// Switch this host between a service for everybody and a worker of whoever is logged in
    #[command(after_help = "\
Examples:
  stead worker mode                                 which it is, and whose
  sudo stead worker mode desktop --user ada         ada's jobs only, as ada, with her screen, while she is logged in
  sudo stead worker mode desktop --user everybody   the same for each who logs in
  sudo stead worker mode service                    back to the service")]
    Mode(WorkerMode),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HostMode {
    /// Started with the host, in user or proxy mode
    Service,
    /// Started at log-in, as the person who logs in
    Desktop,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerMode {
    /// Left out, it says which one it is
    #[arg(value_enum)]
    pub(crate) mode: Option<HostMode>,
    /// Whose desktop it is: all who may have a worker here, and no others (`everybody`: each who logs in)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) user: Vec<String>,
    /// Lets that worker take these people's jobs, too; they run as its owner (`any`: everybody's)
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    pub(crate) accept: Vec<String>,
    /// Don't wait for what the service still runs: it is given up, and run again elsewhere
    #[arg(long)]
    pub(crate) now: bool,
    /// The farm's folder [default: /var/lib/stead]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) common: Asking,
    /// Let it take jobs again
    #[arg(long)]
    pub(crate) undo: bool,
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerRun {
    /// The farm's folder: it connects to DIR/run/worker.socket
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Settings (worker.toml); options given here come first
    #[arg(long, value_name = "FILE")]
    pub(crate) conf: Option<PathBuf>,
    /// Its name in the farm [default: the host's; of a person's worker: the host's and theirs]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Service mode: the socket of the host's launcher
    #[arg(long, value_name = "SOCKET")]
    pub(crate) launcher: Option<PathBuf>,
    /// As whom jobs run
    #[arg(long)]
    pub(crate) mode: Option<ModeArg>,
    /// Account of proxy mode
    #[arg(long, value_name = "NAME|throwaway")]
    pub(crate) proxy_account: Option<String>,
    /// Desktop mode: take these people's jobs too (`any`: everybody's)
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    pub(crate) accept: Vec<String>,
    /// Tasks at once [default: number of cores]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,
    /// A label that jobs can require
    #[arg(long, value_name = "LABEL")]
    pub(crate) label: Vec<String>,
    /// The program of sessions [default: stead-session beside this one]
    #[arg(long, value_name = "PATH")]
    pub(crate) session: Option<PathBuf>,
    /// This host's Qube! settings (qb.conf); they go before those of worker.toml
    #[arg(long, value_name = "FILE")]
    pub(crate) qb_conf: Option<PathBuf>,
    /// Read /etc/qb.conf if it is there
    #[arg(long)]
    pub(crate) qube: bool,
    /// Desktop mode: end with the login session in which it was started
    #[arg(long)]
    pub(crate) with_login: bool,
    /// End with the process that started it
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) with_parent: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct Supervisor {
    /// The farm's folder
    #[arg(long, value_name = "DIR", default_value = "/var/lib/stead")]
    pub(crate) data: PathBuf,
    /// Who operates this farm: the person whose processes have the supervisor's own id
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: Option<String>,
    /// Ids that workers may have, besides its own
    #[arg(long, value_name = "UID")]
    pub(crate) worker_uid: Vec<u32>,
    /// An account that workers may have
    #[arg(long, value_name = "NAME")]
    pub(crate) worker_user: Vec<String>,
    /// Plain HTTP, loopback only
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// Settings (supervisor.toml)
    #[arg(long, value_name = "FILE")]
    pub(crate) supervisor_conf: Option<PathBuf>,
    /// Qube!'s settings of the supervisor (qb.conf)
    #[arg(long, value_name = "FILE")]
    pub(crate) qb_conf: Option<PathBuf>,
    /// Qube!'s settings of all workers (qbwrk.conf)
    #[arg(long, value_name = "FILE")]
    pub(crate) qbwrk_conf: Option<PathBuf>,
    /// Read /etc/qb.conf and /etc/qbwrk.conf where they are there
    #[arg(long)]
    pub(crate) qube: bool,
    /// Write the ready line to this file in the supervisor's folder instead of standard output.
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) ready_file: Option<String>,
    /// End with the process that started it
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) with_parent: Option<i32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Name every record that was changed, taken out, put in or cut off
    #[command(after_help = "\
Examples:
  sudo stead audit verify                          the audit of the farm on this machine, also while it runs
  stead audit verify chain.000001 chain proxied    files by themselves, anywhere
  stead audit verify --anchor /other/disk/ends     and that nothing was cut off since
  sudo stead audit verify --workers                and that the hosts launched what was decided, and nothing else

Exit code 1 when something is found.")]
    Verify(AuditVerify),
    /// Print the last records
    #[command(after_help = "\
Examples:
  stead audit tail
  stead audit tail -f --act submit")]
    Tail(AuditTail),
    /// Print the records that match
    #[command(after_help = "\
Examples:
  stead audit search --actor ada --as render --since yesterday
  stead audit search --act kill --job 7 --json")]
    Search(AuditSearch),
    /// Print records as they are in the files, one line of JSON each
    #[command(after_help = "\
Examples:
  stead audit export > audit.jsonl
  stead audit export --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --proxied")]
    Export(AuditSearch),
    /// Who was behind a file or a process: who asked, as whom, by whose leave
    #[command(after_help = "\
Examples:
  stead audit whence /var/lib/stead/work/42/out/shot.exr     a job's own folder: exact
  stead audit whence /projects/film/shot.exr                 candidates, by owner and time
  stead audit whence render-3:4711                           a process
  stead audit whence render-3:4711@2026-11-22T10:00:00Z      as of then")]
    Whence(AuditWhence),
}

#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    #[command(flatten)]
    pub(crate) common: Common,
    /// A file or log that holds the audit's anchored ends
    #[arg(long, value_name = "FILE")]
    pub(crate) anchor: Vec<PathBuf>,
    /// The chain's first public key, as it was written down when the farm was new
    #[arg(long, value_name = "HEX")]
    pub(crate) key: Option<String>,
    /// Compare with the launchers' own signed logs, both ways
    #[arg(long, conflicts_with = "files")]
    pub(crate) workers: bool,
    /// A launcher's log of another host [with --workers: DIR/launcher/log/launches besides]
    #[arg(long, value_name = "FILE", requires = "workers")]
    pub(crate) launch_log: Vec<PathBuf>,
    /// Leave out files that were full before: 2h, 3d, yesterday, 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "files")]
    pub(crate) since: Option<String>,
    /// Files of a chain; without any, the farm's
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

/// Which records.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AuditFilter {
    /// Who signed in
    #[arg(long, value_name = "LOGIN")]
    pub(crate) actor: Option<String>,
    /// As whom
    #[arg(long = "as", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// What: submit, kill, warrant, … (docs/audit.md has all)
    #[arg(long)]
    pub(crate) act: Option<String>,
    /// intent, ok, refused, failed, unknown
    #[arg(long)]
    pub(crate) outcome: Option<String>,
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<u64>,
    /// Only operations in another's name
    #[arg(long)]
    pub(crate) proxied: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditTail {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) filter: AuditFilter,
    /// Go on as records come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// So many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub(crate) lines: usize,
}

#[derive(Debug, Args)]
pub(crate) struct AuditSearch {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) filter: AuditFilter,
    /// From then on: 2h, 3d, today, yesterday (UTC), 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditWhence {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(value_name = "PATH | HOST:PID[@TIME]")]
    pub(crate) what: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Check a supervisor.toml, worker.toml, launcher.conf, or Qube!'s qb.conf or qbwrk.conf
    #[command(after_help = "\
Of Qube!'s files everything is said that is found, with file and line; exit code 1 if there are errors.

Examples:
  stead config check /etc/stead/supervisor.toml
  stead config check /etc/qbwrk.conf
  stead config check --expand /etc/qbwrk.conf        without templates and macros, for every host
  stead config check --kind qbwrk.conf my-workers")]
    Check(ConfigCheck),
    /// What holds for a worker or the supervisor, each value with where it comes from
    #[command(after_help = "\
Without a file the running supervisor is asked: what is in force now.

Examples:
  stead config show                                  the supervisor's own settings
  stead config show --worker lin-07
  stead config show --worker lin-07 --qbwrk-conf new.conf --qb-conf lin-07.qb.conf")]
    Show(ConfigShow),
    /// Have the supervisor read qb.conf and qbwrk.conf again, and bring all workers to them
    #[command(after_help = "\
What runs keeps its account; what starts from now on has the new one. With an error in a file nothing changes.")]
    Reload(Common),
}

/// The kinds of files, by the names they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigKind {
    #[value(name = "supervisor.toml")]
    Supervisor,
    #[value(name = "worker.toml")]
    Worker,
    #[value(name = "launcher.conf")]
    Launcher,
    #[value(name = "qbwrk.conf")]
    QbWrk,
    #[value(name = "qb.conf")]
    Qb,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// What the file is, if its name does not say so
    #[arg(long, value_name = "NAME")]
    pub(crate) kind: Option<ConfigKind>,
    /// Print a qb.conf or qbwrk.conf as it is without templates and macros; passwords are not shown
    #[arg(long)]
    pub(crate) expand: bool,
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlatformArg {
    Linux,
    Osx,
    Winnt,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigShow {
    #[command(flatten)]
    pub(crate) common: Common,
    /// The worker's name
    #[arg(long, value_name = "NAME")]
    pub(crate) worker: Option<String>,
    /// The supervisor's file for its workers
    #[arg(long, value_name = "FILE")]
    pub(crate) qbwrk_conf: Option<PathBuf>,
    /// The worker's own file; its worker_lookup says which of the two wins
    #[arg(long, value_name = "FILE")]
    pub(crate) qb_conf: Option<PathBuf>,
    /// The worker's operating system
    #[arg(long, value_name = "NAME", default_value = "linux")]
    pub(crate) platform: PlatformArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Supervisor and worker with its launcher
    All,
    Supervisor,
    /// Worker and launcher, beside a supervisor that is installed
    Worker,
    /// A worker at login, for the person who types this; not as root
    Desktop,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo stead install                    supervisor, worker and launcher on this machine
  sudo stead install --dry-run          what it would do
  stead install desktop                 a worker that starts when you log in and ends when you log out
  stead install --root /tmp/stage       into a folder, for a package: no accounts, nothing started")]
pub(crate) struct Install {
    #[arg(value_enum, default_value_t = Part::All)]
    pub(crate) part: Part,
    #[command(flatten)]
    pub(crate) how: InstallHow,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo stead uninstall           the programs and services go, jobs and accounts stay
  sudo stead uninstall --purge   the data and the accounts it made go too")]
pub(crate) struct Uninstall {
    #[arg(value_enum, default_value_t = Part::All)]
    pub(crate) part: Part,
    /// Remove data, settings and the accounts it made, too
    #[arg(long)]
    pub(crate) purge: bool,
    #[command(flatten)]
    pub(crate) how: InstallHow,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InstallHow {
    /// Put files below DIR instead of /
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "stead qb COMMAND [OPTIONS]... (stead qb COMMAND --help lists its options)"
)]
pub(crate) struct Qb {
    /// The command and its words
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stead completions bash > ~/.local/share/bash-completion/completions/stead
  stead completions fish > ~/.config/fish/completions/stead.fish")]
pub(crate) struct Completions {
    pub(crate) shell: clap_complete::Shell,
}

/// See `farm`: each of these is the program started again to be in a clean process of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum Internal {
    /// Becomes ACCOUNT, then submits the body it reads and prints the answer.
    SubmitAs {
        #[arg(long)]
        account: String,
        /// Acting as this proxy user.
        #[arg(long = "as")]
        acting_as: Option<String>,
        #[arg(long)]
        socket: PathBuf,
    },
    /// Becomes UID and GID, then removes what is beneath the folder that is its standard input.
    Remove {
        #[arg(long)]
        uid: u32,
        #[arg(long)]
        gid: u32,
    },
    /// Becomes UID and GID, then writes what is beneath the folder that is its standard input.
    SendTree {
        #[arg(long)]
        uid: u32,
        #[arg(long)]
        gid: u32,
        #[arg(long)]
        only: Option<String>,
    },
    /// Becomes UID, then puts what it reads into the folder that is its standard error.
    ReceiveTree {
        #[arg(long)]
        uid: u32,
    },
    /// Gives up root, then says what the tour in the folder that is its standard input consists of.
    ReadTour,
    /// Gives up root, then reads scenes' reports and writes the tour's page to its standard error.
    PresentTour,
}

/// What root's small process tells the one that gives up root and runs the farm.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Inner {
    /// The farm's folder.
    #[arg(long = "inner", hide = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// How the folder of the outputs is called in front of a person.
    #[arg(long, hide = true, value_name = "PATH")]
    pub(crate) out_path: Option<String>,
    /// Descriptor of the tour's folder, and which scene it is.
    #[arg(long, hide = true, value_name = "FD")]
    pub(crate) tour_fd: Option<i32>,
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) scene: Option<usize>,
    /// Descriptor that takes the scene's report.
    #[arg(long, hide = true, value_name = "FD")]
    pub(crate) report_fd: Option<i32>,
    /// Become this account before anything else: a desktop scene.
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) become_account: Option<String>,
    /// Submit as this account.
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) submit_as: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    /// Architecture §7: what people, scripts and tests rely on.
    #[test]
    fn the_fixed_faces_are_there() {
        for line in [
            "stead dev --data /d --listen 127.0.0.1:1 --mode proxy --proxy-account throwaway --slots 2 --workers 2",
            "stead dev --accept ada bob",
            "stead run --mode desktop --user ada -- id -u",
            "stead run template.yaml -p A=1 -p B=2",
            "stead submit --json --frames 1-10x2 --chunk 5 --name n --env A=1 --env B=2 --cwd / --umask 022 --retries 1 \
             --time-limit 5 --cpus 1 --mem 1G --requires gpu --priority -5 --after 1 --after-any 2 --wait -- a {frame}",
            "stead submit --frames -5-5 --follow -- a",
            "stead submit --each f --as film --user ada -- a",
            "stead submit job.yaml -p A=1",
            "stead jobs --json --limit 5 --after 7 --state running,pending",
            "stead tasks 42 --json",
            "stead logs 42.7 --stderr --attempt 1 -f",
            "stead wait 42 43",
            "stead kill 42 --reason x",
            "stead retry 42.1",
            "stead block 42",
            "stead unblock 42",
            "stead suspend 42",
            "stead resume 42",
            "stead explain 42 --json",
            "stead explain --user ada --as film --worker w --json",
            "stead explain --user ada --as film --worker w --at 2026-11-30T18:00:00Z --json",
            "stead as",
            "stead as render --json",
            "stead as --clear",
            "stead as --list --json",
            "stead jobs --as render",
            "stead logs 4 --as render",
            "stead whoami --as render",
            "stead grants list --as render",
            "stead grants revoke 7 --as render",
            "stead users show render --as render",
            "stead worker list --as render",
            "stead policy diff f --as render",
            "stead kill 4 --as render",
            "stead grants add ada render --until 18:00 --from 2h --reason r --workers farm --jobs a-*",
            "stead grants request render --until tomorrow",
            "stead grants approve 7 --json",
            "stead grants revoke 7 --kill",
            "stead grants list --login ada --proxy render --all --json",
            "stead users add n --type proxy --role admin --role auditor --env A=1 --env B=2 --working-root /w --requires gpu \
             --default-cpus 1 --max-cpus 4 --default-mem 1G --max-mem 4G --answers ada --answers bob --note t --enable",
            "stead users add n --disable",
            "stead resubmit 42 --as render",
            "stead password set",
            "stead password set ada --domain D --password-stdin --json",
            "stead password set --user ada --check",
            "stead password set --display",
            "stead password list --json",
            "stead password delete ada",
            "stead password rotate-key",
            "stead password hash qubeproxy --password-stdin",
            "stead users list --json",
            "stead users show n",
            "stead users remove n",
            "stead users may-act",
            "stead users may-act ada group:artists --json",
            "stead users may-act ada --no --as render",
            "stead users may-be-acted-as render --forget",
            "stead policy diff f --jobs 10 --json",
            "stead whoami --json",
            "stead login",
            "stead login http://127.0.0.1:7878 --user ada --password-stdin",
            "stead logout",
            "stead sessions list --user ada --json",
            "stead sessions revoke 1 2",
            "stead tokens create ci --scope read,submit --expires 30d",
            "stead tokens revoke 3",
            "stead submit --token -- make",
            "stead submit --blocked -- make",
            "stead qb sub --range 1-5 -name n render -s QB_FRAME_NUMBER -- -x",
            "stead qb jobs --help",
            "stead worker list --json",
            "stead worker drain w --undo",
            "stead worker run --data /d --name w --launcher /s --mode user --slots 1 --label a --session /p",
            "stead supervisor --data /d --operator root --worker-uid 7 --worker-uid 8 --listen 127.0.0.1:0",
            "stead doctor --json",
            "stead config check f",
            "stead config check --json --kind qbwrk.conf --expand f",
            "stead config reload --json",
            "stead config show --data /d",
            "stead worker run --qb-conf /etc/qb.conf --qube",
            "stead supervisor --qb-conf a --qbwrk-conf b --qube",
            "stead config show --worker lin-07 --qbwrk-conf f --qb-conf g --platform winnt --json",
            "stead audit verify",
            "stead audit verify a b --anchor x --key 00 --json",
            "stead audit verify --workers --launch-log l --data /d --since 3d",
            "stead audit tail -f -n 5 --act submit",
            "stead audit search --actor ada --as render --act submit --job 7 --since yesterday --until today",
            "stead audit export --since 2h --proxied",
            "stead audit whence host:7@2026-11-22T10:00:00Z",
            "stead install worker --dry-run",
            "stead uninstall --purge",
            "stead openapi",
            "stead completions bash",
        ] {
            if let Err(e) = Cli::try_parse_from(line.split_whitespace()) {
                panic!("{line}: {e}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_refused() {
        for line in [
            "stead",
            "stead tokens",
            "stead sessions revoke",
            "stead login --password x",
            "stead submit a b",
            "stead submit --chunk 3 -- a",
            "stead wait",
            "stead users may-act --no",
            "stead users may-act ada --no --forget",
            "stead kill",
        ] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }

    const MADE: &str = "## Every command and option\n";
    /// The same wherever they are.
    const EVERYWHERE: [&str; 3] = ["json", "data", "as"];

    /// What is shown of a command, as its `--help` says it.
    fn described(command: &mut clap::Command, out: &mut String) {
        let usage = command.render_usage().to_string().replace("[OPTIONS] ", "").replace(" [OPTIONS]", "");
        let usage = usage.trim_start_matches("Usage: ").split_whitespace().collect::<Vec<_>>().join(" ");
        if !command.has_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            *out += &format!("* **`{usage}`**: {about}\n");
            let shown = |arg: &&clap::Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
            let (common, own): (Vec<_>, Vec<_>) = command
                .get_arguments()
                .filter(shown)
                .partition(|arg| arg.get_long().is_some_and(|long| EVERYWHERE.contains(&long)) && is_common(arg));
            for arg in own {
                *out += &format!("  * `{}`: {}\n", called(arg), said(arg));
            }
            if !common.is_empty() {
                let common: Vec<_> = common.into_iter().map(|arg| format!("`{}`", called(arg))).collect();
                *out += &format!("  * also {}\n", common.join(", "));
            }
        }
        for sub in command.get_subcommands_mut().filter(|c| !c.is_hide_set()) {
            described(sub, out);
        }
    }

    /// The option that is the same everywhere, and not another that is called so.
    fn is_common(arg: &clap::Arg) -> bool {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        ["Print JSON", "Ask the farm that lives in DIR", "Act as a proxy user, by a grant, for this command alone"]
            .contains(&help.as_str())
    }

    /// `-p, --parameter NAME=VALUE`.
    fn called(arg: &clap::Arg) -> String {
        let values = arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default().join(" ");
        let short = arg.get_short().map(|short| format!("-{short}"));
        let names: Vec<_> = short.into_iter().chain(arg.get_long().map(|long| format!("--{long}"))).collect();
        let several = if arg.get_num_args().is_some_and(|n| n.max_values() > 1) { "…" } else { "" };
        format!("{} {values}{several}", names.join(", ")).trim().to_owned()
    }

    fn said(arg: &clap::Arg) -> String {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let words = |words: Vec<String>| words.join(", ");
        let takes = arg.get_action().takes_values();
        let possible: Vec<_> =
            arg.get_possible_values().iter().filter(|v| !v.is_hide_set()).map(|v| v.get_name().to_owned()).collect();
        let possible = if takes && !possible.is_empty() { format!(" (of {})", words(possible)) } else { String::new() };
        let default: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
        let default =
            if takes && !default.is_empty() { format!(" [default: {}]", words(default)) } else { String::new() };
        // What looks like an element of HTML would vanish.
        (help + &possible + &default).replace('<', "\\<")
    }

    /// The page ends with all that `--help` shows. `STEAD_UPDATE=1` writes it anew.
    #[test]
    fn the_page_has_every_command_and_option() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let page = std::fs::read_to_string(path).expect("the page");
        let (by_hand, committed) = page.split_once(MADE).unwrap_or((&page, ""));
        let mut made = "\nMade of what `--help` says of each; a test fails where it doesn't.\n\n".to_owned();
        let mut command = Cli::command();
        command.build();
        described(&mut command, &mut made);
        if std::env::var_os("STEAD_UPDATE").is_some() {
            std::fs::write(path, format!("{}\n\n{MADE}{made}", by_hand.trim_end())).expect("written");
            return;
        }
        let differs = made.lines().zip(committed.lines()).find(|(new, old)| new != old);
        assert!(
            made == committed,
            "docs/cli.md differs, first here (new, committed): {differs:?}; STEAD_UPDATE=1 writes it"
        );
        // What belongs together is told of in words, too: each command at least by its name.
        for sub in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            let name = sub.get_name();
            assert!(by_hand.contains(&format!("`{name}")) || by_hand.contains(&format!("`stead {name}")), "{name}");
        }
    }

    /// Commands of the farm's later growth are not shown before they do something.
    #[test]
    fn every_command_shown_has_a_sentence() {
        let command = Cli::command();
        for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
        }
    }
}
