//! The services that the host's accounts and groups come from, to ask each by itself.
//!
//! The C library passes on only the last one's word: of `ldap files` it says "not found" while the LDAP server is down,
//! and leaves that server's groups out of a list without a word.

use crate::sys::{self, Res};

const CONF: &str = "/etc/nsswitch.conf";

/// What the host asks for `database`; nothing where it doesn't say, or where the C library has no such services.
pub(crate) fn services(database: &str) -> Res<Vec<String>> {
    if !cfg!(target_env = "gnu") {
        return Ok(Vec::new());
    }
    match std::fs::read(CONF) {
        Ok(text) => Ok(parse(&String::from_utf8_lossy(&text), database)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}

/// From now on this process asks only `service` for `database`.
#[cfg(target_env = "gnu")]
pub(crate) fn ask_only(database: &str, service: &str) -> Res<()> {
    unsafe extern "C" {
        /// What `getent -s` calls.
        fn __nss_configure_lookup(database: *const libc::c_char, services: *const libc::c_char) -> libc::c_int;
    }
    let (database, service) = (sys::cstr(database)?, sys::cstr(service)?);
    // SAFETY: NUL-terminated texts, which the library copies; this program has a single thread.
    let rc = unsafe { __nss_configure_lookup(database.as_ptr(), service.as_ptr()) };
    if rc == 0 { Ok(()) } else { Err(sys::last()) }
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn ask_only(_database: &str, _service: &str) -> Res<()> {
    Ok(())
}

/// As nsswitch.conf(5) has it: what an answer leads to stands in brackets and names no service.
fn parse(text: &str, database: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((_, services)) = line.split_once(':').filter(|(name, _)| name.trim() == database) else { continue };
        let mut in_brackets = false;
        let plain = |c: char| {
            in_brackets |= c == '[';
            let shown = if in_brackets { ' ' } else { c };
            in_brackets &= c != ']';
            shown
        };
        let services: String = services.chars().map(plain).collect();
        found.extend(services.split_whitespace().map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_as_the_c_library_reads_them() {
        let text = "# passwd: nis\npasswd:\tfiles [NOTFOUND=continue TRYAGAIN = return] sss[!UNAVAIL=return]ldap # nis\n\
                    group : files\n\nshadow:\n";
        assert_eq!(parse(text, "passwd"), ["files", "sss", "ldap"]);
        assert_eq!(parse(text, "group"), ["files"]);
        assert!(parse(text, "shadow").is_empty());
        assert!(parse(text, "initgroups").is_empty());
    }
}
