//! Makes a bare machine ready: a Vulkan device for the engine, the programs that checks need, and
//! the folders under `target/` that hold what was downloaded.
//!
//! Packages are installed with apt alone. Everywhere else, and where neither root nor sudo is at
//! hand, the error says what to install. Nothing is installed over what is there and works.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{apt, shell};

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
    apt::ensure_can_install(&PACKAGES, by_hand)?;
    println!("{why}");
    if apt::debian_release().is_some_and(|release| release == "bookworm") {
        println!("Debian 12's own Mesa is old and runs about eight times slower, so it comes from Debian's backports.");
        match apt::install_from_backports(&PACKAGES) {
            Ok(()) => return Ok(()),
            Err(error) => println!("That did not work, so Debian 12's own Mesa must do: {error:#}"),
        }
    }
    apt::install(&PACKAGES)
}

/// Installs the packages of those programs that are missing, given as (program, package).
pub(crate) fn programs(programs: &[(&str, &str)], by_hand: &str) -> Result<()> {
    let missing = programs.iter().filter(|(program, _)| !shell::starts(program));
    let packages: Vec<_> = missing.map(|&(_, package)| package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    apt::ensure_can_install(&packages, by_hand)?;
    println!("Installing what is missing here: {}.", packages.join(", "));
    apt::install(&packages)
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
