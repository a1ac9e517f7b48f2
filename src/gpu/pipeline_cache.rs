//! Compiled pipelines on disk, so that a later process need not compile them again.
//!
//! The data is the driver's own. Drivers trust it, so a file counts only if its checksum holds and was made for this
//! adapter and driver. Only Vulkan exports such data; elsewhere nothing is kept.

use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::cache_dir::CacheDir;
use crate::error::Result;

/// The start of a file; the checksum of the data follows, then the data.
const MAGIC: [u8; 16] = *b"gptj pipelines 2";
const HEADER_BYTES: usize = MAGIC.len() + size_of::<u64>();

/// A larger file is started afresh: pipelines of kernels that have changed since are never removed from it.
const LIMIT: u64 = 256 << 20;

/// The pipelines that one GPU has compiled, or loaded from disk.
pub(super) struct PipelineCache {
    cache: wgpu::PipelineCache,
    name: String,
    found: bool,
    /// The checksum of the data in the file, if there is a valid one.
    on_disk: Mutex<Option<u64>>,
}

impl PipelineCache {
    /// A cache with the directory's data for this adapter, if there is some; `None` if the driver has no such caches.
    pub(super) async fn open(device: &wgpu::Device, adapter: &wgpu::AdapterInfo, directory: &CacheDir) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let name = wgpu::util::pipeline_cache_key(adapter)?;
        let file = directory.read(&name, EXTENSION, LIMIT).unwrap_or_default();
        let kept = checked(&file, directory.owner());
        if let Some(data) = kept
            && let Some(cache) = create(device, Some(data)).await
        {
            let on_disk = Mutex::new(Some(xxh3_64_with_seed(data, directory.owner())));
            return Some(Self { cache, name, found: true, on_disk });
        }
        Some(Self { cache: create(device, None).await?, name, found: false, on_disk: Mutex::new(None) })
    }

    /// Whether an earlier process left data that the driver accepted.
    pub(super) fn found(&self) -> bool {
        self.found
    }

    pub(super) fn wgpu(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    pub(super) fn save(&self, directory: &CacheDir) -> Result<()> {
        let Some(data) = self.cache.get_data() else { return Ok(()) };
        let checksum = xxh3_64_with_seed(&data, directory.owner());
        let mut on_disk = self.on_disk.lock().unwrap_or_else(PoisonError::into_inner);
        if *on_disk != Some(checksum) {
            directory.write(&self.name, EXTENSION, &[&MAGIC, &checksum.to_le_bytes(), &data])?;
            *on_disk = Some(checksum);
        }
        Ok(())
    }
}

const EXTENSION: &str = "bin";

/// The data of a file, if the file is whole and of this owner.
fn checked(file: &[u8], owner: u64) -> Option<&[u8]> {
    let (header, data) = file.split_at_checked(HEADER_BYTES)?;
    let checksum = header.strip_prefix(&MAGIC)?;
    (checksum == xxh3_64_with_seed(data, owner).to_le_bytes()).then_some(data)
}

/// `None` if the driver does not accept the data.
async fn create(device: &wgpu::Device, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data, fallback: true };
    // SAFETY: `get_data` returned the data in an earlier run. That cannot be proven of a file: the checksum shows that
    // no accident befell what `save` wrote for this adapter and driver, and wgpu and the driver compare the data's own
    // headers besides; forgery is left to the promise about the directory that `GpuOptions::cache_dir` asks for.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    scope.pop().await.is_none().then_some(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_file_of_the_same_owner_counts() {
        let data = b"what a driver wrote";
        let file = [&MAGIC[..], &xxh3_64_with_seed(data, 7).to_le_bytes(), data].concat();
        assert_eq!(checked(&file, 7), Some(&data[..]));
        assert_eq!(checked(&file, 8), None, "another adapter's");
        for length in 0..file.len() {
            assert_eq!(checked(&file[..length], 7), None, "cut to {length} bytes");
        }
        for index in 0..file.len() {
            let mut damaged = file.clone();
            damaged[index] ^= 0x10;
            assert_eq!(checked(&damaged, 7), None, "damaged at {index}");
        }
        assert_eq!(checked(&[&file[..], b"more"].concat(), 7), None, "extended");
    }
}
