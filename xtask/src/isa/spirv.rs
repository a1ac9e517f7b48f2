//! From WGSL to the SPIR-V that the engine hands to a Vulkan driver, through wgpu, on a GPU with all features.
//!
//! The engine runs its kernels unchecked: no bounds checks, no bounded loops, no workgroup memory filled with zeros.
//! wgpu's options for naga are private to it and are repeated here.

use anyhow::{Result, anyhow};
use naga::back::pipeline_constants::process_overrides;
use naga::back::{PipelineConstants, spv};
use naga::front::wgsl;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};

use super::kernels::Kernel;

pub(super) fn of(kernel: &Kernel) -> Result<Vec<u32>> {
    let module = parse(&kernel.wgsl)?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .map_err(|error| anyhow!(error.emit_to_string(&kernel.wgsl)))?;
    let stage = (ShaderStage::Compute, kernel.entry_point.as_str());
    let constants: PipelineConstants = kernel.constants.clone().into_iter().collect();
    let (module, info) = process_overrides(&module, &info, Some(stage), &constants)?;

    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS,
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let entry_point = spv::PipelineOptions { shader_stage: stage.0, entry_point: kernel.entry_point.clone() };
    Ok(spv::write_vec(&module, &info, &options, Some(&entry_point))?)
}

/// The numbers of the bindings that hold weights, which are those that are called so.
pub(super) fn weight_bindings(wgsl: &str) -> Result<Vec<u32>> {
    let module = parse(wgsl)?;
    let weights = module.global_variables.iter().filter(|(_, variable)| {
        matches!(variable.space, AddressSpace::Storage { .. })
            && variable.name.as_ref().is_some_and(|name| name.contains("weight"))
    });
    Ok(weights.filter_map(|(_, variable)| Some(variable.binding?.binding)).collect())
}

fn parse(wgsl: &str) -> Result<Module> {
    // For other compilers; naga takes subgroups for granted and does not know the directive.
    let wgsl = wgsl.replace("enable subgroups;\n", "");
    let options = wgsl::Options { parse_doc_comments: false, capabilities: Capabilities::all() };
    wgsl::Frontend::new_with_options(options).parse(&wgsl).map_err(|error| anyhow!(error.emit_to_string(&wgsl)))
}

/// The version of the naga that is compiled in.
pub(super) fn naga_version() -> &'static str {
    let lock = include_str!("../../../Cargo.lock");
    let naga = lock.split("name = \"naga\"\nversion = \"").nth(1).expect("naga is a dependency");
    naga.split('"').next().expect("a version ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_found_by_name() {
        let wgsl = "@group(0) @binding(3) var<storage, read> mlp_weight: array<vec4u>;
            @group(0) @binding(1) var<storage, read> input: array<vec4f>;
            var<workgroup> weight_tile: array<f32, 64>;";
        assert_eq!(weight_bindings(wgsl).expect("this is WGSL"), [3]);
    }

    #[test]
    fn naga_has_a_version() {
        assert!(naga_version().starts_with(|first: char| first.is_ascii_digit()), "{}", naga_version());
    }
}
