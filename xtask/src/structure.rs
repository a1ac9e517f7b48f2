//! `cargo xtask structure`: who uses whom, and whether that is as it should be.
//!
//! The rules: each module of the library uses only the modules that [`LAYERS`] names for it; the files and folders
//! within a folder use each other in one direction only; the command line is a client of the public API; some crates
//! and the tensor names of checkpoints have one home each. [`sources`] reads the crates, [`paths`] finds what a path
//! leads to, and this file judges. Code for tests (`#[cfg(test)]` and `#[cfg(doctest)]`) is exempt: it is a client of
//! everything.

mod paths;
mod sources;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;
use petgraph::algo::tarjan_scc;
use petgraph::dot::{Config, Dot};
use petgraph::graphmap::DiGraphMap;

use self::paths::{Arrow, Place, Target};
use self::sources::Crate;
use crate::shell;

#[derive(Args)]
pub(crate) struct Options {
    /// Print the graph for Graphviz, and check nothing
    #[arg(long)]
    dot: bool,
}

/// The library's modules, lowest first, and what each may use; all may use `error`. `checkpoint` is the crate.
const LAYERS: [(&str, &[&str]); 10] = [
    ("error", &["checkpoint"]),
    ("gpu", &[]),
    ("tokenizer", &["checkpoint"]),
    ("weights", &["checkpoint", "gpu"]),
    ("kv_cache", &["checkpoint", "gpu", "weights"]),
    ("kernels", &["checkpoint", "gpu", "kv_cache", "weights"]),
    ("model", &["checkpoint", "gpu", "kernels", "kv_cache", "weights"]),
    ("generate", &["checkpoint", "tokenizer"]),
    ("engine", &["checkpoint", "gpu", "tokenizer", "generate", "model"]),
    ("tasks", &["checkpoint", "generate", "model"]),
];

/// Crates that only these units may use.
const HOMES: [(&str, &[&str]); 1] = [("wgpu", &["gpu", LIBRARY])];

/// The unit of `src/lib.rs`, which re-exports from all others.
const LIBRARY: &str = "lib";
/// The unit of `src/main.rs` and `src/cli/`.
const COMMAND_LINE: &str = "cli";
/// What the library shows to tests and benchmarks only.
const INTERNALS: &str = "internals";
/// The crate that reads and writes checkpoints.
const CHECKPOINT: &str = "checkpoint";

pub(crate) fn structure(options: &Options) -> Result<()> {
    if options.dot {
        let structure = Structure::read(shell::root())?;
        println!("{:?}", Dot::with_config(&structure.graph(), &[Config::EdgeNoLabel]));
        return Ok(());
    }
    check()
}

/// Prints who uses whom, and fails if a rule is broken.
pub(crate) fn check() -> Result<()> {
    let structure = Structure::read(shell::root())?;
    println!("{}", structure.table());
    let faults = structure.faults();
    ensure!(faults.is_empty(), "the structure is not as it should be:\n{}", faults.join("\n"));
    Ok(())
}

/// All crates but xtask, and who uses whom.
struct Structure {
    crates: Vec<Crate>,
    /// For each crate, the unit that all of it is; the library is many.
    units: Vec<Option<String>>,
    arrows: Vec<Arrow>,
}

impl Structure {
    fn read(root: &Path) -> Result<Self> {
        let mut crates = vec![Crate::read("gptj", &root.join("src/lib.rs"))?];
        let mut units = vec![None];
        let main = root.join("src/main.rs");
        if main.exists() {
            crates.push(Crate::read("main", &main)?);
            units.push(Some(COMMAND_LINE.to_owned()));
        }
        let folder = root.join("crates");
        let mut members = BTreeSet::new();
        if folder.exists() {
            for entry in folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))? {
                members.insert(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        for member in members {
            let file = ["lib.rs", "main.rs"].map(|file| folder.join(&member).join("src").join(file));
            if let Some(file) = file.iter().find(|file| file.exists()) {
                crates.push(Crate::read(&format!("gptj_{member}"), file)?);
                units.push(Some(member));
            }
        }
        // Paths are shown from the root.
        for module in crates.iter_mut().flat_map(|sources| sources.modules.values_mut()) {
            module.file = module.file.strip_prefix(root).unwrap_or(&module.file).to_owned();
        }
        let arrows = paths::arrows(&crates);
        Ok(Self { crates, units, arrows })
    }

    /// The unit of a module: what the first rule is about.
    fn unit<'a>(&'a self, place: &'a Place) -> &'a str {
        match (&self.units[place.krate], place.module.first()) {
            (Some(unit), _) => unit,
            (None, Some(module)) if module != INTERNALS => module,
            (None, _) => LIBRARY,
        }
    }

    /// Arrows between units.
    fn graph(&self) -> DiGraphMap<&str, ()> {
        let mut graph = DiGraphMap::new();
        for arrow in &self.arrows {
            let from = self.unit(&arrow.from);
            if let Target::Place(to) = &arrow.to
                && self.unit(to) != from
            {
                graph.add_edge(from, self.unit(to), ());
            }
        }
        graph
    }

    /// Each unit, highest first, with those that it uses.
    fn table(&self) -> String {
        let graph = self.graph();
        let height = |unit: &str| {
            let layer = LAYERS.iter().position(|&(layer, _)| layer == unit);
            layer.unwrap_or(if unit == CHECKPOINT { 0 } else { LAYERS.len() })
        };
        let mut units: Vec<_> = graph.nodes().collect();
        units.sort_by_key(|&unit| (std::cmp::Reverse(height(unit)), unit));
        let mut lines = Vec::new();
        for &unit in &units {
            let used: Vec<_> = units.iter().copied().filter(|&other| graph.contains_edge(unit, other)).collect();
            lines.push(format!("{unit:<12}{}", if used.is_empty() { "-".to_owned() } else { used.join(", ") }));
        }
        lines.join("\n")
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = self.unknown_modules();
        // The same arrow may stand in a file many times.
        let mut seen = BTreeSet::new();
        for arrow in &self.arrows {
            if let Some(fault) = self.fault(arrow)
                && seen.insert((&arrow.file, fault.clone()))
            {
                faults.push(format!("{}:{}: `{}`: {fault}", arrow.file.display(), arrow.line, arrow.path));
            }
        }
        faults.extend(self.circles());
        faults.extend(self.tensor_names());
        faults
    }

    /// Modules of the library that have no layer.
    fn unknown_modules(&self) -> Vec<String> {
        let children = self.crates[0].modules.iter().filter(|(path, _)| path.len() == 1 && path[0] != INTERNALS);
        let unknown = children.filter(|(path, _)| LAYERS.iter().all(|(layer, _)| *layer != path[0]));
        let fault =
            |file: &Path, name: &str| format!("{}: `{name}` has no place in LAYERS in {}", file.display(), file!());
        unknown.map(|(path, module)| fault(&module.file, &path[0])).collect()
    }

    /// What is wrong with one arrow between units.
    fn fault(&self, arrow: &Arrow) -> Option<String> {
        let from = self.unit(&arrow.from);
        let to = match &arrow.to {
            Target::External(name) => {
                let (_, homes) = HOMES.iter().find(|(home, _)| home == name)?;
                let is_elsewhere = !homes.contains(&from) && (self.is_library(from) || from == COMMAND_LINE);
                return is_elsewhere.then(|| format!("{name} is for {} alone", homes.join(" and ")));
            }
            Target::Place(to) => self.unit(to),
        };
        if from == to || from == LIBRARY {
            return None;
        }
        if let Some((_, allowed)) = LAYERS.iter().find(|&&(layer, _)| layer == from) {
            let allowed = [&["error"], *allowed].concat();
            return (!allowed.contains(&to)).then(|| format!("{from} uses {to}, and may use {}", allowed.join(", ")));
        }
        if from == CHECKPOINT {
            return Some(format!("{from} uses {to}, and may use nothing of the other crates"));
        }
        let in_bench = from == COMMAND_LINE && arrow.from.module.starts_with(&["cli".to_owned(), "bench".to_owned()]);
        let is_internal =
            |place: &Place| place.krate == 0 && place.module.first().is_some_and(|name| name == INTERNALS);
        (!in_bench && arrow.through.iter().any(is_internal))
            .then(|| format!("{from} uses what is not public; only cli/bench may"))
    }

    /// Whether the unit is a module of the library or its checkpoint crate.
    fn is_library(&self, unit: &str) -> bool {
        unit == LIBRARY || unit == CHECKPOINT || LAYERS.iter().any(|&(layer, _)| layer == unit)
    }

    /// Files and folders beside each other that use each other both ways. A module and its children are one idea and
    /// may; the library's own modules are under the stricter rule of [`LAYERS`].
    fn circles(&self) -> Vec<String> {
        let mut graphs: BTreeMap<Place, BTreeMap<(&str, &str), &Arrow>> = BTreeMap::new();
        for arrow in &self.arrows {
            let Target::Place(to) = &arrow.to else { continue };
            let from = &arrow.from;
            if from.krate != to.krate {
                continue;
            }
            let shared = from.module.iter().zip(&to.module).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.module.get(shared), to.module.get(shared))
                && (from.krate, shared) != (0, 0)
            {
                let folder = Place { krate: from.krate, module: from.module[..shared].to_vec() };
                graphs.entry(folder).or_default().entry((a, b)).or_insert(arrow);
            }
        }
        let mut faults = Vec::new();
        for arrows in graphs.values() {
            let graph = DiGraphMap::<&str, ()>::from_edges(arrows.keys().copied());
            for circle in tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1) {
                let inside = arrows.iter().filter(|((a, b), _)| circle.contains(a) && circle.contains(b));
                let lines = inside.map(|((a, b), arrow)| {
                    format!("\n    {}:{}: {a} uses {b}: `{}`", arrow.file.display(), arrow.line, arrow.path)
                });
                faults.push(format!("a circle:{}", lines.collect::<String>()));
            }
        }
        faults
    }

    /// Texts that name a checkpoint's tensors outside of the checkpoint crate.
    fn tensor_names(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (sources, unit) in self.crates.iter().zip(&self.units) {
            if unit.as_deref() == Some(CHECKPOINT) {
                continue;
            }
            for module in sources.modules.values() {
                for (text, line) in module.texts.iter().filter(|(text, _)| is_tensor_name(text)) {
                    let file = module.file.display();
                    faults.push(format!("{file}:{line}: {text:?} is the name of a tensor: ask {CHECKPOINT} for it"));
                }
            }
        }
        faults
    }
}

/// Whether a text is the name of a tensor, or such a name's beginning or end, in one of the formats.
fn is_tensor_name(text: &str) -> bool {
    let is_one_word = !text.contains(char::is_whitespace);
    is_one_word
        && (["transformer.", "blk."].iter().any(|start| text.starts_with(start))
            || [".weight", ".bias"].iter().any(|end| text.ends_with(end)))
}
