//! Writes every shader as it is compiled: one file a specialisation, with its imports in place.
//!
//! `cargo run --example dump_shaders -- DIRECTORY`. Beside the files lies `kernels.json`, which names the features and
//! entry points of each and gives values for its override constants. For other WGSL compilers and for reading; needs
//! no GPU.

#[path = "../tests/common/constants.rs"]
mod constants;

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

use constants::constants_of;
use gptj::internals::gpu::{Specialisation, Subgroups, stitch};
use gptj::internals::kernels::{IMPORTS, SHADERS};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = env::args().nth(1).ok_or("usage: dump_shaders DIRECTORY")?;
    fs::create_dir_all(&directory)?;
    let mut kernels = Vec::new();
    for (shader, entry_points) in SHADERS {
        for specialisation in Specialisation::all() {
            for &product in shader.products(specialisation) {
                let text = stitch(*shader, IMPORTS, specialisation, product);
                let of_any_size = Specialisation { subgroups: Subgroups::OfAnySize, ..specialisation };
                let of_8 = specialisation.subgroups == Subgroups::Of8
                    && text != stitch(*shader, IMPORTS, of_any_size, product);
                let all = Specialisation { f16: true, subgroups: Subgroups::OfAnySize };
                let multiplies = shader.products(all).len() > 1;
                let product = multiplies.then(|| format!("{product:?}").to_lowercase());
                let features = features(&text);
                let name = [shader.name].into_iter().chain(product.as_deref()).chain(features.iter().copied());
                let name = name.chain(of_8.then_some("of-8"));
                let file = name.chain(["wgsl"]).collect::<Vec<_>>().join(".");
                // What naga takes for granted.
                let directive = if features.contains(&"subgroups") { "enable subgroups;\n" } else { "" };
                fs::write(Path::new(&directory).join(&file), format!("{directive}{text}"))?;
                for constants in variants(shader.name, &text, product.as_deref()) {
                    let kernel = json!({
                        "file": file, "features": features, "subgroups_of_8": of_8, "product": product,
                        "entry_points": entry_points, "constants": constants,
                    });
                    if !kernels.contains(&kernel) {
                        kernels.push(kernel);
                    }
                }
            }
        }
    }
    fs::write(Path::new(&directory).join("kernels.json"), serde_json::to_string_pretty(&kernels)?)?;
    Ok(())
}

/// The constants that a shader's kernels are launched with: a product with few rows at its least and its most.
fn variants(shader: &str, text: &str, product: Option<&str>) -> Vec<BTreeMap<&'static str, f64>> {
    let mut constants: BTreeMap<_, _> = constants_of(text).into_iter().collect();
    let own: &[(&str, f64)] = match shader {
        "embed" | "layer_norm" | "argmax" | "read_ceiling" => &[("WG_SIZE", 256.0)],
        "block_out" => &[("IN_GROUPS", 2560.0), ("INPUT_QUADS", 6144.0), ("PANELS_0", 128.0)],
        "lm_head" => &[("PANELS_0", 1575.0)],
        _ => &[],
    };
    constants.extend(own.iter().copied());
    let with = |others: &[(&'static str, f64)]| {
        let mut constants = constants.clone();
        constants.extend(others.iter().copied());
        constants
    };
    match product {
        None | Some("tile") => vec![constants],
        Some("vector") => [[1.0, 2.0], [8.0, 1.0]]
            .map(|[rows, depth]| with(&[("ROWS", rows), ("DEPTH", depth), ("WG_SIZE", 256.0)]))
            .to_vec(),
        // Four of the largest subgroups that GPUs have.
        Some(_) => vec![with(&[("WG_SIZE", 256.0)])],
    }
}

/// WebGPU's names of the features that a shader uses, and wgpu's own of the one that WebGPU lacks.
fn features(text: &str) -> Vec<&'static str> {
    let uses =
        [("enable f16;", "shader-f16"), ("subgroup_invocation_id", "subgroups"), ("coop_mat", "cooperative-matrix")];
    uses.into_iter().filter(|(word, _)| text.contains(word)).map(|(_, feature)| feature).collect()
}
