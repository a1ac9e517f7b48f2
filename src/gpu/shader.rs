//! From WGSL files to pipelines.
//!
//! A shader is a file. Its only extension to WGSL is the line `#import name`, replaced once by the whole file of that
//! name; where an import has a version for adapters with f16 or subgroups and one for those without, the adapter
//! decides. Numbers come in as override constants when a pipeline is made.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::Gpu;
use super::pipeline_cache::PipelineCache;

/// A WGSL file with entry points.
#[derive(Debug, Clone, Copy)]
pub struct Shader {
    /// The file's name without `.wgsl`.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

/// A WGSL file for other files to import.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// The name after `#import`.
    pub name: &'static str,
    /// The text for adapters that have what the import is about.
    pub text: &'static str,
    /// Which feature decides between the two texts; `None` where there is but one.
    pub alternative: Option<(Feature, &'static str)>,
}

/// What an import may have versions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Native f16.
    F16,
    /// Subgroups.
    Subgroups,
}

/// Which version of each import an adapter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Specialisation {
    /// Those with native f16.
    pub f16: bool,
    /// Those with subgroups.
    pub subgroups: bool,
}

impl Specialisation {
    /// Every one that an adapter can have.
    pub const ALL: [Self; 4] = [
        Self { f16: true, subgroups: true },
        Self { f16: true, subgroups: false },
        Self { f16: false, subgroups: true },
        Self { f16: false, subgroups: false },
    ];

    fn has(self, feature: Feature) -> bool {
        match feature {
            Feature::F16 => self.f16,
            Feature::Subgroups => self.subgroups,
        }
    }
}

/// The whole text of a shader: its file with every import in place, each once.
///
/// # Panics
/// Where a file imports a name that `imports` lacks.
pub fn stitch(shader: Shader, imports: &[Import], specialisation: Specialisation) -> String {
    let mut stitched =
        Stitched { imports, specialisation, seen: BTreeSet::new(), enables: BTreeSet::new(), body: String::new() };
    stitched.add(shader.name, shader.text);
    // WGSL wants all its `enable` directives before anything else.
    stitched.enables.into_iter().chain([stitched.body.as_str()]).collect::<Vec<_>>().join("\n")
}

struct Stitched<'a> {
    imports: &'a [Import],
    specialisation: Specialisation,
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
                    let import = self.imports.iter().find(|import| import.name == name);
                    let import = import.unwrap_or_else(|| panic!("{file} imports {name}, which does not exist"));
                    let text = match import.alternative {
                        Some((feature, without)) if !self.specialisation.has(feature) => without,
                        _ => import.text,
                    };
                    self.add(name, text);
                }
            } else {
                self.body.push_str(line);
                self.body.push('\n');
            }
        }
    }
}

/// The pipelines of one GPU, each made when it is first asked for. Clones share them.
#[derive(Clone)]
pub struct Shaders {
    gpu: Gpu,
    imports: &'static [Import],
    made: Arc<Mutex<Made>>,
}

#[derive(Default)]
struct Made {
    modules: HashMap<&'static str, wgpu::ShaderModule>,
    pipelines: HashMap<String, wgpu::ComputePipeline>,
}

impl Shaders {
    /// No pipeline yet; `imports` are what the shaders' files may name.
    pub fn new(gpu: &Gpu, imports: &'static [Import]) -> Self {
        Self { gpu: gpu.clone(), imports, made: Arc::default() }
    }

    /// The GPU that the pipelines are for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The pipeline of one entry point with these override constants.
    pub(super) fn pipeline(
        &self,
        shader: Shader,
        entry_point: &str,
        constants: &[(&str, f64)],
    ) -> wgpu::ComputePipeline {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Made { modules, pipelines } = &mut *made;
        let module = modules.entry(shader.name).or_insert_with(|| self.module(shader));
        let key = format!("{entry_point} {constants:?}");
        let pipeline = pipelines.entry(key).or_insert_with(|| {
            self.gpu.create_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry_point),
                layout: None,
                module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants,
                    // Every kernel writes its workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.gpu.pipeline_cache().map(PipelineCache::wgpu),
            })
        });
        pipeline.clone()
    }

    fn module(&self, shader: Shader) -> wgpu::ShaderModule {
        let text = stitch(shader, self.imports, self.gpu.specialisation());
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(shader.name), source: wgpu::ShaderSource::Wgsl(text.into()) };
        if self.gpu.is_checked() {
            return self.gpu.device().create_shader_module(descriptor);
        }
        // SAFETY: the shaders are the engine's own; the launchers give them the sizes they rely on, and the tests run
        // them with every check in place.
        unsafe { self.gpu.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    }
}
