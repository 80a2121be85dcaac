//! The Debian packages that the tests use. Installed only by root, by name, and without starting any daemon.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// A program of the package: there means installed, whatever the distribution.
    probe: &'static str,
    pub(crate) used_for: &'static str,
}

const PACKAGES: &[Package] = &[
    Package { name: "util-linux", probe: "setpriv", used_for: "everything on real accounts" },
    Package { name: "iproute2", probe: "ip", used_for: "everything with a network of its own" },
    Package { name: "strace", probe: "strace", used_for: "a switch of identity that fails" },
    Package { name: "binutils", probe: "readelf", used_for: "the launcher's library search path" },
    Package { name: "xvfb", probe: "Xvfb", used_for: "a desktop worker's screen" },
    Package { name: "xauth", probe: "xauth", used_for: "a desktop worker's screen" },
    Package { name: "x11-apps", probe: "xlogo", used_for: "a desktop worker's screen" },
    Package { name: "imagemagick", probe: "identify", used_for: "whether pictures decode and are not blank" },
    Package { name: "sqlite3", probe: "sqlite3", used_for: "grants that are changed by hand" },
    Package { name: "chromium", probe: "chromium", used_for: "the pages in a browser" },
    Package { name: "chromium-driver", probe: "chromedriver", used_for: "the pages in a browser" },
    Package { name: "povray", probe: "povray", used_for: "a real renderer" },
];

/// Installs what is missing, if it may, and returns what is missing then.
pub(crate) fn install_missing() -> Vec<&'static Package> {
    let missing = missing();
    if missing.is_empty() {
        return missing;
    }
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    if !is_root() || which("apt-get").is_none() {
        println!("xtask: to test everything, first: apt-get install --no-install-recommends {}", names.join(" "));
        return missing;
    }
    println!("\n== packages: {}", names.join(" "));
    let guard = NoDaemons::install();
    if let Err(refused) = guard {
        println!("xtask: not installing: failed to make sure that no daemon starts: {refused}");
        return missing;
    }
    apt(&["update", "-q"]);
    apt(&[&["install", "-y", "-q", "--no-install-recommends"], names.as_slice()].concat());
    self::missing()
}

/// Makes sure of one package whose program has its name.
pub(crate) fn install(name: &str) -> bool {
    if which(name).is_none() && is_root() && which("apt-get").is_some() {
        println!("\n== package: {name}");
        // Held while it installs.
        let _guard = match NoDaemons::install() {
            Ok(guard) => guard,
            Err(refused) => {
                println!("xtask: not installing: failed to make sure that no daemon starts: {refused}");
                return false;
            }
        };
        apt(&["update", "-q"]);
        apt(&["install", "-y", "-q", "--no-install-recommends", name]);
    }
    which(name).is_some()
}

fn missing() -> Vec<&'static Package> {
    PACKAGES.iter().filter(|p| which(p.probe).is_none()).collect()
}

/// Its failure shows in what is still missing afterwards.
fn apt(args: &[&str]) {
    match Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive").status() {
        Ok(status) if status.success() => {}
        Ok(status) => println!("xtask: apt-get {}: {status}", args.join(" ")),
        Err(e) => println!("xtask: failed to start apt-get: {e}"),
    }
}

/// Keeps packages from starting their daemons while it lives. A policy that is there already stays as it is.
struct NoDaemons {
    written: bool,
}

impl NoDaemons {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn install() -> std::io::Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        match options.write(true).create_new(true).mode(0o755).open(Self::POLICY) {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n")?;
                Ok(Self { written: true })
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { written: false }),
            Err(e) => Err(e),
        }
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.written
            && let Err(e) = std::fs::remove_file(Self::POLICY)
        {
            println!("xtask: failed to remove {}: {e}", Self::POLICY);
        }
    }
}

pub(crate) fn is_root() -> bool {
    // The owner of this process, without a system call of our own.
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

pub(crate) fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let executable = |p: &Path| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    // Debian keeps some of them where only root's PATH looks.
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|p| executable(p))
}
