//! Makes a bare machine ready: a Vulkan device for the engine, the programs that checks need, and
//! the folders under `target/` that hold what was downloaded.
//!
//! Packages are installed with apt alone. Everywhere else, and where neither root nor sudo is at
//! hand, the error says what to install. Nothing is installed over what is there and works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::shell;

/// Sees to it that Vulkan has a device, if need be the CPU. Windows and macOS bring what the
/// engine runs on: DX12 (with a software adapter, WARP) and Metal.
pub(crate) fn vulkan() -> Result<()> {
    if !cfg!(target_os = "linux") || vulkan_has_a_device() {
        return Ok(());
    }
    install_mesa(
        "Vulkan has no device here: installing Mesa's lavapipe, which runs it on the CPU.",
        "install a Vulkan loader and driver (Fedora: vulkan-loader and mesa-vulkan-drivers, Arch: vulkan-icd-loader \
         and vulkan-swrast, or your GPU's own driver)",
    )?;
    ensure!(
        vulkan_has_a_device(),
        "Mesa's Vulkan drivers are installed, but Vulkan still has no device: see what `vulkaninfo` reports, \
         and what VK_DRIVER_FILES names if it is set"
    );
    Ok(())
}

/// Asks Vulkan itself: a driver may be installed for hardware that is absent, or named by an
/// environment variable, and only the loader knows how all of that adds up.
fn vulkan_has_a_device() -> bool {
    // SAFETY: the loader on the library path is the one that the engine would load, and the
    // instance is not used after it is destroyed.
    unsafe {
        let Ok(vulkan) = ash::Entry::load() else { return false };
        let Ok(instance) = vulkan.create_instance(&Default::default(), None) else { return false };
        let devices = instance.enumerate_physical_devices().unwrap_or_default();
        instance.destroy_instance(None);
        !devices.is_empty()
    }
}

/// Installs Mesa's Vulkan drivers, lavapipe and RADV among them, and the loader; says why.
pub(crate) fn install_mesa(why: &str, by_hand: &str) -> Result<()> {
    const PACKAGES: [&str; 2] = ["libvulkan1", "mesa-vulkan-drivers"];
    ensure_apt(&PACKAGES, by_hand)?;
    println!("{why}");
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if system.contains("VERSION_CODENAME=bookworm") {
        println!(
            "Debian 12's own Mesa is old and runs about eight times slower, so it comes from Debian's \
             backports, which are made known to these apt commands only."
        );
        let backports = backports()?;
        let options = ["-o", &backports, "-t", "bookworm-backports"];
        if apt_install(&PACKAGES, &options).is_ok() {
            return Ok(());
        }
        println!("That did not work, so Debian 12's own Mesa must do.");
    }
    apt_install(&PACKAGES, &[])
}

/// The option that has apt read `/etc/apt/sources.list` with Debian's backports added to it. The
/// files in `sources.list.d` are read as ever, and nothing under `/etc` changes.
fn backports() -> Result<String> {
    let mut sources = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let known = Command::new("apt-cache")
        .arg("policy")
        .output()
        .is_ok_and(|policy| String::from_utf8_lossy(&policy.stdout).contains("bookworm-backports"));
    if !known {
        sources += "\ndeb http://deb.debian.org/debian bookworm-backports main\n";
    }
    let target = shell::root().join("target");
    let list = target.join("apt-sources.list");
    fs::create_dir_all(&target)
        .and_then(|()| fs::write(&list, sources))
        .with_context(|| format!("cannot write {}", list.display()))?;
    Ok(format!("Dir::Etc::sourcelist={}", list.display()))
}

/// Installs the packages of those programs that are missing, given as (program, package).
pub(crate) fn programs(programs: &[(&str, &str)], by_hand: &str) -> Result<()> {
    let missing = programs.iter().filter(|(program, _)| !starts(program));
    let packages: Vec<_> = missing.map(|&(_, package)| package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    ensure_apt(&packages, by_hand)?;
    println!("Installing what is missing here: {}.", packages.join(", "));
    apt_install(&packages, &[])
}

/// Where apt cannot install the packages, asks the user to see to them `by_hand`.
fn ensure_apt(packages: &[&str], by_hand: &str) -> Result<()> {
    ensure!(
        starts("apt-get") && as_root("apt-get").is_ok(),
        "{} must be installed, which this command can do only with apt, as root or through sudo: \
         {by_hand}",
        packages.join(" and ")
    );
    Ok(())
}

/// Installs Debian or Ubuntu packages.
fn apt_install(packages: &[&str], options: &[&str]) -> Result<()> {
    let install = || {
        // Another repository of this machine may be out of order without harm: whether the index
        // will do is for the installation to say.
        let _ = shell::run(apt_get()?.args(options).arg("update"));
        shell::run(apt_get()?.args(options).args(["install", "--yes", "--no-install-recommends"]).args(packages))
    };
    // The index can change between the two commands, and mirrors have their moments.
    install().or_else(|_| install())
}

/// Downloads packages into `folder` without installing them.
pub(crate) fn apt_download(packages: &[&str], folder: &Path) -> Result<()> {
    ensure!(starts("apt-get"), "{} can be had only with Debian's apt", packages.join(" and "));
    let download = || {
        // By default apt downloads as a user that may not write here, and warns that it cannot.
        let mut apt = Command::new("apt-get");
        apt.args(["-o", "APT::Sandbox::User=root", "download"]).args(packages);
        shell::run(apt.current_dir(folder))
    };
    download().or_else(|_| {
        shell::run(apt_get()?.arg("update"))?;
        download()
    })
}

/// Whether there is such a program.
fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

fn apt_get() -> Result<Command> {
    let mut command = as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    // Wait for another installation to end rather than fail.
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    Ok(command)
}

/// The command for a program that needs root: through sudo for everybody else.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    let user = Command::new("id").arg("-u").output();
    if user.is_ok_and(|Output { stdout, .. }| stdout.trim_ascii() == b"0") {
        return Ok(Command::new(program));
    }
    ensure!(starts("sudo"), "`{program}` must run as root, and there is no sudo here");
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    Ok(sudo)
}

/// The folder `target/NAME`, filled by `fill` the first time. It gets its name when it is full, so
/// that half a download never passes for a whole one.
pub(crate) fn folder(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = shell::root().join("target").join(name);
    if folder.exists() {
        return Ok(folder);
    }
    let partial = folder.with_added_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}, a download cut short", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    fill(&partial)?;
    fs::rename(&partial, &folder)
        .with_context(|| format!("cannot rename {} to {}", partial.display(), folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_download_never_passes_for_a_whole_one() {
        let name = "half-a-download";
        let whole = shell::root().join("target").join(name);
        folder(name, |folder| {
            fs::write(folder.join("first"), "")?;
            anyhow::bail!("the connection is lost")
        })
        .expect_err("the first attempt fails");
        assert!(!whole.exists(), "a download cut short left {}", whole.display());
        folder(name, |folder| Ok(fs::write(folder.join("second"), "")?)).expect("the second succeeds");
        assert!(!whole.join("first").exists(), "the second attempt found what the first had left");
        fs::remove_dir_all(whole).expect("the folder can be removed");
    }
}
