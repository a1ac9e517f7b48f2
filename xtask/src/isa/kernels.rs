//! The kernels in a folder that the example `dump_shaders` wrote, as an AMD GPU would run them.
//!
//! A shader is there in several specialisations, and such a GPU takes the one with the most features. What is compiled
//! is an entry point with values for the shader's constants. Knows nothing of compilers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(super) struct Kernel {
    /// The entry point's, with those constants that tell this kernel from others of the same entry point.
    pub(super) name: String,
    pub(super) entry_point: String,
    /// How it multiplies, where it does.
    pub(super) matmul: Option<String>,
    pub(super) constants: BTreeMap<String, f64>,
    pub(super) wgsl: String,
}

fn is_cooperative(wgsl: &str) -> bool {
    wgsl.contains("coop_mat")
}

/// An entry of `kernels.json`.
#[derive(Deserialize)]
struct Entry {
    file: String,
    features: Vec<String>,
    /// Whether it is for subgroups of exactly eight lanes, which no AMD GPU has.
    subgroups_of_8: bool,
    /// How it multiplies, where it does.
    matmul: Option<String>,
    entry_points: Vec<String>,
    constants: BTreeMap<String, f64>,
}

impl Entry {
    /// The shader's name and how it multiplies.
    fn version(&self) -> (String, Option<String>) {
        let shader = self.file.split('.').next().unwrap_or_default();
        (shader.to_owned(), self.matmul.clone())
    }
}

/// All kernels in the folder; cooperative ones only if asked for.
pub(super) fn in_folder(folder: &Path, cooperative: bool) -> Result<Vec<Kernel>> {
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let entries: Vec<Entry> = serde_json::from_str(&read("kernels.json")?)
        .with_context(|| format!("{}/kernels.json is not as `dump_shaders` writes it", folder.display()))?;
    let mut shaders = Vec::new();
    for entry in entries {
        let wgsl = read(&entry.file)?;
        // Matrix units of 8 x 8 are Apple's.
        let fits = !entry.subgroups_of_8;
        let runs = !is_cooperative(&wgsl) || cooperative && entry.matmul.as_deref() != Some("coopmat8");
        if fits && runs {
            shaders.push((entry, wgsl));
        }
    }

    let mut most_features = BTreeMap::new();
    for (entry, _) in &shaders {
        let most: &mut usize = most_features.entry(entry.version()).or_default();
        *most = entry.features.len().max(*most);
    }
    let mut kernels = Vec::new();
    for (entry, wgsl) in shaders {
        if entry.features.len() == most_features[&entry.version()] {
            kernels.extend(entry.entry_points.into_iter().map(|entry_point| Kernel {
                name: entry.matmul.iter().fold(entry_point.clone(), |name, matmul| format!("{name} {matmul}")),
                entry_point,
                matmul: entry.matmul.clone(),
                constants: entry.constants.clone(),
                wgsl: wgsl.clone(),
            }));
        }
    }
    tell_apart(&mut kernels);
    Ok(kernels)
}

fn tell_apart(kernels: &mut [Kernel]) {
    let mut values = BTreeMap::new();
    for kernel in &*kernels {
        for (constant, &value) in &kernel.constants {
            let key = (kernel.name.clone(), constant.clone());
            values.entry(key).or_insert_with(Vec::new).push(value);
        }
    }
    for kernel in kernels {
        let name = kernel.name.clone();
        for (constant, value) in &kernel.constants {
            let others = &values[&(name.clone(), constant.clone())];
            if others.iter().any(|other| other != value) {
                kernel.name += &format!(" {constant}={value}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kernels_apart() {
        let kernel = |entry_point: &str, rows: f64| Kernel {
            name: entry_point.to_owned(),
            entry_point: entry_point.to_owned(),
            matmul: None,
            constants: BTreeMap::from([("ROWS".to_owned(), rows), ("WG_SIZE".to_owned(), 64.0)]),
            wgsl: String::new(),
        };
        let mut kernels = [kernel("matvec", 1.0), kernel("matvec", 8.0), kernel("argmax", 1.0)];
        tell_apart(&mut kernels);
        assert_eq!(kernels.map(|kernel| kernel.name), ["matvec ROWS=1", "matvec ROWS=8", "argmax"]);
    }
}
