//! From WGSL files to pipelines.
//!
//! A shader is a file. Its only extension to WGSL is the line `#import name`, replaced once by the whole file of that
//! name; where an import has several, the adapter and the way to multiply decide. Numbers come in as override constants
//! when a pipeline is made.

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

impl Shader {
    /// The products that it has versions for on an adapter with so much: matrix units come with f16 and subgroups.
    pub fn products(&self, specialisation: Specialisation) -> &'static [Product] {
        let multiplies = self.text.lines().any(|line| line == "#import product");
        let has_units = specialisation.f16 && specialisation.subgroups > Subgroups::None;
        &Product::ALL[..if !multiplies {
            1
        } else if !has_units {
            2
        } else {
            4
        }]
    }
}

/// WGSL files for other files to import.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// The name after `#import`.
    pub name: &'static str,
    /// What it stands for.
    pub text: Text,
}

/// What an import stands for, which may depend on the adapter and on the way to multiply.
#[derive(Debug, Clone, Copy)]
pub enum Text {
    /// Always the same file.
    Always(&'static str),
    /// One file for adapters with native f16 and one for those without.
    F16([&'static str; 2]),
    /// One file for adapters with subgroups and one for those without.
    Subgroups([&'static str; 2]),
    /// One file for adapters whose subgroups have exactly eight lanes and one for all others.
    SubgroupsOf8([&'static str; 2]),
    /// A file for each [`Product`], in their order.
    Product([&'static str; 4]),
}

impl Text {
    /// Every file that it may stand for.
    pub fn files(&self) -> &[&'static str] {
        match self {
            Self::Always(text) => std::slice::from_ref(text),
            Self::F16(texts) | Self::Subgroups(texts) | Self::SubgroupsOf8(texts) => texts,
            Self::Product(texts) => texts,
        }
    }

    fn choose(&self, specialisation: Specialisation, product: Product) -> &'static str {
        match self {
            Self::Always(text) => text,
            Self::F16([with, without]) => {
                if specialisation.f16 {
                    with
                } else {
                    without
                }
            }
            Self::Subgroups([with, without]) => {
                if specialisation.subgroups > Subgroups::None {
                    with
                } else {
                    without
                }
            }
            Self::SubgroupsOf8([eight, others]) => {
                if specialisation.subgroups == Subgroups::Of8 {
                    eight
                } else {
                    others
                }
            }
            Self::Product(texts) => texts[product as usize],
        }
    }
}

/// The ways to multiply a matrix with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Product {
    /// For few rows, which are bound by how fast the weights stream in.
    Vector,
    /// For many rows, which are bound by arithmetic.
    Tile,
    /// For many rows, by matrix units that multiply 16 x 16 numbers at once.
    Cooperative16,
    /// The same for units that multiply 8 x 8 numbers.
    Cooperative8,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Vector, Self::Tile, Self::Cooperative16, Self::Cooperative8];

    /// Whether it takes matrix units.
    pub fn is_cooperative(self) -> bool {
        matches!(self, Self::Cooperative16 | Self::Cooperative8)
    }
}

/// What an adapter has that imports may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Specialisation {
    /// Native f16.
    pub f16: bool,
    /// Subgroups.
    pub subgroups: Subgroups,
}

/// What is known of an adapter's subgroups, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subgroups {
    /// It has none.
    None,
    /// They may have any size.
    OfAnySize,
    /// They have exactly eight lanes.
    Of8,
}

impl Specialisation {
    /// Every one that an adapter can have.
    pub fn all() -> impl Iterator<Item = Self> {
        let subgroups = [Subgroups::Of8, Subgroups::OfAnySize, Subgroups::None];
        [true, false].into_iter().flat_map(move |f16| subgroups.map(|subgroups| Self { f16, subgroups }))
    }
}

/// The whole text of a shader: its file with every import in place, each once.
///
/// # Panics
/// Where a file imports a name that `imports` lacks.
pub fn stitch(shader: Shader, imports: &[Import], specialisation: Specialisation, product: Product) -> String {
    let mut stitched = Stitched {
        imports,
        specialisation,
        product,
        seen: BTreeSet::new(),
        enables: BTreeSet::new(),
        body: String::new(),
    };
    stitched.add(shader.name, shader.text);
    // WGSL wants all its `enable` directives before anything else.
    stitched.enables.into_iter().chain([stitched.body.as_str()]).collect::<Vec<_>>().join("\n")
}

struct Stitched<'a> {
    imports: &'a [Import],
    specialisation: Specialisation,
    product: Product,
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
                    self.add(name, import.text.choose(self.specialisation, self.product));
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
    modules: HashMap<(&'static str, Product), wgpu::ShaderModule>,
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
        (shader, product): (Shader, Product),
        entry_point: &str,
        constants: &[(&str, f64)],
    ) -> wgpu::ComputePipeline {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let Made { modules, pipelines } = &mut *made;
        let module = modules.entry((shader.name, product)).or_insert_with(|| self.module(shader, product));
        let key = format!("{entry_point} {product:?} {constants:?}");
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

    fn module(&self, shader: Shader, product: Product) -> wgpu::ShaderModule {
        let text = stitch(shader, self.imports, self.gpu.specialisation(), product);
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
