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
use gptj::gpu::{Specialisation, stitch};
use gptj::kernels::{IMPORTS, SHADERS};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = env::args().nth(1).ok_or("usage: dump_shaders DIRECTORY")?;
    fs::create_dir_all(&directory)?;
    let mut kernels = Vec::new();
    for (shader, entry_points) in SHADERS {
        for specialisation in Specialisation::ALL {
            let text = stitch(*shader, IMPORTS, specialisation);
            let features = features(&text);
            let file = [&[shader.name], features.as_slice(), &["wgsl"]].concat().join(".");
            // What naga takes for granted.
            let directive = if features.contains(&"subgroups") { "enable subgroups;\n" } else { "" };
            fs::write(Path::new(&directory).join(&file), format!("{directive}{text}"))?;
            let constants: BTreeMap<_, _> = constants_of(&text).into_iter().collect();
            let kernel =
                json!({ "file": file, "features": features, "entry_points": entry_points, "constants": constants });
            if !kernels.contains(&kernel) {
                kernels.push(kernel);
            }
        }
    }
    fs::write(Path::new(&directory).join("kernels.json"), serde_json::to_string_pretty(&kernels)?)?;
    Ok(())
}

/// WebGPU's names of the features that a shader uses.
fn features(text: &str) -> Vec<&'static str> {
    let uses = [("enable f16;", "shader-f16"), ("subgroupAdd", "subgroups")];
    uses.into_iter().filter(|(word, _)| text.contains(word)).map(|(_, feature)| feature).collect()
}
