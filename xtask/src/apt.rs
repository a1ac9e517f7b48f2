//! Debian's and Ubuntu's packages: installed, or only downloaded.
//!
//! Where packages come from is for the machine's own configuration to say: nothing here names a server, and nothing
//! under `/etc` changes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::shell;

/// If apt cannot install the packages, asks the user to see to them `by_hand`.
pub(crate) fn ensure_can_install(packages: &[&str], by_hand: &str) -> Result<()> {
    ensure!(
        shell::starts("apt-get") && as_root("apt-get").is_ok(),
        "{} must be installed, which this command can do only with apt, as root or through sudo: {by_hand}",
        packages.join(" and ")
    );
    Ok(())
}

pub(crate) fn install(packages: &[&str]) -> Result<()> {
    install_with(packages, &[])
}

/// Installs Debian's packages from its backports, which are made known to these commands alone.
pub(crate) fn install_from_backports(packages: &[&str]) -> Result<()> {
    let release = debian_release().context("only Debian has backports")?;
    let backports = format!("{release}-backports");
    let mut sources = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    if !indices()?.contains(&format!("/dists/{backports}/")) {
        sources += &format!("\n{}\n", source(&backports)?);
    }
    let target = shell::root().join("target");
    let list = target.join("apt-sources.list");
    fs::create_dir_all(&target)
        .and_then(|()| fs::write(&list, sources))
        .with_context(|| format!("cannot write {}", list.display()))?;
    // The files in `sources.list.d` are read as ever.
    install_with(packages, &["-o", &format!("Dir::Etc::sourcelist={}", list.display()), "-t", &backports])
}

fn install_with(packages: &[&str], options: &[&str]) -> Result<()> {
    let install = || {
        // Another repository of this machine may be out of order without harm: whether the index
        // will do is for the installation to say.
        let _ = shell::run(apt_get_as_root()?.args(options).arg("update"));
        shell::run(
            apt_get_as_root()?.args(options).args(["install", "--yes", "--no-install-recommends"]).args(packages),
        )
    };
    // The index can change between the two commands, and mirrors have their moments.
    install().or_else(|_| install())
}

/// Downloads packages into `folder` without installing them.
pub(crate) fn download(packages: &[&str], folder: &Path) -> Result<()> {
    ensure!(shell::starts("apt-get"), "{} can be had only with Debian's apt", packages.join(" and "));
    let download = || {
        // By default apt downloads as a user that may not write here, and warns that it cannot.
        let mut apt = Command::new("apt-get");
        apt.args(["-o", "APT::Sandbox::User=root", "download"]).args(packages);
        shell::run(apt.current_dir(folder))
    };
    download().or_else(|_| {
        shell::run(apt_get_as_root()?.arg("update"))?;
        download()
    })
}

/// Downloads packages of another release of Debian, with all that they depend on, into `folder`: to apt, it is a
/// machine that has nothing installed and knows that release alone.
pub(crate) fn download_from(release: &str, packages: &[&str], folder: &Path) -> Result<()> {
    let written = || format!("cannot write to {}", folder.display());
    for empty in ["lists/partial", "archives/partial"] {
        fs::create_dir_all(folder.join(empty)).with_context(written)?;
    }
    fs::write(folder.join("sources.list"), source(release)?).with_context(written)?;
    fs::write(folder.join("status"), "").with_context(written)?;
    let apt = || {
        let mut apt = Command::new("apt-get");
        for (option, path) in [
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::sourceparts", "none"),
            ("Dir::Etc::preferences", "none"),
            ("Dir::Etc::preferencesparts", "none"),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache::archives", "archives"),
            ("Dir::Cache::pkgcache", ""),
            ("Dir::Cache::srcpkgcache", ""),
        ] {
            // Relative paths would be the system's.
            let path = if path.is_empty() { path.into() } else { folder.join(path) };
            apt.arg("-o").arg(format!("{option}={}", path.display()));
        }
        // What belongs to nobody else needs neither a lock nor another user's rights.
        apt.args(["-q", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]);
        apt
    };
    let download = || {
        shell::run(apt().arg("update"))?;
        shell::run(apt().args(["install", "--yes", "--download-only", "--no-install-recommends"]).args(packages))
    };
    download().or_else(|_| download())
}

/// The line that makes a release known to apt, on the mirror from which this machine has its own.
fn source(release: &str) -> Result<String> {
    // Keys that are no longer trusted for everything.
    let keys = ["gpg", "pgp"].map(|end| format!("/usr/share/keyrings/debian-archive-keyring.{end}"));
    let keys = keys.iter().find(|path| Path::new(path).exists());
    let signed = keys.map_or_else(String::new, |path| format!("[signed-by={path}] "));
    Ok(format!("deb {signed}{} {release} main", mirror()?))
}

/// The mirror of Debian from which this machine has its packages.
fn mirror() -> Result<String> {
    let release = debian_release().context("only Debian has a mirror of Debian")?;
    let indices = indices()?;
    let mirror = mirror_of(&release, &indices);
    Ok(mirror.with_context(|| format!("apt's sources name no mirror for {release}:\n{indices}"))?.to_owned())
}

/// Finds it in the list of indices that apt would update.
fn mirror_of<'a>(release: &str, indices: &'a str) -> Option<&'a str> {
    let names = [release, "stable", "oldstable"].map(|name| format!("/dists/{name}/InRelease"));
    indices.lines().find_map(|line| {
        let (url, _) = line.strip_prefix('\'')?.split_once('\'')?;
        names.iter().find_map(|name| url.strip_suffix(name.as_str()))
    })
}

/// The indices that apt would update, one a line: all of its configuration, in whichever form, comes down to them.
fn indices() -> Result<String> {
    shell::output(Command::new("apt-get").args(["update", "--print-uris"]))
}

/// The name of this machine's release of Debian; `None` if it is another system.
pub(crate) fn debian_release() -> Option<String> {
    let system = fs::read_to_string("/etc/os-release").ok()?;
    let value = |name: &str| system.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME").map(|name| name.trim_matches('"').to_owned()))?
}

fn apt_get_as_root() -> Result<Command> {
    let mut command = as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    // Wait for another installation to end rather than fail.
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    Ok(command)
}

/// The command for a program that needs root: through sudo for everybody else.
fn as_root(program: &str) -> Result<Command> {
    let user = Command::new("id").arg("-u").output();
    if user.is_ok_and(|Output { stdout, .. }| stdout.trim_ascii() == b"0") {
        return Ok(Command::new(program));
    }
    ensure!(shell::starts("sudo"), "`{program}` must run as root, and there is no sudo here");
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    Ok(sudo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_machines_own_release() {
        let indices = "'http://one.example/debian-security/dists/bookworm-security/InRelease' a 0 \n\
                       'http://two.example/dists/nodistro/InRelease' b 0 \n\
                       'http://three.example/dists/bookworm/main/binary-amd64/Packages.xz' c 0 \n\
                       'https://four.example:8080/a/debian/dists/bookworm/InRelease' d 0 ";
        assert_eq!(mirror_of("bookworm", indices), Some("https://four.example:8080/a/debian"));
        assert_eq!(mirror_of("trixie", indices), None);
        let by_suite = "'http://five.example/debian/dists/stable/InRelease' a 0 ";
        assert_eq!(mirror_of("trixie", by_suite), Some("http://five.example/debian"));
    }
}
