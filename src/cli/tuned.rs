//! The shape of products with few rows that `gptj bench kernels --tune` found to be the fastest on a GPU.

use std::hash::{DefaultHasher, Hash, Hasher};

use gptj::internals::gpu::{Product, stitch};
use gptj::internals::kernels::{IMPORTS, SHADERS};
use gptj::internals::regime::{Geometry, VectorShape};
use gptj::{Gpu, Result};
use serde::{Deserialize, Serialize};

/// What is kept between processes.
#[derive(Serialize, Deserialize)]
struct Table {
    /// Stands for the kernels that were measured.
    kernels: u64,
    vector: VectorShape,
}

const NAME: &str = "vector";

/// The shape that was kept for this GPU, if there is one and the kernels are still those that were measured.
pub(crate) fn tuned(gpu: &Gpu) -> Option<VectorShape> {
    let Table { kernels, vector } = gpu.read_json(NAME)?;
    // Which steps it is for is not a matter of its shape.
    let limit = Geometry::for_adapter(gpu.info()).vector.limit;
    (vector.is_possible() && kernels == version(gpu)).then_some(VectorShape { limit, ..vector })
}

/// Keeps a shape for later processes.
pub(crate) fn keep(gpu: &Gpu, vector: VectorShape) -> Result<()> {
    gpu.write_json(NAME, &Table { kernels: version(gpu), vector })
}

/// A number that stands for the texts of the products with few rows.
fn version(gpu: &Gpu) -> u64 {
    let specialisation = gpu.specialisation();
    let mut hasher = DefaultHasher::new();
    for (shader, _) in SHADERS.iter().filter(|(shader, _)| shader.products(specialisation).len() > 1) {
        stitch(*shader, IMPORTS, specialisation, Product::Vector).hash(&mut hasher);
    }
    hasher.finish()
}
