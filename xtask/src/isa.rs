//! `cargo xtask isa`: what a real GPU's compiler makes of every kernel, with no GPU present.
//!
//! Mesa's RADV compiles for any of AMD's chips on any machine. Each target is compiled for in a process of its own,
//! because RADV reads the chip's name when it is loaded. Two tables a target come out: what a kernel takes and does,
//! and what its main loop does. `benches/isa.md` holds the tables as they were last agreed on; `--check` compares.
//!
//! This file knows the order of things: [`kernels`] finds what to compile, [`spirv`] and [`radv`] compile it,
//! [`assembly`] reads what came out, [`figures`] counts and judges, and [`report`] shows and compares.

mod assembly;
mod figures;
mod kernels;
mod radv;
mod report;
mod spirv;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::figures::Figures;
use self::kernels::Kernel;
use self::radv::{Binary, Radv};
use self::report::Report;
use crate::{drivers, shaders, shell};

/// An RDNA 3 and an RDNA 2, with matrix units and without.
const TARGETS: [&str; 2] = ["navi31", "navi21"];

#[derive(Args)]
pub(crate) struct Options {
    /// The chips to compile for, by RADV's names
    #[arg(long = "target", value_name = "CHIPS", value_delimiter = ',', default_values = TARGETS)]
    targets: Vec<String>,
    /// Only kernels whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    filter: String,
    /// Fail on a spill, scratch memory, a weight load narrower than 128 bits, a cooperative kernel without matrix
    /// instructions in its main loop, and on figures that are worse than in benches/isa.md
    #[arg(long)]
    check: bool,
    /// Rewrite benches/isa.md
    #[arg(long, conflicts_with_all = ["check", "filter", "shaders", "targets"])]
    update: bool,
    /// Take the shaders from a folder that the example `dump_shaders` wrote, rather than from the engine
    #[arg(long, value_name = "DIR")]
    shaders: Option<PathBuf>,
}

/// What the process of one target hands back.
#[derive(Serialize, Deserialize)]
struct Compiled {
    /// Its version.
    mesa: String,
    kernels: Vec<(Kernel, Binary)>,
}

/// The tables, printed and, as the options say, checked or kept.
pub(crate) fn isa(options: &Options) -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "`cargo xtask isa` needs Linux with Mesa, whose driver for AMD's GPUs it asks");
    let icd = drivers::radv()?;
    let shaders = shaders::folder("isa", options.shaders.as_deref())?;
    let mut report = Report::default();
    let mut faults = Vec::new();
    for target in &options.targets {
        let compiled = compile_apart(target, &icd, &shaders, &options.filter)?;
        report.mesa = compiled.mesa;
        for (kernel, binary) in &compiled.kernels {
            let figures = Figures::new(kernel, binary).with_context(|| format!("{} for {target}", kernel.name))?;
            faults.extend(figures.faults().into_iter().map(|fault| format!("{target}: {}: {fault}", kernel.name)));
            report.add(target, kernel, &figures);
        }
    }
    ensure!(!report.is_empty(), "no kernel's name contains `{}`", options.filter);
    println!("{report}");

    let path = shell::root().join("benches/isa.md");
    if options.update {
        fs::create_dir_all(path.with_file_name(""))
            .and_then(|()| fs::write(&path, report.file()))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if options.check {
        let kept = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if report.is_comparable(&kept) {
            let whole = options.filter.is_empty() && options.shaders.is_none();
            faults.extend(report.worse_than(&kept, whole));
        } else {
            println!("benches/isa.md comes from another Mesa than {}, so nothing is compared with it.", report.mesa);
        }
        let faults = faults.join("\n");
        ensure!(faults.is_empty(), "what RADV makes of the kernels should be better:\n{faults}");
    }
    Ok(())
}

/// As `cargo xtask isa --check`.
pub(crate) fn check() -> Result<()> {
    let targets = TARGETS.map(str::to_owned).to_vec();
    isa(&Options { targets, filter: String::new(), check: true, update: false, shaders: None })
}

/// Compiles for one target in another process.
fn compile_apart(target: &str, icd: &Path, shaders: &Path, filter: &str) -> Result<Compiled> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("isa-target").arg(shaders).arg(filter);
    command.env("RADV_FORCE_FAMILY", target);
    // Loaders before 1.3.207 read only the second; later ones prefer the first.
    command.env("VK_DRIVER_FILES", icd).env("VK_ICD_FILENAMES", icd);
    let output = command.output().with_context(|| format!("cannot start the compilation for {target}"))?;
    if !output.status.success() {
        bail!("the compilation for {target} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("the compilation for {target} was cut short"))
}

/// In that process: compiles for the chip that the environment names, and writes the outcome to standard output.
pub(crate) fn isa_target(shaders: &Path, filter: &str) -> Result<()> {
    let radv = Radv::open()?;
    let mut kernels = Vec::new();
    for kernel in kernels::in_folder(shaders, radv.has_cooperative_matrices())? {
        if kernel.name.contains(filter) {
            let spirv = spirv::of(&kernel).with_context(|| format!("{} to SPIR-V", kernel.name))?;
            let binary = radv.compile(&spirv, &kernel.entry_point).with_context(|| kernel.name.clone())?;
            kernels.push((kernel, binary));
        }
    }
    let compiled = Compiled { mesa: radv.version().to_owned(), kernels };
    Ok(serde_json::to_writer(std::io::stdout(), &compiled)?)
}
