//! Every kernel as the engine launches it for a GPT-J-6B, recorded without a GPU: on wgpu's device that does nothing,
//! where the engine's own launchers give the texts their constants.

use gptj::internals::gpu::{Dtype, GpuOptions, Specialisation, Subgroups, Tensor};
use gptj::internals::kernels::{
    KernelVariant, Kernels, Matmul, SPLIT_ROWS, TILE_ROWS, Tuning, most_splits, rotary_angles,
};
use gptj::internals::kv_cache::KvCache;
use gptj::internals::weights::{BlockWidths, LayerNorm, Linear, Matrix, PANEL_FEATURES, Storage};
use gptj::{AdapterInfo, Config, Gpu, wgpu};
use pollster::block_on;

/// A kernel that was launched.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub device: Specialisation,
    pub entry_point: String,
    /// Values for the override constants.
    pub constants: Vec<(String, f64)>,
    pub wgsl: String,
}

/// Every kernel for every device, each text with each set of constants once.
pub fn record() -> Vec<Recorded> {
    let mut kernels: Vec<Recorded> = Vec::new();
    for device in Specialisation::all() {
        let new = record_for(device);
        let is_new = |new: &Recorded| {
            kernels.iter().all(|old| {
                (&old.wgsl, &old.entry_point, &old.constants) != (&new.wgsl, &new.entry_point, &new.constants)
            })
        };
        let new: Vec<_> = new.into_iter().filter(is_new).collect();
        kernels.extend(new);
    }
    kernels
}

/// A device that does nothing, and has these features.
pub fn open_nothing(device: Specialisation) -> Gpu {
    let lanes = if device.subgroups == Subgroups::Of8 { (8, 8) } else { (32, 64) };
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::NOOP;
    descriptor.backend_options.noop = wgpu::NoopBackendOptions {
        subgroup_min_size: Some(lanes.0),
        subgroup_max_size: Some(lanes.1),
        // wgpu itself counts on a small number of groups.
        limits: Some(wgpu::Limits { max_bind_groups: 4, ..wgpu::Limits::unlimited() }),
        ..wgpu::NoopBackendOptions::enabled()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::NOOP));
    let adapter = adapters.first().expect("wgpu has a backend that does nothing");
    let options = GpuOptions { f16: device.f16, subgroups: device.subgroups, dry_run: true, ..GpuOptions::default() };
    let requested = block_on(adapter.request_device(&Gpu::descriptor(adapter, &options)));
    let (wgpu_device, queue) = requested.expect("it has every feature");
    let gpu = block_on(Gpu::share(adapter, wgpu_device, queue, &options)).expect("it has every limit");
    assert_eq!(gpu.specialisation(), device, "it has the features that were asked for and no others");
    gpu
}

fn record_for(device: Specialisation) -> Vec<Recorded> {
    let gpu = open_nothing(device);
    let config = Config::default();
    // wgpu calls it a program on the CPU, which would be tuned otherwise than GPUs.
    let tuning = Tuning::for_adapter(&AdapterInfo { kind: "discrete", ..gpu.info().clone() });
    let kernels = Kernels::new(&gpu, &config, tuning);
    launch_all(&gpu, &config, &kernels, device.f16 && device.subgroups == Subgroups::OfAnySize);
    let mut recorded = Vec::new();
    for (wgsl, compiled) in kernels.pipelines().compiled() {
        recorded.extend(compiled.into_iter().map(|kernel| Recorded {
            device,
            entry_point: kernel.entry_point,
            constants: kernel.constants,
            wgsl: wgsl.clone(),
        }));
    }
    recorded.sort_by(|a, b| (&a.entry_point, &a.wgsl).cmp(&(&b.entry_point, &b.wgsl)));
    gpu.check().expect("every text is sound and every constant has a value");
    recorded
}

/// Launches every kernel: the matmuls with few rows at their least and their most, and by each of the others.
fn launch_all(gpu: &Gpu, config: &Config, kernels: &Kernels, has_matrix_units: bool) {
    let Config { vocab_size, n_embd, n_inner, n_positions, .. } = *config;
    let tensor = |name: &str, rows: usize, width: usize, dtype| {
        block_on(Tensor::new(gpu, name, rows, width, dtype)).expect("a dry run takes no memory")
    };
    let floats = |name: &str, rows: usize, width: usize| tensor(name, rows, width, Dtype::F32);
    let linear = |name: &str, features: usize, inputs: usize, biases: usize| Linear {
        weight: block_on(Matrix::new(gpu, name, Storage::F16, features, inputs)).expect("a dry run takes no memory"),
        bias: floats("bias", 1, biases),
    };
    let rows = 2 * TILE_ROWS;
    let tokens = tensor("tokens", 1, rows, Dtype::U32);
    let step = tensor("step", 1, 4 * rows, Dtype::U32);
    let outputs = tensor("outputs", 1, SPLIT_ROWS, Dtype::U32);
    let number = tensor("number", 1, 1, Dtype::U32);
    let wte = tensor("wte", vocab_size, n_embd, Dtype::F16);
    let angles = floats("angles", 1, 2 * rotary_angles(config, n_positions).len());
    let [x, normed] = ["x", "normed"].map(|name| floats(name, rows, n_embd));
    let activations = floats("activations", rows, config.activation_width());
    let logits = floats("logits", rows, vocab_size);
    let norm = LayerNorm { gain: floats("gain", 1, n_embd), bias: floats("bias", 1, n_embd) };
    let block_in = linear("block_in", config.block_in_features(), n_embd, n_inner);
    let block_out = linear("block_out", n_embd, config.block_out_inputs(), n_embd);
    let lm_head = linear("lm_head", vocab_size, n_embd, vocab_size);
    let cache = block_on(KvCache::new(gpu, &Config { n_layer: 1, ..config.clone() }, 1, n_positions));
    let cache = cache.expect("a dry run takes no memory");

    kernels.token_embedding(&tokens, &wte, &x);
    kernels.layer_norm(&x, &norm, &normed);
    kernels.layer_norm_outputs(&x, &norm, &normed, &outputs);
    launch_attention(gpu, config, kernels, &cache);
    kernels.argmax(&logits, &tokens);
    let units = if has_matrix_units { &[Matmul::CoopMat16, Matmul::CoopMat8][..] } else { &[] };
    let few = [1, kernels.tuning().gemv.rows].map(|rows| (Matmul::Gemv, rows));
    for (matmul, rows) in few.into_iter().chain([(Matmul::Tiled, 1)]).chain(units.iter().map(|&units| (units, 1))) {
        let kernels = kernels.with_variant(KernelVariant { matmul, rows, flash: false });
        kernels.block_in(&normed, &step, &block_in, &angles, &activations, cache.layer(0));
        kernels.block_out(&activations, &step, &block_out, &x);
        kernels.lm_head(&normed, &step, &lm_head, &logits);
    }

    let (b, a) =
        (floats("b", block_out.weight.features().next_multiple_of(PANEL_FEATURES), 16), floats("a", 16, n_embd));
    let projection = linear("projection", n_embd, n_embd, 1);
    kernels.merge_lora(&b, &a, 0, &projection.weight, &number);
    kernels.fill_random(&number, 1.0 / 32.0, &wte);
    kernels.read_ceiling(&wte, &number);
    kernels.fma_ceiling(64, &floats("chain", 1, 2), &floats("sums", 1, 1 << 16));
}

/// Launches every kernel of attention on a cache.
pub fn launch_attention(gpu: &Gpu, config: &Config, kernels: &Kernels, cache: &KvCache) {
    let tensor = |name: &str, rows: usize, width: usize, dtype| {
        block_on(Tensor::new(gpu, name, rows, width, dtype)).expect("a dry run takes no memory")
    };
    let step = tensor("step", 1, 4 * TILE_ROWS, Dtype::U32);
    let activations = tensor("activations", TILE_ROWS, config.activation_width(), Dtype::F32);
    let splits = SPLIT_ROWS * config.n_head * most_splits(config, cache.n_positions());
    let partial_out = tensor("partial_out", 1, splits * config.head_width(), Dtype::F32);
    let partial_max_sum = tensor("partial_max_sum", 1, 2 * splits, Dtype::F32);
    let weights = tensor("weights", 1, SPLIT_ROWS * config.n_head * cache.capacity(), Dtype::F32);
    kernels.attention(&step, &activations, cache.layer(0), &partial_out, &partial_max_sum);
    kernels.merge_attention(&step, &partial_out, &partial_max_sum, &activations);
    kernels.flash_attention(&step, &activations, cache.layer(0));
    kernels.attention_weights(&step, &activations, cache.layer(0), &weights);
}
