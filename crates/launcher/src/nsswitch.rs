//! The services that the host's accounts and groups come from, to ask each by itself.
//!
//! The C library passes on only the last one's word: of `ldap files` it says "not found" while the LDAP server is down,
//! and leaves that server's groups out of a list without a word.

use crate::sys::{self, Res};

const CONF: &str = "/etc/nsswitch.conf";

/// What the host asks for `database`; nothing where it doesn't say, or where the C library has no such services.
pub(crate) fn services(database: &str) -> Res<Vec<String>> {
    Ok(configured(database)?.as_deref().map(parse).unwrap_or_default())
}

/// From now on this process asks only `service` for `database`.
pub(crate) fn ask_only(database: &str, service: &str) -> Res<()> {
    configure(database, service)
}

/// From now on this process asks for `database` as the host wants it, again.
pub(crate) fn ask_all(database: &str) -> Res<()> {
    configured(database)?.map_or(Ok(()), |text| configure(database, text.trim()))
}

#[cfg(target_env = "gnu")]
fn configure(database: &str, services: &str) -> Res<()> {
    unsafe extern "C" {
        /// What `getent -s` calls; takes what a line of nsswitch.conf has.
        fn __nss_configure_lookup(database: *const libc::c_char, services: *const libc::c_char) -> libc::c_int;
    }
    let (database, services) = (sys::cstr(database)?, sys::cstr(services)?);
    // SAFETY: NUL-terminated texts, which the library copies; this program has a single thread.
    let rc = unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    if rc == 0 { Ok(()) } else { Err(sys::last()) }
}

#[cfg(not(target_env = "gnu"))]
fn configure(_database: &str, _services: &str) -> Res<()> {
    Ok(())
}

fn configured(database: &str) -> Res<Option<String>> {
    if !cfg!(target_env = "gnu") {
        return Ok(None);
    }
    match std::fs::read(CONF) {
        Ok(text) => Ok(line(&String::from_utf8_lossy(&text), database).map(str::to_owned)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What is said of a database: the last word, as for the C library.
fn line<'t>(text: &'t str, database: &str) -> Option<&'t str> {
    let said = |line: &'t str| {
        let (name, services) = line.split('#').next().unwrap_or_default().split_once(':')?;
        (name.trim() == database).then_some(services)
    };
    text.lines().rev().find_map(said)
}

/// As nsswitch.conf(5) has it: what an answer leads to stands in brackets and names no service.
fn parse(services: &str) -> Vec<String> {
    let mut in_brackets = false;
    let plain = |c: char| {
        in_brackets |= c == '[';
        let shown = if in_brackets { ' ' } else { c };
        in_brackets &= c != ']';
        shown
    };
    let services: String = services.chars().map(plain).collect();
    services.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_as_the_c_library_reads_them() {
        let text = "# passwd: nis\npasswd:\tfiles [NOTFOUND=continue TRYAGAIN = return] sss[!UNAVAIL=return]ldap # nis\n\
                    group : files\n\nshadow:\n";
        let parsed = |database| line(text, database).map(parse);
        assert_eq!(parsed("passwd").expect("a line"), ["files", "sss", "ldap"]);
        assert_eq!(parsed("group").expect("a line"), ["files"]);
        assert!(parsed("shadow").expect("a line").is_empty());
        assert!(parsed("initgroups").is_none());
        assert_eq!(line("group: a\ngroup: b\n", "group").map(parse).expect("a line"), ["b"]);
    }
}
