//! What pages need besides themselves, in the program itself. An address holds a hash of the content, so that a browser
//! keeps it for good and still gets the next version.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// A file that browsers fetch.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    pub name: &'static str,
    pub kind: &'static str,
    pub bytes: &'static [u8],
}

const ALL: &[Asset] = &[
    Asset { name: "app.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("../assets/app.css") },
    Asset { name: "app.js", kind: "text/javascript; charset=utf-8", bytes: include_bytes!("../assets/app.js") },
    Asset {
        name: "htmx.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/vendor/htmx-4.0.1.min.js"),
    },
    Asset { name: "icon.svg", kind: "image/svg+xml", bytes: include_bytes!("../assets/icon.svg") },
];

#[must_use]
pub fn find(name: &str) -> Option<Asset> {
    ALL.iter().copied().find(|asset| asset.name == name)
}

/// Where it is fetched.
#[must_use]
pub fn url(name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    find(name).map(|asset| asset.bytes).unwrap_or_default().hash(&mut hasher);
    format!("/assets/{name}?v={:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};
    use std::path::Path;

    /// What we didn't write is what its authors released.
    #[test]
    fn vendored_files_are_what_was_taken() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/vendor");
        let sums = std::fs::read_to_string(dir.join("SHA256SUMS")).expect("sums");
        let mut listed: Vec<&str> = sums
            .lines()
            .map(|line| {
                let (sum, name) = line.split_once("  ").expect("SUM  NAME");
                let bytes = std::fs::read(dir.join(name)).expect(name);
                let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(found, sum, "{name}");
                name
            })
            .collect();
        let mut there: Vec<String> = std::fs::read_dir(&dir)
            .expect("dir")
            .map(|e| e.expect("entry").file_name().into_string().expect("text"))
            .filter(|name| name != "SHA256SUMS")
            .collect();
        there.sort();
        listed.sort_unstable();
        assert_eq!(listed, there);
    }

    #[test]
    fn addresses_change_with_the_content() {
        assert!(find("../Cargo.toml").is_none());
        let (css, js) = (url("app.css"), url("app.js"));
        assert_ne!(css.split_once("?v=").expect("hash").1, js.split_once("?v=").expect("hash").1);
    }
}
