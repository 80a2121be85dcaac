//! From the name in a warrant to the identity a session gets: look-up by the host's own directory, then the
//! host's own policy.
//!
//! Called in shepherds, in the checker's children and in children of its own only: the C code of name services lives and
//! dies there. Never a fallback account, never a name read as a number, and an outage is never taken for "no such account".

use crate::conf::{Conf, DeniedGroups};
use crate::fatal::Fatal;
use crate::nsswitch;
use crate::refusal::Refusal;
use crate::sys::{self, Errno};
use crate::winbind;
use std::ffi::CStr;
use std::time::Duration;
use warrant::launcher_wire::RefusalKind;
use warrant::{Account, Mode};

/// Most groups the kernel takes.
const GROUPS_MAX: usize = 65_536;
const BUFFER_MAX: usize = 16 << 20;
/// Ids that stand for "nobody" or "no id".
const NO_IDS: [u32; 3] = [65_534, 65_535, u32::MAX];
/// A well-formed name of no account and of no group.
const NOBODY: &str = "stead-no-such-name";
/// A directory that took longer than this to fail is not asked again in the same launch.
const SLOW_MS: u64 = 1_000;
/// The stage of an outage.
const DIRECTORY: &str = "directory";
/// Accounts of our own services, which never run a job, and their groups, which no job is in: they may write where the
/// services meet.
const SERVICE_NAMES: [&str; 2] = ["stead", "stead-worker"];

/// What a session becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Ascending, without doubles, with the primary group.
    pub(crate) groups: Vec<u32>,
    /// `None`: the job's folder (throwaway accounts have no other).
    pub(crate) home: Option<String>,
    pub(crate) shell: String,
}

/// What the directory says about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
    /// Day since 1970 from which the account is expired; -1 = never.
    expires: i64,
    groups: Vec<u32>,
    denied_groups: Vec<u32>,
    allowed_groups: Vec<u32>,
}

/// What is asked for, and what the host holds against it.
pub(crate) struct Ask<'a> {
    pub(crate) account: &'a Account,
    pub(crate) mode: Mode,
    pub(crate) conf: &'a Conf,
    /// Ids of our own services.
    pub(crate) service_uids: &'a [u32],
    pub(crate) throwaway: Option<u32>,
}

/// Finds the account and judges it.
pub(crate) fn resolve(ask: &Ask<'_>) -> Result<Identity, Refusal> {
    mode_allowed(ask)?;
    match ask.account {
        Account::Throwaway => throwaway(ask),
        Account::Named { name, uid } => judge(&find(name.as_str(), ask.conf)?, name.as_str(), *uid, ask, today()),
    }
}

fn mode_allowed(ask: &Ask<'_>) -> Result<(), Refusal> {
    if !ask.conf.allowed_modes.contains(&ask.mode) {
        return Err(Refusal::new(
            RefusalKind::LocalPolicy,
            "mode_not_allowed",
            format!("this host does not allow {} mode", ask.mode.as_str()),
            "allowed_modes in launcher.conf of the host decides",
        ));
    }
    let Some(pinned) = ask.conf.proxy_account.as_deref().filter(|_| ask.mode == Mode::Proxy) else { return Ok(()) };
    match ask.account {
        Account::Named { name, .. } if name.as_str() == pinned => Ok(()),
        _ => Err(Refusal::new(
            RefusalKind::LocalPolicy,
            "proxy_account_pinned",
            format!("this host allows only the account {pinned} in proxy mode"),
            "proxy_account in launcher.conf of the host decides",
        )),
    }
}

fn throwaway(ask: &Ask<'_>) -> Result<Identity, Refusal> {
    let Some(id) = ask.throwaway.filter(|id| crate::ids::RANGE.contains(id)) else {
        return Err(Refusal::new(
            RefusalKind::LocalPolicy,
            "throwaway_not_allowed",
            "this launcher has no throwaway account",
            "only `stead dev` and `stead run` as root have one: --proxy-account throwaway",
        ));
    };
    let name = "throwaway".to_owned();
    Ok(Identity { name, uid: id, gid: id, groups: vec![id], home: None, shell: "/bin/sh".to_owned() })
}

fn today() -> i64 {
    i64::try_from(sys::wall_us() / 1_000_000 / 86_400).unwrap_or(i64::MAX)
}

/// The rules, in the order in which they are documented.
fn judge(entry: &Entry, name: &str, uid: Option<u32>, ask: &Ask<'_>, today: i64) -> Result<Identity, Refusal> {
    use RefusalKind::{Account as Unfit, BadLogin, LocalPolicy};
    let conf = ask.conf;
    let refuse = |kind, rule: &str, text: String, hint: &str| Err(Refusal::new(kind, rule, text, hint));
    let listed = |list: &[String]| list.iter().any(|n| n == name);
    if entry.name != name {
        let text = format!("the directory calls {name} {}", entry.name);
        return refuse(Unfit, "account_name_differs", text, "submit as the name the directory uses");
    }
    if let Some(expected) = uid.filter(|u| *u != entry.uid) {
        let text = format!("{name} has uid {} here, {expected} where the job comes from", entry.uid);
        return refuse(Unfit, "uid_mismatch", text, "give the account the same uid on both hosts");
    }
    if entry.uid == 0 || entry.gid == 0 {
        let text = format!("{name} has uid {} and gid {}: root's", entry.uid, entry.gid);
        let rule = if entry.uid == 0 { "uid_zero" } else { "gid_zero" };
        return refuse(LocalPolicy, rule, text, "no job runs with root's uid or group; nothing changes that");
    }
    if NO_IDS.contains(&entry.uid) || NO_IDS.contains(&entry.gid) {
        let text = format!("{name} has uid {} and gid {}, which stand for nobody", entry.uid, entry.gid);
        return refuse(LocalPolicy, "id_reserved", text, "use an account with ids of its own");
    }
    if entry.uid < conf.uid_floor {
        let text = format!("{name} has uid {}, below {}", entry.uid, conf.uid_floor);
        return refuse(LocalPolicy, "uid_below_floor", text, "uid_floor in launcher.conf of the host decides");
    }
    if entry.gid < conf.gid_floor {
        let text = format!("{name} has the primary gid {}, below {}", entry.gid, conf.gid_floor);
        return refuse(LocalPolicy, "gid_below_floor", text, "gid_floor in launcher.conf of the host decides");
    }
    if ask.service_uids.contains(&entry.uid) || SERVICE_NAMES.contains(&name) {
        let text = format!("{name} is the account of one of the farm's own services");
        return refuse(LocalPolicy, "service_account", text, "use another account");
    }
    if listed(&conf.denied_accounts) {
        let text = format!("this host denies the account {name}");
        return refuse(LocalPolicy, "account_denied", text, "denied_accounts in launcher.conf of the host decides");
    }
    if !conf.allowed_accounts.is_empty() && !listed(&conf.allowed_accounts) {
        let text = format!("{name} is not among the accounts this host allows");
        return refuse(
            LocalPolicy,
            "account_not_allowed",
            text,
            "allowed_accounts in launcher.conf of the host decides",
        );
    }
    let groups = groups(entry, name, conf)?;
    if !entry.home.starts_with('/') {
        let text = format!("{name} has no home folder");
        return refuse(Unfit, "account_without_home", text, "give the account an absolute home folder");
    }
    if entry.shell.is_empty() {
        let text = format!("{name} has no shell");
        return refuse(Unfit, "account_without_shell", text, "give the account a shell");
    }
    let last = entry.shell.rsplit('/').next().unwrap_or_default();
    if ask.mode == Mode::User && matches!(last, "nologin" | "false") {
        let text = format!("{name} may not log in (its shell is {})", entry.shell);
        return refuse(BadLogin, "account_nologin", text, "enable the account, or run the job in proxy mode");
    }
    if entry.expires != -1 && today >= entry.expires {
        let text = format!("{name} is expired");
        return refuse(BadLogin, "account_expired", text, "an administrator can extend the account: chage -E");
    }
    Ok(Identity {
        name: entry.name.clone(),
        uid: entry.uid,
        gid: entry.gid,
        groups,
        home: Some(entry.home.clone()),
        shell: entry.shell.clone(),
    })
}

fn groups(entry: &Entry, name: &str, conf: &Conf) -> Result<Vec<u32>, Refusal> {
    const HINT: &str = "denied_groups in launcher.conf of the host decides";
    let denied = |g: &u32| *g == 0 || *g == u32::MAX || entry.denied_groups.contains(g);
    let refuse = |rule, text| Err(Refusal::new(RefusalKind::LocalPolicy, rule, text, HINT));
    if denied(&entry.gid) {
        return refuse("group_denied", format!("the primary group {} of {name} is denied here", entry.gid));
    }
    let mut groups = entry.groups.clone();
    groups.push(entry.gid);
    groups.sort_unstable();
    groups.dedup();
    if let Some(bad) = groups.iter().find(|g| denied(g))
        && conf.denied_groups_action == DeniedGroups::Refuse
    {
        return refuse("group_denied", format!("{name} is in the group {bad}, which is denied here"));
    }
    groups.retain(|g| !denied(g));
    if !conf.allowed_groups.is_empty() && !groups.iter().any(|g| entry.allowed_groups.contains(g)) {
        return Err(Refusal::new(
            RefusalKind::LocalPolicy,
            "group_not_allowed",
            format!("{name} is in none of the groups this host allows"),
            "allowed_groups in launcher.conf of the host decides",
        ));
    }
    if groups.len() > GROUPS_MAX {
        let text = format!("{name} is in {} groups; the kernel takes {GROUPS_MAX}", groups.len());
        return Err(Refusal::new(RefusalKind::Account, "too_many_groups", text, "take the account out of some"));
    }
    Ok(groups)
}

// ---- the directory -------------------------------------------------------------------------------------------

fn find(name: &str, conf: &Conf) -> Result<Entry, Refusal> {
    let asked = sys::boot_ms();
    look_up(name, conf).map_err(|refusal| {
        // Which service is down is worth asking for, unless failing takes long.
        let quick = sys::boot_ms().saturating_sub(asked) < SLOW_MS;
        if refusal.stage == DIRECTORY && quick { named(refusal) } else { refusal }
    })
}

/// With the service that is down, if it still is.
fn named(down: Refusal) -> Refusal {
    let again = nothing_is_down("passwd", passwd)
        .and_then(|()| nothing_is_down("shadow", shadow))
        .and_then(|()| nothing_is_down("group", group_id));
    again.err().unwrap_or(down)
}

fn look_up(name: &str, conf: &Conf) -> Result<Entry, Refusal> {
    let unknown = || {
        Refusal::new(
            RefusalKind::Account,
            "account_unknown",
            format!("this host knows no account {name}"),
            "create the account on the host, or send the job to a worker that has it",
        )
    };
    let Some(mut entry) = known_for_sure("passwd", name, passwd)? else { return Err(unknown()) };
    entry.expires = known_for_sure("shadow", name, shadow)?.map_or(-1, |shadow| shadow.expires);
    let groups = |entry: &mut Entry| {
        entry.groups = group_list(name, entry.gid)?;
        entry.denied_groups = group_ids(conf.denied_groups.iter().map(String::as_str).chain(SERVICE_NAMES))?;
        entry.allowed_groups = group_ids(conf.allowed_groups.iter().map(String::as_str))?;
        Ok(())
    };
    groups(&mut entry)?;
    // An outage leaves groups out of those lists and says nothing.
    nothing_is_down("group", group_id)?;
    let found = entry.clone();
    groups(&mut entry)?;
    if entry == found { Ok(entry) } else { Err(directory_down(Errno(libc::EAGAIN))) }
}

/// What the checker wants to know of an account before and after it asks PAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignIn {
    /// As the directory writes it.
    pub(crate) name: String,
    pub(crate) uid: u32,
    /// No password is right for it.
    pub(crate) locked: bool,
    pub(crate) expired: bool,
    /// The host's own file has it.
    pub(crate) local: bool,
}

impl SignIn {
    /// Looked up patiently: a directory that is away is no missing account.
    pub(crate) fn find(name: &str) -> Result<Option<Self>, Refusal> {
        let Some(entry) = known_for_sure("passwd", name, passwd)? else { return Ok(None) };
        // Only explains what PAM says; without it PAM's word is all there is.
        let shadow = shadow(name).ok().flatten().unwrap_or(Shadow { expires: -1, hash: None });
        let expired = shadow.expires != -1 && today() >= shadow.expires;
        let locked = match shadow.hash {
            Some(b'!') => true,
            // Directories show this of everybody, to keep the hash to themselves.
            Some(b'*') => is_shut_in(&std::fs::read("/etc/shadow").unwrap_or_default(), name),
            _ => false,
        };
        let local = begins(&std::fs::read("/etc/passwd").unwrap_or_default(), &format!("{name}:"));
        Ok(Some(Self { name: entry.name, uid: entry.uid, locked, expired, local }))
    }

    /// Why the account can't be asked about, if it is root's, a service's or the system's.
    pub(crate) fn unfit(&self, floor: u32) -> Option<String> {
        let (name, uid) = (&self.name, self.uid);
        if uid == 0 {
            Some(format!("{name} has uid 0: root signs in nowhere with a password"))
        } else if NO_IDS.contains(&uid) {
            Some(format!("{name} has uid {uid}, which stands for nobody"))
        } else if SERVICE_NAMES.contains(&name.as_str()) {
            Some(format!("{name} is the account of one of the farm's own services"))
        } else if uid < floor {
            Some(format!("{name} has uid {uid}, below {floor} (uid_floor in launcher.conf of the host)"))
        } else {
            None
        }
    }
}

/// Whether the host's own file of passwords has none that could be right for `name`.
fn is_shut_in(shadow: &[u8], name: &str) -> bool {
    begins(shadow, &format!("{name}:*"))
}

/// Whether a file such as /etc/passwd has a line that begins with these fields.
fn begins(file: &[u8], fields: &str) -> bool {
    file.split(|b| *b == b'\n').any(|line| line.starts_with(fields.as_bytes()))
}

/// The uid of one of our services: as it was given, or of the account `name`.
pub(crate) fn service_uid(given: Option<u32>, name: &str) -> Result<u32, Fatal> {
    if let Some(uid) = given {
        return Ok(uid);
    }
    let found = ids_of(name).map_err(|errno| Fatal::DirectoryDown { errno })?;
    let uid = found.map(|(uid, _)| uid).filter(|uid| *uid != 0);
    uid.ok_or_else(|| Fatal::NoSuchAccount { name: name.to_owned() })
}

/// The uid and gid of an account, for finding our own services' accounts.
pub(crate) fn ids_of(name: &str) -> Result<Option<(u32, u32)>, Errno> {
    in_child(|| Ok(known_for_sure("passwd", name, passwd)?.map(|entry| (entry.uid, entry.gid))))
}

/// Whether everybody can be told from nobody now. Asks the services in this very process.
pub(crate) fn directory_answers() -> Result<(), Refusal> {
    nothing_is_down("passwd", passwd)?;
    nothing_is_down("group", group_id)
}

/// Whether an account or a group has the number.
pub(crate) fn has_id(id: u32) -> Result<bool, Errno> {
    let found = in_child(|| {
        if patiently(|| user_of(id))?.is_some() || patiently(|| group_of(id))?.is_some() {
            return Ok(Some((id, id)));
        }
        nothing_is_down("passwd", passwd)?;
        nothing_is_down("group", group_id).map(|()| None)
    })?;
    Ok(found.is_some())
}

type Ids = Option<(u32, u32)>;

/// A look-up that leaves no code of name services in this process.
fn in_child(look: impl FnOnce() -> Result<Ids, Refusal>) -> Result<Ids, Errno> {
    let bytes = sys::in_child(|| match look() {
        Ok(None) => vec![0],
        Ok(Some((uid, gid))) => [&[1][..], &uid.to_le_bytes(), &gid.to_le_bytes()].concat(),
        Err(down) => [&[2][..], &down.errno.to_le_bytes()].concat(),
    })?;
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    match (bytes.first(), bytes.len()) {
        (Some(0), 1) => Ok(None),
        (Some(1), 9) => Ok(number(1).zip(number(5))),
        (Some(2), 5) => Err(Errno(number(1).map_or(libc::EIO, u32::cast_signed))),
        _ => Err(Errno(libc::EIO)),
    }
}

/// Tries again for a moment: a directory that is restarting is not a reason to send a job away.
fn patiently<T>(look: impl Fn() -> Result<Option<T>, Errno>) -> Result<Option<T>, Refusal> {
    let mut last = Errno(0);
    for pause in [0, 100, 300] {
        std::thread::sleep(Duration::from_millis(pause));
        let asked = sys::boot_ms();
        match look() {
            Ok(found) => return Ok(found),
            Err(e) => last = e,
        }
        if sys::boot_ms().saturating_sub(asked) > SLOW_MS {
            break;
        }
    }
    Err(directory_down(last))
}

/// "Not found" counts if it is so before and after every service answered: an outage may have ended meanwhile.
fn known_for_sure<T>(
    database: &str,
    name: &str,
    look: impl Fn(&str) -> Result<Option<T>, Errno>,
) -> Result<Option<T>, Refusal> {
    if let Some(found) = patiently(|| look(name))? {
        return Ok(Some(found));
    }
    nothing_is_down(database, &look)?;
    patiently(|| look(name))
}

/// Whether every service of `database` answers, wherever in its order it stands.
fn nothing_is_down<T>(database: &str, look: impl Fn(&str) -> Result<Option<T>, Errno>) -> Result<(), Refusal> {
    let mut services = nsswitch::services(database).map_err(directory_down)?;
    if database == "group" {
        // A host may let others say who is in which group.
        services.extend(nsswitch::services("initgroups").map_err(directory_down)?);
    }
    if services.is_empty() {
        return patiently(|| look(NOBODY)).map(drop);
    }
    for service in services {
        nsswitch::ask_only(database, &service).map_err(directory_down)?;
        patiently(|| look(NOBODY)).map_err(|down| Refusal {
            text: format!("{} (service {service} of {database} in /etc/nsswitch.conf)", down.text),
            ..down
        })?;
        // Of groups, a member that is cut off still has what it knew when somebody signed in.
        if service == winbind::SERVICE && database == "passwd" && !winbind::domain_answers() {
            let text = "the host's account directory does not answer: winbind reaches no controller of its domain";
            return Err(Refusal { text: text.to_owned(), ..directory_down(Errno(libc::EHOSTUNREACH)) });
        }
    }
    nsswitch::ask_all(database).map_err(directory_down)
}

fn directory_down(errno: Errno) -> Refusal {
    Refusal {
        kind: RefusalKind::Transient,
        stage: DIRECTORY.to_owned(),
        errno: errno.0,
        text: match errno.0 {
            // How name services say that they can't ask anybody; "No such file" would mislead.
            libc::ENOENT | libc::ESRCH => "the host's account directory does not answer".to_owned(),
            libc::EAGAIN => "the host's account directory does not answer steadily".to_owned(),
            _ => format!("the host's account directory does not answer: {errno}"),
        },
        hint:
            "the job is tried again; every service that the host's /etc/nsswitch.conf names must answer: start it, or \
               take it out there"
                .to_owned(),
    }
}

/// Calls a `get…_r` function with a growing buffer. `Ok(None)`: every service says that there is no such entry.
///
/// That is 0 and nothing found. The C library's manual names ENOENT and ESRCH for it, too, but there they are the last
/// service's word for "not available": both nslcd without its server and a stopped nslcd or winbindd end in ENOENT. What
/// 0 leaves open is [`nothing_is_down`]'s.
fn with_buffer<R>(mut call: impl FnMut(&mut [libc::c_char]) -> (i32, Option<R>)) -> Result<Option<R>, Errno> {
    let mut size = 4096;
    loop {
        let mut buffer = vec![0; size];
        match call(&mut buffer) {
            (0, found) => return Ok(found),
            (libc::ERANGE, _) if size < BUFFER_MAX => size *= 4,
            (libc::EINTR, _) => {}
            (e, _) => return Err(Errno(e)),
        }
    }
}

/// # Safety
/// `text` is null or points to a NUL-terminated string.
unsafe fn text(text: *const libc::c_char) -> Option<String> {
    if text.is_null() {
        return Some(String::new());
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_str().ok().map(str::to_owned)
}

fn passwd(name: &str) -> Result<Option<Entry>, Errno> {
    let c_name = sys::cstr(name)?;
    with_buffer(|buffer| {
        // SAFETY: plain data, filled by the call.
        let mut pw: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid and the buffer has the length given.
        let rc = unsafe {
            libc::getpwnam_r(c_name.as_ptr(), &raw mut pw, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        if rc != 0 || found.is_null() {
            return (rc, None);
        }
        // SAFETY: the fields point into `buffer`, which is alive.
        let texts = unsafe { (text(pw.pw_name), text(pw.pw_dir), text(pw.pw_shell)) };
        let (Some(name), Some(home), Some(shell)) = texts else { return (libc::EILSEQ, None) };
        let (uid, gid) = (pw.pw_uid, pw.pw_gid);
        let none = Vec::new;
        (
            0,
            Some(Entry {
                name,
                uid,
                gid,
                home,
                shell,
                expires: -1,
                groups: none(),
                denied_groups: none(),
                allowed_groups: none(),
            }),
        )
    })
}

/// The fields of shadow(5) that decide something here.
#[derive(Debug, Clone, Copy)]
struct Shadow {
    /// Day since 1970 from which the account is expired; -1 = never.
    expires: i64,
    /// How the hash begins: `!` and `*` are of none that a password could have.
    hash: Option<u8>,
}

fn shadow(name: &str) -> Result<Option<Shadow>, Errno> {
    let c_name = sys::cstr(name)?;
    let found = with_buffer(|buffer| {
        // SAFETY: plain data, filled by the call.
        let mut sp: libc::spwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid and the buffer has the length given.
        let rc = unsafe {
            libc::getspnam_r(c_name.as_ptr(), &raw mut sp, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        if rc != 0 || found.is_null() {
            return (rc, None);
        }
        // SAFETY: null, or text in `buffer`, which is alive; only its first byte is looked at.
        let hash = (!sp.sp_pwdp.is_null()).then(|| unsafe { *sp.sp_pwdp }.cast_unsigned());
        (0, Some(Shadow { expires: sp.sp_expire, hash }))
    });
    match found {
        // A host need not have a shadow file; where it has one, this is an outage as everywhere.
        Err(Errno(libc::ENOENT)) if !std::path::Path::new("/etc/shadow").exists() => Ok(None),
        other => other,
    }
}

fn group_id(name: &str) -> Result<Option<u32>, Errno> {
    let c_name = sys::cstr(name)?;
    with_buffer(|buffer| {
        // SAFETY: plain data, filled by the call.
        let mut gr: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid and the buffer has the length given.
        let rc = unsafe {
            libc::getgrnam_r(c_name.as_ptr(), &raw mut gr, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
        };
        (rc, (rc == 0 && !found.is_null()).then_some(gr.gr_gid))
    })
}

fn user_of(uid: u32) -> Result<Option<()>, Errno> {
    with_buffer(|buffer| {
        // SAFETY: plain data, filled by the call.
        let mut pw: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid and the buffer has the length given.
        let rc = unsafe { libc::getpwuid_r(uid, &raw mut pw, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
        (rc, (rc == 0 && !found.is_null()).then_some(()))
    })
}

fn group_of(gid: u32) -> Result<Option<()>, Errno> {
    with_buffer(|buffer| {
        // SAFETY: plain data, filled by the call.
        let mut gr: libc::group = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid and the buffer has the length given.
        let rc = unsafe { libc::getgrgid_r(gid, &raw mut gr, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
        (rc, (rc == 0 && !found.is_null()).then_some(()))
    })
}

/// The ids of those names that exist here.
fn group_ids<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<u32>, Refusal> {
    let mut ids = Vec::new();
    for name in names {
        ids.extend(patiently(|| group_id(name))?);
    }
    Ok(ids)
}

fn group_list(name: &str, gid: u32) -> Result<Vec<u32>, Refusal> {
    let c_name = sys::cstr(name).map_err(directory_down)?;
    let mut room = 64;
    loop {
        let mut groups = vec![0; room];
        let mut count = i32::try_from(room).unwrap_or(i32::MAX);
        // SAFETY: the array has `count` entries.
        let rc = unsafe { libc::getgrouplist(c_name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if rc >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            // A directory may say the same in another order each time.
            groups.sort_unstable();
            return Ok(groups);
        }
        if room > GROUPS_MAX {
            let text = format!("{name} is in more groups than the kernel takes ({GROUPS_MAX})");
            return Err(Refusal::new(RefusalKind::Account, "too_many_groups", text, "take the account out of some"));
        }
        room = (room * 4).min(GROUPS_MAX + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warrant::AccountName;

    fn ada() -> Entry {
        Entry {
            name: "ada".into(),
            uid: 1501,
            gid: 1501,
            home: "/home/ada".into(),
            shell: "/bin/sh".into(),
            expires: -1,
            groups: vec![1601, 1501, 1601, 27],
            denied_groups: vec![27, 42],
            allowed_groups: Vec::new(),
        }
    }

    fn judged(entry: &Entry, conf: &Conf, mode: Mode, uid: Option<u32>) -> Result<Identity, Refusal> {
        let account = Account::Named { name: AccountName::parse("ada").expect("name"), uid };
        let ask = Ask { account: &account, mode, conf, service_uids: &[1700], throwaway: None };
        mode_allowed(&ask)?;
        judge(entry, "ada", uid, &ask, 20_000)
    }

    #[test]
    fn a_good_account_gets_its_whole_sorted_group_list() {
        let identity = judged(&ada(), &Conf::default(), Mode::User, Some(1501)).expect("good");
        assert_eq!((identity.uid, identity.gid), (1501, 1501));
        assert_eq!(identity.groups, [1501, 1601], "sudo's 27 is stripped");
    }

    #[test]
    fn the_traditional_group_of_all_users_is_a_good_primary_group() {
        let mut entry = ada();
        entry.gid = 100;
        entry.groups = vec![100];
        assert_eq!(judged(&entry, &Conf::default(), Mode::User, None).expect("good").groups, [100]);
    }

    #[test]
    fn every_rule_refuses_by_its_name() {
        use RefusalKind::{Account as Unfit, BadLogin, LocalPolicy};
        type Change = fn(&mut Entry, &mut Conf);
        let cases: &[(&str, RefusalKind, Change)] = &[
            ("account_name_differs", Unfit, |e, _| e.name = "Ada".into()),
            ("uid_mismatch", Unfit, |e, _| e.uid = 1502),
            ("uid_zero", LocalPolicy, |e, _| e.uid = 0),
            ("gid_zero", LocalPolicy, |e, _| e.gid = 0),
            ("id_reserved", LocalPolicy, |e, _| e.uid = 65_534),
            ("id_reserved", LocalPolicy, |e, _| e.uid = 65_535),
            ("id_reserved", LocalPolicy, |e, _| e.uid = u32::MAX),
            ("id_reserved", LocalPolicy, |e, _| e.gid = u32::MAX),
            ("uid_below_floor", LocalPolicy, |e, _| e.uid = 999),
            ("gid_below_floor", LocalPolicy, |e, _| e.gid = 99),
            ("gid_below_floor", LocalPolicy, |e, c| (e.gid, c.gid_floor) = (100, 101)),
            ("service_account", LocalPolicy, |e, _| e.uid = 1700),
            ("account_denied", LocalPolicy, |_, c| c.denied_accounts = vec!["ada".into()]),
            ("account_not_allowed", LocalPolicy, |_, c| c.allowed_accounts = vec!["bob".into()]),
            ("group_denied", LocalPolicy, |e, _| e.denied_groups.push(1501)),
            ("group_denied", LocalPolicy, |_, c| c.denied_groups_action = DeniedGroups::Refuse),
            ("group_not_allowed", LocalPolicy, |e, c| {
                c.allowed_groups = vec!["x".into()];
                e.allowed_groups = vec![1999];
            }),
            // A group that is denied does not open the door as an allowed one.
            ("group_not_allowed", LocalPolicy, |e, c| {
                c.allowed_groups = vec!["sudo".into()];
                e.allowed_groups = vec![27];
            }),
            ("account_without_home", Unfit, |e, _| e.home = String::new()),
            ("account_without_home", Unfit, |e, _| e.home = "home".into()),
            ("account_without_shell", Unfit, |e, _| e.shell = String::new()),
            ("account_nologin", BadLogin, |e, _| e.shell = "/usr/sbin/nologin".into()),
            ("account_nologin", BadLogin, |e, _| e.shell = "/bin/false".into()),
            ("account_expired", BadLogin, |e, _| e.expires = 20_000),
            ("account_expired", BadLogin, |e, _| e.expires = 0),
            ("mode_not_allowed", LocalPolicy, |_, c| c.allowed_modes = vec![Mode::Proxy]),
            ("too_many_groups", Unfit, |e, _| e.groups = (2000..80_000).collect()),
        ];
        for (rule, kind, change) in cases {
            let (mut entry, mut conf) = (ada(), Conf::default());
            change(&mut entry, &mut conf);
            // The expected uid moves along, except in its own case.
            let uid = (*rule == "uid_mismatch").then_some(1501);
            let refusal = judged(&entry, &conf, Mode::User, uid).expect_err(rule);
            assert_eq!((refusal.stage.as_str(), refusal.kind), (*rule, *kind));
            assert!(!refusal.text.is_empty() && !refusal.hint.is_empty(), "{rule}");
        }
    }

    #[test]
    fn proxy_mode_takes_an_account_that_may_not_log_in_and_only_the_pinned_one() {
        let mut entry = ada();
        entry.shell = "/usr/sbin/nologin".into();
        let mut conf = Conf::default();
        judged(&entry, &conf, Mode::Proxy, None).expect("nologin is usual for a proxy account");
        conf.proxy_account = Some("qubeproxy".into());
        assert_eq!(judged(&entry, &conf, Mode::Proxy, None).expect_err("pinned").stage, "proxy_account_pinned");
        entry.shell = "/bin/sh".into();
        judged(&entry, &conf, Mode::User, None).expect("the pin is for proxy mode");
        assert_eq!(judged(&entry, &conf, Mode::Desktop, None).expect_err("never").stage, "mode_not_allowed");
    }

    #[test]
    fn a_throwaway_account_is_one_of_its_range_or_refused() {
        let conf = Conf::default();
        for (throwaway, good) in [(None, false), (Some(0), false), (Some(1501), false), (Some(61_200), true)] {
            let ask =
                Ask { account: &Account::Throwaway, mode: Mode::Proxy, conf: &conf, service_uids: &[], throwaway };
            assert_eq!(resolve(&ask).is_ok(), good, "{throwaway:?}");
        }
    }

    #[test]
    fn the_directory_tells_unknown_from_known() {
        assert_eq!(passwd("root").map(|e| e.map(|e| (e.uid, e.gid))), Ok(Some((0, 0))));
        assert_eq!(passwd("no-such-account-here"), Ok(None));
        assert_eq!(group_id("no-such-group-here"), Ok(None));
        assert_eq!((user_of(0), group_of(0)), (Ok(Some(())), Ok(Some(()))));
        assert_eq!((user_of(61_999), group_of(61_999)), (Ok(None), Ok(None)), "a throwaway id that somebody has?");
    }

    #[test]
    fn a_child_that_says_nothing_knows_nothing() {
        assert_eq!(in_child(|| Ok(None)), Ok(None));
        assert_eq!(in_child(|| Ok(Some((7, u32::MAX)))), Ok(Some((7, u32::MAX))));
        assert_eq!(in_child(|| Err(directory_down(Errno(libc::ENOENT)))), Err(Errno(libc::ENOENT)));
        assert_eq!(in_child(|| sys::exit(0)), Err(Errno(libc::EIO)), "it ended without a word");
    }

    #[test]
    fn only_the_hosts_own_file_shuts_an_account_with_a_star() {
        let shadow = b"root:*:1::\nada:$6$x:1::\nbobby:*:1::\nlena:!*:1::\n";
        assert!(is_shut_in(shadow, "root") && is_shut_in(shadow, "bobby"));
        assert!(["ada", "bob", "obby", "lena", "oot", ""].iter().all(|n| !is_shut_in(shadow, n)));
    }
}
