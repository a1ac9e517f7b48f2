//! The [`GemvConfig`] that `gptj bench kernels --tune` found to be the fastest on a GPU, kept in
//! [`GpuOptions::cache_dir`](crate::GpuOptions::cache_dir).

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::{GemvConfig, Matmul, SHADERS, Tuning, Variant, stitch};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::weights::Storage;

/// The contents of the file.
#[derive(Serialize, Deserialize)]
struct Tuned {
    /// [`version`] of the kernels that were measured.
    kernels: u64,
    gemv: GemvConfig,
}

const FILE_NAME: &str = "gemv";

/// More bytes than the file takes.
const FILE_LIMIT: u64 = 1 << 16;

impl GemvConfig {
    /// The shape kept for this GPU, if there is one and the kernels have not changed since it was measured.
    pub fn tuned(gpu: &Gpu) -> Option<Self> {
        let bytes = gpu.cache_dir()?.read(FILE_NAME, "json", FILE_LIMIT)?;
        let Tuned { kernels, gemv } = serde_json::from_slice(&bytes).ok()?;
        // The steps it is used for do not depend on its shape.
        let limit = Tuning::for_adapter(gpu.info()).gemv.limit;
        (gemv.is_possible() && kernels == version(gpu)).then_some(Self { limit, ..gemv })
    }

    /// Keeps the shape for later processes that open the same adapter with the same driver; does nothing without a
    /// [`GpuOptions::cache_dir`](crate::GpuOptions::cache_dir).
    ///
    /// # Errors
    /// [`Error::Write`](crate::checkpoint::Error::Write) if the file cannot be written.
    pub fn keep(self, gpu: &Gpu) -> Result<()> {
        let Some(directory) = gpu.cache_dir() else { return Ok(()) };
        let json = serde_json::to_vec_pretty(&Tuned { kernels: version(gpu), gemv: self });
        directory.write(FILE_NAME, "json", &[&json.expect("numbers go into JSON")])
    }
}

/// A hash of the texts of the matmuls with few rows.
fn version(gpu: &Gpu) -> u64 {
    let variant = Variant { matmul: Matmul::Gemv, weights: Storage::F16, device: gpu.specialisation() };
    let mut hasher = DefaultHasher::new();
    for shader in SHADERS.iter().filter(|shader| shader.text.contains("#import matmul")) {
        stitch(*shader, variant).hash(&mut hasher);
    }
    hasher.finish()
}
