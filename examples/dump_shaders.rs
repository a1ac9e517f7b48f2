//! Writes every shader as it is compiled: one file a variant, with its imports in place.
//!
//! `cargo run --example dump_shaders -- DIRECTORY`. Beside the files lies `kernels.json`, which names the features and
//! entry points of each and gives the values of its override constants for a GPT-J-6B. For other WGSL compilers and for
//! reading; needs no GPU.

#[path = "../tests/common/recording.rs"]
mod recording;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs};

use gptj::internals::gpu::{Specialisation, Subgroups};
use gptj::internals::kernels::{Matmul, SHADERS, Shader, Variant, stitch};
use recording::Recorded;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = env::args().nth(1).ok_or("usage: dump_shaders DIRECTORY")?;
    fs::create_dir_all(&directory)?;
    let names = names();
    let mut written = BTreeSet::new();
    let mut kernels = Vec::new();
    for Recorded { entry_point, constants, wgsl, .. } in recording::record() {
        let Named { shader, matmul, of_8 } = names[&wgsl];
        let features = features(&wgsl);
        let matmul = matmul.map(Matmul::name);
        let name = [shader.name].into_iter().chain(matmul).chain(features.iter().copied());
        let file = name.chain(of_8.then_some("of-8")).chain(["wgsl"]).collect::<Vec<_>>().join(".");
        if written.insert(file.clone()) {
            // naga takes subgroups for granted.
            let directive = if features.contains(&"subgroups") { "enable subgroups;\n" } else { "" };
            fs::write(Path::new(&directory).join(&file), format!("{directive}{wgsl}"))?;
        }
        kernels.push(json!({
            "file": file, "features": features, "subgroups_of_8": of_8, "matmul": matmul,
            "entry_points": [entry_point], "constants": constants.into_iter().collect::<BTreeMap<_, _>>(),
        }));
    }
    fs::write(Path::new(&directory).join("kernels.json"), serde_json::to_string_pretty(&kernels)?)?;
    Ok(())
}

/// What a text is.
#[derive(Clone, Copy)]
struct Named {
    shader: Shader,
    /// How it multiplies, if it does.
    matmul: Option<Matmul>,
    /// Whether it is for subgroups of exactly eight lanes.
    of_8: bool,
}

/// Every text that a shader can become.
fn names() -> BTreeMap<String, Named> {
    let mut names = BTreeMap::new();
    for &shader in SHADERS {
        let multiplies = Variant::all(shader).any(|variant| variant.matmul != Matmul::Gemv);
        for variant in Variant::all(shader) {
            let text = stitch(shader, variant);
            let of_any_size = Specialisation { subgroups: Subgroups::OfAnySize, ..variant.device };
            let of_8 = variant.device.subgroups == Subgroups::Of8
                && text != stitch(shader, Variant { device: of_any_size, ..variant });
            names.insert(text, Named { shader, matmul: multiplies.then_some(variant.matmul), of_8 });
        }
    }
    names
}

/// WebGPU's names of the features that a shader uses, and wgpu's own of the one that WebGPU lacks.
fn features(text: &str) -> Vec<&'static str> {
    let uses =
        [("enable f16;", "shader-f16"), ("subgroup_invocation_id", "subgroups"), ("coop_mat", "cooperative-matrix")];
    uses.into_iter().filter(|(word, _)| text.contains(word)).map(|(_, feature)| feature).collect()
}
