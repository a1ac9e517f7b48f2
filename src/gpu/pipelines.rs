//! From WGSL texts to pipelines, each compiled at its first use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Gpu;
use super::pipeline_cache::PipelineCache;

/// The pipelines of one GPU. Clones share them.
#[derive(Clone)]
pub struct Pipelines {
    gpu: Gpu,
    /// By WGSL text.
    modules: Arc<Mutex<HashMap<String, Module>>>,
}

struct Module {
    module: wgpu::ShaderModule,
    pipelines: Vec<(Kernel, wgpu::ComputePipeline)>,
}

/// A pipeline's entry point and constants, beside its WGSL text.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// The function that it runs.
    pub entry_point: String,
    /// Values for the text's override constants.
    pub constants: Vec<(String, f64)>,
}

impl Pipelines {
    /// Compiles nothing yet.
    pub fn new(gpu: &Gpu) -> Self {
        Self { gpu: gpu.clone(), modules: Arc::default() }
    }

    /// The GPU that the pipelines are for.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The pipeline of one entry point of a WGSL text, with these override constants.
    pub(super) fn get(&self, wgsl: &str, entry_point: &str, constants: &[(&str, f64)]) -> wgpu::ComputePipeline {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if !modules.contains_key(wgsl) {
            let module = Module { module: self.module(wgsl, entry_point), pipelines: Vec::new() };
            modules.insert(wgsl.to_owned(), module);
        }
        let Module { module, pipelines } = modules.get_mut(wgsl).expect("it was inserted above");
        let is_kernel = |kernel: &Kernel| {
            let names = kernel.constants.iter().map(|(name, value)| (name.as_str(), *value));
            kernel.entry_point == entry_point && names.eq(constants.iter().copied())
        };
        if let Some((_, pipeline)) = pipelines.iter().find(|(kernel, _)| is_kernel(kernel)) {
            return pipeline.clone();
        }
        let pipeline = self.gpu.create_pipeline(&wgpu::ComputePipelineDescriptor {
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
        });
        let constants = constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        pipelines.push((Kernel { entry_point: entry_point.to_owned(), constants }, pipeline.clone()));
        pipeline
    }

    /// Everything compiled so far: WGSL texts and the kernels of each.
    pub fn compiled(&self) -> Vec<(String, Vec<Kernel>)> {
        let modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let kernels = |module: &Module| module.pipelines.iter().map(|(kernel, _)| kernel.clone()).collect();
        modules.iter().map(|(wgsl, module)| (wgsl.clone(), kernels(module))).collect()
    }

    fn module(&self, wgsl: &str, label: &str) -> wgpu::ShaderModule {
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(wgsl.into()) };
        if self.gpu.is_checked() {
            return self.gpu.device().create_shader_module(descriptor);
        }
        // SAFETY: the shaders are the engine's own; the launchers give them the sizes they rely on, and the tests run
        // them with every check in place.
        unsafe { self.gpu.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    }
}
