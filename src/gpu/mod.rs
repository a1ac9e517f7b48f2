//! The GPU: adapters, memory, kernels as such and the replaying of recorded work.
//!
//! The only folder that speaks wgpu. It knows nothing of transformers: what a kernel computes, what a tensor means
//! and in which order things run is the business of its callers.

mod adapter;
mod cache_dir;
mod device;
mod pipeline_cache;
mod plan;
mod profile;
mod shader;
mod submission;
mod tensor;
mod upload;

pub use adapter::{AdapterInfo, Selector, adapters, find_adapter};
pub use device::{Created, Gpu, GpuOptions};
pub use plan::{Axis, Binding, Dispatch, Plan, StepSize};
pub use profile::{Clock, Profiler, Times};
pub use shader::{Import, Product, Shader, Shaders, Specialisation, Subgroups, Text, stitch};
pub use submission::{Encoded, Readback, Staging, Submission, Submitted};
pub(crate) use tensor::Part;
pub use tensor::{Format, Tensor, padded};
pub use upload::Uploader;
