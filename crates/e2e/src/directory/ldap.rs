//! OpenLDAP: slapd with a password policy, and nslcd, by which the stage's name service and PAM ask it.

use super::{Daemon, Directory, PASSWORD, Verdict, fed, pam::Checker, script, succeeds, write};
use crate::Stage;
use crate::stage::Door;
use std::process::Command;

/// Groups of the directory; people are in `artists` first.
const GROUPS: &[(&str, u32, &[&str])] =
    &[("artists", 22_000, &[]), ("lighting", 22_001, &["lena"]), ("show-x", 22_002, &["lena", "otto"])];
const PEOPLE: &[(&str, u32)] = &[("lena", 21_001), ("otto", 21_002)];
const BASE: &str = "dc=farm,dc=test";
const ADMIN_PASSWORD: &str = "admin-1!pw";

const SLAPD_CONF: &str = "\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile /mnt/ldap/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
database mdb
suffix dc=farm,dc=test
rootdn cn=admin,dc=farm,dc=test
rootpw admin-1!pw
directory /mnt/ldap/db
dbnosync
access to attrs=userPassword by anonymous auth by * none
access to * by * read
overlay ppolicy
ppolicy_default cn=policy,dc=farm,dc=test
";

/// Two people, `lena` (21001, of `artists`, `lighting` and `show-x`) and `otto` (21002, of `artists` and `show-x`).
#[derive(Debug)]
pub struct Ldap {
    door: Door,
    slapd: Option<Daemon>,
    nslcd: Option<Daemon>,
    checker: Checker,
}

impl Ldap {
    /// Starts both, and makes the stage's name service and PAM ask them.
    #[track_caller]
    #[must_use]
    pub fn start(stage: &Stage) -> Self {
        let door = stage.door();
        let checker = Checker::start(&door, "pam_ldap.so", "pam_ldap.so");
        let mut ldap = Self { door, slapd: None, nslcd: None, checker };
        write(&ldap.door, "/mnt/ldap/slapd.conf", SLAPD_CONF);
        write(&ldap.door, "/mnt/ldap/people.ldif", &people());
        script(&ldap.door, "mkdir /mnt/ldap/db; slapadd -q -f /mnt/ldap/slapd.conf -l /mnt/ldap/people.ldif", &[]);
        ldap.start_server();
        write(&ldap.door, "/etc/nslcd.conf", &format!("uri ldap://127.0.0.1/\nbase {BASE}\n"));
        ldap.start_client();
        write(
            &ldap.door,
            "/etc/nsswitch.conf",
            "passwd: files ldap\ngroup: files ldap\nshadow: files ldap\nhosts: files\n",
        );
        let homes =
            r#"for who; do mkdir "/home/$who"; chown "$who:artists" "/home/$who"; chmod 700 "/home/$who"; done"#;
        script(&ldap.door, homes, &["lena", "otto"]);
        ldap
    }

    /// Ends the server: what asks it waits for it, and then knows nothing.
    #[track_caller]
    pub fn stop_server(&mut self) {
        self.slapd.take().expect("a server that runs").stop();
    }

    #[track_caller]
    pub fn start_server(&mut self) {
        let mut command = self.door.command("slapd");
        command.args(["-f", "/mnt/ldap/slapd.conf", "-h", "ldap://127.0.0.1/", "-d", "none"]);
        let mut slapd = Daemon::start(&self.door, "slapd", command);
        slapd.until(&format!("ldapsearch -x -H ldap://127.0.0.1/ -s base -b {BASE}"));
        self.slapd = Some(slapd);
    }

    /// A server that takes connections and answers nothing: worse than one that is down.
    pub fn freeze_server(&self) {
        self.slapd.as_ref().expect("a server that runs").signal(crate::Signal::SIGSTOP);
    }

    pub fn thaw_server(&self) {
        self.slapd.as_ref().expect("a server that runs").signal(crate::Signal::SIGCONT);
    }

    /// Takes somebody out of a group.
    #[track_caller]
    pub fn leave(&self, name: &str, group: &str) {
        let change = format!("dn: cn={group},{BASE}\nchangetype: modify\ndelete: memberUid\nmemberUid: {name}\n");
        self.change("ldapmodify", &change);
    }

    /// Ends the host's own daemon that asks the server: the name service can't even ask.
    #[track_caller]
    pub fn stop_client(&mut self) {
        self.nslcd.take().expect("a client that runs").stop();
    }

    #[track_caller]
    pub fn start_client(&mut self) {
        script(&self.door, "mkdir -p /run/nslcd", &[]);
        let mut command = self.door.command("nslcd");
        command.arg("--nofork");
        let mut nslcd = Daemon::start(&self.door, "nslcd", command);
        nslcd.until("test -S /run/nslcd/socket");
        self.nslcd = Some(nslcd);
    }

    /// Whether the stage's name service finds an account.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        succeeds(&self.door, &format!("getent passwd {name}"))
    }

    /// Takes an account out of the directory.
    #[track_caller]
    pub fn delete(&self, name: &str) {
        self.change("ldapdelete", &format!("uid={name},{BASE}\n"));
    }

    #[track_caller]
    fn modify(&self, name: &str, change: &str) {
        self.change("ldapmodify", &format!("dn: uid={name},{BASE}\nchangetype: modify\n{change}\n"));
    }

    #[track_caller]
    fn change(&self, tool: &str, text: &str) {
        let mut command: Command = self.door.command(tool);
        command.args(["-x", "-H", "ldap://127.0.0.1/", "-D", &format!("cn=admin,{BASE}"), "-w", ADMIN_PASSWORD]);
        let output = fed(command, text);
        assert!(output.status.success(), "{tool}: {text}{output:?}");
    }
}

impl Directory for Ldap {
    fn somebody(&self) -> &'static str {
        "lena"
    }

    fn another(&self) -> &'static str {
        "otto"
    }

    fn ask(&self, name: &str, password: &str) -> Verdict {
        self.checker.ask(name, password)
    }

    /// For ever, as the password policy's draft writes it.
    #[track_caller]
    fn lock(&self, name: &str) {
        self.modify(name, "replace: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z");
    }

    #[track_caller]
    fn unlock(&self, name: &str) {
        self.modify(name, "delete: pwdAccountLockedTime");
    }

    #[track_caller]
    fn expire(&self, name: &str) {
        self.modify(name, "replace: shadowExpire\nshadowExpire: 11323");
    }

    #[track_caller]
    fn must_change(&self, name: &str) {
        self.modify(name, "replace: shadowLastChange\nshadowLastChange: 0");
    }
}

fn people() -> String {
    let mut ldif = format!("dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: farm\ndc: farm\n");
    ldif.push_str(&format!(
        "\ndn: cn=policy,{BASE}\nobjectClass: device\nobjectClass: pwdPolicy\ncn: policy\n\
         pwdAttribute: userPassword\npwdLockout: TRUE\n"
    ));
    for (name, uid) in PEOPLE {
        ldif.push_str(&format!(
            "\ndn: uid={name},{BASE}\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n\
             objectClass: shadowAccount\ncn: {name}\nsn: {name}\nuid: {name}\nuidNumber: {uid}\ngidNumber: 22000\n\
             homeDirectory: /home/{name}\nloginShell: /bin/sh\nuserPassword: {PASSWORD}\n"
        ));
    }
    for (name, gid, members) in GROUPS {
        ldif.push_str(&format!("\ndn: cn={name},{BASE}\nobjectClass: posixGroup\ncn: {name}\ngidNumber: {gid}\n"));
        members.iter().for_each(|m| ldif.push_str(&format!("memberUid: {m}\n")));
    }
    ldif
}
