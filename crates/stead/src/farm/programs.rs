//! The three executables, which are found side by side.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) stead: PathBuf,
    pub(crate) launcher: PathBuf,
    pub(crate) session: PathBuf,
}

impl Programs {
    pub(crate) fn beside_this_one() -> Result<Self, Failure> {
        let stead = std::env::current_exe().map_err(|e| Failure::system("find this program's own file", e))?;
        let folder = stead.parent().unwrap_or(Path::new("/")).to_owned();
        let find = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { Err(missing(&path)) }
        };
        Ok(Self { launcher: find("stead-launcher")?, session: find("stead-session")?, stead })
    }
}

fn missing(path: &Path) -> Failure {
    Failure::Refused {
        rule: "programs_side_by_side",
        text: format!("{} is missing", path.display()),
        hint:
            "the programs stead, stead-launcher and stead-session belong in one folder; `cargo build` makes all three"
                .into(),
    }
}

/// This very program, even when its file was replaced meanwhile.
pub(crate) fn myself() -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, "stead");
    command
}
