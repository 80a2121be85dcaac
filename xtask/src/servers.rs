//! Real directory servers for the tests: OpenLDAP, a Samba domain, and what asks them.
//!
//! Installing them would change the host: their packages write /etc/pam.d, /etc/nsswitch.conf and start daemons. So they
//! are only downloaded and unpacked, into a folder below the target folder, and each test lays that folder over its
//! own namespace's /usr, /etc and /var. No package script is run, and nothing outside the folder changes.

use crate::debian;
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is unpacked, with whatever it depends on and the host lacks.
const PACKAGES: &[&str] = &[
    "slapd",
    "ldap-utils",
    "nslcd",
    "libnss-ldapd",
    "libpam-ldapd",
    "libnss-extrausers",
    "samba",
    "samba-ad-provision",
    "samba-dsdb-modules",
    "samba-vfs-modules",
    "winbind",
    "libnss-winbind",
    "libpam-winbind",
    "libpam-krb5",
    "krb5-user",
    "smbclient",
];
/// Written last: the packages and versions that the folder holds.
const PLAN: &str = "plan";
/// Another one whenever something else is done with the packages.
const LAYOUT: &str = "layout 2";

/// Unpacks the servers if that was not done yet, or their versions have changed.
pub(crate) fn unpack(root: &Path) -> Result<()> {
    ensure!(debian::is_root(), "only root can use them");
    ensure!(debian::which("apt-get").is_some(), "they are unpacked from Debian's packages, and there is no apt-get");
    let dir = folder(root);
    let plan = plan()?;
    if std::fs::read_to_string(dir.join(PLAN)).is_ok_and(|done| done == plan) {
        return Ok(());
    }
    println!("\n== directory servers, unpacked to {}", dir.display());
    let fresh = dir.with_extension("new");
    remove(&fresh)?;
    download(&fresh)?;
    unpack_all(&fresh)?;
    std::fs::write(fresh.join(PLAN), plan).context("failed to write the plan")?;
    remove(&dir)?;
    std::fs::rename(&fresh, &dir).with_context(|| format!("failed to rename {}", fresh.display()))
}

fn folder(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |t| root.join(t));
    target.join("directory-servers")
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("failed to remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// What apt would install here, a line per package and version. A machine whose lists are missing gets them first.
fn plan() -> Result<String> {
    let ask = || run(apt_get(&["install", "--simulate"]).args(PACKAGES));
    let text = ask().or_else(|_| run(&mut apt_get(&["update"])).and_then(|_| ask()))?;
    let mut lines: Vec<&str> = text.lines().filter(|l| l.starts_with("Inst ")).collect();
    lines.sort_unstable();
    Ok(format!("{LAYOUT}\n{}\n{}\n", PACKAGES.join(" "), lines.join("\n")))
}

fn download(to: &Path) -> Result<()> {
    let debs = to.join("debs");
    std::fs::create_dir_all(debs.join("partial")).with_context(|| format!("failed to make {}", debs.display()))?;
    let fetch = || {
        let mut command = apt_get(&["install", "--download-only"]);
        command.arg("-o").arg(format!("Dir::Cache::archives={}", debs.display()));
        // The account that apt downloads as can't write below the target folder.
        command.args(["-o", "APT::Sandbox::User=root", "-o", "APT::Keep-Downloaded-Packages=true"]).args(PACKAGES);
        run(&mut command)
    };
    // Lists from before the last point release name packages that are gone.
    fetch().or_else(|_| run(&mut apt_get(&["update"])).and_then(|_| fetch())).map(drop)
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"]).args(args);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

fn unpack_all(dir: &Path) -> Result<()> {
    let debs = dir.join("debs");
    for entry in std::fs::read_dir(&debs).context("failed to read what was downloaded")? {
        let package = entry.context("failed to read what was downloaded")?.path();
        if package.extension() == Some(OsStr::new("deb")) {
            run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(dir))?;
        }
    }
    // Some packages still name the folders that have become links to /usr's.
    for name in ["bin", "sbin", "lib", "lib64"] {
        let old = dir.join(name);
        if old.is_dir() {
            let new = dir.join("usr").join(name);
            std::fs::create_dir_all(&new).with_context(|| format!("failed to make {}", new.display()))?;
            run(Command::new("cp").arg("-a").arg(old.join(".")).arg(&new))?;
            remove(&old)?;
        }
    }
    remove(&debs)?;
    // Programs that make whoever starts them root (ksu) are nothing to leave in a folder of the host.
    run(Command::new("chmod").args(["-R", "u-s,g-s"]).arg(dir))?;
    for name in ["usr", "etc", "var"] {
        ensure!(dir.join(name).is_dir(), "the packages hold no /{name}");
    }
    Ok(())
}

/// Standard output of a command that must succeed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("failed to start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
