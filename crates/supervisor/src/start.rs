//! Start and stop: everything that can be refused is refused before the first connection is taken.

use crate::api::{self, App, Budget};
use crate::audit::{self, Act, Audit, AuditError, Record, Written};
use crate::auditor::Verified;
use crate::authn::{self, Accounts, Authn, Credentials, HostAccounts, Operator, SignIn};
use crate::config::Settings;
use crate::configuration::{Configuration, QubeFiles};
use crate::desks::Doorkeeper;
use crate::dispatch::{Dispatcher, Helpers};
use crate::error::StartError;
use crate::events::Events;
use crate::health::{Dispatching, Health};
use crate::identity::{Host, HostGroups, Identity, Seal};
use crate::keys::Keys;
use crate::listen::{self, Doorway, Limits};
use crate::logon::Logons;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::oidc::Oidc;
use crate::room::Room;
use crate::service::{Facts, LoginCodes, Service, Sheets, Submitting};
use crate::workshop::Workshop;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use policy::LoginUser;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Under which key the store knows the name of the audit chain.
const AUDIT_CHAIN: &str = "audit_chain";

const DESCRIPTORS: u64 = 65_536;
/// Connections of workers; a host has a few.
const WORKERS_MAX: usize = 4096;

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The farm's folder.
    pub data: PathBuf,
    /// Login name of a peer with the supervisor's own uid; that peer is an administrator.
    pub operator: Option<String>,
    /// Accounts that workers may connect from. Empty: the supervisor's own (desktop).
    pub worker_uids: Vec<u32>,
    /// Goes before the configuration file.
    pub listen: Option<String>,
    pub conf: Option<PathBuf>,
    /// Qube!'s files; named here they go before those that the configuration file names.
    pub qube: QubeFiles,
}

/// A supervisor that takes jobs.
pub struct Running {
    pub url: String,
    pub socket: PathBuf,
    store: Store,
    audit: Audit,
    #[cfg(test)]
    pub(crate) app: App,
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    dispatcher: Dispatcher,
    dispatching: JoinHandle<()>,
}

/// Starts, says `ready url=… socket=…` on standard output, and serves until `shutdown`.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let running = start(config).await?;
    let line = format!("ready url={} socket={}\n", running.url, running.socket.display());
    let mut out = std::io::stdout();
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, "nobody reads that the supervisor is ready");
    }
    shutdown.await;
    running.stop().await;
    Ok(())
}

/// Starts everything; returns when jobs can be submitted.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let own = nix::unistd::geteuid();
    if own.is_root() {
        return Err(StartError::Root);
    }
    start_as(config, own.as_raw(), Arc::new(HostAccounts)).await
}

/// Starts under the uid `own`, with `accounts` as the user database.
pub(crate) async fn start_as(config: Config, own: u32, accounts: Arc<dyn Accounts>) -> Result<Running, StartError> {
    start_with(config, own, accounts.clone(), accounts, Arc::new(HostGroups)).await
}

/// The same, with a user database of its own for the accounts of desktop workers.
pub(crate) async fn start_with(
    config: Config,
    own: u32,
    accounts: Arc<dyn Accounts>,
    owners: Arc<dyn Accounts>,
    host: Arc<dyn Host>,
) -> Result<Running, StartError> {
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    let mut settings = Settings::load(config.conf.as_deref())?;
    if let Some(listen) = &config.listen {
        settings.listen.clone_from(listen);
    }
    let files = QubeFiles {
        qb_conf: config.qube.qb_conf.or_else(|| settings.qb_conf.clone()),
        qbwrk_conf: config.qube.qbwrk_conf.or_else(|| settings.qbwrk_conf.clone()),
        at_qubes_places: config.qube.at_qubes_places,
    };
    let configuration = Configuration::load(files)?;
    for warning in &configuration.current().warnings {
        tracing::warn!("{warning}");
    }
    let operator = config.operator.as_deref().map(login_name).transpose()?;
    let dir = config.data.join("supervisor");
    own_dir(&config.data, own, 0o755, false)?;
    own_dir(&dir, own, 0o700, true)?;
    own_dir(&dir.join("audit"), own, 0o700, true)?;
    own_dir(&config.data.join("run"), own, 0o755, false)?;

    if !authn::sees_others() {
        tracing::warn!(
            "/proc hides others' processes from this account (hidepid=, gid= of its mount): nobody but root is known by \
             the local socket alone"
        );
    }
    let socket = config.data.join("run").join("socket");
    let people = match listen::unix(&socket).await {
        // The store says which process that is.
        Err(StartError::SocketInUse(path)) => {
            let in_use = Store::open(&dir.join("store.db")).await.err();
            return Err(in_use.map_or(StartError::SocketInUse(path), StartError::from));
        }
        bound => bound?,
    };
    let tcp = listen::tcp(&settings.listen).await?;
    let url = tcp.local_addr().map(|a| format!("http://{a}")).map_err(|error| file(&dir, error))?;
    // From here on people are answered, if only that it takes a while; dropped, `stop` ends that.
    let (stop, stopped) = watch::channel(false);
    let doorway = Doorway::closed(api::starting());
    let [on_socket, on_port] = limits(&settings);
    let mut servers = vec![
        tokio::spawn(listen::serve_unix(
            people,
            doorway.clone(),
            move |_| Some(on_socket.of_one),
            on_socket.total,
            stopped.clone(),
        )),
        tokio::spawn(listen::serve_tcp(tcp, doorway.clone(), on_port, stopped.clone())),
    ];

    let room = Room::open(&dir, &settings).map_err(|error| file(&dir, error))?;
    let store = open_store(&dir.join("store.db"), &room).await?;
    let keys = Keys::load(&dir)?;
    let farm = keys.farm_hex();
    let audit = open_audit(&dir.join("audit"), &settings, &store, &room).await?;
    let events = Events::new();
    let logs = Logs::new(dir.join("logs"), settings.log_max_mib << 20);
    let workers = listen::unix(&config.data.join("run").join("worker.socket")).await?;

    let oidc = Oidc::new(settings.oidc.as_ref(), &url, own)?;
    let seal = Seal::load(&dir)?;
    let identity = Identity::new(store.clone(), audit.clone(), host, seal, settings.grants_need_approval);
    let logons = Logons::load(&dir, keys.farm, store.clone()).await?;
    let workshop = Workshop::new(1);
    let metrics = Metrics::default();
    let is_dispatching = Dispatching::default();
    let runs_it = Operator { uid: own, name: operator };
    let service = if config.worker_uids.is_empty() { vec![own] } else { config.worker_uids };
    let doorkeeper = Doorkeeper::new(config.data.clone(), own, service, WORKERS_MAX);
    let dispatcher = Dispatcher::new(
        store.clone(),
        audit.clone(),
        events.clone(),
        logs.clone(),
        keys,
        settings.clone(),
        Helpers {
            workshop: workshop.clone(),
            owners: Authn::new(owners, runs_it.clone()),
            doorkeeper: doorkeeper.clone(),
            identity: identity.clone(),
            logons: logons.clone(),
            configuration: configuration.clone(),
            url: socket_url(&socket)?,
            room: room.clone(),
            metrics: metrics.clone(),
        },
    )
    .await?;
    dispatcher.warn_of_enforcement(settings.enforce_password).await?;
    let sign_in = SignIn::new(settings.own_accounts, &config.data, store.clone());
    let facts = Facts { farm, data: config.data, operator: config.operator, url: url.clone() };
    let service = Service {
        store: store.clone(),
        audit: audit.clone(),
        identity,
        logons,
        configuration,
        sign_in,
        oidc,
        dispatcher: dispatcher.clone(),
        events,
        logs,
        settings,
        facts,
        workshop,
        // They wait for the disk as much as for a core.
        reading: Workshop::new(4),
        metrics: metrics.clone(),
        submitting: Submitting::default(),
        health: Health::new(store.clone(), audit.clone(), room.clone(), is_dispatching.clone()),
        room: room.clone(),
        login_codes: LoginCodes::default(),
        verified: Verified::default(),
        sheets: Sheets::default(),
    };
    let credentials = Credentials::new(store.clone(), &service.settings);
    let bodies = Budget::new(service.settings.bodies_per_user_mib, service.settings.bodies_max_mib);
    let app = App { service, authn: Authn::new(accounts, runs_it).with_credentials(credentials), bodies };
    #[cfg(test)]
    let for_tests = app.clone();
    let for_workers = Doorway::closed(api::for_workers(app.clone()));
    doorway.open(api::for_people(app));
    servers.push(tokio::spawn(listen::serve_unix(
        workers,
        for_workers,
        move |uid| doorkeeper.connections(uid),
        WORKERS_MAX,
        stopped,
    )));
    let running = dispatcher.clone();
    let alive = is_dispatching.until_dropped();
    let dispatching = tokio::spawn(async move {
        let _alive = alive;
        tokio::join!(running.run(), room.keep());
    });
    Ok(Running {
        url,
        socket,
        store,
        audit,
        #[cfg(test)]
        app: for_tests,
        stop,
        servers,
        dispatcher,
        dispatching,
    })
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("url", &self.url).field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Running {
    /// As if it had broken off.
    #[cfg(test)]
    pub(crate) fn stop_dispatching_for_tests(&self) {
        self.dispatching.abort();
    }

    #[cfg(test)]
    /// Ends as a `kill -9` would, as far as one process can: nothing is finished, nobody is told.
    pub(crate) async fn die(self) {
        for server in &self.servers {
            server.abort();
        }
        self.dispatching.abort();
        let _ = self.stop.send(true);
        self.dispatcher.hang_up();
        self.store.close().await;
    }

    /// Takes no more connections, lets answers under way finish, closes the store. Sessions go on.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        self.dispatching.abort();
        self.dispatcher.hang_up();
        for server in self.servers {
            let _ = tokio::time::timeout(Duration::from_secs(3), server).await;
        }
        self.store.close().await;
        self.audit.close().await;
    }
}

/// On the socket, and on the port. Files need descriptors, too: connections never take all of them.
fn limits(settings: &Settings) -> [Limits; 2] {
    let descriptors = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => {
            let wanted = hard.min(DESCRIPTORS);
            if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft }
        }
        Err(_) => 1024,
    };
    let most = usize::try_from(settings.connections_max.min(descriptors / 4)).unwrap_or(usize::MAX);
    let of = |one: u64| Limits { total: most, of_one: usize::try_from(one).unwrap_or(usize::MAX).min(most) };
    [of(settings.connections_per_uid), of(settings.connections_per_address)]
}

/// For those whose current folder is another.
fn socket_url(socket: &Path) -> Result<String, StartError> {
    std::path::absolute(socket).map(|path| format!("unix:{}", path.display())).map_err(|e| file(socket, e))
}

fn login_name(name: &str) -> Result<LoginUser, StartError> {
    LoginUser::parse(name).map_err(|reason| StartError::Operator { name: name.to_owned(), reason })
}

/// A supervisor that finds the disk full starts all the same: it is needed to end what fills it.
async fn open_store(path: &Path, room: &Room) -> Result<Store, StoreError> {
    room.through(|| Store::open(path)).await
}

fn open_chain(dir: &Path, options: &audit::Options, room: &Room) -> Result<(Audit, audit::Found), AuditError> {
    loop {
        match Audit::open(dir, options) {
            Err(error) if room.give_for_start(&error) => {}
            opened => return opened,
        }
    }
}

async fn write_at_start(audit: &Audit, record: Record, room: &Room) -> Result<(), AuditError> {
    loop {
        match audit.write(record.clone()).await {
            Err(error) if room.give_for_start(&error) => {}
            written => return written.map(drop),
        }
    }
}

/// Opens the chain, unless it ends before what the store knows of it, and says in it that the supervisor starts and
/// which acts nobody knows the outcome of.
async fn open_audit(dir: &Path, settings: &Settings, store: &Store, room: &Room) -> Result<Audit, StartError> {
    let options = audit::Options { anchor: settings.audit_anchor.clone(), file_max: settings.audit_file_mib << 20 };
    let (audit, found) = open_chain(dir, &options, room)?;
    let Written { chain, sequence, .. } = &found.at;
    match store.audit_tail(chain).await? {
        Some((stored, _)) if stored > *sequence => {
            return Err(StartError::AuditCut { path: dir.join("chain"), found: *sequence, stored });
        }
        _ => {}
    }
    let known = store.meta(AUDIT_CHAIN).await?;
    if known.as_ref() != Some(chain) {
        if let Some(former) = known {
            let end = store.audit_tail(&former).await?.map(|(sequence, _)| sequence);
            tracing::warn!(former, chain, "the audit chain that the store knows is not there: another one begins");
            let replaced = Record::new(Act::ChainReplaced).with("former", former).with("former_end", end);
            write_at_start(&audit, replaced, room).await?;
        }
        room.through(|| store.set_meta(AUDIT_CHAIN, chain)).await?;
    }
    let start = Record::new(Act::Start).with("version", env!("CARGO_PKG_VERSION"));
    write_at_start(&audit, start, room).await?;
    for open in found.open {
        if store.audited(chain, open.sequence).await? != Some(open.hash) {
            tracing::warn!(chain, record = open.sequence, "nobody knows whether this act was done");
            write_at_start(&audit, open.unknown(), room).await?;
        }
    }
    Ok(audit)
}

/// A folder that is there or made; refused when it is somebody else's and has to be ours.
fn own_dir(path: &Path, own: u32, mode: u32, must_be_ours: bool) -> Result<(), StartError> {
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        // The umask took bits away from what others are to pass through.
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|e| file(path, e))?,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(file(path, e)),
    }
    let owner = std::fs::metadata(path).map_err(|e| file(path, e))?.uid();
    // Root's own folder is as good: the launcher's host lays `run` out so.
    if must_be_ours && owner != own && owner != 0 {
        return Err(StartError::NotOurs { path: path.to_owned(), owner, own });
    }
    Ok(())
}

fn file(path: &Path, error: std::io::Error) -> StartError {
    StartError::File { path: path.to_owned(), error }
}
