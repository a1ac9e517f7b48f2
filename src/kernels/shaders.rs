//! The shaders' files, and the assembly of a whole WGSL text from them.
//!
//! A shader is a file. Its only extension to WGSL is the line `#import name`, replaced once by the whole file of that
//! name. Some names have several files, of which the [`Variant`] picks one. Numbers are override constants, given when
//! a pipeline is made.

use std::collections::BTreeSet;

use super::Matmul;
use crate::gpu::{Specialisation, Subgroups};
use crate::weights::Storage;

/// A WGSL file with entry points.
#[derive(Debug, Clone, Copy)]
pub struct Shader {
    /// The file's name without `.wgsl`.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
    /// Its entry points, which are the kernels.
    pub entry_points: &'static [&'static str],
}

macro_rules! shaders {
    ($($name:ident: $entry_points:expr;)*) => {
        $(
            #[expect(non_upper_case_globals, reason = "a kernel has one name everywhere")]
            pub(super) const $name: Shader = Shader {
                name: stringify!($name),
                text: include_str!(concat!("../../shaders/", stringify!($name), ".wgsl")),
                entry_points: &$entry_points,
            };
        )*
        /// Every shader.
        pub const SHADERS: &[Shader] = &[$($name),*];
    };
}

shaders! {
    token_embedding: ["token_embedding"];
    layer_norm: ["layer_norm", "layer_norm_outputs"];
    block_in: ["block_in"];
    attention: ["attention"];
    merge_attention: ["merge_attention"];
    flash_attention: ["flash_attention"];
    block_out: ["block_out"];
    lm_head: ["lm_head"];
    argmax: ["argmax"];
    attention_weights: ["attention_weights"];
    merge_lora: ["merge_lora"];
    fill_random: ["fill_random"];
    read_ceiling: ["read_ceiling"];
    fma_ceiling: ["fma_ceiling"];
}

macro_rules! shared {
    ($($name:ident)*) => {
        $(
            #[expect(non_upper_case_globals, reason = "a file has one name everywhere")]
            const $name: &str = include_str!(concat!("../../shaders/shared/", stringify!($name), ".wgsl"));
        )*
        /// The text of every file that shaders may import.
        pub const SHARED_FILES: &[&str] = &[$($name),*];
    };
}

shared! {
    activations cache gelu half_native half_packed heads inputs_broadcast inputs_loaded matmul_coopmat
    matmul_coopmat_16 matmul_coopmat_8 matmul_gemv matmul_tiled octet_native octet_packed reduce_subgroups
    reduce_workgroup rotary splits step weights_f16 widths
}

/// The choice between the files of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// How matrices are multiplied.
    pub matmul: Matmul,
    /// How their weights are stored.
    pub weights: Storage,
    /// The device's abilities.
    pub device: Specialisation,
}

impl Variant {
    /// Every variant of a shader that a device could run: matrix units come with f16 and subgroups.
    pub fn all(shader: Shader) -> impl Iterator<Item = Self> {
        let multiplies = shader.text.lines().any(|line| line == "#import matmul");
        Specialisation::all().flat_map(move |device| {
            let has_units = device.f16 && device.subgroups > Subgroups::None;
            let matmuls = if multiplies { &Matmul::ALL[..] } else { &[Matmul::Gemv] };
            let storages = if multiplies { &Storage::ALL[..] } else { &[Storage::F16] };
            let can = move |matmul: &&Matmul| has_units || !matmul.is_coopmat();
            let variant = move |&matmul| storages.iter().map(move |&weights| Self { matmul, weights, device });
            matmuls.iter().filter(can).flat_map(variant)
        })
    }

    /// The file that `#import name` stands for.
    fn import(self, name: &str) -> Option<&'static str> {
        let Self { matmul, weights, device } = self;
        Some(match name {
            "activations" => activations,
            "cache" => cache,
            "gelu" => gelu,
            "half" if device.f16 => half_native,
            "half" => half_packed,
            "heads" => heads,
            "inputs" if device.subgroups == Subgroups::Of8 => inputs_broadcast,
            "inputs" => inputs_loaded,
            "matmul" => match matmul {
                Matmul::Gemv => matmul_gemv,
                Matmul::Tiled => matmul_tiled,
                Matmul::CoopMat16 => matmul_coopmat_16,
                Matmul::CoopMat8 => matmul_coopmat_8,
            },
            "matmul_coopmat" => matmul_coopmat,
            "octet" if matmul.is_coopmat() => octet_native,
            "octet" => octet_packed,
            "reduce" if device.subgroups > Subgroups::None => reduce_subgroups,
            "reduce" => reduce_workgroup,
            "rotary" => rotary,
            "splits" => splits,
            "step" => step,
            "weights" => match weights {
                Storage::F16 => weights_f16,
            },
            "widths" => widths,
            _ => return None,
        })
    }
}

/// The whole text of a shader: its file with every import in place, each once.
///
/// # Panics
/// If a file imports a name that no file has.
pub fn stitch(shader: Shader, variant: Variant) -> String {
    let mut stitched = Stitched { variant, seen: BTreeSet::new(), enables: BTreeSet::new(), body: String::new() };
    stitched.add(shader.name, shader.text);
    // WGSL requires all `enable` directives before anything else.
    stitched.enables.into_iter().chain([stitched.body.as_str()]).collect::<Vec<_>>().join("\n")
}

struct Stitched<'a> {
    variant: Variant,
    seen: BTreeSet<&'a str>,
    enables: BTreeSet<&'a str>,
    body: String,
}

impl<'a> Stitched<'a> {
    fn add(&mut self, file: &str, text: &'a str) {
        for line in text.lines() {
            if line.starts_with("enable ") {
                self.enables.insert(line);
            } else if let Some(name) = line.strip_prefix("#import ") {
                if self.seen.insert(name) {
                    let import = self.variant.import(name);
                    self.add(name, import.unwrap_or_else(|| panic!("{file} imports {name}, which does not exist")));
                }
            } else {
                self.body.push_str(line);
                self.body.push('\n');
            }
        }
    }
}
