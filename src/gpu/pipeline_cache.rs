//! Compiled pipelines on disk, so that a later process need not compile them again.
//!
//! What is kept is the driver's own data. Drivers trust it, so a file counts only if its checksum holds and was made
//! for this adapter and driver. Only Vulkan hands such data out; elsewhere nothing is kept.

use std::sync::{Mutex, PoisonError};

use super::Gpu;
use super::cache_dir::{CacheDir, checksum};
use crate::error::Result;

/// How a file begins; the checksum of the data follows, and then the data.
const MAGIC: [u8; 16] = *b"gptj pipelines 1";
const HEADER_BYTES: usize = MAGIC.len() + size_of::<u64>();

/// A larger file is begun anew: pipelines of kernels that have changed since are never removed from it.
const LIMIT: u64 = 256 << 20;

/// The pipelines that one GPU has compiled, or need not compile.
pub(super) struct PipelineCache {
    cache: wgpu::PipelineCache,
    name: String,
    found: bool,
    /// The checksum of the data in the file, where there is a good one.
    on_disk: Mutex<Option<u64>>,
}

impl PipelineCache {
    /// A cache with what the directory holds for this adapter, if it holds anything; `None` where the driver has no
    /// such caches.
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
            let on_disk = Mutex::new(Some(checksum(directory.owner(), data)));
            return Some(Self { cache, name, found: true, on_disk });
        }
        Some(Self { cache: create(device, None).await?, name, found: false, on_disk: Mutex::new(None) })
    }

    pub(super) fn wgpu(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    fn save(&self, directory: &CacheDir) -> Result<()> {
        let Some(data) = self.cache.get_data() else { return Ok(()) };
        let sum = checksum(directory.owner(), &data);
        let mut on_disk = self.on_disk.lock().unwrap_or_else(PoisonError::into_inner);
        if *on_disk != Some(sum) {
            directory.write(&self.name, EXTENSION, &[&MAGIC, &sum.to_le_bytes(), &data])?;
            *on_disk = Some(sum);
        }
        Ok(())
    }
}

const EXTENSION: &str = "bin";

/// The data of a file, if the file is whole and its owner the given one.
fn checked(file: &[u8], owner: u64) -> Option<&[u8]> {
    let (header, data) = file.split_at_checked(HEADER_BYTES)?;
    let sum = header.strip_prefix(&MAGIC)?;
    (sum == checksum(owner, data).to_le_bytes()).then_some(data)
}

/// `None` where the driver does not take the data.
async fn create(device: &wgpu::Device, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data, fallback: true };
    // SAFETY: `get_data` returned the data in an earlier run. That cannot be proven of a file: the checksum shows that
    // no accident befell what `save` wrote for this adapter and driver, and wgpu and the driver compare the data's own
    // headers besides; forgery is left to the promise about the directory that `GpuOptions::cache_dir` asks for.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    scope.pop().await.is_none().then_some(cache)
}

impl Gpu {
    /// Whether an earlier process left compiled pipelines for this adapter and driver in
    /// [`GpuOptions::cache_dir`](super::GpuOptions::cache_dir).
    #[doc(hidden)]
    pub fn found_pipelines(&self) -> bool {
        self.pipeline_cache().is_some_and(|cache| cache.found)
    }

    /// Writes the compiled pipelines to [`GpuOptions::cache_dir`](super::GpuOptions::cache_dir), if some are not there
    /// yet. Does nothing where there is no such directory, or the driver hands its pipelines out to nobody.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write) where the file cannot be written. Nothing is lost but time.
    pub fn save_pipelines(&self) -> Result<()> {
        match (self.pipeline_cache(), self.cache_dir()) {
            (Some(cache), Some(directory)) => cache.save(directory),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_file_of_the_same_owner_counts() {
        let data = b"what a driver wrote";
        let file = [&MAGIC[..], &checksum(7, data).to_le_bytes(), data].concat();
        assert_eq!(checked(&file, 7), Some(&data[..]));
        assert_eq!(checked(&file, 8), None, "another adapter's");
        for length in 0..file.len() {
            assert_eq!(checked(&file[..length], 7), None, "cut to {length} bytes");
        }
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 0x10;
            assert_eq!(checked(&damaged, 7), None, "damaged at {place}");
        }
        assert_eq!(checked(&[&file[..], b"more"].concat(), 7), None, "extended");
    }
}
