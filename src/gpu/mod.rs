//! The GPU: adapters, memory, pipelines and the replay of recorded work.
//!
//! The only folder that uses wgpu. It knows nothing of transformers: the equations of kernels, the meaning of tensors
//! and the order of the work are up to its callers.

mod adapter;
mod cache_dir;
mod device;
mod pipeline_cache;
mod pipelines;
mod plan;
mod profile;
mod specialisation;
mod submission;
mod tensor;
mod upload;

pub use adapter::{AdapterInfo, Selector, adapters, find_adapter};
pub use device::{Gpu, GpuOptions};
pub use pipelines::Pipelines;
pub use plan::{Axis, Binding, Dispatch, Plan, Sizes};
pub use profile::{Clock, Profiler};
pub use specialisation::{Specialisation, Subgroups};
pub use submission::{Encoded, Readback, Staging, Submission, Submitted};
pub(crate) use tensor::Segment;
pub use tensor::{Dtype, Tensor, padded};
pub use upload::Uploader;
