//! The Vulkan drivers that `cargo xtask test --driver` can run the tests on.
//!
//! | name | driver | why it matters |
//! |---|---|---|
//! | `lavapipe` | Mesa's, as installed | the everyday one: f16, subgroups of 8 |
//! | `lavapipe-22` | Mesa 22.3, Debian 12's own | an old compiler and old limits |
//! | `lavapipe-next` | a recent Mesa, from Debian's next release | cooperative matrices |
//! | `swiftshader` | Google's, from Debian's Chromium | no f16, subgroups of 4, ten storage buffers |
//!
//! All but the first are unpacked under `target/drivers/` and leave the machine as it is. They run
//! on the CPU, and what they are is for this file alone to know: a test sees a Vulkan driver.
//!
//! One more, RADV, Mesa's for AMD's GPUs, runs nothing without such a GPU, but compiles; that is for `cargo xtask isa`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

use crate::{apt, setup};

/// A Vulkan driver, by the name that the command line has for it.
#[derive(Clone)]
pub(crate) enum Driver {
    Lavapipe,
    Lavapipe22,
    LavapipeNext,
    SwiftShader,
    /// Any other, by its ICD file, which is how a driver makes itself known to the Vulkan loader.
    Icd(PathBuf),
}

impl FromStr for Driver {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "lavapipe" => Self::Lavapipe,
            "lavapipe-22" => Self::Lavapipe22,
            "lavapipe-next" => Self::LavapipeNext,
            "swiftshader" => Self::SwiftShader,
            path if path.ends_with(".json") => {
                let path = std::path::absolute(path)?;
                ensure!(path.is_file(), "there is no such ICD file");
                Self::Icd(path)
            }
            _ => bail!(
                "there are lavapipe, lavapipe-22, lavapipe-next, swiftshader, and any driver by \
                 the path of its ICD file, which ends in .json"
            ),
        })
    }
}

impl Driver {
    /// Whether the machine is one for which `select` knows where to get it.
    pub(crate) fn can_be_fetched(&self) -> bool {
        ensure_supported().is_ok() && apt::debian_release().is_some()
    }

    /// Has the command use this driver and no other, after downloading it where need be.
    pub(crate) fn select(&self, command: &mut Command) -> Result<()> {
        let icd = match self {
            Self::Lavapipe => {
                installed("lvp_icd").context("lavapipe is not installed: install Mesa's Vulkan drivers")?
            }
            Self::Lavapipe22 => {
                let folder = unpacked(
                    "lavapipe-22",
                    &["mesa-vulkan-drivers/bookworm", "libllvm15/bookworm"],
                    "usr/lib/x86_64-linux-gnu",
                    &[LAVAPIPE, "libLLVM-15.so.1"],
                )?;
                command.env("LD_LIBRARY_PATH", &folder);
                folder.join(ICD)
            }
            Self::LavapipeNext => {
                let folder = debian_testing()?;
                // The driver needs the C library that it was built for, and a process has but one, so that library's
                // loader starts the tests.
                let loader = folder.join("ld-linux-x86-64.so.2");
                command.env(
                    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
                    format!("{} --library-path {}", loader.display(), folder.display()),
                );
                folder.join(ICD)
            }
            Self::SwiftShader => {
                unpacked("swiftshader", &["chromium-common"], "usr/lib/chromium", &["libvk_swiftshader.so"])?.join(ICD)
            }
            Self::Icd(path) => path.clone(),
        };
        // Loaders before 1.3.207 read only the second; later ones prefer the first.
        command.env("VK_DRIVER_FILES", &icd).env("VK_ICD_FILENAMES", &icd);
        Ok(())
    }
}

/// The name of the ICD file that `write_icd` writes.
const ICD: &str = "icd.json";
const LAVAPIPE: &str = "libvulkan_lvp.so";

/// The ICD file of RADV, which is installed where it is missing.
pub(crate) fn radv() -> Result<PathBuf> {
    if let Some(icd) = installed("radeon_icd") {
        return Ok(icd);
    }
    setup::install_mesa(
        "RADV, Mesa's driver for AMD's GPUs, is not here: installing Mesa's Vulkan drivers.",
        "install a Vulkan loader and RADV (Fedora: vulkan-loader and mesa-vulkan-drivers, Arch: vulkan-icd-loader and \
         vulkan-radeon)",
    )?;
    installed("radeon_icd").context("Mesa's Vulkan drivers are installed, but RADV is not among them")
}

/// The ICD file that begins so, of a driver that the system has; some name the architecture in it.
fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/local/share", "/usr/share", "/etc"]
        .iter()
        .filter_map(|folder| Path::new(folder).join("vulkan/icd.d").read_dir().ok())
        .flatten()
        .flatten()
        .find(|file| file.file_name().to_string_lossy().starts_with(name))
        .map(|file| file.path())
}

/// A folder with libraries that Debian packages have in `place`, and an ICD file for the first of them.
fn unpacked(name: &str, packages: &[&str], place: &str, libraries: &[&str]) -> Result<PathBuf> {
    ensure_supported()?;
    setup::folder(&format!("drivers/{name}"), |folder| {
        let packed = folder.join("packed");
        fs::create_dir(&packed)?;
        apt::download(packages, &packed)?;
        let unpacked = unpack(&packed, folder)?;
        for library in libraries {
            fs::rename(unpacked.join(place).join(library), folder.join(library))
                .with_context(|| format!("{} has no {place}/{library}", packages.join(" or ")))?;
        }
        fs::remove_dir_all(packed)?;
        fs::remove_dir_all(unpacked)?;
        write_icd(folder, libraries[0])
    })
}

/// A folder with the lavapipe of Debian's next release, known as testing, and every library under it, the C library
/// included. What enters testing can be installed, which is not always so in sid, where packages arrive one by one.
fn debian_testing() -> Result<PathBuf> {
    ensure_supported()?;
    setup::folder("drivers/lavapipe-testing", |folder| {
        let apt = folder.join("apt");
        apt::download_from("testing", &["mesa-vulkan-drivers", "libvulkan1"], &apt)?;
        let unpacked = unpack(&apt.join("archives"), folder)?;
        let libraries = unpacked.join("usr/lib/x86_64-linux-gnu");
        for library in libraries.read_dir()? {
            let library = library?;
            let name = library.file_name().to_string_lossy().into_owned();
            let other_driver = name.starts_with("libvulkan_") && name != LAVAPIPE;
            if name.contains(".so") && !other_driver {
                fs::rename(library.path(), folder.join(name))?;
            }
        }
        fs::remove_dir_all(apt)?;
        fs::remove_dir_all(unpacked)?;
        ensure!(folder.join(LAVAPIPE).exists(), "Debian testing's mesa-vulkan-drivers has no {LAVAPIPE}");
        write_icd(folder, LAVAPIPE)
    })
}

/// Unpacks every package in `packed` into a folder within `folder`.
fn unpack(packed: &Path, folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("unpacked");
    // Dozens: too many to print each.
    for file in packed.read_dir()? {
        let package = file?.path();
        if package.extension().is_some_and(|end| end == "deb") {
            let status = Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked).status()?;
            ensure!(status.success(), "dpkg-deb cannot unpack {}: {status}", package.display());
        }
    }
    Ok(unpacked)
}

/// Makes a driver known to the loader. A library path with a slash is relative to the ICD file, so the folder may get
/// another name.
fn write_icd(folder: &Path, library: &str) -> Result<()> {
    let icd = format!(
        r#"{{"file_format_version": "1.0.0", "ICD": {{"library_path": "./{library}", "api_version": "1.1.0"}}}}"#
    );
    Ok(fs::write(folder.join(ICD), icd)?)
}

fn ensure_supported() -> Result<()> {
    ensure!(cfg!(all(target_os = "linux", target_arch = "x86_64")), "this driver can be had only on Linux on x86-64");
    Ok(())
}
