//! Tells release builds which commit they come from: `GPTJ_COMMIT`, if this is a git checkout.
//!
//! Debug builds are not told, so that a commit does not rebuild the tests.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let root = Path::new(&root);
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let Some(commit) = commit(root) else { return };
    println!("cargo::rustc-env=GPTJ_COMMIT={commit}");
    // Every commit, checkout and reset adds a line to it. A path that does not exist would rebuild always.
    if let Some(log) = git(root, &["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| root.join(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// The commit that is checked out in `root`; `None` if it is not the root of a checkout, as where the package is
/// vendored into another repository.
pub(crate) fn commit(root: &Path) -> Option<String> {
    let is_root = git(root, &["rev-parse", "--show-prefix"])?.is_empty();
    git(root, &["rev-parse", "HEAD"]).filter(|_| is_root)
}

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
