//! Every shader in every specialisation, without a GPU: it parses, validates and translates to the languages of all
//! drivers, and it agrees with the host about names, bindings and layouts.

use std::collections::BTreeSet;
use std::mem::offset_of;
use std::path::Path;

use gptj::Config;
use gptj::internals::gpu::{Specialisation, Subgroups};
use gptj::internals::kernels::{Kernels, Row, SHADERS, SHARED_FILES, StepHeader, Tuning, Variant, stitch};
use gptj::internals::kv_cache::KvCache;
use naga::back::pipeline_constants::process_overrides;
use naga::back::{PipelineConstants, hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess, TypeInner};
use pollster::block_on;

use crate::common::recording::{Recorded, launch_attention, open_nothing, record};

/// Each shader in each specialisation: a name for messages, its text, its entry points.
fn stitched() -> impl Iterator<Item = (String, String, &'static [&'static str])> {
    let mut seen = BTreeSet::new();
    let mut shaders = Vec::new();
    for shader in SHADERS {
        for variant in Variant::all(*shader) {
            let text = stitch(*shader, variant);
            if seen.insert(text.clone()) {
                shaders.push((format!("{} ({variant:?})", shader.name), text, shader.entry_points));
            }
        }
    }
    shaders.into_iter()
}

fn parse(name: &str, text: &str) -> Module {
    naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{name}:\n{}", error.emit_to_string(text)))
}

fn validate(name: &str, module: &Module) -> ModuleInfo {
    let capabilities = Capabilities::SUBGROUP
        | Capabilities::SHADER_FLOAT16
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::COOPERATIVE_MATRIX;
    let info = Validator::new(ValidationFlags::all(), capabilities).validate(module);
    info.unwrap_or_else(|error| panic!("{name}: {error:?}"))
}

/// Every kernel with the constants that the engine gives it for a GPT-J-6B.
#[test]
fn every_shader_translates_to_every_driver_language() {
    for Recorded { device, entry_point, constants, wgsl: text } in record() {
        let what = format!("{entry_point} ({device:?}) with {constants:?}");
        let module = parse(&what, &text);
        let info = validate(&what, &module);
        let constants: PipelineConstants = constants.into_iter().collect();
        let stage = (ShaderStage::Compute, entry_point.as_str());
        let (module, info) = process_overrides(&module, &info, Some(stage), &constants)
            .unwrap_or_else(|error| panic!("{what}: {error}"));

        let options = spv::PipelineOptions { shader_stage: stage.0, entry_point: entry_point.clone() };
        let spirv = spv::write_vec(&module, &info, &spv::Options::default(), Some(&options));
        assert!(!spirv.unwrap_or_else(|error| panic!("{what} to SPIR-V: {error}")).is_empty());

        let options = msl::Options { lang_version: (2, 4), ..msl::Options::default() };
        let pipeline = msl::PipelineOptions {
            entry_point: Some((stage.0, entry_point.clone())),
            ..msl::PipelineOptions::default()
        };
        let (metal, _) = msl::write_string(&module, &info, &options, &pipeline)
            .unwrap_or_else(|error| panic!("{what} to MSL: {error}"));
        assert!(metal.contains("kernel void"), "{what} is a Metal kernel");

        // HLSL has no matrix units that naga knows.
        if text.contains("coop_mat") {
            continue;
        }
        let options = hlsl::Options { shader_model: hlsl::ShaderModel::V6_2, ..hlsl::Options::default() };
        let pipeline = hlsl::PipelineOptions { entry_point: Some((stage.0, entry_point.clone())) };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{what} to HLSL: {error}"));
        assert!(text.contains("numthreads"), "{what} is an HLSL compute shader");
    }
}

/// The size of the cache is data: a model with other slots or another context compiles nothing new.
#[test]
fn caches_of_every_size_share_their_kernels() {
    let gpu = open_nothing(Specialisation { f16: true, subgroups: Subgroups::OfAnySize });
    let config = Config { n_layer: 1, ..Config::default() };
    let kernels = Kernels::new(&gpu, &config, Tuning::for_adapter(gpu.info()));
    let compiled = |n_slots: usize, n_positions: usize| {
        let cache = block_on(KvCache::new(&gpu, &config, n_slots, n_positions)).expect("it takes no memory");
        launch_attention(&gpu, &config, &kernels, &cache);
        kernels.pipelines().compiled().into_iter().map(|(_, kernels)| kernels.len()).sum::<usize>()
    };
    let first = compiled(1, 2048);
    assert!(first >= 4, "attention takes several kernels");
    assert_eq!([compiled(1, 33), compiled(7, 2048), compiled(32, 100)], [first; 3]);
}

/// Every text that a shader can become is launched.
#[test]
fn every_kernel_is_recorded() {
    let recorded: BTreeSet<_> = record().into_iter().map(|kernel| (kernel.wgsl, kernel.entry_point)).collect();
    for (name, text, entry_points) in stitched() {
        for &entry_point in entry_points {
            assert!(recorded.contains(&(text.clone(), entry_point.to_owned())), "{entry_point} of {name}");
        }
    }
}

/// A file that nobody uses, or an entry point that no launcher can know of, is a mistake.
#[test]
fn the_table_of_shaders_is_the_folder() {
    let folder = Path::new("shaders");
    let files = |folder: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).expect("the shaders' folder");
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
            .filter_map(|name| name.strip_suffix(".wgsl").map(str::to_owned))
            .collect()
    };
    let table: BTreeSet<_> = SHADERS.iter().map(|shader| shader.name.to_owned()).collect();
    assert_eq!(files(folder), table);

    let shared = files(&folder.join("shared"))
        .into_iter()
        .map(|name| std::fs::read_to_string(folder.join("shared").join(name + ".wgsl")).expect("a shared file"));
    let imports: BTreeSet<_> = SHARED_FILES.iter().map(|&text| text.to_owned()).collect();
    assert_eq!(shared.collect::<BTreeSet<_>>(), imports);

    for (name, text, entry_points) in stitched() {
        let module = parse(&name, &text);
        let in_file: BTreeSet<_> = module.entry_points.iter().map(|entry_point| entry_point.name.as_str()).collect();
        assert_eq!(in_file, entry_points.iter().copied().collect(), "entry points of {name}");
    }
}

/// Bindings are numbered from 0 without gaps, at most eight are storage buffers, every one says which shape it has,
/// and inputs are read-only, since two kernels that read one buffer may overlap.
#[test]
fn bindings_are_numbered_and_described() {
    for (name, text, _) in stitched() {
        let module = parse(&name, &text);
        let bindings: BTreeSet<_> = module.global_variables.iter().filter_map(|(_, v)| v.binding).collect();
        let numbers: Vec<_> = bindings.iter().map(|binding| (binding.group, binding.binding)).collect();
        let expected: Vec<_> = (0..numbers.len() as u32).map(|number| (0, number)).collect();
        assert_eq!(numbers, expected, "bindings of {name}");
        assert!(numbers.len() <= 8, "{name} binds at most eight buffers");
        for (_, variable) in module.global_variables.iter() {
            if let AddressSpace::Storage { access } = variable.space {
                assert!(access == StorageAccess::LOAD || access == StorageAccess::LOAD | StorageAccess::STORE);
            }
        }
        for line in text.lines().filter(|line| line.starts_with("@group")) {
            let comment = line.split_once("// (").map(|(_, comment)| comment);
            assert!(comment.is_some_and(|comment| comment.contains(')')), "{name}: no shape beside {line}");
        }
    }
}

/// The structs that host and shaders share have the same layout on both sides.
#[test]
fn shared_structs_have_one_layout() {
    let row = ("Row", vec![("slot", offset_of!(Row, slot)), ("position", offset_of!(Row, position))], size_of::<Row>());
    // The rows follow the header; naga counts one of them to the size of the whole.
    let header = [
        ("n_rows", offset_of!(StepHeader, n_rows)),
        ("n_outputs", offset_of!(StepHeader, n_outputs)),
        ("n_positions", offset_of!(StepHeader, n_positions)),
    ];
    let rows = ("rows", size_of::<StepHeader>());
    let step = ("Step", header.into_iter().chain([rows]).collect(), size_of::<StepHeader>() + size_of::<Row>());
    for (name, text, _) in stitched() {
        let module = parse(&name, &text);
        for (struct_name, on_host, size) in [&row, &step] {
            let mut types = module.types.iter();
            let Some((_, found)) = types.find(|(_, ty)| ty.name.as_deref() == Some(struct_name)) else { continue };
            let TypeInner::Struct { members, span } = &found.inner else {
                panic!("{struct_name} is a struct in {name}")
            };
            assert_eq!(*span as usize, *size, "the size of {struct_name} in {name}");
            let fields = members.iter();
            let in_shader: Vec<_> =
                fields.map(|member| (member.name.as_deref().unwrap_or_default(), member.offset as usize)).collect();
            assert_eq!(in_shader, *on_host, "the fields of {struct_name} in {name}");
        }
    }
}
