//! A Samba domain: its controller, and the stage as a member of it that asks through winbind.
//!
//! The controller has mounts and a host name of its own on the stage and shares its network; what it stores is gone
//! with it.

use super::{Daemon, Directory, PASSWORD, Verdict, pam::Checker, script, succeeds, write};
use crate::Stage;
use crate::stage::Door;

const ADMIN_PASSWORD: &str = "Passw0rd!23";

/// Domain FARM with `anna` (of `artists` and `lighting`), `otto` (of `artists`), and `mona`, whom nobody has asked about. On the member people are called by
/// their short names.
#[derive(Debug)]
pub struct Ad {
    door: Door,
    /// Ended with the stage.
    _winbind: Daemon,
    controller: Daemon,
    checker: Checker,
}

impl Ad {
    /// Makes a domain, lets the stage join it, and makes its name service and PAM ask it.
    #[track_caller]
    #[must_use]
    pub fn start(stage: &Stage) -> Self {
        let door = stage.door();
        let mut controller = start_controller(&door);
        controller.until("ldapsearch -x -H ldap://10.99.0.1/ -s base -b '' && test -s /etc/krb5.conf");
        write(&door, "/etc/samba/smb.conf", MEMBER_CONF);
        script(&door, "hostname w1; mkdir -p /run/samba /var/lib/samba/private /var/cache/samba /var/log/samba", &[]);
        controller
            .until(&format!("net ads join -U 'Administrator%{ADMIN_PASSWORD}' --no-dns-updates >>/mnt/join.log 2>&1"));
        let mut command = door.command("winbindd");
        command.args(["--foreground", "--no-process-group"]);
        let mut winbind = Daemon::start(&door, "winbindd", command);
        winbind.until("wbinfo --check-secret && wbinfo --user-info=anna");
        write(
            &door,
            "/etc/nsswitch.conf",
            "passwd: files winbind\ngroup: files winbind\nshadow: files\nhosts: files dns\n",
        );
        let checker = Checker::start(&door, "pam_winbind.so", "pam_winbind.so");
        let homes =
            r#"for who; do mkdir "/home/$who"; chown "$who:domain users" "/home/$who"; chmod 700 "/home/$who"; done"#;
        script(&door, homes, &["anna", "otto"]);
        Self { door, _winbind: winbind, controller, checker }
    }

    /// Ends the domain controller.
    #[track_caller]
    pub fn stop_controller(&mut self) {
        self.order("stop", "test -e /mnt/controller.stopped && ! ldapsearch -x -H ldap://10.99.0.1/ -s base -b ''");
    }

    /// Starts the domain controller again.
    #[track_caller]
    pub fn start_controller(&mut self) {
        self.order("start", "ldapsearch -x -H ldap://10.99.0.1/ -s base -b ''");
    }

    #[track_caller]
    fn order(&mut self, order: &str, until: &str) {
        script(&self.door, r#"echo "$1" >/mnt/controller.orders"#, &[order]);
        self.controller.until(until);
    }

    /// PAM as Debian sets it up for everybody: the host's files, then the domain, then a denial.
    #[track_caller]
    pub fn share_the_stack(&self) {
        write(&self.door, "/etc/pam.d/stead", SHARED_STACK);
    }

    /// Whether the stage's name service finds an account.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        succeeds(&self.door, &format!("getent passwd {name}"))
    }

    /// Changes an account on the controller, from the member.
    #[track_caller]
    fn user(&self, change: &[&str]) {
        let administrator = format!("Administrator%{ADMIN_PASSWORD}");
        let run = r#"samba-tool user "$@""#;
        script(&self.door, run, &[change, &["-H", "ldap://dc1.farm.test", "-U", &administrator]].concat());
    }
}

impl Directory for Ad {
    fn somebody(&self) -> &'static str {
        "anna"
    }

    fn another(&self) -> &'static str {
        "otto"
    }

    fn ask(&self, name: &str, password: &str) -> Verdict {
        self.checker.ask(name, password)
    }

    #[track_caller]
    fn lock(&self, name: &str) {
        self.user(&["disable", name]);
    }

    #[track_caller]
    fn unlock(&self, name: &str) {
        self.user(&["enable", name]);
    }

    #[track_caller]
    fn expire(&self, name: &str) {
        self.user(&["setexpiry", name, "--days=0"]);
    }

    #[track_caller]
    fn must_change(&self, name: &str) {
        self.user(&["setpassword", name, &format!("--newpassword={PASSWORD}"), "--must-change-at-next-login"]);
    }
}

fn start_controller(door: &Door) -> Daemon {
    // Samba takes no loopback for a network that a controller can serve.
    script(door, NETWORK, &[]);
    write(door, "/etc/hosts", "127.0.0.1 localhost\n10.99.0.1 dc1.farm.test dc1\n");
    write(door, "/etc/resolv.conf", "search farm.test\nnameserver 10.99.0.1\n");
    drop(std::fs::remove_file(door.path("/etc/krb5.conf")));
    let mut command = door.command("unshare");
    command.args(["--mount", "--uts", "--propagation", "private", "sh", "-euc", CONTROLLER, "sh"]);
    command.args([ADMIN_PASSWORD, PASSWORD, PEOPLE]);
    Daemon::start(door, "controller", command)
}

const NETWORK: &str = "
ip link add dc type veth peer name member
ip address add 10.99.0.1/24 dev dc
ip link set dc up
ip link set member up
";

/// Argument: everybody's password. One process, where each `samba-tool` would load all of Samba again.
const PEOPLE: &str = r#"
import sys
from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

lp = LoadParm()
lp.load_default()
domain = SamDB(url=lp.private_path("sam.ldb"), session_info=system_session(), lp=lp)
for who in ["anna", "otto", "mona"]:
    domain.newuser(who, sys.argv[1])
for group, members in {"artists": ["anna", "otto"], "lighting": ["anna", "mona"]}.items():
    domain.newgroup(group)
    domain.add_remove_group_members(group, members, add_members_operation=True)
"#;

/// Arguments: the administrator's password, everybody's, [`PEOPLE`].
const CONTROLLER: &str = r#"
hostname dc1
mkdir -p /run/samba
for dir in /etc/samba /var/lib/samba /var/cache/samba /var/log/samba /run/samba; do
  mkdir -p "$dir"; mount -t tmpfs -o mode=755 samba "$dir"
done
# The group that a domain's users are on its controller.
cp /etc/group /run/samba/group; echo users:x:100: >>/run/samba/group; mount --bind /run/samba/group /etc/group
samba-tool domain provision --realm=FARM.TEST --domain=FARM --server-role=dc --dns-backend=SAMBA_INTERNAL \
  --adminpass="$1" --host-ip=10.99.0.1 --host-name=dc1 \
  --option='interfaces=dc lo' --option='bind interfaces only=yes' --option='dns forwarder='
python3 -c "$3" "$2"
cp /var/lib/samba/private/krb5.conf /etc/krb5.conf
# Somebody says when it runs: its folders end with this shell.
mkfifo /mnt/controller.orders; exec 3<>/mnt/controller.orders
samba --foreground --no-process-group & controller=$!
while read -r order <&3; do
  case $order in
    stop) kill "$controller"; wait "$controller" || true; touch /mnt/controller.stopped ;;
    start) rm -f /mnt/controller.stopped; samba --foreground --no-process-group & controller=$! ;;
  esac
done
"#;

const SHARED_STACK: &str = "\
auth [success=2 default=ignore] pam_unix.so nullok
auth [success=1 default=ignore] pam_winbind.so try_first_pass
auth requisite pam_deny.so
auth required pam_permit.so
account [success=2 new_authtok_reqd=done default=ignore] pam_unix.so
account [success=1 new_authtok_reqd=done default=ignore] pam_winbind.so
account requisite pam_deny.so
account required pam_permit.so
";

const MEMBER_CONF: &str = "\
[global]
  netbios name = W1
  workgroup = FARM
  realm = FARM.TEST
  security = ADS
  interfaces = dc lo
  bind interfaces only = yes
  idmap config * : backend = tdb
  idmap config * : range = 3000-7999
  idmap config FARM : backend = rid
  idmap config FARM : range = 100000-199999
  template homedir = /home/%U
  template shell = /bin/sh
  winbind use default domain = yes
";
